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
pub(super) enum View<'a> {
    /// Their network uses no route server.
    None,
    /// It is yet to be assigned.
    Awaited,
    /// It is yet to be assigned; until then, what they had. That may lead into networks that are peered
    /// no more: these stay closed to a port that they were closed to.
    Former(TakenView, &'a FormerPorts),
    Taken(TakenView),
}

/// How each port of a network stood.
pub(super) type FormerPorts = BTreeMap<InterfaceName, FormerPort>;

/// How a port stood.
pub(super) struct FormerPort {
    /// The view that it took, if it took one.
    pub(super) view: Option<TakenView>,
    /// The networks that it was not to forward into.
    restricted: Vec<VnetName>,
}

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
    /// Takes everything of a network out of the FIB, and tells how each of its ports stood. What is
    /// placed again before the FIB is asked for changes never left.
    pub(super) fn remove(&mut self, vnet: &VnetName, fib: &mut Fib) -> FormerPorts {
        let mut former = FormerPorts::new();
        for placed in self.slots.remove(vnet).unwrap_or_default().into_values() {
            for interface in placed.ports {
                let port = fib.port(&interface);
                let restricted = port.map(|port| port.restricted.clone());
                let stood = FormerPort {
                    view: placed.view.clone(),
                    restricted: restricted.unwrap_or_default(),
                };
                fib.remove_port(&interface);
                former.insert(interface, stood);
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
        former
    }

    /// Places ports of a subnet that are not placed.
    pub(super) fn place(
        &mut self,
        network: &Network,
        subnet: &Subnet,
        slot: &Slot<'_>,
        contents: Contents,
        view: View<'_>,
        fib: &mut Fib,
    ) {
        let awaits_learned = matches!(view, View::Awaited);
        let (view, former) = match view {
            View::Taken(view) => (Some(view), None),
            View::Former(view, former) => (Some(view), Some(former)),
            View::None | View::Awaited => (None, None),
        };
        let table = self.table_of(contents, fib);
        for port in &slot.ports {
            let restricted = if port.ip_forwarding && !planted!(NobodyIsRestricted) {
                let stood = former.and_then(|former| former.get(&port.interface));
                match stood {
                    Some(stood) => united(&network.restricted, &stood.restricted),
                    None => network.restricted.clone(),
                }
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

    /// The view that some ports take.
    pub(super) fn view(&self, vnet: &VnetName, slot: &SlotKey) -> Option<&TakenView> {
        self.slots.get(vnet)?.get(slot)?.view.as_ref()
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

fn united(some: &[VnetName], others: &[VnetName]) -> Vec<VnetName> {
    let all: BTreeSet<&VnetName> = some.iter().chain(others).collect();
    all.into_iter().cloned().collect()
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
