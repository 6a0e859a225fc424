//! The audit log: a row for every change, written in the same transaction; rows never change and are deleted after the
//! retention. Repeated rejections of credentials are collected, so that they cannot flood the log.

use serde_json::{Map, Value, json};

use crate::platform::{Failure, clock, random};
use narthex_core::access::api_key;
use narthex_core::access::audit::{Actor, AuditEntry, AuditOutcome};
use narthex_core::access::repeat_suppressor::{RepeatKey, RepeatSuppressor};
use narthex_core::base::id::ulid;
use narthex_core::base::time::Timestamp;
use narthex_core::registry::size::Reach;

use super::Inner;
use super::messages::{Key, RejectedCredentials};
use super::tables::KEY;
use super::writes::WriteError;

const DAY_MS: u64 = 86_400_000;
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

impl Inner {
    /// Writes in one transaction, under the next revision, together with the audit entry.
    ///
    /// # Errors
    /// The platform fails, or the registry would exceed a limit.
    pub(super) fn write<T>(
        &self,
        change: &Change<'_>,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, WriteError> {
        self.write_within(Reach::Limit, change, work)
    }

    /// As [`Inner::write`], with the given limit.
    pub(super) fn write_within<T>(
        &self,
        reach: Reach,
        change: &Change<'_>,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, WriteError> {
        let next = self.revision.get().next();
        let before = self.tables.begin()?;
        let done = self.tables.transaction(|| {
            let done = work()?;
            let after = self.tables.used()?;
            after.check(&before, reach)?;
            self.warn(&after)?;
            self.tables.set_meta("revision", &next.to_string())?;
            self.add_audit_entry(change, AuditOutcome::Done)?;
            Ok::<T, WriteError>(done)
        })?;
        self.revision.set(next);
        Ok(done)
    }

    pub(super) fn add_audit_entry(&self, change: &Change<'_>, outcome: AuditOutcome) -> Result<(), Failure> {
        let Change { by, action, object, changes } = change;
        let at = clock::now();
        let id = format!("aud_{}", ulid(at, random::bytes()));
        let Actor { actor, name, request_id, address } = by;
        let actor = if actor.is_empty() { "gateway" } else { actor };
        let actor_name = name.as_deref();
        let entry = AuditEntry { id, at, actor, actor_name, action, object, request_id, address, outcome, changes };
        self.tables.add_audit(&entry)
    }

    /// Logs rejected credentials with the actual reason.
    pub(super) fn record_rejection(&self, by: &Actor, refused: &RejectedCredentials) -> Result<(), Failure> {
        let Some(reason) = self.reason(refused)? else { return Ok(()) };
        // Without an address, these are rejections that an isolate did not keep apart.
        let key = match by.address.as_str() {
            "" => RepeatKey::default(),
            address => [address.into(), object(refused), reason],
        };
        let repeated = self.rejections.borrow_mut().add(key, refused.count, clock::now());
        if let Some((key, count)) = repeated {
            self.log_rejection(&key, count, &by.request_id)?;
        }
        Ok(())
    }

    /// Logs collected rejections that are due.
    pub(super) fn log_due_rejections(&self) -> Result<(), Failure> {
        let due = self.rejections.borrow_mut().due(clock::now());
        due.iter().try_for_each(|(key, count)| self.log_rejection(key, *count, ""))
    }

    fn log_rejection(&self, [address, object, reason]: &RepeatKey, count: u64, request: &str) -> Result<(), Failure> {
        // Rejections beyond the limit are logged together, without address and object.
        let or = |text: &str, other: &str| if text.is_empty() { other.to_string() } else { text.to_string() };
        let by =
            Actor { actor: "unknown".into(), name: None, request_id: request.into(), address: or(address, "various") };
        let mut changes = Map::new();
        changes.insert("reason".into(), json!(or(reason, "various")));
        changes.insert("count".into(), json!(count));
        let change = Change { by: &by, action: "credentials.refused", object: &or(object, "credentials"), changes };
        self.add_audit_entry(&change, AuditOutcome::Refused)
    }

    /// Why these credentials are rejected; `None` if they are valid in the meantime.
    fn reason(&self, refused: &RejectedCredentials) -> Result<Option<String>, Failure> {
        let absent = |name: &str| Ok(Some(if self.tables.was_revoked(name)? { "revoked" } else { "unknown" }.into()));
        let Some(id) = &refused.key else {
            return match (&refused.client, &refused.reason) {
                (Some(_), None) => absent(&object(refused)),
                (_, reason) => Ok(Some(reason.clone().unwrap_or_else(|| "malformed".into()))),
            };
        };
        let Some(key) = self.tables.get::<Key>(KEY, id)? else {
            return absent(id);
        };
        let secret = key.secrets.iter().find(|secret| api_key::equal_secrets(&secret.hash, &refused.hash));
        let Some(secret) = secret else { return Ok(Some("wrong".into())) };
        let now = clock::now();
        let ended = key.expires_at <= now || secret.until.is_some_and(|until| until <= now);
        Ok(ended.then(|| "expired".into()))
    }

    /// Deletes some of the expired entries.
    pub(super) fn delete_old_audit(&self) -> Result<(), Failure> {
        self.tables.delete_old_audit(Timestamp(clock::now().0.saturating_sub(self.audit_retention_days * DAY_MS)))
    }
}
