//! Proof that an event left the traffic and the other sessions alone.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    lab::stream::{Echo, Report, Stream},
    overview::{OFFICE, Overview},
    waypost::{Waypost, sessions},
};

/// Traffic from `vm1` to the office, IPv4 and IPv6, and the sessions as they were when it began.
#[derive(Debug)]
pub struct Undisturbed {
    streams: [Stream; 2],
    _echoes: [Echo; 2],
    established: BTreeMap<String, u64>,
    peers: Vec<String>,
}

/// What became of the traffic: IPv4, IPv6.
#[derive(Clone, Debug)]
pub struct Reports(pub [Report; 2]);

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ipv4, ipv6] = &self.0;
        write!(f, "IPv4: {ipv4}; IPv6: {ipv6}")
    }
}

impl Undisturbed {
    /// Starts to look: at the traffic, and at the sessions of these peers.
    ///
    /// # Errors
    /// Traffic does not flow, or Waypost does not answer.
    pub fn watch(world: &Overview, waypost: &Waypost, peers: &[&str]) -> Result<Self> {
        let peers: Vec<String> = peers.iter().map(|peer| (*peer).to_owned()).collect();
        let [ipv4, ipv6] = OFFICE;
        let to: [IpAddr; 2] = [ipv4.parse()?, ipv6.parse()?];
        let vm1 = &world.vm1;
        let echo = |family: usize| Echo::start(&world.office, to[family]);
        let echoes = [echo(0)?, echo(1)?];
        let stream =
            |family: usize| Stream::start(&vm1.host, vm1.addresses[family], to[family], 8, 1000);
        Ok(Self {
            streams: [stream(0)?, stream(1)?],
            _echoes: echoes,
            established: established(waypost, &peers)?,
            peers,
        })
    }

    /// Demands that the traffic goes on.
    ///
    /// # Errors
    /// It does not within ten seconds.
    pub fn flows_on(&self, when: &str) -> Result<()> {
        self.streams
            .iter()
            .try_for_each(|stream| stream.flows_on(when))
    }

    /// Demands that no datagram was lost since.
    ///
    /// # Errors
    /// One was.
    pub fn no_loss(self) -> Result<Reports> {
        self.flows_on("the traffic goes on")?;
        let [ipv4, ipv6] = self.streams;
        let reports = Reports([ipv4.finish()?, ipv6.finish()?]);
        reports.0.iter().try_for_each(Report::nothing_lost)?;
        Ok(reports)
    }

    /// Demands that no datagram was lost and that no session of these peers went down since.
    ///
    /// # Errors
    /// One was, or did.
    pub fn prove(self, waypost: &Waypost) -> Result<Reports> {
        let now = established(waypost, &self.peers)?;
        ensure!(
            now == self.established,
            "sessions: {:?} before, {now:?} now",
            self.established
        );
        self.no_loss()
    }
}

/// How often each session has become established; all must be so now.
fn established(waypost: &Waypost, peers: &[String]) -> Result<BTreeMap<String, u64>> {
    let rows = waypost.rows("peers")?;
    let ours = |row: &&Value| peers.iter().any(|peer| row["peer"] == peer.as_str());
    let mut counts = BTreeMap::new();
    for row in rows.iter().filter(ours) {
        ensure!(row["state"] == "Established", "{}", sessions(&rows));
        let name = format!("{}/{}", row["peer"], row["instance"]);
        counts.insert(name, row["established_count"].as_u64().unwrap_or_default());
    }
    ensure!(counts.len() == 2 * peers.len(), "{}", sessions(&rows));
    Ok(counts)
}
