//! API keys in the registry, stored as digests of their secrets.

use serde_json::{Map, Value, json};

use crate::objects::events::messages::{Events, Revoke};
use crate::objects::lanes;
use crate::objects::protocol::call;
use crate::platform::{clock, log_event};
use narthex_core::access::audit::Actor;
use narthex_core::base::json::Fault;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::registry::size::Reach;

use super::Inner;
use super::audit::Change;
use super::messages::{Key, KeySecret, NewKey, Refusal, RotateKey, WriteRefusal};
use super::tables::KEY;
use super::writes::WriteError;

fn as_changes(members: &Value) -> Map<String, Value> {
    narthex_core::access::audit::changes(&Value::Null, members)
}

impl Inner {
    pub(super) fn create_key(&self, by: &Actor, new: NewKey) -> Result<Box<Key>, WriteError> {
        if self.tables.get::<Key>(KEY, &new.id)?.is_some() {
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
            created_at: clock::now(),
            expires_at: new.expires_at,
        };
        let changes = as_changes(&json!({
            "name": key.name, "role": key.role, "permissions": key.permissions, "expires_at": key.expires_at.text(),
        }));
        let event = json!({"id": key.id, "name": key.name, "role": key.role});
        let change = Change { by, action: "key.created", object: &object(&key.id), changes };
        self.write(&change, || {
            self.tables.put(KEY, &key.id, &key)?;
            self.queue_event(&key.id, RegistryEvent::KeyCreated, &event)
        })?;
        Ok(Box::new(key))
    }

    pub(super) fn rotate_key(&self, by: &Actor, request: RotateKey) -> Result<Box<Key>, WriteError> {
        let RotateKey { id, overlap_seconds, hash, last_four } = request;
        let mut key = self.tables.get::<Key>(KEY, &id)?.ok_or(WriteRefusal::Absent)?;
        let now = clock::now();
        let until = now.plus_ms(overlap_seconds * 1000);
        let changes = as_changes(&json!({"last_four": last_four, "overlap_seconds": overlap_seconds}));
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        for secret in &mut key.secrets {
            secret.until = Some(secret.until.map_or(until, |known| known.min(until)));
        }
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        key.secrets.push(KeySecret { hash, last_four, until: None });
        let change = Change { by, action: "key.rotated", object: &object(&id), changes };
        self.write_within(Reach::Reserve, &change, || self.tables.put(KEY, &id, &key))?;
        Ok(Box::new(key))
    }

    pub(super) async fn revoke_key(&self, by: &Actor, id: &str) -> Result<(), WriteError> {
        let key = self.tables.get::<Key>(KEY, id)?.ok_or(WriteRefusal::Absent)?;
        let known = json!({"name": key.name, "role": key.role, "permissions": key.permissions});
        let changes = narthex_core::access::audit::changes(&known, &Value::Null);
        let change = Change { by, action: "key.revoked", object: &object(id), changes };
        self.write(&change, || {
            self.tables.delete(KEY, id)?;
            self.tables.delete_last_use(id)?;
            self.tables.record_revoked(id, clock::now())?;
            self.queue_event(id, RegistryEvent::KeyRevoked, &json!({"id": id}))
        })?;
        self.close_sockets_of(id).await;
        Ok(())
    }

    pub(super) async fn close_sockets_of(&self, id: &str) {
        let principal = PrincipalId::of_key(id);
        let revoke = lanes::messages::Revoke { principal: principal.clone() };
        self.notify_lanes(&self.tenant(), &revoke).await;
        if let Err(error) = call(&Events::of(&self.tenant()), &Revoke { principal }).await {
            log_event!(SocketsNotClosed, tenant = &self.tenant(), object = object(id), detail = &error);
        }
    }
}

fn object(id: &str) -> String {
    format!("keys/{id}")
}
