//! What the maps say of other networks.

use std::net::Ipv6Addr;

use router_common::maps::{NO_PORT, next_hop_kind, route_flags};

use super::*;
use crate::names::VnetName;

/// Numbers of the networks that the port of an interface may not forward into.
fn restricted(world: &Rc<RefCell<World>>, ifindex: u32) -> Vec<u32> {
    let world = world.borrow();
    let set = world.ports[&world.published[&ifindex]].restricted;
    let restricted = world.restricted.iter();
    restricted
        .filter(|(of, _)| *of == set)
        .map(|(_, vnet)| *vnet)
        .collect()
}

fn vnet(reconciler: &mut Fake, name: &str) -> u32 {
    reconciler.vnet(&name.into()).unwrap()
}

#[test]
fn a_set_stands_before_its_port_is_published_and_ports_with_equal_sets_share_it() {
    let (world, mut reconciler) = start();
    let networks = ["spoke1", "spoke2"];
    for name in ["nva", "vm1"] {
        apply(&mut reconciler, &[restricting(port(name, &[]), &networks)]);
    }
    let numbers = networks.map(|name| vnet(&mut reconciler, name));
    assert_eq!(restricted(&world, 3), numbers);
    assert_eq!(restricted(&world, 1), numbers);
    assert_eq!(world.borrow().restricted.len(), 2, "they share one");
    let log = world.borrow().log.clone();
    let at = |text: &str| log.iter().rposition(|it| it.starts_with(text)).unwrap();
    assert!(at("restricted") < at("ifindex 3 port"), "{log:?}");
}

#[test]
fn who_asks_for_ports_is_told_which_forward_and_what_they_may_not_forward_into() {
    let (_, mut reconciler) = start();
    let networks = ["spoke1", "spoke2"];
    apply(&mut reconciler, &[restricting(port("nva", &[]), &networks)]);
    apply(&mut reconciler, &[port("vm1", &["10.1.1.4"])]);
    let ports = reconciler.snapshot().complete().ports.into_iter();
    let told = ports.map(|port| {
        (
            port.interface.to_string(),
            port.ip_forwarding,
            port.restricted,
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("nva".to_owned(), true, networks.map(VnetName::from).into()),
            ("vm1".to_owned(), false, vec![]),
        ]
    );
}

#[test]
fn a_set_that_no_port_names_any_more_goes_after_a_grace_period() {
    let (world, mut reconciler) = start();
    let nva = || port("nva", &[]);
    apply(&mut reconciler, &[restricting(nva(), &["spoke1"])]);
    apply(&mut reconciler, &[restricting(nva(), &["spoke2"])]);
    // The fake panics where a set changes that a packet may ask for.
    assert_eq!(world.borrow().restricted.len(), 2);
    grace(&world, &mut reconciler);
    assert_eq!(restricted(&world, 3), [vnet(&mut reconciler, "spoke2")]);
    assert_eq!(world.borrow().restricted.len(), 1);
    apply(&mut reconciler, &[Change::RemovePort("nva".into())]);
    grace(&world, &mut reconciler);
    assert!(world.borrow().restricted.is_empty());
}

#[test]
fn a_port_whose_sources_are_checked_names_no_set() {
    let (world, mut reconciler) = start();
    let mut change = restricting(port("vm1", &["10.1.1.4"]), &["spoke1"]);
    if let Change::PutPort(port) = &mut change {
        port.ip_forwarding = false;
    }
    apply(&mut reconciler, &[change]);
    assert!(world.borrow().restricted.is_empty());
    assert!(restricted(&world, 1).is_empty());
}

#[test]
fn a_restart_takes_over_a_set_that_is_wanted_and_sweeps_one_that_is_not() {
    let (world, mut reconciler) = start();
    let wanted = restricting(port("nva", &[]), &["spoke1", "spoke2"]);
    let other = restricting(port("vm1", &[]), &["spoke3"]);
    apply(&mut reconciler, &[wanted.clone(), other]);
    let before = world.borrow().restricted.clone();
    let mut reconciler = restart(&world, reconciler);
    world.borrow_mut().log.clear();
    apply(&mut reconciler, &[wanted]);
    let log = world.borrow().log.join(", ");
    assert!(!log.contains("restricted"), "nothing is rewritten: {log}");
    assert_eq!(world.borrow().restricted, before);
    sweep(&mut reconciler, &[Change::Synchronised]);
    grace(&world, &mut reconciler);
    assert_eq!(restricted(&world, 3).len(), 2);
    assert_eq!(world.borrow().restricted.len(), 2);
}

#[test]
fn what_a_killed_run_left_of_a_set_is_not_the_next_one_s() {
    let (world, reconciler) = start();
    // Its name was forgotten, and it was not removed yet.
    world.borrow_mut().restricted.insert((1, 77));
    let mut reconciler = restart(&world, reconciler);
    assert!(world.borrow().restricted.is_empty());
    let nva = restricting(port("nva", &[]), &["spoke1"]);
    apply(&mut reconciler, &[nva]);
    let spoke1 = vnet(&mut reconciler, "spoke1");
    assert_eq!(restricted(&world, 3), [spoke1]);
}

#[test]
fn a_set_that_holds_more_than_it_should_is_put_right_before_a_port_names_it() {
    let (world, mut reconciler) = start();
    let nva = restricting(port("nva", &[]), &["spoke1"]);
    apply(&mut reconciler, std::slice::from_ref(&nva));
    // Its interface went, and the run that had it could not finish.
    world.borrow_mut().published.remove(&3);
    world.borrow_mut().restricted.insert((1, 77));
    let mut reconciler = restart(&world, reconciler);
    apply(&mut reconciler, &[nva]);
    let spoke1 = vnet(&mut reconciler, "spoke1");
    assert_eq!(restricted(&world, 3), [spoke1]);
}

#[test]
fn a_set_that_finds_no_room_leaves_nothing() {
    let (world, mut reconciler) = start();
    world.borrow_mut().max_restricted = Some(1);
    let nva = restricting(port("nva", &[]), &["spoke1", "spoke2"]);
    apply(&mut reconciler, std::slice::from_ref(&nva));
    assert!(!world.borrow().published.contains_key(&3));
    world.borrow_mut().max_restricted = Some(0);
    grace(&world, &mut reconciler);
    assert!(world.borrow().restricted.is_empty());
    let names = |world: &Rc<RefCell<World>>| {
        let world = world.borrow();
        let names = world.names.iter();
        let names = names.filter(|(name, _)| name.text.starts_with(b"restricted "));
        names.count()
    };
    assert_eq!(names(&world), 0);

    world.borrow_mut().max_restricted = None;
    apply(&mut reconciler, &[nva]);
    assert_eq!(restricted(&world, 3).len(), 2);
    assert_eq!(names(&world), 1);
}

#[test]
fn an_attached_next_hop_asks_the_network_that_it_names() {
    let (world, mut reconciler) = start();
    let mut machine = port("vm1", &["10.2.1.4"]);
    if let Change::PutPort(port) = &mut machine {
        port.vnet = "spoke".into();
    }
    let next_hop = NextHop::Attached {
        vnet: "spoke".into(),
    };
    apply(&mut reconciler, &[machine, Change::PutNextHop(next_hop)]);
    let spoke = vnet(&mut reconciler, "spoke");
    let world = world.borrow();
    assert_eq!(world.next_hops[&1].neighbor, spoke);
    let (key, place) = world.hosts[0];
    assert_eq!(key.vnet, spoke);
    let neighbor = world.neighbors[&place];
    assert_eq!((neighbor.vnet, neighbor.address), (spoke, key.address));
}

#[test]
fn next_hops_of_one_address_in_two_networks_are_resolved_each_in_its_own() {
    let (world, mut reconciler) = start();
    let address = "10.1.10.4".parse().unwrap();
    let other = NextHop::Via {
        vnet: "spoke".into(),
        address,
    };
    let mut twin = port("vm1", &["10.1.10.4"]);
    if let Change::PutPort(port) = &mut twin {
        port.vnet = "spoke".into();
        port.mac = None;
    }
    apply(
        &mut reconciler,
        &[
            via_nva(),
            Change::PutNextHop(other),
            port("nva", &["10.1.10.4"]),
            twin,
        ],
    );
    answers(&mut reconciler, 7);
    reconciler.host_event(Event::Neighbour {
        ifindex: 1,
        address,
        reachability: Reachability::Usable(MacAddr([0, 0, 0, 0, 0, 8])),
    });
    let world = world.borrow();
    let mac = |number: u32| world.neighbors[&world.next_hops[&number].neighbor].mac[5];
    assert_eq!([mac(1), mac(2)], [7, 8]);
}

#[test]
fn a_blackhole_and_a_local_route_are_what_the_maps_call_so() {
    let (world, mut reconciler) = start();
    let mut local = route("10.1.0.0/16", 1);
    if let Change::PutRoute { route, .. } = &mut local {
        route.local = true;
        route.overriding = true;
    }
    let blackhole = Change::PutNextHop(NextHop::Blackhole);
    let group = group(1, &[NextHop::Blackhole]);
    apply(&mut reconciler, &[blackhole, group, local]);
    let shown = reconciler.snapshot().complete().routes;
    assert!(shown[0].local && shown[0].overriding, "people are told");
    let world = world.borrow();
    assert_eq!(world.next_hops[&1].kind, next_hop_kind::BLACKHOLE);
    let entry = world.routes.values().next().unwrap();
    assert_eq!(entry.flags, route_flags::OVERRIDING | route_flags::LOCAL);
}

#[test]
fn the_gateway_host_s_own_addresses_are_hosts_of_their_network_while_a_port_has_them() {
    let (world, mut reconciler) = start();
    let with = |name: &str, gateways: &[&str]| {
        let mut change = port(name, &[]);
        if let Change::PutPort(port) = &mut change {
            port.gateways = gateways.iter().map(|it| it.parse().unwrap()).collect();
        }
        change
    };
    let known = |reconciler: &mut Fake| -> Vec<String> {
        let hub = vnet(reconciler, "hub");
        let world = world.borrow();
        let hosts = world.hosts.iter().map(|(key, place)| {
            let neighbor = world.neighbors[place];
            assert_eq!(
                (neighbor.port, neighbor.vnet, key.vnet),
                (NO_PORT, hub, hub)
            );
            assert_eq!(neighbor.address, key.address);
            Ipv6Addr::from(key.address).to_canonical().to_string()
        });
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort();
        hosts
    };
    let (v4, v6) = ("10.1.1.1", "fd00:1::1");
    apply(
        &mut reconciler,
        &[with("vm1", &[v4, v6]), with("nva", &[v4])],
    );
    assert_eq!(known(&mut reconciler), [v4, v6]);
    apply(&mut reconciler, &[with("vm1", &["10.1.2.1"])]);
    assert_eq!(
        known(&mut reconciler),
        [v4, "10.1.2.1"],
        "another port has it"
    );

    let mut reconciler = restart(&world, reconciler);
    apply(&mut reconciler, &[with("nva", &[v4])]);
    assert_eq!(known(&mut reconciler), [v4, "10.1.2.1"], "adopted");
    sweep(&mut reconciler, &[Change::Synchronised]);
    assert_eq!(known(&mut reconciler), [v4]);
    apply(&mut reconciler, &[Change::RemovePort("nva".into())]);
    assert_eq!(known(&mut reconciler), Vec::<String>::new());
}
