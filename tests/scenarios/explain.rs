//! `waypost explain` says beforehand what packets then do.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    daemon::Daemon,
    lab::stream::{ECHO_PORT, Echo, FIRST_FLOW_PORT, Stream},
    network::Cable,
    overview::{CONVERGENCE, INTERNET, Overview, firewall_peer, instance, paths::FlowWatch},
    scenario, until,
};

#[test]
fn it_names_route_peer_and_port_and_why_the_route_won() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        for (to, prefix, port, peer) in [
            ("10.250.0.10", "10.250.0.0/16", "sdwan", "sdwan"),
            ("198.51.100.10", "0.0.0.0/0", "fw", "fw"),
            ("fd00:250::10", "fd00:250::/48", "sdwan", "sdwan"),
        ] {
            let answer = running
                .waypost
                .explain(&format!("--subnet apps --to {to}"))?;
            ensure!(
                answer["route"]["prefix"] == prefix,
                "{to}: {}",
                answer["route"]
            );
            ensure!(answer["route"]["peer"] == peer, "{to}: {}", answer["route"]);
            ensure!(answer["next_hops"][0]["port"] == port, "{to}: {answer}");
            ensure!(answer["fib"]["prefix"] == prefix, "{to}: {}", answer["fib"]);
            let paths = answer["paths"].as_array().map_or(0, Vec::len);
            ensure!(
                paths == 2,
                "{to}: {paths} paths, one of each instance expected"
            );
            let story = answer["story"].as_array().map_or(0, Vec::len);
            ensure!(story > 0, "{to}: no story");
        }
        let inside = running.waypost.explain("--subnet hub/apps --to 10.1.2.4")?;
        ensure!(
            inside["route"]["next_hop_type"] == "VirtualNetwork",
            "{}",
            inside["route"]
        );
        Ok(())
    })
}

#[test]
fn it_names_the_firewall_that_a_flow_takes() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 3, Cable::Straight)?;
        let mut running = world.start()?;
        let mut config = running.waypost.config().clone();
        config
            .peers()
            .extend(world.firewalls[1..].iter().map(firewall_peer));
        running.waypost.reload(config)?;
        let more = [world.start_firewall(1)?, world.start_firewall(2)?];
        for firewall in &more {
            firewall.established(&[instance(1)?, instance(2)?], CONVERGENCE)?;
        }
        for (from, to) in world.vm1.addresses.into_iter().zip(INTERNET) {
            until("explain knows three next hops", CONVERGENCE, || {
                let answer = running
                    .waypost
                    .explain(&format!("--subnet apps --to {to}"))?;
                let hops = answer["next_hops"].as_array().into_iter().flatten();
                let alive = hops.filter(|hop| hop["alive"] == true).count();
                ensure!(alive == 3, "{alive}");
                Ok(())
            })?;
            let to: IpAddr = to.parse()?;
            let _echo = Echo::start(&world.internet, to)?;
            let watch = FlowWatch::start(&world)?;
            let stream = Stream::start(&world.vm1.host, from, to, 24, 1000)?;
            stream.finish()?.nothing_lost()?;
            for (flow, taken) in watch.stuck(0)? {
                ensure!(flow >= FIRST_FLOW_PORT);
                let answer = running.waypost.explain(&format!(
                    "--subnet apps --to {to} --from {from} --protocol udp --source-port {flow} \
                     --destination-port {ECHO_PORT}"
                ))?;
                let told = port_of(&answer, &answer["flow"]["next_hop"]);
                ensure!(
                    told == Some(&taken),
                    "flow {flow} took {taken}: {}",
                    answer["flow"]
                );
            }
        }
        Ok(())
    })
}

fn port_of<'a>(answer: &'a Value, next_hop: &Value) -> Option<&'a String> {
    let mut hops = answer["next_hops"].as_array()?.iter();
    let hop = hops.find(|hop| hop["name"] == *next_hop)?;
    match &hop["port"] {
        Value::String(port) => Some(port),
        _ => None,
    }
}
