//! What subnets learn: the ECMP set and the backups of each prefix in each view, and how they change.
//!
//! A view that nobody forwards by is told only what other routes depend on: whether a default route
//! is learned, and to which prefixes packets are dropped: no next hop can be resolved, or the best path
//! asks for it (RFC 7999). What stands is told in chunks when a view is made, and when somebody begins
//! to forward by it, beside what changes meanwhile.

use std::mem;

use smallvec::SmallVec;

use super::{
    Exclusion, LearnedChange, LearnedRoute, LearnedView, LearnedViewId, Towards,
    attributes::Interner,
    decision::Decision,
    next_hops::{NextHops, is_blackhole},
    path::{Judgement, Path, Reasons, Sessions, Zone, ZoneSet},
    table::{Address, Changed, Slot, Table},
    view::SourceKinds,
};

/// What an answer depends on beside the paths and the view.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    pub(super) decision: Decision<'a>,
    pub(super) reasons: &'a Reasons,
    pub(super) attributes: &'a Interner,
}

/// The views, and changes that have not been taken.
#[derive(Clone, Default)]
pub(super) struct LearnedRoutes {
    views: Vec<View>,
    changes: Vec<LearnedChange>,
    told: Vec<LearnedViewId>,
    next_hops: NextHops,
}

#[derive(Clone)]
struct View {
    id: LearnedViewId,
    scope: Scope,
    /// Nobody forwards by what is learned.
    marks_only: bool,
    /// The first slot that is to be told yet, of the IPv4 and of the IPv6 table.
    untold: [Option<usize>; 2],
}

impl LearnedRoutes {
    /// A new view, or whether an old one is told every route or only the marks. Those that stand are
    /// told by [`LearnedRoutes::tell`] once they are wanted; at once if there are no prefixes at all
    /// (`empty`).
    pub(super) fn set(&mut self, id: LearnedViewId, view: &LearnedView, empty: bool) {
        let mut known = self.views.iter_mut();
        let view = match known.find(|known| known.id == id) {
            Some(known) => {
                let wants_more = known.marks_only && !view.marks_only;
                known.marks_only = view.marks_only;
                if !wants_more {
                    return;
                }
                known
            }
            None => {
                self.views.push(View {
                    id,
                    scope: Scope::new(view),
                    marks_only: view.marks_only,
                    untold: [None; 2],
                });
                self.views.last_mut().expect("just pushed")
            }
        };
        if empty {
            view.untold = [None; 2];
            self.told.push(id);
        } else {
            view.untold = [Some(0); 2];
        }
    }

    /// Nothing more is told of a view.
    pub(super) fn remove(&mut self, id: LearnedViewId) {
        self.views.retain(|view| view.id != id);
        self.changes.retain(|change| change.view != id);
        self.told.retain(|told| *told != id);
    }

    /// Whether routes that stand wait to be told.
    pub(super) fn is_telling(&self) -> bool {
        self.views.iter().any(|view| view.untold != [None; 2])
    }

    /// Tells the routes of the next so many slots that wait for it.
    pub(super) fn tell<A: Address>(
        &mut self,
        basis: &Basis<'_>,
        table: &Table<A>,
        mut slots: usize,
    ) {
        for view in &mut self.views {
            let Some(first) = view.untold[A::FAMILY as usize] else {
                continue;
            };
            if slots == 0 {
                return;
            }
            let end = table.len().min(first + slots);
            slots -= end.saturating_sub(first);
            view.untold[A::FAMILY as usize] = (end < table.len()).then_some(end);
            if view.untold == [None; 2] {
                self.told.push(view.id);
            }
            for slot in (first..end).map(|slot| table.slot(slot)) {
                if view.marks_only && !view.scope.is_mark(basis, slot, slot.paths()) {
                    continue;
                }
                let route = self.next_hops.route(basis, &view.scope, slot.paths());
                if route.is_some() {
                    self.changes.push(LearnedChange {
                        view: view.id,
                        prefix: slot.prefix(),
                        route,
                    });
                }
            }
        }
    }

    /// Notes what a batch changed.
    pub(super) fn update<A: Address>(
        &mut self,
        basis: &Basis<'_>,
        table: &Table<A>,
        changed: &[Changed],
    ) {
        let mut answers = Answers::default();
        for change in changed {
            let slot = table.slot(change.slot);
            let before = (basis, &change.before[..]);
            self.compare(&mut answers, slot, before, (basis, slot.paths()));
        }
        self.next_hops.sweep();
    }

    /// Notes what another configuration of the decision process changes.
    pub(super) fn redecide<A: Address>(
        &mut self,
        before: &Basis<'_>,
        after: &Basis<'_>,
        table: &Table<A>,
    ) {
        let mut answers = Answers::default();
        for slot in (0..table.len()).map(|slot| table.slot(slot)) {
            let paths = &slot.paths()[..];
            self.compare(&mut answers, slot, (before, paths), (after, paths));
        }
        self.next_hops.sweep();
    }

    /// Notes in which views the route of a prefix became another one.
    fn compare<A: Address>(
        &mut self,
        answers: &mut Answers,
        slot: &Slot<A>,
        before: (&Basis<'_>, &[Path]),
        after: (&Basis<'_>, &[Path]),
    ) {
        let Self {
            views,
            changes,
            next_hops,
            ..
        } = self;
        let several = views.len() > 1;
        answers.0.clear();
        for View {
            id,
            scope,
            marks_only,
            ..
        } in &*views
        {
            let is_mark = |(basis, paths)| scope.is_mark(basis, slot, paths);
            if *marks_only && !is_mark(before) && !is_mark(after) {
                continue;
            }
            let pattern = match several {
                true => Some(scope.pattern(after.0, [before.1, after.1])),
                false => None,
            };
            let mut known = answers.0.iter();
            let known = known.find(|(known, _)| pattern.as_ref() == Some(known));
            let route = match known {
                Some((_, route)) => route.clone(),
                None => {
                    #[cfg(test)]
                    DECIDED.set(DECIDED.get() + 1);
                    let [old, new] =
                        [before, after].map(|(basis, paths)| next_hops.route(basis, scope, paths));
                    let route = (old != new).then_some(new);
                    answers
                        .0
                        .extend(pattern.map(|pattern| (pattern, route.clone())));
                    route
                }
            };
            if let Some(route) = route {
                changes.push(LearnedChange {
                    view: *id,
                    prefix: slot.prefix(),
                    route,
                });
            }
        }
    }

    /// What stands in each view in the slots with such a path, for [`LearnedRoutes::compare_with`].
    pub(super) fn standing<A: Address>(
        &mut self,
        basis: &Basis<'_>,
        table: &Table<A>,
        concerns: impl Fn(&Path) -> bool,
    ) -> Vec<Stood> {
        let slots = (0..table.len()).filter(|slot| table.paths(*slot).iter().any(&concerns));
        let mut stood = Vec::new();
        for slot in slots {
            for (place, view) in self.views.iter().enumerate() {
                let paths = table.paths(slot);
                stood.push(Stood {
                    slot,
                    view: place,
                    is_mark: view.scope.is_mark(basis, table.slot(slot), paths),
                    route: self.next_hops.route(basis, &view.scope, paths),
                });
            }
        }
        stood
    }

    /// Notes what differs from what stood.
    pub(super) fn compare_with<A: Address>(
        &mut self,
        stood: Vec<Stood>,
        basis: &Basis<'_>,
        table: &Table<A>,
    ) {
        for stood in stood {
            let Stood { slot, view, .. } = stood;
            let slot = table.slot(slot);
            let View {
                id,
                scope,
                marks_only,
                ..
            } = &self.views[view];
            let now = self.next_hops.route(basis, scope, slot.paths());
            let is_mark = stood.is_mark || scope.is_mark(basis, slot, slot.paths());
            if (!marks_only || is_mark) && now != stood.route {
                self.changes.push(LearnedChange {
                    view: *id,
                    prefix: slot.prefix(),
                    route: now,
                });
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<LearnedChange> {
        mem::take(&mut self.changes)
    }

    /// The views that were told what stands, since last asked.
    pub(super) fn take_told(&mut self) -> Vec<LearnedViewId> {
        mem::take(&mut self.told)
    }
}

/// A route as it stood.
pub(super) struct Stood {
    slot: usize,
    view: usize,
    is_mark: bool,
    route: Option<LearnedRoute>,
}

/// What one change comes to (`None`: nothing), by how its paths count: views in which they count the
/// same come to the same.
#[derive(Default)]
struct Answers(Vec<(Pattern, Option<Option<LearnedRoute>>)>);

#[cfg(test)]
thread_local! {
    /// How many times the answer was not known from another view.
    pub(super) static DECIDED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How each of some paths counts, in two bits.
type Pattern = SmallVec<[u128; 1]>;

/// Which paths count in a view.
#[derive(Clone)]
pub(super) struct Scope {
    sources: SourceKinds,
    towards: Towards,
    /// A bit for each zone.
    reach: Box<[u64]>,
}

/// How a path counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearing {
    /// Not at all.
    None,
    /// Its source does, but its next hop cannot be reached: if there is no other, packets are
    /// dropped.
    DeadEnd,
    /// A candidate.
    Candidate,
}

impl Scope {
    pub(super) fn new(view: &LearnedView) -> Self {
        Self {
            sources: view.sources,
            towards: view.towards,
            reach: bits(&view.reach),
        }
    }

    /// Whether a path is a candidate.
    pub(super) fn takes(&self, sessions: &Sessions, path: &Path) -> bool {
        let reaches = |zone| self.reaches(zone);
        path.standing.zone().is_some_and(reaches)
            && !path.is_local()
            && self.takes_source(sessions, path)
    }

    /// Whether a path counts wherever its next hop lies.
    fn takes_source(&self, sessions: &Sessions, path: &Path) -> bool {
        let kind = sessions.info(path.session).kind;
        (self.sources.contains(kind) || planted!(AnySourceIsSeen))
            && !self.towards.keeps_out(&path.attributes)
    }

    /// Why an eligible path that is not taken is not.
    pub(super) fn exclusion(&self, sessions: &Sessions, path: &Path) -> Exclusion {
        if !self.sources.contains(sessions.info(path.session).kind) {
            return Exclusion::Source;
        }
        match self.towards.keeps_out(&path.attributes) {
            true => Exclusion::Community,
            false => Exclusion::Reach,
        }
    }

    fn reaches(&self, zone: Zone) -> bool {
        let number = usize::from(zone.0);
        let word = self.reach.get(number / BITS);
        word.is_some_and(|word| word & 1 << (number % BITS) != 0) || planted!(AnyReachIsSeen)
    }

    fn bearing(&self, basis: &Basis<'_>, path: &Path) -> Bearing {
        let sessions = basis.decision.sessions;
        if self.takes(sessions, path) {
            return Bearing::Candidate;
        }
        let leads_nowhere = match basis.reasons.fault(path.standing) {
            Some(fault) => matches!(fault, Judgement::Unresolvable(_)),
            None => !path.is_local(),
        };
        match leads_nowhere && self.takes_source(sessions, path) {
            true => Bearing::DeadEnd,
            false => Bearing::None,
        }
    }

    /// Whether a prefix that has no candidate is learned nevertheless, without a next hop.
    pub(super) fn any_dead_end(&self, basis: &Basis<'_>, paths: &[Path]) -> bool {
        let is_dead_end = |path| self.bearing(basis, path) == Bearing::DeadEnd;
        paths.iter().any(is_dead_end) && !planted!(DeadEndsVanish)
    }

    /// Whether other routes may depend on these paths.
    fn is_mark<A: Address>(&self, basis: &Basis<'_>, slot: &Slot<A>, paths: &[Path]) -> bool {
        let (_, length) = slot.key();
        let tells = |path| match self.bearing(basis, path) {
            Bearing::None => false,
            Bearing::DeadEnd => true,
            Bearing::Candidate => is_blackhole(basis, path),
        };
        length == 0 || paths.iter().any(tells)
    }

    /// How each of these paths counts.
    fn pattern(&self, basis: &Basis<'_>, paths: [&[Path]; 2]) -> Pattern {
        const PATHS: usize = u128::BITS as usize / 2;
        let mut pattern = Pattern::new();
        for (place, path) in paths.into_iter().flatten().enumerate() {
            if place % PATHS == 0 {
                pattern.push(0);
            }
            let bearing = self.bearing(basis, path) as u128;
            pattern[place / PATHS] |= bearing << (2 * (place % PATHS));
        }
        pattern
    }
}

const BITS: usize = u64::BITS as usize;

fn bits(zones: &ZoneSet) -> Box<[u64]> {
    let last = zones.last().map_or(0, |zone| usize::from(zone.0));
    let mut words = vec![0; last / BITS + 1];
    for zone in zones {
        let number = usize::from(zone.0);
        words[number / BITS] |= 1 << (number % BITS);
    }
    words.into()
}
