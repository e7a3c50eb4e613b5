//! Many prefixes announced and withdrawn three times, both ways: the sessions survive, and both sides
//! count right each time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net};

use super::{
    matrix::{Feature, Matrix},
    stage::{BEHIND_ASNS, Case, FEED_ASN, ORIGIN_ASN, Setting, Stage, Subject},
};
use crate::{
    daemon::feed::Announcement,
    lab::{Lab, wait::until},
    waypost::Waypost,
};

/// How long one announcement or withdrawal of all may take.
const LIMIT: Duration = Duration::from_secs(180);
const ROUNDS: usize = 3;
/// Place of the only daemon among the roles: IPv4, it connects.
const ROLE: usize = 1;

/// Announces so many prefixes through the daemon to Waypost, then through Waypost to the daemon.
///
/// # Errors
/// A session is lost, a side counts wrong, or it takes too long.
pub fn prefixes<S: Subject>(lab: &Lab, count: u32) -> Result<()> {
    let mut matrix = Matrix::new(S::NAME);
    let mut stage = Stage::build(lab)?;
    let setting = Setting {
        asn: 65011,
        peer: vec![("max_prefixes", 4_000_000.into())],
        only: Some(ROLE),
        ..Setting::default()
    };
    let all = many(count)?;
    stage.act::<S>(&mut matrix, setting, |act| {
        act.every(|case, waypost| {
            for round in 1..=ROUNDS {
                through_the_daemon(case, waypost, &all, round)?;
            }
            Ok(())
        });
        act.outcome()?;
        let like = Announcement::new(all[0], "10.1.10.4".parse()?, &[FEED_ASN, ORIGIN_ASN]);
        for round in 1..=ROUNDS {
            let begun = Instant::now();
            act.stage.feed.announce_all(&like, &all)?;
            act.every(|case, waypost| hears(case, waypost, all.len()));
            act.outcome()?;
            let announced = begun.elapsed();
            act.stage.feed.withdraw_all(&all)?;
            act.every(|case, waypost| hears(case, waypost, 0));
            act.outcome()?;
            println!(
                "{}, round {round}: heard {count} after {:.1} s, none after {:.1} s",
                S::NAME,
                announced.as_secs_f64(),
                begun.elapsed().as_secs_f64()
            );
        }
        act.proves(Feature::ManyPrefixes, |case, waypost| {
            for row in case.rows(waypost)? {
                ensure!(row["established_count"] == 1, "a session was lost: {row}");
            }
            Ok(())
        });
        Ok(())
    })?;
    matrix.holds()
}

/// That many IPv4 prefixes, /24 each.
fn many(count: u32) -> Result<Vec<IpNet>> {
    let first = u32::from_be_bytes([20, 0, 0, 0]);
    let prefix = |number: u32| Ok(IpNet::V4(Ipv4Net::new((first + (number << 8)).into(), 24)?));
    (0..count).map(prefix).collect()
}

fn through_the_daemon(
    case: &mut Case,
    waypost: &Waypost,
    all: &[IpNet],
    round: usize,
) -> Result<()> {
    let begun = Instant::now();
    case.announce_many(all)?;
    counts(case, waypost, all.len())?;
    if let Some([ipv4, ipv6]) = case.count_behind()? {
        ensure!(ipv4 + ipv6 == all.len(), "the daemon has {ipv4} routes");
    }
    let announced = begun.elapsed();
    case.withdraw_many(all)?;
    counts(case, waypost, 0)?;
    if let Some([ipv4, ipv6]) = case.count_behind()? {
        ensure!(ipv4 + ipv6 == 0, "the daemon still has {ipv4} routes");
    }
    println!(
        "round {round}: {} learned after {:.1} s, none after {:.1} s",
        all.len(),
        announced.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Both instances have learned so many of the daemon.
fn counts(case: &Case, waypost: &Waypost, expected: usize) -> Result<()> {
    until(&format!("Waypost learns {expected} routes"), LIMIT, || {
        let rows = case.rows(waypost)?;
        for row in &rows {
            let (state, received) = (&row["state"], row["received"].as_u64());
            ensure!(state == "Established", "{row}");
            // Besides, what the daemon passes on from one instance to the other: own space.
            let received = received.context("no count")? as usize;
            ensure!(
                received.abs_diff(expected) <= SMALL_CHANGE,
                "{received}: {row}"
            );
        }
        ensure!(rows.len() == 2, "{rows:?}");
        Ok(())
    })
}

/// The network's own prefixes, which daemons pass on from one instance to the other.
const SMALL_CHANGE: usize = 4;

fn hears(case: &mut Case, waypost: &Waypost, expected: usize) -> Result<()> {
    let instance = case.instance(0)?;
    let daemon = case.daemon()?;
    let title = daemon.title();
    until(&format!("{title} hears {expected} routes"), LIMIT, || {
        let [ipv4, ipv6] = daemon.count(instance)?;
        let heard = ipv4 + ipv6;
        ensure!(heard.abs_diff(expected) <= SMALL_CHANGE, "{heard}");
        Ok(())
    })?;
    let rows = case.rows(waypost)?;
    let advertised = rows[0]["advertised"].as_u64().context("no count")? as usize;
    ensure!(
        advertised.abs_diff(expected) <= SMALL_CHANGE,
        "Waypost says {advertised}"
    );
    Ok(())
}

/// Attributes of what comes through the daemon.
pub(super) fn like(case: &Case, first: IpNet) -> Announcement {
    Announcement::new(first, case.gateway(true), &[BEHIND_ASNS[0], ORIGIN_ASN])
}
