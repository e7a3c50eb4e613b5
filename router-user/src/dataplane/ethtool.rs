//! Statistics of network drivers: packets that XDP redirected to an interface and that its driver
//! then lost.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETH_SS_STATS: u32 = 1;
const NAME: usize = 32;

/// Statistics that an interface may gain between two calls, for example by more queues.
const SLACK: usize = 4096;

/// Frames that the interface's driver was to send for XDP and did not.
///
/// # Errors
/// The driver has no statistics.
pub(super) fn xdp_transmit_errors(interface: &str) -> io::Result<u64> {
    let socket = socket()?;
    // SAFETY: the buffers are as large as each command needs: header, then `count` entries, and
    // `SLACK` more, since the kernel writes as many as there are by then, whatever was asked for.
    unsafe {
        let mut info = words(&[ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0, 0, 0]);
        ioctl(&socket, interface, &mut info)?;
        let count = info[2] as u32;
        let room = count as usize + SLACK;
        let mut names = vec![0; 2 + (room * NAME).div_ceil(8)];
        head(&mut names, &[ETHTOOL_GSTRINGS, ETH_SS_STATS, count]);
        ioctl(&socket, interface, &mut names)?;
        let mut values = vec![0; 2 + room];
        head(&mut values, &[ETHTOOL_GSTATS, count]);
        ioctl(&socket, interface, &mut values)?;
        names.truncate(2 + (count as usize * NAME).div_ceil(8));
        let bytes: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(bytes[12..]
            .chunks(NAME)
            .take(count as usize)
            .zip(&values[1..])
            .filter(|(name, _)| counts(name))
            .map(|(_, value)| value)
            .sum())
    }
}

/// Drivers name them `tx_queue_0_xdp_xmit_errors`, `tx0_xdp_err`, `xdp_tx_drops`, …
fn counts(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    let Ok(name) = std::str::from_utf8(&name[..end]) else {
        return false;
    };
    name.contains("xdp")
        && (name.contains("tx") || name.contains("xmit"))
        && ["err", "errors", "drops", "full"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, ours alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn words(halves: &[u32]) -> Vec<u64> {
    let mut words = vec![0; halves.len().div_ceil(2)];
    head(&mut words, halves);
    words
}

fn head(words: &mut [u64], halves: &[u32]) {
    for (word, pair) in words.iter_mut().zip(halves.chunks(2)) {
        let mut bytes = [0; 8];
        for (place, half) in bytes.chunks_mut(4).zip(pair) {
            place.copy_from_slice(&half.to_ne_bytes());
        }
        *word = u64::from_ne_bytes(bytes);
    }
}

/// # Safety
/// `data` holds an ethtool command and has room for its answer.
unsafe fn ioctl(socket: &OwnedFd, interface: &str, data: &mut [u64]) -> io::Result<()> {
    // SAFETY: plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(15)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // SAFETY: by the caller's promise.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn the_counters_of_lost_redirects_are_told_from_the_others() {
        for name in ["tx_queue_0_xdp_xmit_errors", "tx0_xdp_err", "xdp_tx_drops"] {
            let mut padded = [0; 32];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            assert!(counts(&padded), "{name}");
        }
        for name in ["rx_queue_0_xdp_drops", "tx_queue_0_xdp_xmit", "tx_errors"] {
            let mut padded = [0; 32];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            assert!(!counts(&padded), "{name}");
        }
    }
}
