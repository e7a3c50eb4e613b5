//! How long to wait before trying again: growing, bounded, jittered (RFC 4271 §8.1.1, §10).

use std::time::{Duration, Instant};

/// First idle hold after an error; it doubles up to [`LONGEST`].
const SHORTEST_IDLE_HOLD: Duration = Duration::from_secs(1);

/// Longest delay of any kind, unless the configured one is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// A session that was Established this long starts again with the shortest delays.
const STABLE: Duration = Duration::from_secs(60);

/// Least time that a connection attempt is given: the third SYN is sent after 3 s.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(5);

/// The delays of one session.
#[derive(Debug)]
pub(super) struct Backoff {
    connect_retry: Duration,
    attempts_failed: u32,
    errors: u32,
    established_at: Option<Instant>,
    random: u64,
}

impl Backoff {
    pub(super) fn new(connect_retry: Duration, seed: u64) -> Self {
        Self {
            connect_retry: connect_retry.max(Duration::from_secs(1)),
            attempts_failed: 0,
            errors: 0,
            established_at: None,
            random: seed,
        }
    }

    /// Starts over: the operator said so.
    pub(super) fn forget(&mut self) {
        self.attempts_failed = 0;
        self.errors = 0;
    }

    pub(super) fn established(&mut self, now: Instant) {
        self.attempts_failed = 0;
        self.established_at = Some(now);
    }

    /// The Established connection is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        let since = self.established_at.take();
        if since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            self.errors = 0;
        }
    }

    /// How long a connection attempt may take.
    pub(super) fn attempt(&self) -> Duration {
        self.connect_retry.clamp(SHORTEST_ATTEMPT, LONGEST)
    }

    /// The configured delay between attempts, jittered.
    pub(super) fn base(&mut self) -> Duration {
        self.connect_retry.mul_f64(self.jitter())
    }

    /// An attempt failed: delay before the next one.
    pub(super) fn retry(&mut self) -> Duration {
        let delay = grown(self.connect_retry, self.attempts_failed);
        self.attempts_failed = self.attempts_failed.saturating_add(1);
        delay.mul_f64(self.jitter())
    }

    /// An error: time to stay idle.
    pub(super) fn idle_hold(&mut self) -> Duration {
        let delay = grown(SHORTEST_IDLE_HOLD, self.errors);
        self.errors = self.errors.saturating_add(1);
        delay.mul_f64(self.jitter())
    }

    /// A factor from 0.75 to 1 (RFC 4271 §10).
    pub(super) fn jitter(&mut self) -> f64 {
        0.75 + 0.25 * f64::from((self.next_random() >> 40) as u32) / f64::from(1_u32 << 24)
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn grown(first: Duration, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(LONGEST.max(first))
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Duration, Instant, LONGEST, STABLE};

    #[test]
    fn idle_hold_grows_up_to_its_bound_and_shrinks_after_a_stable_session() {
        let mut backoff = Backoff::new(Duration::from_secs(5), 7);
        let holds: Vec<_> = (0..12).map(|_| backoff.idle_hold()).collect();
        assert!(holds[0] <= Duration::from_secs(1));
        assert!(holds[..6].is_sorted(), "{holds:?}");
        assert!(
            holds[8..]
                .iter()
                .all(|hold| *hold >= LONGEST.mul_f64(0.75) && *hold <= LONGEST)
        );

        let now = Instant::now();
        backoff.established(now);
        backoff.lost(now + STABLE);
        assert!(backoff.idle_hold() <= Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_spreads() {
        let mut backoff = Backoff::new(Duration::from_secs(5), 1);
        let samples: Vec<_> = (0..1000).map(|_| backoff.jitter()).collect();
        assert!(samples.iter().all(|j| (0.75..=1.0).contains(j)));
        assert!(samples.iter().any(|j| *j < 0.78) && samples.iter().any(|j| *j > 0.97));
    }

    #[test]
    fn jitter_is_drawn_with_splitmix64() {
        let mut backoff = Backoff::new(Duration::from_secs(5), 1_234_567);
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([(); 3].map(|()| backoff.next_random()), published);
    }

    #[test]
    fn a_configured_delay_longer_than_the_bound_is_kept() {
        let mut backoff = Backoff::new(Duration::from_secs(300), 1);
        assert!(backoff.retry() >= Duration::from_secs(225));
    }
}
