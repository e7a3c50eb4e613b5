//! What every BGP daemon must be able to do with Waypost: hold a session with each instance, over
//! IPv4 or IPv6, whoever connects, with routes of both families in both directions.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    daemon::{Daemon, Options, Speaker},
    lab::{Host, Lab, wait::until},
    network::Cable,
    overview::{
        CONVERGENCE, INSTANCES, NETWORK, Overview, SDWAN_ASN, SITE, nva_speaker, prefixes_of,
    },
    waypost::{Waypost, config::Peer},
};

pub mod many;
pub mod matrix;
pub mod paths;
pub mod plain;
pub mod protection;
pub mod restart;
pub mod roles;
pub mod stage;
mod subjects;

use matrix::Matrix;
use stage::{Stage, Subject};

/// Names acts of [`every_feature`], separated by commas: only these are played, and the document is
/// not looked at.
const ONLY: &str = "WAYPOST_INTEROP_ACTS";

/// Every feature with a daemon, in four roles; prints the matrix.
///
/// # Errors
/// A feature does not hold, or the lab refuses.
pub fn every_feature<S: Subject>(lab: &Lab) -> Result<()> {
    let mut matrix = Matrix::new(S::NAME);
    let mut stage = Stage::build(lab)?;
    type Play = fn(&mut Stage, &mut Matrix) -> Result<()>;
    let acts: [(&str, Play); 9] = [
        ("plain", plain::play::<S>),
        ("two_octet", plain::play_two_octet::<S>),
        ("md5", protection::play_md5::<S>),
        ("gtsm", protection::play_gtsm::<S>),
        ("add_path", paths::play_add_path::<S>),
        ("next_hop", paths::play_ipv6_next_hop::<S>),
        ("roles", roles::play::<S>),
        ("restart", restart::play::<S>),
        ("long_lived", restart::play_long_lived::<S>),
    ];
    let only = std::env::var(ONLY).ok();
    let wanted = |name: &str| {
        let listed = only.as_deref();
        listed.is_none_or(|list| list.split(',').any(|one| one == name))
    };
    for (name, play) in acts {
        if wanted(name) {
            play(&mut stage, &mut matrix)?;
        }
    }
    matrix.prove(only.is_none())
}

/// What the session runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP over IPv4.
    Ipv4,
    /// TCP over IPv6.
    Ipv6,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connects {
    /// Waypost; the daemon waits.
    Waypost,
    /// The daemon; Waypost waits.
    Daemon,
    /// Both: one of two connections must give way (RFC 4271 §6.8).
    Both,
}

/// The tests that each daemon must pass: over each transport, whoever connects.
#[macro_export]
macro_rules! interop_scenarios {
    ($daemon:ty) => {
        $crate::interop_scenarios! { $daemon:
            over_ipv4_when_waypost_connects = Ipv4, Waypost;
            over_ipv4_when_the_daemon_connects = Ipv4, Daemon;
            over_ipv6_when_waypost_connects = Ipv6, Waypost;
            over_ipv6_when_the_daemon_connects = Ipv6, Daemon;
            when_both_connect = Ipv4, Both;
        }
    };
    ($daemon:ty: $($name:ident = $transport:ident, $connects:ident;)+) => {$(
        #[test]
        fn $name() -> anyhow::Result<()> {
            use $crate::interop::{Connects, Transport, holds_sessions};
            $crate::scenario(|lab| {
                holds_sessions(lab, Transport::$transport, Connects::$connects, |host, speaker| {
                    <$daemon as $crate::interop::stage::Subject>::start(host, speaker)
                })
            })
        }
    )+};
}

/// Runs a daemon on the SD-WAN appliance and demands sessions with both instances and routes of both
/// families in both directions; withdraws one and announces it again; lets the daemon go and come
/// back.
///
/// # Errors
/// Something of that does not happen.
pub fn holds_sessions(
    lab: &Lab,
    transport: Transport,
    connects: Connects,
    start: impl Fn(&Host, Speaker) -> Result<Box<dyn Daemon>>,
) -> Result<()> {
    let world = Overview::build(lab, 0, Cable::Straight)?;
    let family = usize::from(transport == Transport::Ipv6);
    let own = world.sdwan.vm.addresses;

    let mut config = world.config()?;
    *config.peers() = vec![Peer {
        passive: connects == Connects::Daemon,
        ..Peer::new("nva", own[family], SDWAN_ASN)
    }];
    let waypost = Waypost::start(&world.gw, config)?;

    let mut speaker = nva_speaker(&world.sdwan, SDWAN_ASN)?;
    speaker.announce = prefixes_of(SITE)?;
    // Its routes are to be forgotten when it dies.
    speaker.options = Options::default();
    for (neighbor, addresses) in speaker.neighbors.iter_mut().zip(INSTANCES) {
        neighbor.address = addresses[family].parse()?;
        neighbor.local = own[family];
        neighbor.passive = connects == Connects::Waypost;
    }
    let mut daemon = start(world.sdwan.host(), speaker.clone())?;

    exchange(&waypost, daemon.as_ref(), family, own)?;
    daemon.withdraw(SITE[0].parse()?)?;
    forgets(&waypost, SITE[0])?;
    learns(&waypost, SITE[1], own[1])?;
    daemon.announce(SITE[0].parse()?)?;
    exchange(&waypost, daemon.as_ref(), family, own)?;

    daemon.process().kill()?;
    forgets(&waypost, SITE[0])?;
    forgets(&waypost, SITE[1])?;
    drop(daemon);
    let daemon = start(world.sdwan.host(), speaker)?;
    exchange(&waypost, daemon.as_ref(), family, own)
}

fn exchange(waypost: &Waypost, daemon: &dyn Daemon, family: usize, own: [IpAddr; 2]) -> Result<()> {
    for addresses in INSTANCES {
        let instance: IpAddr = addresses[family].parse()?;
        daemon.established(&[instance], CONVERGENCE)?;
        for (prefix, next_hop) in NETWORK.into_iter().zip(addresses) {
            let route = daemon.learns(prefix.parse()?, instance, CONVERGENCE)?;
            ensure!(route.as_path == "65515", "{route}");
            ensure!(route.next_hop == next_hop.parse::<IpAddr>()?, "{route}");
        }
    }
    waypost.established(&["nva"])?;
    for (prefix, next_hop) in SITE.into_iter().zip(own) {
        learns(waypost, prefix, next_hop)?;
    }
    Ok(())
}

/// Both instances have learned it, and subnets use it.
fn learns(waypost: &Waypost, prefix: &str, next_hop: IpAddr) -> Result<()> {
    let expected = format!("Waypost learns {prefix} by {next_hop} at both instances");
    until(&expected, CONVERGENCE, || {
        let rows = learned(waypost, prefix)?;
        ensure!(rows.len() == 2, "{} paths: {rows:?}", rows.len());
        for row in &rows {
            ensure!(row["next_hop"] == next_hop.to_string(), "{row}");
            ensure!(row["as_path"] == "65010", "{row}");
            ensure!(row["state"] != "rejected", "{row}");
        }
        let effective = waypost.rows("effective")?;
        let used = effective.iter().find(|row| {
            row["subnet"] == "apps" && row["prefix"] == prefix && row["state"] == "Active"
        });
        used.context("it is learned, but no active route of subnet apps")?;
        Ok(())
    })
}

fn forgets(waypost: &Waypost, prefix: &str) -> Result<()> {
    until(&format!("Waypost forgets {prefix}"), CONVERGENCE, || {
        let rows = learned(waypost, prefix)?;
        ensure!(rows.is_empty(), "{rows:?}");
        Ok(())
    })
}

fn learned(waypost: &Waypost, prefix: &str) -> Result<Vec<Value>> {
    let mut rows = waypost.rows("learned")?;
    rows.retain(|row| row["prefix"] == prefix);
    Ok(rows)
}
