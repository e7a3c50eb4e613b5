//! Route maps: ordered rules over routes that are learned or advertised.

use std::{collections::BTreeSet, net::IpAddr};

use super::state::{Kind, Prefix, Route};

/// Rules that are asked in order; what none of them matches passes unchanged.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteMap(pub(crate) Vec<Rule>);

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) matches: Match,
    /// `None`: dropped.
    pub(crate) permit: Option<Changes>,
    /// Later rules are asked as well.
    pub(crate) continues: bool,
}

/// Of each list that is not empty, one has to fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    /// Within this prefix, of a length from the first to the second.
    pub(crate) prefixes: Vec<(Prefix, u8, u8)>,
    pub(crate) communities: Vec<u32>,
    pub(crate) as_paths: Vec<AsPath>,
    pub(crate) sources: Vec<Source>,
}

#[derive(Clone, Debug)]
pub(crate) enum AsPath {
    Contains(u32),
    Exact(Vec<u32>),
}

/// Where a route comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Kind(Kind),
    /// The peer of this place, or any member of its gateway.
    Peer(usize),
    Static,
    Originated,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) as_path_replace: Option<Vec<u32>>,
    pub(crate) as_path_prepend: Vec<u32>,
    pub(crate) community_replace: Option<BTreeSet<u32>>,
    pub(crate) community_remove: BTreeSet<u32>,
    pub(crate) community_add: BTreeSet<u32>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) weight: Option<u8>,
    pub(crate) next_hop: Option<IpAddr>,
}

impl RouteMap {
    /// What becomes of a route that all of `sources` describe; `None`: it is dropped. `weight`: what
    /// the map says of it.
    pub(super) fn apply(
        &self,
        prefix: Prefix,
        sources: &[Source],
        mut route: Route,
        weight: &mut Option<u8>,
    ) -> Option<Route> {
        for rule in &self.0 {
            if !rule.matches.fits(prefix, sources, &route) {
                continue;
            }
            rule.permit.as_ref()?.apply(&mut route, weight);
            if !rule.continues {
                break;
            }
        }
        Some(route)
    }
}

impl Match {
    fn fits(&self, prefix: Prefix, sources: &[Source], route: &Route) -> bool {
        let of_prefix = |(within, shortest, longest): &(Prefix, u8, u8)| {
            within.contains(prefix) && (*shortest..=*longest).contains(&prefix.len)
        };
        let of_path = |pattern: &AsPath| match pattern {
            AsPath::Contains(asn) => route.as_path.contains(asn),
            AsPath::Exact(asns) => route.as_path == *asns,
        };
        one_of(&self.prefixes, of_prefix)
            && one_of(&self.communities, |community| {
                route.communities.contains(community)
            })
            && one_of(&self.as_paths, of_path)
            && one_of(&self.sources, |source| sources.contains(source))
    }
}

fn one_of<T>(list: &[T], fits: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

impl Changes {
    fn apply(&self, route: &mut Route, weight: &mut Option<u8>) {
        if let Some(path) = &self.as_path_replace {
            route.as_path.clone_from(path);
        }
        route.as_path.splice(..0, self.as_path_prepend.clone());
        if let Some(communities) = &self.community_replace {
            route.communities.clone_from(communities);
        }
        route
            .communities
            .retain(|community| !self.community_remove.contains(community));
        route.communities.extend(&self.community_add);
        route.local_pref = self.local_pref.or(route.local_pref);
        route.med = self.med.or(route.med);
        route.next_hop = self.next_hop.unwrap_or(route.next_hop);
        *weight = self.weight.or(*weight);
    }
}
