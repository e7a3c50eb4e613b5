//! Counters as the operator reads them.

use router_common::{maps::NO_PORT, reason::PortCounters};

use super::*;

#[test]
fn packets_that_arrive_on_no_port_are_shown() {
    let (world, mut reconciler) = start();
    apply(&mut reconciler, &[port("vm1", &[])]);
    assert_eq!(
        reconciler.counters().complete().ports.len(),
        1,
        "none arrived"
    );
    world.borrow_mut().port_counters.insert(
        NO_PORT,
        PortCounters {
            rx_packets: 3,
            not_a_port: 3,
            ..PortCounters::default()
        },
    );
    let rows = reconciler.counters().complete().ports;
    let row = rows
        .iter()
        .find(|row| row.reasons.contains_key("not_a_port"));
    assert_eq!(row.unwrap().reasons["not_a_port"], 3);
}
