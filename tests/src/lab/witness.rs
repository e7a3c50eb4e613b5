//! Did the machine run what was ready to run? A thread on each CPU that sleeps, and notes when it was
//! woken late; and one that takes the kernel's lock of all network interfaces, without which nobody is
//! told that a carrier is gone, and notes when it had to wait: other labs of the machine share it.

use std::{
    mem,
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::stream::{STALL, Span};

/// How long a witness sleeps.
const TURN: Duration = Duration::from_millis(2);

/// Looks at every CPU until it is dropped.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    late: Arc<Mutex<Vec<Span>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Starts to look.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn start() -> Result<Self> {
        let mut witness = Self {
            stop: Arc::default(),
            late: Arc::default(),
            threads: Vec::new(),
        };
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        for cpu in 0..cpus {
            let (stop, late) = (Arc::clone(&witness.stop), Arc::clone(&witness.late));
            let look = move || look(cpu, &stop, &late);
            witness.threads.push(thread::spawn(look));
        }
        let (stop, late) = (Arc::clone(&witness.stop), Arc::clone(&witness.late));
        let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
        let lock = move || lock(&socket, &stop, &late);
        witness.threads.push(thread::spawn(lock));
        Ok(witness)
    }

    /// When a CPU did not run what was ready, or the lock was not to be had, for longer than a stall
    /// takes.
    #[must_use]
    pub fn late(&self) -> Vec<Span> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has shown it.
            let _ = thread.join();
        }
    }
}

fn look(cpu: usize, stop: &AtomicBool, late: &Mutex<Vec<Span>>) {
    // SAFETY: all-zero is an empty set.
    let mut only: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is a valid one, and the macro checks the number.
    unsafe { libc::CPU_SET(cpu, &mut only) };
    // Where it may not be pinned, it looks at whatever CPU it is given.
    // SAFETY: the set is of the length given; 0 is this thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const only) };
    let mut turn = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TURN);
        let now = Instant::now();
        if now - turn > TURN + STALL {
            late.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((turn, now));
        }
        turn = now;
    }
}

/// Writes the flags of the loopback interface as they are.
fn lock(socket: &UdpSocket, stop: &AtomicBool, late: &Mutex<Vec<Span>>) {
    // SAFETY: all-zero is a valid request.
    let mut flags: libc::ifreq = unsafe { mem::zeroed() };
    for (letter, place) in b"lo".iter().zip(&mut flags.ifr_name) {
        *place = letter.cast_signed();
    }
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TURN);
        // SAFETY: the request is valid for reads and writes.
        let read = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut flags) };
        let before = Instant::now();
        // SAFETY: the request is valid for reads.
        let written =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const flags) };
        let now = Instant::now();
        if read == 0 && written == 0 && now - before > STALL {
            late.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((before, now));
        }
    }
}
