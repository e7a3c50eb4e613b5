//! Which uses of what is learned come to the same, and when a user takes which view.
//!
//! In: the uses, each with what it comes to ([`Sight`]), and which views have been told. Out: the
//! views that the RIB is to keep, and what the networks are to know: who takes which view from now on,
//! and which views nobody takes any more. Pure.
//!
//! A user whose view changes keeps the old one until all routes of the new one have been told: at no
//! time does it have half a table. Whoever asks by another use than before may still take the view of
//! the former one: while anybody waits, no view is told less, and none goes that anybody took.

use std::collections::{BTreeMap, BTreeSet};

use super::LearnedUse;
use crate::rib::{LearnedView, LearnedViewId, SourceKinds, Towards, ZoneSet};

/// What a use comes to: routes of these sources with next hops in these networks, but for those that
/// communities keep from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Sight {
    pub(super) sources: SourceKinds,
    pub(super) towards: Towards,
    pub(super) reach: ZoneSet,
}

impl Sight {
    pub(super) fn as_learned(&self, marks_only: bool) -> LearnedView {
        LearnedView {
            sources: self.sources,
            towards: self.towards,
            reach: self.reach.clone(),
            marks_only,
        }
    }
}

/// The views of a route server and who takes them.
#[derive(Clone, Default)]
pub(super) struct Views {
    /// Numbers are never given out twice.
    next: u32,
    uses: BTreeMap<LearnedUse, Taken>,
    ids: BTreeMap<Sight, LearnedViewId>,
    views: BTreeMap<LearnedViewId, Standing>,
    /// Something may have come of what happened since it was last looked for.
    changed: bool,
}

/// What one use takes.
#[derive(Clone, Copy)]
struct Taken {
    /// The view that it is to take.
    wanted: LearnedViewId,
    /// The one that it was told to take.
    assigned: Option<LearnedViewId>,
}

/// A view that the RIB keeps.
#[derive(Clone)]
struct Standing {
    sight: Sight,
    /// `None`: the RIB does not keep it yet.
    marks_only: Option<bool>,
    /// All its routes that stand have been told.
    told: bool,
    /// Somebody was told to take it.
    taken: bool,
}

impl Views {
    /// Forgets uses that `is_wanted` does not know any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&LearnedUse) -> bool) {
        self.uses.retain(|of, _| is_wanted(of));
        self.changed = true;
    }

    /// Forgets everything but which numbers were given out; the views that there were.
    pub(super) fn forget(&mut self) -> Vec<LearnedViewId> {
        self.uses.clear();
        self.ids.clear();
        std::mem::take(&mut self.views).into_keys().collect()
    }

    /// Groups the uses; the views that are new, or of which more or less than before is to be told, each
    /// with what it comes to and whether only what other routes depend on is told of it.
    pub(super) fn group(
        &mut self,
        uses: impl IntoIterator<Item = (LearnedUse, Sight)>,
    ) -> Vec<(LearnedViewId, Sight, bool)> {
        self.changed = true;
        let mut uses_before = std::mem::take(&mut self.uses);
        let mut forwarding: BTreeMap<LearnedViewId, bool> = BTreeMap::new();
        for (of, sight) in uses {
            let wanted = self.view(sight);
            let assigned = uses_before.remove(&of).and_then(|before| before.assigned);
            for view in [Some(wanted), assigned].into_iter().flatten() {
                *forwarding.entry(view).or_default() |= of.forwarding;
            }
            self.uses.insert(of, Taken { wanted, assigned });
        }
        let settled = self.are_settled();
        let mut changed = Vec::new();
        for (id, forwarding) in forwarding {
            let Some(view) = self.views.get_mut(&id) else {
                continue;
            };
            let marks_only = !forwarding;
            if marks_only && view.marks_only == Some(false) && !settled {
                continue;
            }
            if view.marks_only.replace(marks_only) != Some(marks_only) {
                // To tell less from now on takes no time.
                view.told &= marks_only;
                changed.push((id, view.sight.clone(), marks_only));
            }
        }
        changed
    }

    /// The view with this sight.
    fn view(&mut self, sight: Sight) -> LearnedViewId {
        if let Some(known) = self.ids.get(&sight) {
            return *known;
        }
        let id = LearnedViewId(self.next);
        self.next += 1;
        self.ids.insert(sight.clone(), id);
        let standing = Standing {
            sight,
            marks_only: None,
            told: false,
            taken: false,
        };
        self.views.insert(id, standing);
        id
    }

    /// All routes of a view that stand have been told.
    pub(super) fn told(&mut self, id: LearnedViewId) {
        if let Some(view) = self.views.get_mut(&id) {
            view.told = true;
            self.changed = true;
        }
    }

    /// Who takes another view from now on.
    pub(super) fn assign(&mut self) -> Vec<(LearnedUse, LearnedViewId)> {
        let mut assigned = Vec::new();
        if !self.changed {
            return assigned;
        }
        for (of, taken) in &mut self.uses {
            let view = self.views.get_mut(&taken.wanted);
            let view = view.expect("a view stays while it is wanted");
            if view.told && taken.assigned != Some(taken.wanted) {
                view.taken = true;
                taken.assigned = Some(taken.wanted);
                assigned.push((of.clone(), taken.wanted));
            }
        }
        assigned
    }

    /// Forgets the views that nobody takes or is to take: those that were taken once all users take
    /// what they are to, those that came too late for anybody at once. Which ones these were.
    pub(super) fn drop_unused(&mut self) -> Vec<LearnedViewId> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let settled = self.are_settled();
        let uses = self.uses.values();
        let used: BTreeSet<LearnedViewId> = uses
            .flat_map(|taken| [Some(taken.wanted), taken.assigned])
            .flatten()
            .collect();
        let goes =
            |id: &LearnedViewId, view: &Standing| !used.contains(id) && (settled || !view.taken);
        let views = self.views.iter();
        let unused = views.filter_map(|(id, view)| goes(id, view).then_some(*id));
        let unused: Vec<LearnedViewId> = unused.collect();
        for id in &unused {
            if let Some(view) = self.views.remove(id) {
                self.ids.remove(&view.sight);
            }
        }
        unused
    }

    /// Whether every user has been told what it takes.
    pub(super) fn are_settled(&self) -> bool {
        let mut uses = self.uses.values();
        uses.all(|taken| taken.assigned == Some(taken.wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Propagate,
        rib::Zone,
        route_server::kind::{self, NVA},
    };

    #[test]
    fn uses_that_come_to_the_same_share_a_view() {
        let mut views = Views::default();
        let new = group(&mut views, &[("a", &[0]), ("b", &[0]), ("c", &[0, 1])]);
        assert_eq!(new.len(), 2);
        assert_eq!(new[0].1.reach, zones(&[0]));
        assert_eq!(new[1].1.reach, zones(&[0, 1]));
        assert!(new.iter().all(|(.., marks_only)| !marks_only));
        assert_eq!(assigned(&mut views), NONE, "nothing has been told yet");
        views.told(new[0].0);
        assert_eq!(assigned(&mut views), ["a 0", "b 0"]);
        views.told(new[1].0);
        assert_eq!(assigned(&mut views), ["c 1"]);
        assert!(views.are_settled());
        assert_eq!(views.drop_unused(), []);
    }

    #[test]
    fn sources_tell_views_apart_as_well() {
        let mut views = Views::default();
        let sight = |sources| Sight {
            sources,
            towards: Towards::Subnets,
            reach: zones(&[0]),
        };
        let nvas = SourceKinds::default().with(NVA);
        let uses = [(of("a"), sight(kind::all())), (of("b"), sight(nvas))];
        assert_eq!(views.group(uses).len(), 2);
    }

    #[test]
    fn a_user_keeps_its_view_until_the_new_one_has_been_told() {
        let mut views = Views::default();
        let [(first, ..)] = group(&mut views, &[("a", &[0])])[..] else {
            panic!("one view");
        };
        views.told(first);
        assert_eq!(assigned(&mut views), ["a 0"]);
        let [(second, ..)] = group(&mut views, &[("a", &[0, 1])])[..] else {
            panic!("one more");
        };
        assert_ne!(first, second);
        assert!(!views.are_settled());
        assert_eq!(assigned(&mut views), NONE);
        assert_eq!(views.drop_unused(), [], "it is in use");
        views.told(second);
        assert_eq!(assigned(&mut views), ["a 1"]);
        assert_eq!(views.drop_unused(), [first]);
        assert_eq!(views.drop_unused(), []);
    }

    #[test]
    fn views_that_came_too_late_for_anybody_go_while_their_users_wait() {
        let mut views = Views::default();
        let first = group(&mut views, &[("a", &[0]), ("b", &[0])]);
        views.told(first[0].0);
        assigned(&mut views);
        assert_eq!(group(&mut views, &[("a", &[0, 1]), ("b", &[0])]).len(), 1);
        for zone in 2..100 {
            let abandoned = LearnedViewId(zone - 1);
            let new = group(&mut views, &[("a", &[0, 1, zone as u16]), ("b", &[0])]);
            assert_eq!(new.len(), 1);
            assert_eq!(views.drop_unused(), [abandoned]);
        }
        assert_eq!(views.views.len(), 2);
    }

    #[test]
    fn a_user_that_comes_back_before_it_left_is_told_nothing() {
        let mut views = Views::default();
        let new = group(&mut views, &[("a", &[0])]);
        views.told(new[0].0);
        assigned(&mut views);
        let second = group(&mut views, &[("a", &[0, 1])]);
        assert_eq!(
            group(&mut views, &[("a", &[0])]),
            [],
            "its view still stands"
        );
        assert!(views.are_settled());
        assert_eq!(assigned(&mut views), NONE);
        assert_eq!(views.drop_unused(), [second[0].0]);
        let third = group(&mut views, &[("a", &[0, 1])]);
        assert!(third[0].0 > second[0].0, "no number is given out twice");
    }

    #[test]
    fn a_view_that_no_port_forwards_by_tells_marks_until_one_does() {
        let mut views = Views::default();
        let quiet = LearnedUse {
            forwarding: false,
            ..of("a")
        };
        let sight = || Sight {
            sources: kind::all(),
            towards: Towards::Subnets,
            reach: zones(&[0]),
        };
        let new = views.group([(quiet.clone(), sight())]);
        assert!(new[0].2);
        views.told(new[0].0);
        assert_eq!(views.assign().len(), 1);
        let both = [(quiet.clone(), sight()), (of("b"), sight())];
        let changed = views.group(both);
        assert_eq!(changed[0].0, new[0].0);
        assert!(!changed[0].2);
        assert_eq!(views.assign().len(), 0, "the routes have not been told yet");
        views.told(new[0].0);
        assert_eq!(assigned(&mut views), ["b 0"]);
        let changed = views.group([(quiet, sight())]);
        assert!(changed[0].2);
        assert!(views.are_settled(), "to tell less takes no time");
    }

    #[test]
    fn a_use_that_was_gone_is_told_again_what_it_takes() {
        let mut views = Views::default();
        let new = group(&mut views, &[("a", &[0])]);
        views.told(new[0].0);
        assert_eq!(assigned(&mut views).len(), 1);
        views.retain(|_| false);
        assert_eq!(group(&mut views, &[("a", &[0])]), []);
        assert_eq!(assigned(&mut views), ["a 0"]);
    }

    #[test]
    fn no_view_is_told_less_while_somebody_waits_for_another_one() {
        let mut views = Views::default();
        let quiet = LearnedUse {
            forwarding: false,
            ..of("quiet")
        };
        let sight = |reach: &[u16]| Sight {
            sources: kind::all(),
            towards: Towards::Subnets,
            reach: zones(reach),
        };
        let first = views.group([(of("a"), sight(&[0])), (quiet.clone(), sight(&[0]))])[0].0;
        views.told(first);
        assert_eq!(views.assign().len(), 2);

        // Its network is peered with another one from now on: it is another use.
        views.retain(|of| *of == quiet);
        let uses = || [(of("b"), sight(&[0, 1])), (quiet.clone(), sight(&[0]))];
        let second = match &views.group(uses())[..] {
            [(second, _, false)] => *second,
            other => panic!("{other:?}"),
        };
        assert_ne!(second, first);
        assert_eq!(
            views.group(uses()),
            [],
            "its ports take the first one still"
        );
        views.told(second);
        assert_eq!(assigned(&mut views), ["b 1"]);
        assert_eq!(views.group(uses()), [(first, sight(&[0]), true)]);
    }

    #[test]
    fn no_view_goes_while_somebody_waits_for_another_one() {
        let mut views = Views::default();
        let first = group(&mut views, &[("a", &[0])])[0].0;
        views.told(first);
        assigned(&mut views);
        views.retain(|_| false);
        let second = group(&mut views, &[("b", &[0, 1])])[0].0;
        assert_eq!(
            views.drop_unused(),
            [],
            "its ports take the first one still"
        );
        views.told(second);
        assert_eq!(assigned(&mut views), ["b 1"]);
        assert_eq!(views.drop_unused(), [first]);
    }

    fn group(views: &mut Views, uses: &[(&str, &[u16])]) -> Vec<(LearnedViewId, Sight, bool)> {
        let uses = uses.iter().map(|(name, reach)| {
            let sight = Sight {
                sources: kind::all(),
                towards: Towards::Subnets,
                reach: zones(reach),
            };
            (of(name), sight)
        });
        views.group(uses)
    }

    const NONE: [&str; 0] = [];

    /// `USE VIEW` of each assignment.
    fn assigned(views: &mut Views) -> Vec<String> {
        let assigned = views.assign().into_iter();
        let texts = assigned.map(|(of, view)| {
            let name = of.reach.first().unwrap().to_string();
            format!("{name} {}", view.0)
        });
        texts.collect()
    }

    fn zones(numbers: &[u16]) -> ZoneSet {
        numbers.iter().copied().map(Zone).collect()
    }

    /// A use that is told apart by its name.
    fn of(name: &str) -> LearnedUse {
        LearnedUse {
            propagate: Propagate::ALL,
            gateway: None,
            reach: BTreeSet::from([name.into()]),
            forwarding: true,
        }
    }
}
