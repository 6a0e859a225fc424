//! The HTTP cache (RFC 9111) for documents that clients publish (Client ID Metadata Documents), with limits on fetches.
//! It holds the parsed client. Each isolate has one cache.

use std::collections::HashMap;

use crate::base::time::Timestamp;

/// Maximum freshness lifetime, whatever the server says, in milliseconds.
const MAX_FRESH_MS: u64 = 86_400_000;
/// How long a stale document is used while its server is unreachable (RFC 5861 §4), in milliseconds.
const STALE_IF_ERROR_MS: u64 = 86_400_000;
/// Maximum number of cached documents.
const MAX_ENTRIES: usize = 200;
/// Maximum number of concurrent fetches.
const MAX_AT_ONCE: usize = 16;
/// Maximum numbers of fetches per minute: in all, for one caller, from one host, and for one caller of documents that
/// are not cached.
const MAX_FETCHED: u32 = 600;
const MAX_FOR_CALLER: u32 = 120;
const MAX_FROM_HOST: u32 = 120;
const MAX_NEW_FOR_CALLER: u32 = 30;
const WINDOW_MS: u64 = 60_000;
/// After this time a fetch counts as finished, in milliseconds, as the request may have died.
const FETCHING_MS: u64 = 6_000;

/// The response headers that control caching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachingHeaders {
    pub cache_control: String,
    pub age: String,
    pub expires: String,
    pub date: String,
    pub etag: String,
}

/// How a response may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CachePolicy {
    stored: bool,
    fresh_ms: u64,
    /// Whether it may be used while stale, if the server is unreachable.
    stale_if_error: bool,
}

/// An HTTP-date in the preferred form (RFC 9110 §5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    let mut parts = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    (parts.next() == Some("GMT")).then(|| Timestamp::parse(&format!("{year}-{month:02}-{day}T{time}Z"))).flatten()
}

impl CachingHeaders {
    fn directive(&self, wanted: &str) -> Option<&str> {
        self.cache_control.split(',').find_map(|directive| {
            let directive = directive.trim();
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
        })
    }

    fn seconds(&self, wanted: &str) -> Option<u64> {
        // An invalid value counts as stale (RFC 9111 §4.2.1).
        self.directive(wanted).map(|value| value.parse().unwrap_or(0))
    }

    /// RFC 9111 §3, §4.2. Without heuristics: a document without a lifetime is revalidated each time.
    fn policy(&self, now: Timestamp) -> CachePolicy {
        let has = |name| self.directive(name).is_some();
        let by_date = || {
            let expires = if self.expires.is_empty() { None } else { Some(date(&self.expires).unwrap_or_default()) };
            expires.map(|expires| expires.since(date(&self.date).unwrap_or(now)) / 1000)
        };
        let shared = self.seconds("s-maxage");
        let life = shared.or_else(|| self.seconds("max-age")).or_else(by_date).unwrap_or(0);
        let age = self.age.trim().parse::<u64>().unwrap_or(0);
        let fresh_ms = life.saturating_sub(age).saturating_mul(1000).min(MAX_FRESH_MS);
        CachePolicy {
            stored: !has("no-store") && !has("private"),
            fresh_ms: if has("no-cache") { 0 } else { fresh_ms },
            stale_if_error: !has("must-revalidate") && !has("proxy-revalidate") && shared.is_none(),
        }
    }
}

/// A document, and when its server last confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedDocument<T> {
    pub content: T,
    pub at: Timestamp,
}

struct CacheEntry<T> {
    found: CachedDocument<T>,
    policy: CachePolicy,
    etag: String,
    used_at: Timestamp,
}

impl<T> CacheEntry<T> {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.policy.stored && now.since(self.found.at) < self.policy.fresh_ms
    }

    fn serves_stale(&self, now: Timestamp) -> bool {
        let CachePolicy { stored, fresh_ms, stale_if_error } = self.policy;
        stored && stale_if_error && now.since(self.found.at) < fresh_ms.saturating_add(STALE_IF_ERROR_MS)
    }
}

/// The result of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    Use(CachedDocument<T>),
    /// The caller must fetch it, with `If-None-Match` if there is an ETag (RFC 9110 §13.1.2).
    Fetch {
        etag: Option<String>,
    },
    /// Another request is fetching it.
    Wait,
    /// Another request has just failed to fetch it.
    Unreachable,
}

/// Too many fetches. The value is the time in milliseconds until another is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimit(pub u64);

/// The cache of one isolate.
pub struct DocumentCache<T> {
    held: HashMap<String, CacheEntry<T>>,
    /// The end of the fetches in progress, by URL.
    fetching: HashMap<String, Timestamp>,
    /// The time of the last failure, by URL.
    away: HashMap<String, Timestamp>,
    /// Fetches in this window, by caller and host.
    counted: HashMap<String, u32>,
    window: Timestamp,
}

impl<T> Default for DocumentCache<T> {
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

impl<T: Clone> DocumentCache<T> {
    /// Looks a document up for a request that started at `began`. A document fetched since then may be used even if it
    /// is already stale.
    pub fn lookup(&mut self, url: &str, began: Timestamp, now: Timestamp) -> Lookup<T> {
        if let Some(held) = self.held.get_mut(url).filter(|held| held.is_fresh(now) || held.found.at > began) {
            held.used_at = now;
            return Lookup::Use(held.found.clone());
        }
        if self.fetching.get(url).is_some_and(|until| now < *until) {
            return Lookup::Wait;
        }
        if self.away.get(url).is_some_and(|at| *at > began) {
            return self.stale(url, now).map_or(Lookup::Unreachable, Lookup::Use);
        }
        let etag = self.held.get(url).filter(|held| held.policy.stored).map(|held| held.etag.clone());
        Lookup::Fetch { etag: etag.filter(|etag| !etag.is_empty()) }
    }

    fn stale(&self, url: &str, now: Timestamp) -> Option<CachedDocument<T>> {
        self.held.get(url).filter(|held| held.serves_stale(now)).map(|held| held.found.clone())
    }

    fn counts(&self, name: &str, most: u32) -> bool {
        self.counted.get(name).is_none_or(|count| *count < most)
    }

    /// Starts a fetch from `host` for `caller`, if the limits permit it.
    pub fn begin_fetch(&mut self, url: &str, caller: &str, host: &str, now: Timestamp) -> Result<(), FetchLimit> {
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
            return Err(FetchLimit(1_000));
        }
        if !counters.iter().all(|(name, most)| self.counts(name, *most)) {
            return Err(FetchLimit(WINDOW_MS.saturating_sub(now.since(self.window)).max(1_000)));
        }
        for (name, _) in counters {
            *self.counted.entry(name).or_default() += 1;
        }
        self.fetching.insert(url.into(), now.plus_ms(FETCHING_MS));
        Ok(())
    }

    /// Stores a fetched document.
    pub fn store(&mut self, url: &str, content: T, headers: &CachingHeaders, now: Timestamp) -> CachedDocument<T> {
        self.fetching.remove(url);
        self.away.remove(url);
        let found = CachedDocument { content, at: now };
        let held =
            CacheEntry { found: found.clone(), policy: headers.policy(now), etag: headers.etag.clone(), used_at: now };
        if self.held.len() >= MAX_ENTRIES && !self.held.contains_key(url) {
            let least = self.held.iter().min_by_key(|(_, held)| held.used_at).map(|(url, _)| url.clone());
            least.and_then(|url| self.held.remove(&url));
        }
        self.held.insert(url.into(), held);
        found
    }

    /// The server has confirmed the cached document (304).
    pub fn revalidated(&mut self, url: &str, headers: &CachingHeaders, now: Timestamp) -> Option<CachedDocument<T>> {
        self.fetching.remove(url);
        self.away.remove(url);
        let held = self.held.get_mut(url)?;
        held.found.at = now;
        held.used_at = now;
        // A response without these headers leaves the stored ones unchanged (RFC 9111 §3.2).
        if !headers.cache_control.is_empty() || !headers.expires.is_empty() {
            held.policy = headers.policy(now);
        }
        Some(held.found.clone())
    }

    /// The server is unreachable: returns the cached document, if it may be used.
    pub fn unreachable(&mut self, url: &str, now: Timestamp) -> Option<CachedDocument<T>> {
        self.fetching.remove(url);
        // Only waiting requests use this, and they do not wait longer.
        self.away.retain(|_, at| now.since(*at) < FETCHING_MS);
        self.away.insert(url.into(), now);
        self.stale(url, now)
    }

    /// The stale document, for a request that may not fetch it now.
    pub fn stale_copy(&self, url: &str, now: Timestamp) -> Option<CachedDocument<T>> {
        self.stale(url, now)
    }

    /// The document does not describe a client, or no longer does.
    pub fn remove(&mut self, url: &str) {
        self.fetching.remove(url);
        self.held.remove(url);
    }
}

#[cfg(test)]
mod tests;
