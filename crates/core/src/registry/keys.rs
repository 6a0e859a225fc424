//! API keys in the registry, stored as digests of their secrets.

use serde_json::{Map, Value, json};

use super::audit::Change;
use super::later::Needs;
use super::messages::{Key, KeySecret, NewKey, Refusal, RotateKey, WriteRefusal};
use super::notifications::Notification;
use super::records::KEY;
use super::size::Reach;
use super::storage::{self, Storage};
use super::{Registry, Turn, WriteError};
use crate::access::audit::changes;
use crate::base::json::Fault;
use crate::base::principal_id::PrincipalId;
use crate::base::storage_error::StorageError;
use crate::events::bundle::RegistryEvent;

fn as_changes(members: &Value) -> Map<String, Value> {
    changes(&Value::Null, members)
}

impl<S: Storage> Registry<S> {
    pub(super) fn key(&self, id: &str) -> Result<Option<Key>, StorageError> {
        storage::get(&self.storage, KEY, id)
    }

    /// Creates a key.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn create_key(&mut self, new: NewKey, turn: &Turn<'_>) -> Result<Box<Key>, WriteError> {
        if self.storage.size(KEY, &new.id)?.is_some() {
            return Err(WriteRefusal::Refused(Refusal::Conflict).into());
        }
        if !self.has_role(&new.role)? {
            let fault = Fault::new("#/role", "must be an existing role");
            return Err(WriteRefusal::Faults(vec![fault]).into());
        }
        let key = Key {
            id: new.id,
            name: new.name,
            role: new.role,
            permissions: new.permissions,
            secrets: vec![KeySecret { hash: new.hash, last_four: new.last_four, until: None }],
            created_by: new.created_by,
            created_at: turn.now,
            expires_at: new.expires_at,
            needs: Needs,
        };
        let changes = as_changes(&json!({
            "name": key.name, "role": key.role, "permissions": key.permissions, "expires_at": key.expires_at.text(),
        }));
        let event = json!({"id": key.id, "name": key.name, "role": key.role});
        let change = Change { by: turn.by, action: "key.created", object: &object(&key.id), changes };
        self.write(&change, turn, |registry| {
            registry.put(KEY, &key.id, &key)?;
            registry.queue_event(&key.id, RegistryEvent::KeyCreated, &event, turn.now)
        })?;
        Ok(Box::new(key))
    }

    /// Gives a key another secret. The previous ones work until the overlap is over.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn rotate_key(&mut self, request: RotateKey, turn: &Turn<'_>) -> Result<Box<Key>, WriteError> {
        let RotateKey { id, overlap_seconds, hash, last_four } = request;
        let mut key = self.known::<Key>(KEY, &id)?.ok_or(WriteRefusal::Absent)?;
        let now = turn.now;
        let until = now.plus_ms(overlap_seconds * 1000);
        let changes = as_changes(&json!({"last_four": last_four, "overlap_seconds": overlap_seconds}));
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        for secret in &mut key.secrets {
            secret.until = Some(secret.until.map_or(until, |known| known.min(until)));
        }
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        key.secrets.push(KeySecret { hash, last_four, until: None });
        let change = Change { by: turn.by, action: "key.rotated", object: &object(&id), changes };
        self.write_within(Reach::Reserve, &change, turn, |registry| registry.put(KEY, &id, &key))?;
        Ok(Box::new(key))
    }

    /// Deletes a key, and closes the sockets that were opened with it.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn revoke_key(&mut self, id: &str, turn: &Turn<'_>) -> Result<(), WriteError> {
        let text = self.storage.text(KEY, id)?.ok_or(WriteRefusal::Absent)?;
        let view = |key: Key| json!({"name": key.name, "role": key.role, "permissions": key.permissions});
        // A key that this version cannot read is revoked all the same.
        let changes = changes(&serde_json::from_str(&text).map_or(Value::Null, view), &Value::Null);
        let change = Change { by: turn.by, action: "key.revoked", object: &object(id), changes };
        self.write(&change, turn, |registry| {
            registry.remove(KEY, id)?;
            registry.storage.delete_last_use(id)?;
            registry.storage.record_revoked(id, turn.now)?;
            registry.notify_holders(|at| Notification::RevokePrincipal { principal: PrincipalId::of_key(id), at })?;
            registry.queue_event(id, RegistryEvent::KeyRevoked, &json!({"id": id}), turn.now)
        })
    }
}

fn object(id: &str) -> String {
    format!("keys/{id}")
}
