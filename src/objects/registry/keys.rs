//! A tenant's API keys: made, rotated, revoked.

use serde_json::json;

use crate::core::event::RegistryEvent;
use crate::objects::events;
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, clock, log};

use super::messages::{Key, KeySecret, NewKey, Refusal, Reply};
use super::tables::KEY;
use super::{Inner, PUSH_PATIENCE_MS};

impl Inner {
    pub(super) fn create_key(&self, new: NewKey) -> Result<Reply, Failure> {
        if self.tables.get::<Key>(KEY, &new.id)?.is_some() {
            return Ok(Reply::Refused(Refusal::Conflict));
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
        self.keep_key(&key, Some(RegistryEvent::KeyCreated))?;
        Ok(Reply::Key(Box::new(key)))
    }

    pub(super) fn rotate_key(
        &self,
        id: &str,
        overlap_seconds: u64,
        hash: String,
        last_four: String,
    ) -> Result<Reply, Failure> {
        let Some(mut key) = self.tables.get::<Key>(KEY, id)? else {
            return Ok(Reply::Absent);
        };
        let now = clock::now();
        let until = now.plus_ms(overlap_seconds * 1000);
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        for secret in &mut key.secrets {
            secret.until = Some(secret.until.map_or(until, |known| known.min(until)));
        }
        key.secrets.retain(|secret| secret.until.is_none_or(|until| until > now));
        key.secrets.push(KeySecret { hash, last_four, until: None });
        self.keep_key(&key, None)?;
        Ok(Reply::Key(Box::new(key)))
    }

    fn keep_key(&self, key: &Key, event: Option<RegistryEvent>) -> Result<(), Failure> {
        let data = json!({"id": key.id, "name": key.name, "role": key.role});
        self.write(|| {
            self.tables.put(KEY, &key.id, key)?;
            event.map_or(Ok(()), |kind| self.queue_event(&key.id, kind, &data))
        })
    }

    pub(super) async fn revoke_key(&self, id: &str) -> Result<Reply, Failure> {
        if self.tables.get::<Key>(KEY, id)?.is_none() {
            return Ok(Reply::Absent);
        }
        self.write(|| {
            self.tables.delete(KEY, id)?;
            self.queue_event(id, RegistryEvent::KeyRevoked, &json!({"id": id}))
        })?;
        let revoke = events::messages::Ask::Revoke { principal: format!("key:{id}") };
        let told: Result<events::messages::Reply, _> =
            objects::send(Kind::Events, &self.tenant(), "", &revoke, PUSH_PATIENCE_MS).await;
        if let Err(failure) = told {
            log(&format!(r#"{{"level":"warn","message":"sockets not closed","key":{id:?},"detail":{:?}}}"#, failure.0));
        }
        Ok(Reply::Done)
    }
}
