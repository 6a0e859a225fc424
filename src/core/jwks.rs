//! When a published key set is fetched again: rarely, at once for a key that is new, and never so often that a flood
//! of tokens becomes a flood of requests to their issuer.

use super::time::Timestamp;

const MINUTE_MS: u64 = 60_000;
/// How long a set is used without asking again, whatever its server says, in milliseconds.
const SHORTEST_MS: u64 = 5 * MINUTE_MS;
const LONGEST_MS: u64 = 24 * 60 * MINUTE_MS;
/// How long a set may be used while its server does not answer, in milliseconds.
const STALE_MS: u64 = 24 * 60 * MINUTE_MS;
/// How long after a request there is none, in milliseconds.
const BETWEEN_MS: u64 = 30_000;
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
pub fn decide(age: &Age, has_key: bool, now: Timestamp) -> Decision {
    let between = if age.fetched_at.is_some() { BETWEEN_MS } else { BETWEEN_FIRST_MS };
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

    #[test]
    fn a_set_is_used_for_as_long_as_its_server_says_within_bounds() {
        for (said, minutes) in [(None, 5), (Some(1), 5), (Some(3600), 60), (Some(u64::MAX), 24 * 60)] {
            let mut age = Age::default();
            assert_eq!(decide(&age, false, T), Decision::Fetch);
            age.fetched(T, said);
            let end = T.plus_ms(minutes * MINUTE_MS);
            assert_eq!(decide(&age, true, Timestamp(end.0 - 1)), Decision::Use);
            assert_eq!(decide(&age, true, end), Decision::Fetch);
        }
    }

    #[test]
    fn an_unknown_key_is_looked_for_at_most_every_thirty_seconds() {
        let mut age = Age::default();
        age.fetched(T, Some(3600));
        assert_eq!(decide(&age, false, T.plus_ms(29_999)), Decision::Use);
        assert_eq!(decide(&age, false, T.plus_ms(30_000)), Decision::Fetch);
        age.failed(T.plus_ms(30_000));
        assert_eq!(decide(&age, false, T.plus_ms(59_999)), Decision::Use);
    }

    #[test]
    fn an_outage_is_lived_through_for_a_day_and_no_longer() {
        let mut age = Age::default();
        age.fetched(T, None);
        let later = T.plus_ms(10 * MINUTE_MS);
        assert_eq!(decide(&age, true, later), Decision::Fetch);
        age.failed(later);
        assert_eq!(decide(&age, true, later.plus_ms(1)), Decision::Use);
        assert!(age.usable(later));
        assert!(age.usable(Timestamp(age.fresh_until.0 + STALE_MS - 1)));
        assert!(!age.usable(age.fresh_until.plus_ms(STALE_MS)));
        assert!(!Age::default().usable(T));
    }

    #[test]
    fn the_first_set_is_asked_for_more_often() {
        let mut age = Age::default();
        age.failed(T);
        assert_eq!(decide(&age, false, T.plus_ms(4_999)), Decision::Use);
        assert_eq!(decide(&age, false, T.plus_ms(5_000)), Decision::Fetch);
    }

    #[test]
    fn max_age_is_found_among_directives() {
        assert_eq!(max_age("public, Max-Age=600, must-revalidate"), Some(600));
        assert_eq!(max_age(r#"max-age="10""#), Some(10));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=soon"), None);
    }
}
