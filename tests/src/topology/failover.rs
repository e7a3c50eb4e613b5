//! Traffic through a failure: what was lost, for how long, and how long that may be.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::trace::{FlowTrace, Flows, shares};
use crate::{
    lab::{
        Host,
        stream::{Echo, FIRST_FLOW_PORT, Report, Stream},
        wait::until,
    },
    overview::CONVERGENCE,
    waypost::{Waypost, sessions},
};

/// Bound after a port has lost its carrier.
pub const LINK_DOWN: Duration = Duration::from_millis(50);
/// Bound after a machine has fallen silent.
pub const SILENT_DEATH: Duration = Duration::from_secs(3);

/// Datagrams a second, of each family.
const RATE: u32 = 1000;

/// Datagrams between two hosts, over IPv4 and IPv6 at the same time, each of them echoed.
#[derive(Debug)]
pub struct Traffic {
    streams: [Stream; 2],
    _echoes: [Echo; 2],
    flows: u16,
}

impl Traffic {
    /// Starts it and waits until it flows.
    ///
    /// # Errors
    /// It does not.
    pub fn start(from: (&Host, [IpAddr; 2]), to: (&Host, [IpAddr; 2]), flows: u16) -> Result<Self> {
        let [ipv4, ipv6] = to.1;
        let echoes = [Echo::start(to.0, ipv4)?, Echo::start(to.0, ipv6)?];
        let stream =
            |family: usize| Stream::start(from.0, from.1[family], to.1[family], flows, RATE);
        Ok(Self {
            streams: [stream(0)?, stream(1)?],
            _echoes: echoes,
            flows,
        })
    }

    /// Demands that it flows on.
    ///
    /// # Errors
    /// It does not within ten seconds.
    pub fn flows_on(&self, when: &str) -> Result<()> {
        self.streams
            .iter()
            .try_for_each(|stream| stream.flows_on(when))
    }

    /// Waits until all flows of both families take exactly these machines, one each, and tells which.
    ///
    /// # Errors
    /// They do not.
    pub fn takes(&self, trace: &FlowTrace, machines: &[&str]) -> Result<Flows> {
        let expected = format!("flows take {machines:?}");
        until(&expected, CONVERGENCE, || {
            let since = self.round()?;
            let flows = trace.stuck(since)?;
            let shares = shares(&flows);
            ensure!(shares.keys().eq(machines), "{shares:?}");
            ensure!(flows.len() == 2 * usize::from(self.flows), "{shares:?}");
            Ok(flows)
        })
    }

    /// Ends it and demands that no outage was longer than this, and tells the loss.
    ///
    /// # Errors
    /// One was.
    pub fn within(self, bound: Duration) -> Result<String> {
        let reports = self.finish()?;
        for report in &reports {
            ensure!(
                report.longest_outage() <= bound,
                "bound {bound:?}: {}",
                text(&reports)
            );
        }
        Ok(format!("{}, bound {bound:?}", text(&reports)))
    }

    /// Ends it and demands that nothing was lost.
    ///
    /// # Errors
    /// Something was.
    pub fn lost_nothing(self) -> Result<String> {
        let reports = self.finish()?;
        ensure!(
            reports.iter().all(|report| report.nothing_lost().is_ok()),
            "{}",
            text(&reports)
        );
        Ok(text(&reports))
    }

    /// Ends it; only flows that took this machine beforehand may have lost anything, and not for longer
    /// than this.
    ///
    /// # Errors
    /// Another lost something, or it took longer.
    pub fn only(self, before: &Flows, machine: &str, bound: Duration) -> Result<String> {
        let reports = self.finish()?;
        for (ipv6, report) in [false, true].into_iter().zip(&reports) {
            ensure!(report.longest_outage() <= bound, "{}", text(&reports));
            for flow in report.lost_by_flow().into_keys() {
                let port = FIRST_FLOW_PORT + u16::try_from(flow)?;
                let taken = before.get(&(ipv6, port)).map_or("nothing", String::as_str);
                ensure!(
                    taken == machine,
                    "a flow of {taken} lost datagrams: {}",
                    text(&reports)
                );
            }
        }
        Ok(format!("{}, bound {bound:?}", text(&reports)))
    }

    /// Number of the datagram from which on every flow has sent ten, on both families.
    fn round(&self) -> Result<u64> {
        let since = self.streams.iter().map(Stream::sent).max().unwrap_or(0);
        let enough = since + 10 * u64::from(self.flows);
        until("ten rounds of all flows", CONVERGENCE, || {
            let sent = self.streams.iter().map(Stream::sent).min().unwrap_or(0);
            ensure!(sent > enough, "{sent} of {enough}");
            Ok(since)
        })
    }

    fn finish(self) -> Result<[Report; 2]> {
        let [ipv4, ipv6] = self.streams;
        Ok([ipv4.finish()?, ipv6.finish()?])
    }
}

/// Demands that no flow moved but those that had taken this machine.
///
/// # Errors
/// There is one.
pub fn others_stayed(before: &Flows, after: &Flows, lost: &str) -> Result<()> {
    for (flow, machine) in before {
        let now = after.get(flow).map_or("nothing", String::as_str);
        if machine != lost && machine != now {
            bail!("flow {flow:?} moved from {machine} to {now}");
        }
    }
    Ok(())
}

/// How often each session of these peers has been established; all of them must be now.
///
/// # Errors
/// One is not.
pub fn established(waypost: &Waypost, peers: &[&str]) -> Result<BTreeMap<String, u64>> {
    waypost.established(peers)?;
    let rows = waypost.rows("peers")?;
    let ours = |row: &&Value| peers.iter().any(|peer| row["peer"] == *peer);
    let counts: BTreeMap<String, u64> = rows
        .iter()
        .filter(ours)
        .map(|row| {
            let name = format!(
                "{}/{}/{}",
                row["route_server"], row["peer"], row["instance"]
            );
            (name, row["established_count"].as_u64().unwrap_or_default())
        })
        .collect();
    ensure!(counts.len() >= 2 * peers.len(), "{}", sessions(&rows));
    Ok(counts)
}

/// Demands that none of these sessions went down since.
///
/// # Errors
/// One did.
pub fn no_reset(
    waypost: &Waypost,
    peers: &[&str],
    before: &BTreeMap<String, u64>,
) -> Result<String> {
    let now = established(waypost, peers)?;
    ensure!(now == *before, "sessions: {before:?} before, {now:?} now");
    Ok(format!("no session of {} was reset", peers.join(", ")))
}

fn text(reports: &[Report; 2]) -> String {
    let [ipv4, ipv6] = reports;
    format!("IPv4: {ipv4}; IPv6: {ipv6}")
}
