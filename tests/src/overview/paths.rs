//! Which way do packets go? Judged by where they are seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Result, bail, ensure};

use super::Overview;
use crate::{
    lab::{Capture, Ping, stream::datagram, wait::until},
    network::{Nva, UPLINK, Vm},
};

/// How long packets may take to follow a change of routes.
const FOLLOW: Duration = Duration::from_secs(10);

/// Captures at every appliance and far host of the overview, where packets come in.
#[derive(Debug)]
pub struct Watch {
    points: Vec<(String, Capture)>,
    next_id: std::cell::Cell<u16>,
}

/// A ping and the hosts that saw its requests come in.
#[derive(Clone, Debug)]
pub struct Path {
    /// What `ping` reported.
    pub ping: Ping,
    /// Appliances and far hosts.
    pub through: Vec<String>,
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let through = match self.through.as_slice() {
            [] => "no appliance".to_owned(),
            hosts => hosts.join(" and "),
        };
        write!(f, "seen at {through}; {}", self.ping)
    }
}

impl Watch {
    /// Starts to look.
    ///
    /// # Errors
    /// An interface is missing.
    pub fn start(world: &Overview) -> Result<Self> {
        let echo = |packet: &crate::lab::Packet| !packet.outgoing && packet.echo().is_some();
        let mut points = Vec::new();
        for nva in [&world.sdwan].into_iter().chain(&world.firewalls) {
            let capture = Capture::of(nva.host(), &[UPLINK], echo)?;
            points.push((nva.host().name().to_owned(), capture));
        }
        points.push((
            "office".to_owned(),
            Capture::of(&world.office, &["eth0"], echo)?,
        ));
        let wans = wans(world);
        points.push((
            "internet".to_owned(),
            Capture::of(&world.internet, &wans, echo)?,
        ));
        Ok(Self {
            points,
            next_id: std::cell::Cell::new(1000),
        })
    }

    /// Pings from a machine and tells who saw the requests.
    ///
    /// # Errors
    /// `ping` cannot run.
    pub fn path(&self, from: &Vm, to: IpAddr) -> Result<Path> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let ping = from.host.ping(to, 3, id)?;
        let saw = |capture: &Capture| {
            let ours = capture.matching(|packet| {
                packet
                    .echo()
                    .is_some_and(|echo| echo.request && echo.id == id)
                    && packet.destination == to
            });
            !ours.is_empty()
        };
        let through = self
            .points
            .iter()
            .filter(|(_, capture)| saw(capture))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Path { ping, through })
    }

    /// Pings until the requests go exactly this way and, unless `answered` is false, are all
    /// answered.
    ///
    /// # Errors
    /// They do not within ten seconds.
    pub fn leads(&self, from: &Vm, to: IpAddr, through: &[&str], answered: bool) -> Result<Path> {
        let expected = format!("pings from {} to {to} are seen at {through:?}", from.host);
        until(&expected, FOLLOW, || {
            let path = self.path(from, to)?;
            ensure!(
                path.through == through && (!answered || path.ping.complete()),
                "{path}"
            );
            Ok(path)
        })
    }
}

/// Which of the Internet host's links the flows of a stream come in by, that is, which firewall they
/// take.
#[derive(Debug)]
pub struct FlowWatch {
    capture: Capture,
}

/// Flows, by their source port, and the firewalls that they took.
pub type FlowPaths = BTreeMap<u16, BTreeSet<String>>;

impl FlowWatch {
    /// Starts to look.
    ///
    /// # Errors
    /// A link is missing.
    pub fn start(world: &Overview) -> Result<Self> {
        let stream = |packet: &crate::lab::Packet| !packet.outgoing && datagram(packet).is_some();
        Ok(Self {
            capture: Capture::of(&world.internet, &wans(world), stream)?,
        })
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.capture.clear();
    }

    /// What was seen since, from this datagram on.
    #[must_use]
    pub fn paths(&self, since: u64) -> FlowPaths {
        let mut paths = FlowPaths::new();
        for packet in self.capture.packets() {
            if let Some((flow, number)) = datagram(&packet)
                && number >= since
            {
                paths.entry(flow).or_default().insert(packet.interface);
            }
        }
        paths
    }

    /// The one firewall that each flow took.
    ///
    /// # Errors
    /// A flow took several.
    pub fn stuck(&self, since: u64) -> Result<BTreeMap<u16, String>> {
        let one = |(flow, paths): (u16, BTreeSet<String>)| {
            let mut names = paths.iter().cloned();
            match (names.next(), names.next()) {
                (Some(only), None) => Ok((flow, only)),
                _ => bail!("flow {flow} took {paths:?}"),
            }
        };
        self.paths(since).into_iter().map(one).collect()
    }
}

/// Number of flows by firewall.
#[must_use]
pub fn shares(flows: &BTreeMap<u16, String>) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for firewall in flows.values() {
        *shares.entry(firewall.clone()).or_default() += 1;
    }
    shares
}

/// The Internet host's interfaces: one towards each firewall, of its name.
fn wans(world: &Overview) -> Vec<&str> {
    world
        .firewalls
        .iter()
        .map(Nva::host)
        .map(crate::lab::Host::name)
        .collect()
}
