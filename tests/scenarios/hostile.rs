//! Peers that come uninvited, and a daemon that is stopped for a while: what happens to the others.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    daemon::raw::{self, RawPeer},
    network::Cable,
    overview::{CONVERGENCE, FIREWALL_ASN, Overview, Running, firewall_peer, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::Config,
};

const EVERYONE: [&str; 2] = ["sdwan", "fw"];

/// The second firewall, which runs no daemon.
const NEWCOMER: &str = "edge-10.1.20.5";

#[test]
fn who_comes_from_a_range_is_a_peer_until_the_range_goes() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 2, Cable::Straight)?;
        let plain = world.config()?;
        let mut running = world.start_with(with_range(plain.clone())?)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let own = "10.1.20.5".parse()?;
        let firewall = &world.firewalls[1];
        let mut peers = Vec::new();
        for number in [1, 2] {
            let from = firewall.vm.addresses[0];
            let mut peer = RawPeer::connect(firewall.host(), from, instance(number)?)?;
            peer.establish(FIREWALL_ASN.try_into()?, own)?;
            let update = raw::update("10.77.0.0/16".parse()?, own, FIREWALL_ASN);
            peer.send(&raw::message(2, &update))?;
            peers.push(peer);
        }
        running.waypost.established(&[NEWCOMER])?;
        running.waypost.programmed("10.77.0.0/16")?;
        ensure!(shown(&running)?.iter().all(|row| row["dynamic"] == true));
        ensure!(
            !running
                .waypost
                .ask(&format!("show learned --peer {NEWCOMER}"))?
                .is_empty(),
            "it is known by its name"
        );

        // It survives a reload that changes something else, and goes with the range.
        let mut other = with_range(plain.clone())?;
        other.route_server[0]
            .settings
            .insert("max_paths".to_owned(), 4.into());
        running.waypost.reload(other)?;
        running.waypost.established(&[NEWCOMER])?;
        ensure!(
            shown(&running)?
                .iter()
                .all(|row| row["established_count"] == 1)
        );
        running.waypost.reload(plain)?;
        for peer in &mut peers {
            ensure!(
                peer.notification()? == (6, 3),
                "peer de-configured (RFC 4486)"
            );
        }
        until("it is gone", CONVERGENCE, || {
            let rows = shown(&running)?;
            ensure!(rows.is_empty(), "{rows:?}");
            Ok(())
        })?;
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_daemon_that_was_stopped_for_longer_than_the_hold_time_keeps_its_sessions() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 2, Cable::Straight)?;
        let mut config = world.config()?;
        let mut peer = firewall_peer(&world.firewalls[1]).set("hold_time", 3);
        peer.passive = true;
        config.peers().push(peer);
        let mut running = world.start_with(config)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let firewall = &world.firewalls[1];
        let from = firewall.vm.addresses[0];
        let mut peer = RawPeer::connect(firewall.host(), from, instance(1)?)?;
        peer.establish(FIREWALL_ASN.try_into()?, "10.1.20.5".parse()?)?;

        running.waypost.process().signal(libc::SIGSTOP)?;
        speak(&mut peer, Duration::from_secs(6))?;
        running.waypost.process().signal(libc::SIGCONT)?;
        speak(&mut peer, Duration::from_secs(5))?;
        let rows = running.waypost.rows("peers")?;
        let session = rows
            .iter()
            .find(|row| row["peer"] == "fw2" && row["instance"] == 1);
        ensure!(
            session
                .is_some_and(|row| row["state"] == "Established" && row["established_count"] == 1),
            "{session:?}"
        );
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

/// Keeps its side of a session with a hold time of 3 s.
fn speak(peer: &mut RawPeer, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        peer.send(&raw::keepalive())?;
        sleep(Duration::from_millis(800));
    }
    Ok(())
}

fn shown(running: &Running) -> Result<Vec<Value>> {
    let rows = running.waypost.rows("peers")?;
    Ok(rows
        .into_iter()
        .filter(|row| row["peer"] == NEWCOMER)
        .collect())
}

/// The configuration with a range around the firewalls, of which only the first is configured.
fn with_range(mut config: Config) -> Result<Config> {
    let range: toml::Table = toml::from_str(&format!(
        "name = \"edge\"\nprefix = \"10.1.20.4/30\"\nasn = {FIREWALL_ASN}\nmax_peers = 2"
    ))?;
    let settings = &mut config.route_server[0].settings;
    settings.insert("dynamic_peer".to_owned(), vec![range].into());
    Ok(config)
}
