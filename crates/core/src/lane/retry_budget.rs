//! The retry budget: how many calls to a service may be retries.
//!
//! A service that is down fails every call; if each were retried, its callers would keep it down. So retries on the
//! *same* service are limited to a share of its first attempts. An attempt on a service that was not tried yet is not a
//! retry and costs nothing. Each isolate has its own budget.

use crate::base::sliding_window::SlidingWindow;
use crate::base::time::Timestamp;

/// Retries that are always allowed within ten seconds: a share of a quiet service's traffic is too small.
pub const MIN_RETRIES: u64 = 3;
/// One retry per this many first attempts.
pub const FIRST_ATTEMPTS_PER_RETRY: u64 = 5;

/// The first attempts and retries of one service within the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryBudget(SlidingWindow<1000>);

impl RetryBudget {
    /// Records a first attempt.
    pub fn deposit(&mut self, now: Timestamp) {
        self.0.add(now, 1, 0);
    }

    /// Takes one retry, if the budget allows it.
    pub fn try_withdraw(&mut self, now: Timestamp) -> bool {
        let (firsts, repeats) = self.0.sums(now);
        let allowed = repeats < MIN_RETRIES.max(firsts / FIRST_ATTEMPTS_PER_RETRY);
        if allowed {
            self.0.add(now, 0, 1);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn repeats_stay_under_a_fifth_of_first_attempts(
            steps in prop::collection::vec((0u64..200, any::<bool>()), 1..400),
        ) {
            let mut budget = RetryBudget::default();
            let mut now = Timestamp(1_000_000);
            let mut firsts: Vec<Timestamp> = Vec::new();
            let mut repeats: Vec<Timestamp> = Vec::new();
            for (pause, first) in steps {
                now = now.plus_ms(pause);
                let lately = |times: &[Timestamp], ms| times.iter().filter(|at| now.since(**at) < ms).count() as u64;
                if first {
                    budget.deposit(now);
                    firsts.push(now);
                } else if budget.try_withdraw(now) {
                    // The window covers nine to ten seconds.
                    let most = MIN_RETRIES.max(lately(&firsts, 10_000) / FIRST_ATTEMPTS_PER_RETRY);
                    prop_assert!(lately(&repeats, 9_000) < most);
                    repeats.push(now);
                } else {
                    prop_assert!(lately(&repeats, 10_000) >= MIN_RETRIES.max(lately(&firsts, 9_000) / FIRST_ATTEMPTS_PER_RETRY));
                }
            }
        }
    }

    #[test]
    fn a_quiet_service_has_three_and_time_brings_them_back() {
        let mut budget = RetryBudget::default();
        let now = Timestamp(5_000);
        assert_eq!([(); 5].map(|()| budget.try_withdraw(now)), [true, true, true, false, false]);
        assert!(budget.try_withdraw(now.plus_ms(10_000)));
    }
}
