//! Where the own routes of each subnet stand: own tables, named by their contents and shared by
//! subnets with equal contents, and the ports that point to them.
//!
//! When the contents of a subnet change it moves to another table. The FIB fills that one before the
//! ports point to it and removes the former after (invariant 5), so no packet meets a half-filled
//! table.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use ipnet::IpNet;

use super::{network::Network, network::Slot, own::OwnCandidate};
use crate::{
    config::{PeerKind, Subnet},
    fib::{Fib, Port, Precedence, RouteSpec, fnv::Fnv},
    names::{InterfaceName, RouteServerName, SubnetName, TableName, VnetName},
    rib::LearnedViewId,
};

/// The routes of an own table, sorted by prefix; cheap to clone.
pub(super) type Contents = Arc<[(IpNet, RouteSpec)]>;

/// The view that ports take, and its table.
pub(super) type TakenView = (RouteServerName, LearnedViewId, TableName);

/// What ports take of what is learned.
pub(super) enum View {
    /// Their network uses no route server.
    None,
    /// It is yet to be assigned.
    Awaited,
    Taken(TakenView),
}

/// The view that each port of a network took, if it took one.
pub(super) type FormerViews = BTreeMap<InterfaceName, Option<TakenView>>;

/// Ports of a network that stand or fall together.
pub(super) type SlotKey = (SubnetName, Option<PeerKind>);

/// What stands in the FIB by order of this module.
#[derive(Clone, Default)]
pub(super) struct Placements {
    slots: BTreeMap<VnetName, BTreeMap<SlotKey, Placed>>,
    tables: BTreeMap<TableName, OwnTable>,
}

#[derive(Clone)]
pub(super) struct Placed {
    table: TableName,
    view: Option<TakenView>,
    ports: Vec<InterfaceName>,
}

#[derive(Clone)]
struct OwnTable {
    contents: Contents,
    /// How many groups of ports use it.
    users: usize,
}

impl Placements {
    /// Takes everything of a network out of the FIB, and tells which view each of its ports took.
    /// What is placed again before the FIB is asked for changes never left.
    pub(super) fn remove(&mut self, vnet: &VnetName, fib: &mut Fib) -> FormerViews {
        let mut taken = FormerViews::new();
        for placed in self.slots.remove(vnet).unwrap_or_default().into_values() {
            for interface in placed.ports {
                fib.remove_port(&interface);
                taken.insert(interface, placed.view.clone());
            }
            let Entry::Occupied(mut own) = self.tables.entry(placed.table) else {
                continue;
            };
            own.get_mut().users -= 1;
            if own.get().users == 0 {
                fib.clear_table(own.key());
                own.remove();
            }
        }
        taken
    }

    /// Places ports of a subnet that are not placed.
    pub(super) fn place(
        &mut self,
        network: &Network,
        subnet: &Subnet,
        slot: &Slot<'_>,
        contents: Contents,
        view: View,
        fib: &mut Fib,
    ) {
        let awaits_learned = matches!(view, View::Awaited);
        let view = match view {
            View::Taken(view) => Some(view),
            View::None | View::Awaited => None,
        };
        let table = self.table_of(contents, fib);
        for port in &slot.ports {
            let restricted = if port.ip_forwarding && !planted!(NobodyIsRestricted) {
                network.restricted.clone()
            } else {
                // Its sources are checked: what it sends is its own.
                Vec::new()
            };
            fib.put_port(Port {
                interface: port.interface.clone(),
                vnet: network.name().clone(),
                own_table: table.clone(),
                learned_table: view.as_ref().map(|(.., table)| table.clone()),
                awaits_learned,
                addresses: port.addresses.clone(),
                mac: port.mac,
                gateways: subnet.gateways.clone(),
                ip_forwarding: port.ip_forwarding,
                restricted,
            });
        }
        let ports = slot.ports.iter().map(|port| port.interface.clone());
        let placed = Placed {
            table,
            view,
            ports: ports.collect(),
        };
        let slots = self.slots.entry(network.name().clone()).or_default();
        slots.insert((subnet.name.clone(), slot.gateway), placed);
    }

    /// The own and the learned table of some ports.
    pub(super) fn tables(
        &self,
        vnet: &VnetName,
        slot: &SlotKey,
    ) -> Option<(&TableName, Option<&TableName>)> {
        let placed = self.slots.get(vnet)?.get(slot)?;
        let learned = placed.view.as_ref().map(|(.., table)| table);
        Some((&placed.table, learned))
    }

    /// The views of a route server that are taken.
    pub(super) fn views_of(&self, server: &RouteServerName) -> BTreeSet<LearnedViewId> {
        let placed = self.slots.values().flat_map(BTreeMap::values);
        let views = placed.filter_map(|placed| placed.view.as_ref());
        let own = views.filter(|(of, ..)| of == server);
        own.map(|(_, id, _)| *id).collect()
    }

    /// The networks with ports that take one of these views.
    pub(super) fn takers_of<'a>(
        &'a self,
        server: &'a RouteServerName,
        views: &'a BTreeSet<LearnedViewId>,
    ) -> impl Iterator<Item = &'a VnetName> {
        let takes = move |placed: &Placed| {
            let view = placed.view.as_ref();
            view.is_some_and(|(of, id, _)| of == server && views.contains(id))
        };
        let networks = self.slots.iter();
        networks
            .filter(move |(_, slots)| slots.values().any(takes))
            .map(|(vnet, _)| vnet)
    }

    fn table_of(&mut self, contents: Contents, fib: &mut Fib) -> TableName {
        let mut hash = hash(&contents);
        loop {
            let name: TableName = format!("own/{hash:016x}").into();
            let Some(own) = self.tables.get_mut(&name) else {
                for (prefix, spec) in &*contents {
                    fib.put_route(&name, *prefix, spec.clone());
                }
                self.tables
                    .insert(name.clone(), OwnTable { contents, users: 1 });
                return name;
            };
            if own.contents == contents {
                own.users += 1;
                return name;
            }
            // Other contents have this very hash: the next name.
            hash = hash.wrapping_add(1);
        }
    }
}

/// What the own table of a subnet holds: the valid rows, but for those that another one stands for.
pub(super) fn contents(candidates: &[OwnCandidate], vnet: &VnetName) -> Contents {
    let routes = candidates
        .iter()
        .filter_map(|candidate| Some((candidate.row.prefix, candidate.spec(vnet)?)));
    routes.collect()
}

/// FNV-1a over prefix, group name, precedence and marks of each route: equal on every host.
fn hash(contents: &Contents) -> u64 {
    let mut hash = Fnv::new("waypost own table 2");
    for (prefix, spec) in &**contents {
        hash.prefix(*prefix);
        hash.number(spec.group.id().0);
        hash.bytes(&[
            match spec.precedence {
                Precedence::System => 1,
                Precedence::Learned => 2,
                Precedence::UserDefined => 3,
            },
            u8::from(spec.overriding),
            u8::from(spec.local),
        ]);
    }
    hash.finish()
}
