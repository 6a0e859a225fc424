//! The retry budget: how many of the calls to a service may be repeats of failed ones.
//!
//! A service that is down answers every call with a failure; if each were repeated, its callers would keep it
//! down. So repeats on the *same* service stay under a share of its first attempts. Going to a service that was
//! not tried yet is no repeat and costs nothing. Each isolate keeps its own budget.

use crate::base::sliding_window::Window;
use crate::base::time::Timestamp;

/// Repeats that are always allowed within ten seconds: a quiet service has no share to speak of.
pub const LEAST: u64 = 3;
/// One repeat for this many first attempts.
pub const ONE_IN: u64 = 5;

/// The first attempts and repeats of one service within the last ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget(Window<1000>);

impl Budget {
    /// A first attempt was begun.
    pub fn deposit(&mut self, now: Timestamp) {
        self.0.add(now, 1, 0);
    }

    /// Takes one repeat out, if there is one.
    pub fn try_withdraw(&mut self, now: Timestamp) -> bool {
        let (firsts, repeats) = self.0.sums(now);
        let allowed = repeats < LEAST.max(firsts / ONE_IN);
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
            let mut budget = Budget::default();
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
                    // The window is nine to ten seconds long.
                    let most = LEAST.max(lately(&firsts, 10_000) / ONE_IN);
                    prop_assert!(lately(&repeats, 9_000) < most);
                    repeats.push(now);
                } else {
                    prop_assert!(lately(&repeats, 10_000) >= LEAST.max(lately(&firsts, 9_000) / ONE_IN));
                }
            }
        }
    }

    #[test]
    fn a_quiet_service_has_three_and_time_brings_them_back() {
        let mut budget = Budget::default();
        let now = Timestamp(5_000);
        assert_eq!([(); 5].map(|()| budget.try_withdraw(now)), [true, true, true, false, false]);
        assert!(budget.try_withdraw(now.plus_ms(10_000)));
    }
}
