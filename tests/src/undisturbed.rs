//! Proof that an event left the traffic and the other sessions alone.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    lab::stream::{Echo, Report, Stream},
    overview::{OFFICE, Overview},
    waypost::{Waypost, sessions},
};

/// Traffic from `vm1` to the office, and the sessions as they were when it began.
#[derive(Debug)]
pub struct Undisturbed {
    stream: Stream,
    _echo: Echo,
    established: BTreeMap<String, u64>,
    peers: Vec<String>,
}

impl Undisturbed {
    /// Starts to look: at the traffic, and at the sessions of these peers.
    ///
    /// # Errors
    /// Traffic does not flow, or Waypost does not answer.
    pub fn watch(world: &Overview, waypost: &Waypost, peers: &[&str]) -> Result<Self> {
        let to: IpAddr = OFFICE[0].parse()?;
        let peers: Vec<String> = peers.iter().map(|peer| (*peer).to_owned()).collect();
        Ok(Self {
            _echo: Echo::start(&world.office, to)?,
            stream: Stream::start(&world.vm1.host, world.vm1.addresses[0], to, 8, 1000)?,
            established: established(waypost, &peers)?,
            peers,
        })
    }

    /// The traffic.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Demands that no datagram was lost since.
    ///
    /// # Errors
    /// One was.
    pub fn no_loss(self) -> Result<Report> {
        self.stream.flows_on("the traffic goes on")?;
        let report = self.stream.finish()?;
        report.nothing_lost()?;
        Ok(report)
    }

    /// Demands that no datagram was lost and that no session of these peers went down since.
    ///
    /// # Errors
    /// One was, or did.
    pub fn prove(self, waypost: &Waypost) -> Result<Report> {
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
