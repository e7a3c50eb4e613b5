//! Where was a packet seen? Raw sockets on interfaces of a host.

use std::{
    ffi::CString,
    io,
    mem::{self, MaybeUninit},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, Packet, wait::until};

/// Bytes of a frame that are kept: all of one, on links with the usual MTU.
const KEPT: usize = 2048;

/// Which packets a capture keeps.
type Filter = Arc<dyn Fn(&Packet) -> bool + Send + Sync>;

/// IP packets seen on interfaces of one host, from its start until it is dropped.
pub struct Capture {
    host: Host,
    seen: Arc<Mutex<Vec<Packet>>>,
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
}

impl Capture {
    /// Captures all IP packets on these interfaces.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn on(host: &Host, interfaces: &[&str]) -> Result<Self> {
        Self::of(host, interfaces, |_| true)
    }

    /// Captures those IP packets on these interfaces that `keep` keeps.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn of(
        host: &Host,
        interfaces: &[&str],
        keep: impl Fn(&Packet) -> bool + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut capture = Self {
            host: host.clone(),
            seen: Arc::default(),
            stop: Arc::default(),
            readers: Vec::new(),
        };
        let keep: Filter = Arc::new(keep);
        for interface in interfaces {
            let socket = host
                .inside(|| open(interface))
                .with_context(|| format!("cannot capture on {host}'s {interface}"))?;
            let (seen, stop) = (Arc::clone(&capture.seen), Arc::clone(&capture.stop));
            let (interface, keep) = ((*interface).to_owned(), Arc::clone(&keep));
            let reader = move || read(&socket, &interface, &keep, &seen, &stop);
            capture.readers.push(thread::spawn(reader));
        }
        Ok(capture)
    }

    /// What was seen so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What was seen so far and matches.
    #[must_use]
    pub fn matching(&self, matches: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let mut packets = self.packets();
        packets.retain(matches);
        packets
    }

    /// What was seen since the last call, and forgets it.
    #[must_use]
    pub fn drain(&self) -> Vec<Packet> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *seen)
    }

    /// Waits until a packet that matches has been seen.
    ///
    /// # Errors
    /// None was within `limit`.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        matches: impl Fn(&Packet) -> bool,
    ) -> Result<Packet> {
        let expected = format!("{} sees {what}", self.host);
        until(&expected, limit, || {
            let packets = self.packets();
            let found = packets.iter().find(|packet| matches(packet)).cloned();
            found.ok_or_else(|| anyhow!("{} other packets", packets.len()))
        })
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            // A reader that panicked has shown it.
            let _ = reader.join();
        }
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Capture({})", self.host)
    }
}

fn open(interface: &str) -> Result<Socket> {
    let all = (libc::ETH_P_ALL as u16).to_be();
    let protocol = Protocol::from(i32::from(all));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    buffer(&socket, 32 << 20)?;
    let name = CString::new(interface)?;
    // SAFETY: a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, io::Error::last_os_error());
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = all;
    address.sll_ifindex = i32::try_from(index)?;
    // SAFETY: the address is a sockaddr_ll of the length given.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    ensure!(bound == 0, io::Error::last_os_error());
    Ok(socket)
}

/// Receive buffer beyond the system's limit, which root may set.
pub(super) fn buffer(socket: &impl AsRawFd, bytes: i32) -> Result<()> {
    // SAFETY: the option's value is an int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<i32>() as u32,
        )
    };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(())
}

fn read(
    socket: &Socket,
    interface: &str,
    keep: &Filter,
    seen: &Mutex<Vec<Packet>>,
    stop: &AtomicBool,
) {
    let mut frame = [MaybeUninit::uninit(); KEPT];
    while !stop.load(Ordering::Relaxed) {
        // A time-out, to look at `stop`; or the interface is gone and may come back.
        let Ok((length, from)) = socket.recv_from(&mut frame) else {
            continue;
        };
        // SAFETY: the kernel has written a sockaddr_ll, the address of a packet socket.
        let kind = unsafe { (*from.as_ptr().cast::<libc::sockaddr_ll>()).sll_pkttype };
        // SAFETY: the kernel has written that many bytes.
        let frame = unsafe { std::slice::from_raw_parts(frame.as_ptr().cast(), length) };
        let outgoing = kind == libc::PACKET_OUTGOING;
        if let Some(packet) =
            Packet::parse(interface, outgoing, frame).filter(|packet| keep(packet))
        {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(packet);
        }
    }
}
