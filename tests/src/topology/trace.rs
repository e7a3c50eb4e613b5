//! Which way do packets go, there and back? Judged by where they come in, in the order of their hop
//! limits.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::World;
use crate::{
    lab::{
        Capture, Host, Packet, Ping,
        stream::{datagram, echo_of},
        wait::until,
    },
    waypost::Waypost,
};

/// How long packets may take to follow a change of routes.
const FOLLOW: Duration = Duration::from_secs(15);

/// Captures of pings at every machine of a world, where packets come in.
#[derive(Debug)]
pub struct Trace {
    points: Vec<(String, Capture)>,
    next_id: Cell<u16>,
}

/// A ping and where it was seen: machines in the order in which packets came to them.
#[derive(Clone, Debug)]
pub struct Way {
    /// What `ping` reported.
    pub ping: Ping,
    /// Of the requests.
    pub there: Vec<String>,
    /// Of the replies.
    pub back: Vec<String>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |names: &[String]| match names {
            [] => "nowhere".to_owned(),
            names => names.join(" → "),
        };
        write!(
            f,
            "there {}; back {}; {}",
            words(&self.there),
            words(&self.back),
            self.ping
        )
    }
}

impl Trace {
    /// Starts to look, at every machine that the world has now.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn start(world: &World<'_>) -> Result<Self> {
        Self::over(&world.points)
    }

    /// Starts to look at these machines, at the interfaces on which packets come in.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn over(machines: &[(Host, Vec<String>)]) -> Result<Self> {
        let mut points = Vec::new();
        for (host, interfaces) in machines {
            let interfaces: Vec<&str> = interfaces.iter().map(String::as_str).collect();
            let echo = |packet: &Packet| !packet.outgoing && packet.echo().is_some();
            let capture = Capture::of(host, &interfaces, echo)?;
            points.push((host.name().to_owned(), capture));
        }
        Ok(Self {
            points,
            next_id: Cell::new(1000),
        })
    }

    /// Pings and tells who saw what.
    ///
    /// # Errors
    /// `ping` cannot run.
    pub fn way(&self, from: &Host, to: IpAddr) -> Result<Way> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let ping = from.ping(to, 3, id)?;
        Ok(Way {
            ping,
            there: self.seen(id, true),
            back: self.seen(id, false),
        })
    }

    /// Pings until all are answered and have gone exactly this way. The replies must have come back by
    /// `back`, the last of which is the sender.
    ///
    /// # Errors
    /// They do not within a quarter of a minute.
    pub fn goes(&self, from: &Host, to: IpAddr, there: &[&str], back: &[&str]) -> Result<Way> {
        self.passes(from, to, |seen, answered| seen == there && answered == back)
            .with_context(|| {
                format!("{from} reaches {to} by {there:?}, and answers come by {back:?}")
            })
    }

    /// The same with a way that this judges: machines on the way there, and back.
    ///
    /// # Errors
    /// As [`Trace::goes`].
    pub fn passes(
        &self,
        from: &Host,
        to: IpAddr,
        right: impl Fn(&[&str], &[&str]) -> bool,
    ) -> Result<Way> {
        let expected = format!("{from} reaches {to} by the right way, and answers come by it");
        until(&expected, FOLLOW, || {
            let way = self.way(from, to)?;
            let there: Vec<&str> = way.there.iter().map(String::as_str).collect();
            let back: Vec<&str> = way.back.iter().map(String::as_str).collect();
            ensure!(right(&there, &back) && way.ping.complete(), "{way}");
            Ok(way)
        })
    }

    /// The same with the replies on the requests' way. `through` are the machines between.
    ///
    /// # Errors
    /// As [`Trace::goes`].
    pub fn symmetric(&self, from: &Host, to: (&Host, IpAddr), through: &[&str]) -> Result<Way> {
        let mut there = through.to_vec();
        there.push(to.0.name());
        let mut back: Vec<&str> = through.iter().rev().copied().collect();
        back.push(from.name());
        self.goes(from, to.1, &there, &back)
    }

    /// Pings until none are answered and the requests have come as far as this. That the sender has
    /// sent them at all is told by where they were seen: where that is nowhere, use
    /// [`Trace::dropped`].
    ///
    /// # Errors
    /// They do not stop within a quarter of a minute.
    pub fn ends(&self, from: &Host, to: IpAddr, there: &[&str]) -> Result<Way> {
        ensure!(!there.is_empty(), "a sender that is dead would do");
        let expected = format!("{from} does not reach {to}: no farther than {there:?}");
        until(&expected, FOLLOW, || {
            let way = self.way(from, to)?;
            ensure!(way.there == there && way.ping.received == 0, "{way}");
            Ok(way)
        })
    }

    /// Pings until none are answered, no machine has seen a request, and Waypost has counted each of
    /// them as dropped at the sender's port, which has its name, for this reason.
    ///
    /// # Errors
    /// They are answered, seen or not counted within a quarter of a minute.
    pub fn dropped(&self, waypost: &Waypost, from: &Host, to: IpAddr, reason: &str) -> Result<Way> {
        let expected = format!("Waypost drops what {from} sends to {to}: {reason}");
        until(&expected, FOLLOW, || {
            let before = waypost.counted(from.name(), reason)?;
            let way = self.way(from, to)?;
            ensure!(way.there.is_empty() && way.ping.received == 0, "{way}");
            let counted = waypost.counted(from.name(), reason)? - before;
            ensure!(counted >= 3, "{way}; {counted} counted as {reason}");
            Ok(way)
        })
    }

    /// Machines that saw requests (or replies) with this identifier come in, the first one first.
    fn seen(&self, id: u16, request: bool) -> Vec<String> {
        let ours = |packet: &Packet| {
            packet
                .echo()
                .is_some_and(|echo| echo.id == id && echo.request == request)
        };
        let mut seen = Vec::new();
        for (name, capture) in &self.points {
            let packets = capture.matching(ours);
            if let Some(limit) = packets.iter().map(|packet| packet.hop_limit).max() {
                seen.push((limit, name.clone()));
            }
        }
        seen.sort_by_key(|(limit, _)| std::cmp::Reverse(*limit));
        seen.into_iter().map(|(_, name)| name).collect()
    }
}

/// A flow of a stream: whether it is of IPv6, and its source port.
pub type Flow = (bool, u16);

/// Flows and the one machine that each took.
pub type Flows = BTreeMap<Flow, String>;

/// Which of a few appliances the flows of a stream take.
#[derive(Debug)]
pub struct FlowTrace {
    points: Vec<(String, Capture)>,
    /// The flow and the number of what is looked at.
    read: fn(&Packet) -> Option<(u16, u64)>,
    /// The last datagram of each flow at each machine, of what has been looked at.
    last: RefCell<BTreeMap<Flow, BTreeMap<String, u64>>>,
}

impl FlowTrace {
    /// Starts to look at what comes in at these machines from the gateway host.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn start(machines: &[&Host]) -> Result<Self> {
        Self::of(machines, datagram)
    }

    /// The same of the echoes, on their way back.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn of_echoes(machines: &[&Host]) -> Result<Self> {
        Self::of(machines, echo_of)
    }

    fn of(machines: &[&Host], read: fn(&Packet) -> Option<(u16, u64)>) -> Result<Self> {
        let mut points = Vec::new();
        for machine in machines {
            let stream = move |packet: &Packet| !packet.outgoing && read(packet).is_some();
            let capture = Capture::of(machine, &[crate::network::UPLINK], stream)?;
            points.push((machine.name().to_owned(), capture));
        }
        Ok(Self {
            points,
            read,
            last: RefCell::default(),
        })
    }

    /// The machines that each flow took, from this datagram on.
    #[must_use]
    pub fn paths(&self, since: u64) -> BTreeMap<Flow, BTreeSet<String>> {
        let mut last = self.last.borrow_mut();
        for (name, capture) in &self.points {
            for packet in capture.drain() {
                if let Some((port, number)) = (self.read)(&packet) {
                    let flow = last.entry((packet.source.is_ipv6(), port)).or_default();
                    let newest = flow.entry(name.clone()).or_default();
                    *newest = number.max(*newest);
                }
            }
        }
        let mut paths: BTreeMap<Flow, BTreeSet<String>> = BTreeMap::new();
        for (flow, machines) in last.iter() {
            let recent = machines.iter().filter(|(_, number)| **number >= since);
            for (name, _) in recent {
                paths.entry(*flow).or_default().insert(name.clone());
            }
        }
        paths
    }

    /// The one machine that each flow took, from this datagram on.
    ///
    /// # Errors
    /// A flow took several.
    pub fn stuck(&self, since: u64) -> Result<Flows> {
        let mut stuck = Flows::new();
        for (flow, machines) in self.paths(since) {
            ensure!(machines.len() == 1, "flow {flow:?} took {machines:?}");
            stuck.extend(machines.into_iter().map(|machine| (flow, machine)));
        }
        Ok(stuck)
    }
}

/// Number of flows by machine.
#[must_use]
pub fn shares(flows: &Flows) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for machine in flows.values() {
        *shares.entry(machine.as_str()).or_default() += 1;
    }
    shares
}
