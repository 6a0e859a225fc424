//! Lists of a store's contexts, newest first, whose cost is bounded whatever they filter for.
//!
//! Ended contexts are many. Once they are a minute old, a thousand at a time are summarized ([`Summary`]): one row says
//! which statuses, services, capabilities, owners and error codes occur among them. A list reads only the segments that
//! may have what it filters for. A context that ends after its segment was summarized makes the summary outdated: the
//! segment is read by every list until it is summarized anew. So the rows of a segment are always covered: by a current
//! summary, or by one that is marked.
//!
//! A segment extends from the end of the one before, which makes every key belong to one.

use crate::base::canonical::short_digest;
use crate::base::id::{first_row_key, sort_key};
use crate::base::order;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::context::Head;
use crate::context::status::Status;
use crate::http::paging::{PagePart, fitting};

/// The ended contexts of a segment.
pub const SEGMENT_CONTEXTS: u64 = 1_000;
/// Contexts are summarized when they were created this long ago, in milliseconds: most have ended.
const MIN_AGE_MS: u64 = 60_000;
/// Segments summarized in one sweep: each takes about 3 ms.
const MAX_SUMMARIZED: u64 = 30;
/// Segments that one list reads; then it returns what it has found, and where it ended.
pub const MAX_READ: u64 = 20;
/// The characters of a digest in a summary: 24 bits. Two equal ones cost the reading of a segment.
const DIGEST_LENGTH: usize = 6;
const SEPARATOR: char = '|';

/// What the contexts of a list have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Any text: it may be no principal.
    pub owner: Option<String>,
    pub status: Option<Status>,
    pub service: Option<String>,
    pub capability: Option<String>,
    pub error_code: Option<String>,
}

/// Row keys after the first, up to and including the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub after: u64,
    pub last: u64,
}

/// What a summary says of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summarized {
    pub status: String,
    pub service: String,
    pub capability: String,
    pub owner: String,
    pub error_code: Option<String>,
}

/// The values that occur among the contexts of a segment: for each property a text with the digests of its values,
/// between separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub statuses: String,
    pub services: String,
    pub capabilities: String,
    pub owners: String,
    pub error_codes: String,
}

/// The parts that the texts of a summary must contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub status: Option<String>,
    pub service: Option<String>,
    pub capability: Option<String>,
    pub owner: Option<String>,
    pub error_code: Option<String>,
}

/// A row key, and the bytes of its head.
pub type SizedKey = (u64, u64);

/// The tables that lists read. Keys come newest first.
pub trait ListStorage {
    /// Contexts that have not ended.
    fn live_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError>;
    fn ended_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError>;
    /// The sort keys and heads of contexts, in any order. Those that this version cannot read are left out.
    fn heads(&self, keys: &[u64]) -> Result<Vec<(String, Head)>, StorageError>;

    /// The last key of the last segment.
    fn last_summarized(&self) -> Result<Option<u64>, StorageError>;
    /// Segments that have some of these keys and may have what is wanted.
    fn segments(&self, keys: Keys, wanted: &Wanted, most: u64) -> Result<Vec<Keys>, StorageError>;
    /// The key of the nth ended context after `after` and before `before`.
    fn nth_ended(&self, after: u64, before: u64, n: u64) -> Result<Option<u64>, StorageError>;
    /// What summaries say of the ended contexts with these keys, without repetitions.
    fn summarized(&self, keys: Keys) -> Result<Vec<Summarized>, StorageError>;
    /// Adds or replaces the segment that ends with this key. It is not outdated any longer.
    fn put_segment(&self, last: u64, summary: &Summary) -> Result<(), StorageError>;
    /// Segments that have got contexts since they were summarized.
    fn outdated(&self, most: u64) -> Result<Vec<Keys>, StorageError>;
}

/// The part of a text that stands for a value.
fn part(value: &str) -> String {
    format!("{SEPARATOR}{}{SEPARATOR}", short_digest(value, DIGEST_LENGTH))
}

fn text_of<'v>(values: impl Iterator<Item = &'v str>) -> String {
    let mut values: Vec<&str> = values.collect();
    order::sort_by(&mut values, |a, b| a.cmp(b));
    values.dedup();
    values.into_iter().map(part).collect()
}

impl Summary {
    pub fn of(contexts: &[Summarized]) -> Self {
        Self {
            statuses: text_of(contexts.iter().map(|one| one.status.as_str())),
            services: text_of(contexts.iter().map(|one| one.service.as_str())),
            capabilities: text_of(contexts.iter().map(|one| one.capability.as_str())),
            owners: text_of(contexts.iter().map(|one| one.owner.as_str())),
            error_codes: text_of(contexts.iter().filter_map(|one| one.error_code.as_deref())),
        }
    }
}

impl From<&Filters> for Wanted {
    fn from(filters: &Filters) -> Self {
        let Filters { owner, status, service, capability, error_code } = filters;
        Self {
            status: status.map(|status| part(status.as_str())),
            service: service.as_deref().map(part),
            capability: capability.as_deref().map(part),
            owner: owner.as_deref().map(part),
            error_code: error_code.as_deref().map(part),
        }
    }
}

/// What a search has found.
struct Found {
    keys: Vec<SizedKey>,
    /// It ended before this key: the ones below were not looked at.
    stopped_at: Option<u64>,
}

/// Ended contexts, at most `most`.
fn ended(
    storage: &impl ListStorage,
    keys: Keys,
    filters: &Filters,
    (most, max_read): (u64, u64),
) -> Result<Found, StorageError> {
    let summarized = storage.last_summarized()?.unwrap_or(0);
    let recent = Keys { after: keys.after.max(summarized), ..keys };
    let mut found = match recent.after < recent.last {
        true => storage.ended_keys(recent, filters, most)?,
        false => Vec::new(),
    };
    let room = |found: &Vec<SizedKey>| most.saturating_sub(found.len() as u64);
    let older = Keys { last: keys.last.min(summarized), ..keys };
    if room(&found) == 0 || older.after >= older.last {
        return Ok(Found { keys: found, stopped_at: None });
    }
    let segments = storage.segments(older, &Wanted::from(filters), max_read)?;
    for Keys { after, last } in &segments {
        let part = Keys { after: (*after).max(older.after), last: (*last).min(older.last) };
        found.extend(storage.ended_keys(part, filters, room(&found))?);
        if room(&found) == 0 {
            return Ok(Found { keys: found, stopped_at: None });
        }
    }
    let is_end = (segments.len() as u64) < max_read;
    let stopped_at = segments.last().filter(|_| !is_end).map(|segment| segment.after);
    Ok(Found { keys: found, stopped_at: stopped_at.filter(|key| *key > keys.after) })
}

/// How much a list may be and read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub contexts: u64,
    pub bytes: u64,
    pub segments: u64,
}

/// The newest of these contexts.
///
/// # Errors
/// The storage cannot be read.
pub fn list(
    storage: &impl ListStorage,
    keys: Keys,
    filters: &Filters,
    bounds: Bounds,
) -> Result<PagePart<Head>, StorageError> {
    let Bounds { contexts: most, bytes: max_bytes, segments } = bounds;
    let Found { keys: mut found, stopped_at } = ended(storage, keys, filters, (most, segments))?;
    found.extend(storage.live_keys(keys, filters, most)?);
    if let Some(stopped_at) = stopped_at {
        found.retain(|(key, _)| *key > stopped_at);
    }
    order::sort_by(&mut found, |(a, _), (b, _)| b.cmp(a));
    found.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let is_full = found.len() as u64 == most;
    let fits = fitting(&found.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), max_bytes);
    let is_cut = fits < found.len();
    found.truncate(fits);
    let keys: Vec<u64> = found.into_iter().map(|(key, _)| key).collect();
    let last = keys.last().copied().filter(|_| is_full || is_cut);
    let complete_to = last.or_else(|| stopped_at.map(|key| key + 1));
    let mut items = if keys.is_empty() { Vec::new() } else { storage.heads(&keys)? };
    order::sort_by(&mut items, |(a, _), (b, _)| b.cmp(a));
    Ok(PagePart { items, complete_to: complete_to.map(sort_key) })
}

/// Summarizes ended contexts that are old enough, and segments that are outdated. What is left is left to the next
/// sweep.
///
/// # Errors
/// The storage fails. The next sweep tries again.
pub fn summarize(storage: &impl ListStorage, now: Timestamp, segment: u64) -> Result<(), StorageError> {
    // Half of them at most, so that late contexts never keep later ones from being summarized.
    let outdated = storage.outdated(MAX_SUMMARIZED / 2)?;
    for keys in &outdated {
        storage.put_segment(keys.last, &Summary::of(&storage.summarized(*keys)?))?;
    }
    let before = first_row_key(Timestamp(now.0.saturating_sub(MIN_AGE_MS)));
    let mut after = storage.last_summarized()?.unwrap_or(0);
    for _ in outdated.len() as u64..MAX_SUMMARIZED {
        let Some(last) = storage.nth_ended(after, before, segment)? else { break };
        storage.put_segment(last, &Summary::of(&storage.summarized(Keys { after, last })?))?;
        after = last;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
