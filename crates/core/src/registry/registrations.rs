//! Dynamic client registration: registered clients share a limited space, and are deleted when unused.

use serde_json::Value;

use super::audit::Change;
use super::documents::object;
use super::later::Needs;
use super::messages::{
    Condition, DocumentKind, Refusal, RegisterClient, RegisterReply, StoredDocument, WriteRefusal, WrittenDocument,
};
use super::size::{MAX_REGISTRATION_BYTES, weight};
use super::storage::{Storage, stored};
use super::{LogEntry, Registry, Turn, WriteError};
use crate::access::audit::{Actor, AuditOutcome, changes};
use crate::access::oauth::client::SELF_REGISTERED;
use crate::access::oauth::registrations::{MAX_REGISTRATIONS, displaced};
use crate::base::order;
use crate::base::storage_error::StorageError;
use crate::base::version::VersionNumber;
use crate::http::client_address::source;

/// Registrations deleted per sweep at most: for each one that was used, all tenants may have to be notified.
const AT_ONCE: usize = 10;

impl<S: Storage> Registry<S> {
    /// Adds a client that registers itself. Unused registrations are deleted to make room.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn register(&mut self, request: RegisterClient, turn: &Turn<'_>) -> Result<RegisterReply, WriteError> {
        let RegisterClient { id, document } = request;
        let kind = DocumentKind::Client;
        if self.document(kind, &id)?.is_some() {
            return Err(WriteRefusal::Refused(Refusal::Conflict).into());
        }
        let client = StoredDocument {
            kind,
            id,
            document,
            version: VersionNumber::FIRST,
            created_at: turn.now,
            updated_at: turn.now,
            deleted_at: None,
            source: Some(self.short_fingerprint(&source(&turn.by.address))),
            needs: Needs,
        };
        let bytes = weight(kind.as_str(), stored(&client)?.len() as u64);
        let registrations = self.storage.registrations()?;
        let Some(displaced_ids) = displaced(&registrations, bytes, MAX_REGISTRATIONS, MAX_REGISTRATION_BYTES) else {
            return Ok(RegisterReply::AllInUse);
        };
        let change = Change {
            by: turn.by,
            action: "client.created",
            object: &object(kind, &client.id),
            changes: changes(&Value::Null, &self.document_audit_view(kind, Some(&client.document))),
        };
        self.write(&change, turn, |registry| {
            displaced_ids.iter().try_for_each(|id| registry.delete_unused(id, turn))?;
            registry.put(kind.as_str(), &client.id, &client)
        })?;
        Ok(RegisterReply::Client(WrittenDocument { stored: Box::new(client), created: true }))
    }

    /// Deletes a registration that never received a token, so that nothing depends on it.
    fn delete_unused(&mut self, id: &str, turn: &Turn<'_>) -> Result<(), StorageError> {
        let name = object(DocumentKind::Client, id);
        self.remove(DocumentKind::Client.as_str(), id)?;
        self.storage.record_revoked(&name, turn.now)?;
        let changes = order::insert_all([("reason".to_string(), Value::from("unused"))]);
        let change = Change { by: &Actor::default(), action: "client.deleted", object: &name, changes };
        self.add_audit_entry(&change, turn, AuditOutcome::Done)
    }

    /// Deletes unused registrations and revokes what depends on them. The next sweep does what fails now.
    pub(super) fn end_registrations(&mut self, turn: &Turn<'_>) {
        if let Err(error) = self.try_to_end_registrations(turn) {
            let reason = match error {
                WriteError::Failed(error) => error.to_string(),
                // Not expected: no document depends on a client, and a deletion exceeds no limit.
                WriteError::Refused(refusal) => format!("{refusal:?}"),
            };
            self.effects.logs.push(LogEntry::RegistrationsNotDeleted { reason });
        }
    }

    fn try_to_end_registrations(&mut self, turn: &Turn<'_>) -> Result<(), WriteError> {
        if !self.tenant().is_first() {
            return Ok(());
        }
        let terms = self.config.registrations;
        let registrations = self.storage.registrations()?.into_iter();
        let ended = registrations.filter(|registration| registration.has_ended(terms, turn.now)).take(AT_ONCE);
        for registration in ended.filter(|registration| registration.id.starts_with(SELF_REGISTERED)) {
            self.delete_kind(DocumentKind::Client, &registration.id, &Condition::Exists, turn)?;
        }
        Ok(())
    }
}
