//! The route that subnets learn from the paths of a prefix: its sets of next hops with their weights.
//!
//! In: paths, and which of them count. Out: a [`LearnedRoute`]. Equal sets are one allocation: a
//! million prefixes share a handful of them.

use std::sync::Arc;

use foldhash::HashSet;
use smallvec::SmallVec;

use super::{
    LearnedNextHop, LearnedRoute,
    learned::{Basis, Scope},
    path::Path,
};
use crate::bgp::wire::community::{self, ExtendedCommunity};

/// The sets of next hops, one copy each. The hash is keyed, for peers choose next hops.
#[derive(Clone, Default)]
pub(super) struct NextHops {
    sets: HashSet<Arc<[LearnedNextHop]>>,
    sweep_at: usize,
}

impl NextHops {
    /// What subnets learn from these paths, where those in `scope` count. What the route server
    /// originates is not learned.
    pub(super) fn route(
        &mut self,
        basis: &Basis<'_>,
        scope: &Scope,
        paths: &[Path],
    ) -> Option<LearnedRoute> {
        let decision = &basis.decision;
        let is_candidate = |path: &Path| scope.takes(decision.sessions, path);
        let members = decision.multipath(paths, is_candidate);
        let Some(best) = members.first() else {
            let leads_nowhere = scope.any_dead_end(basis, paths);
            return leads_nowhere.then(|| self.nowhere(basis, false));
        };
        if is_blackhole(basis, best) {
            return Some(self.nowhere(basis, true));
        }
        let is_member = |path: &Path| {
            let next_hop = path.next_hop();
            members.iter().any(|member| member.next_hop() == next_hop)
        };
        let backups = decision.multipath(paths, |path| {
            is_candidate(path) && (!is_member(path) || planted!(MembersAreBackups))
        });
        Some(LearnedRoute {
            members: self.set(basis, &members),
            backups: self.set(basis, &backups),
            blackhole: false,
        })
    }

    fn nowhere(&mut self, basis: &Basis<'_>, blackhole: bool) -> LearnedRoute {
        LearnedRoute {
            members: self.set(basis, &[]),
            backups: self.set(basis, &[]),
            blackhole,
        }
    }

    /// The shared set of these paths' next hops.
    fn set(&mut self, basis: &Basis<'_>, paths: &[&Path]) -> Arc<[LearnedNextHop]> {
        let largest = largest_bandwidth(paths);
        let next_hops = paths.iter().filter_map(|path| {
            Some(LearnedNextHop {
                address: path.next_hop()?,
                weight: weight(basis, path, largest),
            })
        });
        let mut set: SmallVec<[LearnedNextHop; 8]> = next_hops.collect();
        set.sort_unstable();
        if let Some(known) = self.sets.get(&set[..]) {
            return known.clone();
        }
        let shared: Arc<[LearnedNextHop]> = set[..].into();
        self.sets.insert(shared.clone());
        shared
    }

    /// Forgets sets that nobody uses, each time their number has doubled.
    pub(super) fn sweep(&mut self) {
        const FEW: usize = 1024;
        if self.sets.len() > self.sweep_at.max(FEW) {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.sweep_at = 2 * self.sets.len();
        }
    }
}

/// RFC 7999 §3.3: only from peers that may.
pub(super) fn is_blackhole(basis: &Basis<'_>, path: &Path) -> bool {
    let session = basis.decision.sessions.info(path.session);
    session.may_blackhole
        && !planted!(BlackholeForwards)
        && path.attributes.has_community(community::BLACKHOLE)
}

/// What a route map says; else the share that the path's bandwidth is of the largest one.
fn weight(basis: &Basis<'_>, path: &Path, largest: Option<f32>) -> u32 {
    const MOST: f32 = 255.0;
    let set = match path.standing.is_changed() && !planted!(WeightsDoNotCount) {
        true => basis.attributes.weight(&path.attributes),
        false => None,
    };
    match (set, largest) {
        (Some(weight), _) => weight.get().into(),
        (None, Some(largest)) => {
            let share = bandwidth(path).unwrap_or(0.0) / largest;
            (share * MOST).round().clamp(1.0, MOST) as u32
        }
        (None, None) => 1,
    }
}

/// The largest bandwidth of a set; `None`: there are members without one.
fn largest_bandwidth(paths: &[&Path]) -> Option<f32> {
    paths.iter().try_fold(0.0, |largest: f32, path| {
        bandwidth(path).map(|bandwidth| bandwidth.max(largest))
    })
}

/// Bytes per second, by the link bandwidth community (draft-ietf-idr-link-bandwidth).
fn bandwidth(path: &Path) -> Option<f32> {
    let communities = path.attributes.extended_communities.iter();
    let mut bandwidths = communities
        .filter_map(|community| ExtendedCommunity(*community).link_bandwidth())
        .map(|(_, bandwidth)| bandwidth);
    bandwidths.find(|bandwidth| bandwidth.is_finite() && *bandwidth > 0.0)
}
