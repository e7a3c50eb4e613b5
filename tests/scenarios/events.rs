//! What happens is told by `waypost events`, with cause and effect, over restarts; and Prometheus
//! reads how things stand.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    network::Cable,
    overview::{CONVERGENCE, Overview, SITE},
    scenario, until,
    waypost::Waypost,
};

#[test]
fn a_session_a_route_a_limit_a_next_hop_and_a_restart_each_leave_their_events() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        // The SD-WAN announces one route a family: that is its limit.
        let sdwan = config.peers()[0].clone();
        config.peers()[0] = sdwan.set("max_prefixes", 1).set("limit_action", "warn");
        let mut running = world.start_with(config.clone())?;
        let waypost = &running.waypost;

        told(waypost, "--kind daemon", |event| {
            event["event"] == "started"
        })?;
        for instance in [1, 2] {
            told(waypost, "--kind session --peer fw", |event| {
                event["event"] == "up" && event["instance"] == instance
            })?;
        }
        told(waypost, "--kind limit --peer sdwan", |event| {
            event["event"] == "reached" && event["count"] == 1 && event["max"] == 1
        })?;
        let learned = told(waypost, "--kind route --peer sdwan", |event| {
            event["event"] == "learned" && event["prefix"] == SITE[0]
        })?;
        ensure!(learned["after"][0] == "10.1.10.4", "{learned}");
        let cause = learned["cause"].as_str().unwrap_or_default();
        ensure!(
            cause.contains("UPDATE of rs1/") && cause.contains("sdwan"),
            "{learned}"
        );

        // The link dies under the session: traffic fails over first, and the log says so.
        world.firewalls[0].vm.link.down()?;
        let failover = told(waypost, "--kind failover", |event| {
            event["event"] == "next_hop_down" && event["next_hop"] == "via hub 10.1.20.4"
        })?;
        ensure!(failover["routes"].as_u64() >= Some(1), "{failover}");
        world.firewalls[0].vm.link.up()?;
        told(waypost, "--kind failover", |event| {
            event["event"] == "next_hop_up"
        })?;

        waypost.ask("peer shutdown fw ticket-4711")?;
        let down = told(waypost, "--kind session --peer fw", |event| {
            event["event"] == "down"
        })?;
        let cause = down["cause"].as_str().unwrap_or_default();
        ensure!(cause.contains("ticket-4711"), "{down}");
        let gone = told(waypost, "--kind route --peer fw", |event| {
            event["event"] == "withdrawn" && event["prefix"] == "0.0.0.0/0"
        })?;
        ensure!(gone["before"][0] == "10.1.20.4", "{gone}");
        waypost.ask("peer start fw")?;

        let metrics = metrics(waypost)?;
        for line in [
            "waypost_synchronised 1",
            r#"waypost_session_up{route_server="rs1",instance="1",peer="sdwan",address="10.1.10.4"} 1"#,
            r#"waypost_session_routes_limit_used{route_server="rs1",instance="1",peer="sdwan",address="10.1.10.4",family="ipv4_unicast"} 1.0"#,
            r#"waypost_learned_views{route_server="rs1"} 1"#,
        ] {
            ensure!(
                metrics.lines().any(|said| said == line),
                "{line}\nin\n{metrics}"
            );
        }

        running.waypost.reload(world.config()?)?;
        told(&running.waypost, "--kind reload", |event| {
            event["event"] == "applied" && event["count"].as_u64() >= Some(1)
        })?;

        running.waypost.ask("stop")?;
        running.waypost.process().wait(CONVERGENCE)?;
        running.waypost.start_again()?;
        let all = events(&running.waypost, "--kind daemon")?;
        let kinds: Vec<_> = all
            .iter()
            .filter_map(|event| event["event"].as_str())
            .collect();
        ensure!(kinds == ["started", "stopped", "started"], "{kinds:?}");
        let times: Vec<_> = all
            .iter()
            .filter_map(|event| event["time"].as_str())
            .collect();
        ensure!(times.is_sorted(), "{times:?}");
        println!(
            "{}",
            running
                .waypost
                .ask("events --kind session,limit,failover,daemon")?
        );
        Ok(())
    })
}

/// Waits until there is such an event.
fn told(waypost: &Waypost, filter: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    until(&format!("an event of {filter}"), CONVERGENCE, || {
        let events = events(waypost, filter)?;
        let found = events.iter().find(|event| wanted(event)).cloned();
        found.with_context(|| format!("{events:#?}"))
    })
}

fn events(waypost: &Waypost, filter: &str) -> Result<Vec<Value>> {
    let lines = waypost.ask(&format!("events --json {filter}"))?;
    let lines = lines.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

fn metrics(waypost: &Waypost) -> Result<String> {
    let mut stream = UnixStream::connect(&waypost.config().daemon.socket)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
