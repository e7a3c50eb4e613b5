//! Faults of the gateway host: a clear message that says what to do, and what runs already is not
//! touched.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};
use tests::{
    lab::isolation::mount,
    network::Cable,
    overview::{CONVERGENCE, OFFICE, Overview, paths::Watch},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::{Config, PATIENCE, Waypost},
};

const EVERYONE: [&str; 2] = ["sdwan", "fw"];

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let mut second = world.config()?;
        second.daemon.socket = PathBuf::from("/run/waypost/second.sock");
        second.route_server.clear();
        let said = Waypost::refuses(&world.gw, &second, &[])?;
        ensure!(said.contains("/sys/fs/bpf/waypost/default"), "{said}");
        println!("{said}{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let said = Waypost::refuses(&world.gw, running.waypost.config(), &[])?;
        println!("{said}{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

#[test]
fn without_bpffs_it_says_how_to_mount_one() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        mount("tmpfs", "/sys/fs/bpf", Some("tmpfs"), 0)?;
        let said = Waypost::refuses(&world.gw, &world.config()?, &[])?;
        ensure!(
            said.contains("bpffs") && said.contains("mount -t bpf"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn each_missing_capability_is_named() -> Result<()> {
    /// CAP_SYS_ADMIN stands in for two of them.
    const SYS_ADMIN: libc::c_ulong = 21;
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let needed = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
        for (name, number) in needed {
            let said = Waypost::refuses(&world.gw, &world.config()?, &[number, SYS_ADMIN])?;
            ensure!(said.contains(name), "{name} is not named: {said}");
            for (other, _) in needed.iter().filter(|(other, _)| *other != name) {
                let missing = said.contains(&format!("{other} is missing"));
                ensure!(!missing, "{other} is not missing: {said}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_missing_interface_is_named_with_file_and_line() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let mut config = world.config()?;
        config.network().subnet[1].port[0].interface = "vm9".to_owned();
        let said = Waypost::refuses(&world.gw, &config, &[])?;
        ensure!(
            said.contains("refused.toml:") && said.contains("vm9"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn kernel_forwarding_at_a_port_is_switched_off_and_said() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        world.gw.forward(true)?;
        let mut running = world.start()?;
        let log = running.waypost.process().log();
        let told = log
            .lines()
            .any(|line| line.contains("forwarding") && line.contains("sdwan"));
        ensure!(
            told,
            "the log does not say that forwarding was switched off at sdwan"
        );
        for (family, port) in [
            ("ipv4", "vm1"),
            ("ipv6", "vm1"),
            ("ipv4", "sdwan"),
            ("ipv6", "fw"),
        ] {
            let path = format!("/proc/sys/net/{family}/conf/{port}/forwarding");
            let state = world.gw.inside(|| fs::read_to_string(&path))?;
            ensure!(state.trim() == "0", "{path}: {state}");
        }
        let watch = Watch::start(&world)?;
        for to in OFFICE {
            watch.leads(&world.vm1, to.parse()?, &["sdwan", "office"], true)?;
        }
        Ok(())
    })
}

#[test]
fn an_interface_that_vanishes_and_returns_is_a_port_again() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let running = world.start()?;
        world.vm2.host.reaches(OFFICE[0].parse()?)?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        for _ in 0..2 {
            world.vm2.link.delete()?;
            until("show fib knows that the port is gone", CONVERGENCE, || {
                let fib = running.waypost.show("fib")?;
                let ports = fib["ports"].as_array().into_iter().flatten();
                let attached: Vec<_> = ports
                    .filter(|port| port["interface"] == "vm2")
                    .map(|port| port["attached"].clone())
                    .collect();
                ensure!(attached.iter().all(|how| how != "native"), "{attached:?}");
                Ok(())
            })?;
            world.vm2.link.create()?;
            world.vm2.configure_gateway_side()?;
            world.vm2.configure_machine_side()?;
            until("vm2 reaches the office again", CONVERGENCE, || {
                world.vm2.host.reaches(OFFICE[0].parse()?)?;
                world.vm2.host.reaches(OFFICE[1].parse()?)
            })?;
        }
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}

/// A bridge has no native XDP.
#[test]
fn a_port_without_native_xdp_works_in_generic_mode_with_a_warning_or_is_refused() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        // vm2's interface becomes a member of a bridge, which takes its name.
        let address = world.gw.mac("vm2")?;
        for line in [
            "ip link set vm2 down",
            "ip link set vm2 name vm2-wire",
            "ip link add vm2 type bridge mcast_snooping 0",
            "ip link set vm2-wire master vm2",
            &format!("ip link set vm2 address {address}"),
            "ip link set vm2-wire up",
            "ip link set vm2 up",
        ] {
            world.gw.run(line)?;
        }
        world.vm2.configure_gateway_side()?;

        let mut strict: Config = world.config()?;
        strict
            .dataplane
            .insert("require_native".to_owned(), true.into());
        let said = Waypost::refuses(&world.gw, &strict, &[])?;
        ensure!(said.contains("vm2") && said.contains("native"), "{said}");

        let mut running = world.start()?;
        let others = Undisturbed::watch(&world, &running.waypost, &EVERYONE)?;
        let log = running.waypost.process().log();
        let warned = log
            .lines()
            .any(|line| line.contains("WARN") && line.contains("vm2") && line.contains("generic"));
        ensure!(warned, "the log does not warn that vm2 is generic");
        let fib = running.waypost.show("fib")?;
        let ports = fib["ports"].as_array().into_iter().flatten();
        for port in ports {
            let expected = if port["interface"] == "vm2" {
                "generic"
            } else {
                "native"
            };
            ensure!(port["attached"] == expected, "{port}");
        }
        let watch = Watch::start(&world)?;
        let (seen, expected) = (["sdwan", "office"], "packets of vm2 arrive at the office");
        until(expected, PATIENCE, || {
            let path = watch.path(&world.vm2, OFFICE[0].parse()?)?;
            ensure!(path.through == seen, "{path}");
            Ok(())
        })?;
        println!("{}", others.prove(&running.waypost)?);
        Ok(())
    })
}
