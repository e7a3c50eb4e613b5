//! The reconciler against a kernel that panics where a packet could meet half a change.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{
    fake::{FakeHost, FakeMaps, World},
    kernel::{Event, Link, Reachability},
    reconciler::Reconciler,
};
use crate::{
    fib::{Bucket, Buckets, Change, GroupId, Liveness, NextHop, Port, Precedence, Route},
    names::MacAddr,
};

mod counters;
mod order;
mod peerings;
mod places;
mod random;
mod restart;
mod ways;

type Fake = Reconciler<FakeMaps, FakeHost>;

#[test]
fn next_hop_group_and_route_are_written_in_this_order() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[host(), group(1, &[NextHop::Host]), route("10.0.0.0/8", 1)],
    );
    assert_eq!(
        world.borrow().log,
        [
            "next hop 1 neighbor 0",
            "next hop 1 down false",
            "next hop 1 kind 3",
            "bucket 1",
            "group 1",
            "route 10.0.0.0/8",
        ]
    );
}

#[test]
fn what_is_removed_is_cleared_only_after_a_grace_period() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[host(), group(1, &[NextHop::Host]), route("10.0.0.0/8", 1)],
    );
    world.borrow_mut().log.clear();
    apply(
        &mut reconciler,
        &[
            Change::RemoveRoute {
                table: "t".into(),
                prefix: "10.0.0.0/8".parse().unwrap(),
            },
            Change::RemoveTable("t".into()),
            Change::RemoveGroup(GroupId(1)),
            Change::RemoveNextHop(NextHop::Host),
        ],
    );
    assert_eq!(world.borrow().log, ["no route 10.0.0.0/8"]);
    grace(&world, &mut reconciler);
    assert_eq!(
        world.borrow().log[1..3],
        ["no group 1", "next hop 1 kind 0"]
    );
    assert!(world.borrow().names.is_empty());
}

#[test]
fn a_neighbour_is_written_whole_before_it_is_published_and_its_place_rests() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[via_nva(), group(1, &[nva()]), port("nva", &["10.1.10.4"])],
    );
    for mac in 1..10 {
        // The fake panics where a place is written that packets may read.
        world.borrow_mut().log.clear();
        answers(&mut reconciler, mac);
        let log = world.borrow().log.clone();
        let at = |text: &str| log.iter().position(|it| it.starts_with(text));
        assert!(at("neighbor") < at("next hop 1 neighbor"), "{log:?}");
        assert_eq!(published_mac(&world), mac);
        if mac % 3 == 0 {
            grace(&world, &mut reconciler);
        }
    }
    grace(&world, &mut reconciler);
    let places: Vec<u32> = world.borrow().neighbors.keys().copied().collect();
    assert!(places.len() < 10, "places are used again: {places:?}");
}

#[test]
fn a_group_that_grows_gets_fresh_buckets_and_one_that_keeps_its_size_does_not() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            host(),
            Change::PutNextHop(NextHop::Discard),
            group(1, &[NextHop::Host]),
            route("10.0.0.0/8", 1),
            group(1, &[NextHop::Host, NextHop::Discard]),
        ],
    );
    let first = world.borrow().groups[&1].first_bucket;
    assert_eq!((first, world.borrow().groups[&1].mask), (2, 1));
    world.borrow_mut().log.clear();
    apply(
        &mut reconciler,
        &[group(1, &[NextHop::Host, NextHop::Host])],
    );
    assert_eq!(world.borrow().log, ["bucket 3"], "one word changed");
}

#[test]
fn a_table_that_is_full_is_reported_and_what_waits_takes_the_room() {
    let (world, mut reconciler) = start();
    world.borrow_mut().max_routes = 2;
    let routes: Vec<Change> = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]
        .map(|prefix| route(prefix, 1))
        .into();
    apply(&mut reconciler, &[host(), group(1, &[NextHop::Host])]);
    apply(&mut reconciler, &routes);
    assert_eq!(world.borrow().routes.len(), 2);
    let errors = reconciler.errors();
    assert!(
        errors[0].contains("raise `max_routes_v4` in [dataplane]"),
        "{errors:?}"
    );
    apply(&mut reconciler, &[routes[0].clone()]);
    assert_eq!(world.borrow().routes.len(), 2, "replacing needs no room");
    apply(
        &mut reconciler,
        &[Change::RemoveRoute {
            table: "t".into(),
            prefix: "10.0.0.0/8".parse().unwrap(),
        }],
    );
    assert!(
        world
            .borrow()
            .routes
            .keys()
            .any(|key| key.prefix.to_string() == "12.0.0.0/8")
    );
    assert!(reconciler.errors().is_empty());
}

#[test]
fn a_group_without_room_waits_with_its_routes_until_there_is_some() {
    let (world, mut reconciler) = start();
    let wide = vec![NextHop::Host; 64];
    apply(
        &mut reconciler,
        &[
            host(),
            group(1, &wide),
            route("10.0.0.0/8", 1),
            group(2, &wide),
            route("11.0.0.0/8", 2),
        ],
    );
    assert_eq!(world.borrow().routes.len(), 1);
    let errors = reconciler.errors();
    assert!(
        errors.iter().any(|error| error.contains("buckets is full")),
        "{errors:?}"
    );
    apply(
        &mut reconciler,
        &[
            Change::RemoveRoute {
                table: "t".into(),
                prefix: "10.0.0.0/8".parse().unwrap(),
            },
            Change::RemoveGroup(GroupId(1)),
        ],
    );
    grace(&world, &mut reconciler);
    assert_eq!(world.borrow().routes.len(), 1);
    assert!(reconciler.errors().is_empty(), "{:?}", reconciler.errors());
}

#[test]
fn a_restart_gives_the_same_numbers_and_rewrites_nothing_that_stands() {
    let (world, mut reconciler) = start();
    let desired = [
        host(),
        via_nva(),
        group(1, &[nva()]),
        group(2, &[NextHop::Host]),
        route("10.250.0.0/16", 1),
        route("10.1.1.1/32", 2),
        port("nva", &["10.1.10.4"]),
    ];
    apply(&mut reconciler, &desired);
    answers(&mut reconciler, 7);
    world.borrow_mut().log.clear();

    let mut reconciler = restart(&world, reconciler);
    assert!(reconciler.stale());
    let mut other_order = desired.to_vec();
    other_order.swap(0, 1);
    apply(&mut reconciler, &other_order);
    answers(&mut reconciler, 7);
    sweep(&mut reconciler, &[Change::Synchronised]);
    grace(&world, &mut reconciler);
    // The port's device is set and its program replaced: both are the same as before.
    assert_eq!(world.borrow().log, ["device 1", "attach nva"]);
    assert!(!reconciler.stale());
}

#[test]
fn what_is_not_relearned_goes_at_the_end_routes_first() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            host(),
            Change::PutNextHop(NextHop::Discard),
            group(1, &[NextHop::Host]),
            group(2, &[NextHop::Discard]),
            route("10.0.0.0/8", 1),
            route("11.0.0.0/8", 2),
            port("vm1", &["10.1.1.4"]),
        ],
    );
    let mut reconciler = restart(&world, reconciler);
    world.borrow_mut().log.clear();
    apply(
        &mut reconciler,
        &[host(), group(1, &[NextHop::Host]), route("10.0.0.0/8", 1)],
    );
    assert!(world.borrow().log.is_empty(), "nothing is lost meanwhile");
    sweep(&mut reconciler, &[Change::Synchronised]);
    grace(&world, &mut reconciler);
    let world = world.borrow();
    assert_eq!(world.log[0], "no route 11.0.0.0/8");
    assert!(world.log.contains(&"detach vm1".into()), "{:?}", world.log);
    assert!(world.log.contains(&"no group 2".into()), "{:?}", world.log);
    assert_eq!((world.hosts.len(), world.published.len()), (0, 0));
    assert_eq!(
        world.names.len(),
        3,
        "table, group and next hop that are left"
    );
}

#[test]
fn a_daemon_killed_before_the_grace_period_leaves_no_words_behind() {
    let (world, mut reconciler) = start();
    apply(&mut reconciler, &[host(), group(1, &[NextHop::Host])]);
    apply(
        &mut reconciler,
        &[
            Change::RemoveGroup(GroupId(1)),
            Change::RemoveNextHop(NextHop::Host),
        ],
    );
    assert_ne!(world.borrow().groups[&1].first_bucket, 0);
    let _reconciler = restart(&world, reconciler);
    assert_eq!(world.borrow().groups[&1].first_bucket, 0);
    assert_eq!(world.borrow().next_hops[&1].kind, 0);
}

#[test]
fn a_next_hop_without_a_way_is_found_when_the_host_learns_one() {
    let (world, mut reconciler) = start();
    let address = "10.1.10.4".parse().unwrap();
    apply(&mut reconciler, &[via_nva(), port("nva", &[])]);
    assert_eq!(reconciler.take_liveness(), [told(false)]);
    world.borrow_mut().towards.insert(address, 3);
    reconciler.tick(true);
    reconciler.tick(true);
    assert!(world.borrow().probed.contains(&(3, address)));
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
}

#[test]
fn a_neighbour_that_answered_before_its_port_was_configured_is_known() {
    let (world, mut reconciler) = start();
    answers(&mut reconciler, 7);
    apply(&mut reconciler, &[via_nva(), port("nva", &["10.1.10.4"])]);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
    assert_eq!(published_mac(&world), 7);
}

#[test]
fn a_new_next_hop_whose_neighbour_is_known_serves_before_a_route_leads_there() {
    let (world, mut reconciler) = start();
    apply(&mut reconciler, &[port("nva", &["10.1.10.4"])]);
    answers(&mut reconciler, 1);
    world.borrow_mut().log.clear();
    let route = route("10.0.0.0/8", 1);
    apply(&mut reconciler, &[via_nva(), group(1, &[nva()]), route]);
    let log = world.borrow().log.clone();
    let at = |text: &str| log.iter().position(|it| it.starts_with(text));
    let up = at("next hop 1 down false");
    assert!(up.is_some() && up < at("route 10.0.0.0/8"), "{log:?}");
}

#[test]
fn a_next_hop_that_is_put_again_is_reported_anew() {
    let (_world, mut reconciler) = start();
    let changes = [via_nva(), port("nva", &["10.1.10.4"])];
    apply(&mut reconciler, &changes);
    answers(&mut reconciler, 7);
    neighbour(&mut reconciler, Reachability::Failed);
    // The last word that `fib` gets about its former life may arrive after it is put again.
    apply(&mut reconciler, &[Change::RemoveNextHop(nva())]);
    apply(&mut reconciler, &changes);
    reconciler.take_liveness();
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
}

#[test]
fn an_adopted_next_hop_forwards_on_until_its_port_is_configured() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[via_nva(), group(1, &[nva()]), port("nva", &["10.1.10.4"])],
    );
    answers(&mut reconciler, 7);
    let mut reconciler = restart(&world, reconciler);
    apply(&mut reconciler, &[via_nva()]);
    assert_eq!(world.borrow().next_hops[&1].down, 0);
    apply(
        &mut reconciler,
        &[group(1, &[nva()]), port("nva", &["10.1.10.4"])],
    );
    assert_eq!(world.borrow().next_hops[&1].down, 0);
    assert!(reconciler.take_liveness().is_empty());
}

#[test]
fn a_link_that_flaps_costs_one_word_each_way() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            via_nva(),
            group(1, &[nva()]),
            route("0.0.0.0/0", 1),
            port("nva", &["10.1.10.4"]),
        ],
    );
    answers(&mut reconciler, 7);
    reconciler.take_liveness();
    world.borrow_mut().log.clear();
    reconciler.host_event(Event::Link(link("nva", false)));
    assert_eq!(world.borrow().log, ["next hop 1 down true"]);
    assert_eq!(reconciler.take_liveness(), [told(false)]);
    world.borrow_mut().log.clear();
    reconciler.host_event(Event::Link(link("nva", true)));
    assert!(
        world.borrow().log.is_empty(),
        "not before the neighbour answers"
    );
    answers(&mut reconciler, 7);
    assert_eq!(world.borrow().log, ["next hop 1 down false"]);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
}

#[test]
fn a_neighbour_that_fails_is_down_and_one_that_is_only_forgotten_is_not() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[via_nva(), group(1, &[nva()]), port("nva", &["10.1.10.4"])],
    );
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
    neighbour(&mut reconciler, Reachability::Unknown);
    assert_eq!(world.borrow().next_hops[&1].down, 0);
    neighbour(&mut reconciler, Reachability::Failed);
    assert_eq!(world.borrow().next_hops[&1].down, 1);
    assert_eq!(reconciler.take_liveness(), [told(false)]);
    neighbour(&mut reconciler, Reachability::Unknown);
    assert_eq!(world.borrow().next_hops[&1].down, 1);
    answers(&mut reconciler, 7);
    assert_eq!(world.borrow().next_hops[&1].down, 0);
}

#[test]
fn a_port_whose_mac_address_or_mtu_changes_is_published_anew() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[via_nva(), group(1, &[nva()]), port("nva", &["10.1.10.4"])],
    );
    answers(&mut reconciler, 7);
    reconciler.host_event(Event::Link(Link {
        mtu: 9000,
        ..link("nva", true)
    }));
    let world = world.borrow();
    assert_eq!(world.ports[&world.published[&3]].mtu, 9000);
    assert_eq!(world.neighbors[&world.next_hops[&1].neighbor].mtu, 9000);
    assert_eq!(world.neighbors[&world.hosts[0].1].mtu, 9000);
}

#[test]
fn an_interface_that_vanishes_and_returns_keeps_its_port_number() {
    let (world, mut reconciler) = start();
    apply(&mut reconciler, &[via_nva(), port("nva", &["10.1.10.4"])]);
    let number = world.borrow().ports[&world.borrow().published[&3]].id;
    reconciler.host_event(Event::LinkGone { ifindex: 3 });
    assert!(world.borrow().published.is_empty());
    assert!(reconciler.errors()[0].contains("nva does not exist"));
    reconciler.host_event(Event::Link(Link {
        ifindex: 44,
        ..link("nva", true)
    }));
    let world = world.borrow();
    assert_eq!(world.ports[&world.published[&44]].id, number);
    assert_eq!(world.attached["nva"], 44);
    assert!(reconciler.errors().is_empty());
    assert!(world.probed.contains(&(44, "10.1.10.4".parse().unwrap())));
}

#[test]
fn a_third_party_next_hop_lies_where_the_hosts_route_leads() {
    let (world, mut reconciler) = start();
    let balancer = "10.1.10.100".parse().unwrap();
    world.borrow_mut().towards.insert(balancer, 3);
    let next_hop = NextHop::Via {
        vnet: "hub".into(),
        address: balancer,
    };
    apply(
        &mut reconciler,
        &[Change::PutNextHop(next_hop), port("nva", &["10.1.10.4"])],
    );
    reconciler.host_event(Event::Neighbour {
        ifindex: 3,
        address: balancer,
        reachability: Reachability::Usable(MacAddr([0, 0, 0, 0, 0, 9])),
    });
    assert_eq!(published_mac(&world), 9);
}

#[test]
fn a_next_hop_that_no_port_leads_to_is_dead_and_says_so() {
    let (_world, mut reconciler) = start();
    apply(&mut reconciler, &[via_nva()]);
    assert_eq!(reconciler.take_liveness(), [told(false)]);
}

#[test]
fn a_machine_that_moves_to_another_port_is_reached_there() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[port("vm1", &["10.1.1.4"]), port("vm2", &["10.1.1.5"])],
    );
    apply(
        &mut reconciler,
        &[port("vm2", &["10.1.1.5", "10.1.1.4"]), port("vm1", &[])],
    );
    let world = world.borrow();
    assert_eq!(world.hosts.len(), 2);
    let vm2 = world.ports[&world.published[&2]].id;
    for (_, place) in &world.hosts {
        assert_eq!(world.neighbors[place].port, vm2);
    }
}

#[test]
fn events_that_were_lost_are_made_up_for_by_the_full_state() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            via_nva(),
            port("nva", &["10.1.10.4"]),
            port("vm1", &["10.1.1.4"]),
        ],
    );
    answers(&mut reconciler, 7);
    let down = Link {
        up: false,
        ..link("nva", true)
    };
    reconciler.resync(vec![down], Vec::new());
    assert_eq!(world.borrow().next_hops[&1].down, 1);
    assert!(!world.borrow().published.contains_key(&1), "vm1 is gone");
}

fn start() -> (Rc<RefCell<World>>, Fake) {
    let world = Rc::new(RefCell::new(World {
        max_routes: 1000,
        ..World::default()
    }));
    let reconciler = adopt(&world);
    (world, reconciler)
}

fn restart(world: &Rc<RefCell<World>>, before: Fake) -> Fake {
    drop(before);
    world.borrow_mut().grace();
    adopt(world)
}

fn adopt(world: &Rc<RefCell<World>>) -> Fake {
    let mut reconciler =
        Reconciler::adopt(FakeMaps(world.clone()), FakeHost(world.clone())).unwrap();
    let links = ["vm1", "vm2", "nva"].map(|name| link(name, true));
    reconciler.resync(links.into(), Vec::new());
    if world.borrow().names.is_empty() {
        // Nothing was adopted: nothing to be relearned.
        sweep(&mut reconciler, &[Change::Synchronised]);
        world.borrow_mut().log.clear();
    }
    reconciler
}

fn apply(reconciler: &mut Fake, changes: &[Change]) {
    reconciler.apply(changes);
    reconciler.settle();
}

fn sweep(reconciler: &mut Fake, changes: &[Change]) {
    apply(reconciler, changes);
    while reconciler.sweeping() {
        reconciler.sweep();
    }
    reconciler.settle();
}

fn grace(world: &Rc<RefCell<World>>, reconciler: &mut Fake) {
    let retired = reconciler.take_retired();
    world.borrow_mut().grace();
    reconciler.grace_passed(retired);
}

fn link(name: &str, up: bool) -> Link {
    let ifindex = match name {
        "vm1" => 1,
        "vm2" => 2,
        _ => 3,
    };
    Link {
        ifindex,
        name: name.into(),
        mac: MacAddr([2, 0, 0, 0, 0, ifindex as u8]),
        mtu: 1500,
        up,
    }
}

fn answers(reconciler: &mut Fake, mac: u8) {
    neighbour(
        reconciler,
        Reachability::Usable(MacAddr([0, 0, 0, 0, 0, mac])),
    );
}

fn neighbour(reconciler: &mut Fake, reachability: Reachability) {
    reconciler.host_event(Event::Neighbour {
        ifindex: 3,
        address: "10.1.10.4".parse().unwrap(),
        reachability,
    });
}

/// Last byte of the MAC address that next hop 1 leads to.
fn published_mac(world: &Rc<RefCell<World>>) -> u8 {
    let world = world.borrow();
    world.neighbors[&world.next_hops[&1].neighbor].mac[5]
}

fn nva() -> NextHop {
    NextHop::Via {
        vnet: "hub".into(),
        address: "10.1.10.4".parse().unwrap(),
    }
}

fn via_nva() -> Change {
    Change::PutNextHop(nva())
}

fn host() -> Change {
    Change::PutNextHop(NextHop::Host)
}

fn told(alive: bool) -> Liveness {
    Liveness {
        next_hop: nva(),
        alive,
    }
}

fn group(id: u64, next_hops: &[NextHop]) -> Change {
    Change::PutGroup {
        id: GroupId(id),
        buckets: Arc::new(Buckets {
            buckets: next_hops
                .iter()
                .map(|next_hop| Bucket {
                    primary: next_hop.clone(),
                    backup: None,
                })
                .collect(),
        }),
    }
}

fn route(prefix: &str, group: u64) -> Change {
    Change::PutRoute {
        table: "t".into(),
        prefix: prefix.parse().unwrap(),
        route: Route {
            group: GroupId(group),
            precedence: Precedence::Learned,
            overriding: false,
            local: false,
        },
    }
}

/// The machine behind `nva` answers ARP, the others have a fixed MAC address.
fn port(name: &str, addresses: &[&str]) -> Change {
    Change::PutPort(Port {
        interface: name.into(),
        vnet: "hub".into(),
        own_table: "t".into(),
        learned_table: None,
        awaits_learned: false,
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        mac: (name != "nva").then_some(MacAddr([2, 0, 0, 0, 1, 1])),
        gateways: Vec::new(),
        ip_forwarding: false,
        restricted: vec![],
    })
}

/// The port forwards, but not into these networks.
fn restricting(mut change: Change, networks: &[&str]) -> Change {
    if let Change::PutPort(port) = &mut change {
        port.ip_forwarding = true;
        port.restricted = networks.iter().map(|name| (*name).into()).collect();
    }
    change
}
