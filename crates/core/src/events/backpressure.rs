//! Limits how far the reader of a socket may lag behind.
//!
//! The platform gives no information on unread data: sends never fail, and unread messages stay in the object's memory.
//! The only sign is when a client's `ping` was last answered. So clients ping as they read; a client that was sent more
//! than [`MAX_UNREAD_BYTES`] since its last ping is disconnected, and resumes.

use std::collections::HashMap;

use crate::base::time::Timestamp;

/// The maximum number of bytes sent to one socket without a ping.
pub const MAX_UNREAD_BYTES: u64 = 8 * 1024 * 1024;
/// How many bytes are sent between two checks for a ping; a backlog below this counts as none.
pub const CHECK_INTERVAL_BYTES: u64 = 1024 * 1024;
/// The maximum backlog of all sockets together, in bytes. An object has 128 MB.
const MAX_TOTAL_UNREAD_BYTES: u64 = 48 * 1024 * 1024;

#[derive(Debug, Clone, Copy)]
struct Backlog {
    /// Bytes sent since `began`.
    bytes_unread: u64,
    began: Timestamp,
    checked_at: u64,
}

/// The sockets of one object, by slot.
#[derive(Default)]
pub struct Backpressure {
    all: HashMap<u32, Backlog>,
    /// The sum of the backlogs of one interval or more.
    total: u64,
}

impl Backpressure {
    /// Counts sent bytes. `pinged` returns when the socket's last ping was answered, and is called once per interval.
    /// Returns true if the socket must be disconnected.
    pub fn record_sent(
        &mut self,
        slot: u32,
        bytes: u64,
        now: Timestamp,
        pinged: impl Fn() -> Option<Timestamp>,
    ) -> bool {
        let backlog = self.all.entry(slot).or_insert(Backlog { bytes_unread: 0, began: now, checked_at: 0 });
        let before = weight(backlog);
        backlog.bytes_unread += bytes;
        if backlog.bytes_unread >= backlog.checked_at + CHECK_INTERVAL_BYTES {
            backlog.checked_at = backlog.bytes_unread;
            if pinged().is_some_and(|at| at >= backlog.began) {
                *backlog = Backlog { bytes_unread: 0, began: now, checked_at: 0 };
            }
        }
        let is_far = backlog.bytes_unread > MAX_UNREAD_BYTES;
        self.total = self.total + weight(backlog) - before;
        is_far
    }

    /// Whether to wait for a ping before sending more.
    pub fn is_behind(&self, slot: u32) -> bool {
        self.all.get(&slot).is_some_and(|backlog| backlog.bytes_unread >= CHECK_INTERVAL_BYTES)
    }

    /// The socket to disconnect if all backlogs together are too large.
    pub fn furthest_behind(&self) -> Option<u32> {
        if self.total <= MAX_TOTAL_UNREAD_BYTES {
            return None;
        }
        self.all.iter().max_by_key(|(slot, backlog)| (backlog.bytes_unread, **slot)).map(|(slot, _)| *slot)
    }

    /// Removes a socket.
    pub fn forget(&mut self, slot: u32) {
        if let Some(backlog) = self.all.remove(&slot) {
            self.total -= weight(&backlog);
        }
    }
}

fn weight(backlog: &Backlog) -> u64 {
    if backlog.bytes_unread >= CHECK_INTERVAL_BYTES { backlog.bytes_unread } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn a_client_that_never_pings_is_disconnected_at_the_limit() {
        let mut paces = Backpressure::default();
        let mut sent = 0;
        while !paces.record_sent(1, 10 * KIB, Timestamp(sent), || None) {
            sent += 10 * KIB;
        }
        assert_eq!(sent, MAX_UNREAD_BYTES / (10 * KIB) * (10 * KIB));
    }

    #[test]
    fn a_client_that_pings_as_it_reads_stays_connected() {
        let mut paces = Backpressure::default();
        let mut pinged = None;
        for time in 0..100_000 {
            if time % 400 == 399 {
                pinged = Some(Timestamp(time));
            }
            assert!(!paces.record_sent(1, 16 * KIB, Timestamp(time), || pinged), "at {time}");
        }
    }

    #[test]
    fn an_earlier_ping_does_not_confirm_later_data() {
        let mut paces = Backpressure::default();
        let pinged = Some(Timestamp(5));
        let cut = (10..).find(|time| paces.record_sent(1, CHECK_INTERVAL_BYTES, Timestamp(*time), || pinged));
        assert_eq!(cut, Some(10 + MAX_UNREAD_BYTES / CHECK_INTERVAL_BYTES));
    }

    #[test]
    fn the_socket_furthest_behind_is_disconnected() {
        let mut paces = Backpressure::default();
        for slot in 0..12 {
            for _ in 0..if slot == 7 { 6 } else { 4 } {
                assert!(!paces.record_sent(slot, CHECK_INTERVAL_BYTES, Timestamp(0), || None));
            }
        }
        assert_eq!(paces.furthest_behind(), Some(7));
        paces.forget(7);
        assert_eq!(paces.furthest_behind(), None);
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_the_backlogs(
            steps in proptest::collection::vec((0u32..6, 0u64..3 * CHECK_INTERVAL_BYTES, any::<bool>(), 0u8..10), 0..200)
        ) {
            let mut paces = Backpressure::default();
            for (time, (slot, bytes, pinged, forget)) in steps.into_iter().enumerate() {
                let now = Timestamp(time as u64);
                paces.record_sent(slot, bytes, now, || pinged.then_some(now));
                if forget == 0 {
                    paces.forget(slot);
                }
                prop_assert_eq!(paces.total, paces.all.values().map(weight).sum::<u64>());
            }
        }
    }
}
