//! Rotation of webhook secrets: the previous secret also signs until the overlap is over.

use serde_json::json;
use serde_json::value::to_raw_value;

use super::audit::Change;
use super::documents::with_unknown_members;
use super::messages::{DocumentKind, Refusal, StoredDocument, WriteRefusal, WrittenDocument};
use super::size::Reach;
use super::storage::Storage;
use super::writes::after;
use super::{Registry, Turn, WriteError};
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::order;
use crate::services::RetiringSecret;
use crate::webhooks::Webhook;

impl<S: Storage> Registry<S> {
    /// Replaces a webhook's secret.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn rotate_webhook_secret(
        &mut self,
        id: &str,
        overlap_seconds: u64,
        secret: EncryptedSecret,
        turn: &Turn<'_>,
    ) -> Result<WrittenDocument, WriteError> {
        let known: StoredDocument = self.known(DocumentKind::Webhook.as_str(), id)?.ok_or(WriteRefusal::Absent)?;
        let unreadable = |_| WriteRefusal::Refused(Refusal::Unreadable);
        let mut webhook: Webhook = serde_json::from_str(known.document.get()).map_err(unreadable)?;
        let now = turn.now;
        let to = json!(self.audit_fingerprint(&secret));
        let old = webhook.secret.replace(secret);
        let from = old.as_ref().map(|old| self.audit_fingerprint(old));
        let retiring = |secret| RetiringSecret { secret, until: now.plus_ms(overlap_seconds * 1000) };
        webhook.retiring = old.filter(|_| overlap_seconds > 0).map(retiring);
        let document = with_unknown_members(to_raw_value(&webhook)?, Some(&known));
        let updated_at = after(Some(known.updated_at), now);
        let stored = StoredDocument { document, version: known.version.next(), updated_at, ..known };
        let changes = [
            ("secret", json!({"from": from, "to": to})),
            ("overlap_seconds", json!({"from": null, "to": overlap_seconds})),
        ];
        let change = Change {
            by: turn.by,
            action: "webhook.secret_rotated",
            object: &format!("webhooks/{id}"),
            changes: order::insert_all(changes.map(|(name, value)| (name.to_string(), value))),
        };
        let kind = DocumentKind::Webhook.as_str();
        self.write_within(Reach::Reserve, &change, turn, |registry| registry.put(kind, id, &stored))?;
        Ok(WrittenDocument { stored: Box::new(stored), created: false })
    }
}
