//! The size of the registry's documents, and how an oversized registry recovers: documents that do not fit are left out
//! of the snapshot, and all documents can be read page by page.

use std::collections::HashSet;

use serde_json::json;
use serde_json::value::RawValue;

use super::later;
use super::messages::{DocumentKind, DocumentPage, DocumentSize, Documents, IndexData, RegistrySize, SnapshotData};
use super::records::{KEY, SERVICE};
use super::size::{MAX_SENT, Share, StoredSizes, cost, weight};
use super::storage::{DocumentKey, Storage};
use super::writes::registered_itself;
use super::{LogEntry, Registry};
use crate::base::order;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::events::bundle::RegistryEvent;

/// Set while the tenant has been warned that a share is nearly full.
const WARNED: [(Share, &str); 2] = [(Share::Documents, "size_warned"), (Share::Index, "index_warned")];
/// Documents listed as the largest.
const MAX_LARGEST: u64 = 20;
/// Documents listed as left out.
const MAX_LEFT_OUT: usize = 1_000;
/// The size of a page, in bytes: a larger document is a page by itself.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;
const PAGE_DOCUMENTS: u64 = 2_000;
/// Documents whose sizes are read at a time.
const AT_ONCE: u64 = 5_000;

/// The order in which documents go into a snapshot that cannot hold all: first those that deny access, then those that
/// identify callers, then those that serve requests; clients that registered themselves come last, and the unused ones
/// of them at the very end.
fn rank(kind: &str, id: &str, used: impl FnOnce() -> bool) -> u8 {
    if registered_itself(kind, id) {
        return if used() { 20 } else { 21 };
    }
    let order = [
        DocumentKind::Revocation.as_str(),
        DocumentKind::Limit.as_str(),
        DocumentKind::Role.as_str(),
        DocumentKind::Issuer.as_str(),
        DocumentKind::Tenant.as_str(),
        KEY,
        DocumentKind::Client.as_str(),
        DocumentKind::Webhook.as_str(),
        DocumentKind::Schedule.as_str(),
        DocumentKind::ModelRoute.as_str(),
        SERVICE,
    ];
    // A kind that only a later version knows may deny access.
    order.iter().position(|known| *known == kind).map_or(1, |at| at as u8)
}

/// Adds a stored document to a page.
fn add(page: &mut DocumentPage, kind: &str, text: &str) -> Result<(), StorageError> {
    let of_kind = match kind {
        SERVICE => &mut page.services,
        KEY => &mut page.keys,
        _ => &mut page.documents,
    };
    of_kind.push(RawValue::from_string(text.into())?);
    Ok(())
}

impl<S: Storage> Registry<S> {
    /// Warns once when the registry or its index is nearly full, and again only after there was room in between.
    pub(super) fn warn(&mut self, after: &StoredSizes, now: Timestamp) -> Result<(), StorageError> {
        for (share, name) in WARNED {
            let (filling, warned) = (after.is_filling(share), self.storage.meta(name)?.as_deref() == Some("1"));
            if filling == warned {
                continue;
            }
            self.storage.set_meta(name, if filling { "1" } else { "0" })?;
            if filling {
                let (bytes, limit) = (after.of(share), share.limit());
                self.uncommitted.logs.push(LogEntry::NearlyFull { bytes, limit });
                let data = json!({"bytes": bytes, "limit_bytes": limit});
                self.queue_event("registry", RegistryEvent::RegistryFilling, &data, now)?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// The storage cannot be read.
    pub fn size(&mut self) -> Result<RegistrySize, StorageError> {
        let sizes = self.sizes()?;
        let kinds = sizes.kinds().map(|(kind, size)| (kind.to_string(), size)).collect();
        let largest = self.storage.largest(MAX_LARGEST)?.into_iter();
        let largest = largest.map(|((kind, id), bytes)| DocumentSize { kind, id, bytes }).collect();
        let (bytes, index_bytes) = (sizes.of(Share::Documents), sizes.of(Share::Index));
        Ok(RegistrySize { kinds, registrations: sizes.registrations(), bytes, index_bytes, largest })
    }

    /// A page of all documents, ordered by kind and id.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn documents(&self, after: &DocumentKey) -> Result<Documents, StorageError> {
        let sizes = self.storage.sizes(after, PAGE_DOCUMENTS)?;
        let (mut page, mut bytes, mut next) = (DocumentPage::default(), 0, None);
        let mut more = sizes.len() as u64 == PAGE_DOCUMENTS;
        for ((kind, id), size) in sizes {
            if bytes > 0 && bytes + size > PAGE_BYTES {
                more = true;
                break;
            }
            bytes += size;
            if let Some(text) = self.storage.text(&kind, &id)? {
                add(&mut page, &kind, &text)?;
            }
            next = Some((kind, id));
        }
        Ok(Documents::Documents { page: Box::new(page), next: next.filter(|_| more) })
    }

    /// Selects the documents of a snapshot when not all fit into one message.
    pub(super) fn fit_snapshot(&mut self, data: &mut SnapshotData) -> Result<(), StorageError> {
        let mut page = DocumentPage::default();
        let storage = self.storage.clone();
        let text = |kind: &str, id: &str| storage.text(kind, id);
        data.left_out = self.fit(text, |kind, text| add(&mut page, kind, text))?;
        (data.services, data.keys) = (later::parsed(page.services).0, later::parsed(page.keys).0);
        data.documents = later::parsed(page.documents).0;
        Ok(())
    }

    /// As [`Registry::fit_snapshot`], for an index.
    pub(super) fn fit_index(&mut self, data: &mut IndexData) -> Result<(), StorageError> {
        let (mut page, mut outlines) = (DocumentPage::default(), Vec::new());
        let storage = self.storage.clone();
        let text = |kind: &str, id: &str| match kind {
            SERVICE => Ok(storage.outline(id)?.map(|(_, outline)| outline)),
            _ => storage.text(kind, id),
        };
        data.left_out = self.fit(text, |kind, text| match kind {
            SERVICE => {
                outlines.push(RawValue::from_string(text.into())?);
                Ok(())
            }
            _ => add(&mut page, kind, text),
        })?;
        (data.outlines, data.keys, data.documents) = (outlines, page.keys, page.documents);
        Ok(())
    }

    /// Adds all documents that fit into one message, and returns the others. `text` reads the form that is sent.
    fn fit(
        &mut self,
        text: impl Fn(&str, &str) -> Result<Option<String>, StorageError>,
        mut add: impl FnMut(&str, &str) -> Result<(), StorageError>,
    ) -> Result<Vec<DocumentSize>, StorageError> {
        let (mut room, mut left_out) = (MAX_SENT, Vec::new());
        for (_, kind, id, bytes) in self.by_rank()? {
            let Some(text) = text(&kind, &id)? else { continue };
            let needed = weight(&kind, cost(&text));
            if needed <= room {
                room -= needed;
                add(&kind, &text)?;
            } else {
                left_out.push(DocumentSize { kind, id, bytes });
            }
        }
        if !left_out.is_empty() && std::mem::replace(&mut self.logged_left_out, self.revision) != self.revision {
            let first = left_out.iter().take(5).map(|document| format!("{}s/{}", document.kind, document.id));
            self.effects.logs.push(LogEntry::DocumentsLeftOut { count: left_out.len(), first: first.collect() });
        }
        left_out.truncate(MAX_LEFT_OUT);
        Ok(left_out)
    }

    /// All documents in the order in which they go into a snapshot: rank, kind, id, bytes.
    fn by_rank(&self) -> Result<Vec<(u8, String, String, u64)>, StorageError> {
        let used: HashSet<String> = self.storage.last_used()?.into_iter().map(|(name, _)| name).collect();
        let mut ordered = Vec::new();
        let mut after = DocumentKey::default();
        loop {
            let sizes = self.storage.sizes(&after, AT_ONCE)?;
            let Some((last, _)) = sizes.last() else { break };
            after = last.clone();
            ordered.extend(sizes.into_iter().map(|((kind, id), bytes)| {
                let rank = rank(&kind, &id, || used.contains(&format!("clients/{id}")));
                (rank, kind, id, bytes)
            }));
        }
        order::sort_by(&mut ordered, Ord::cmp);
        Ok(ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn documents_that_deny_access_are_never_left_out_for_documents_that_serve_requests() {
        let of = |kind: &str, id: &str| rank(kind, id, || id == "dyn-used");
        let order = [
            of("revocation", "a"),
            of("limit", "a"),
            of("role", "a"),
            of("issuer", "a"),
            of("tenant", "a"),
            of("key", "a"),
            of("client", "a"),
            of("webhook", "a"),
            of("schedule", "a"),
            of("service", "a"),
            of("client", "dyn-used"),
            of("client", "dyn-unused"),
        ];
        assert!(order.is_sorted_by(|document, next| document < next), "{order:?}");
        assert_eq!(of("budget", "a"), of("limit", "a"));
    }
}
