//! A peer or a prefix comes and goes by `waypost reload` while traffic flows: no loss, no session
//! reset for the others.

use anyhow::{Result, ensure};
use tests::{
    daemon::Daemon,
    network::Cable,
    overview::{CONVERGENCE, Overview, firewall_peer, instance},
    scenario,
    undisturbed::Undisturbed,
    until,
};

const EVERYONE: [&str; 2] = ["sdwan", "fw"];

#[test]
fn a_peer_comes_and_goes_and_nobody_else_notices() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 2, Cable::Straight)?;
        let mut running = world.start()?;
        let second = world.start_firewall(1)?;
        let instances = [instance(1)?, instance(2)?];
        let without = running.waypost.config().clone();
        let mut with = without.clone();
        with.peers().push(firewall_peer(&world.firewalls[1]));

        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        running.waypost.reload(with)?;
        second.established(&instances, CONVERGENCE)?;
        second.learns("10.1.0.0/16".parse()?, instances[0], CONVERGENCE)?;
        until("the new peer's route is learned", CONVERGENCE, || {
            let rows = running.waypost.rows("learned")?;
            let from = rows.iter().filter(|row| row["peer"] == "fw2").count();
            ensure!(from == 4, "{from} paths");
            Ok(())
        })?;

        running.waypost.reload(without)?;
        until("the removed peer is told", CONVERGENCE, || {
            let sessions = second.sessions()?;
            let up = sessions.values().any(|state| state == "established");
            ensure!(!up, "{sessions:?}");
            Ok(())
        })?;
        let rows = running.waypost.rows("peers")?;
        ensure!(
            rows.iter().all(|row| row["peer"] != "fw2"),
            "it is still shown"
        );
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_prefix_of_the_network_comes_and_goes_and_every_appliance_is_told() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let without = running.waypost.config().clone();
        let mut with = without.clone();
        let added = ["10.3.0.0/16", "fd00:3::/48"];
        for (prefix, subnet) in added.into_iter().zip(["10.3.1.0/24", "fd00:3:0:1::/64"]) {
            with.network().prefixes.push(prefix.parse()?);
            with.network().subnet[1].prefixes.push(subnet.parse()?);
        }

        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        running.waypost.reload(with)?;
        for prefix in added {
            for number in [1, 2] {
                let daemons: [&dyn Daemon; 2] = [&running.sdwan, &running.firewall];
                for daemon in daemons {
                    let route = daemon.learns(prefix.parse()?, instance(number)?, CONVERGENCE)?;
                    ensure!(route.as_path == "65515", "{route}");
                }
            }
        }
        running.waypost.reload(without)?;
        for prefix in added {
            running
                .sdwan
                .loses(prefix.parse()?, instance(1)?, CONVERGENCE)?;
            running
                .firewall
                .loses(prefix.parse()?, instance(2)?, CONVERGENCE)?;
        }
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_configuration_with_a_fault_changes_nothing() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = world.start()?;
        let before = running.waypost.config().clone();
        let mut wrong = before.clone();
        wrong.peers()[0].asn = 23456;
        wrong.network().prefixes.push("10.1.128.0/17".parse()?);

        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let refused = match running.waypost.reload(wrong) {
            Ok(answer) => anyhow::bail!("it was accepted: {answer}"),
            Err(refused) => format!("{refused:#}"),
        };
        for part in ["waypost.toml:", "23456", "10.1.128.0/17"] {
            ensure!(refused.contains(part), "no {part} in: {refused}");
        }
        println!("{refused}\n{}", others.prove(&running.waypost)?);
        Ok(())
    })
}
