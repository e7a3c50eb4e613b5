//! The daemon goes and comes back under traffic: nobody notices. And it can be removed altogether.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    daemon::Daemon,
    network::Cable,
    overview::{NETWORK, Overview, Running, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::{self, PATIENCE, pins},
};

/// The configured `stale_time`, and a little: not every daemon sends End-of-RIB to a peer that has not
/// asked for graceful restart.
const STALE: Duration = Duration::from_secs(30);
const PINS: &str = "/sys/fs/bpf/waypost";
const PORTS: [&str; 4] = ["vm1", "vm2", "sdwan", "fw"];

#[test]
fn after_sigterm_the_appliances_keep_what_they_were_told_and_forwarding_goes_on() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &["sdwan", "fw"])?;

        let status = running.waypost.process().stop(PATIENCE)?;
        ensure!(status.success(), "{status}");
        appliances_wait(&running)?;
        traffic.flows_on("packets flow without a daemon")?;
        keep_what_they_were_told(&running)?;

        running.waypost.start_again()?;
        traffic.flows_on("packets flow while routes are stale")?;
        running.waypost.established(&["sdwan", "fw"])?;
        let instances = [instance(1)?, instance(2)?];
        running.sdwan.established(&instances, PATIENCE)?;
        has_relearned(&running)?;
        keep_what_they_were_told(&running)?;
        println!("{}", traffic.no_loss()?);
        Ok(())
    })
}

#[test]
fn kill_9_stops_nothing() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &["sdwan", "fw"])?;
        for _ in 0..3 {
            running.waypost.process().kill()?;
            appliances_wait(&running)?;
            traffic.flows_on("packets flow without a daemon")?;
            keep_what_they_were_told(&running)?;
            running.waypost.start_again()?;
            running.waypost.established(&["sdwan", "fw"])?;
            // A peer without RFC 8538 must drop what it keeps if the next restart begins before it
            // has been told everything again (RFC 4724 §4.2).
            has_relearned(&running)?;
        }
        println!("{}", traffic.no_loss()?);
        Ok(())
    })
}

#[test]
fn what_changed_while_the_daemon_was_away_is_put_right() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        running.waypost.process().kill()?;
        running.site.withdraw("10.250.0.0/16".parse()?)?;
        running.site.announce("10.251.0.0/16".parse()?)?;
        running.waypost.start_again()?;
        running.waypost.programmed("10.251.0.0/16")?;
        until("the withdrawn route is gone from the maps", STALE, || {
            let fib = running.waypost.show("fib")?;
            let routes = fib["routes"].as_array().into_iter().flatten();
            let mut left = routes.filter(|route| route["prefix"] == "10.250.0.0/16");
            ensure!(left.next().is_none(), "it is still there");
            Ok(())
        })
    })
}

#[test]
fn stop_flush_removes_everything() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        ensure!(!pins(Path::new(PINS))?.is_empty(), "nothing is pinned");
        for port in PORTS {
            ensure!(attached(&world, port)?, "no program at {port}");
        }
        running.waypost.ask("stop --flush")?;
        running.waypost.process().wait(PATIENCE)?;
        nothing_left(&world)
    })
}

#[test]
fn flush_works_without_a_daemon() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        running.waypost.process().kill()?;
        waypost::flush(&world.gw, running.waypost.config())?;
        nothing_left(&world)
    })
}

/// Everything has been learned again, so that everything has been told again, too.
fn has_relearned(running: &Running) -> Result<()> {
    until("routes are not stale any more", STALE, || {
        let fib = running.waypost.show("fib")?;
        ensure!(fib["stale"] == false, "still stale");
        Ok(())
    })
}

/// The appliances have noticed that both sessions are gone.
fn appliances_wait(running: &Running) -> Result<()> {
    until("both sessions are gone", PATIENCE, || {
        for daemon in [&running.sdwan as &dyn Daemon, &running.firewall] {
            let sessions = daemon.sessions()?;
            for instance in [instance(1)?, instance(2)?] {
                let state = sessions.get(&instance);
                ensure!(
                    state.is_some_and(|state| state != "established"),
                    "{sessions:?}"
                );
            }
        }
        Ok(())
    })
}

/// Nothing else leads their packets back into the network: they have no route of last resort.
fn keep_what_they_were_told(running: &Running) -> Result<()> {
    for prefix in NETWORK {
        let prefix = prefix.parse()?;
        for daemon in [&running.sdwan as &dyn Daemon, &running.firewall] {
            daemon.learns(prefix, instance(1)?, PATIENCE)?;
        }
    }
    Ok(())
}

fn nothing_left(world: &Overview) -> Result<()> {
    until(
        "nothing is pinned and no program attached",
        PATIENCE,
        || {
            let left = pins(Path::new(PINS))?;
            ensure!(left.is_empty(), "{left:?}");
            for port in PORTS {
                ensure!(!attached(world, port)?, "a program at {port}");
            }
            Ok(())
        },
    )
}

fn attached(world: &Overview, port: &str) -> Result<bool> {
    let text = world.gw.run(&format!("ip -json link show dev {port}"))?;
    let links: Value = serde_json::from_str(&text)?;
    Ok(links[0].get("xdp").is_some())
}
