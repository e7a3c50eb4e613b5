//! How many routes a peer may announce, and what happens beyond.

use std::time::Duration;

/// How long a session rests after it has passed its limit for the first time.
const FIRST_REST: Duration = Duration::from_secs(15 * 60);

/// Rests double up to this.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// The rests of a session that keeps passing its limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rests {
    last: Option<Duration>,
}

impl Rests {
    /// How long the session rests now. Doubles each time, unless the session was up, within its
    /// limit, for longer than its last rest.
    pub(super) fn next(&mut self, was_up: Duration) -> Duration {
        let rest = match self.last {
            Some(last) if was_up <= last => (2 * last).min(LONGEST_REST),
            _ => FIRST_REST,
        };
        self.last = Some(rest);
        rest
    }
}

/// Whether `count` of at most `max` routes deserves a warning: 80 %.
pub(super) fn is_near(count: usize, max: usize) -> bool {
    count * 5 >= max * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_that_passes_its_limit_again_and_again_rests_twice_as_long_each_time() {
        let mut rests = Rests::default();
        let minutes = [15, 30, 60, 120, 240, 480, 960, 1440, 1440];
        for expected in minutes {
            assert_eq!(rests.next(MINUTE), expected * MINUTE);
        }
    }

    #[test]
    fn a_session_that_kept_its_limit_for_longer_than_its_rest_begins_anew() {
        let mut rests = Rests::default();
        assert_eq!(rests.next(MINUTE), 15 * MINUTE);
        assert_eq!(rests.next(MINUTE), 30 * MINUTE);
        assert_eq!(rests.next(31 * MINUTE), 15 * MINUTE);
    }

    #[test]
    fn the_warning_comes_at_80_percent() {
        assert!(!is_near(799, 1000));
        assert!(is_near(800, 1000));
    }
}
