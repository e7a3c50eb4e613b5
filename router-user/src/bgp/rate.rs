//! How many connections are taken from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Addresses remembered beside the configured peers': about 100 bytes each.
const MAX_SOURCES: usize = 4096;

/// How often room is made where all are remembered.
const SWEEP: Duration = Duration::from_secs(1);

/// The connections of late, by source: a bucket of `rate` tokens each, refilled in a second.
#[derive(Debug)]
pub(super) struct Rates {
    rate: u16,
    buckets: HashMap<IpAddr, Bucket>,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Bucket {
    /// Connections taken and not yet forgotten.
    taken: f64,
    at: Instant,
}

impl Rates {
    pub(super) fn new(rate: u16) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
            swept_at: None,
        }
    }

    /// Connections a second, and at once.
    pub(super) fn set(&mut self, rate: u16) {
        self.rate = rate;
    }

    /// Whether another connection is taken. `configured`: there are only so many such sources, and
    /// each is remembered.
    pub(super) fn admit(&mut self, from: IpAddr, configured: bool, now: Instant) -> bool {
        let rate = f64::from(self.rate);
        if !configured && !self.buckets.contains_key(&from) && !self.make_room(now) {
            return false;
        }
        let bucket = self.buckets.entry(from).or_insert(Bucket {
            taken: 0.0,
            at: now,
        });
        bucket.refill(rate, now);
        if bucket.taken + 1.0 > rate {
            return false;
        }
        bucket.taken += 1.0;
        true
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.buckets.len() < MAX_SOURCES {
            return true;
        }
        let lately = |at: Instant| now.duration_since(at) < SWEEP;
        if self.swept_at.is_some_and(lately) {
            return false;
        }
        self.swept_at = Some(now);
        let rate = f64::from(self.rate);
        self.buckets.retain(|_, bucket| {
            bucket.refill(rate, now);
            bucket.taken > 0.0
        });
        self.buckets.len() < MAX_SOURCES
    }
}

impl Bucket {
    fn refill(&mut self, rate: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.taken = (self.taken - passed * rate).max(0.0);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, IpAddr, MAX_SOURCES, Rates};

    #[test]
    fn a_source_gets_so_many_at_once_and_so_many_a_second_and_no_other_pays_for_it() {
        let mut rates = Rates::new(10);
        let start = Instant::now();
        let admitted = |rates: &mut Rates, from: u32, now| {
            (0..100)
                .filter(|_| rates.admit(source(from), false, now))
                .count()
        };
        assert_eq!(admitted(&mut rates, 1, start), 10);
        assert_eq!(admitted(&mut rates, 1, start), 0);
        assert_eq!(admitted(&mut rates, 2, start), 10);
        assert_eq!(
            admitted(&mut rates, 1, start + Duration::from_millis(550)),
            5
        );
        assert_eq!(admitted(&mut rates, 1, start + Duration::from_secs(60)), 10);
    }

    #[test]
    fn memory_is_bounded_and_configured_peers_are_let_in_all_the_same() {
        let mut rates = Rates::new(10);
        let start = Instant::now();
        let many = 10 * MAX_SOURCES as u32;
        let admitted = (0..many).filter(|from| rates.admit(source(*from), false, start));
        assert_eq!(admitted.count(), MAX_SOURCES);
        assert!(rates.admit(source(many + 1), true, start));
        assert!(rates.buckets.len() <= MAX_SOURCES + 1);
        // The others are forgotten as soon as they count for nothing.
        assert!(rates.admit(source(many + 2), false, start + Duration::from_secs(2)));
        assert!(rates.buckets.len() <= 2);
    }

    fn source(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }
}
