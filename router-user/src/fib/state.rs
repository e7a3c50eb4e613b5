//! The desired state, and what changed since it was last asked for.
//!
//! Operations only note what is wanted. [`Fib::take_changes`] compares that with what it emitted
//! before and tells the difference, layer by layer: next hop → group → route → port, then removals
//! the other way round (invariant 5). So whatever came and went in between leaves no trace, a route
//! that replaces another stands before that one goes, and groups and next hops live exactly as long
//! as something names them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

mod usage;

pub use usage::{Totals, Usage};

use super::{
    Buckets, Change, Group, GroupId, Liveness, NextHop, Port, Precedence, Route, SharedGroup,
    buckets,
    table::{Difference, Table},
};
use crate::names::{InterfaceName, TableName};

/// A route as its owner wants it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteSpec {
    /// Where packets go.
    pub group: SharedGroup,
    /// Where it comes from.
    pub precedence: Precedence,
    /// Beats learned routes of any length.
    pub overriding: bool,
    /// Lies within the network's own space.
    pub local: bool,
}

/// The desired forwarding state.
#[derive(Clone, Default)]
pub struct Fib {
    tables: FxHashMap<TableName, Table>,
    groups: FxHashMap<GroupId, GroupState>,
    /// With a keyed hash: peers choose next hops.
    next_hops: foldhash::HashMap<NextHop, NextHopState>,
    ports: BTreeMap<InterfaceName, Port>,
    synchronised: Synchronised,

    // What may differ from what was emitted.
    touched_tables: BTreeSet<TableName>,
    touched_groups: FxHashSet<GroupId>,
    touched_next_hops: BTreeSet<NextHop>,
    /// With the port as emitted.
    unsettled_ports: BTreeMap<InterfaceName, Option<Port>>,
}

#[derive(Clone)]
struct GroupState {
    group: SharedGroup,
    /// How many routes name it.
    routes: usize,
    emitted: Option<Arc<Buckets>>,
}

#[derive(Clone)]
struct NextHopState {
    /// Groups that name it.
    groups: FxHashSet<GroupId>,
    alive: bool,
    emitted: bool,
}

#[derive(Clone, Default, PartialEq, Eq)]
enum Synchronised {
    #[default]
    No,
    Wanted,
    Emitted,
}

impl Fib {
    /// Nothing is desired.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants this route in this table, in place of the one with the same prefix. Costs O(1).
    pub fn put_route(&mut self, table: &TableName, prefix: IpNet, spec: RouteSpec) {
        let prefix = prefix.trunc();
        let route = Route {
            group: self.place_of(&spec.group),
            precedence: spec.precedence,
            overriding: spec.overriding,
            local: spec.local,
        };
        let before = self.table(table).get(&prefix);
        if before == Some(route) {
            return;
        }
        self.hold_group(route.group, spec.group);
        self.table(table).put(prefix, route);
        if let Some(before) = before {
            self.release_group(before.group);
        }
        self.touch(table);
    }

    /// Wants no such route.
    pub fn remove_route(&mut self, table: &TableName, prefix: &IpNet) {
        let Some(entry) = self.tables.get_mut(table) else {
            return;
        };
        let Some(before) = entry.remove(&prefix.trunc()) else {
            return;
        };
        self.release_group(before.group);
        self.touch(table);
    }

    /// Wants no route in this table. It is gone as soon as no port names it either.
    pub fn clear_table(&mut self, table: &TableName) {
        let prefixes: Vec<IpNet> = self.routes(table).map(|(prefix, _)| prefix).collect();
        for prefix in prefixes {
            self.remove_route(table, &prefix);
        }
    }

    /// Wants this port, in place of the one on the same interface.
    pub fn put_port(&mut self, port: Port) {
        let before = self.ports.get(&port.interface).cloned();
        if before.as_ref() == Some(&port) {
            return;
        }
        for table in tables_of(&port) {
            self.table(table).ports += 1;
        }
        let interface = port.interface.clone();
        self.ports.insert(interface.clone(), port);
        self.note_port(interface, before);
    }

    /// Whether a port is wanted that names this table.
    #[must_use]
    pub fn has_ports(&self, table: &TableName) -> bool {
        self.tables.get(table).is_some_and(|table| table.ports > 0)
    }

    /// Wants no port on this interface.
    pub fn remove_port(&mut self, interface: &InterfaceName) {
        if let Some(before) = self.ports.remove(interface) {
            self.note_port(interface.clone(), Some(before));
        }
    }

    /// Takes note of who is alive. Only the buckets of the groups that name the next hop are built
    /// anew; no route is touched (invariant 8).
    ///
    /// A next hop counts as alive until it is said not to be; one that nothing names is ignored, and
    /// one that was removed is forgotten.
    pub fn liveness(&mut self, liveness: Liveness) {
        let Some(state) = self.next_hops.get_mut(&liveness.next_hop) else {
            return;
        };
        if state.alive != liveness.alive {
            state.alive = liveness.alive;
            self.touched_groups.extend(&state.groups);
        }
    }

    /// Everything that was to be relearned after a start stands here now: what the kernel holds
    /// beyond it may go. Emitted once.
    pub fn synchronised(&mut self) {
        if self.synchronised == Synchronised::No {
            self.synchronised = Synchronised::Wanted;
        }
    }

    /// What changed since this was last called, in the order in which it is to be applied.
    #[must_use]
    pub fn take_changes(&mut self) -> Vec<Change> {
        let touched_tables = std::mem::take(&mut self.touched_tables);
        let touched_groups = std::mem::take(&mut self.touched_groups);
        let touched_next_hops = std::mem::take(&mut self.touched_next_hops);
        let unsettled: usize = touched_tables
            .iter()
            .filter_map(|table| self.tables.get(table))
            .map(Table::unsettled)
            .sum();

        let mut changes = Vec::with_capacity(unsettled);
        self.emit_next_hops(&touched_next_hops, &mut changes);
        self.emit_groups(&touched_groups, &mut changes);
        let removals = self.emit_routes(&touched_tables, &mut changes);
        self.emit_ports(&mut changes);
        changes.extend(removals);
        self.remove_tables(touched_tables, &mut changes);
        self.remove_groups(touched_groups, &mut changes);
        self.remove_next_hops(touched_next_hops, &mut changes);
        if self.synchronised == Synchronised::Wanted {
            self.synchronised = Synchronised::Emitted;
            changes.push(Change::Synchronised);
        }
        changes
    }

    /// The whole desired state as changes to an empty one, for a consumer that starts now. What
    /// [`take_changes`](Self::take_changes) has not told yet is part of it.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Change> {
        let next_hops = self
            .next_hops
            .iter()
            .filter(|(_, state)| !state.groups.is_empty())
            .map(|(next_hop, _)| Change::PutNextHop(next_hop.clone()));
        let groups = self
            .groups
            .iter()
            .filter(|(_, state)| state.routes > 0)
            .map(|(id, state)| Change::PutGroup {
                id: *id,
                buckets: Arc::new(self.buckets_now(&state.group)),
            });
        let routes = self.tables.iter().flat_map(|(table, entry)| {
            entry.routes().map(|(prefix, route)| Change::PutRoute {
                table: table.clone(),
                prefix,
                route,
            })
        });
        let ports = self.ports.values().cloned().map(Change::PutPort);
        let synchronised = (self.synchronised != Synchronised::No).then_some(Change::Synchronised);
        next_hops
            .chain(groups)
            .chain(routes)
            .chain(ports)
            .chain(synchronised)
            .collect()
    }

    /// The route of this prefix in this table.
    #[must_use]
    pub fn route(&self, table: &TableName, prefix: &IpNet) -> Option<Route> {
        self.tables.get(table)?.get(&prefix.trunc())
    }

    /// The routes of a table, in no particular order.
    pub fn routes(&self, table: &TableName) -> impl Iterator<Item = (IpNet, Route)> {
        self.tables.get(table).into_iter().flat_map(Table::routes)
    }

    /// The port on this interface.
    #[must_use]
    pub fn port(&self, interface: &InterfaceName) -> Option<&Port> {
        self.ports.get(interface)
    }

    /// The group of this name.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.shared_group(id).map(|group| &**group)
    }

    /// The buckets of this group as they are wanted now.
    #[must_use]
    pub fn buckets(&self, id: GroupId) -> Option<Buckets> {
        self.group(id).map(|group| self.buckets_now(group))
    }

    /// Whether packets can be sent to this next hop, as far as is known.
    #[must_use]
    pub fn is_alive(&self, next_hop: &NextHop) -> bool {
        self.next_hops.get(next_hop).is_none_or(|state| state.alive)
    }

    pub(crate) fn shared_group(&self, id: GroupId) -> Option<&SharedGroup> {
        self.groups
            .get(&id)
            .filter(|state| state.routes > 0)
            .map(|state| &state.group)
    }
}

// What is desired.
impl Fib {
    fn table(&mut self, name: &TableName) -> &mut Table {
        if !self.tables.contains_key(name) {
            self.tables.insert(name.clone(), Table::default());
        }
        self.tables.get_mut(name).expect("inserted if missing")
    }

    fn touch(&mut self, table: &TableName) {
        if !self.touched_tables.contains(table) {
            self.touched_tables.insert(table.clone());
        }
    }

    /// The name under which this group stands, or would: its own, unless another group has the same
    /// hash. Then the next free one, so that packets never take another group's next hops.
    fn place_of(&self, group: &SharedGroup) -> GroupId {
        let mut id = group.id();
        while self
            .groups
            .get(&id)
            .is_some_and(|state| state.group != *group)
        {
            id = GroupId(id.0.wrapping_add(1));
        }
        id
    }

    fn hold_group(&mut self, id: GroupId, group: SharedGroup) {
        let state = self.groups.entry(id).or_insert_with(|| GroupState {
            group,
            routes: 0,
            emitted: None,
        });
        state.routes += 1;
        if state.routes > 1 {
            return;
        }
        self.touched_groups.insert(id);
        for next_hop in state.group.next_hops() {
            let users = self
                .next_hops
                .entry(next_hop.clone())
                .or_insert_with(|| NextHopState {
                    groups: FxHashSet::default(),
                    alive: true,
                    emitted: false,
                });
            users.groups.insert(id);
            self.touched_next_hops.insert(next_hop.clone());
        }
    }

    fn release_group(&mut self, id: GroupId) {
        let Some(state) = self.groups.get_mut(&id) else {
            return;
        };
        state.routes -= 1;
        if state.routes > 0 {
            return;
        }
        self.touched_groups.insert(id);
        for next_hop in state.group.next_hops() {
            if let Some(users) = self.next_hops.get_mut(next_hop) {
                users.groups.remove(&id);
                self.touched_next_hops.insert(next_hop.clone());
            }
        }
    }

    fn note_port(&mut self, interface: InterfaceName, before: Option<Port>) {
        for table in before.iter().flat_map(tables_of) {
            self.table(table).ports -= 1;
            self.touch(table);
        }
        self.unsettled_ports.entry(interface).or_insert(before);
    }

    fn buckets_now(&self, group: &Group) -> Buckets {
        buckets(group, |next_hop| self.is_alive(next_hop))
    }
}

// The layers of a batch of changes.
impl Fib {
    fn emit_next_hops(&mut self, touched: &BTreeSet<NextHop>, changes: &mut Vec<Change>) {
        for next_hop in touched {
            let Some(state) = self.next_hops.get_mut(next_hop) else {
                continue;
            };
            if !state.groups.is_empty() && !state.emitted {
                state.emitted = true;
                changes.push(Change::PutNextHop(next_hop.clone()));
            }
        }
    }

    fn emit_groups(&mut self, touched: &FxHashSet<GroupId>, changes: &mut Vec<Change>) {
        for id in touched {
            let Some(group) = self.shared_group(*id) else {
                continue;
            };
            let buckets = self.buckets_now(group);
            let Some(state) = self.groups.get_mut(id) else {
                continue;
            };
            if state.emitted.as_deref() == Some(&buckets) {
                continue;
            }
            let buckets = Arc::new(buckets);
            state.emitted = Some(Arc::clone(&buckets));
            changes.push(Change::PutGroup { id: *id, buckets });
        }
    }

    /// Emits what is put and returns what is to be removed once the ports are right.
    fn emit_routes(
        &mut self,
        touched: &BTreeSet<TableName>,
        changes: &mut Vec<Change>,
    ) -> Vec<Change> {
        let mut removals = Vec::new();
        for name in touched {
            let Some(table) = self.tables.get_mut(name) else {
                continue;
            };
            let mut put_any = false;
            for difference in table.settle() {
                match difference {
                    Difference::Put(prefix, route) => {
                        put_any = true;
                        changes.push(Change::PutRoute {
                            table: name.clone(),
                            prefix,
                            route,
                        });
                    }
                    Difference::Remove(prefix) => removals.push(Change::RemoveRoute {
                        table: name.clone(),
                        prefix,
                    }),
                }
            }
            table.announced |= put_any;
        }
        removals
    }

    fn emit_ports(&mut self, changes: &mut Vec<Change>) {
        let mut removals = Vec::new();
        for (interface, emitted) in std::mem::take(&mut self.unsettled_ports) {
            match self.ports.get(&interface) {
                Some(port) if emitted.as_ref() != Some(port) => {
                    for table in tables_of(port) {
                        if let Some(table) = self.tables.get_mut(table) {
                            table.announced = true;
                        }
                    }
                    changes.push(Change::PutPort(port.clone()));
                }
                None if emitted.is_some() => removals.push(Change::RemovePort(interface)),
                _ => {}
            }
        }
        changes.append(&mut removals);
    }

    fn remove_tables(&mut self, touched: BTreeSet<TableName>, changes: &mut Vec<Change>) {
        for name in touched {
            let Some(table) = self.tables.get(&name) else {
                continue;
            };
            if table.is_unused() {
                if table.announced {
                    changes.push(Change::RemoveTable(name.clone()));
                }
                self.tables.remove(&name);
            }
        }
    }

    fn remove_groups(&mut self, touched: FxHashSet<GroupId>, changes: &mut Vec<Change>) {
        for id in touched {
            let Some(state) = self.groups.get(&id) else {
                continue;
            };
            if state.routes == 0 {
                if state.emitted.is_some() {
                    changes.push(Change::RemoveGroup(id));
                }
                self.groups.remove(&id);
            }
        }
    }

    fn remove_next_hops(&mut self, touched: BTreeSet<NextHop>, changes: &mut Vec<Change>) {
        for next_hop in touched {
            let Some(state) = self.next_hops.get(&next_hop) else {
                continue;
            };
            if state.groups.is_empty() {
                if state.emitted {
                    changes.push(Change::RemoveNextHop(next_hop.clone()));
                }
                self.next_hops.remove(&next_hop);
            }
        }
    }
}

fn tables_of(port: &Port) -> impl Iterator<Item = &TableName> {
    std::iter::once(&port.own_table).chain(&port.learned_table)
}
