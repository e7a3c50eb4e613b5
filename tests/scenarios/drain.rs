//! The operator takes an appliance out of service and brings it back: drain, shut down, start,
//! undrain, under traffic; and starts over with a session.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Lab,
    daemon::{Bird, Daemon},
    lab::stream::{Echo, Stream},
    network::Cable,
    overview::{
        CONVERGENCE, DEFAULT, FIREWALL_ASN, INTERNET, Overview, Running, firewall_peer, instance,
        nva_speaker,
        paths::{FlowWatch, shares},
        prefixes_of,
    },
    scenario, until,
    waypost::{PATIENCE, Waypost},
};

const FLOWS: u16 = 32;

#[test]
fn traffic_leaves_a_drained_appliance_and_its_shutdown_loses_nothing() -> Result<()> {
    scenario(|lab| {
        let mut pair = Pair::start(lab)?;
        let waypost = &pair.running.waypost;
        let (from, to) = (pair.world.vm1.addresses[0], INTERNET[0].parse::<IpAddr>()?);
        let _echo = Echo::start(&pair.world.internet, to)?;
        let watch = FlowWatch::start(&pair.world)?;
        let probe = Stream::start(&pair.world.vm1.host, from, to, FLOWS, 1000)?;
        take(&probe, &watch, &["fw", "fw2"])?;
        probe.finish()?;

        let stream = Stream::start(&pair.world.vm1.host, from, to, FLOWS, 1000)?;
        take(&stream, &watch, &["fw", "fw2"])?;
        let said = waypost.ask("peer drain fw2")?;
        ensure!(said.lines().count() == 2, "{said}");
        take(&stream, &watch, &["fw"])?;
        until("BIRD is told", CONVERGENCE, || {
            let routes = pair.second.ask("show route 10.1.0.0/16 all")?;
            let tags = routes.matches("(65535,0)").count();
            ensure!(tags >= 2, "{routes}");
            Ok(())
        })?;
        for row in of_second(waypost)? {
            ensure!(row["drained"] == true, "{row}");
            ensure!(row["state"] == "Established", "{row}");
        }
        let learned = waypost.rows("learned --peer fw2 --prefix 0.0.0.0/0")?;
        let last_choice = |row: &Value| {
            let reason = row["reason"].as_str().unwrap_or_default();
            row["state"] == "lost" && reason.contains("GRACEFUL_SHUTDOWN")
        };
        ensure!(
            learned.len() == 2 && learned.iter().all(last_choice),
            "{learned:?}"
        );
        let received = waypost.rows("received --peer fw2 --prefix 0.0.0.0/0")?;
        let untouched = |row: &Value| row["communities"].as_array().is_some_and(Vec::is_empty);
        ensure!(
            received.len() == 2 && received.iter().all(untouched),
            "{received:?}"
        );

        waypost.ask("peer shutdown fw2 ticket-4711")?;
        told(&pair.second, "ticket-4711")?;
        stream.flows_on("one appliance is shut down")?;
        let config = waypost.config().clone();
        pair.running.waypost.reload(config)?;
        let waypost = &pair.running.waypost;
        for row in of_second(waypost)? {
            ensure!(row["state"] == "Idle", "{row}");
            ensure!(row["shutdown"] == "ticket-4711", "{row}");
        }
        take(&stream, &watch, &["fw"])?;

        waypost.ask("peer start fw2")?;
        waypost.established(&["fw", "fw2"])?;
        take(&stream, &watch, &["fw"])?;
        waypost.ask("peer undrain fw2")?;
        take(&stream, &watch, &["fw", "fw2"])?;
        let report = stream.finish()?;
        println!("{report}");
        report.nothing_lost()
    })
}

#[test]
fn a_session_is_cleared_and_comes_back() -> Result<()> {
    scenario(|lab| {
        let pair = Pair::start(lab)?;
        let waypost = &pair.running.waypost;
        let before = counts(waypost)?;
        waypost.ask("peer clear fw2 hard --instance 1 --text new-filters")?;
        until("the session is established once more", PATIENCE, || {
            let now = counts(waypost)?;
            let expected = BTreeMap::from([(1, before[&1] + 1), (2, before[&2])]);
            ensure!(now == expected, "{before:?}, now {now:?}");
            Ok(())
        })?;
        waypost.established(&["sdwan", "fw", "fw2"])?;
        let log = until("BIRD's log names the reason", PATIENCE, || {
            let log =
                std::fs::read_to_string(pair.world.firewalls[1].host().folder().join("bird.log"))?;
            ensure!(log.contains("new-filters"), "{log}");
            Ok(log)
        })?;
        ensure!(log.contains("dministrative reset"), "{log}");

        println!("{}", waypost.ask("show peer fw2 --instance 1")?);
        println!("{}", waypost.ask("show received --peer fw2")?);
        let shown = waypost.show("peer fw2 --instance 1")?;
        let shown = &shown[0];
        let announced = shown["terms"]["peer_capabilities"].as_array();
        let announced = announced.context("capabilities")?;
        ensure!(
            announced.iter().any(|one| one == "route refresh"),
            "{shown}"
        );
        ensure!(shown["updates_received"].as_u64() > Some(0), "{shown}");
        let before = counts(waypost)?;
        let updates = updates(waypost)?;
        let said = waypost.ask("peer clear fw2 soft")?;
        ensure!(
            said.matches("asked for its routes again").count() == 2,
            "{said}"
        );
        until("BIRD sends its routes again", PATIENCE, || {
            let now = self::updates(waypost)?;
            ensure!(now > updates, "{updates}, now {now}");
            Ok(())
        })?;
        ensure!(counts(waypost)? == before, "the sessions go on");
        let refused = waypost.ask("peer clear nobody hard");
        let refused = format!("{:#}", refused.err().context("there is no such peer")?);
        ensure!(refused.contains("there are: sdwan, fw, fw2"), "{refused}");
        Ok(())
    })
}

/// The overview with a second firewall, on which BIRD runs.
struct Pair {
    world: Overview,
    running: Running,
    second: Bird,
}

impl Pair {
    fn start(lab: &Lab) -> Result<Self> {
        let world = Overview::build(lab, 2, Cable::Straight)?;
        let mut config = world.config()?;
        config.peers().push(firewall_peer(&world.firewalls[1]));
        let running = world.start_with(config)?;
        let mut speaker = nva_speaker(&world.firewalls[1], FIREWALL_ASN)?;
        speaker.announce = prefixes_of(DEFAULT)?;
        let second = Bird::start(world.firewalls[1].host(), speaker)?;
        second.established(&[instance(1)?, instance(2)?], CONVERGENCE)?;
        running.waypost.established(&["sdwan", "fw", "fw2"])?;
        Ok(Self {
            world,
            running,
            second,
        })
    }
}

/// Waits until the flows take these firewalls and no others.
fn take(stream: &Stream, watch: &FlowWatch, firewalls: &[&str]) -> Result<()> {
    let expected = format!("flows take {firewalls:?} alone");
    until(&expected, CONVERGENCE, || {
        let since = stream.sent();
        until("ten rounds", CONVERGENCE, || {
            ensure!(stream.sent() > since + 10 * u64::from(FLOWS));
            Ok(())
        })?;
        let used = shares(&watch.stuck(since)?);
        ensure!(used.keys().eq(firewalls), "{used:?}");
        Ok(())
    })
}

/// The sessions of the second firewall.
fn of_second(waypost: &Waypost) -> Result<Vec<Value>> {
    let rows = waypost.rows("peers --peer fw2")?;
    ensure!(rows.len() == 2, "{rows:?}");
    Ok(rows)
}

/// How often each session of the second firewall has been established, by instance.
fn counts(waypost: &Waypost) -> Result<BTreeMap<u64, u64>> {
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    let rows = of_second(waypost)?.into_iter();
    Ok(rows
        .map(|row| (number(&row, "instance"), number(&row, "established_count")))
        .collect())
}

/// UPDATEs that the second firewall has sent to instance 1.
fn updates(waypost: &Waypost) -> Result<u64> {
    let shown = waypost.show("peer fw2 --instance 1")?;
    shown[0]["updates_received"].as_u64().context("a number")
}

/// Waits until BIRD shows this shutdown communication for both sessions (RFC 9003).
fn told(bird: &Bird, text: &str) -> Result<()> {
    until("BIRD shows the text", CONVERGENCE, || {
        let shown = bird.ask("show protocols all")?;
        ensure!(shown.matches(text).count() >= 2, "{shown}");
        ensure!(shown.contains("dministrative shutdown"), "{shown}");
        Ok(())
    })
}
