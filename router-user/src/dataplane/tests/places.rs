//! Ports that all move at once, while there are fewer places than that takes.

use std::collections::BTreeSet;

use router_common::maps::{MAX_PORT_PLACES, MAX_PORTS};

use super::*;
use crate::dataplane::numbers::{Kind, Retired};

const PORTS: [&str; 3] = ["vm1", "vm2", "nva"];

#[test]
fn all_ports_may_change_at_once_and_again_before_a_grace_period() {
    const { assert!(MAX_PORT_PLACES >= 3 * MAX_PORTS) };
}

#[test]
fn a_port_that_finds_no_place_moves_after_a_grace_period_and_meets_no_other_network_s_table() {
    let (world, mut reconciler) = start();
    stand(&mut reconciler, "first", None);
    stand(&mut reconciler, "second", Some("first"));
    // 7 places: 3 are read, and 3 rest.
    stand(&mut reconciler, "third", Some("second"));
    let before = own_tables(&world);
    assert_eq!(before.len(), 2, "one has moved");
    let errors = reconciler.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("ports is full"), "{errors:?}");

    // Every number that may be given out is, to other networks; places still rest.
    let (numbers, places) = reconciler
        .take_retired()
        .into_iter()
        .partition(|item| matches!(item, Retired::Number(..)));
    reconciler.retired = places;
    reconciler.grace_passed(numbers);
    let strangers: Vec<Change> = (0..4).map(stranger).collect();
    apply(&mut reconciler, &strangers);
    let strange: BTreeSet<u32> = (0..4)
        .map(|n| table(&reconciler, &format!("stranger{n}")))
        .collect();
    assert_eq!(strange.intersection(&before).count(), 0, "they are read");

    grace(&world, &mut reconciler);
    let third = BTreeSet::from([table(&reconciler, "third")]);
    assert_eq!(own_tables(&world), third);
    assert!(reconciler.errors().is_empty(), "{:?}", reconciler.errors());
    grace(&world, &mut reconciler);
    let names = &world.borrow().names;
    let second = names
        .iter()
        .any(|(name, _)| name.text.starts_with(b"table second"));
    assert!(!second, "nobody reads it any more");
}

#[test]
fn a_table_that_is_wanted_again_while_a_port_reads_it_keeps_its_number() {
    let (world, mut reconciler) = start();
    stand(&mut reconciler, "first", None);
    stand(&mut reconciler, "second", Some("first"));
    stand(&mut reconciler, "third", Some("second"));
    let second = table(&reconciler, "second");
    stand(&mut reconciler, "second", Some("third"));
    assert_eq!(table(&reconciler, "second"), second);
    for _ in 0..3 {
        grace(&world, &mut reconciler);
    }
    assert_eq!(own_tables(&world), BTreeSet::from([second]));
    assert_eq!(table(&reconciler, "second"), second);
}

#[test]
fn what_a_killed_run_s_ports_still_read_is_not_given_out_again() {
    let (world, mut reconciler) = start();
    stand(&mut reconciler, "first", None);
    stand(&mut reconciler, "second", Some("first"));
    stand(&mut reconciler, "third", Some("second"));
    let read = own_tables(&world);
    let mut reconciler = restart(&world, reconciler);
    let group = group(1, &[NextHop::Host]);
    let strangers: Vec<Change> = (0..3).map(stranger).collect();
    apply(&mut reconciler, &[host(), group]);
    apply(&mut reconciler, &strangers);
    for n in 0..3 {
        assert!(!read.contains(&table(&reconciler, &format!("stranger{n}"))));
    }
}

#[test]
fn ports_that_leave_kept_tables_without_a_place_move_after_a_grace_period() {
    let (world, mut reconciler) = start();
    let mut kept: Vec<Change> = vec![host(), group(1, &[NextHop::Host])];
    kept.extend(PORTS.map(|name| with_learned(name, Some("learned"))));
    apply(&mut reconciler, &kept);
    let mut reconciler = restart(&world, reconciler);
    let awaiting = PORTS.map(|name| with_learned(name, None));
    apply(&mut reconciler, &awaiting);
    for mtu in [1400, 1300] {
        for name in PORTS {
            reconciler.host_event(Event::Link(Link {
                mtu,
                ..link(name, true)
            }));
        }
    }
    sweep(&mut reconciler, &[Change::Synchronised]);
    for _ in 0..2 {
        grace(&world, &mut reconciler);
    }
    let world = world.borrow();
    for place in world.published.values() {
        let port = world.ports[place];
        assert_eq!((port.learned_table, port.mtu), (0, 1300));
    }
    assert!(reconciler.errors().is_empty(), "{:?}", reconciler.errors());
}

/// Every port has this own table, and that one goes.
fn stand(reconciler: &mut Fake, own: &str, gone: Option<&str>) {
    let mut changes = vec![host(), group(1, &[NextHop::Host])];
    changes.push(in_table(route("10.0.0.0/8", 1), own));
    changes.extend(PORTS.map(|name| {
        let mut change = port(name, &[]);
        if let Change::PutPort(port) = &mut change {
            port.own_table = own.into();
        }
        change
    }));
    if let Some(gone) = gone {
        changes.push(Change::RemoveRoute {
            table: gone.into(),
            prefix: "10.0.0.0/8".parse().unwrap(),
        });
        changes.push(Change::RemoveTable(gone.into()));
    }
    apply(reconciler, &changes);
}

fn in_table(mut change: Change, name: &str) -> Change {
    if let Change::PutRoute { table, .. } = &mut change {
        *table = name.into();
    }
    change
}

/// A route in a table of another network.
fn stranger(n: u8) -> Change {
    in_table(route("10.0.0.0/8", 1), &format!("stranger{n}"))
}

fn with_learned(name: &str, learned: Option<&str>) -> Change {
    let mut change = port(name, &[]);
    if let Change::PutPort(port) = &mut change {
        port.learned_table = learned.map(Into::into);
        port.awaits_learned = learned.is_none();
    }
    change
}

/// The own tables that the published ports name.
fn own_tables(world: &Rc<RefCell<World>>) -> BTreeSet<u32> {
    let world = world.borrow();
    let places = world.published.values();
    places.map(|place| world.ports[place].own_table).collect()
}

fn table(reconciler: &Fake, name: &str) -> u32 {
    let numbers = &reconciler.numbers[Kind::Table as usize];
    numbers.number(Kind::Table, name).expect("it has a number")
}
