//! The rate limit of ICMP errors: one number of state for each CPU (generic cell rate algorithm).

/// Nanoseconds in a second: also how much unused allowance is kept.
const SECOND: u64 = 1_000_000_000;

/// State of the limit: value of `icmp_budget`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Nanosecond until which the allowance is spent.
    pub spent_until: u64,
}

impl Budget {
    /// Takes one of `rate` a second at the time `now` (nanoseconds), if one is left. A second's
    /// worth may go at once.
    #[inline(always)]
    #[must_use]
    pub const fn take(&mut self, now: u64, rate: u32) -> bool {
        if rate == 0 {
            return false;
        }
        let cost = SECOND / rate as u64;
        let kept = now.saturating_sub(SECOND);
        let from = if self.spent_until > kept {
            self.spent_until
        } else {
            kept
        };
        if from + cost > now {
            return false;
        }
        self.spent_until = from + cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, SECOND};

    const START: u64 = 1000 * SECOND;

    #[test]
    fn a_second_s_worth_goes_at_once_and_no_more() {
        let mut budget = Budget::default();
        assert_eq!(taken(&mut budget, START, 100), 100);
        assert_eq!(taken(&mut budget, START, 100), 0);
    }

    #[test]
    fn what_was_taken_comes_back_with_time() {
        let mut budget = Budget::default();
        taken(&mut budget, START, 100);
        assert_eq!(taken(&mut budget, START + SECOND / 10, 100), 10);
        assert_eq!(taken(&mut budget, START + 60 * SECOND, 100), 100);
    }

    #[test]
    fn a_rate_of_zero_allows_none() {
        assert_eq!(taken(&mut Budget::default(), START, 0), 0);
    }

    fn taken(budget: &mut Budget, now: u64, rate: u32) -> u32 {
        let mut count = 0;
        while count < 1000 && budget.take(now, rate) {
            count += 1;
        }
        count
    }
}
