//! A tiny kernel that applies changes one by one and checks after each of them that nothing names
//! something that is absent (invariant 5), and that each of them changes something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::{
    fib::{Buckets, Change, GroupId, NextHop, Port, Route},
    names::{InterfaceName, TableName},
};

#[derive(Default, PartialEq, Debug)]
pub(crate) struct Kernel {
    pub(crate) next_hops: BTreeSet<NextHop>,
    pub(crate) groups: BTreeMap<GroupId, Arc<Buckets>>,
    pub(crate) routes: BTreeMap<(TableName, IpNet), Route>,
    pub(crate) ports: BTreeMap<InterfaceName, Port>,
    /// Tables that something named since they were last removed.
    pub(crate) tables: BTreeSet<TableName>,
    pub(crate) synchronised: bool,
}

impl Kernel {
    pub(crate) fn apply_all(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change);
        }
        self.assert_nothing_unused();
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::PutNextHop(next_hop) => {
                assert!(
                    self.next_hops.insert(next_hop.clone()),
                    "stands: {change:?}"
                );
            }
            Change::PutGroup { id, buckets } => {
                assert!(buckets.buckets.len().is_power_of_two());
                let before = self.groups.insert(*id, Arc::clone(buckets));
                assert_ne!(before.as_ref(), Some(buckets), "stands: {id}");
            }
            Change::PutRoute {
                table,
                prefix,
                route,
            } => {
                let before = self.routes.insert((table.clone(), *prefix), *route);
                assert_ne!(before, Some(*route), "stands: {change:?}");
                self.tables.insert(table.clone());
            }
            Change::PutPort(port) => {
                let before = self.ports.insert(port.interface.clone(), port.clone());
                assert_ne!(before.as_ref(), Some(port), "stands: {change:?}");
                self.tables.insert(port.own_table.clone());
                self.tables.extend(port.learned_table.clone());
            }
            Change::RemovePort(interface) => {
                assert!(self.ports.remove(interface).is_some(), "absent: {change:?}");
            }
            Change::RemoveRoute { table, prefix } => {
                let before = self.routes.remove(&(table.clone(), *prefix));
                assert!(before.is_some(), "absent: {change:?}");
            }
            Change::RemoveTable(table) => {
                assert!(self.tables.remove(table), "absent: {change:?}");
            }
            Change::RemoveGroup(id) => {
                assert!(self.groups.remove(id).is_some(), "absent: {change:?}");
            }
            Change::RemoveNextHop(next_hop) => {
                assert!(self.next_hops.remove(next_hop), "absent: {change:?}");
            }
            Change::Synchronised => {
                assert!(!self.synchronised, "emitted once");
                self.synchronised = true;
            }
        }
        self.assert_nothing_names_what_is_absent(change);
    }

    fn assert_nothing_names_what_is_absent(&self, after: &Change) {
        for next_hop in self.named_next_hops() {
            assert!(
                self.next_hops.contains(next_hop),
                "a bucket names {next_hop}, which is absent, after {after:?}"
            );
        }
        for ((table, prefix), route) in &self.routes {
            assert!(
                self.groups.contains_key(&route.group),
                "{table} {prefix} names a group that is absent after {after:?}"
            );
            assert!(self.tables.contains(table), "{table} after {after:?}");
        }
        for port in self.ports.values() {
            for table in std::iter::once(&port.own_table).chain(&port.learned_table) {
                assert!(
                    self.tables.contains(table),
                    "{} names {table}, which is absent, after {after:?}",
                    port.interface
                );
            }
        }
    }

    /// At the end of a batch groups and tables live only as long as something names them.
    fn assert_nothing_unused(&self) {
        for id in self.groups.keys() {
            assert!(self.routes.values().any(|route| route.group == *id), "{id}");
        }
        for table in &self.tables {
            let by_route = self.routes.keys().any(|(name, _)| name == table);
            let by_port = self
                .ports
                .values()
                .any(|port| port.own_table == *table || port.learned_table.as_ref() == Some(table));
            assert!(by_route || by_port, "{table} is empty and nobody names it");
        }
    }

    fn named_next_hops(&self) -> impl Iterator<Item = &NextHop> {
        self.groups
            .values()
            .flat_map(|buckets| &buckets.buckets)
            .flat_map(|bucket| std::iter::once(&bucket.primary).chain(&bucket.backup))
    }
}
