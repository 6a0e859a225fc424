//! When a published key set is fetched again: rarely, at once for a key that is new, and never so often that a flood
//! of tokens becomes a flood of requests to their issuer.

use std::rc::Rc;

use super::jwk::{Jwk, choose};
use super::jwt::{Algorithm, Refused};
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

const MINUTE_MS: u64 = 60_000;
/// How long a set is used without asking again, whatever its server says, in milliseconds.
const SHORTEST_MS: u64 = 5 * MINUTE_MS;
const LONGEST_MS: u64 = 24 * 60 * MINUTE_MS;
/// How long a set may be used while its server does not answer, in milliseconds.
const STALE_MS: u64 = 24 * 60 * MINUTE_MS;
/// As long as the very first set is not there, in milliseconds: nobody can be let in without it.
const BETWEEN_FIRST_MS: u64 = 5_000;

/// What is known of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Age {
    /// When the set that is held was fetched; nothing: there is none.
    pub fetched_at: Option<Timestamp>,
    pub fresh_until: Timestamp,
    pub tried_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The set that is held decides.
    Use,
    /// It is fetched first.
    Fetch,
}

/// `has_key`: whether the set that is held has the key a token names.
pub fn decide(age: &Age, has_key: bool, now: Timestamp, timing: &Timing) -> Decision {
    let between = if age.fetched_at.is_some() { timing.key_set_pause_ms } else { BETWEEN_FIRST_MS };
    let rests = age.tried_at.is_some_and(|tried| now.since(tried) < between && now >= tried);
    let fresh = age.fetched_at.is_some() && now < age.fresh_until;
    if rests || fresh && has_key { Decision::Use } else { Decision::Fetch }
}

impl Age {
    /// Whether the set that is held may still be believed.
    pub fn usable(&self, now: Timestamp) -> bool {
        self.fetched_at.is_some() && now.since(self.fresh_until) < STALE_MS
    }

    pub fn fetched(&mut self, now: Timestamp, max_age_seconds: Option<u64>) {
        let fresh_ms = max_age_seconds.unwrap_or(0).saturating_mul(1000).clamp(SHORTEST_MS, LONGEST_MS);
        *self = Age { fetched_at: Some(now), fresh_until: now.plus_ms(fresh_ms), tried_at: Some(now) };
    }

    pub fn failed(&mut self, now: Timestamp) {
        self.tried_at = Some(now);
    }
}

/// A set as it is held, of one address.
#[derive(Debug, Default)]
pub struct Held {
    age: Age,
    keys: Rc<Vec<Jwk>>,
    /// Grows with every set that is fetched.
    number: u64,
    /// Until then somebody fetches it. A request that dies on the way says nothing, hence the end.
    fetching_until: Option<Timestamp>,
    /// Its document was written anew: nothing is believed before its server was asked.
    renewed: bool,
}

/// What is to be done next about a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These keys may have signed it, of the set with this number.
    Try(Vec<Jwk>, u64),
    /// The set is fetched first, by who asked.
    Fetch,
    /// Somebody else fetches it.
    Wait,
    Refuse(Refused),
}

impl Held {
    /// `failed`: the number of the set none of whose keys made the signature. A set is fetched by one at a time, and
    /// whoever has a key that may fit does not wait for that.
    pub fn step(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        failed: Option<u64>,
        now: Timestamp,
        timing: &Timing,
    ) -> Step {
        let usable: &[Jwk] = if self.age.usable(now) && !self.renewed { &self.keys } else { &[] };
        let fitting = choose(usable, kid, algorithm);
        let good = !fitting.is_empty() && failed != Some(self.number);
        let is_fetched = self.fetching_until.is_some_and(|until| now < until);
        match decide(&self.age, good, now, timing) {
            Decision::Fetch if !is_fetched => Step::Fetch,
            Decision::Fetch | Decision::Use if good => Step::Try(fitting.into_iter().cloned().collect(), self.number),
            Decision::Fetch => Step::Wait,
            Decision::Use if fitting.is_empty() => Step::Refuse(Refused::Key),
            Decision::Use => Step::Refuse(Refused::Signature),
        }
    }

    /// The same for a document that was written anew: it is fetched before a token counts. Where its server does not
    /// answer, what is held goes on as in any outage.
    pub fn renew(&mut self, now: Timestamp) {
        self.age = Age { tried_at: None, fresh_until: self.age.fresh_until.min(now), ..self.age };
        (self.fetching_until, self.renewed) = (None, true);
    }

    pub fn fetches(&mut self, until: Timestamp) {
        self.fetching_until = Some(until);
    }

    /// What came of fetching it. Without keys those that are held stay.
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

    /// How long what was verified may be remembered: as long as nobody would ask for the set again.
    pub fn holds_until(&self, now: Timestamp, timing: &Timing) -> Timestamp {
        self.age.fresh_until.max(now.plus_ms(timing.key_set_pause_ms))
    }
}

/// `max-age` of a `Cache-Control` (RFC 9111 §5.2.2.1).
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
    const BETWEEN_MS: u64 = Timing::DEFAULT.key_set_pause_ms;

    #[test]
    fn a_set_is_used_for_as_long_as_its_server_says_within_bounds() {
        for (said, minutes) in [(None, 5), (Some(1), 5), (Some(3600), 60), (Some(u64::MAX), 24 * 60)] {
            let mut age = Age::default();
            assert_eq!(decide(&age, false, T, &Timing::DEFAULT), Decision::Fetch);
            age.fetched(T, said);
            let end = T.plus_ms(minutes * MINUTE_MS);
            assert_eq!(decide(&age, true, Timestamp(end.0 - 1), &Timing::DEFAULT), Decision::Use);
            assert_eq!(decide(&age, true, end, &Timing::DEFAULT), Decision::Fetch);
        }
    }

    #[test]
    fn an_unknown_key_is_looked_for_at_most_every_thirty_seconds() {
        let mut age = Age::default();
        age.fetched(T, Some(3600));
        assert_eq!(decide(&age, false, T.plus_ms(29_999), &Timing::DEFAULT), Decision::Use);
        assert_eq!(decide(&age, false, T.plus_ms(30_000), &Timing::DEFAULT), Decision::Fetch);
        age.failed(T.plus_ms(30_000));
        assert_eq!(decide(&age, false, T.plus_ms(59_999), &Timing::DEFAULT), Decision::Use);
    }

    #[test]
    fn an_outage_is_lived_through_for_a_day_and_no_longer() {
        let mut age = Age::default();
        age.fetched(T, None);
        let later = T.plus_ms(10 * MINUTE_MS);
        assert_eq!(decide(&age, true, later, &Timing::DEFAULT), Decision::Fetch);
        age.failed(later);
        assert_eq!(decide(&age, true, later.plus_ms(1), &Timing::DEFAULT), Decision::Use);
        assert!(age.usable(later));
        assert!(age.usable(Timestamp(age.fresh_until.0 + STALE_MS - 1)));
        assert!(!age.usable(age.fresh_until.plus_ms(STALE_MS)));
        assert!(!Age::default().usable(T));
    }

    #[test]
    fn the_first_set_is_asked_for_more_often() {
        let mut age = Age::default();
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
        Jwk { kid: Some(kid.into()), kind: super::super::jwk::Kind::P256, algorithm: None, text: text.into() }
    }

    fn step(held: &Held, kid: &str, failed: Option<u64>, now: Timestamp) -> Step {
        held.step(Some(kid), Algorithm::Es256, failed, now, &Timing::DEFAULT)
    }

    #[test]
    fn a_signature_that_fails_has_the_set_fetched_again_and_not_twice() {
        let mut held = Held::default();
        assert_eq!(step(&held, "a", None, T), Step::Fetch);
        held.fetched(Some((vec![key("a", "old")], Some(86_400))), T);
        let later = T.plus_ms(BETWEEN_MS);
        assert_eq!(step(&held, "a", None, later), Step::Try(vec![key("a", "old")], 1));
        assert_eq!(step(&held, "a", Some(1), later), Step::Fetch);
        held.fetched(Some((vec![key("a", "new")], Some(86_400))), later);
        assert_eq!(step(&held, "a", Some(1), later), Step::Try(vec![key("a", "new")], 2));
        assert_eq!(step(&held, "a", Some(2), later.plus_ms(1)), Step::Refuse(Refused::Signature));
        assert_eq!(step(&held, "b", None, later.plus_ms(1)), Step::Refuse(Refused::Key));
    }

    #[test]
    fn a_set_is_asked_for_again_before_a_document_that_was_written_counts() {
        let mut held = Held::default();
        held.fetched(Some((vec![key("a", "old")], Some(86_400))), T);
        let now = T.plus_ms(1_000);
        held.renew(now);
        assert_eq!(step(&held, "a", None, now), Step::Fetch);
        held.fetches(now.plus_ms(6_000));
        assert_eq!(step(&held, "a", None, now), Step::Wait, "the old key does not count meanwhile");
        held.fetched(Some((vec![key("b", "new")], Some(86_400))), now);
        assert_eq!(step(&held, "a", None, now), Step::Refuse(Refused::Key));
        // Its server is away.
        held.renew(now);
        held.fetches(now.plus_ms(6_000));
        held.fetched(None, now);
        assert_eq!(step(&held, "b", None, now), Step::Try(vec![key("b", "new")], 2));
        assert_eq!(step(&held, "b", None, now.plus_ms(STALE_MS + BETWEEN_MS)), Step::Fetch);
        held.fetched(None, now.plus_ms(STALE_MS + BETWEEN_MS));
        assert_eq!(step(&held, "b", None, now.plus_ms(STALE_MS + BETWEEN_MS)), Step::Refuse(Refused::Key));
    }

    /// An attacker has a set fetched every half a minute at the most, and nobody else waits for it.
    #[test]
    fn tokens_without_a_signature_cost_their_issuer_a_request_every_thirty_seconds() {
        let mut held = Held::default();
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
                    Step::Fetch => {
                        assert_eq!(fetching, None, "by one at a time");
                        held.fetches(now.plus_ms(6_000));
                        (fetches, fetching) = (fetches + 1, Some(ms + 1_000));
                    }
                    Step::Wait => assert!(fetching.is_some()),
                    Step::Refuse(_) => {}
                    Step::Try(..) => panic!("junk is tried at {ms}"),
                }
            }
            assert!(matches!(step(&held, "a", None, now), Step::Try(..)), "a good token waits at {ms}");
        }
        assert!((9..=10).contains(&fetches), "{fetches} in five minutes");
    }

    #[test]
    fn a_request_that_dies_while_it_fetches_holds_nobody_up_for_long() {
        let mut held = Held::default();
        held.fetches(T.plus_ms(6_000));
        assert_eq!(step(&held, "a", None, T.plus_ms(5_999)), Step::Wait);
        assert_eq!(step(&held, "a", None, T.plus_ms(6_000)), Step::Fetch);
    }
}
