//! The daemon goes and comes back under traffic: nobody notices. And it can be removed altogether.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    daemon::Daemon,
    network::Cable,
    overview::{Overview, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::{self, PATIENCE, pins},
};

const PORTS: [&str; 4] = ["vm1", "vm2", "sdwan", "fw"];

#[test]
fn sigterm_closes_the_sessions_and_forwarding_goes_on() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &["sdwan", "fw"])?;

        let status = running.waypost.process().stop(PATIENCE)?;
        ensure!(status.success(), "{status}");
        until("BIRD was told with a Cease", PATIENCE, || {
            let text = running.sdwan.ask("show protocols all")?;
            let told = text.lines().filter(|line| line.contains("Last error:"));
            let told: Vec<&str> = told.map(str::trim).collect();
            let ceased = told
                .iter()
                .filter(|line| line.contains("dministrative"))
                .count();
            ensure!(ceased == 2, "{told:?}");
            Ok(())
        })?;
        traffic.stream().flows_on("packets flow without a daemon")?;

        running.waypost.start_again()?;
        traffic
            .stream()
            .flows_on("packets flow while routes are stale")?;
        running.waypost.established(&["sdwan", "fw"])?;
        let instances = [instance(1)?, instance(2)?];
        running.sdwan.established(&instances, PATIENCE)?;
        until("routes are not stale any more", PATIENCE, || {
            let fib = running.waypost.show("fib")?;
            ensure!(fib["stale"] == false, "still stale");
            Ok(())
        })?;
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
            traffic.stream().flows_on("packets flow without a daemon")?;
            running.waypost.start_again()?;
            running.waypost.established(&["sdwan", "fw"])?;
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
        until(
            "the withdrawn route is gone from the maps",
            PATIENCE,
            || {
                let fib = running.waypost.show("fib")?;
                let routes = fib["routes"].as_array().into_iter().flatten();
                let mut left = routes.filter(|route| route["prefix"] == "10.250.0.0/16");
                ensure!(left.next().is_none(), "it is still there");
                Ok(())
            },
        )
    })
}

#[test]
fn stop_flush_removes_everything() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        ensure!(
            !pins(Path::new("/sys/fs/bpf"))?.is_empty(),
            "nothing is pinned"
        );
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

fn nothing_left(world: &Overview) -> Result<()> {
    until(
        "nothing is pinned and no program attached",
        PATIENCE,
        || {
            let left = pins(Path::new("/sys/fs/bpf"))?;
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
