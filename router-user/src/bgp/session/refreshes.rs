//! The peer's requests for all routes again (RFC 2918). Each costs it 23 bytes and us a whole table,
//! so that those that come close together are handed on as one.

use std::time::{Duration, Instant};

use crate::bgp::wire::{Family, FamilySet};

/// Requests are handed on at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Beginnings that are handed on in a row; one more each second.
const BEGINNINGS: u64 = 10;

/// What the peer has asked for and the RIB's owner has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    asked: FamilySet,
    /// When requests may be handed on again; `None`: at once.
    not_before: Option<Instant>,
    /// Families whose beginning was handed on, and whose end was not.
    begun: [bool; 2],
    /// Beginnings handed on and not yet forgotten, and since when the next is being forgotten.
    beginnings: u64,
    counted_at: Option<Instant>,
}

impl Refreshes {
    pub(super) fn ask(&mut self, family: Family) {
        self.asked = self.asked.with(family);
    }

    /// The peer announces all its routes again from here on; whether that is handed on.
    pub(super) fn begins(&mut self, family: Family, now: Instant) -> bool {
        let counted_at = self.counted_at.get_or_insert(now);
        let passed = now.saturating_duration_since(*counted_at).as_secs();
        *counted_at += Duration::from_secs(passed);
        self.beginnings = self.beginnings.saturating_sub(passed);
        let admitted = self.beginnings < BEGINNINGS;
        if admitted {
            self.beginnings += 1;
            self.begun[family as usize] = true;
        }
        admitted
    }

    /// It has announced all of them; whether that is handed on: where the beginning was.
    pub(super) fn ends(&mut self, family: Family) -> bool {
        std::mem::take(&mut self.begun[family as usize])
    }

    /// The connection is gone, and what was asked for on it.
    pub(super) fn forget(&mut self) {
        self.asked = FamilySet::EMPTY;
        self.begun = [false; 2];
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
    use super::{BEGINNINGS, Duration, Family, FamilySet, INTERVAL, Instant, Refreshes};

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

    #[test]
    fn so_many_beginnings_are_handed_on_each_with_one_end() {
        let mut refreshes = Refreshes::default();
        let start = Instant::now();
        let family = Family::Ipv4Unicast;
        let mut handed_on = |now| {
            let begun = (0..1000).filter(|_| {
                let begins = refreshes.begins(family, now);
                assert_eq!(refreshes.ends(family), begins);
                assert!(!refreshes.ends(family));
                begins
            });
            begun.count() as u64
        };
        assert_eq!(handed_on(start), BEGINNINGS);
        assert_eq!(handed_on(start + Duration::from_millis(900)), 0);
        assert_eq!(handed_on(start + Duration::from_millis(2500)), 2);
        assert_eq!(handed_on(start + Duration::from_secs(3)), 1);
        assert_eq!(handed_on(start + Duration::from_secs(60)), BEGINNINGS);
    }

    #[test]
    fn an_end_does_not_belong_to_a_beginning_on_another_connection() {
        let mut refreshes = Refreshes::default();
        assert!(refreshes.begins(Family::Ipv6Unicast, Instant::now()));
        refreshes.forget();
        assert!(!refreshes.ends(Family::Ipv6Unicast));
    }
}
