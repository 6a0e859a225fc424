//! How much a tenant's registry may hold. All of it travels to every isolate in one message, which the platform bounds,
//! so the registry is bounded too: each document, and the sum of each share.
//!
//! A write that does not grow its share is always taken, whatever the share holds already.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The largest document as it is stored, in bytes. A row of the platform's database takes 2 MB.
pub const MAX_DOCUMENT_BYTES: u64 = 1_536 * 1024;
/// All documents that the tenant's people write, in bytes.
pub const MAX_BYTES: u64 = 12 * 1024 * 1024;
/// What changes of secrets and notes of the gateway's own may take beyond that: a full registry must not keep a leaked
/// secret alive.
pub const RESERVE_BYTES: u64 = 256 * 1024;
/// All clients that registered themselves: they never take room that people need.
pub const MAX_REGISTRATION_BYTES: u64 = 1_536 * 1024;
/// All revocations of tokens that have not expired yet.
pub const MAX_REVOCATION_BYTES: u64 = 1_536 * 1024;
/// From here on people are warned, in percent of [`MAX_BYTES`].
const WARNING_PERCENT: u64 = 80;

/// A message up to this size, in bytes of UTF-8, is within the platform's bound however it is encoded there: a text
/// with any character beyond Latin-1 takes two bytes for each character.
pub const SAFE_BYTES: u64 = 16_000_000;
/// A larger message has only Latin-1 characters, one byte each, and at most so many of them: 32 MiB, less what is
/// around the documents.
pub const MAX_SENT: u64 = 31 * 1024 * 1024;

/// What a document costs in a message beside its own text: a comma, and what is measured of a service.
const AROUND: u64 = 16;
const AROUND_SERVICE: u64 = 320;

/// Whose room a document takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    Documents,
    Registrations,
    Revocations,
}

impl Share {
    pub fn limit(self) -> u64 {
        match self {
            Share::Documents => MAX_BYTES,
            Share::Registrations => MAX_REGISTRATION_BYTES,
            Share::Revocations => MAX_REVOCATION_BYTES,
        }
    }
}

/// How far a write may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Limit,
    /// Into the reserve.
    Reserve,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub count: u64,
    pub bytes: u64,
}

/// What is stored, by kind of document. `registrations` are not among the clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    kinds: BTreeMap<String, Held>,
    registrations: Held,
    /// A document that grew beyond [`MAX_DOCUMENT_BYTES`] with the write that is being decided about.
    grown: Option<u64>,
}

/// A write that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLarge {
    Document { bytes: u64 },
    Share { share: Share, used: u64, needed: u64 },
}

/// What a stored document of `bytes` takes.
pub fn weight(kind: &str, bytes: u64) -> u64 {
    bytes + if kind == "service" { AROUND_SERVICE } else { AROUND }
}

impl Used {
    /// Takes in what is stored of a kind: `bytes` without what is around each document.
    pub fn add(&mut self, kind: &str, registered_itself: bool, count: u64, bytes: u64) {
        let held = self.held_mut(kind, registered_itself);
        held.count += count;
        held.bytes += bytes + count * weight(kind, 0);
    }

    /// A document is written: its size before, where there was one, and now, where it stays.
    pub fn change(&mut self, kind: &str, registered_itself: bool, before: Option<u64>, after: Option<u64>) {
        let held = self.held_mut(kind, registered_itself);
        if let Some(before) = before {
            held.count = held.count.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(weight(kind, before));
        }
        if let Some(after) = after {
            held.count += 1;
            held.bytes += weight(kind, after);
            if after > MAX_DOCUMENT_BYTES && before.is_none_or(|before| after > before) {
                self.grown = self.grown.max(Some(after));
            }
        }
    }

    fn held_mut(&mut self, kind: &str, registered_itself: bool) -> &mut Held {
        if registered_itself { &mut self.registrations } else { self.kinds.entry(kind.into()).or_default() }
    }

    /// Before a write: what was said of earlier ones is forgotten.
    pub fn begin(&mut self) {
        self.grown = None;
    }

    /// All kinds of documents there are, with what they take.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Held)> {
        self.kinds.iter().filter(|(_, held)| held.count > 0).map(|(kind, held)| (kind.as_str(), *held))
    }

    pub fn registrations(&self) -> Held {
        self.registrations
    }

    pub fn of(&self, share: Share) -> u64 {
        let is_revocation = |kind: &str| kind == "revocation";
        match share {
            Share::Registrations => self.registrations.bytes,
            Share::Revocations => {
                self.kinds().filter(|(kind, _)| is_revocation(kind)).map(|(_, held)| held.bytes).sum()
            }
            Share::Documents => self.kinds().filter(|(kind, _)| !is_revocation(kind)).map(|(_, held)| held.bytes).sum(),
        }
    }

    pub fn total(&self) -> u64 {
        [Share::Documents, Share::Registrations, Share::Revocations].into_iter().map(|share| self.of(share)).sum()
    }

    /// Whether people should be warned that there is little room left.
    pub fn is_filling(&self) -> bool {
        self.of(Share::Documents) * 100 >= MAX_BYTES * WARNING_PERCENT
    }

    /// Whether a write may leave what `self` says, where it began with `before`.
    ///
    /// # Errors
    /// It grows a document or a share beyond its bound.
    pub fn check(&self, before: &Used, reach: Reach) -> Result<(), TooLarge> {
        if let Some(bytes) = self.grown {
            return Err(TooLarge::Document { bytes });
        }
        for share in [Share::Documents, Share::Registrations, Share::Revocations] {
            let (used, needed) = (before.of(share), self.of(share));
            let limit = match (share, reach) {
                (Share::Documents, Reach::Reserve) => share.limit() + RESERVE_BYTES,
                _ => share.limit(),
            };
            if needed > used && needed > limit {
                return Err(TooLarge::Share { share, used, needed: needed - used });
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooLarge::Document { bytes } => write!(
                f,
                "The document would take {bytes} bytes as it is stored; one may take {MAX_DOCUMENT_BYTES}. Shorten it."
            ),
            TooLarge::Share { share: Share::Revocations, used, needed } => write!(
                f,
                "Revocations take {used} of {MAX_REVOCATION_BYTES} bytes; this one needs {needed} more. Those of \
                 tokens that have expired are deleted within minutes."
            ),
            TooLarge::Share { share, used, needed } => {
                let limit = share.limit();
                write!(
                    f,
                    "The registry of this tenant takes {used} of {limit} bytes; this write needs {needed} more. Delete \
                     or shorten what is not needed: GET /v1/registry names the largest documents."
                )
            }
        }
    }
}

/// What a text costs in a message with only Latin-1 characters: others are written as `\uXXXX`.
pub fn cost(text: &str) -> u64 {
    text.chars().map(|c| if (c as u32) < 0x100 { 1 } else { 6 * c.len_utf16() as u64 }).sum()
}

/// A large text in the form that takes the fewest bytes in a message.
pub fn sent(json: &str) -> Cow<'_, str> {
    let wide = 2 * json.chars().map(|c| c.len_utf16() as u64).sum::<u64>();
    if cost(json) < wide { narrowed(json) } else { json.into() }
}

/// The same JSON with only Latin-1 characters. Others stand only in strings, where an escape means the same
/// (RFC 8259 §7).
fn narrowed(json: &str) -> Cow<'_, str> {
    use std::fmt::Write;
    if json.chars().all(|c| (c as u32) < 0x100) {
        return json.into();
    }
    let mut narrow = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if (c as u32) < 0x100 {
            narrow.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            // Writing to a string does not fail.
            let _ = write!(narrow, "\\u{unit:04x}");
        }
    }
    narrow.into()
}

#[cfg(test)]
mod tests;
