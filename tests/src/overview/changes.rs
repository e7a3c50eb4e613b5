//! The part of the story in which something changes: an instance goes, a route goes, a daemon dies,
//! two more firewalls come.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    CONVERGENCE, INSTANCES, INTERNET, OFFICE, Overview, Running, SITE, addresses_of, firewall_peer,
    instance, narrator::Narrator,
};
use crate::{
    daemon::{Daemon, Frr, Options},
    lab::{Host, wait::until},
    network::{Nva, route_server_subnet},
    topology::{
        Failed,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged, others_stayed},
        trace::{FlowTrace, Flows, Trace, shares},
    },
};

/// Flows of the ECMP step.
const FLOWS: u16 = 64;

/// All firewalls.
const FIREWALLS: [&str; 3] = ["fw", "fw2", "fw3"];

pub(super) fn instance_away(world: &Overview, narrator: &mut Narrator, running: &Running) {
    narrator.step(
        "Instance 1 stopped and started while packets flow",
        "BIRD loses that session and gets it back; no datagram of vm1 to the office is lost",
        || {
            let traffic = to_the_office(world)?;
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
            traffic.flows_on("packets flow while the instance is away")?;
            running.waypost.ask("instance start 1")?;
            running.sdwan.established(&[first], CONVERGENCE)?;
            running.firewall.established(&[first], CONVERGENCE)?;
            traffic.flows_on("packets flow after it is back")?;
            let loss = traffic.lost_nothing()?;
            Ok(format!(
                "BIRD with {first}: {down}, then established; {loss}"
            ))
        },
    );
}

pub(super) fn route_changes(
    world: &Overview,
    narrator: &mut Narrator,
    running: &mut Running,
    trace: &Trace,
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
                let path = trace.ends(&world.vm1.host, to, &["fw", "internet"])?;
                seen.push(format!("{prefix} withdrawn: {path}"));
                running.site.announce(prefix)?;
                let office = (&world.office, to);
                let path = trace.symmetric(&world.vm1.host, office, &["sdwan", "site"])?;
                seen.push(format!("{prefix} announced: {path}"));
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "The SD-WAN's BGP daemon killed, and started again",
        "graceful restart: its routes stay, shown as stale, and no packet to the office is lost; then \
         they are\nfresh again",
        || {
            let traffic = to_the_office(world)?;
            running.sdwan.process().kill()?;
            stale(running, true)?;
            traffic.flows_on("packets flow without the daemon")?;
            running.sdwan = world.start_sdwan_with(Options {
                restarting: true,
                ..Overview::appliance_options()
            })?;
            running.waypost.established(&["sdwan"])?;
            stale(running, false)?;
            traffic.flows_on("packets flow when it is back")?;
            let mut seen = vec![traffic.lost_nothing()?];
            for to in addresses_of(OFFICE)? {
                let office = (&world.office, to);
                let path = trace.symmetric(&world.vm1.host, office, &["sdwan", "site"])?;
                seen.push(format!("vm1 → {to}: {path}"));
            }
            Ok(seen.join("\n"))
        },
    );
}

/// Traffic of vm1 to the office.
fn to_the_office(world: &Overview) -> Result<Traffic> {
    let from = (&world.vm1.host, world.vm1.addresses);
    Traffic::start(from, (&world.office, addresses_of(OFFICE)?), 8)
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
            let all = rows.iter().all(|row| kept(row) == stale);
            ensure!(rows.len() == INSTANCES.len() && all, "{rows:?}");
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
            let (trace, traffic) = to_the_internet(world)?;
            let flows = traffic.takes(&trace, &FIREWALLS)?;
            let mut seen = Vec::new();
            for ipv6 in [false, true] {
                let of_family = flows.iter().filter(|((six, _), _)| *six == ipv6);
                let flows: Flows = of_family.map(|(flow, by)| (*flow, by.clone())).collect();
                let shares = shares(&flows);
                let enough = shares.values().all(|flows| *flows >= 8);
                ensure!(shares.len() == FIREWALLS.len() && enough, "{shares:?}");
                seen.push(format!("flows by firewall {shares:?}"));
            }
            Ok(seen.join("\n"))
        },
    );
    more
}

/// Traffic of vm1 to the Internet, and which firewalls it takes.
fn to_the_internet(world: &Overview) -> Result<(FlowTrace, Traffic)> {
    let firewalls: Vec<&Host> = world.firewalls.iter().map(Nva::host).collect();
    let trace = FlowTrace::start(&firewalls)?;
    let from = (&world.vm1.host, world.vm1.addresses);
    let to = (&world.internet, addresses_of(INTERNET)?);
    Ok((trace, Traffic::start(from, to, FLOWS)?))
}

/// Answers come by the first firewall: it is the second that dies.
pub(super) fn firewall_dies(world: &Overview, narrator: &mut Narrator) {
    let [_, second, _] = world.firewalls.as_slice() else {
        return;
    };
    let (port, link) = (&second.vm.port_link, &second.vm.link);
    narrator.step(
        "A firewall dies: its port loses the carrier",
        "its flows go on by the other two within 50 ms; no other flow loses a packet or moves",
        || {
            loses_a_firewall(world, LINK_DOWN, || {
                port.down()?;
                Ok(Failed::until(|| port.up()))
            })
        },
    );
    narrator.step(
        "The same firewall falls silent, its port up",
        "probes find out: its flows go on by the other two within 3 s; no other flow is touched",
        || {
            loses_a_firewall(world, SILENT_DEATH, || {
                link.down()?;
                Ok(Failed::until(|| second.wake(&[route_server_subnet()?])))
            })
        },
    );
}

fn loses_a_firewall<'a>(
    world: &Overview,
    bound: Duration,
    fail: impl Fn() -> Result<Failed<'a>>,
) -> Result<String> {
    let [first, lost, third] = FIREWALLS;
    judged(|| {
        let (trace, traffic) = to_the_internet(world)?;
        let before = traffic.takes(&trace, &FIREWALLS)?;
        let failed = traffic.fails(&fail)?;
        let after = traffic.takes(&trace, &[first, third])?;
        others_stayed(&before, &after, lost)?;
        let loss = traffic.only(&before, lost, bound)?;
        failed.mend()?;
        let (trace, traffic) = to_the_internet(world)?;
        traffic.takes(&trace, &FIREWALLS)?;
        Ok(loss)
    })
}
