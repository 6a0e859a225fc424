//! Versions of documents that a decision depends on.

use narthex_core::access::issuer::DocumentVersion;

use super::messages::{DocumentKind, StoredDocument};
use super::snapshot::Snapshot;

impl Snapshot {
    /// The default version stands for a document that does not exist.
    pub fn written(&self, kind: DocumentKind, id: &str) -> DocumentVersion {
        self.documents(kind).find(|stored| stored.id == id).map(StoredDocument::written).unwrap_or_default()
    }
}
