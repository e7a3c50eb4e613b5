//! Traffic through a failure: what was lost, for how long, and how long that may be. A failure during
//! which the machine stalled is told again.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::Value;

use super::trace::{FlowTrace, Flows, shares};
use crate::{
    lab::{
        Host, Witness,
        stream::{Echo, FIRST_FLOW_PORT, MachineStalled, Report, Span, Stream},
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

/// How often a failure is told until the machine did not stall.
const TRIALS: u32 = 3;

/// Tells a failure: traffic, the failure, and the bound by [`Traffic::within`] or [`Traffic::only`].
/// Where the machine stalled, so that the loss says nothing about Waypost, it is told again from the
/// start, up to three times in all; any other outcome counts at once.
///
/// # Errors
/// As the trial's; or the machine stalled each time.
pub fn judged<T>(mut trial: impl FnMut() -> Result<T>) -> Result<T> {
    let mut number = 1;
    loop {
        match trial() {
            Err(error) if error.is::<MachineStalled>() && number < TRIALS => {
                println!("trial {number} of {TRIALS}: {error:#}");
                number += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Datagrams between two hosts, over IPv4 and IPv6 at the same time, each of them echoed.
#[derive(Debug)]
pub struct Traffic {
    streams: [Stream; 2],
    echoes: [Echo; 2],
    flows: u16,
    failures: RefCell<Vec<Span>>,
    witness: Witness,
}

impl Traffic {
    /// Starts it, both families at the same time, and waits until it flows.
    ///
    /// # Errors
    /// It does not.
    pub fn start(from: (&Host, [IpAddr; 2]), to: (&Host, [IpAddr; 2]), flows: u16) -> Result<Self> {
        let [ipv4, ipv6] = to.1;
        let echoes = [Echo::start(to.0, ipv4)?, Echo::start(to.0, ipv6)?];
        let stream =
            |family: usize| Stream::start(from.0, from.1[family], to.1[family], flows, RATE);
        let [ipv4, ipv6] = thread::scope(|scope| {
            let ipv4 = scope.spawn(|| stream(0));
            let ipv6 = stream(1);
            [ipv4.join(), Ok(ipv6)]
        });
        let started = |stream: thread::Result<Result<Stream>>| {
            stream.map_err(|_| anyhow!("the starting thread panicked"))?
        };
        Ok(Self {
            streams: [started(ipv4)?, started(ipv6)?],
            echoes,
            flows,
            failures: RefCell::default(),
            witness: Witness::start()?,
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

    /// Makes something fail, and notes when.
    ///
    /// # Errors
    /// As the step's.
    pub fn fails<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = step()?;
        self.failures.borrow_mut().push((start, Instant::now()));
        Ok(done)
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

    /// Ends it and demands that no outage of all flows or of one was longer than this, and no more was
    /// lost than is sent in that time, and tells the loss.
    ///
    /// # Errors
    /// One was, or more was; or [`MachineStalled`], see [`judged`].
    pub fn within(self, bound: Duration) -> Result<String> {
        let failures = self.failures.take();
        let reports = self.finish()?;
        judge(&reports, bound, &failures)?;
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
    /// than this, nor more than is sent in that time.
    ///
    /// # Errors
    /// Another lost something, or it took longer; or [`MachineStalled`], see [`judged`].
    pub fn only(self, before: &Flows, machine: &str, bound: Duration) -> Result<String> {
        let failures = self.failures.take();
        let reports = self.finish()?;
        for (ipv6, report) in [false, true].into_iter().zip(&reports) {
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
        judge(&reports, bound, &failures)?;
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
        let mut reports = [ipv4.finish()?, ipv6.finish()?];
        for (report, echo) in reports.iter_mut().zip(&self.echoes) {
            report.stalls.extend(echo.stalls());
            report.late = self.witness.late();
        }
        Ok(reports)
    }
}

/// What broke the bound for certain comes before what says nothing.
fn judge(reports: &[Report; 2], bound: Duration, failures: &[Span]) -> Result<()> {
    let mut stalled = Ok(());
    for report in reports {
        match report.within(bound, failures) {
            Err(error) if error.is::<MachineStalled>() => stalled = Err(error),
            outcome => outcome?,
        }
    }
    stalled
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

#[cfg(test)]
mod tests {
    use anyhow::{Result, bail};

    use super::judged;
    use crate::lab::stream::MachineStalled;

    #[test]
    fn a_stall_is_tried_again_and_a_broken_bound_is_not() {
        let mut trials = 0;
        let told = judged(|| -> Result<u32> {
            trials += 1;
            match trials {
                1 => Err(MachineStalled::default().into()),
                _ => Ok(trials),
            }
        });
        assert_eq!(told.unwrap(), 2);
        let mut trials = 0;
        let broken = judged(|| -> Result<()> {
            trials += 1;
            bail!("bound")
        });
        assert!(broken.is_err() && trials == 1);
        let mut trials = 0;
        let always = judged(|| -> Result<()> {
            trials += 1;
            Err(MachineStalled::default().into())
        });
        assert!(always.is_err() && trials == 3);
    }
}
