//! The story of the overview: what `cargo xtask demo` tells and the scenario `overview` demands.
//! Each statement rests on what a packet or a BGP daemon showed.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{
    CONVERGENCE, DEFAULT, INTERNET, NETWORK, OFFICE, Overview, Running, SITE, addresses_of,
    changes, hub, instance, narrator::Narrator, route_server,
};
use crate::{
    daemon::{Daemon, Frr},
    lab::{Capture, Host, Packet, packet::protocol, traceroute, transfer::transfer},
    network::{Nva, UPLINK},
    topology::{Subnet, trace::Trace, truth},
    waypost::{Waypost, pins},
};

/// TCP port of BGP.
const BGP: u16 = 179;

/// Bytes of each TCP transfer.
const TRANSFER: u64 = 256 << 20;

/// Tells the whole story; returns the daemons, which run on.
///
/// # Errors
/// The stage cannot be set: Waypost or a daemon does not start. What does not hold after that is
/// the narrator's to tell.
pub fn tell(world: &Overview, narrator: &mut Narrator) -> Result<(Running, Vec<Frr>)> {
    let instances = to_instances(world)?;
    let mut running = Running {
        waypost: Waypost::start(&world.gw, world.config()?)?,
        site: world.start_site()?,
        sdwan: world.start_sdwan()?,
        firewall: world.start_firewall(0)?,
    };
    let trace = Trace::over(&world.points())?;
    control_plane(world, narrator, &running);
    packets(world, narrator, &running, &trace);
    changes::instance_away(world, narrator, &running);
    changes::route_changes(world, narrator, &mut running, &trace);
    let more = changes::several_firewalls(world, narrator, &mut running);
    changes::firewall_dies(world, narrator);
    look_inside(world, narrator, &running);
    not_in_the_path(narrator, &instances);
    Ok((running, more))
}

fn prefixes([ipv4, ipv6]: [&str; 2]) -> Result<[IpNet; 2]> {
    Ok([ipv4.parse()?, ipv6.parse()?])
}

fn control_plane(world: &Overview, narrator: &mut Narrator, running: &Running) {
    narrator.step(
        "XDP at every port",
        "the kernel shows a native XDP program at each of the gateway host's ports",
        || {
            let ports = ["vm1", "vm2", "sdwan", "fw"];
            let mut seen = Vec::new();
            for port in ports {
                let text = world.gw.run(&format!("ip -json link show dev {port}"))?;
                let links: Value = serde_json::from_str(&text)?;
                let xdp = &links[0]["xdp"];
                // XDP_ATTACHED_DRV of <linux/if_link.h>.
                ensure!(xdp["mode"] == 1, "{port}: {xdp}");
                seen.push(format!("{port}: program {}", xdp["prog"]["id"]));
            }
            Ok(format!("ip link: {}", seen.join(", ")))
        },
    );
    narrator.step(
        "Sessions of both appliances with both instances",
        "BIRD on the SD-WAN and FRR on the firewall each say Established twice",
        || {
            let instances = [instance(1)?, instance(2)?];
            let daemons: [&dyn Daemon; 2] = [&running.sdwan, &running.firewall];
            let mut seen = Vec::new();
            for daemon in daemons {
                daemon.established(&instances, CONVERGENCE)?;
                seen.push(format!("{}: {:?}", daemon.title(), daemon.sessions()?));
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "What the appliances and the site's router learned",
        "both appliances: 10.1.0.0/16 and fd00:1::/48 from each instance, and what the other one \
         announces,\nby its next hop, nothing else; the site's router: the network and the default \
         routes, passed on by the SD-WAN",
        || {
            let server = route_server()?;
            let (network, site) = (prefixes(NETWORK)?, prefixes(SITE)?);
            let default = prefixes(DEFAULT)?;
            let (sdwan, firewall) = (&world.sdwan.vm, &world.firewalls[0].vm);
            let own = [(network, "65515")];
            let to_sdwan = [(default, "65515 65020", firewall.addresses)];
            let to_firewall = [(site, "65515 65010 65011", sdwan.addresses)];
            let mut seen = vec![
                truth::exactly_of(&running.sdwan, &server, &own, &to_sdwan)?,
                truth::exactly_of(&running.firewall, &server, &own, &to_firewall)?,
            ];
            // Each family's routes come by the session of that family: no other's next hop is on
            // the link.
            let ends = addresses_of(["10.250.255.1", "fd00:250:0:ff::1"])?;
            for (family, from) in ends.into_iter().enumerate() {
                let wanted = [(network, "65010 65515"), (default, "65010 65515 65020")];
                let wanted = wanted.map(|(prefixes, path)| (prefixes[family], path, from));
                seen.push(truth::exactly(&running.site, from, &wanted)?);
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "Effective routes of subnets apps and data",
        "the site by the SD-WAN (10.1.10.4), everything else by the firewall (10.1.20.4); packets \
         will tell",
        || {
            let mut seen = Vec::new();
            let wanted = [
                (SITE, world.sdwan.vm.addresses),
                (DEFAULT, world.firewalls[0].vm.addresses),
            ];
            for (number, name) in [(1, "apps"), (2, "data")] {
                let subnet = Subnet {
                    network: hub(),
                    name: name.to_owned(),
                    number,
                };
                for (texts, hops) in wanted {
                    let waypost = &running.waypost;
                    seen.push(truth::effective(
                        waypost,
                        &subnet,
                        prefixes(texts)?,
                        &[hops],
                    )?);
                }
            }
            let table = running.waypost.ask("show effective --subnet apps")?;
            let used = table.lines().filter(|line| !line.contains(" Invalid "));
            seen.extend(used.map(str::to_owned));
            Ok(seen.join("\n"))
        },
    );
}

/// Packets that come to the gateway host for an instance.
fn to_instances(world: &Overview) -> Result<Capture> {
    let server = route_server()?;
    let mut ports = vec![&world.vm1.host, &world.vm2.host, world.sdwan.host()];
    ports.extend(world.firewalls.iter().map(Nva::host));
    let ports: Vec<&str> = ports.into_iter().map(Host::name).collect();
    Capture::of(&world.gw, &ports, move |packet| {
        let instances = server.instances.as_flattened();
        !packet.outgoing && instances.contains(&packet.destination)
    })
}

fn not_in_the_path(narrator: &mut Narrator, instances: &Capture) {
    narrator.step(
        "The route server was not in the path",
        "of all that came to its four addresses during the story nothing was but BGP and ICMP",
        || {
            let control = |packet: &Packet| match packet.protocol {
                protocol::TCP => {
                    let ports = packet.ports();
                    ports.is_some_and(|(from, to)| from == BGP || to == BGP)
                }
                other => [protocol::ICMP, protocol::ICMPV6].contains(&other),
            };
            let all = instances.packets();
            let (control, other): (Vec<_>, Vec<_>) = all.iter().partition(|one| control(one));
            let bgp = control.iter().filter(|one| one.protocol == protocol::TCP);
            let bgp = bgp.count();
            ensure!(bgp > 0, "not even BGP was seen");
            ensure!(other.is_empty(), "{} others: {:?}", other.len(), other[0]);
            Ok(format!(
                "{bgp} of BGP, {} of ICMP, no other",
                control.len() - bgp
            ))
        },
    );
}

fn packets(world: &Overview, narrator: &mut Narrator, running: &Running, trace: &Trace) {
    let ways = [
        (
            "A virtual machine reaches the site through the SD-WAN",
            "pings of vm1 and vm2 to the office come in at the SD-WAN, the site's router and the office, \
             nowhere\nelse, and the answers the same way back",
            OFFICE,
            (&world.office, &["sdwan", "site"][..]),
        ),
        (
            "A virtual machine reaches the Internet through the firewall",
            "pings of vm1 and vm2 come in at the firewall and the Internet host, nowhere else, and the \
             answers\nthe same way back",
            INTERNET,
            (&world.internet, &["fw"][..]),
        ),
    ];
    for (title, expected, to, (host, through)) in ways {
        narrator.step(title, expected, || {
            let mut seen = Vec::new();
            for (vm, to) in [&world.vm1, &world.vm2]
                .into_iter()
                .flat_map(|vm| to.map(|to| (vm, to)))
            {
                let path = trace.symmetric(&vm.host, (host, to.parse()?), through)?;
                seen.push(format!("{} → {to}: {path}", vm.host));
            }
            Ok(seen.join("\n"))
        });
    }
    narrator.step(
        "Virtual machines reach each other directly",
        "pings of vm1 to vm2 and their answers are seen at no other machine",
        || {
            let mut seen = Vec::new();
            for to in world.vm2.addresses {
                let path = trace.symmetric(&world.vm1.host, (&world.vm2.host, to), &[])?;
                seen.push(format!("{to}: {path}"));
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "A TCP transfer from vm1 through each appliance",
        "every byte arrives as it was sent, over IPv4 and IPv6",
        || {
            let mut seen = Vec::new();
            let ends = [(&world.office, OFFICE), (&world.internet, INTERNET)];
            for (host, addresses) in ends {
                for to in addresses {
                    let moved = transfer(&world.vm1.host, host, to.parse()?, TRANSFER)?;
                    seen.push(format!("to {to} on {host}: {moved}"));
                }
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "traceroute from vm1 to the office",
        "the gateway (an answer made in XDP), the SD-WAN, the site's router, the office",
        || {
            let mut seen = Vec::new();
            let ways = [
                ["10.1.1.1", "10.1.10.4", "10.250.255.2", "10.250.0.10"],
                [
                    "fd00:1:0:1::1",
                    "fd00:1:0:a::4",
                    "fd00:250:0:ff::2",
                    "fd00:250::10",
                ],
            ];
            for way in ways {
                let to: IpAddr = way[3].parse()?;
                let hops = world.vm1.host.traceroute(to)?;
                let text = traceroute::as_text(&hops);
                ensure!(text == way.join(" → "), "{text}");
                seen.push(text);
            }
            Ok(seen.join("\n"))
        },
    );
    narrator.step(
        "waypost explain says the same",
        "asked where vm1's packets to the office go, it names the SD-WAN's port",
        || {
            let answer = running.waypost.explain("--subnet apps --to 10.250.0.10")?;
            let port = &answer["next_hops"][0]["port"];
            ensure!(port == "sdwan", "port {port}: {answer}");
            let story = answer["story"].as_array().into_iter().flatten();
            let lines: Vec<&str> = story.filter_map(Value::as_str).collect();
            Ok(lines.join("\n"))
        },
    );
}

fn look_inside(world: &Overview, narrator: &mut Narrator, running: &Running) {
    narrator.step(
        "bpftool reads the same maps",
        "the entry for 10.250.0.0/16 in routes_v4, with named fields",
        || {
            let all = pins(Path::new("/sys/fs/bpf/waypost"))?;
            let map = all
                .iter()
                .find(|path| path.ends_with("routes_v4"))
                .with_context(|| format!("no routes_v4 among {all:?}"))?;
            let command = format!("bpftool map dump pinned {}", map.display());
            let text = world.gw.run(&command)?;
            let entries: Vec<Value> = serde_json::from_str(&text).context("no list of entries")?;
            // 16 bits of prefix and 32 of the table's number.
            let ours = entries.iter().find(|entry| {
                let text = entry["key"].to_string().replace(char::is_whitespace, "");
                text.contains("[10,250,0,0]") && text.contains(":48")
            });
            let entry = ours.with_context(|| format!("no 10.250.0.0/16 in {text}"))?;
            for field in ["group", "prefix_len", "precedence", "flags"] {
                ensure!(
                    entry["value"].get(field).is_some(),
                    "no field {field}: {entry}"
                );
            }
            Ok(format!("$ {command}\n{entry}\n… {} entries", entries.len()))
        },
    );
    narrator.step(
        "A forged source is dropped and counted",
        "a ping of vm1 from an address that is not its own goes nowhere; vm1's port counts it as \
         source_check",
        || {
            let before = running.waypost.counted("vm1", "source_check")?;
            world
                .vm1
                .host
                .run(&format!("ip address add 10.1.1.99/32 dev {UPLINK}"))?;
            let output = world
                .vm1
                .host
                .output("ping -n -c 3 -i 0.02 -W 1 -I 10.1.1.99 198.51.100.10")?;
            world
                .vm1
                .host
                .run(&format!("ip address del 10.1.1.99/32 dev {UPLINK}"))?;
            ensure!(!output.status.success(), "it was answered");
            let after = running.waypost.counted("vm1", "source_check")?;
            ensure!(after >= before + 3, "{before} before, {after} after");
            Ok(format!("no reply; source_check {before} → {after}"))
        },
    );
    narrator.step(
        "Counters",
        "what was received at the ports, and what was not forwarded and why",
        || {
            let counters = running.waypost.show("counters")?;
            let mut seen = Vec::new();
            for port in counters["ports"].as_array().into_iter().flatten() {
                let name = port["interface"].as_str().unwrap_or_default();
                let packets = port["rx_packets"].as_u64().unwrap_or_default();
                ensure!(packets > 0, "no packet was received at {name}: {port}");
                seen.push(format!(
                    "{name:6} {packets:>9} packets in; {}",
                    port["reasons"]
                ));
            }
            ensure!(seen.len() >= 4, "ports are missing: {counters}");
            fs::write(
                world.gw.folder().join("counters.json"),
                counters.to_string(),
            )?;
            Ok(seen.join("\n"))
        },
    );
}
