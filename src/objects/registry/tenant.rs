//! A tenant's life cycle in its own registry: creation, change of retention, deletion.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::objects::contexts::client::call_store;
use crate::objects::contexts::messages::{Contexts, Retain};
use crate::objects::events::messages::{Events, Revocation, SetRetention};
use crate::objects::protocol::{Done, call};
use crate::platform::{Failure, log_event};
use narthex_core::access::audit::{Actor, changes};
use narthex_core::access::tenant::Retention;

use super::audit::Change;
use super::messages::{Key, NewKey};
use super::tables::{KEY, SERVICE};
use super::writes::WriteError;
use super::{Inner, as_value};

const RETENTION: &str = "retention";
const CLOSED: &str = "closed";

impl Inner {
    pub(super) fn retention(&self) -> Retention {
        let stored = self.tables.meta(RETENTION).ok().flatten();
        stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Whether the tenant was deleted, after which every write is rejected.
    pub(super) fn is_closed(&self) -> Result<bool, Failure> {
        Ok(self.tables.meta(CLOSED)?.is_some())
    }

    /// Sets the retention, and creates the tenant's first key if one is given.
    pub(super) async fn establish(
        &self,
        by: &Actor,
        retention: Retention,
        key: Option<NewKey>,
    ) -> Result<Option<Box<Key>>, WriteError> {
        if retention != self.retention() {
            let changes = changes(&as_value(&self.retention()), &as_value(&retention));
            let change = Change { by, action: "tenant.updated", object: "tenant", changes };
            self.write(&change, || self.tables.set_meta(RETENTION, &serde_json::to_string(&retention)?))?;
            self.push_retention(retention).await?;
        }
        key.map(|key| self.create_key(by, key)).transpose()
    }

    /// The write fails unless the hub learns the new retention now; a store that cannot be reached asks for it later.
    async fn push_retention(&self, retention: Retention) -> Result<(), Failure> {
        let tenant = self.tenant();
        let retain = Retain { days: retention.context_retention_days };
        let stores = self.tables.stores()?;
        let pushes = stores.iter().map(|store| {
            let (address, retain, tenant) = (Contexts::of(&tenant, *store), &retain, &tenant);
            async move {
                if let Err(failure) = call_store(&address, retain).await {
                    log_event!(RetentionNotPushed, tenant = tenant, store = *store, detail = &failure);
                }
            }
        });
        join_all(pushes).await;
        call(&Events::of(&tenant), &SetRetention { hours: retention.event_retention_hours }).await?;
        Ok(())
    }

    /// The services and keys that would be lost with the tenant.
    pub(super) fn holdings(&self) -> Result<Vec<String>, Failure> {
        let services = self.tables.services()?.into_iter().map(|service| format!("services/{}", service.service.id));
        let keys = self.tables.keys()?.into_iter().map(|key| format!("keys/{}", key.id));
        Ok(services.chain(keys).collect())
    }

    /// Deletes the tenant: its keys stop working, its services are removed, and the rest is deleted soon. Repeating the
    /// request completes an unfinished deletion.
    pub(super) async fn close(&self, by: &Actor) -> Result<Done, WriteError> {
        let (services, keys) = (self.tables.services()?, self.tables.keys()?);
        if !self.is_closed()? {
            let contents = json!({"services": services.len(), "keys": keys.len()});
            let changes = changes(&contents, &Value::Null);
            let change = Change { by, action: "tenant.deleted", object: "tenant", changes };
            self.write(&change, || {
                for kind in
                    [SERVICE, KEY].into_iter().chain(super::messages::DocumentKind::ALL.map(|kind| kind.as_str()))
                {
                    self.tables.delete_all(kind)?;
                }
                self.tables.set_meta(RETENTION, &serde_json::to_string(&Retention::ENDED)?)?;
                self.tables.set_meta(CLOSED, "true")
            })?;
            join_all(services.iter().map(|service| self.delete_lane(service))).await;
            self.notify_revocation(&[self.tenant()], Revocation::Tenant).await;
        }
        self.push_retention(Retention::ENDED).await?;
        Ok(Done::Done)
    }
}
