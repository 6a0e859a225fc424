//! Documents that clients publish about themselves (Client ID Metadata Documents), as a cache of HTTP holds them
//! (RFC 9111), and how often they are fetched. What is held is the client that was read; one shelf is one isolate's.

use std::collections::HashMap;

use crate::base::time::Timestamp;

/// However long a server says, in milliseconds.
const LONGEST_MS: u64 = 86_400_000;
/// How long a document is used past its time while its server does not answer (RFC 5861 §4), in milliseconds.
const IF_AWAY_MS: u64 = 86_400_000;
/// Documents held.
const MAX_HELD: usize = 200;
/// Fetches under way.
const MAX_AT_ONCE: usize = 16;
/// Fetches within a minute: in all, for one caller, from one host; and those of one caller for what was never read
/// here.
const MAX_FETCHED: u32 = 600;
const MAX_FOR_CALLER: u32 = 120;
const MAX_FROM_HOST: u32 = 120;
const MAX_NEW_FOR_CALLER: u32 = 30;
const WINDOW_MS: u64 = 60_000;
/// A request that dies on the way tells nobody that it fetches no more; hence the end, in milliseconds.
const FETCHING_MS: u64 = 6_000;

/// What an answer's headers say of how long it may be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub cache_control: String,
    pub age: String,
    pub expires: String,
    pub date: String,
    pub etag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    stored: bool,
    fresh_ms: u64,
    /// Whether it may be used past its time.
    if_away: bool,
}

/// A date of HTTP in the one form that is sent (RFC 9110 §5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    let mut parts = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    (parts.next() == Some("GMT")).then(|| Timestamp::parse(&format!("{year}-{month:02}-{day}T{time}Z"))).flatten()
}

impl Said {
    fn directive(&self, wanted: &str) -> Option<&str> {
        self.cache_control.split(',').find_map(|directive| {
            let directive = directive.trim();
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
        })
    }

    fn seconds(&self, wanted: &str) -> Option<u64> {
        // One that cannot be read counts as stale (RFC 9111 §4.2.1).
        self.directive(wanted).map(|value| value.parse().unwrap_or(0))
    }

    /// RFC 9111 §3, §4.2. Nothing is guessed: what says no time is asked for again each time.
    fn policy(&self, now: Timestamp) -> Policy {
        let has = |name| self.directive(name).is_some();
        let by_date = || {
            let expires = if self.expires.is_empty() { None } else { Some(date(&self.expires).unwrap_or_default()) };
            expires.map(|expires| expires.since(date(&self.date).unwrap_or(now)) / 1000)
        };
        let shared = self.seconds("s-maxage");
        let life = shared.or_else(|| self.seconds("max-age")).or_else(by_date).unwrap_or(0);
        let age = self.age.trim().parse::<u64>().unwrap_or(0);
        let fresh_ms = life.saturating_sub(age).saturating_mul(1000).min(LONGEST_MS);
        Policy {
            stored: !has("no-store") && !has("private"),
            fresh_ms: if has("no-cache") { 0 } else { fresh_ms },
            if_away: !has("must-revalidate") && !has("proxy-revalidate") && shared.is_none(),
        }
    }
}

/// A document that was read, and when its server last said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    pub content: T,
    pub at: Timestamp,
}

struct Held<T> {
    found: Found<T>,
    policy: Policy,
    etag: String,
    used_at: Timestamp,
}

impl<T> Held<T> {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.policy.stored && now.since(self.found.at) < self.policy.fresh_ms
    }

    fn serves_away(&self, now: Timestamp) -> bool {
        let Policy { stored, fresh_ms, if_away } = self.policy;
        stored && if_away && now.since(self.found.at) < fresh_ms.saturating_add(IF_AWAY_MS)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Look<T> {
    Use(Found<T>),
    /// It is fetched, on this condition where there is one (RFC 9110 §13.1.2).
    Fetch {
        etag: Option<String>,
    },
    /// Another request fetches it now.
    Wait,
    /// Another request has just tried, and its server does not answer.
    Away,
}

/// Too much is fetched. In milliseconds: when there is room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy(pub u64);

pub struct Shelf<T> {
    held: HashMap<String, Held<T>>,
    /// Until when, by address.
    fetching: HashMap<String, Timestamp>,
    /// When it failed last.
    away: HashMap<String, Timestamp>,
    /// Fetches since the window began, by whom and from where.
    counted: HashMap<String, u32>,
    window: Timestamp,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            held: HashMap::new(),
            fetching: HashMap::new(),
            away: HashMap::new(),
            counted: HashMap::new(),
            window: Timestamp::default(),
        }
    }
}

impl<T: Clone> Shelf<T> {
    /// What a request that began at `began` is to do. What came since then answers it too, whatever it says of its
    /// time.
    pub fn look(&mut self, url: &str, began: Timestamp, now: Timestamp) -> Look<T> {
        if let Some(held) = self.held.get_mut(url).filter(|held| held.is_fresh(now) || held.found.at > began) {
            held.used_at = now;
            return Look::Use(held.found.clone());
        }
        if self.fetching.get(url).is_some_and(|until| now < *until) {
            return Look::Wait;
        }
        if self.away.get(url).is_some_and(|at| *at > began) {
            return self.stale(url, now).map_or(Look::Away, Look::Use);
        }
        let etag = self.held.get(url).filter(|held| held.policy.stored).map(|held| held.etag.clone());
        Look::Fetch { etag: etag.filter(|etag| !etag.is_empty()) }
    }

    fn stale(&self, url: &str, now: Timestamp) -> Option<Found<T>> {
        self.held.get(url).filter(|held| held.serves_away(now)).map(|held| held.found.clone())
    }

    fn counts(&self, name: &str, most: u32) -> bool {
        self.counted.get(name).is_none_or(|count| *count < most)
    }

    /// Whether `caller` may have it fetched from `host` now.
    pub fn begin(&mut self, url: &str, caller: &str, host: &str, now: Timestamp) -> Result<(), Busy> {
        if now.since(self.window) >= WINDOW_MS || now < self.window {
            self.window = now;
            self.counted.clear();
        }
        self.fetching.retain(|_, until| now < *until);
        let mut counters = vec![
            ("all".to_string(), MAX_FETCHED),
            (format!("caller {caller}"), MAX_FOR_CALLER),
            (format!("host {host}"), MAX_FROM_HOST),
        ];
        if !self.held.contains_key(url) {
            counters.push((format!("new {caller}"), MAX_NEW_FOR_CALLER));
        }
        if self.fetching.len() >= MAX_AT_ONCE {
            return Err(Busy(1_000));
        }
        if !counters.iter().all(|(name, most)| self.counts(name, *most)) {
            return Err(Busy(WINDOW_MS.saturating_sub(now.since(self.window)).max(1_000)));
        }
        for (name, _) in counters {
            *self.counted.entry(name).or_default() += 1;
        }
        self.fetching.insert(url.into(), now.plus_ms(FETCHING_MS));
        Ok(())
    }

    /// It came, and is this.
    pub fn came(&mut self, url: &str, content: T, said: &Said, now: Timestamp) -> Found<T> {
        self.fetching.remove(url);
        self.away.remove(url);
        let found = Found { content, at: now };
        let held = Held { found: found.clone(), policy: said.policy(now), etag: said.etag.clone(), used_at: now };
        if self.held.len() >= MAX_HELD && !self.held.contains_key(url) {
            let least = self.held.iter().min_by_key(|(_, held)| held.used_at).map(|(url, _)| url.clone());
            least.and_then(|url| self.held.remove(&url));
        }
        self.held.insert(url.into(), held);
        found
    }

    /// It is what it was.
    pub fn unchanged(&mut self, url: &str, said: &Said, now: Timestamp) -> Option<Found<T>> {
        self.fetching.remove(url);
        self.away.remove(url);
        let held = self.held.get_mut(url)?;
        held.found.at = now;
        held.used_at = now;
        // An answer without them leaves the headers as they were (RFC 9111 §3.2).
        if !said.cache_control.is_empty() || !said.expires.is_empty() {
            held.policy = said.policy(now);
        }
        Some(held.found.clone())
    }

    /// Its server does not answer: what is held serves, as far as it may.
    pub fn is_away(&mut self, url: &str, now: Timestamp) -> Option<Found<T>> {
        self.fetching.remove(url);
        // Only those who wait ask for it, and they do not wait longer than this.
        self.away.retain(|_, at| now.since(*at) < FETCHING_MS);
        self.away.insert(url.into(), now);
        self.stale(url, now)
    }

    /// What is too busy to be fetched, past its time.
    pub fn instead(&self, url: &str, now: Timestamp) -> Option<Found<T>> {
        self.stale(url, now)
    }

    /// It is no client, or no longer.
    pub fn is_none(&mut self, url: &str) {
        self.fetching.remove(url);
        self.held.remove(url);
    }
}

#[cfg(test)]
mod tests;
