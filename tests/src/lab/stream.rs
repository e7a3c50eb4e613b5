//! Steady traffic that counts what is lost, and for how long: numbered UDP datagrams, each echoed by
//! the far host.
//!
//! Both ends watch themselves too. Where one of them was not run by the machine for a while, an outage
//! can be longer than what was lost of it, or shorter; and where a CPU ran nobody who was ready, it did
//! not run Waypost either: [`MachineStalled`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
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

/// How long an end of a stream may not run until it counts as stalled.
pub(super) const STALL: Duration = Duration::from_millis(10);

/// How long the echo waits for a datagram before it looks at itself.
const ECHO_TURN: Duration = Duration::from_millis(8);

/// Successes in a row, of any flow, that end an outage.
const RECOVERED: u64 = 20;

/// From when to when.
pub type Span = (Instant, Instant);

/// Answers every datagram that comes to one address of a host, until it is dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Noted>>,
    thread: Option<JoinHandle<()>>,
}

/// What the echo saw.
#[derive(Debug, Default)]
struct Noted {
    arrived: BTreeSet<u64>,
    stalls: Vec<Span>,
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
        socket.set_read_timeout(Some(ECHO_TURN))?;
        buffer(&socket, 8 << 20)?;
        let (stop, noted) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let (stopped, notes) = (Arc::clone(&stop), Arc::clone(&noted));
        let thread = thread::spawn(move || echo(&socket, &stopped, &notes));
        Ok(Self {
            stop,
            noted,
            thread: Some(thread),
        })
    }

    /// How many different datagrams have arrived.
    #[must_use]
    pub fn arrived(&self) -> usize {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.arrived.len()
    }

    /// When it was not run, although it had waited long enough.
    #[must_use]
    pub fn stalls(&self) -> Vec<Span> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.stalls.clone()
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

fn echo(socket: &UdpSocket, stop: &AtomicBool, noted: &Mutex<Noted>) {
    let mut datagram = [0; 64];
    let mut turn = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let received = socket.recv_from(&mut datagram);
        let now = Instant::now();
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        if now - turn > ECHO_TURN + STALL {
            noted.stalls.push((turn, now));
        }
        turn = now;
        let Ok((length, from)) = received else {
            continue;
        };
        if let Some(number) = number_of(&datagram[..length]) {
            noted.arrived.insert(number);
        }
        drop(noted);
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
    /// When each datagram was sent.
    pub sent_at: Vec<Instant>,
    /// When the sender was not run although datagrams were due; more may be added, of the echo.
    pub stalls: Vec<Span>,
    /// When a CPU did not run what was ready, if a [`super::Witness`] looked.
    pub late: Vec<Span>,
}

/// An end of the stream, or a CPU's witness, was not run around an outage: what was lost does not tell
/// how long it was, or says nothing of Waypost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineStalled(String);

impl fmt::Display for MachineStalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine stalled, which says nothing: {}", self.0)
    }
}

impl std::error::Error for MachineStalled {}

/// Numbers of the first and the last lost datagram of an outage.
#[derive(Clone, Copy, Debug)]
struct Outage {
    first: u64,
    last: u64,
}

impl Report {
    /// The longest outage, as time: from the first lost datagram of all or of one flow to the last.
    /// Losses with less than 20 successes in a row between them are one outage; of a single flow, losses
    /// in consecutive rounds.
    #[must_use]
    pub fn longest_outage(&self) -> Duration {
        let lengths = self.outages().into_iter().map(|outage| self.length(outage));
        lengths.max().unwrap_or_default()
    }

    /// Demands that no outage was longer than this and no more was lost than is sent in that time.
    /// `failures` are the times at which something was made to fail, if that is known: an outage
    /// begins in one of them.
    ///
    /// # Errors
    /// One was, or more was; or [`MachineStalled`]: one may have been.
    pub fn within(&self, bound: Duration, failures: &[Span]) -> Result<()> {
        let outages = self.outages();
        let (doubtful, plain): (Vec<_>, Vec<_>) = outages
            .into_iter()
            .partition(|outage| self.stalled(self.around(*outage)));
        for outage in plain {
            ensure!(
                self.length(outage) <= bound,
                "bound {bound:?}: {self}; {}",
                self.when(outage, failures)
            );
        }
        let possible = |outage: &Outage| {
            let (from, to) = self.around(*outage);
            to - from
        };
        let too_long = doubtful.iter().any(|outage| possible(outage) > bound);
        let too_many = self.interval * u32::try_from(self.lost.len())? > bound;
        let hidden = self.stalls.iter().any(|(from, to)| {
            let during = |(start, end): &Span| *from <= *end + bound && start <= to;
            *to - *from > bound && (failures.is_empty() || failures.iter().any(during))
        });
        if too_long || hidden || (too_many && !doubtful.is_empty()) {
            let stalls = self.stalls.iter().chain(&self.late);
            let longest = stalls.map(|(from, to)| *to - *from).max();
            let text = format!(
                "for up to {:?}, bound {bound:?}: {self}",
                longest.unwrap_or_default()
            );
            return Err(MachineStalled(text).into());
        }
        ensure!(
            !too_many,
            "bound {bound:?}, which is less than what was lost: {self}"
        );
        Ok(())
    }

    /// Outages of all flows together, and of each.
    fn outages(&self) -> Vec<Outage> {
        let mut outages = chains(self.lost.iter().copied(), RECOVERED);
        for flow in self.lost_by_flow().into_keys() {
            let lost = self.lost.iter().copied();
            let of_flow = lost.filter(|number| number % self.flows == flow);
            outages.extend(chains(of_flow, self.flows));
        }
        outages
    }

    fn at(&self, number: u64) -> Option<Instant> {
        self.sent_at.get(usize::try_from(number).ok()?).copied()
    }

    fn length(&self, outage: Outage) -> Duration {
        match (self.at(outage.first), self.at(outage.last)) {
            (Some(first), Some(last)) => last - first + self.interval,
            _ => Duration::ZERO,
        }
    }

    /// From the last datagram sent before an outage to the first one sent after it.
    fn around(&self, outage: Outage) -> Span {
        let first = self.at(outage.first.saturating_sub(1));
        let first = first.unwrap_or_else(Instant::now);
        let after = self.at(outage.last + 1);
        let last = after.or_else(|| self.at(outage.last)).unwrap_or(first);
        (first, last)
    }

    /// When an outage began: after the start of the stream, and after each failure before it.
    fn when(&self, outage: Outage, failures: &[Span]) -> String {
        let (start, _) = self.around(Outage { first: 0, last: 0 });
        let (began, _) = self.around(outage);
        let failures = failures.iter().filter(|(failed, _)| *failed <= began);
        let since: Vec<_> = failures.map(|(failed, _)| began - *failed).collect();
        let after = began - start;
        format!("it began {after:?} after the start, {since:?} after failures")
    }

    fn stalled(&self, (from, to): Span) -> bool {
        let mut stalls = self.stalls.iter().chain(&self.late);
        stalls.any(|(start, end)| *start <= to && from <= *end)
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

/// Numbers in ascending order, joined where they are no farther apart than `joined`.
fn chains(numbers: impl Iterator<Item = u64>, joined: u64) -> Vec<Outage> {
    let mut chains: Vec<Outage> = Vec::new();
    for number in numbers {
        match chains.last_mut() {
            Some(chain) if number - chain.last <= joined => chain.last = number,
            _ => chains.push(Outage {
                first: number,
                last: number,
            }),
        }
    }
    chains
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        if let Some(thread) = self.thread.take() {
            // Nobody asks for its report; a thread that panicked has shown it.
            let _ = thread.join();
        }
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

/// The same of a datagram's echo, as captured on its way back.
#[must_use]
pub fn echo_of(packet: &Packet) -> Option<(u16, u64)> {
    if packet.protocol != protocol::UDP {
        return None;
    }
    let (source, destination) = packet.ports()?;
    let number = number_of(packet.udp_payload()?)?;
    (source == ECHO_PORT).then_some((destination, number))
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
        let (mut sent_at, mut stalls) = (Vec::new(), Vec::new());
        while !self.stop.load(Ordering::Relaxed) {
            // Behind schedule, datagrams follow one another at once: none is skipped.
            let due = start + self.interval * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if let Some(before) = sent_at.last().copied()
                && now - before > self.interval + STALL
            {
                stalls.push((before, now));
            }
            sent_at.push(now);
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
            sent_at,
            stalls,
            late: Vec::new(),
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
    use std::time::{Duration, Instant};

    use super::{MachineStalled, Report};

    const BOUND: Duration = Duration::from_millis(50);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// One datagram a millisecond, these lost.
    fn steady(flows: u64, lost: Vec<u64>) -> Report {
        let start = Instant::now();
        let sent = 10_000;
        Report {
            sent,
            echoed: sent - lost.len() as u64,
            lost,
            flows,
            interval: ms(1),
            send_errors: 0,
            sent_at: (0..sent).map(|number| start + ms(number)).collect(),
            stalls: Vec::new(),
            late: Vec::new(),
        }
    }

    /// The same; the sender was not run for so long before this datagram, and caught up at once.
    fn stalled(mut report: Report, number: u64, time: Duration) -> Report {
        let at = usize::try_from(number).unwrap();
        let late = report.sent_at[at] + time;
        report.stalls.push((report.sent_at[at - 1], late));
        for sent_at in &mut report.sent_at[at..] {
            *sent_at = late.max(*sent_at);
        }
        report
    }

    fn says_nothing(report: &Report, failures: &[super::Span]) -> bool {
        let said = report.within(BOUND, failures);
        said.is_err_and(|error| error.is::<MachineStalled>())
    }

    #[test]
    fn an_outage_lasts_from_its_first_to_its_last_loss() {
        let report = steady(4, vec![10, 100, 101, 102, 110, 400, 401]);
        assert_eq!(report.longest_outage(), ms(11));
        assert_eq!(report.lost_by_flow()[&2], 3);
        assert!(report.nothing_lost().is_err());
    }

    #[test]
    fn a_single_stuck_flow_is_an_outage_as_long_as_it_is_stuck() {
        let report = steady(32, (0..100).map(|round| 7 + 32 * round).collect());
        assert!(
            report.longest_outage() >= Duration::from_secs(3),
            "{report}"
        );
        assert!(report.within(BOUND, &[]).is_err());
        let once = steady(32, vec![7, 71, 135]);
        assert_eq!(once.longest_outage(), ms(1));
    }

    #[test]
    fn many_short_outages_are_too_much() {
        let report = steady(4, (0..30).flat_map(|n| [100 * n, 100 * n + 1]).collect());
        assert_eq!(report.longest_outage(), ms(2));
        let said = report.within(BOUND, &[]).unwrap_err().to_string();
        assert!(said.contains("less than what was lost"), "{said}");
        assert!(report.within(ms(60), &[]).is_ok());
    }

    #[test]
    fn an_outage_is_judged_by_time_unless_the_machine_stalled_around_it() {
        assert!(steady(4, (1000..1050).collect()).within(BOUND, &[]).is_ok());
        let long = steady(4, (1000..1060).collect());
        assert!(!says_nothing(&long, &[]) && long.within(BOUND, &[]).is_err());
        // A burst after a pause: more is lost than the outage took, or less.
        for lost in [1000..1075, 1000..1010] {
            let report = stalled(steady(4, lost.collect()), 1000, ms(100));
            assert!(says_nothing(&report, &[]), "{report}");
        }
        // Elsewhere a pause excuses nothing.
        let report = stalled(long, 5000, ms(30));
        assert!(!says_nothing(&report, &[]) && report.within(BOUND, &[]).is_err());
        // A CPU that ran nobody meanwhile did not run Waypost either.
        let mut report = steady(4, (1000..1060).collect());
        report
            .late
            .push((report.sent_at[1020], report.sent_at[1040]));
        assert!(says_nothing(&report, &[]));
        report.late = vec![(report.sent_at[1070], report.sent_at[1090])];
        assert!(!says_nothing(&report, &[]) && report.within(BOUND, &[]).is_err());
        // A pause shorter than what is left of the bound hides nothing.
        let report = stalled(steady(4, (1000..1010).collect()), 1010, ms(20));
        assert!(report.within(BOUND, &[]).is_ok());
    }

    #[test]
    fn a_pause_longer_than_the_bound_may_hide_an_outage_of_a_failure_in_it() {
        let report = stalled(steady(4, vec![]), 1000, ms(100));
        assert!(says_nothing(&report, &[]));
        let failure = report.sent_at[999] + ms(10);
        assert!(says_nothing(&report, &[(failure, failure + ms(5))]));
        let later = report.sent_at[2000];
        assert!(report.within(BOUND, &[(later, later + ms(5))]).is_ok());
    }
}
