//! The peer's requests for all routes again (RFC 2918). Each costs it 23 bytes and us a whole table,
//! so that those that come close together are handed on as one.

use std::time::{Duration, Instant};

use crate::bgp::wire::{Family, FamilySet};

/// Requests are handed on at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the peer has asked for and the RIB's owner has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    asked: FamilySet,
    /// When requests may be handed on again; `None`: at once.
    not_before: Option<Instant>,
}

impl Refreshes {
    pub(super) fn ask(&mut self, family: Family) {
        self.asked = self.asked.with(family);
    }

    /// The connection is gone, and what was asked for on it.
    pub(super) fn forget(&mut self) {
        self.asked = FamilySet::EMPTY;
    }

    /// When there is something to hand on.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        let asked = self.asked != FamilySet::EMPTY;
        asked.then(|| self.not_before.unwrap_or(now))
    }

    /// What is to be handed on now.
    pub(super) fn take(&mut self, now: Instant) -> FamilySet {
        if self.due_at(now).is_none_or(|at| at > now) {
            return FamilySet::EMPTY;
        }
        self.not_before = Some(now + INTERVAL);
        std::mem::take(&mut self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, FamilySet, INTERVAL, Instant, Refreshes};

    const IPV4: FamilySet = FamilySet::EMPTY.with(Family::Ipv4Unicast);

    #[test]
    fn the_first_request_is_handed_on_at_once_and_those_that_follow_as_one() {
        let mut refreshes = Refreshes::default();
        let start = Instant::now();
        assert_eq!(refreshes.due_at(start), None);
        refreshes.ask(Family::Ipv4Unicast);
        assert_eq!(refreshes.take(start), IPV4);

        for _ in 0..1000 {
            refreshes.ask(Family::Ipv6Unicast);
            refreshes.ask(Family::Ipv4Unicast);
            assert_eq!(refreshes.take(start), FamilySet::EMPTY);
        }
        assert_eq!(refreshes.due_at(start), Some(start + INTERVAL));
        let both = IPV4.with(Family::Ipv6Unicast);
        assert_eq!(refreshes.take(start + INTERVAL), both);
        assert_eq!(refreshes.due_at(start + INTERVAL), None);
    }

    #[test]
    fn what_was_asked_for_is_forgotten_with_the_connection() {
        let mut refreshes = Refreshes::default();
        refreshes.ask(Family::Ipv4Unicast);
        refreshes.forget();
        assert_eq!(refreshes.take(Instant::now()), FamilySet::EMPTY);
    }
}
