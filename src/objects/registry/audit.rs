//! The audit log: a row for every change, written with it; rows are never changed and go when they are old.

use serde_json::{Map, Value};

use crate::core::audit::{By, Entry, Outcome};
use crate::core::id::ulid;
use crate::platform::{Failure, clock, random};

use super::Inner;

/// What is said of a write.
pub(super) struct Change<'a> {
    pub by: &'a By,
    pub action: &'a str,
    pub object: &'a str,
    pub changes: Map<String, Value>,
}

impl Inner {
    /// Writes as a whole, under the next revision, with what the audit log says of it.
    pub(super) fn write<T>(
        &self,
        change: &Change<'_>,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let next = self.revision.get() + 1;
        let done = self.tables.transaction(|| {
            let done = work()?;
            self.tables.set_meta("revision", &next.to_string())?;
            self.note(change, Outcome::Done)?;
            Ok(done)
        })?;
        self.revision.set(next);
        Ok(done)
    }

    pub(super) fn note(&self, change: &Change<'_>, outcome: Outcome) -> Result<(), Failure> {
        let Change { by, action, object, changes } = change;
        let at = clock::now();
        let id = format!("aud_{}", ulid(at, random::bytes()));
        let By { actor, request_id, address } = by;
        let entry = Entry { id, at, actor, action, object, request_id, address, outcome, changes };
        self.tables.add_audit(&entry)
    }
}
