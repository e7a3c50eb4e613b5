//! The capabilities that the data plane needs: checked by name, the others dropped.
//!
//! Capabilities belong to threads: what is dropped here is dropped for the data plane's thread and
//! the ones that it starts, and nowhere else.

use std::{fs, io};

/// A capability: name and number.
type Capability = (&'static str, u32);

const NET_ADMIN: Capability = ("CAP_NET_ADMIN", 12);
const SYS_ADMIN: u32 = 21;
const PERFMON: Capability = ("CAP_PERFMON", 38);
const BPF: Capability = ("CAP_BPF", 39);

/// Opens pins that another user owns; kept unless the user is root, who owns them.
const DAC_OVERRIDE: u32 = 1;

const VERSION_3: u32 = 0x2008_0522;

/// Capabilities that are missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} missing: run waypost as root, or give it its capabilities: \
     `setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_bind_service+ep /path/to/waypost` or \
     systemd's AmbientCapabilities=",
    .0.join(", ")
)]
pub struct Missing(Vec<&'static str>);

/// Checks that the calling thread may load, attach and pin, and read packets with pointers.
///
/// # Errors
/// The capabilities that are missing, by name.
pub(super) fn check() -> Result<(), Missing> {
    let effective = effective().unwrap_or(0);
    let has = |number: u32| effective & (1 << number) != 0;
    let missing: Vec<_> = [BPF, NET_ADMIN, PERFMON]
        .into_iter()
        .filter(|(_, number)| {
            // CAP_SYS_ADMIN stands for those that were split off from it.
            !has(*number) && (*number == NET_ADMIN.1 || !has(SYS_ADMIN))
        })
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Missing(missing))
    }
}

/// Drops what the data plane's thread does not need.
///
/// # Errors
/// The kernel refuses.
pub(super) fn drop_others() -> io::Result<()> {
    let before = effective()?;
    let mut needed = 1 << BPF.1 | 1 << NET_ADMIN.1 | 1 << PERFMON.1;
    if before & (1 << BPF.1) == 0 || before & (1 << PERFMON.1) == 0 {
        needed |= 1 << SYS_ADMIN;
    }
    // SAFETY: takes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        needed |= 1 << DAC_OVERRIDE;
    }
    set(before & needed)
}

fn effective() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/thread-self/status names no CapEff"))
}

fn set(capabilities: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |bits: u64| Data {
        effective: bits as u32,
        permitted: bits as u32,
        inheritable: 0,
    };
    let data = [half(capabilities), half(capabilities >> 32)];
    // SAFETY: version 3 takes a header and two data structures; both live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::{NET_ADMIN, check, drop_others, effective, set};

    #[test]
    fn a_missing_capability_is_named_with_its_remedy() {
        // A thread of its own: capabilities belong to threads.
        let message = std::thread::spawn(|| {
            set(1 << NET_ADMIN.1 & effective().unwrap()).unwrap();
            check().unwrap_err().to_string()
        })
        .join()
        .unwrap();
        assert!(message.contains("CAP_BPF"), "{message}");
        assert!(message.contains("CAP_PERFMON"), "{message}");
        assert!(message.contains("setcap"), "{message}");
    }

    #[test]
    fn what_is_not_needed_is_dropped() {
        let (before, after) = std::thread::spawn(|| {
            let before = effective().unwrap();
            drop_others().unwrap();
            (before, effective().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(after & before, after, "nothing is gained");
        assert_eq!(after & 1, 0, "CAP_CHOWN is gone");
    }
}
