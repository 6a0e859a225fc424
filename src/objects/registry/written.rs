//! Which writing of a document somebody decides with.

use narthex_core::access::issuer::DocumentVersion;

use super::messages::{Kept, Kind};
use super::snapshot::Snapshot;

impl Kept {
    pub fn written(&self) -> DocumentVersion {
        DocumentVersion { created_at: self.created_at, generation: self.generation() }
    }
}

impl Snapshot {
    /// Nothing was written of what is not there.
    pub fn written(&self, kind: Kind, id: &str) -> DocumentVersion {
        self.kept(kind).find(|kept| kept.id == id).map(Kept::written).unwrap_or_default()
    }
}
