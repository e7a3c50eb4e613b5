//! What an earlier run left, while it is being relearned.

use super::*;
use crate::dataplane::Inherited;

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
