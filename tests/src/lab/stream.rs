//! Steady traffic that counts what is lost: numbered UDP datagrams, each echoed by the far host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Host, Packet, capture::buffer, packet::protocol, wait::until};

/// UDP port of the echo.
pub const ECHO_PORT: u16 = 7007;

/// First source port of a stream; flow `n` uses this plus `n`.
pub const FIRST_FLOW_PORT: u16 = 20_000;

/// How long after the last datagram echoes may still come.
const LINGER: Duration = Duration::from_millis(700);

/// Answers every datagram that comes to one address of a host, until it is dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    arrived: Arc<Mutex<BTreeSet<u64>>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts echoing.
    ///
    /// # Errors
    /// The address is not the host's, or in use.
    pub fn start(host: &Host, address: IpAddr) -> Result<Self> {
        let socket = host
            .inside(|| UdpSocket::bind((address, ECHO_PORT)))
            .with_context(|| format!("cannot echo on {host}'s {address}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        buffer(&socket, 8 << 20)?;
        let (stop, arrived) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&arrived));
        let thread = thread::spawn(move || echo(&socket, &stopped, &noted));
        Ok(Self {
            stop,
            arrived,
            thread: Some(thread),
        })
    }

    /// How many different datagrams have arrived.
    #[must_use]
    pub fn arrived(&self) -> usize {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.len()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has shown it.
            let _ = thread.join();
        }
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool, arrived: &Mutex<BTreeSet<u64>>) {
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut datagram) else {
            continue;
        };
        if let Some(number) = number_of(&datagram[..length]) {
            arrived
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(number);
        }
        // What cannot be sent back is lost, and counted as such by the stream.
        let _ = socket.send_to(&datagram[..length], from);
    }
}

/// Numbered datagrams at a steady rate, over a number of flows in turn.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Report>>>,
    sent: Arc<AtomicU64>,
}

/// What became of a stream.
#[derive(Clone, Debug)]
pub struct Report {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams whose echo came back.
    pub echoed: u64,
    /// Numbers of those whose echo did not; number modulo the number of flows is the flow.
    pub lost: Vec<u64>,
    /// Flows.
    pub flows: u64,
    /// Time between two datagrams.
    pub interval: Duration,
    /// Local errors of sending; such datagrams count as lost.
    pub send_errors: u64,
}

impl Report {
    /// Loss as time: from the first to the last lost datagram of the longest outage, an outage
    /// being losses with less than 20 successes in a row between them.
    #[must_use]
    pub fn longest_outage(&self) -> Duration {
        let mut longest = 0;
        let mut start = None;
        let mut previous = 0;
        for &number in &self.lost {
            let first = match start {
                Some(first) if number - previous <= 20 => first,
                _ => number,
            };
            start = Some(first);
            previous = number;
            longest = longest.max(number - first + 1);
        }
        self.interval * u32::try_from(longest).unwrap_or(u32::MAX)
    }

    /// Losses of each flow that lost any.
    #[must_use]
    pub fn lost_by_flow(&self) -> BTreeMap<u64, usize> {
        let mut flows = BTreeMap::new();
        for number in &self.lost {
            *flows.entry(number % self.flows).or_default() += 1;
        }
        flows
    }

    /// Demands that nothing was lost.
    ///
    /// # Errors
    /// Something was.
    pub fn nothing_lost(&self) -> Result<()> {
        ensure!(self.lost.is_empty() && self.sent > 0, "{self}");
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sent, {} echoed", self.sent, self.echoed)?;
        match self.lost.len() {
            0 => write!(f, ", none lost"),
            lost => write!(
                f,
                ", {lost} lost, longest outage {:.0} ms",
                self.longest_outage().as_secs_f64() * 1e3
            ),
        }
    }
}

impl Stream {
    /// Starts sending from an address of a host to the echo at another, `rate` datagrams a second
    /// in all.
    ///
    /// # Errors
    /// The address is not the host's.
    pub fn start(host: &Host, from: IpAddr, to: IpAddr, flows: u16, rate: u32) -> Result<Self> {
        let sockets = host
            .inside(|| -> Result<Vec<UdpSocket>> {
                (0..flows)
                    .map(|flow| open(from, to, FIRST_FLOW_PORT + flow))
                    .collect()
            })
            .with_context(|| format!("cannot send from {host}'s {from}"))?;
        let sender = Sender {
            sockets,
            interval: Duration::from_secs(1) / rate,
            stop: Arc::default(),
            echoed: Arc::default(),
            sent: Arc::default(),
        };
        let (stop, echoed) = (Arc::clone(&sender.stop), Arc::clone(&sender.echoed));
        let sent = Arc::clone(&sender.sent);
        let thread = thread::spawn(move || sender.run());
        let stream = Self {
            stop,
            echoed,
            sent,
            thread: Some(thread),
        };
        stream.flows_on("the stream flows")?;
        Ok(stream)
    }

    /// Waits until as many further datagrams have been echoed as make up a quarter of a second or so:
    /// traffic flows now.
    ///
    /// # Errors
    /// None were for ten seconds.
    pub fn flows_on(&self, when: &str) -> Result<()> {
        let before = self.echoed.load(Ordering::Relaxed);
        until(when, Duration::from_secs(10), || {
            let now = self.echoed.load(Ordering::Relaxed) - before;
            ensure!(now >= 100, "{now} of 100 further datagrams echoed");
            Ok(())
        })
    }

    /// Number of datagrams sent so far: the number that the next one bears.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, waits for late echoes, and reports.
    ///
    /// # Errors
    /// The sender failed.
    pub fn finish(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("finished already")?;
        thread.join().map_err(|_| anyhow!("the sender panicked"))?
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The flow (its source port) and the number of a stream's datagram, as captured on its way to the
/// echo.
#[must_use]
pub fn datagram(packet: &Packet) -> Option<(u16, u64)> {
    if packet.protocol != protocol::UDP {
        return None;
    }
    let (source, destination) = packet.ports()?;
    let number = number_of(packet.udp_payload()?)?;
    (destination == ECHO_PORT).then_some((source, number))
}

fn number_of(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(payload.get(..8)?.try_into().ok()?))
}

struct Sender {
    sockets: Vec<UdpSocket>,
    interval: Duration,
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Sender {
    fn run(self) -> Result<Report> {
        let start = Instant::now();
        let flows = self.sockets.len() as u64;
        let mut back = Vec::new();
        let mut number = 0;
        let mut send_errors = 0;
        while !self.stop.load(Ordering::Relaxed) {
            // Behind schedule, datagrams follow one another at once: none is skipped.
            let due = start + self.interval * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let socket = &self.sockets[usize::try_from(number % flows)?];
            if socket.send(&u64::to_be_bytes(number)).is_err() {
                send_errors += 1;
            }
            number += 1;
            back.resize(usize::try_from(number)?, false);
            self.sent.store(number, Ordering::Relaxed);
            self.collect(&mut back);
        }
        let deadline = Instant::now() + LINGER;
        while back.contains(&false) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
            self.collect(&mut back);
        }
        let lost: Vec<u64> = (0..)
            .zip(&back)
            .filter(|(_, back)| !**back)
            .map(|(n, _)| n)
            .collect();
        Ok(Report {
            sent: number,
            echoed: number - lost.len() as u64,
            lost,
            flows,
            interval: self.interval,
            send_errors,
        })
    }

    fn collect(&self, back: &mut [bool]) {
        let mut datagram = [0; 64];
        for socket in &self.sockets {
            // An ICMP error that a router sent back shows here as an error of the socket: loss is
            // counted by what does not come back.
            while let Ok(length) = socket.recv(&mut datagram) {
                let number = number_of(&datagram[..length]).and_then(|n| usize::try_from(n).ok());
                if let Some(slot) = number.and_then(|number| back.get_mut(number))
                    && !*slot
                {
                    *slot = true;
                    self.echoed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn open(from: IpAddr, to: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((from, port))?;
    socket.connect(SocketAddr::new(to, ECHO_PORT))?;
    socket.set_nonblocking(true)?;
    buffer(&socket, 1 << 20)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Report;

    #[test]
    fn an_outage_lasts_from_its_first_to_its_last_loss() {
        let report = Report {
            sent: 1000,
            echoed: 993,
            lost: vec![10, 100, 101, 102, 110, 400, 401],
            flows: 4,
            interval: Duration::from_millis(1),
            send_errors: 0,
        };
        assert_eq!(report.longest_outage(), Duration::from_millis(11));
        assert_eq!(report.lost_by_flow()[&2], 3);
        assert!(report.nothing_lost().is_err());
    }
}
