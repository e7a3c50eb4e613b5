//! The learned table of a route server: one for all subnets that use it.
//!
//! In: [`LearnedChange`]s, at O(1) each. Out: routes of the table `learned/<route server>`. Routes
//! that stand in the FIB are not kept here a second time; only those are that were learned but are
//! not programmed, because they lie within the own space of the network. Where no port forwards by
//! the table it stays empty, and only what other routes depend on is noted.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use ipnet::IpNet;

use super::own::LearnedDefaults;
use crate::{
    fib::{Fib, Group, Member, NextHop, Precedence, RouteSpec, SharedGroup},
    names::{RouteServerName, TableName, VnetName},
    rib::{LearnedChange, LearnedNextHop, LearnedRoute},
};

pub(super) struct LearnedTable {
    name: TableName,
    /// The network that next hops are addresses of.
    vnet: VnetName,
    /// Its own space: nothing in it is programmed.
    space: Vec<IpNet>,
    groups: GroupCache,
    pending: Vec<(IpNet, Option<SharedGroup>)>,
    /// Learned, within the own space, not programmed.
    shadowed: BTreeMap<IpNet, SharedGroup>,
    unresolvable: BTreeSet<IpNet>,
    defaults: LearnedDefaults,
    resettle: Resettle,
    /// A port's packets take these routes.
    forwarding: bool,
    /// None did before what is pending: nothing is to stand from then.
    clear: bool,
}

/// What a new configuration means for the routes that stand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resettle {
    Nothing,
    /// Some enter or leave the own space.
    Space,
    /// All lead into another network.
    Network,
}

impl LearnedTable {
    pub(super) fn new(route_server: &RouteServerName, vnet: VnetName, space: Vec<IpNet>) -> Self {
        Self {
            name: table_name(route_server),
            groups: GroupCache::new(vnet.clone()),
            vnet,
            space,
            pending: Vec::new(),
            shadowed: BTreeMap::new(),
            unresolvable: BTreeSet::new(),
            defaults: LearnedDefaults::default(),
            resettle: Resettle::Nothing,
            forwarding: true,
            clear: false,
        }
    }

    /// Whether a port's packets take these routes. Those that are learned while none do are to be
    /// learned again.
    pub(super) fn set_forwarding(&mut self, forwarding: bool) {
        self.forwarding = forwarding;
        if !forwarding {
            self.pending.clear();
            self.clear = true;
        }
    }

    /// The network, or its space, may be another from now on.
    pub(super) fn attach(&mut self, vnet: &VnetName, space: &[IpNet]) {
        if self.vnet != *vnet {
            self.vnet = vnet.clone();
            self.groups = GroupCache::new(vnet.clone());
            self.resettle = Resettle::Network;
        }
        if self.space != space {
            self.space = space.to_vec();
            self.resettle = self.resettle.max(Resettle::Space);
        }
    }

    pub(super) fn learn(&mut self, change: LearnedChange) {
        let prefix = change.prefix.trunc();
        self.defaults.note(&prefix, change.route.is_some());
        if change
            .route
            .as_ref()
            .is_some_and(|route| route.members.is_empty())
        {
            self.unresolvable.insert(prefix);
        } else {
            self.unresolvable.remove(&prefix);
        }
        if !self.forwarding {
            return;
        }
        let group = change.route.map(|route| self.groups.group(route));
        self.pending.push((prefix, group));
    }

    pub(super) fn apply_to(&mut self, fib: &mut Fib) {
        if std::mem::take(&mut self.clear) {
            self.shadowed.clear();
            fib.clear_table(&self.name);
        }
        // In the order of events: what is pending may still lead into the former network.
        for (prefix, group) in std::mem::take(&mut self.pending) {
            self.settle(fib, prefix, group);
        }
        match std::mem::replace(&mut self.resettle, Resettle::Nothing) {
            Resettle::Nothing => {}
            Resettle::Space => self.resettle(fib, false),
            Resettle::Network => self.resettle(fib, true),
        }
    }

    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    /// For which families the default route is learned.
    pub(super) fn defaults(&self) -> LearnedDefaults {
        self.defaults
    }

    /// Prefixes of which no candidate's next hop is resolvable: their packets are dropped.
    pub(super) fn unresolvable(&self) -> &BTreeSet<IpNet> {
        &self.unresolvable
    }

    fn settle(&mut self, fib: &mut Fib, prefix: IpNet, group: Option<SharedGroup>) {
        match group {
            Some(group) if self.is_own_space(&prefix) => {
                self.shadowed.insert(prefix, group);
                fib.remove_route(&self.name, &prefix);
            }
            Some(group) => {
                self.shadowed.remove(&prefix);
                let spec = RouteSpec {
                    group,
                    precedence: Precedence::Learned,
                    overriding: false,
                    local: false,
                };
                fib.put_route(&self.name, prefix, spec);
            }
            None => {
                self.shadowed.remove(&prefix);
                fib.remove_route(&self.name, &prefix);
            }
        }
    }

    fn resettle(&mut self, fib: &mut Fib, other_network: bool) {
        let mut routes = std::mem::take(&mut self.shadowed);
        routes.extend(
            fib.routes(&self.name)
                .filter(|(prefix, _)| other_network || self.is_own_space(prefix))
                .filter_map(|(prefix, route)| {
                    Some((prefix, fib.shared_group(route.group)?.clone()))
                }),
        );
        for (prefix, group) in routes {
            let group = if other_network {
                in_network(&group, &self.vnet)
            } else {
                group
            };
            self.settle(fib, prefix, Some(group));
        }
    }

    fn is_own_space(&self, prefix: &IpNet) -> bool {
        self.space.iter().any(|own| own.contains(prefix))
    }
}

/// The name of a route server's learned table.
pub(super) fn table_name(route_server: &RouteServerName) -> TableName {
    format!("learned/{route_server}").into()
}

/// Groups of learned routes. Many routes share few of them; one is made once.
struct GroupCache {
    vnet: VnetName,
    /// With a keyed hash: peers choose next hops.
    groups: HashMap<LearnedRoute, SharedGroup>,
    prune_at: usize,
}

const PRUNE_AT_LEAST: usize = 1024;

impl GroupCache {
    fn new(vnet: VnetName) -> Self {
        Self {
            vnet,
            groups: HashMap::default(),
            prune_at: PRUNE_AT_LEAST,
        }
    }

    fn group(&mut self, route: LearnedRoute) -> SharedGroup {
        if let Some(group) = self.groups.get(&route) {
            return group.clone();
        }
        if self.groups.len() >= self.prune_at {
            // Held by nobody but this cache: no route uses it any more.
            self.groups.retain(|_, group| group.holders() > 1);
            self.prune_at = (2 * self.groups.len()).max(PRUNE_AT_LEAST);
        }
        let group = group_of(&route, &self.vnet);
        self.groups.insert(route, group.clone());
        group
    }
}

/// Without members no candidate's next hop is resolvable, a backup's neither: packets are dropped.
fn group_of(route: &LearnedRoute, vnet: &VnetName) -> SharedGroup {
    let members = |next_hops: &[LearnedNextHop]| {
        next_hops
            .iter()
            .map(|next_hop| Member {
                next_hop: NextHop::Via {
                    vnet: vnet.clone(),
                    address: next_hop.address,
                },
                weight: next_hop.weight,
            })
            .collect()
    };
    SharedGroup::new(Group {
        members: members(&route.members),
        backups: members(&route.backups),
    })
}

/// The same group with its next hops in another network.
fn in_network(group: &Group, vnet: &VnetName) -> SharedGroup {
    let moved = |members: &[Member]| {
        members
            .iter()
            .map(|member| Member {
                next_hop: match &member.next_hop {
                    NextHop::Via { address, .. } => NextHop::Via {
                        vnet: vnet.clone(),
                        address: *address,
                    },
                    other => other.clone(),
                },
                weight: member.weight,
            })
            .collect()
    };
    SharedGroup::new(Group {
        members: moved(&group.members),
        backups: moved(&group.backups),
    })
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{GroupCache, LearnedNextHop, LearnedRoute, PRUNE_AT_LEAST};

    #[test]
    fn groups_that_no_route_uses_are_not_kept_for_ever() {
        let mut cache = GroupCache::new("hub".into());
        let kept = cache.group(route(0));
        for n in 1..10_000 {
            let _ = cache.group(route(n));
            assert!(cache.groups.len() <= PRUNE_AT_LEAST);
        }
        assert_eq!(cache.group(route(0)), kept);
        assert_eq!(kept.holders(), 2, "it was not made a second time");
    }

    fn route(n: u32) -> LearnedRoute {
        LearnedRoute {
            members: Arc::new([LearnedNextHop {
                address: IpAddr::V4(n.into()),
                weight: 1,
            }]),
            backups: Arc::new([]),
            blackhole: false,
        }
    }
}
