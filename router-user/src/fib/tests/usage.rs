//! What depends on a next hop, and how much there is.

use super::*;
use crate::fib::{Totals, Usage};

#[test]
fn a_next_hop_counts_its_groups_their_routes_and_those_left_without_another() {
    let mut fib = Fib::new();
    let table = "learned/rs".into();
    fib.put_route(&table, net("10.0.0.0/8"), to(&[4, 5]));
    fib.put_route(&table, net("11.0.0.0/8"), to(&[4, 5]));
    fib.put_route(&table, net("12.0.0.0/8"), to(&[4]));
    fib.put_route(&"own/a".into(), net("13.0.0.0/8"), to(&[6]));
    let usage = |groups, routes, without_other| Usage {
        groups,
        routes,
        without_other,
    };
    assert_eq!(fib.usage(&via(4)), usage(2, 3, 1));
    assert_eq!(fib.usage(&via(5)), usage(1, 2, 0));
    assert_eq!(fib.usage(&via(7)), usage(0, 0, 0));
    fib.liveness(alive(5, false));
    assert_eq!(fib.usage(&via(4)), usage(2, 3, 2), "the other one is dead");

    let totals = Totals {
        tables: 2,
        routes: 4,
        groups: 3,
        next_hops: 3,
        alive: 2,
    };
    assert_eq!(fib.totals(), totals);
    fib.clear_table(&table);
    let _ = fib.take_changes();
    let totals = fib.totals();
    assert_eq!((totals.routes, totals.groups), (1, 1));
    assert_eq!((totals.next_hops, totals.alive), (1, 1));
}
