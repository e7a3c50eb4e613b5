//! What an earlier run left, while it is being relearned.

use std::collections::BTreeSet;

use router_common::maps::port_flags;

use super::*;
use crate::dataplane::{Inherited, numbers::Kind, ports::Attachment};

#[test]
fn what_stale_routes_name_stands_until_all_is_relearned() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            host(),
            group(1, &[NextHop::Host]),
            route("10.0.0.0/8", 1),
            route("11.0.0.0/8", 1),
        ],
    );
    let mut reconciler = restart(&world, reconciler);
    // A second path comes, and the group of the first one is not used any more.
    apply(
        &mut reconciler,
        &[host(), group(1, &[NextHop::Host]), route("10.0.0.0/8", 1)],
    );
    apply(
        &mut reconciler,
        &[
            Change::PutNextHop(NextHop::Discard),
            group(2, &[NextHop::Discard]),
            route("10.0.0.0/8", 2),
            Change::RemoveGroup(GroupId(1)),
            Change::RemoveNextHop(NextHop::Host),
        ],
    );
    // The fake panics where a group is cleared that a route names.
    grace(&world, &mut reconciler);
    assert_ne!(world.borrow().groups[&1].first_bucket, 0);
    assert_eq!(world.borrow().next_hops[&1].kind, 3, "the host's");

    sweep(&mut reconciler, &[Change::Synchronised]);
    grace(&world, &mut reconciler);
    let world = world.borrow();
    assert_eq!(world.routes.len(), 1);
    assert_eq!(world.groups[&1].first_bucket, 0);
    assert_eq!(world.next_hops[&1].kind, 0);
    assert_eq!(world.names.len(), 3, "table, group and next hop");
}

#[test]
fn a_table_with_stale_routes_keeps_its_number_until_they_are_gone() {
    let (world, mut reconciler) = start();
    apply(
        &mut reconciler,
        &[
            host(),
            group(1, &[NextHop::Host]),
            route("10.0.0.0/8", 1),
            route("11.0.0.0/8", 1),
        ],
    );
    let mut reconciler = restart(&world, reconciler);
    let (table, prefix) = ("t".into(), "10.0.0.0/8".parse().unwrap());
    apply(
        &mut reconciler,
        &[
            host(),
            group(1, &[NextHop::Host]),
            route("10.0.0.0/8", 1),
            Change::RemoveRoute { table, prefix },
            Change::RemoveTable("t".into()),
        ],
    );
    grace(&world, &mut reconciler);
    let mut other = port("vm1", &[]);
    if let Change::PutPort(port) = &mut other {
        port.own_table = "other".into();
    }
    apply(&mut reconciler, &[other]);
    let world = world.borrow();
    let stale = world.routes.keys().next().unwrap().table;
    assert_ne!(world.ports[&world.published[&1]].own_table, stale);
}

#[test]
fn what_was_inherited_is_told_by_family() {
    let (world, reconciler) = start();
    assert_eq!(reconciler.inherited(), Inherited::default());
    let mut reconciler = restart(&world, reconciler);
    assert_eq!(
        reconciler.inherited(),
        Inherited::default(),
        "nothing stood there"
    );
    apply(
        &mut reconciler,
        &[host(), group(1, &[NextHop::Host]), route("10.0.0.0/8", 1)],
    );
    assert_eq!(reconciler.inherited(), Inherited::default(), "its own");
    let reconciler = restart(&world, reconciler);
    let ipv4 = Inherited {
        ipv4: true,
        ipv6: false,
    };
    assert_eq!(reconciler.inherited(), ipv4);
}

#[test]
fn a_port_that_waits_for_its_learned_table_keeps_its_tables_and_is_attached_again_meanwhile() {
    let (world, mut reconciler) = start();
    let stand = [
        host(),
        group(1, &[NextHop::Host]),
        route("10.0.0.0/8", 1),
        with_tables("t", Some("learned")),
    ];
    apply(&mut reconciler, &stand);
    let tables = |world: &Rc<RefCell<World>>, ifindex: u32| {
        let world = world.borrow();
        let port = world.ports[&world.published[&ifindex]];
        (port.own_table, port.learned_table)
    };
    let before = tables(&world, 1);
    assert_ne!(before.1, 0);

    let mut reconciler = restart(&world, reconciler);
    // What is wanted of the port itself holds at once, its tables wait.
    let mut other = with_tables("other", None);
    if let Change::PutPort(port) = &mut other {
        port.ip_forwarding = true;
    }
    apply(&mut reconciler, &[other.clone(), waiting(port("nva", &[]))]);
    assert_eq!(tables(&world, 1), before);
    assert_eq!(tables(&world, 3).1, 0, "there was none");
    let flags = {
        let world = world.borrow();
        world.ports[&world.published[&1]].flags
    };
    assert_ne!(flags & port_flags::IP_FORWARDING, 0);
    let state = &reconciler.ports["vm1"];
    assert!(matches!(state.attachment, Attachment::Attached(_)));

    // Its interface is made anew.
    reconciler.host_event(Event::LinkGone { ifindex: 1 });
    reconciler.host_event(Event::Link(Link {
        ifindex: 9,
        ..link("vm1", true)
    }));
    assert_eq!(tables(&world, 9), before);

    apply(&mut reconciler, &[with_tables("other", Some("learned"))]);
    assert_eq!(tables(&world, 9).1, before.1);
    assert_ne!(tables(&world, 9).0, before.0);
}

#[test]
fn a_port_that_still_waits_when_all_else_is_relearned_meets_nothing_that_goes() {
    let (world, mut reconciler) = start();
    let stands = with_tables("t", Some("learned"));
    apply(&mut reconciler, &[stands]);
    let mut reconciler = restart(&world, reconciler);
    apply(&mut reconciler, &[with_tables("t", None)]);
    let learned = |world: &Rc<RefCell<World>>| {
        let world = world.borrow();
        world.ports[&world.published[&1]].learned_table
    };
    assert_ne!(learned(&world), 0);
    sweep(&mut reconciler, &[Change::Synchronised]);
    assert_eq!(learned(&world), 0);
}

#[test]
fn a_port_that_keeps_its_tables_forwards_into_no_network_that_they_were_closed_to() {
    let (world, mut reconciler) = start();
    let closed = |change: &Change, networks: &[&str]| restricting(change.clone(), networks);
    let stands = with_tables("t", Some("learned"));
    apply(&mut reconciler, &[closed(&stands, &["spoke1", "spoke2"])]);
    let mut reconciler = restart(&world, reconciler);
    let networks = |reconciler: &mut Fake, port: Change| {
        apply(reconciler, &[port]);
        let world = world.borrow();
        let set = world.ports[&world.published[&1]].restricted;
        let numbers = world.restricted.iter().filter(|(of, _)| *of == set);
        let names = numbers.map(|(_, vnet)| {
            let names = &reconciler.numbers[Kind::Vnet as usize];
            names.name(*vnet).unwrap().to_owned()
        });
        names.collect::<BTreeSet<String>>()
    };
    // The peering with spoke 1 is gone, one with spoke 3 is new.
    let waits = with_tables("other", None);
    let kept = networks(&mut reconciler, closed(&waits, &["spoke2", "spoke3"]));
    let all = ["spoke1", "spoke2", "spoke3"].map(String::from);
    assert_eq!(kept, all.into());
    let kept = networks(&mut reconciler, closed(&waits, &[]));
    assert!(kept.contains("spoke1"), "{kept:?}");

    let told = with_tables("other", Some("learned"));
    let told = networks(&mut reconciler, closed(&told, &["spoke2"]));
    assert_eq!(told, ["spoke2".to_owned()].into());
    sweep(&mut reconciler, &[Change::Synchronised]);
    grace(&world, &mut reconciler);
    assert_eq!(world.borrow().restricted.len(), 1, "no other set is left");
}

/// `vm1`; without a learned table it waits for one.
fn with_tables(own: &str, learned: Option<&str>) -> Change {
    let mut change = port("vm1", &["10.1.1.4"]);
    if let Change::PutPort(port) = &mut change {
        port.own_table = own.into();
        port.learned_table = learned.map(Into::into);
        port.awaits_learned = learned.is_none();
    }
    change
}

fn waiting(mut change: Change) -> Change {
    if let Change::PutPort(port) = &mut change {
        port.awaits_learned = true;
    }
    change
}
