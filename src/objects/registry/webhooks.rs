//! Rotation of webhook secrets: the previous secret also signs until the overlap is over.

use serde_json::json;
use serde_json::value::to_raw_value;

use crate::platform::clock;
use narthex_core::access::audit::Actor;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::base::order;
use narthex_core::registry::size::Reach;
use narthex_core::services::RetiringSecret;
use narthex_core::webhooks::Webhook;

use super::Inner;
use super::audit::Change;
use super::messages::{DocumentKind, StoredDocument, WriteRefusal, WrittenDocument};
use super::writes::WriteError;

impl Inner {
    pub(super) fn rotate_webhook_secret(
        &self,
        by: &Actor,
        id: &str,
        overlap_seconds: u64,
        secret: EncryptedSecret,
    ) -> Result<WrittenDocument, WriteError> {
        let kind = DocumentKind::Webhook.as_str();
        let known = self.tables.get::<StoredDocument>(kind, id)?.ok_or(WriteRefusal::Absent)?;
        let mut webhook: Webhook = serde_json::from_str(known.document.get())?;
        let now = clock::now();
        let to = json!(self.audit_fingerprint(&secret));
        let old = webhook.secret.replace(secret);
        let from = old.as_ref().map(|old| self.audit_fingerprint(old));
        let retiring = |secret| RetiringSecret { secret, until: now.plus_ms(overlap_seconds * 1000) };
        webhook.retiring = old.filter(|_| overlap_seconds > 0).map(retiring);
        let document = to_raw_value(&webhook)?;
        let stored = StoredDocument { document, version: known.version.next(), updated_at: now, ..known };
        let changes = [
            ("secret", json!({"from": from, "to": to})),
            ("overlap_seconds", json!({"from": null, "to": overlap_seconds})),
        ];
        let change = Change {
            by,
            action: "webhook.secret_rotated",
            object: &format!("webhooks/{id}"),
            changes: order::insert_all(changes.map(|(name, value)| (name.to_string(), value))),
        };
        self.write_within(Reach::Reserve, &change, || self.tables.put(kind, id, &stored))?;
        Ok(WrittenDocument { stored: Box::new(stored), created: false })
    }
}
