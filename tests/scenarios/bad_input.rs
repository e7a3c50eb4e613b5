//! What hostile or broken peers send: a clear message, and nobody else is touched.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{
    Lab,
    daemon::{
        Daemon,
        raw::{self, RawPeer},
    },
    network::Cable,
    overview::{CONVERGENCE, FIREWALL_ASN, Overview, Running, firewall_peer, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::PATIENCE,
};

const EVERYONE: [&str; 2] = ["sdwan", "fw"];

#[test]
fn garbage_on_port_179_is_answered_with_a_notification() -> Result<()> {
    scenario(|lab| {
        let Stage { world, running } = Stage::set(lab)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        for garbage in [
            vec![0; 19],
            b"GET / HTTP/1.1\r\nHost: waypost\r\n\r\n".to_vec(),
        ] {
            let mut peer = stranger(&world)?;
            peer.send(&garbage)?;
            ensure!(
                peer.notification()? == (1, 1),
                "connection not synchronised (RFC 4271 §6.1)"
            );
        }
        says(&running, "fw2", &["marker", "synchron"])?;
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_wrong_asn_is_refused_and_both_numbers_are_named() -> Result<()> {
    scenario(|lab| {
        let Stage { world, running } = Stage::set(lab)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let mut peer = stranger(&world)?;
        peer.send(&raw::open(65099, 180, "10.1.20.5".parse()?))?;
        ensure!(
            peer.notification()? == (2, 2),
            "bad peer AS (RFC 4271 §6.2)"
        );
        says(&running, "fw2", &["65099"])?;
        says(&running, "fw2", &["65020"])?;
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn an_unknown_peer_is_refused_at_accept() -> Result<()> {
    scenario(|lab| {
        let Stage { world, mut running } = Stage::set(lab)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let from = world.vm2.addresses[0];
        for number in [1, 2] {
            let mut peer = RawPeer::connect(&world.vm2.host, from, instance(number)?)?;
            ensure!(peer.closed_in_silence()?, "it was spoken to");
        }
        let log = running.waypost.process().log();
        ensure!(
            log.contains(&from.to_string()),
            "the log does not name {from}"
        );
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_truncated_update_ends_the_session_that_sent_it_and_no_other() -> Result<()> {
    scenario(|lab| {
        let Stage { world, running } = Stage::set(lab)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let own = "10.1.20.5".parse()?;
        let mut peer = stranger(&world)?;
        peer.establish(FIREWALL_ASN.try_into()?, own)?;
        let update = raw::update("10.77.0.0/16".parse()?, own, FIREWALL_ASN);
        peer.send(&raw::message(2, &update))?;
        learned(&running, "10.77.0.0/16", 1)?;

        // Its attributes claim more bytes than there are.
        let mut truncated = update.clone();
        truncated[2..4].copy_from_slice(&200_u16.to_be_bytes());
        peer.send(&raw::message(2, &truncated))?;
        ensure!(
            peer.notification()? == (3, 1),
            "malformed attribute list (RFC 4271 §6.3)"
        );
        learned(&running, "10.77.0.0/16", 0)?;
        says(&running, "fw2", &["attribute"])?;
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_malformed_attribute_withdraws_its_routes_and_keeps_the_session() -> Result<()> {
    scenario(|lab| {
        let Stage { world, running } = Stage::set(lab)?;
        let own = "10.1.20.5".parse()?;
        let mut peer = stranger(&world)?;
        peer.establish(FIREWALL_ASN.try_into()?, own)?;
        let good = raw::update("10.77.0.0/16".parse()?, own, FIREWALL_ASN);
        peer.send(&raw::message(2, &good))?;
        learned(&running, "10.77.0.0/16", 1)?;
        // ORIGIN 9 does not exist: treat-as-withdraw (RFC 7606 §7.1).
        let mut bad = good.clone();
        bad[7] = 9;
        peer.send(&raw::message(2, &bad))?;
        learned(&running, "10.77.0.0/16", 0)?;
        peer.send(&raw::message(2, &good))?;
        learned(&running, "10.77.0.0/16", 1)
    })
}

#[test]
fn a_full_table_is_reported_and_the_rest_stands() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        let enough = routes_v4(&world)? + 30;
        config
            .dataplane
            .insert("max_routes_v4".to_owned(), enough.into());
        let mut running = world.start_with(config)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let many: Vec<_> = (0..100)
            .map(|number| format!("10.250.{number}.0/24").parse())
            .collect::<Result<_, _>>()?;

        running.site.announce_all(&many)?;
        let message = until("show fib reports the full table", CONVERGENCE, || {
            let fib = running.waypost.show("fib")?;
            let errors = fib["errors"].to_string();
            ensure!(
                errors.contains("routes_v4") && errors.contains("full"),
                "errors: {errors}"
            );
            Ok(errors)
        })?;
        running
            .firewall
            .learns(many[99], instance(1)?, CONVERGENCE)?;

        running.site.withdraw_all(&many)?;
        running.site.announce("10.251.0.0/16".parse()?)?;
        running.waypost.programmed("10.251.0.0/16")?;
        until("the error is gone with its cause", CONVERGENCE, || {
            let fib = running.waypost.show("fib")?;
            ensure!(
                fib["errors"] == Value::Array(Vec::new()),
                "{}",
                fib["errors"]
            );
            Ok(())
        })?;
        println!("{message}\n{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

/// Entries that `routes_v4` holds while the overview is in operation.
fn routes_v4(world: &Overview) -> Result<i64> {
    let mut running = world.start()?;
    let fib = running.waypost.show("fib")?;
    let routes = fib["routes"].as_array().into_iter().flatten();
    let ipv4 = routes.filter(|route| route["prefix"].as_str().is_some_and(|p| p.contains('.')));
    let count = ipv4.count().try_into()?;
    running.waypost.ask("stop --flush")?;
    running.waypost.process().wait(PATIENCE)?;
    Ok(count)
}

/// The overview in operation, and `fw2`: a configured peer that runs no daemon, for bare bytes.
struct Stage {
    world: Overview,
    running: Running,
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let world = Overview::build(lab, 2, Cable::Straight)?;
        let mut config = world.config()?;
        let mut peer = firewall_peer(&world.firewalls[1]);
        peer.passive = true;
        config.peers().push(peer);
        let running = world.start_with(config)?;
        Ok(Self { world, running })
    }
}

fn stranger(world: &Overview) -> Result<RawPeer> {
    let firewall = &world.firewalls[1];
    RawPeer::connect(firewall.host(), firewall.vm.addresses[0], instance(1)?)
}

/// The peer's last error at instance 1 says one of these words.
fn says(running: &Running, peer: &str, words: &[&str]) -> Result<()> {
    until(
        &format!("last error of {peer} names one of {words:?}"),
        CONVERGENCE,
        || {
            let rows = running.waypost.rows("peers")?;
            let row = rows
                .iter()
                .find(|row| row["peer"] == peer && row["instance"] == 1);
            let error = row
                .map(|row| row["last_error"].to_string())
                .unwrap_or_default();
            let said = words.iter().any(|word| error.to_lowercase().contains(word));
            ensure!(said, "{error}");
            Ok(())
        },
    )
}

fn learned(running: &Running, prefix: &str, paths: usize) -> Result<()> {
    let own: IpAddr = "10.1.20.5".parse()?;
    until(
        &format!("{paths} paths to {prefix} by {own}"),
        CONVERGENCE,
        || {
            let rows = running.waypost.rows("learned")?;
            let found = rows
                .iter()
                .filter(|row| row["prefix"] == prefix && row["next_hop"] == own.to_string())
                .count();
            ensure!(found == paths, "{found} paths");
            Ok(())
        },
    )
}
