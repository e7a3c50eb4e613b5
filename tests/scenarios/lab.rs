//! The lab proves itself: real daemons and packets between hosts, a Linux router in Waypost's
//! place, and nothing left behind.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use tests::{
    Lab,
    daemon::{Bird, Daemon, ExaBgp, Frr, GoBgp, Neighbor, OpenBgpd, Options, Speaker, raw},
    lab::{
        Capture, Host, Link, Process,
        stream::{Echo, Stream},
        traceroute,
        transfer::transfer,
    },
    network::Cable,
    overview::{
        DEFAULT, FIREWALL_ASN, INSTANCES, INTERNET, NETWORK, OFFICE, Overview, ROUTE_SERVER_ASN,
        SDWAN_ASN, SITE, instance, paths::Watch, prefixes_of, site_link_addresses,
    },
    scenario, until,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn machines_reach_each_other_through_a_linux_router() -> Result<()> {
    scenario(|lab| {
        let [left, router, right] = routed(lab)?;
        for (from, to) in [("10.0.1.2", "10.0.2.2"), ("fd00:0:0:1::2", "fd00:0:0:2::2")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse()?, to.parse()?);
            let capture = Capture::on(&right, &["eth0"])?;
            let ping = left.ping(to, 3, 4711)?;
            ensure!(ping.complete(), "{ping}");
            let request = capture.wait_for("the echo request", LIMIT, |packet| {
                packet
                    .echo()
                    .is_some_and(|echo| echo.request && echo.id == 4711)
            })?;
            assert_eq!((request.source, request.destination), (from, to));
            assert_eq!(request.source_mac, router.mac("right")?);
            assert_eq!(request.hop_limit, 63);

            let hops = left.traceroute(to)?;
            assert_eq!(hops.len(), 2, "{}", traceroute::as_text(&hops));
            assert_eq!(hops[1], Some(to));

            let moved = transfer(&left, &right, to, 8 << 20)?;
            assert_eq!(moved.bytes, 8 << 20);
        }
        Ok(())
    })
}

/// Topology 1 with a BIRD and Linux forwarding in Waypost's place: what the demo and the scenarios
/// build and look at works by itself.
#[test]
fn the_overview_stands_without_waypost() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 3, Cable::Switched)?;
        world.gw.forward(true)?;
        for (site, via) in SITE.into_iter().zip(world.sdwan.vm.addresses) {
            world.gw.route(site.parse()?, via, "sdwan")?;
        }
        for (any, via) in DEFAULT.into_iter().zip(world.firewalls[0].vm.addresses) {
            world.gw.route(any.parse()?, via, "fw")?;
        }
        let mut neighbors = Vec::new();
        for (nva, asn) in [
            (&world.sdwan, SDWAN_ASN),
            (&world.firewalls[0], FIREWALL_ASN),
        ] {
            neighbors.push(Neighbor {
                address: nva.vm.addresses[0],
                local: instance(1)?,
                asn,
                passive: false,
                multihop: true,
                plain: false,
            });
        }
        let stand_in = Speaker {
            asn: ROUTE_SERVER_ASN,
            router_id: "10.1.255.4".parse()?,
            addresses: vec![instance(1)?, INSTANCES[0][1].parse()?],
            neighbors,
            announce: prefixes_of(NETWORK)?,
            underlay: Vec::new(),
            install: false,
            options: Options::default(),
        };
        let _route_server = Bird::start(&world.gw, stand_in)?;
        let sdwan = world.start_sdwan()?;
        let site = world.start_site()?;
        let firewall = world.start_firewall(0)?;
        for prefix in NETWORK {
            sdwan.learns(prefix.parse()?, instance(1)?, LIMIT)?;
            firewall.learns(prefix.parse()?, instance(1)?, LIMIT)?;
        }
        for (prefix, from) in NETWORK.into_iter().zip(site_link_addresses(0)?) {
            let route = site.learns(prefix.parse()?, from, LIMIT)?;
            assert_eq!(route.as_path, "65010 65515");
        }
        let watch = Watch::start(&world)?;
        for vm in [&world.vm1, &world.vm2] {
            for to in OFFICE {
                watch.leads(vm, to.parse()?, &["sdwan", "office"], true)?;
            }
            for to in INTERNET {
                watch.leads(vm, to.parse()?, &["fw", "internet"], true)?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_stream_counts_what_a_broken_link_loses() -> Result<()> {
    scenario(|lab| {
        let [left, router, right] = routed(lab)?;
        let (from, to): (IpAddr, IpAddr) = ("10.0.1.2".parse()?, "10.0.2.2".parse()?);
        let echo = Echo::start(&right, to)?;
        let stream = Stream::start(&left, from, to, 8, 1000)?;
        stream.flows_on("the stream goes on")?;
        let report = stream.finish()?;
        report.nothing_lost()?;
        assert_eq!(echo.arrived() as u64, report.sent);

        let stream = Stream::start(&left, from, to, 8, 1000)?;
        router.forward(false)?;
        let stopped_at = stream.sent();
        until("200 datagrams meet the closed router", LIMIT, || {
            ensure!(stream.sent() > stopped_at + 200, "{}", stream.sent());
            Ok(())
        })?;
        router.forward(true)?;
        stream.flows_on("the stream flows again")?;
        let report = stream.finish()?;
        ensure!(report.lost.len() >= 150, "{report}");
        ensure!(
            report.longest_outage() >= Duration::from_millis(150),
            "{report}"
        );
        assert_eq!(report.lost_by_flow().len(), 8);
        Ok(())
    })
}

#[test]
fn a_machine_behind_a_switch_dies_without_taking_the_carrier() -> Result<()> {
    scenario(|lab| {
        let (left, right) = (lab.host("left")?, lab.host("right")?);
        let [_, cable] = Link::through_switch(lab, (&left, "wire"), (&right, "eth0"))?;
        left.address("wire", "10.0.0.1/24".parse()?)?;
        right.address("eth0", "10.0.0.2/24".parse()?)?;
        left.reaches("10.0.0.2".parse()?)?;
        cable.down()?;
        let state = left.run("ip link show dev wire")?;
        ensure!(state.contains("LOWER_UP"), "{state}");
        assert_eq!(left.ping("10.0.0.2".parse()?, 1, 1)?.received, 0);
        Ok(())
    })
}

#[test]
fn a_process_is_killed_with_its_children() -> Result<()> {
    scenario(|lab| {
        let host = lab.host("host")?;
        for leader_ends in [false, true] {
            let last = if leader_ends { "exit" } else { "wait" };
            let mut command = host.command("sh");
            command.args(["-c", &format!("sleep 600 & echo child $!; {last}")]);
            let mut process = host.spawn(last, command)?;
            let child = until("it has a child", LIMIT, || {
                let log = process.log();
                let child = log.trim().strip_prefix("child ").context("not yet")?;
                Ok(PathBuf::from("/proc").join(child))
            })?;
            if leader_ends {
                process.wait(LIMIT)?;
            } else {
                ensure!(child.exists(), "{} is not there", child.display());
                process.kill()?;
            }
            ensure!(!child.exists(), "{} is left", child.display());
        }
        Ok(())
    })
}

#[test]
fn two_birds_exchange_routes() -> Result<()> {
    scenario(|lab| {
        daemons_exchange_routes(lab, &BOTH, |host, speaker| {
            Ok(Box::new(Bird::start(host, speaker)?))
        })
    })
}

#[test]
fn bird_and_frr_exchange_routes() -> Result<()> {
    scenario(|lab| {
        daemons_exchange_routes(lab, &BOTH, |host, speaker| {
            Ok(Box::new(Frr::start(host, speaker)?))
        })
    })
}

#[test]
fn bird_and_gobgp_exchange_routes() -> Result<()> {
    scenario(|lab| {
        daemons_exchange_routes(lab, &BOTH, |host, speaker| {
            Ok(Box::new(GoBgp::start(host, speaker)?))
        })
    })
}

#[test]
fn bird_and_openbgpd_exchange_routes() -> Result<()> {
    scenario(|lab| {
        daemons_exchange_routes(lab, &OWN, |host, speaker| {
            Ok(Box::new(OpenBgpd::start(host, &speaker)?))
        })
    })
}

#[test]
fn bird_and_exabgp_exchange_routes() -> Result<()> {
    scenario(|lab| {
        daemons_exchange_routes(lab, &BOTH, |host, speaker| {
            Ok(Box::new(ExaBgp::start(host, speaker)?))
        })
    })
}

#[test]
fn the_speaker_of_bare_bytes_holds_a_session_with_bird_and_is_told_its_faults() -> Result<()> {
    scenario(|lab| {
        let (left, right) = joined(lab)?;
        let bird = Bird::start(&left, speaker(0, vec![neighbor(0, 1, true, false)])?)?;
        let [from, to]: [IpAddr; 2] = ["10.0.0.2".parse()?, "10.0.0.1".parse()?];
        let mut peer = raw::RawPeer::connect(&right, from, to)?;
        peer.establish(65002, "10.0.0.2".parse()?)?;
        let body = raw::update("10.99.0.0/16".parse()?, "10.0.0.2".parse()?, 65002);
        peer.send(&raw::message(2, &body))?;
        let route = bird.learns("10.99.0.0/16".parse()?, from, LIMIT)?;
        assert_eq!(route.as_path, "65002");
        peer.send(&raw::message(9, &[]))?;
        assert_eq!(peer.notification()?, (1, 3), "bad message type");
        Ok(())
    })
}

/// A session carries both families.
const BOTH: [&[usize]; 2] = [&[0, 1], &[0, 1]];
/// OpenBGPD 7.7 announces over a session only the family that the session itself runs over.
const OWN: [&[usize]; 2] = [&[0], &[1]];

/// The second daemon waits, BIRD connects; then the other way round. Both families travel both
/// ways, over IPv4 and over IPv6; a withdrawn prefix goes and comes back.
fn daemons_exchange_routes(
    lab: &Lab,
    families: &[&[usize]; 2],
    start: impl Fn(&Host, Speaker) -> Result<Box<dyn Daemon>>,
) -> Result<()> {
    let (left, right) = joined(lab)?;
    for (family, passive) in [(0, false), (1, true)] {
        let bird = speaker(0, vec![neighbor(0, 1, !passive, family == 1)])?;
        let other = speaker(1, vec![neighbor(1, 0, passive, family == 1)])?;
        let (bird_at, other_at) = (bird.addresses[family], other.addresses[family]);
        let bird = Bird::start(&left, bird)?;
        let mut other = start(&right, other)?;
        bird.established(&[other_at], LIMIT)?;
        other.established(&[bird_at], LIMIT)?;
        for prefix in ["10.101.0.0/16", "fd00:101::/48"] {
            let route = other.learns(prefix.parse()?, bird_at, LIMIT)?;
            assert_eq!(route.as_path, "65001", "{route}");
        }
        let announced: [IpNet; 2] = ["10.102.0.0/16".parse()?, "fd00:102::/48".parse()?];
        for prefix in families[family].iter().map(|family| announced[*family]) {
            let route = bird.learns(prefix, other_at, LIMIT)?;
            assert_eq!(route.as_path, "65002", "{route}");
            let own = ["10.0.0.2".parse()?, "fd00::2".parse()?];
            assert!(own.contains(&route.next_hop), "{route}");
        }
        other.withdraw(announced[family])?;
        bird.loses(announced[family], other_at, LIMIT)?;
        other.announce(announced[family])?;
        bird.learns(announced[family], other_at, LIMIT)?;
        ensure!(alive(other.process())?, "{} has ended", other.title());
    }
    Ok(())
}

fn alive(process: &mut Process) -> Result<bool> {
    Ok(process.ended()?.is_none())
}

const ADDRESSES: [[&str; 2]; 2] = [["10.0.0.1", "fd00::1"], ["10.0.0.2", "fd00::2"]];

fn joined(lab: &Lab) -> Result<(Host, Host)> {
    let (left, right) = (lab.host("left")?, lab.host("right")?);
    Link::new((&left, "eth0"), (&right, "eth0"))?;
    for (host, addresses) in [&left, &right].into_iter().zip(ADDRESSES) {
        host.address("eth0", format!("{}/24", addresses[0]).parse()?)?;
        host.address("eth0", format!("{}/64", addresses[1]).parse()?)?;
    }
    Ok((left, right))
}

fn speaker(side: usize, neighbors: Vec<Result<Neighbor>>) -> Result<Speaker> {
    let number = side + 1;
    Ok(Speaker {
        asn: 65000 + u32::try_from(number)?,
        router_id: ADDRESSES[side][0].parse()?,
        addresses: vec![ADDRESSES[side][0].parse()?, ADDRESSES[side][1].parse()?],
        neighbors: neighbors.into_iter().collect::<Result<_>>()?,
        announce: vec![
            format!("10.10{number}.0.0/16").parse()?,
            format!("fd00:10{number}::/48").parse()?,
        ],
        underlay: Vec::new(),
        install: false,
        options: Options::default(),
    })
}

fn neighbor(own: usize, other: usize, passive: bool, ipv6: bool) -> Result<Neighbor> {
    let family = usize::from(ipv6);
    Ok(Neighbor {
        address: ADDRESSES[other][family].parse()?,
        local: ADDRESSES[own][family].parse()?,
        asn: 65001 + u32::try_from(other)?,
        passive,
        multihop: false,
        plain: false,
    })
}

/// left – router – right, IPv4 and IPv6.
fn routed(lab: &Lab) -> Result<[Host; 3]> {
    let (left, router, right) = (lab.host("left")?, lab.host("router")?, lab.host("right")?);
    router.forward(true)?;
    for (number, name, host) in [(1, "left", &left), (2, "right", &right)] {
        Link::new((&router, name), (host, "eth0"))?;
        let ends = [
            (
                format!("10.0.{number}.1"),
                format!("10.0.{number}.2"),
                24,
                "0.0.0.0/0",
            ),
            (
                format!("fd00:0:0:{number}::1"),
                format!("fd00:0:0:{number}::2"),
                64,
                "::/0",
            ),
        ];
        for (near, far, length, any) in ends {
            router.address(name, format!("{near}/{length}").parse()?)?;
            host.address("eth0", format!("{far}/{length}").parse()?)?;
            host.route(any.parse()?, near.parse()?, "eth0")?;
        }
    }
    Ok([left, router, right])
}
