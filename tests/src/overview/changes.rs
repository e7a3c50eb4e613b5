//! The part of the story in which something changes: an instance goes, a route goes, a daemon dies,
//! two more firewalls come.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, ensure};

use super::{
    CONVERGENCE, INTERNET, OFFICE, Overview, Running, SITE, firewall_peer, instance,
    narrator::Narrator,
    paths::{FlowWatch, Watch, shares},
};
use crate::{
    daemon::{Daemon, Frr, Options},
    lab::{
        stream::{Echo, Stream},
        wait::until,
    },
};

/// Flows of the ECMP step.
const FLOWS: u16 = 64;

pub(super) fn instance_away(world: &Overview, narrator: &mut Narrator, running: &Running) {
    narrator.step(
        "Instance 1 stopped and started while packets flow",
        "BIRD loses that session and gets it back; no datagram of vm1 to the office is lost",
        || {
            let to = OFFICE[0].parse()?;
            let _echo = Echo::start(&world.office, to)?;
            let stream = Stream::start(&world.vm1.host, world.vm1.addresses[0], to, 8, 1000)?;
            let first = instance(1)?;
            running.waypost.ask("instance stop 1")?;
            let down = until(
                "BIRD's session with instance 1 is down",
                CONVERGENCE,
                || {
                    let state = running.sdwan.sessions()?.remove(&first).unwrap_or_default();
                    ensure!(state != "established", "{state}");
                    Ok(state)
                },
            )?;
            stream.flows_on("packets flow while the instance is away")?;
            running.waypost.ask("instance start 1")?;
            running.sdwan.established(&[first], CONVERGENCE)?;
            running.firewall.established(&[first], CONVERGENCE)?;
            stream.flows_on("packets flow after it is back")?;
            let report = stream.finish()?;
            report.nothing_lost()?;
            Ok(format!(
                "BIRD with {first}: {down}, then established; datagrams: {report}"
            ))
        },
    );
}

pub(super) fn route_changes(
    world: &Overview,
    narrator: &mut Narrator,
    running: &mut Running,
    watch: &Watch,
) {
    narrator.step(
        "The site withdrawn, and announced again",
        "without its route the site's packets follow the default route to the firewall, and come \
         back",
        || {
            let mut seen = Vec::new();
            for (prefix, to) in SITE.into_iter().zip(OFFICE) {
                let (prefix, to) = (prefix.parse()?, to.parse()?);
                running.site.withdraw(prefix)?;
                let path = watch.leads(&world.vm1, to, &["fw", "internet"], false)?;
                seen.push(format!("{prefix} withdrawn: {path}"));
                running.site.announce(prefix)?;
                let path = watch.leads(&world.vm1, to, &["sdwan", "office"], true)?;
                seen.push(format!("{prefix} announced: {path}"));
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "The SD-WAN's BGP daemon killed, and started again",
        "graceful restart: its routes stay, shown as stale, and packets go on by them; then they are \
         fresh again",
        || {
            let to = OFFICE[0].parse()?;
            running.sdwan.process().kill()?;
            stale(running, true)?;
            let without = watch.leads(&world.vm1, to, &["sdwan", "office"], true)?;
            running.sdwan = world.start_sdwan_with(Options {
                restarting: true,
                ..Overview::appliance_options()
            })?;
            running.waypost.established(&["sdwan"])?;
            stale(running, false)?;
            let with = watch.leads(&world.vm1, to, &["sdwan", "office"], true)?;
            Ok(format!("killed: {without}\nstarted: {with}"))
        },
    );
}

/// Whether what the SD-WAN announced is stale, in all of its sessions.
fn stale(running: &Running, stale: bool) -> Result<()> {
    until(
        &format!("routes of sdwan are stale: {stale}"),
        CONVERGENCE,
        || {
            let mut rows = running.waypost.rows("peers")?;
            rows.retain(|row| row["peer"] == "sdwan");
            let kept = |row: &serde_json::Value| {
                let families = row["stale"].as_array();
                families.is_some_and(|families| !families.is_empty())
            };
            ensure!(rows.iter().all(|row| kept(row) == stale), "{rows:?}");
            Ok(())
        },
    )
}

pub(super) fn several_firewalls(
    world: &Overview,
    narrator: &mut Narrator,
    running: &mut Running,
) -> Vec<Frr> {
    let mut more = Vec::new();
    narrator.step(
        "Two more firewalls announce the same default route",
        "64 flows to the Internet spread over three firewalls; each flow stays with its own",
        || {
            let mut config = running.waypost.config().clone();
            for number in 1..world.firewalls.len() {
                config.peers().push(firewall_peer(&world.firewalls[number]));
                more.push(world.start_firewall(number)?);
            }
            running.waypost.reload(config)?;
            for daemon in &more {
                daemon.established(&[instance(1)?, instance(2)?], CONVERGENCE)?;
            }
            let mut seen = Vec::new();
            for (from, to) in world.vm1.addresses.into_iter().zip(INTERNET) {
                seen.push(spread(world, from, to.parse()?)?);
            }
            Ok(seen.join("\n"))
        },
    );
    more
}

fn spread(world: &Overview, from: IpAddr, to: IpAddr) -> Result<String> {
    let all: BTreeSet<String> = world
        .firewalls
        .iter()
        .map(|nva| nva.host().name().to_owned())
        .collect();
    let _echo = Echo::start(&world.internet, to)?;
    let flows = FlowWatch::start(world)?;
    let stream = Stream::start(&world.vm1.host, from, to, FLOWS, 1000)?;
    until("flows take all three firewalls", CONVERGENCE, || {
        let used: BTreeSet<String> = flows.paths(0).into_values().flatten().collect();
        ensure!(used == all, "{used:?}");
        Ok(())
    })?;
    let since = stream.sent();
    until("each flow sends ten more datagrams", CONVERGENCE, || {
        ensure!(
            stream.sent() >= since + 10 * u64::from(FLOWS),
            "{}",
            stream.sent()
        );
        Ok(())
    })?;
    let report = stream.finish()?;
    let stuck = flows.stuck(since)?;
    let shares = shares(&stuck);
    ensure!(
        stuck.len() == usize::from(FLOWS),
        "{} flows were seen",
        stuck.len()
    );
    ensure!(
        shares.len() == all.len() && shares.values().all(|flows| *flows >= 8),
        "{shares:?}"
    );
    Ok(format!(
        "to {to}: flows by firewall {shares:?}; datagrams: {report}"
    ))
}
