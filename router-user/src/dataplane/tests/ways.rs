//! Ways to next hops that change or are lost.

use std::net::IpAddr;

use super::*;

fn address() -> IpAddr {
    "10.1.10.4".parse().unwrap()
}

#[test]
fn a_port_that_joins_another_network_takes_no_packets_of_the_one_that_it_left() {
    let (world, mut reconciler) = start();
    let mut changes = [via_nva(), group(1, &[nva()]), port("nva", &["10.1.10.4"])];
    apply(&mut reconciler, &changes);
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
    if let Change::PutPort(port) = &mut changes[2] {
        port.vnet = "spoke".into();
    }
    apply(&mut reconciler, &changes[2..]);
    assert_eq!(world.borrow().next_hops[&1].down, 1);
    assert_eq!(reconciler.take_liveness(), [told(false)]);
}

#[test]
fn a_next_hop_that_moves_is_not_kept_resolved_where_it_was() {
    let (world, mut reconciler) = start();
    apply(&mut reconciler, &[via_nva(), port("nva", &["10.1.10.4"])]);
    apply(
        &mut reconciler,
        &[port("nva", &[]), port("vm2", &["10.1.10.4"])],
    );
    let world = world.borrow();
    assert!(world.probed.contains(&(2, address())));
    assert_eq!(world.forgotten, [(3, address())]);
}

#[test]
fn a_next_hop_whose_way_was_lost_is_found_when_the_host_learns_one_again() {
    let (world, mut reconciler) = start();
    world.borrow_mut().towards.insert(address(), 3);
    apply(&mut reconciler, &[via_nva(), port("nva", &[])]);
    answers(&mut reconciler, 7);
    world.borrow_mut().towards.clear();
    reconciler.host_event(Event::Address { ifindex: 3 });
    assert_eq!(reconciler.take_liveness(), [told(true), told(false)]);
    world.borrow_mut().towards.insert(address(), 3);
    reconciler.tick(true);
    reconciler.tick(true);
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.take_liveness(), [told(true)]);
}

#[test]
fn neighbours_that_the_kernel_forgets_are_forgotten() {
    let (_world, mut reconciler) = start();
    answers(&mut reconciler, 7);
    assert_eq!(reconciler.neighbours.len(), 1);
    neighbour(&mut reconciler, Reachability::Unknown);
    assert_eq!(reconciler.neighbours.len(), 0);
}

#[test]
fn a_fixed_neighbour_is_not_asked_and_outlives_the_carrier() {
    let (world, mut reconciler) = start();
    let fixed = Reachability::Fixed(MacAddr([0, 0, 0, 0, 0, 7]));
    neighbour(&mut reconciler, fixed);
    apply(&mut reconciler, &[via_nva(), port("nva", &["10.1.10.4"])]);
    reconciler.tick(true);
    assert_eq!(published_mac(&world), 7);
    reconciler.host_event(Event::Link(link("nva", false)));
    reconciler.host_event(Event::Link(link("nva", true)));
    assert_eq!(
        reconciler.take_liveness(),
        [told(true), told(false), told(true)]
    );
    apply(&mut reconciler, &[Change::RemoveNextHop(nva())]);
    let world = world.borrow();
    assert!(world.probed.is_empty() && world.forgotten.is_empty());
}

#[test]
fn a_machine_that_is_not_attached_any_more_is_not_kept_resolved() {
    let (world, mut reconciler) = start();
    let other: IpAddr = "10.1.10.5".parse().unwrap();
    apply(&mut reconciler, &[port("nva", &["10.1.10.4", "10.1.10.5"])]);
    answers(&mut reconciler, 7);
    apply(&mut reconciler, &[port("nva", &["10.1.10.4"])]);
    assert_eq!(world.borrow().forgotten, [(3, other)]);
    apply(&mut reconciler, &[Change::RemovePort("nva".into())]);
    assert_eq!(world.borrow().forgotten, [(3, other), (3, address())]);
    assert_eq!(reconciler.neighbours.len(), 0);
}
