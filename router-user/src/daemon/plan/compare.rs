//! What people are shown, before and after: learned, advertised and effective routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use ipnet::IpNet;

use super::world::World;
use crate::{
    api::types::{
        AdvertisedRow, EffectiveRow, LearnedRow, PlannedAdvertised, PlannedEffective,
        PlannedLearned, PlannedSession,
    },
    bgp::InstanceId,
    names::{PeerName, RouteServerName, SubnetName, VnetName},
    route_server::{Filter, LearnedUse},
    vnet::PortGroup,
};

/// Paths that come, go or change.
pub(super) fn learned(before: &World, after: &World) -> Vec<PlannedLearned> {
    let names: BTreeSet<_> = before.servers.keys().chain(after.servers.keys()).collect();
    let rows = |world: &World, name: &RouteServerName| {
        let server = world.servers.get(name);
        let rows = server.map(|it| it.route_server.learned_rows(&Filter::default(), world.now));
        rows.unwrap_or_default()
    };
    let planned = names.into_iter().flat_map(|name| {
        differences(rows(before, name), rows(after, name))
            .into_iter()
            .map(|(before, after)| PlannedLearned { before, after })
    });
    planned.collect()
}

/// What sessions that are up and stay so are sent otherwise.
pub(super) fn advertised(
    before: &mut World,
    after: &mut World,
    sessions: &[PlannedSession],
) -> Vec<PlannedAdvertised> {
    let stay = sessions
        .iter()
        .filter(|session| session.up && matches!(session.change.as_str(), "kept" | "reset"));
    let planned = stay.flat_map(|session| {
        let rows = |world: &mut World| {
            let server = world.servers.get_mut(&session.route_server);
            let server = server.map(|server| &mut server.route_server);
            server.map_or_else(Vec::new, |server| {
                server.advertised_to(InstanceId(session.instance), session.address)
            })
        };
        differences(rows(before), rows(after))
            .into_iter()
            .map(|(before, after)| PlannedAdvertised { before, after })
    });
    planned.collect()
}

/// What ports take of which route server: before and after.
type Seen = [Option<(RouteServerName, LearnedUse)>; 2];

/// Ports of a subnet that see the same routes: before and after.
type Pair = [Option<PortGroup>; 2];

/// Rows of subnets that come, go or change.
pub(super) fn effective(before: &World, after: &World) -> Vec<PlannedEffective> {
    let takes = |world: &World, group: &Option<PortGroup>| {
        let (server, of, _) = world.vnets.learned_use(group.as_ref()?)?;
        Some((server, of))
    };
    let all = before.vnets.subnets().chain(after.vnets.subnets());
    let subnets: BTreeSet<(&VnetName, &SubnetName)> = all.collect();
    let pairs = subnets.into_iter().flat_map(|(vnet, subnet)| {
        let groups = |world: &World| world.vnets.port_groups(vnet, subnet);
        paired(groups(before), groups(after))
    });
    let mut by_use: BTreeMap<Seen, Vec<Pair>> = BTreeMap::new();
    for pair in pairs {
        let seen = [takes(before, &pair[0]), takes(after, &pair[1])];
        by_use.entry(seen).or_default().push(pair);
    }
    let mut planned: Vec<PlannedEffective> = Vec::new();
    for ([taken_before, taken_after], pairs) in by_use {
        let all_before = paths(before, taken_before.as_ref());
        let all_after = paths(after, taken_after.as_ref());
        let changed = changed_prefixes(&all_before, &all_after);
        let only_changed = |rows: &[LearnedRow]| -> Vec<LearnedRow> {
            let rows = rows.iter().filter(|row| changed.contains(&row.prefix));
            rows.cloned().collect()
        };
        let (few_before, few_after) = (only_changed(&all_before), only_changed(&all_after));
        for [group_before, group_after] in pairs {
            // Rows of other prefixes are the same.
            let is_alike = group_before == group_after
                && group_before
                    .as_ref()
                    .is_some_and(|group| before.vnets.is_alike(&after.vnets, group));
            let (paths_before, paths_after) = match is_alike {
                true if changed.is_empty() => continue,
                true => (&few_before, &few_after),
                false => (&all_before, &all_after),
            };
            let rows = |world: &World, group: Option<PortGroup>, paths: &[LearnedRow]| {
                let rows = group.map(|group| world.vnets.effective_routes(&group, paths));
                rows.unwrap_or_default()
            };
            let before = rows(before, group_before, paths_before);
            let after = rows(after, group_after, paths_after);
            let differences = differences(before, after).into_iter();
            planned.extend(differences.map(|(before, after)| PlannedEffective { before, after }));
        }
    }
    let place = |planned: &PlannedEffective| {
        let row = planned.after.as_ref().or(planned.before.as_ref());
        row.map(|row| (row.vnet.clone(), row.subnet.clone(), row.prefix))
    };
    planned.sort_by_cached_key(place);
    planned
}

/// The groups of a subnet's ports before and after beside each other: those of the same kind; what is
/// left, in order.
fn paired(mut before: Vec<PortGroup>, mut after: Vec<PortGroup>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    before.retain(|group| match after.iter().position(|it| it == group) {
        Some(place) => {
            pairs.push([Some(group.clone()), Some(after.remove(place))]);
            false
        }
        None => true,
    });
    let longer = before.len().max(after.len());
    let (mut before, mut after) = (before.into_iter(), after.into_iter());
    pairs.extend((0..longer).map(|_| [before.next(), after.next()]));
    pairs
}

/// The learned paths as a user sees them.
fn paths(world: &World, taken: Option<&(RouteServerName, LearnedUse)>) -> Vec<LearnedRow> {
    let rows = taken.and_then(|(name, of)| {
        let server = &world.servers.get(name)?.route_server;
        Some(server.learned_rows_for(of, &Filter::default(), world.now))
    });
    rows.unwrap_or_default()
}

fn changed_prefixes(before: &[LearnedRow], after: &[LearnedRow]) -> BTreeSet<IpNet> {
    let differences = differences(before.to_vec(), after.to_vec()).into_iter();
    let rows = differences.flat_map(|(before, after)| before.or(after));
    rows.map(|row| row.prefix).collect()
}

/// A row of a list that is sorted by prefix.
trait Row: Clone {
    /// What makes two rows of a prefix the same one, perhaps changed.
    type Key: Ord;

    fn prefix(&self) -> IpNet;

    fn key(&self) -> Self::Key;

    /// Whether both say the same, but for the reason.
    fn is_same(&self, other: &Self) -> bool;
}

impl Row for LearnedRow {
    type Key = (RouteServerName, PeerName, u8, Option<u32>);

    fn prefix(&self) -> IpNet {
        self.prefix
    }

    fn key(&self) -> Self::Key {
        let (server, peer) = (self.route_server.clone(), self.peer.clone());
        (server, peer, self.instance, self.path_id)
    }

    fn is_same(&self, other: &Self) -> bool {
        let reason = self.reason.clone();
        *self
            == Self {
                reason,
                ..other.clone()
            }
    }
}

impl Row for AdvertisedRow {
    type Key = Option<u32>;

    fn prefix(&self) -> IpNet {
        self.prefix
    }

    fn key(&self) -> Self::Key {
        self.path_id
    }

    /// Names of peers may change without anybody being told.
    fn is_same(&self, other: &Self) -> bool {
        let (peer, from) = (self.peer.clone(), self.from.clone());
        *self
            == Self {
                peer,
                from,
                ..other.clone()
            }
    }
}

impl Row for EffectiveRow {
    type Key = (String, Option<PeerName>);

    fn prefix(&self) -> IpNet {
        self.prefix
    }

    fn key(&self) -> Self::Key {
        (self.source.clone(), self.peer.clone())
    }

    fn is_same(&self, other: &Self) -> bool {
        let reason = self.reason.clone();
        *self
            == Self {
                reason,
                ..other.clone()
            }
    }
}

/// The rows in which two lists differ, those of one key beside each other.
fn differences<R: Row>(mut before: Vec<R>, mut after: Vec<R>) -> Vec<(Option<R>, Option<R>)> {
    before.sort_by_key(Row::prefix);
    after.sort_by_key(Row::prefix);
    let mut before = before.into_iter().peekable();
    let mut after = after.into_iter().peekable();
    let mut found = Vec::new();
    loop {
        let prefixes = [before.peek(), after.peek()].map(|row| row.map(Row::prefix));
        let Some(prefix) = prefixes.into_iter().flatten().min() else {
            return found;
        };
        differ_in(
            run(&mut before, prefix),
            run(&mut after, prefix),
            &mut found,
        );
    }
}

/// The next rows, as far as they are of this prefix.
fn run<R: Row>(rows: &mut Peekable<impl Iterator<Item = R>>, prefix: IpNet) -> Vec<R> {
    std::iter::from_fn(|| rows.next_if(|row| row.prefix() == prefix)).collect()
}

/// The same for the rows of one prefix.
fn differ_in<R: Row>(before: Vec<R>, mut after: Vec<R>, found: &mut Vec<(Option<R>, Option<R>)>) {
    let mut left: BTreeMap<R::Key, (Vec<R>, Vec<R>)> = BTreeMap::new();
    for row in before {
        match after.iter().position(|other| row.is_same(other)) {
            Some(place) => {
                after.remove(place);
            }
            None => left.entry(row.key()).or_default().0.push(row),
        }
    }
    for row in after {
        left.entry(row.key()).or_default().1.push(row);
    }
    for (before, after) in left.into_values() {
        let longer = before.len().max(after.len());
        let (mut before, mut after) = (before.into_iter(), after.into_iter());
        found.extend((0..longer).map(|_| (before.next(), after.next())));
    }
}

#[cfg(test)]
mod tests {
    use super::{PortGroup, paired};
    use crate::config::PeerKind::{self, ExpressRoute, Vpn};

    #[test]
    fn ports_are_compared_with_those_of_their_kind_or_with_those_in_whose_place_they_are() {
        let pairs = |before: &[Option<PeerKind>], after: &[Option<PeerKind>]| {
            let groups = |kinds: &[Option<PeerKind>]| {
                let groups = kinds.iter().map(|gateway| PortGroup {
                    vnet: "hub".into(),
                    subnet: "gateways".into(),
                    gateway: *gateway,
                });
                groups.collect()
            };
            let pairs = paired(groups(before), groups(after)).into_iter();
            let kinds = pairs.map(|pair| pair.map(|group| group.map(|group| group.gateway)));
            kinds.collect::<Vec<_>>()
        };
        let (er, vpn) = (Some(ExpressRoute), Some(Vpn));
        assert_eq!(
            pairs(&[er, vpn], &[vpn]),
            [[Some(vpn), Some(vpn)], [Some(er), None]]
        );
        assert_eq!(
            pairs(&[None], &[vpn]),
            [[Some(None), Some(vpn)]],
            "a gateway's now"
        );
        assert_eq!(pairs(&[], &[None]), [[None, Some(None)]]);
    }
}
