//! Clients that registered themselves: their lifetime, and their eviction.

use crate::base::order;
use crate::base::time::Timestamp;

/// Maximum number of registrations.
pub const MAX_REGISTRATIONS: usize = 200;
/// The lifetime of a registration that never received a token, in milliseconds: 6 hours.
pub const UNUSED_MS: u64 = 6 * 3_600_000;
/// The lifetime of any other one after its last token, in milliseconds: 6 weeks, longer than any grant.
pub const IDLE_MS: u64 = 42 * 86_400_000;

/// A stored registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub id: String,
    /// Its size.
    pub bytes: u64,
    pub created_at: Timestamp,
    /// When it last received a token, to the hour.
    pub used_at: Option<Timestamp>,
    /// A fingerprint of the address it was registered from.
    pub source: String,
}

/// The lifetimes of registrations, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    pub unused_ms: u64,
    pub idle_ms: u64,
}

impl Registration {
    pub fn has_ended(&self, terms: Lifetimes, now: Timestamp) -> bool {
        match self.used_at {
            None => now.since(self.created_at) >= terms.unused_ms,
            // The hour of the last use may have started before the registration.
            Some(at) => now.since(at.max(self.created_at)) >= terms.idle_ms,
        }
    }
}

/// The unused registrations to evict so that another one of `bytes` fits: the oldest of the address that has the most,
/// so that an address that floods the deployment evicts its own. `None` if too many are in use.
pub fn displaced(held: &[Registration], bytes: u64, max_count: usize, max_bytes: u64) -> Option<Vec<String>> {
    let (mut count, mut taken) = (held.len() + 1, bytes + held.iter().map(|one| one.bytes).sum::<u64>());
    let mut unused: Vec<&Registration> = held.iter().filter(|one| one.used_at.is_none()).collect();
    order::sort_by(&mut unused, |a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let mut gone = Vec::new();
    while count > max_count || taken > max_bytes {
        let of = |source: &str| unused.iter().filter(|one| one.source == source).count();
        // The first among equals is the oldest.
        let mut chosen: Option<(usize, usize)> = None;
        for (at, one) in unused.iter().enumerate() {
            let many = of(&one.source);
            if chosen.is_none_or(|(most, _)| many > most) {
                chosen = Some((many, at));
            }
        }
        let (_, at) = chosen?;
        let one = unused.remove(at);
        count -= 1;
        taken = taken.saturating_sub(one.bytes);
        gone.push(one.id.clone());
    }
    Some(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(id: &str, at: u64, used: Option<u64>, source: &str) -> Registration {
        Registration {
            id: id.into(),
            bytes: 100,
            created_at: Timestamp(at),
            used_at: used.map(Timestamp),
            source: source.into(),
        }
    }

    const TERMS: Lifetimes = Lifetimes { unused_ms: 10, idle_ms: 100 };

    #[test]
    fn an_unused_registration_ends_sooner_than_an_idle_one() {
        assert!(!one("a", 5, None, "").has_ended(TERMS, Timestamp(14)));
        assert!(one("a", 5, None, "").has_ended(TERMS, Timestamp(15)));
        assert!(!one("a", 5, Some(0), "").has_ended(TERMS, Timestamp(104)));
        assert!(one("a", 5, Some(0), "").has_ended(TERMS, Timestamp(105)));
        assert!(!one("a", 5, Some(50), "").has_ended(TERMS, Timestamp(149)));
    }

    #[test]
    fn the_oldest_unused_one_makes_room_and_a_used_one_never() {
        let held = [one("used", 1, Some(9), "x"), one("b", 3, None, "x"), one("a", 2, None, "y")];
        assert_eq!(displaced(&held, 100, 4, 1_000), Some(vec![]));
        assert_eq!(displaced(&held, 100, 3, 1_000), Some(vec!["a".into()]));
        assert_eq!(displaced(&held, 100, 2, 1_000), Some(vec!["a".into(), "b".into()]));
        assert_eq!(displaced(&held, 100, 1, 1_000), None);
        // By size as by number.
        assert_eq!(displaced(&held, 200, 10, 400), Some(vec!["a".into()]));
        assert_eq!(displaced(&held, 1_001, 10, 1_000), None);
    }

    #[test]
    fn an_address_that_floods_displaces_its_own() {
        let mut held = vec![one("early", 0, None, "quiet")];
        held.extend((0..199).map(|at| one(&format!("f{at:03}"), 10 + at, None, "loud")));
        assert_eq!(displaced(&held, 100, 200, 100_000), Some(vec!["f000".into()]));
    }

    proptest! {
        /// Afterwards there is room, no more than necessary is evicted, and registrations in use stay.
        #[test]
        fn there_is_room_or_a_refusal(
            held in prop::collection::vec((0_u64..50, any::<bool>(), 0_u8..3, 1_u64..200), 0..30),
            bytes in 1_u64..200, max_count in 1_usize..30, max_bytes in 200_u64..3_000,
        ) {
            let held: Vec<Registration> = held.into_iter().enumerate().map(|(at, (created, used, source, bytes))| {
                let used = used.then_some(60);
                Registration { bytes, ..one(&format!("r{at}"), created, used, &source.to_string()) }
            }).collect();
            let room = |gone: &[String]| {
                let left = held.iter().filter(|one| !gone.contains(&one.id));
                let (count, sum) = left.fold((1, bytes), |(count, sum), one| (count + 1, sum + one.bytes));
                count <= max_count && sum <= max_bytes
            };
            match displaced(&held, bytes, max_count, max_bytes) {
                Some(gone) => {
                    prop_assert!(room(&gone));
                    prop_assert!(gone.iter().all(|id| held.iter().any(|one| one.id == *id && one.used_at.is_none())));
                    if let Some((_, fewer)) = gone.split_last() {
                        prop_assert!(!room(fewer));
                    }
                }
                None => {
                    let unused = held.iter().filter(|one| one.used_at.is_none()).map(|one| one.id.clone());
                    prop_assert!(!room(&unused.collect::<Vec<_>>()));
                }
            }
        }
    }
}
