//! Random operations: at every step of every batch the kernel is whole, and the end is what a FIB
//! built from scratch says.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    Change, Fib, Group, Kernel, Liveness, NextHop, Port, Precedence, RouteSpec, SharedGroup,
    members, port, via,
};
use crate::names::{InterfaceName, TableName};

#[derive(Clone, Debug)]
enum Operation {
    Put(TableName, IpNet, RouteSpec),
    Remove(TableName, IpNet),
    Clear(TableName),
    PutPort(Port),
    RemovePort(InterfaceName),
    Liveness(NextHop, bool),
    Synchronised,
    Take,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn at_every_change_nothing_dangles_and_the_end_equals_a_fib_from_scratch(
        operations in prop::collection::vec(operation(), 1..60)
    ) {
        let mut fib = Fib::new();
        let mut kernel = Kernel::default();
        let mut wanted = Wanted::default();
        for operation in operations.iter().chain([&Operation::Take]) {
            wanted.note(operation, &kernel);
            match operation.clone() {
                Operation::Put(table, prefix, spec) => fib.put_route(&table, prefix, spec),
                Operation::Remove(table, prefix) => fib.remove_route(&table, &prefix),
                Operation::Clear(table) => fib.clear_table(&table),
                Operation::PutPort(port) => fib.put_port(port),
                Operation::RemovePort(interface) => fib.remove_port(&interface),
                // The data plane speaks only of next hops that it was told.
                Operation::Liveness(next_hop, alive) => {
                    if kernel.next_hops.contains(&next_hop) {
                        fib.liveness(Liveness { next_hop, alive });
                    }
                }
                Operation::Synchronised => fib.synchronised(),
                Operation::Take => {
                    let changes = fib.take_changes();
                    kernel.apply_all(&changes);
                    wanted.forget_removed(&changes);
                }
            }
        }
        prop_assert_eq!(fib.take_changes(), vec![]);
        prop_assert_eq!(&kernel, &wanted.built_from_scratch());
        let mut by_snapshot = Kernel::default();
        by_snapshot.apply_all(&fib.snapshot());
        prop_assert_eq!(&kernel, &by_snapshot);
    }
}

/// What the operations ask for, kept as plainly as possible.
#[derive(Default)]
struct Wanted {
    routes: BTreeMap<(TableName, IpNet), RouteSpec>,
    ports: BTreeMap<InterfaceName, Port>,
    dead: BTreeSet<NextHop>,
    synchronised: bool,
}

impl Wanted {
    fn note(&mut self, operation: &Operation, kernel: &Kernel) {
        match operation.clone() {
            Operation::Put(table, prefix, spec) => {
                self.routes.insert((table, prefix), spec);
            }
            Operation::Remove(table, prefix) => {
                self.routes.remove(&(table, prefix));
            }
            Operation::Clear(table) => self.routes.retain(|(name, _), _| *name != table),
            Operation::PutPort(port) => {
                self.ports.insert(port.interface.clone(), port);
            }
            Operation::RemovePort(interface) => {
                self.ports.remove(&interface);
            }
            Operation::Liveness(next_hop, alive) => {
                if kernel.next_hops.contains(&next_hop) {
                    if alive {
                        self.dead.remove(&next_hop);
                    } else {
                        self.dead.insert(next_hop);
                    }
                }
            }
            Operation::Synchronised => self.synchronised = true,
            Operation::Take => {}
        }
    }

    fn forget_removed(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::RemoveNextHop(next_hop) = change {
                self.dead.remove(next_hop);
            }
        }
    }

    fn built_from_scratch(&self) -> Kernel {
        let mut fib = Fib::new();
        for ((table, prefix), spec) in &self.routes {
            fib.put_route(table, *prefix, spec.clone());
        }
        for port in self.ports.values() {
            fib.put_port(port.clone());
        }
        for next_hop in self.dead.iter().cloned() {
            fib.liveness(Liveness {
                next_hop,
                alive: false,
            });
        }
        if self.synchronised {
            fib.synchronised();
        }
        let mut kernel = Kernel::default();
        kernel.apply_all(&fib.take_changes());
        kernel
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (table(), prefix(), route_spec()).prop_map(|(t, p, s)| Operation::Put(t, p, s)),
        4 => (table(), prefix()).prop_map(|(t, p)| Operation::Remove(t, p)),
        1 => table().prop_map(Operation::Clear),
        2 => any_port().prop_map(Operation::PutPort),
        1 => interface().prop_map(Operation::RemovePort),
        3 => (1..6u8, any::<bool>()).prop_map(|(n, alive)| Operation::Liveness(via(n), alive)),
        1 => Just(Operation::Synchronised),
        5 => Just(Operation::Take),
    ]
}

fn table() -> impl Strategy<Value = TableName> {
    prop::sample::select(vec!["own/a", "own/b", "learned/rs"]).prop_map(TableName::from)
}

fn interface() -> impl Strategy<Value = InterfaceName> {
    prop::sample::select(vec!["eth0", "eth1"]).prop_map(InterfaceName::from)
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop::sample::select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "::/0",
        "fd00::/8",
    ])
    .prop_map(|text| text.parse().expect("a prefix"))
}

fn route_spec() -> impl Strategy<Value = RouteSpec> {
    let numbers = || prop::collection::vec(1..6u8, 0..4);
    let precedence = prop::sample::select(vec![
        Precedence::System,
        Precedence::Learned,
        Precedence::UserDefined,
    ]);
    (numbers(), numbers(), precedence, any::<bool>()).prop_map(
        |(primary, backup, precedence, overriding)| RouteSpec {
            group: SharedGroup::new(Group {
                members: members(&primary),
                backups: members(&backup),
            }),
            precedence,
            overriding,
            local: overriding,
        },
    )
}

fn any_port() -> impl Strategy<Value = Port> {
    (
        interface(),
        table(),
        prop::option::of(table()),
        any::<bool>(),
    )
        .prop_map(|(interface, own, learned, ip_forwarding)| Port {
            learned_table: learned,
            ip_forwarding,
            ..port(interface.as_str(), own.as_str())
        })
}
