//! TCP MD5 with the right, a wrong and a changed key; GTSM with neighbours far and near.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Connects,
    matrix::{Feature, Matrix, ROLES},
    stage::{Act, Case, PATIENCE, Setting, Stage, Subject},
};
use crate::{daemon::Options, lab::wait::until, waypost::Waypost};

const KEYS: [&str; 2] = ["first-key-4711", "second-key-0815"];
/// No session may come up for so long.
const QUIET: Duration = Duration::from_secs(4);

/// Daemons with a key.
///
/// # Errors
/// The act cannot be played; what fails in it is in the matrix.
pub fn play_md5<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            md5: Some(KEYS[0].to_owned()),
            ..Options::default()
        },
        peer: vec![("md5_password", KEYS[0].into())],
        feature: Some(Feature::Md5),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        let refused = failures(act)?;
        act.proves(Feature::Md5, |case, waypost| {
            protected(case, waypost, "TCP MD5")
        });
        act.every(|case, _| case.kill());
        act.reload(&[("md5_password", KEYS[1].into())])?;
        act.every(|case, _| case.launch());
        act.proves(Feature::Md5, |case, waypost| {
            stays_down(case, waypost)?;
            // Who waits never hears of the other side: its kernel drops the packets.
            match ROLES[case.number].1 {
                Connects::Waypost => case.waypost_says(waypost, "same key"),
                _ => Ok(()),
            }
        });
        until("the kernel drops segments for their keys", PATIENCE, || {
            ensure!(failures(act)? > refused, "none");
            Ok(())
        })?;
        // The key that the peer has, while Waypost runs on; then another one on both sides.
        act.reload(&[])?;
        act.proves(Feature::Md5, Case::established);
        act.every(|case, _| case.kill());
        act.reload(&[("md5_password", KEYS[1].into())])?;
        act.proves(Feature::Md5, |case, waypost| {
            case.speaker.options.md5 = Some(KEYS[1].to_owned());
            case.start(waypost)?;
            protected(case, waypost, "TCP MD5")
        });
        change_keys(act)
    })
}

/// The key changes under sessions that are up: first at Waypost, then first at the daemon. What is
/// signed with the old one is not taken.
fn change_keys(act: &mut Act<'_>) -> Result<()> {
    let refused = failures(act)?;
    act.reload(&[])?;
    act.proves(Feature::Md5KeyChange, |case, waypost| {
        let prefix = case.prefix(11, true)?;
        case.daemon()?.announce(prefix)?;
        let start = Instant::now();
        while start.elapsed() < QUIET {
            let rows = case.paths(waypost, prefix)?;
            ensure!(rows.is_empty(), "taken with the old key: {rows:?}");
            thread::sleep(Duration::from_millis(200));
        }
        case.daemon()?.change_key(KEYS[0])?;
        case.learned(waypost, prefix, |_| Ok(()))?;
        protected(case, waypost, "TCP MD5")
    });
    ensure!(
        failures(act)? > refused,
        "the kernel dropped no segment for its key"
    );
    act.proves(Feature::Md5KeyChange, |case, _| {
        case.daemon()?.change_key(KEYS[1])
    });
    act.reload(&[("md5_password", KEYS[1].into())])?;
    act.proves(Feature::Md5KeyChange, |case, waypost| {
        let prefix = case.prefix(12, true)?;
        case.daemon()?.announce(prefix)?;
        case.learned(waypost, prefix, |_| Ok(()))?;
        protected(case, waypost, "TCP MD5")
    });
    Ok(())
}

/// Daemons that send with TTL 255 and demand it.
///
/// # Errors
/// As [`play_md5`].
pub fn play_gtsm<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            ttl_security: true,
            ..Options::default()
        },
        peer: vec![("ttl_security", 1.into())],
        feature: Some(Feature::TtlSecurity),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        act.proves(Feature::TtlSecurity, |case, waypost| {
            protected(case, waypost, "GTSM")
        });
        // A daemon that sends with a lower TTL, as one far away would arrive with.
        act.every(|case, _| {
            case.kill()?;
            case.speaker.options.ttl_security = false;
            case.launch()
        });
        act.proves(Feature::TtlSecurity, stays_down);
        Ok(())
    })
}

/// The session is up, and Waypost says how it is protected.
fn protected(case: &mut Case, waypost: &Waypost, by: &str) -> Result<()> {
    case.established(waypost)?;
    let detail = waypost.show(&format!("peer {} --instance 1", case.name()))?;
    let detail = detail.get(0).unwrap_or(&detail);
    let said = detail["security"].to_string();
    ensure!(said.contains(by), "Waypost says {said}");
    Ok(())
}

fn stays_down(case: &mut Case, waypost: &Waypost) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < QUIET {
        let rows = case.rows(waypost)?;
        let up = rows.iter().any(|row| row["state"] == "Established");
        ensure!(!up, "a session is up: {rows:?}");
        thread::sleep(Duration::from_millis(200));
    }
    let instance = case.instance(0)?;
    let sessions = case.daemon()?.sessions()?;
    let state = sessions.get(&instance);
    ensure!(
        state.is_none_or(|state| state != "established"),
        "{sessions:?}"
    );
    Ok(())
}

/// Segments that the gateway host's kernel has dropped for their MD5 signature.
fn failures(act: &Act<'_>) -> Result<u64> {
    let text = act
        .stage
        .gw
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))?;
    // A line of names, then a line of values.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines.next().zip(lines.next()).context("no TcpExt")?;
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let ours = pairs.filter(|(name, _)| name.starts_with("TCPMD5"));
    let numbers = ours.filter_map(|(_, value)| value.parse::<u64>().ok());
    Ok(numbers.sum())
}
