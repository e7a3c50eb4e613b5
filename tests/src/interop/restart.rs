//! Graceful restart of either side (RFC 4724) and its long-lived form (RFC 9494): routes are kept,
//! marked, and fresh again after.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    matrix::{Feature, Matrix},
    stage::{Case, PATIENCE, Setting, Stage, Subject},
};
use crate::{daemon::Options, lab::wait::until, overview::NETWORK, waypost::Waypost};

/// How long a restart takes here.
const AWAY: Duration = Duration::from_secs(3);

/// Daemons with a restart time of a minute.
///
/// # Errors
/// The act cannot be played; what fails in it is in the matrix.
pub fn play<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            graceful_restart: Some(60),
            ..Options::default()
        },
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        act.every(settle);
        act.proves(Feature::GracefulRestartOfDaemon, |case, waypost| {
            case.kill()?;
            kept(case, waypost, false)?;
            case.speaker.options.restarting = true;
            case.start(waypost)?;
            fresh(case, waypost)
        });
        // Waypost dies as by a crash: no NOTIFICATION.
        act.stage.waypost.process().kill()?;
        act.proves(Feature::GracefulRestartOfWaypost, |case, _| {
            let start = Instant::now();
            while start.elapsed() < AWAY {
                heard(case)?;
                thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        });
        act.stage.waypost.start_again()?;
        act.stage.feed_again()?;
        act.proves(Feature::GracefulRestartOfWaypost, |case, waypost| {
            let instance = case.instance(0)?;
            until("the session is back", PATIENCE, || {
                heard(case)?;
                let sessions = case.daemon()?.sessions()?;
                let up = sessions
                    .get(&instance)
                    .is_some_and(|state| state == "established");
                ensure!(up, "{sessions:?}");
                Ok(())
            })?;
            case.established(waypost)?;
            case.hears(NETWORK[0].parse()?, |route| {
                ensure!(!route.stale, "still stale");
                Ok(())
            })
        });
        Ok(())
    })
}

/// Daemons with a restart time of two seconds and a long-lived one of a minute.
///
/// # Errors
/// As [`play`].
pub fn play_long_lived<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            graceful_restart: Some(2),
            long_lived: Some(60),
            ..Options::default()
        },
        peer: vec![("long_lived_stale_time", 60.into())],
        feature: Some(Feature::LongLived),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        act.every(settle);
        act.proves(Feature::LongLived, |case, waypost| {
            case.kill()?;
            kept(case, waypost, true)?;
            case.speaker.options.restarting = true;
            case.start(waypost)?;
            fresh(case, waypost)
        });
        Ok(())
    })
}

/// The daemon has its route from the start, and Waypost has learned it.
fn settle(case: &mut Case, waypost: &Waypost) -> Result<()> {
    case.speaker.announce = vec![case.prefix(1, true)?, case.prefix(1, false)?];
    case.kill()?;
    case.start(waypost)?;
    fresh(case, waypost)?;
    // End-of-RIB has been exchanged by then.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

fn stale(row: &Value) -> bool {
    row["stale"].is_object()
}

/// The daemon is away: its routes are there all the time, and marked.
fn kept(case: &Case, waypost: &Waypost, long_lived: bool) -> Result<()> {
    until("Waypost sees the session down", PATIENCE, || {
        let rows = case.rows(waypost)?;
        let up = rows.iter().any(|row| row["state"] == "Established");
        ensure!(!up, "{rows:?}");
        Ok(())
    })?;
    let start = Instant::now();
    let away = if long_lived { AWAY * 2 } else { AWAY };
    while start.elapsed() < away {
        for ipv4 in [true, false] {
            let rows = case.paths(waypost, case.prefix(1, ipv4)?)?;
            let row = rows.first().context("the route is gone")?;
            ensure!(stale(row), "it is not marked: {row}");
        }
        thread::sleep(Duration::from_millis(200));
    }
    if long_lived {
        for ipv4 in [true, false] {
            for row in case.paths(waypost, case.prefix(1, ipv4)?)? {
                ensure!(row["stale"]["long_lived"] == true, "{row}");
            }
        }
    }
    Ok(())
}

/// The daemon is back: its routes are there and not marked.
fn fresh(case: &Case, waypost: &Waypost) -> Result<()> {
    for ipv4 in [true, false] {
        case.learned(waypost, case.prefix(1, ipv4)?, |row| {
            ensure!(!stale(row), "still stale: {row}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The daemon has Waypost's routes.
fn heard(case: &mut Case) -> Result<()> {
    let instance = case.instance(0)?;
    let routes = case.daemon()?.received(instance)?;
    for prefix in NETWORK {
        let known = routes
            .iter()
            .any(|route| route.prefix.to_string() == prefix);
        ensure!(known, "no {prefix} of Waypost");
    }
    Ok(())
}
