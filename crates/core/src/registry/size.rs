//! How much a tenant's registry may hold. Its index, which is everything but the documents of services, is sent to
//! every isolate in one message, which the platform limits; so each document is limited, and the sum of each share.
//!
//! A write that does not grow its share is always accepted, however full the share is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::records::SERVICE;

/// The largest stored document, in bytes. A row of the platform's database holds 2 MB.
pub const MAX_DOCUMENT_BYTES: u64 = 1_536 * 1024;
/// All documents written by the tenant's users, in bytes.
pub const MAX_BYTES: u64 = 128 * 1024 * 1024;
/// What each isolate keeps of them, in bytes: outlines of services, and all other documents.
pub const MAX_INDEX_BYTES: u64 = 12 * 1024 * 1024;
/// How far changes of secrets and the gateway's own notes may exceed these two limits, in bytes: a full registry must
/// not keep a leaked secret alive.
pub const RESERVE_BYTES: u64 = 256 * 1024;
/// All self-registered clients, in bytes: they never take room that users need.
pub const MAX_REGISTRATION_BYTES: u64 = 1_536 * 1024;
/// All revocations of tokens that have not expired yet, in bytes.
pub const MAX_REVOCATION_BYTES: u64 = 1_536 * 1024;
/// When users are warned, in percent of [`MAX_BYTES`] or [`MAX_INDEX_BYTES`].
const WARNING_PERCENT: u64 = 80;

/// A message up to this size, in bytes of UTF-8, is within the platform's limit in any encoding: a string with a
/// character beyond Latin-1 takes two bytes per character.
pub const SAFE_BYTES: u64 = 16_000_000;
/// A larger message is sent in Latin-1 only, one byte per character, and has at most this many: 32 MiB less what
/// surrounds the documents.
pub const MAX_SENT: u64 = 31 * 1024 * 1024;

/// The overhead of a document in a message: a comma, and the observed state of a service.
const AROUND: u64 = 16;
const AROUND_SERVICE: u64 = 320;

/// Whose share a document counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    Documents,
    /// The part of the documents that each isolate keeps.
    Index,
    Registrations,
    Revocations,
}

impl Share {
    /// The limit of this share, in bytes.
    pub fn limit(self) -> u64 {
        match self {
            Share::Documents => MAX_BYTES,
            Share::Index => MAX_INDEX_BYTES,
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

/// The documents of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct KindSize {
    pub count: u64,
    pub bytes: u64,
}

/// What is stored, by kind of document. `registrations` are not included in the clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredSizes {
    kinds: BTreeMap<String, KindSize>,
    registrations: KindSize,
    outlines: KindSize,
    /// The size of a document that grew beyond [`MAX_DOCUMENT_BYTES`] in the current write.
    grown: Option<u64>,
}

/// A write that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLarge {
    Document { bytes: u64 },
    Share { share: Share, used: u64, needed: u64 },
}

/// The size of a stored document of `bytes`, with its overhead.
pub fn weight(kind: &str, bytes: u64) -> u64 {
    bytes + if kind == SERVICE { AROUND_SERVICE } else { AROUND }
}

impl StoredSizes {
    /// Adds stored documents of a kind: `bytes` without their overhead.
    pub fn add(&mut self, kind: &str, registered_itself: bool, count: u64, bytes: u64) {
        let held = self.held_mut(kind, registered_itself);
        held.count += count;
        held.bytes += bytes + count * weight(kind, 0);
    }

    /// Adds stored outlines: `bytes` without their overhead.
    pub fn add_outlines(&mut self, count: u64, bytes: u64) {
        self.outlines.count += count;
        self.outlines.bytes += bytes + count * weight(SERVICE, 0);
    }

    /// Records a write of an outline, as [`StoredSizes::change`] does.
    pub fn change_outline(&mut self, before: Option<u64>, after: Option<u64>) {
        if let Some(before) = before {
            self.outlines.count = self.outlines.count.saturating_sub(1);
            self.outlines.bytes = self.outlines.bytes.saturating_sub(weight(SERVICE, before));
        }
        if let Some(after) = after {
            self.add_outlines(1, after);
        }
    }

    /// Records a write of a document: its size before, if it existed, and after, unless it is deleted.
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

    fn held_mut(&mut self, kind: &str, registered_itself: bool) -> &mut KindSize {
        if registered_itself { &mut self.registrations } else { self.kinds.entry(kind.into()).or_default() }
    }

    /// Before a write: forgets a document that grew in an earlier one.
    pub fn begin(&mut self) {
        self.grown = None;
    }

    /// All kinds of documents, with their size.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, KindSize)> {
        self.kinds.iter().filter(|(_, held)| held.count > 0).map(|(kind, held)| (kind.as_str(), *held))
    }

    /// The size of the self-registered clients.
    pub fn registrations(&self) -> KindSize {
        self.registrations
    }

    /// The size of a share.
    pub fn of(&self, share: Share) -> u64 {
        let is_revocation = |kind: &str| kind == "revocation";
        match share {
            Share::Registrations => self.registrations.bytes,
            Share::Revocations => {
                self.kinds().filter(|(kind, _)| is_revocation(kind)).map(|(_, held)| held.bytes).sum()
            }
            Share::Documents => self.kinds().filter(|(kind, _)| !is_revocation(kind)).map(|(_, held)| held.bytes).sum(),
            Share::Index => self.of(Share::Documents) - self.service_bytes() + self.outlines.bytes,
        }
    }

    /// The size of everything.
    pub fn total(&self) -> u64 {
        [Share::Documents, Share::Registrations, Share::Revocations].into_iter().map(|share| self.of(share)).sum()
    }

    /// The size of the services' documents.
    pub fn service_bytes(&self) -> u64 {
        self.kinds.get(SERVICE).map_or(0, |held| held.bytes)
    }

    /// The size of a whole index.
    pub fn index_total(&self) -> u64 {
        [Share::Index, Share::Registrations, Share::Revocations].into_iter().map(|share| self.of(share)).sum()
    }

    /// Whether users should be warned that little room is left in a share.
    pub fn is_filling(&self, share: Share) -> bool {
        self.of(share) * 100 >= share.limit() * WARNING_PERCENT
    }

    /// Whether a write that began at `before` may end at `self`.
    ///
    /// # Errors
    /// It grows a document or a share beyond its limit.
    pub fn check(&self, before: &StoredSizes, reach: Reach) -> Result<(), TooLarge> {
        if let Some(bytes) = self.grown {
            return Err(TooLarge::Document { bytes });
        }
        for share in [Share::Documents, Share::Index, Share::Registrations, Share::Revocations] {
            let (used, needed) = (before.of(share), self.of(share));
            let limit = match (share, reach) {
                (Share::Documents | Share::Index, Reach::Reserve) => share.limit() + RESERVE_BYTES,
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
                "The document would take {bytes} bytes in storage; the maximum is {MAX_DOCUMENT_BYTES}. Shorten it."
            ),
            TooLarge::Share { share: Share::Revocations, used, needed } => write!(
                f,
                "Revocations take {used} of {MAX_REVOCATION_BYTES} bytes; this one needs {needed} more. Revocations \
                 of expired tokens are deleted within minutes."
            ),
            TooLarge::Share { share: Share::Index, used, needed } => write!(
                f,
                "The index of this tenant's registry takes {used} of {MAX_INDEX_BYTES} bytes; this write needs \
                 {needed} more. Delete or shorten what is not needed; the schemas and descriptions of services do not \
                 count."
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

/// The size of a text in a message with Latin-1 only: other characters are escaped as `\uXXXX`.
pub fn cost(text: &str) -> u64 {
    text.chars().map(|c| if (c as u32) < 0x100 { 1 } else { 6 * c.len_utf16() as u64 }).sum()
}

/// A large text in the form that takes the fewest bytes in a message.
pub fn sent(json: &str) -> Cow<'_, str> {
    let wide = 2 * json.chars().map(|c| c.len_utf16() as u64).sum::<u64>();
    if cost(json) < wide { narrowed(json) } else { json.into() }
}

/// The same JSON with Latin-1 only. Other characters occur only in strings, where an escape is equivalent (RFC 8259
/// §7).
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
