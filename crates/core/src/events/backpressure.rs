//! How far a socket's reader may be behind what was sent to it.
//!
//! The platform tells nothing of what waits to be read: a send never fails, and what is not read stays in the object's
//! memory. All there is to see is when a client's `ping` was answered last. So a client pings as it reads; whoever
//! was sent more than [`MAX_AHEAD`] bytes since its last ping is cut off and resumes.

use std::collections::HashMap;

use crate::base::time::Timestamp;

/// Bytes sent to one socket without a ping.
pub const MAX_AHEAD: u64 = 8 * 1024 * 1024;
/// Each time so many more were sent it is looked whether the client has pinged; one below it weighs nothing.
pub const STEP: u64 = 1024 * 1024;
/// Bytes sent without a ping to all sockets together that are a step behind or more. An object has 128 MB.
const MAX_TOGETHER: u64 = 48 * 1024 * 1024;

#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Sent since `began`.
    ahead: u64,
    began: Timestamp,
    looked_at: u64,
}

/// The sockets of one object, by their slots.
#[derive(Default)]
pub struct Paces {
    all: HashMap<u32, Pace>,
    /// Bytes ahead of those that are a step behind or more.
    together: u64,
}

impl Paces {
    /// Counts what was sent. `pinged` tells when a socket's ping was answered last, and is asked once for each step.
    /// True when the socket is to be cut off.
    pub fn sent(&mut self, slot: u32, bytes: u64, now: Timestamp, pinged: impl Fn() -> Option<Timestamp>) -> bool {
        let pace = self.all.entry(slot).or_insert(Pace { ahead: 0, began: now, looked_at: 0 });
        let before = weight(pace);
        pace.ahead += bytes;
        if pace.ahead >= pace.looked_at + STEP {
            pace.looked_at = pace.ahead;
            if pinged().is_some_and(|at| at >= pace.began) {
                *pace = Pace { ahead: 0, began: now, looked_at: 0 };
            }
        }
        let is_far = pace.ahead > MAX_AHEAD;
        self.together = self.together + weight(pace) - before;
        is_far
    }

    /// Whether it would be kind to wait for a ping before more is sent.
    pub fn is_behind(&self, slot: u32) -> bool {
        self.all.get(&slot).is_some_and(|pace| pace.ahead >= STEP)
    }

    /// The socket to be cut off when all together are too far behind.
    pub fn one_too_many(&self) -> Option<u32> {
        if self.together <= MAX_TOGETHER {
            return None;
        }
        self.all.iter().max_by_key(|(slot, pace)| (pace.ahead, **slot)).map(|(slot, _)| *slot)
    }

    pub fn forget(&mut self, slot: u32) {
        if let Some(pace) = self.all.remove(&slot) {
            self.together -= weight(&pace);
        }
    }
}

fn weight(pace: &Pace) -> u64 {
    if pace.ahead >= STEP { pace.ahead } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn who_never_pings_is_cut_off_after_what_it_may_be_behind() {
        let mut paces = Paces::default();
        let mut sent = 0;
        while !paces.sent(1, 10 * KIB, Timestamp(sent), || None) {
            sent += 10 * KIB;
        }
        assert_eq!(sent, MAX_AHEAD / (10 * KIB) * (10 * KIB));
    }

    #[test]
    fn who_pings_as_it_reads_goes_on_for_ever() {
        let mut paces = Paces::default();
        let mut pinged = None;
        for time in 0..100_000 {
            if time % 400 == 399 {
                pinged = Some(Timestamp(time));
            }
            assert!(!paces.sent(1, 16 * KIB, Timestamp(time), || pinged), "at {time}");
        }
    }

    #[test]
    fn a_ping_from_before_says_nothing_of_what_came_after_it() {
        let mut paces = Paces::default();
        let pinged = Some(Timestamp(5));
        let cut = (10..).find(|time| paces.sent(1, STEP, Timestamp(*time), || pinged));
        assert_eq!(cut, Some(10 + MAX_AHEAD / STEP));
    }

    #[test]
    fn of_many_that_are_behind_the_one_furthest_behind_goes() {
        let mut paces = Paces::default();
        for slot in 0..12 {
            for _ in 0..if slot == 7 { 6 } else { 4 } {
                assert!(!paces.sent(slot, STEP, Timestamp(0), || None));
            }
        }
        assert_eq!(paces.one_too_many(), Some(7));
        paces.forget(7);
        assert_eq!(paces.one_too_many(), None);
    }

    proptest! {
        #[test]
        fn what_weighs_together_is_what_each_weighs(
            steps in proptest::collection::vec((0u32..6, 0u64..3 * STEP, any::<bool>(), 0u8..10), 0..200)
        ) {
            let mut paces = Paces::default();
            for (time, (slot, bytes, pinged, forget)) in steps.into_iter().enumerate() {
                let now = Timestamp(time as u64);
                paces.sent(slot, bytes, now, || pinged.then_some(now));
                if forget == 0 {
                    paces.forget(slot);
                }
                prop_assert_eq!(paces.together, paces.all.values().map(weight).sum::<u64>());
            }
        }
    }
}
