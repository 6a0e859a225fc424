//! The cache of published key sets. A set is fetched rarely, at once for a new key, and never so often that a flood of
//! tokens causes a flood of requests to their issuer.

use std::rc::Rc;

use super::algorithm::Algorithm;
use super::jwk::{Jwk, choose};
use super::jwt::TokenError;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

const MINUTE_MS: u64 = 60_000;
/// The bounds of the time that a set is fresh, whatever its server says, in milliseconds.
const MIN_FRESH_MS: u64 = 5 * MINUTE_MS;
const MAX_FRESH_MS: u64 = 24 * 60 * MINUTE_MS;
/// How long a set may be used beyond that while its server is unreachable, in milliseconds.
const STALE_MS: u64 = 24 * 60 * MINUTE_MS;
/// The minimum time between two requests before the first set is fetched, in milliseconds: no token can be accepted
/// without it.
const MIN_FIRST_INTERVAL_MS: u64 = 5_000;

/// The age of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeySetAge {
    /// When the cached set was fetched; `None` if there is none.
    pub fetched_at: Option<Timestamp>,
    pub fresh_until: Timestamp,
    pub tried_at: Option<Timestamp>,
}

/// Whether a set must be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The cached set decides.
    Use,
    /// The set must be fetched first.
    Fetch,
}

/// `has_key`: whether the cached set contains the key that a token names.
pub fn decide(age: &KeySetAge, has_key: bool, now: Timestamp, timing: &Timing) -> Decision {
    let between = if age.fetched_at.is_some() { timing.key_set_interval_ms } else { MIN_FIRST_INTERVAL_MS };
    let rests = age.tried_at.is_some_and(|tried| now.since(tried) < between && now >= tried);
    let fresh = age.fetched_at.is_some() && now < age.fresh_until;
    if rests || fresh && has_key { Decision::Use } else { Decision::Fetch }
}

impl KeySetAge {
    /// Whether the cached set may still be used.
    pub fn usable(&self, now: Timestamp) -> bool {
        self.fetched_at.is_some() && now.since(self.fresh_until) < STALE_MS
    }

    pub fn fetched(&mut self, now: Timestamp, max_age_seconds: Option<u64>) {
        let fresh_ms = max_age_seconds.unwrap_or(0).saturating_mul(1000).clamp(MIN_FRESH_MS, MAX_FRESH_MS);
        *self = KeySetAge { fetched_at: Some(now), fresh_until: now.plus_ms(fresh_ms), tried_at: Some(now) };
    }

    pub fn failed(&mut self, now: Timestamp) {
        self.tried_at = Some(now);
    }
}

/// The cached set of one URL.
#[derive(Debug, Default)]
pub struct CachedKeySet {
    age: KeySetAge,
    keys: Rc<Vec<Jwk>>,
    /// Incremented with every fetched set.
    number: u64,
    /// Another request is fetching the set until then. The limit covers requests that die.
    fetching_until: Option<Timestamp>,
    /// The issuer's document has changed: the set must not be used before its server was asked.
    renewed: bool,
}

/// The next step in verifying a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLookup {
    /// These keys, of the set with this number, may have signed the token.
    Try(Vec<Jwk>, u64),
    /// The caller must fetch the set first.
    Fetch,
    /// Another request is fetching the set.
    Wait,
    Reject(TokenError),
}

impl CachedKeySet {
    /// `failed`: the number of a set of which no key verified the signature. One request at a time fetches a set;
    /// others that have a fitting key do not wait.
    pub fn lookup(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        failed: Option<u64>,
        now: Timestamp,
        timing: &Timing,
    ) -> KeyLookup {
        let usable: &[Jwk] = if self.age.usable(now) && !self.renewed { &self.keys } else { &[] };
        let fitting = choose(usable, kid, algorithm);
        let good = !fitting.is_empty() && failed != Some(self.number);
        let is_fetched = self.fetching_until.is_some_and(|until| now < until);
        match decide(&self.age, good, now, timing) {
            Decision::Fetch if !is_fetched => KeyLookup::Fetch,
            Decision::Fetch | Decision::Use if good => {
                KeyLookup::Try(fitting.into_iter().cloned().collect(), self.number)
            }
            Decision::Fetch => KeyLookup::Wait,
            Decision::Use if fitting.is_empty() => KeyLookup::Reject(TokenError::Key),
            Decision::Use => KeyLookup::Reject(TokenError::Signature),
        }
    }

    /// The issuer's document has changed: the set must be fetched before the next token is accepted. If its server is
    /// unreachable, the cached set is used as in any outage.
    pub fn invalidate(&mut self, now: Timestamp) {
        self.age = KeySetAge { tried_at: None, fresh_until: self.age.fresh_until.min(now), ..self.age };
        (self.fetching_until, self.renewed) = (None, true);
    }

    pub fn begin_fetch(&mut self, until: Timestamp) {
        self.fetching_until = Some(until);
    }

    /// Stores the result of a fetch: the keys and `max-age`, or `None` if it failed.
    pub fn fetched(&mut self, fetched: Option<(Vec<Jwk>, Option<u64>)>, now: Timestamp) {
        (self.fetching_until, self.renewed) = (None, false);
        match fetched {
            Some((keys, max_age_seconds)) => {
                self.keys = Rc::new(keys);
                self.number += 1;
                self.age.fetched(now, max_age_seconds);
            }
            None => self.age.failed(now),
        }
    }

    /// How long a verification may be cached: as long as the set would not be fetched again.
    pub fn valid_until(&self, now: Timestamp, timing: &Timing) -> Timestamp {
        self.age.fresh_until.max(now.plus_ms(timing.key_set_interval_ms))
    }
}

/// The `max-age` of a `Cache-Control` header (RFC 9111 §5.2.2.1), in seconds.
pub fn max_age(cache_control: &str) -> Option<u64> {
    cache_control.split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp(1_800_000_000_000);
    const MIN_INTERVAL_MS: u64 = Timing::DEFAULT.key_set_interval_ms;

    #[test]
    fn a_set_is_fresh_for_its_max_age_within_bounds() {
        for (said, minutes) in [(None, 5), (Some(1), 5), (Some(3600), 60), (Some(u64::MAX), 24 * 60)] {
            let mut age = KeySetAge::default();
            assert_eq!(decide(&age, false, T, &Timing::DEFAULT), Decision::Fetch);
            age.fetched(T, said);
            let end = T.plus_ms(minutes * MINUTE_MS);
            assert_eq!(decide(&age, true, Timestamp(end.0 - 1), &Timing::DEFAULT), Decision::Use);
            assert_eq!(decide(&age, true, end, &Timing::DEFAULT), Decision::Fetch);
        }
    }

    #[test]
    fn an_unknown_key_causes_a_fetch_at_most_every_thirty_seconds() {
        let mut age = KeySetAge::default();
        age.fetched(T, Some(3600));
        assert_eq!(decide(&age, false, T.plus_ms(29_999), &Timing::DEFAULT), Decision::Use);
        assert_eq!(decide(&age, false, T.plus_ms(30_000), &Timing::DEFAULT), Decision::Fetch);
        age.failed(T.plus_ms(30_000));
        assert_eq!(decide(&age, false, T.plus_ms(59_999), &Timing::DEFAULT), Decision::Use);
    }

    #[test]
    fn an_outage_is_lived_through_for_a_day_and_no_longer() {
        let mut age = KeySetAge::default();
        age.fetched(T, None);
        let later = T.plus_ms(10 * MINUTE_MS);
        assert_eq!(decide(&age, true, later, &Timing::DEFAULT), Decision::Fetch);
        age.failed(later);
        assert_eq!(decide(&age, true, later.plus_ms(1), &Timing::DEFAULT), Decision::Use);
        assert!(age.usable(later));
        assert!(age.usable(Timestamp(age.fresh_until.0 + STALE_MS - 1)));
        assert!(!age.usable(age.fresh_until.plus_ms(STALE_MS)));
        assert!(!KeySetAge::default().usable(T));
    }

    #[test]
    fn the_first_set_is_asked_for_more_often() {
        let mut age = KeySetAge::default();
        age.failed(T);
        assert_eq!(decide(&age, false, T.plus_ms(4_999), &Timing::DEFAULT), Decision::Use);
        assert_eq!(decide(&age, false, T.plus_ms(5_000), &Timing::DEFAULT), Decision::Fetch);
    }

    #[test]
    fn max_age_is_found_among_directives() {
        assert_eq!(max_age("public, Max-Age=600, must-revalidate"), Some(600));
        assert_eq!(max_age(r#"max-age="10""#), Some(10));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=soon"), None);
    }

    fn key(kid: &str, text: &str) -> Jwk {
        Jwk { kid: Some(kid.into()), kind: super::super::algorithm::KeyKind::P256, algorithm: None, text: text.into() }
    }

    fn step(held: &CachedKeySet, kid: &str, failed: Option<u64>, now: Timestamp) -> KeyLookup {
        held.lookup(Some(kid), Algorithm::Es256, failed, now, &Timing::DEFAULT)
    }

    #[test]
    fn a_signature_that_fails_has_the_set_fetched_again_and_not_twice() {
        let mut held = CachedKeySet::default();
        assert_eq!(step(&held, "a", None, T), KeyLookup::Fetch);
        held.fetched(Some((vec![key("a", "old")], Some(86_400))), T);
        let later = T.plus_ms(MIN_INTERVAL_MS);
        assert_eq!(step(&held, "a", None, later), KeyLookup::Try(vec![key("a", "old")], 1));
        assert_eq!(step(&held, "a", Some(1), later), KeyLookup::Fetch);
        held.fetched(Some((vec![key("a", "new")], Some(86_400))), later);
        assert_eq!(step(&held, "a", Some(1), later), KeyLookup::Try(vec![key("a", "new")], 2));
        assert_eq!(step(&held, "a", Some(2), later.plus_ms(1)), KeyLookup::Reject(TokenError::Signature));
        assert_eq!(step(&held, "b", None, later.plus_ms(1)), KeyLookup::Reject(TokenError::Key));
    }

    #[test]
    fn a_set_is_asked_for_again_before_a_document_that_was_written_counts() {
        let mut held = CachedKeySet::default();
        held.fetched(Some((vec![key("a", "old")], Some(86_400))), T);
        let now = T.plus_ms(1_000);
        held.invalidate(now);
        assert_eq!(step(&held, "a", None, now), KeyLookup::Fetch);
        held.begin_fetch(now.plus_ms(6_000));
        assert_eq!(step(&held, "a", None, now), KeyLookup::Wait, "the old key is not used until then");
        held.fetched(Some((vec![key("b", "new")], Some(86_400))), now);
        assert_eq!(step(&held, "a", None, now), KeyLookup::Reject(TokenError::Key));
        // Its server is unreachable.
        held.invalidate(now);
        held.begin_fetch(now.plus_ms(6_000));
        held.fetched(None, now);
        assert_eq!(step(&held, "b", None, now), KeyLookup::Try(vec![key("b", "new")], 2));
        assert_eq!(step(&held, "b", None, now.plus_ms(STALE_MS + MIN_INTERVAL_MS)), KeyLookup::Fetch);
        held.fetched(None, now.plus_ms(STALE_MS + MIN_INTERVAL_MS));
        assert_eq!(step(&held, "b", None, now.plus_ms(STALE_MS + MIN_INTERVAL_MS)), KeyLookup::Reject(TokenError::Key));
    }

    /// An attacker causes a fetch at most every half a minute, and other requests do not wait for it.
    #[test]
    fn tokens_without_a_signature_cost_their_issuer_a_request_every_thirty_seconds() {
        let mut held = CachedKeySet::default();
        held.fetched(Some((vec![key("a", "key")], Some(86_400))), T);
        let (mut fetches, mut fetching) = (0, None);
        for ms in (0..300_000).step_by(50) {
            let now = T.plus_ms(ms);
            if fetching == Some(ms) {
                // Its server answers every other time.
                held.fetched((fetches % 2 == 0).then(|| (vec![key("a", "key")], Some(86_400))), now);
                fetching = None;
            }
            let number = held.number;
            for (kid, failed) in [("junk", None), ("a", Some(number))] {
                match step(&held, kid, failed, now) {
                    KeyLookup::Fetch => {
                        assert_eq!(fetching, None, "by one at a time");
                        held.begin_fetch(now.plus_ms(6_000));
                        (fetches, fetching) = (fetches + 1, Some(ms + 1_000));
                    }
                    KeyLookup::Wait => assert!(fetching.is_some()),
                    KeyLookup::Reject(_) => {}
                    KeyLookup::Try(..) => panic!("junk is tried at {ms}"),
                }
            }
            assert!(matches!(step(&held, "a", None, now), KeyLookup::Try(..)), "a good token waits at {ms}");
        }
        assert!((9..=10).contains(&fetches), "{fetches} in five minutes");
    }

    #[test]
    fn a_request_that_dies_while_fetching_does_not_block_others_for_long() {
        let mut held = CachedKeySet::default();
        held.begin_fetch(T.plus_ms(6_000));
        assert_eq!(step(&held, "a", None, T.plus_ms(5_999)), KeyLookup::Wait);
        assert_eq!(step(&held, "a", None, T.plus_ms(6_000)), KeyLookup::Fetch);
    }
}
