//! The learned table of one view of a route server: one for all subnets that take this view.
//!
//! In: [`LearnedChange`]s, at O(1) each. Out: routes of the table `learned/<route server>`, or
//! `learned/<route server>/<label>`. Routes that stand in the FIB are not kept here a second time.
//! They are programmed whatever the spaces of the networks are: an own row that overrides beats them
//! in its network, and in no other. Where no port forwards by the table it stays empty, and only what
//! other routes depend on is noted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use foldhash::{HashMap, HashSet};
use ipnet::IpNet;

use super::{network::Network, own::LearnedDefaults};
use crate::{
    fib::{Fib, Group, GroupId, Member, NextHop, Precedence, RouteSpec, SharedGroup},
    names::{RouteServerName, TableName, VnetName},
    rib::{LearnedChange, LearnedNextHop, LearnedRoute},
};

#[derive(Clone)]
pub(super) struct LearnedTable {
    name: TableName,
    groups: GroupCache,
    pending: Vec<(IpNet, Option<SharedGroup>)>,
    dropping: BTreeMap<IpNet, Dropping>,
    defaults: LearnedDefaults,
    /// Next hops of the routes that stand may lie in other networks now.
    resettle: bool,
    /// A port's packets take these routes.
    forwarding: bool,
    /// How many of what is pending came before all is to be told anew.
    anew: Option<usize>,
    /// Prefixes that have not been told anew. Their routes stand while ports take them.
    outdated: HashSet<IpNet>,
    /// Likewise those that others depend on.
    outdated_marks: BTreeSet<IpNet>,
    /// All has been told anew: what is outdated goes, whoever takes it.
    complete: bool,
}

/// Why packets to a learned prefix are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropping {
    /// No candidate's next hop is resolvable.
    Unresolvable,
    /// The best path carries BLACKHOLE (RFC 7999).
    Blackhole,
}

impl LearnedTable {
    pub(super) fn new(route_server: &RouteServerName, label: &str, reach: Reach) -> Self {
        let name = match label {
            "" => format!("learned/{route_server}"),
            label => format!("learned/{route_server}/{label}"),
        };
        Self {
            name: name.into(),
            groups: GroupCache::new(reach),
            pending: Vec::new(),
            dropping: BTreeMap::new(),
            defaults: LearnedDefaults::default(),
            resettle: false,
            forwarding: true,
            anew: None,
            outdated: HashSet::default(),
            outdated_marks: BTreeSet::new(),
            complete: false,
        }
    }

    /// Whether a port's packets take these routes. Those that are learned while none do are to be
    /// learned again.
    pub(super) fn set_forwarding(&mut self, forwarding: bool) {
        self.forwarding = forwarding;
        if !forwarding {
            self.pending.clear();
            self.anew = Some(0);
            self.complete = false;
        }
    }

    /// From now on all is told anew; until that is [`complete`](Self::complete), what was told holds.
    pub(super) fn begin_anew(&mut self) {
        self.anew = Some(self.pending.len());
        self.complete = false;
        self.outdated_marks = self.dropping.keys().copied().collect();
        self.outdated_marks.extend(self.defaults.prefixes());
    }

    /// All that stands has been told.
    pub(super) fn complete(&mut self) {
        self.complete = true;
        self.complete_marks();
    }

    /// All that others depend on has been told.
    pub(super) fn complete_marks(&mut self) {
        for prefix in std::mem::take(&mut self.outdated_marks) {
            self.dropping.remove(&prefix);
            self.defaults.note(&prefix, false);
        }
    }

    /// Next hops may lie in other networks from now on.
    pub(super) fn set_reach(&mut self, reach: &Reach) {
        self.resettle |= self.groups.set_reach(reach);
    }

    pub(super) fn learn(&mut self, change: LearnedChange) {
        let prefix = change.prefix.trunc();
        self.outdated_marks.remove(&prefix);
        self.defaults.note(&prefix, change.route.is_some());
        let dropping = change.route.as_ref().and_then(|route| {
            if route.blackhole {
                Some(Dropping::Blackhole)
            } else {
                (route.members.is_empty()).then_some(Dropping::Unresolvable)
            }
        });
        match dropping {
            Some(dropping) => self.dropping.insert(prefix, dropping),
            None => self.dropping.remove(&prefix),
        };
        if !self.forwarding {
            return;
        }
        let group = change.route.map(|route| self.groups.group(route));
        self.pending.push((prefix, group));
    }

    pub(super) fn apply_to(&mut self, fib: &mut Fib) {
        let mut pending = std::mem::take(&mut self.pending);
        if let Some(before) = self.anew.take() {
            let after = pending.split_off(before);
            self.put(pending, fib);
            let standing = fib.routes(&self.name);
            self.outdated = standing.map(|(prefix, _)| prefix).collect();
            pending = after;
        }
        // In the order of events: what is pending may still lead into the former network.
        self.put(pending, fib);
        if std::mem::take(&mut self.resettle) {
            self.resettle(fib);
        }
    }

    /// Removes what is outdated, unless ports take it that have not been told what else they are to
    /// take.
    pub(super) fn remove_outdated(&mut self, fib: &mut Fib) {
        if self.outdated.is_empty() || (!self.complete && fib.has_ports(&self.name)) {
            return;
        }
        for prefix in std::mem::take(&mut self.outdated) {
            fib.remove_route(&self.name, &prefix);
        }
    }

    fn put(&mut self, changes: Vec<(IpNet, Option<SharedGroup>)>, fib: &mut Fib) {
        for (prefix, group) in changes {
            if !self.outdated.is_empty() {
                self.outdated.remove(&prefix);
            }
            match group {
                Some(group) => fib.put_route(&self.name, prefix, learned(group)),
                None => fib.remove_route(&self.name, &prefix),
            }
        }
    }

    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    /// For which families the default route is learned.
    pub(super) fn defaults(&self) -> LearnedDefaults {
        self.defaults
    }

    /// Prefixes whose packets are dropped.
    pub(super) fn dropping(&self) -> &BTreeMap<IpNet, Dropping> {
        &self.dropping
    }

    /// Many routes share few groups; each group is made anew once.
    fn resettle(&mut self, fib: &mut Fib) {
        let mut next_hops = HashSet::default();
        let mut moved: HashMap<GroupId, Option<SharedGroup>> = HashMap::default();
        let mut routes = Vec::new();
        for (prefix, route) in fib.routes(&self.name) {
            let moved = moved.entry(route.group).or_insert_with(|| {
                let group = fib.shared_group(route.group)?;
                next_hops.extend(group.next_hops().filter_map(address));
                let moved = self.groups.reach.moved(group);
                (moved != *group).then_some(moved)
            });
            routes.extend(moved.clone().map(|group| (prefix, group)));
        }
        for (prefix, group) in routes {
            fib.put_route(&self.name, prefix, learned(group));
        }
        self.groups.stand(next_hops);
    }
}

/// The address of a next hop that is in a network.
fn address(next_hop: &NextHop) -> Option<IpAddr> {
    match next_hop {
        NextHop::Via { address, .. } => Some(*address),
        _ => None,
    }
}

fn learned(group: SharedGroup) -> RouteSpec {
    RouteSpec {
        group,
        precedence: Precedence::Learned,
        overriding: false,
        local: false,
    }
}

/// The networks in which next hops lie: that of the route server, and those that are peered with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reach {
    /// That of the route server: what lies in none is looked for there.
    home: VnetName,
    /// In the order in which they are asked.
    spaces: Arc<[(VnetName, Vec<IpNet>)]>,
}

impl Reach {
    /// `network`: that of the route server, if it exists.
    pub(super) fn new(home: &VnetName, network: Option<&Network>) -> Self {
        let spaces = network.into_iter().flat_map(Network::spaces);
        Self {
            home: home.clone(),
            spaces: spaces
                .map(|space| (space.vnet.clone(), space.prefixes.clone()))
                .collect(),
        }
    }

    fn via(&self, address: IpAddr) -> NextHop {
        NextHop::Via {
            vnet: self.network_of(address).clone(),
            address,
        }
    }

    fn network_of(&self, address: IpAddr) -> &VnetName {
        self.space_of(address).unwrap_or(&self.home)
    }

    /// The network whose space an address lies in.
    pub(super) fn space_of(&self, address: IpAddr) -> Option<&VnetName> {
        let contains = |prefixes: &[IpNet]| prefixes.iter().any(|prefix| prefix.contains(&address));
        let mut spaces = self.spaces.iter();
        let space = spaces.find(|(_, prefixes)| contains(prefixes));
        space.map(|(vnet, _)| vnet)
    }

    /// Without members no candidate's next hop is resolvable, a backup's neither: packets are
    /// dropped.
    fn group(&self, route: &LearnedRoute) -> SharedGroup {
        if route.blackhole {
            return SharedGroup::single(NextHop::Blackhole);
        }
        let members = |next_hops: &[LearnedNextHop]| {
            let members = next_hops.iter().map(|next_hop| Member {
                next_hop: self.via(next_hop.address),
                weight: next_hop.weight,
            });
            members.collect()
        };
        SharedGroup::new(Group {
            members: members(&route.members),
            backups: members(&route.backups),
        })
    }

    /// The same group with its next hops where they lie now.
    fn moved(&self, group: &Group) -> SharedGroup {
        let moved = |members: &[Member]| {
            let members = members.iter().map(|member| Member {
                next_hop: match &member.next_hop {
                    NextHop::Via { address, .. } => self.via(*address),
                    other => other.clone(),
                },
                weight: member.weight,
            });
            members.collect()
        };
        SharedGroup::new(Group {
            members: moved(&group.members),
            backups: moved(&group.backups),
        })
    }
}

/// Groups of learned routes. Many routes share few of them; one is made once.
#[derive(Clone)]
struct GroupCache {
    reach: Reach,
    /// With a keyed hash: peers choose next hops.
    groups: HashMap<LearnedRoute, SharedGroup>,
    prune_at: usize,
    /// All next hops of routes that stand, and some of before; `None`: there were too many.
    next_hops: Option<HashSet<IpAddr>>,
}

const PRUNE_AT_LEAST: usize = 1024;

/// Most next hops that are noted: more than the data plane holds.
const MOST_NOTED: usize = 32_768;

impl GroupCache {
    fn new(reach: Reach) -> Self {
        Self {
            reach,
            groups: HashMap::default(),
            prune_at: PRUNE_AT_LEAST,
            next_hops: Some(HashSet::default()),
        }
    }

    /// Takes over another reach; whether next hops of routes that stand may lie elsewhere in it, at
    /// O(next hops).
    fn set_reach(&mut self, reach: &Reach) -> bool {
        let before = std::mem::replace(&mut self.reach, reach.clone());
        if before == *reach {
            return false;
        }
        let elsewhere =
            |address: &IpAddr| before.network_of(*address) != reach.network_of(*address);
        let moves = self
            .next_hops
            .as_ref()
            .is_none_or(|next_hops| next_hops.iter().any(elsewhere));
        if moves {
            self.groups.clear();
            self.prune_at = PRUNE_AT_LEAST;
        }
        moves
    }

    /// These are the next hops of all routes that stand.
    fn stand(&mut self, next_hops: HashSet<IpAddr>) {
        self.next_hops = Some(next_hops).filter(|noted| noted.len() <= MOST_NOTED);
    }

    fn note(&mut self, route: &LearnedRoute) {
        let Some(noted) = &mut self.next_hops else {
            return;
        };
        let next_hops = route.members.iter().chain(&*route.backups);
        noted.extend(next_hops.map(|next_hop| next_hop.address));
        if noted.len() > MOST_NOTED {
            self.next_hops = None;
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
        self.note(&route);
        let group = self.reach.group(&route);
        self.groups.insert(route, group.clone());
        group
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{
        GroupCache, LearnedChange, LearnedNextHop, LearnedRoute, LearnedTable, MOST_NOTED,
        PRUNE_AT_LEAST, Reach,
    };
    use crate::fib::{Fib, NextHop};

    #[test]
    fn groups_that_no_route_uses_are_not_kept_for_ever() {
        let mut cache = GroupCache::new(Reach::new(&"hub".into(), None));
        let kept = cache.group(route(0));
        for n in 1..10_000 {
            let _ = cache.group(route(n));
            assert!(cache.groups.len() <= PRUNE_AT_LEAST);
        }
        assert_eq!(cache.group(route(0)), kept);
        assert_eq!(kept.holders(), 2, "it was not made a second time");
    }

    #[test]
    fn routes_are_gone_through_only_where_a_next_hop_lies_in_another_network_now() {
        let reach = |spaces: &[(&str, &str)]| Reach {
            home: "hub".into(),
            spaces: spaces
                .iter()
                .map(|(vnet, prefix)| ((*vnet).into(), vec![prefix.parse().unwrap()]))
                .collect(),
        };
        let alone = reach(&[("hub", "10.1.0.0/16")]);
        let far = reach(&[("hub", "10.1.0.0/16"), ("far", "10.9.0.0/16")]);
        let near = reach(&[("hub", "10.1.0.0/16"), ("near", "0.0.0.0/16")]);
        let mut fib = Fib::new();
        let mut table = LearnedTable::new(&"rs1".into(), "", alone.clone());
        table.learn(LearnedChange {
            view: crate::rib::LearnedViewId::default(),
            prefix: "10.250.0.0/16".parse().unwrap(),
            route: Some(route(7)),
        });
        table.apply_to(&mut fib);
        let mut moves = |reach: &Reach, fib: &mut Fib| {
            table.set_reach(reach);
            let moves = table.resettle;
            table.apply_to(fib);
            let (_, route) = fib.routes(table.name()).next().unwrap();
            let group = fib.group(route.group).unwrap();
            let NextHop::Via { vnet, .. } = group.next_hops().next().unwrap() else {
                panic!("it is in a network");
            };
            (moves, vnet.to_string())
        };
        let hub = || "hub".to_owned();
        assert_eq!(moves(&far, &mut fib), (false, hub()));
        assert_eq!(moves(&near, &mut fib), (true, "near".to_owned()));
        assert_eq!(moves(&near, &mut fib), (false, "near".to_owned()));
        // What was gone through is known as well.
        assert_eq!(moves(&alone, &mut fib), (true, hub()));
    }

    #[test]
    fn where_too_many_next_hops_were_named_to_be_noted_all_routes_are_gone_through() {
        let mut cache = GroupCache::new(Reach::new(&"hub".into(), None));
        for n in 0..=MOST_NOTED {
            let _ = cache.group(route(u32::try_from(n).unwrap()));
        }
        let mut other = Reach::new(&"hub".into(), None);
        other.spaces = [("far".into(), vec![])].into();
        assert!(cache.set_reach(&other));
        cache.stand(std::iter::once(IpAddr::V4(7.into())).collect());
        assert!(!cache.set_reach(&Reach::new(&"hub".into(), None)));
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
