//! Dynamic client registration: registered clients share a limited space, and are deleted when unused.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::platform::{Failure, clock, log_event, settings};
use narthex_core::access::audit::{Actor, AuditOutcome, changes};
use narthex_core::access::oauth::client::SELF_REGISTERED;
use narthex_core::access::oauth::registrations::{Lifetimes, MAX_REGISTRATIONS, displaced};
use narthex_core::base::order;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::VersionNumber;
use narthex_core::http::client_address::source;
use narthex_core::registry::size::{MAX_REGISTRATION_BYTES, weight};

use super::Inner;
use super::audit::Change;
use super::documents::object;
use super::messages::{Condition, DocumentKind, Refusal, RegisterReply, StoredDocument, WriteRefusal, WrittenDocument};
use super::writes::WriteError;

/// Registrations deleted per sweep at most: for each one that was used, all tenants may have to be notified.
const AT_ONCE: usize = 10;

impl Inner {
    /// Adds a client that registers itself. Unused registrations are deleted to make room.
    pub(super) fn register(&self, by: &Actor, id: &str, document: Box<RawValue>) -> Result<RegisterReply, WriteError> {
        let kind = DocumentKind::Client.as_str();
        if self.tables.get::<StoredDocument>(kind, id)?.is_some() {
            return Err(WriteRefusal::Refused(Refusal::Conflict).into());
        }
        let now = clock::now();
        let stored = StoredDocument {
            kind: DocumentKind::Client,
            id: id.into(),
            document,
            version: VersionNumber::FIRST,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            source: Some(self.short_fingerprint(&source(&by.address))),
        };
        let bytes = weight(kind, serde_json::to_string(&stored)?.len() as u64);
        let registrations = self.tables.registrations()?;
        let Some(displaced_ids) = displaced(&registrations, bytes, MAX_REGISTRATIONS, MAX_REGISTRATION_BYTES) else {
            return Ok(RegisterReply::AllInUse);
        };
        let change = Change {
            by,
            action: "client.created",
            object: &object(DocumentKind::Client, id),
            changes: changes(&Value::Null, &self.document_audit_view(DocumentKind::Client, Some(&stored.document))),
        };
        self.write(&change, || {
            displaced_ids.iter().try_for_each(|id| self.delete_unused(id, now))?;
            self.tables.put(kind, id, &stored)
        })?;
        Ok(RegisterReply::Client(WrittenDocument { stored: Box::new(stored), created: true }))
    }

    /// Deletes a registration that never received a token, so that nothing depends on it.
    fn delete_unused(&self, id: &str, now: Timestamp) -> Result<(), Failure> {
        let (kind, name) = (DocumentKind::Client.as_str(), object(DocumentKind::Client, id));
        self.tables.delete(kind, id)?;
        self.tables.record_revoked(&name, now)?;
        let changes = order::insert_all([("reason".to_string(), Value::from("unused"))]);
        self.add_audit_entry(
            &Change { by: &Actor::default(), action: "client.deleted", object: &name, changes },
            AuditOutcome::Done,
        )
    }

    /// Deletes unused registrations and closes what depends on them.
    pub(super) async fn end_registrations(&self) -> Result<(), Failure> {
        if !self.tenant().is_first() {
            return Ok(());
        }
        let settings = settings::current();
        let terms = Lifetimes { unused_ms: settings.registration_unused_ms, idle_ms: settings.registration_idle_ms };
        let now = clock::now();
        let ended = self
            .tables
            .registrations()?
            .into_iter()
            .filter(|registration| registration.has_ended(terms, now))
            .take(AT_ONCE);
        let mut any = false;
        for registration in ended.filter(|registration| registration.id.starts_with(SELF_REGISTERED)) {
            let deleted = self
                .delete_and_revoke(&Actor::default(), DocumentKind::Client, &registration.id, &Condition::Exists)
                .await;
            match deleted {
                Ok(()) => any = true,
                Err(WriteError::Failure(failure)) => return Err(failure),
                // It was deleted in the meantime.
                Err(WriteError::Refused(WriteRefusal::Absent)) => {}
                // Not expected: no document depends on a client, and a deletion exceeds no limit.
                Err(WriteError::Refused(refusal)) => {
                    let detail = format!("{}: {refusal:?}", object(DocumentKind::Client, &registration.id));
                    log_event!(RegistrationsNotDeleted, tenant = &self.tenant(), detail = &detail);
                }
            }
        }
        if any {
            self.push().await;
        }
        Ok(())
    }
}
