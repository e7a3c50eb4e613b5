//! What a speaker's policy of a session asks for, BIRD and FRR do: read from the neighbour that hears
//! the routes. Waypost has no part in it.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use tests::{
    Lab,
    daemon::{Bird, Daemon, Frr, Neighbor, Options, Policy, Route, Speaker},
    lab::{Host, Link},
    scenario, until,
};

const LIMIT: Duration = Duration::from_secs(20);
/// At both ends, so that a path between them is a loop without help.
const ENDS: u32 = 65003;
const MIDDLE: u32 = 65001;
const PREFIX: &str = "10.103.0.0/16";
/// Left and middle, middle and right.
const LINKS: [[&str; 2]; 2] = [["10.0.1.1", "10.0.1.2"], ["10.0.2.1", "10.0.2.2"]];
const THIRD: [&str; 2] = ["10.0.2.77", "fd00::77"];

#[test]
fn bird_prepends_overrides_names_a_third_party_and_adds_communities() -> Result<()> {
    scenario(|lab| {
        // The overridden ASN is taken out.
        changes_what_it_passes_on(lab, "65001 65001", |host, speaker| {
            Ok(Box::new(Bird::start(host, speaker)?))
        })
    })
}

#[test]
fn frr_prepends_overrides_names_a_third_party_and_adds_communities() -> Result<()> {
    scenario(|lab| {
        changes_what_it_passes_on(lab, "65001 65001 65001", |host, speaker| {
            Ok(Box::new(Frr::start(host, speaker)?))
        })
    })
}

#[test]
fn bird_and_frr_take_their_own_asn_where_they_are_told_to() -> Result<()> {
    scenario(|lab| {
        let [left, middle, right] = &chain(lab)?;
        let _left = Bird::start(left, end(0, None)?)?;
        let passes_on = Bird::start(middle, middle_speaker(Policy::default())?)?;
        let mut refuses = Bird::start(right, end(1, None)?)?;
        let from = LINKS[1][0].parse()?;
        refuses.established(&[from], LIMIT)?;
        until("the middle has the route", LIMIT, || {
            let text = passes_on.ask("show route 10.103.0.0/16")?;
            ensure!(text.contains(PREFIX), "{text}");
            Ok(())
        })?;
        refuses.loses(PREFIX.parse()?, from, LIMIT)?;
        refuses.process().kill()?;
        let own_as = Policy {
            allow_own_as: true,
            ..Policy::default()
        };
        let mut takes = Bird::start(right, end(1, Some(own_as.clone()))?)?;
        takes_it(&takes)?;
        takes.process().kill()?;
        let takes = Frr::start(right, end(1, Some(own_as))?)?;
        takes_it(&takes)?;
        Ok(())
    })
}

fn takes_it(daemon: &dyn Daemon) -> Result<Route> {
    let route = daemon.learns(PREFIX.parse()?, LINKS[1][0].parse()?, LIMIT)?;
    ensure!(route.as_path == "65001 65003", "{route}");
    Ok(route)
}

/// The daemon in the middle passes on what it hears from the left.
fn changes_what_it_passes_on(
    lab: &Lab,
    as_path: &str,
    start: impl Fn(&Host, Speaker) -> Result<Box<dyn Daemon>>,
) -> Result<()> {
    let [left, middle, right] = chain(lab)?;
    let policy = Policy {
        prepend: 1,
        as_override: true,
        next_hop: Some([THIRD[0].parse()?, THIRD[1].parse()?]),
        communities: vec![[65001, 7]],
        ..Policy::default()
    };
    let _left = Bird::start(&left, end(0, None)?)?;
    let _middle = start(&middle, middle_speaker(policy)?)?;
    let right = Bird::start(&right, end(1, None)?)?;
    let route = right.learns(PREFIX.parse()?, LINKS[1][0].parse()?, LIMIT)?;
    ensure!(route.as_path == as_path, "{route}");
    ensure!(route.next_hop == THIRD[0].parse::<IpAddr>()?, "{route}");
    let communities = BTreeSet::from(["65001:7".to_owned()]);
    ensure!(route.communities == communities, "{route}");
    Ok(())
}

fn chain(lab: &Lab) -> Result<[Host; 3]> {
    let (left, middle, right) = (lab.host("left")?, lab.host("middle")?, lab.host("right")?);
    Link::new((&left, "eth0"), (&middle, "left"))?;
    Link::new((&middle, "right"), (&right, "eth0"))?;
    let places = [
        (&left, "eth0", LINKS[0][0]),
        (&middle, "left", LINKS[0][1]),
        (&middle, "right", LINKS[1][0]),
        (&right, "eth0", LINKS[1][1]),
    ];
    for (host, interface, address) in places {
        host.address(interface, format!("{address}/24").parse()?)?;
    }
    Ok([left, middle, right])
}

/// The speaker at the left (0), which announces the prefix, or at the right (1).
fn end(side: usize, policy: Option<Policy>) -> Result<Speaker> {
    let (own, other) = (LINKS[side][side], LINKS[side][1 - side]);
    let mut speaker = speaker(ENDS, own, vec![neighbor(own, other, MIDDLE)?])?;
    if side == 0 {
        speaker.announce.push(PREFIX.parse()?);
    }
    if let Some(policy) = policy {
        speaker.options.policies.insert(other.parse()?, policy);
    }
    Ok(speaker)
}

fn middle_speaker(policy: Policy) -> Result<Speaker> {
    let [[left, own_left], [own_right, right]] = LINKS;
    let neighbors = vec![
        neighbor(own_left, left, ENDS)?,
        neighbor(own_right, right, ENDS)?,
    ];
    let mut speaker = speaker(MIDDLE, own_right, neighbors)?;
    speaker.addresses.push(own_left.parse()?);
    speaker.options.policies.insert(right.parse()?, policy);
    Ok(speaker)
}

fn speaker(asn: u32, own: &str, neighbors: Vec<Neighbor>) -> Result<Speaker> {
    Ok(Speaker {
        asn,
        router_id: own.parse()?,
        addresses: vec![own.parse()?],
        neighbors,
        announce: Vec::new(),
        underlay: Vec::new(),
        install: false,
        options: Options::default(),
    })
}

fn neighbor(local: &str, address: &str, asn: u32) -> Result<Neighbor> {
    Ok(Neighbor {
        address: address.parse()?,
        local: local.parse()?,
        asn,
        passive: false,
        multihop: false,
        plain: false,
    })
}
