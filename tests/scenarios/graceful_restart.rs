//! Graceful restart with real daemons on the appliances: whoever goes and comes back, no packet is
//! lost; who does not come back is forgotten in time; who is told to forget does so at once.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    daemon::{Daemon, Options},
    lab::stream::{Echo, Stream},
    network::Cable,
    overview::{CONVERGENCE, INTERNET, NETWORK, Overview, Running, SITE, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::PATIENCE,
};

const EVERYONE: [&str; 2] = ["sdwan", "fw"];

/// Seconds until the session with a peer that hangs is given up.
const HOLD_TIME: i64 = 6;

#[test]
fn connections_that_break_lose_no_packet() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        for round in 2..=4 {
            // Both ends are reset without a word of BGP.
            world
                .gw
                .run("ss --kill --tcp state established dport = 179")?;
            world
                .gw
                .run("ss --kill --tcp state established sport = 179")?;
            until("all sessions came up once more", CONVERGENCE, || {
                let rows = running.waypost.rows("peers")?;
                let again = |row: &&Value| row["established_count"].as_u64() >= Some(round);
                let up = rows.iter().filter(again).count();
                ensure!(up == 4, "{up} of 4");
                Ok(())
            })?;
            running.waypost.established(&EVERYONE)?;
            running.waypost.keeps_nothing()?;
            traffic.flows_on("packets flow")?;
        }
        println!("{}", traffic.no_loss()?);
        Ok(())
    })
}

#[test]
fn bird_dies_and_comes_back_and_no_packet_is_lost() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &["fw"])?;
        running.sdwan.process().kill()?;
        running.waypost.keeps("sdwan", 2, false)?;
        traffic.flows_on("packets flow without BIRD")?;
        running.sdwan = world.start_sdwan_with(Options {
            restarting: true,
            ..Overview::appliance_options()
        })?;
        running.waypost.established(&["sdwan"])?;
        running.waypost.keeps_nothing()?;
        println!("{}", traffic.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn frr_dies_and_comes_back_and_its_routes_stay() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let to: IpAddr = INTERNET[0].parse()?;
        let _echo = Echo::start(&world.internet, to)?;
        let stream = Stream::start(&world.vm1.host, world.vm1.addresses[0], to, 8, 1000)?;
        stream.flows_on("packets flow to the Internet")?;
        running.firewall.process().kill()?;
        running.waypost.keeps("fw", 2, false)?;
        stream.flows_on("packets flow without FRR's bgpd")?;
        running.firewall.start_again()?;
        running.waypost.established(&["fw"])?;
        running.waypost.keeps_nothing()?;
        stream.flows_on("packets flow")?;
        let report = stream.finish()?;
        println!("{report}");
        // FRR writes its own route back into the network anew, for which its kernel needs a moment.
        let outage = report.longest_outage();
        ensure!(outage < Duration::from_millis(500), "{outage:?}");
        Ok(())
    })
}

#[test]
fn a_peer_that_does_not_come_back_is_forgotten_after_its_restart_time() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let options = Options {
            graceful_restart: Some(5),
            ..Options::default()
        };
        let mut running = world.start_with_sdwan(world.config()?, options)?;
        running.sdwan.process().kill()?;
        let killed = Instant::now();
        running.waypost.keeps("sdwan", 2, false)?;
        for prefix in SITE {
            ensure!(seconds_left(&running, prefix)? <= 5.0);
        }
        forgets(&running, SITE[0], CONVERGENCE)?;
        let after = killed.elapsed();
        ensure!(after > Duration::from_secs(4), "already after {after:?}");
        ensure!(after < Duration::from_secs(8), "only after {after:?}");
        println!("forgotten {:.1} s after it died", after.as_secs_f64());
        running
            .firewall
            .loses(SITE[0].parse()?, instance(1)?, CONVERGENCE)?;
        running.waypost.keeps_nothing()
    })
}

#[test]
fn routes_of_a_peer_that_hangs_outlive_its_hold_timer_while_its_machine_forwards() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        let fw = config.peers().remove(1);
        config.peers().push(fw.set("hold_time", HOLD_TIME));
        let mut running = world.start_with(config)?;
        let before = running.waypost.rows("peers --peer fw")?;
        for row in &before {
            ensure!(row["hold_time"] == HOLD_TIME, "{row}");
        }
        let to: IpAddr = INTERNET[0].parse()?;
        let _echo = Echo::start(&world.internet, to)?;
        let stream = Stream::start(&world.vm1.host, world.vm1.addresses[0], to, 8, 1000)?;
        running.firewall.process().signal(libc::SIGSTOP)?;
        // FRR, which sets the N bit, keeps the same (RFC 8538).
        running.waypost.keeps("fw", 2, false)?;
        for row in running.waypost.rows("peers --peer fw")? {
            let error = row["last_error"].to_string().to_lowercase();
            ensure!(error.contains("hold timer expired"), "{row}");
        }
        stream.flows_on("packets flow while bgpd hangs")?;
        running.firewall.process().signal(libc::SIGCONT)?;
        running.waypost.established(&["fw"])?;
        running.waypost.keeps_nothing()?;
        stream.flows_on("packets flow")?;
        let report = stream.finish()?;
        println!("{report}");
        report.nothing_lost()
    })
}

#[test]
fn with_the_long_lived_form_its_routes_stay_as_last_choice() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        let sdwan = config.peers().remove(0);
        let sdwan = sdwan.set("long_lived_stale_time", 3600);
        config.peers().insert(0, sdwan);
        let options = Options {
            graceful_restart: Some(3),
            long_lived: Some(10),
            ..Options::default()
        };
        let mut running = world.start_with_sdwan(config, options)?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &["fw"])?;
        let site = SITE[0].parse()?;
        running.firewall.learns(site, instance(1)?, CONVERGENCE)?;

        running.sdwan.process().kill()?;
        let killed = Instant::now();
        running.waypost.keeps("sdwan", 2, false)?;
        running.waypost.keeps("sdwan", 2, true)?;
        let row = learned(&running, SITE[0])?.pop().context("a path")?;
        let communities = &row["communities"];
        ensure!(communities.to_string().contains("65535:6"), "{row}");
        // FRR announces the capability, though with no stale time of its own.
        until("FRR is told that it is stale", CONVERGENCE, || {
            let text = running
                .firewall
                .ask(&[&format!("show bgp ipv4 unicast {site}")])?;
            ensure!(text.to_lowercase().contains("llgr-stale"), "{text}");
            Ok(())
        })?;
        traffic.flows_on("packets flow by what is stale")?;
        println!("{}", traffic.no_loss()?);
        forgets(&running, SITE[0], CONVERGENCE)?;
        let after = killed.elapsed();
        ensure!(after > Duration::from_secs(12), "already after {after:?}");
        ensure!(after < Duration::from_secs(17), "only after {after:?}");
        println!("forgotten {:.1} s after it died", after.as_secs_f64());
        Ok(())
    })
}

#[test]
fn bird_keeps_what_the_route_server_told_it_for_long_too() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        config.route_server[0]
            .settings
            .insert("restart_time".into(), 3.into());
        let sdwan = config.peers().remove(0);
        config
            .peers()
            .insert(0, sdwan.set("long_lived_stale_time", 8));
        let options = Options {
            graceful_restart: Some(3),
            long_lived: Some(60),
            ..Options::default()
        };
        let mut running = world.start_with_sdwan(config, options)?;
        let network = NETWORK[0].parse()?;
        running.waypost.process().kill()?;
        until("BIRD marks it LLGR_STALE", CONVERGENCE, || {
            let text = running.sdwan.ask(&format!("show route {network} all"))?;
            ensure!(text.contains("(65535,6)"), "{text}");
            Ok(())
        })?;
        running.sdwan.loses(network, instance(1)?, CONVERGENCE)
    })
}

#[test]
fn an_instance_that_is_stopped_makes_its_peers_forget_at_once() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        let traffic = Undisturbed::watch(&world, &running.waypost, &[])?;
        running.waypost.ask("instance stop 1")?;
        for prefix in NETWORK {
            let prefix = prefix.parse()?;
            running.sdwan.loses(prefix, instance(1)?, PATIENCE)?;
            running.firewall.loses(prefix, instance(1)?, PATIENCE)?;
            running.sdwan.learns(prefix, instance(2)?, PATIENCE)?;
        }
        // FRR sets the N bit, so that a plain Cease would have kept them.
        let neighbor = running
            .firewall
            .ask(&[&format!("show bgp neighbors {} json", instance(1)?)])?;
        ensure!(
            neighbor.contains("\"lastNotificationHardReset\":true"),
            "{neighbor}"
        );
        let rows = rows_of(&running, "sdwan")?;
        ensure!(rows.len() == 2, "{rows:?}");
        ensure!(
            rows.iter().all(|row| row["stale"] == Value::Array(vec![])),
            "{rows:?}"
        );
        println!("{}", traffic.no_loss()?);
        Ok(())
    })
}

#[test]
fn stop_flush_makes_all_peers_forget_at_once() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        running.waypost.ask("stop --flush")?;
        running.waypost.process().wait(PATIENCE)?;
        for prefix in NETWORK {
            let prefix = prefix.parse()?;
            running.sdwan.loses(prefix, instance(1)?, PATIENCE)?;
            running.firewall.loses(prefix, instance(1)?, PATIENCE)?;
        }
        Ok(())
    })
}

fn seconds_left(running: &Running, prefix: &str) -> Result<f64> {
    let row = learned(running, prefix)?.pop().context("a path")?;
    row["stale"]["seconds_left"]
        .as_f64()
        .with_context(|| format!("{row}"))
}

fn forgets(running: &Running, prefix: &str, limit: Duration) -> Result<()> {
    until(&format!("{prefix} is forgotten"), limit, || {
        let rows = learned(running, prefix)?;
        ensure!(rows.is_empty(), "{rows:?}");
        Ok(())
    })
}

fn learned(running: &Running, prefix: &str) -> Result<Vec<Value>> {
    let mut rows = running.waypost.rows("learned")?;
    rows.retain(|row| row["prefix"] == prefix && row["state"] != "rejected");
    Ok(rows)
}

fn rows_of(running: &Running, peer: &str) -> Result<Vec<Value>> {
    let mut rows = running.waypost.rows("peers")?;
    rows.retain(|row| row["peer"] == peer);
    Ok(rows)
}
