//! The audit log: a row for every change, written in the same transaction; rows never change and are deleted after the
//! retention. Repeated rejections of credentials are collected, so that they cannot flood the log.

use serde_json::{Map, Value, json};

use super::messages::RejectedCredentials;
use super::storage::Storage;
use super::{Registry, Turn};
use crate::access::api_key;
use crate::access::audit::{Actor, AuditEntry, AuditOutcome};
use crate::access::repeat_suppressor::{RepeatKey, RepeatSuppressor};
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;

/// The same rejection is logged again after this, in milliseconds.
const REPEAT_AFTER_MS: u64 = 600_000;
/// Different rejections logged in that time; further ones share one entry.
const MAX_REJECTIONS: usize = 32;

pub(super) fn rejections() -> RepeatSuppressor {
    RepeatSuppressor::new(REPEAT_AFTER_MS, MAX_REJECTIONS)
}

/// A write, as the audit log describes it.
pub(super) struct Change<'a> {
    pub by: &'a Actor,
    pub action: &'a str,
    pub object: &'a str,
    pub changes: Map<String, Value>,
}

/// The object of a rejection, as a path below `/v1`; empty if the credentials name none.
fn object(refused: &RejectedCredentials) -> String {
    match (&refused.key, &refused.client) {
        (Some(key), _) => format!("keys/{key}"),
        (None, Some(client)) => format!("clients/{client}"),
        (None, None) => String::new(),
    }
}

impl<S: Storage> Registry<S> {
    pub(super) fn add_audit_entry(
        &self,
        change: &Change<'_>,
        turn: &Turn<'_>,
        outcome: AuditOutcome,
    ) -> Result<(), StorageError> {
        let Change { by, action, object, changes } = change;
        let Actor { actor, name, request_id, address } = by;
        let actor = if actor.is_empty() { "gateway" } else { actor };
        let (id, at, actor_name) = (turn.entry_id(), turn.now, name.as_deref());
        let entry = AuditEntry { id, at, actor, actor_name, action, object, request_id, address, outcome, changes };
        self.storage.add_audit(&entry)
    }

    /// Logs rejected credentials with the actual reason.
    ///
    /// # Errors
    /// The storage fails.
    pub fn record_rejection(&mut self, refused: &RejectedCredentials, turn: &Turn<'_>) -> Result<(), StorageError> {
        let Some(reason) = self.reason(refused, turn.now)? else { return Ok(()) };
        // Without an address, these are rejections that an isolate did not keep apart.
        let key = match turn.by.address.as_str() {
            "" => RepeatKey::default(),
            address => [address.into(), object(refused), reason],
        };
        match self.rejections.add(key, refused.count, turn.now) {
            Some((key, count)) => self.log_rejection(&key, count, &turn.by.request_id, turn),
            None => Ok(()),
        }
    }

    /// Logs collected rejections that are due.
    pub(super) fn log_due_rejections(&mut self, turn: &Turn<'_>) -> Result<(), StorageError> {
        let due = self.rejections.due(turn.now);
        due.iter().try_for_each(|(key, count)| self.log_rejection(key, *count, "", turn))
    }

    fn log_rejection(
        &self,
        [address, object, reason]: &RepeatKey,
        count: u64,
        request: &str,
        turn: &Turn<'_>,
    ) -> Result<(), StorageError> {
        // Rejections beyond the limit are logged together, without address and object.
        let or = |text: &str, other: &str| if text.is_empty() { other.to_string() } else { text.to_string() };
        let by =
            Actor { actor: "unknown".into(), name: None, request_id: request.into(), address: or(address, "various") };
        let mut changes = Map::new();
        changes.insert("reason".into(), json!(or(reason, "various")));
        changes.insert("count".into(), json!(count));
        let change = Change { by: &by, action: "credentials.refused", object: &or(object, "credentials"), changes };
        self.add_audit_entry(&change, turn, AuditOutcome::Refused)
    }

    /// Why these credentials are rejected; `None` if they are valid in the meantime.
    fn reason(&self, refused: &RejectedCredentials, now: Timestamp) -> Result<Option<String>, StorageError> {
        let absent = |name: &str| Ok(Some(if self.storage.was_revoked(name)? { "revoked" } else { "unknown" }.into()));
        let Some(id) = &refused.key else {
            return match (&refused.client, &refused.reason) {
                (Some(_), None) => absent(&object(refused)),
                (_, reason) => Ok(Some(reason.clone().unwrap_or_else(|| "malformed".into()))),
            };
        };
        let Some(key) = self.key(id)? else {
            return absent(id);
        };
        let secret = key.secrets.iter().find(|secret| api_key::equal_secrets(&secret.hash, &refused.hash));
        let Some(secret) = secret else { return Ok(Some("wrong".into())) };
        let ended = key.expires_at <= now || secret.until.is_some_and(|until| until <= now);
        Ok(ended.then(|| "expired".into()))
    }

    /// Deletes some of the expired entries.
    pub(super) fn delete_old_audit(&self, now: Timestamp) -> Result<(), StorageError> {
        self.storage.delete_old_audit(Timestamp(now.0.saturating_sub(self.config.audit_retention_ms)))
    }
}
