//! The desired state and its changes, sentence by sentence; then against random operations.

pub(crate) mod kernel;
mod random_operations;
mod rendezvous;
mod usage;

use ipnet::IpNet;

use super::{
    Buckets, Change, Fib, Group, GroupId, Liveness, Member, NextHop, Port, Precedence, RouteSpec,
    SharedGroup,
};
use kernel::Kernel;

#[test]
fn a_route_comes_after_its_group_and_that_after_its_next_hops() {
    let mut fib = Fib::new();
    fib.put_port(port("eth0", "own/a"));
    fib.put_route(&"own/a".into(), net("10.0.0.0/8"), to(&[4, 5]));
    assert_eq!(
        kinds(&fib.take_changes()),
        ["+next_hop", "+next_hop", "+group", "+route", "+port"]
    );
}

#[test]
fn the_routes_of_a_batch_are_in_the_order_of_their_prefixes() {
    let mut fib = Fib::new();
    let nets: Vec<IpNet> = (0..200_u8)
        .map(|n| net(&format!("{}.0.0.0/8", n.wrapping_mul(77) % 200)))
        .collect();
    for prefix in &nets {
        fib.put_route(&"own/a".into(), *prefix, to(&[4]));
    }
    let changes = fib.take_changes();
    let prefixes = changes.iter().filter_map(|change| match change {
        Change::PutRoute { prefix, .. } => Some(*prefix),
        _ => None,
    });
    let prefixes: Vec<IpNet> = prefixes.collect();
    assert!(prefixes.len() > 100 && prefixes.is_sorted(), "{prefixes:?}");
}

#[test]
fn removal_goes_the_other_way_round() {
    let mut fib = Fib::new();
    fib.put_port(port("eth0", "own/a"));
    fib.put_route(&"own/a".into(), net("10.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.clear_table(&"own/a".into());
    fib.remove_port(&"eth0".into());
    assert_eq!(
        kinds(&fib.take_changes()),
        ["-port", "-route", "-table", "-group", "-next_hop"]
    );
}

#[test]
fn setting_what_stands_already_emits_nothing() {
    let mut fib = Fib::new();
    for _ in 0..2 {
        fib.put_port(port("eth0", "own/a"));
        fib.put_route(&"own/a".into(), net("10.0.0.0/8"), to(&[4, 5]));
        fib.synchronised();
        assert!(fib.is_alive(&via(4)));
        fib.liveness(alive(4, true));
        let _ = fib.take_changes();
    }
    fib.put_port(port("eth0", "own/a"));
    fib.put_route(&"own/a".into(), net("10.0.0.0/8"), to(&[4, 5]));
    fib.liveness(alive(4, true));
    fib.synchronised();
    assert_eq!(fib.take_changes(), []);
}

#[test]
fn what_comes_and_goes_between_two_looks_leaves_no_trace() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[5]));
    fib.put_route(&table, net("10.1.0.0/16"), to(&[6]));
    fib.put_route(&"other".into(), net("10.1.0.0/16"), to(&[6]));
    fib.put_port(port("eth0", "own/b"));
    fib.remove_port(&"eth0".into());
    fib.clear_table(&"other".into());
    fib.remove_route(&table, &net("10.1.0.0/16"));
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4]));
    assert_eq!(fib.take_changes(), []);
}

#[test]
fn a_group_stays_until_the_last_route_has_left_it() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4]));
    fib.put_route(&table, net("11.0.0.0/8"), to(&[4]));
    assert_eq!(
        kinds(&fib.take_changes()),
        ["+next_hop", "+group", "+route", "+route"]
    );
    fib.remove_route(&table, &net("10.0.0.0/8"));
    assert_eq!(kinds(&fib.take_changes()), ["-route"]);
    fib.remove_route(&table, &net("11.0.0.0/8"));
    assert_eq!(
        kinds(&fib.take_changes()),
        ["-route", "-table", "-group", "-next_hop"]
    );
}

#[test]
fn a_next_hop_stays_until_the_last_group_has_left_it() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4, 5]));
    fib.put_route(&table, net("11.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.remove_route(&table, &net("10.0.0.0/8"));
    let changes = fib.take_changes();
    assert_eq!(kinds(&changes), ["-route", "-group", "-next_hop"]);
    assert_eq!(changes[2], Change::RemoveNextHop(via(5)));
}

#[test]
fn a_route_that_moves_to_another_group_is_one_write_between_the_new_and_the_old() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[5]));
    assert_eq!(
        kinds(&fib.take_changes()),
        ["+next_hop", "+group", "+route", "-group", "-next_hop"]
    );
}

#[test]
fn a_dead_next_hop_rebuilds_the_buckets_of_its_groups_and_touches_no_route() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    for n in 0..100 {
        fib.put_route(&table, net(&format!("10.{n}.0.0/16")), to(&[4, 5]));
        fib.put_route(&table, net(&format!("11.{n}.0.0/16")), to(&[5, 6]));
    }
    let _ = fib.take_changes();
    let route = fib.route(&table, &net("10.7.0.0/16")).unwrap();

    fib.liveness(alive(4, false));
    let changes = fib.take_changes();
    assert_eq!(kinds(&changes), ["+group"]);
    let Change::PutGroup { id, buckets } = &changes[0] else {
        unreachable!("its kind was checked");
    };
    assert_eq!(*id, route.group, "the name does not depend on who is alive");
    assert!(buckets.buckets.iter().all(|b| b.primary == via(5)));
    assert_eq!(fib.route(&table, &net("10.7.0.0/16")), Some(route));

    fib.liveness(alive(4, true));
    assert_eq!(kinds(&fib.take_changes()), ["+group"]);
}

#[test]
fn a_group_made_while_a_member_is_dead_leaves_it_out() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.liveness(alive(4, false));
    let _ = fib.take_changes();
    fib.put_route(&table, net("11.0.0.0/8"), to(&[4, 5]));
    let route = fib.route(&table, &net("11.0.0.0/8")).unwrap();
    let buckets = fib.buckets(route.group).unwrap();
    assert!(buckets.buckets.iter().all(|b| b.primary == via(5)));
}

#[test]
fn a_next_hop_that_was_removed_comes_back_alive() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4, 5]));
    let _ = fib.take_changes();
    fib.liveness(alive(4, false));
    fib.clear_table(&table);
    let _ = fib.take_changes();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4, 5]));
    assert!(fib.is_alive(&via(4)));
}

#[test]
fn an_empty_learned_table_stays_while_a_port_names_it() {
    let mut fib = Fib::new();
    let mut port = port("eth0", "own/a");
    port.learned_table = Some("learned/rs".into());
    fib.put_port(port.clone());
    fib.put_route(&"learned/rs".into(), net("10.0.0.0/8"), to(&[4]));
    let _ = fib.take_changes();
    fib.clear_table(&"learned/rs".into());
    assert_eq!(
        kinds(&fib.take_changes()),
        ["-route", "-group", "-next_hop"]
    );
    port.learned_table = None;
    fib.put_port(port);
    assert_eq!(kinds(&fib.take_changes()), ["+port", "-table"]);
}

#[test]
fn groups_whose_hashes_collide_stay_apart() {
    let group = |n| {
        SharedGroup::named(
            GroupId(7),
            Group {
                members: vec![Member {
                    next_hop: via(n),
                    weight: 1,
                }],
                backups: vec![],
            },
        )
    };
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    for (prefix, n) in [("10.0.0.0/8", 4), ("11.0.0.0/8", 5), ("12.0.0.0/8", 4)] {
        fib.put_route(&table, net(prefix), spec(group(n)));
    }
    let member = |prefix| {
        let route = fib.route(&table, &net(prefix)).unwrap();
        fib.group(route.group).unwrap().members[0].next_hop.clone()
    };
    assert_eq!(member("10.0.0.0/8"), via(4));
    assert_eq!(member("11.0.0.0/8"), via(5));
    assert_eq!(member("12.0.0.0/8"), via(4));
}

#[test]
fn host_bits_of_a_prefix_do_not_count() {
    let mut fib = Fib::new();
    let table = "own/a".into();
    fib.put_route(&table, net("10.1.2.3/8"), to(&[4]));
    assert!(fib.route(&table, &net("10.0.0.0/8")).is_some());
    fib.remove_route(&table, &net("10.9.9.9/8"));
    assert_eq!(fib.take_changes(), []);
}

#[test]
fn every_change_survives_json() {
    let mut fib = Fib::new();
    let mut port = port("eth0", "own/a");
    port.learned_table = Some("learned/rs".into());
    port.mac = Some("02:00:00:00:00:01".parse().unwrap());
    port.addresses = vec!["10.0.0.4".parse().unwrap(), "fd00::4".parse().unwrap()];
    fib.put_port(port);
    fib.put_route(&"learned/rs".into(), net("fd00:250::/48"), to(&[4, 5]));
    for (n, next_hop) in [
        NextHop::Attached { vnet: "hub".into() },
        NextHop::Host,
        NextHop::Discard,
        NextHop::NoUplink,
    ]
    .into_iter()
    .enumerate()
    {
        let group = SharedGroup::single(next_hop);
        fib.put_route(&"own/a".into(), net(&format!("10.{n}.0.0/16")), spec(group));
    }
    fib.synchronised();
    let mut changes = fib.take_changes();
    fib.remove_port(&"eth0".into());
    fib.clear_table(&"own/a".into());
    changes.extend(fib.take_changes());
    for kind in [
        "-port",
        "-route",
        "-table",
        "-group",
        "-next_hop",
        "synchronised",
    ] {
        assert!(kinds(&changes).contains(&kind), "{kind}");
    }
    let text = serde_json::to_string(&changes).unwrap();
    let read: Vec<Change> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, changes);
}

#[test]
fn a_snapshot_builds_the_same_kernel_as_the_changes_did() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_port(port("eth0", "own/a"));
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4, 5]));
    fib.put_route(&table, net("11.0.0.0/8"), to(&[6]));
    let mut by_changes = Kernel::default();
    by_changes.apply_all(&fib.take_changes());
    fib.liveness(alive(5, false));
    fib.remove_route(&table, &net("11.0.0.0/8"));
    by_changes.apply_all(&fib.take_changes());

    let mut by_snapshot = Kernel::default();
    by_snapshot.apply_all(&fib.snapshot());
    assert_eq!(by_snapshot, by_changes);
}

fn kinds(changes: &[Change]) -> Vec<&'static str> {
    changes
        .iter()
        .map(|change| match change {
            Change::PutNextHop(_) => "+next_hop",
            Change::PutGroup { .. } => "+group",
            Change::PutRoute { .. } => "+route",
            Change::PutPort(_) => "+port",
            Change::RemovePort(_) => "-port",
            Change::RemoveRoute { .. } => "-route",
            Change::RemoveTable(_) => "-table",
            Change::RemoveGroup(_) => "-group",
            Change::RemoveNextHop(_) => "-next_hop",
            Change::Synchronised => "synchronised",
        })
        .collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn via(n: u8) -> NextHop {
    NextHop::Via {
        vnet: "hub".into(),
        address: [10, 0, 0, n].into(),
    }
}

fn members(numbers: &[u8]) -> Vec<Member> {
    numbers
        .iter()
        .map(|n| Member {
            next_hop: via(*n),
            weight: 1,
        })
        .collect()
}

fn spec(group: SharedGroup) -> RouteSpec {
    RouteSpec {
        group,
        precedence: Precedence::Learned,
        overriding: false,
        local: false,
    }
}

fn to(numbers: &[u8]) -> RouteSpec {
    spec(SharedGroup::new(Group {
        members: members(numbers),
        backups: vec![],
    }))
}

fn alive(n: u8, alive: bool) -> Liveness {
    Liveness {
        next_hop: via(n),
        alive,
    }
}

fn port(interface: &str, own_table: &str) -> Port {
    Port {
        interface: interface.into(),
        vnet: "hub".into(),
        own_table: own_table.into(),
        learned_table: None,
        awaits_learned: false,
        addresses: vec![],
        mac: None,
        gateways: vec![],
        ip_forwarding: false,
        restricted: vec![],
    }
}
