//! The networks by which users of what is learned are told apart: those that hold next hops, or are to.
//!
//! In: the networks that are to hold next hops as configured, and how import judges paths. Out: whether
//! the next hop of a path counts. Each network may make one more view, a whole table, of what users
//! learn. So beside those that the configuration names, only so many are known because somebody
//! announces a next hop there ([`KnownZones::MOST_LEARNED`], an invariant); next hops in others lead
//! nowhere.

use super::space::OWN;
use crate::rib::{Judgement, Zone, ZoneSet};

/// What a path whose next hop lies in one network too many is told.
const TOO_MANY: &str = "next hop lies in a peered network beyond the 64 in which announced next hops \
                        count; configure a peer, a member or a static route with a next hop there";

/// The networks beside the route server's own.
#[derive(Clone, Default)]
pub(super) struct KnownZones {
    /// For the configuration says so.
    expected: ZoneSet,
    /// For there was a next hop since the configuration changed.
    learned: ZoneSet,
    /// There are some that users have not been told apart by.
    grown: bool,
    refusal: Refusal,
}

/// Whether there are paths whose next hop did not count.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Refusal {
    #[default]
    None,
    Untold,
    Told,
}

impl KnownZones {
    /// More are not known because of what is announced.
    pub(super) const MOST_LEARNED: usize = 64;

    pub(super) fn contains(&self, zone: Zone) -> bool {
        self.expected.contains(&zone) || self.learned.contains(&zone)
    }

    /// What becomes of a path that is judged like this: the network of its next hop is known from now
    /// on, if there is room for it.
    pub(super) fn admit(&mut self, judgement: Judgement) -> Judgement {
        let (Judgement::Eligible(zone) | Judgement::Aggregated { zone, .. }) = judgement else {
            return judgement;
        };
        if zone == OWN || self.contains(zone) {
            return judgement;
        }
        if self.learned.len() < Self::MOST_LEARNED {
            self.learned.insert(zone);
            self.grown = true;
            return judgement;
        }
        if self.refusal == Refusal::None {
            self.refusal = Refusal::Untold;
        }
        Judgement::Unresolvable(TOO_MANY.into())
    }

    /// Another configuration expects these. Of those known from announcements only `in_use` stay
    /// (`None`: all). Whether next hops that did not count may count now.
    pub(super) fn configure(&mut self, expected: ZoneSet, in_use: Option<&ZoneSet>) -> bool {
        let has_room = in_use.is_some() || !expected.is_subset(&self.expected);
        match in_use {
            Some(in_use) => {
                self.learned.clone_from(in_use);
                self.expected = expected;
            }
            None => self.expected.extend(expected),
        }
        self.learned
            .retain(|zone| *zone != OWN && !self.expected.contains(zone));
        if !has_room || self.refusal == Refusal::None {
            return false;
        }
        self.refusal = Refusal::None;
        true
    }

    /// Of those known from announcements only `in_use` stay.
    pub(super) fn retain(&mut self, in_use: &ZoneSet) {
        self.learned.retain(|zone| in_use.contains(zone));
    }

    /// Whether there are new ones, since last asked.
    pub(super) fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// Whether next hops begin not to count, since last asked.
    pub(super) fn take_refusal(&mut self) -> bool {
        let untold = self.refusal == Refusal::Untold;
        if untold {
            self.refusal = Refusal::Told;
        }
        untold
    }
}
