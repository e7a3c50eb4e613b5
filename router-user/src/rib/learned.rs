//! What subnets learn: the ECMP set and the backups of each prefix, and how they change.
//!
//! Where nobody forwards by them, only what other routes depend on is told: whether a default route
//! is learned, and which prefixes have no next hop that can be resolved. Once somebody does, the
//! whole table is told in chunks, beside what changes meanwhile.

use std::{mem, sync::Arc};

use foldhash::HashSet;

use super::{
    LearnedChange, LearnedNextHop, LearnedRoute, LearnedViewId,
    decision::Decision,
    path::{Judgement, Path, Reasons},
    table::{Address, Changed, Slot, Table},
};

/// Changes that have not been taken, and the sets of next hops, one copy each: a million prefixes
/// share a handful of them. The hash is keyed, for peers choose next hops.
#[derive(Default)]
pub(super) struct LearnedRoutes {
    changes: Vec<LearnedChange>,
    /// Nobody forwards by what is learned.
    marks_only: bool,
    /// The first slot that is to be told yet, of the IPv4 and of the IPv6 table.
    untold: [Option<usize>; 2],
    sets: HashSet<Arc<[LearnedNextHop]>>,
    sweep_at: usize,
}

impl LearnedRoutes {
    /// Whether every route is told, or only the marks. Those that stand are told by
    /// [`LearnedRoutes::tell`] once they are wanted.
    pub(super) fn tell_all(&mut self, all: bool) {
        if self.marks_only == all {
            self.marks_only = !all;
            self.untold = if all { [Some(0); 2] } else { [None; 2] };
        }
    }

    /// Whether routes that stand wait to be told.
    pub(super) fn is_telling(&self) -> bool {
        self.untold != [None; 2]
    }

    /// Tells the routes of the next so many slots that wait for it.
    pub(super) fn tell<A: Address>(
        &mut self,
        decision: &Decision<'_>,
        reasons: &Reasons,
        table: &Table<A>,
        slots: usize,
    ) {
        let Some(first) = self.untold[A::FAMILY as usize] else {
            return;
        };
        let end = table.len().min(first + slots);
        self.untold[A::FAMILY as usize] = (end < table.len()).then_some(end);
        for slot in (first..end).map(|slot| table.slot(slot)) {
            if let Some(route) = self.route(decision, reasons, slot.paths()) {
                let prefix = slot.prefix();
                let route = Some(route);
                let view = LearnedViewId::default();
                self.changes.push(LearnedChange {
                    view,
                    prefix,
                    route,
                });
            }
        }
    }

    /// Notes what a batch changed.
    pub(super) fn update<A: Address>(
        &mut self,
        decision: &Decision<'_>,
        reasons: &Reasons,
        table: &Table<A>,
        changed: &[Changed],
    ) {
        for change in changed {
            let slot = table.slot(change.slot);
            if self.marks_only && !is_mark(reasons, slot, change) {
                continue;
            }
            let before = self.route(decision, reasons, &change.before);
            let after = self.route(decision, reasons, slot.paths());
            if before != after {
                let prefix = slot.prefix();
                self.changes.push(LearnedChange {
                    view: LearnedViewId::default(),
                    prefix,
                    route: after,
                });
            }
        }
        self.sweep();
    }

    /// Notes what another configuration of the decision process changes.
    pub(super) fn redecide<A: Address>(
        &mut self,
        before: &Decision<'_>,
        after: &Decision<'_>,
        reasons: &Reasons,
        table: &Table<A>,
    ) {
        if self.marks_only {
            // How many members a set has is no mark.
            return;
        }
        for slot in (0..table.len()).map(|slot| table.slot(slot)) {
            let old = self.route(before, reasons, slot.paths());
            let new = self.route(after, reasons, slot.paths());
            if old != new {
                let prefix = slot.prefix();
                self.changes.push(LearnedChange {
                    view: LearnedViewId::default(),
                    prefix,
                    route: new,
                });
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<LearnedChange> {
        mem::take(&mut self.changes)
    }

    /// What subnets learn from these paths. What the route server originates is not learned.
    fn route(
        &mut self,
        decision: &Decision<'_>,
        reasons: &Reasons,
        paths: &[Path],
    ) -> Option<LearnedRoute> {
        let is_candidate = |path: &Path| path.is_eligible() && !path.is_local();
        let members = decision.multipath(paths, is_candidate);
        if members.is_empty() {
            return any_unresolvable(reasons, paths).then(|| LearnedRoute {
                members: self.set(&[]),
                backups: self.set(&[]),
                blackhole: false,
            });
        }
        let is_member = |path: &Path| {
            let next_hop = path.next_hop();
            members.iter().any(|member| member.next_hop() == next_hop)
        };
        let backups = decision.multipath(paths, |path| is_candidate(path) && !is_member(path));
        Some(LearnedRoute {
            members: self.set(&members),
            backups: self.set(&backups),
            blackhole: false,
        })
    }

    /// The shared set of these paths' next hops.
    fn set(&mut self, paths: &[&Path]) -> Arc<[LearnedNextHop]> {
        let next_hops = paths.iter().filter_map(|path| path.next_hop());
        let mut set: smallvec::SmallVec<[LearnedNextHop; 8]> = next_hops
            .map(|address| LearnedNextHop { address, weight: 1 })
            .collect();
        set.sort_unstable();
        if let Some(known) = self.sets.get(&set[..]) {
            return known.clone();
        }
        let shared: Arc<[LearnedNextHop]> = set[..].into();
        self.sets.insert(shared.clone());
        shared
    }

    /// Forgets sets that nobody uses, each time their number has doubled.
    fn sweep(&mut self) {
        const FEW: usize = 1024;
        if self.sets.len() > self.sweep_at.max(FEW) {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.sweep_at = 2 * self.sets.len();
        }
    }
}

/// Whether other routes may depend on what changed.
fn is_mark<A: Address>(reasons: &Reasons, slot: &Slot<A>, change: &Changed) -> bool {
    let (_, length) = slot.key();
    length == 0
        || any_unresolvable(reasons, &change.before)
        || any_unresolvable(reasons, slot.paths())
}

fn any_unresolvable(reasons: &Reasons, paths: &[Path]) -> bool {
    paths.iter().any(|path| {
        matches!(
            reasons.fault(path.standing),
            Some(Judgement::Unresolvable(_))
        )
    })
}
