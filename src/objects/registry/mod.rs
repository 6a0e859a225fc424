//! `Registry`: the configuration of one tenant, under one revision.
//!
//! A write increments the revision and is stored and pushed to every store before it is answered, so that every later
//! admission, anywhere, is decided with it. A store that could not be reached asks by itself within 30 s, which bounds
//! the effect of a lost push. Invariant: a revision identifies one state of all tables.

mod audit;
mod capacity;
mod catalogues;
mod compiled_schemas;
mod documents;
mod encryption;
mod keys;
pub mod messages;
mod observed;
mod publish;
mod records;
mod registrations;
mod revocation;
mod services;
pub mod snapshot;
mod tables;
mod tenant;
mod versions;
mod webhooks;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::future::join;
use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::access::repeat_suppressor::RepeatSuppressor;
use narthex_core::base::exact_json::with_texts;
use narthex_core::base::id::StoreId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::VersionNumber;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::size::SAFE_BYTES;

use capacity::WriteError;
use encryption::OwnSecret;
pub use encryption::document_secret_data;
use messages::{Ask, Condition, Refusal, Reply, SnapshotData};
pub use observed::target;
use tables::Tables;


struct Inner {
    tables: Tables,
    revision: Cell<Revision>,
    /// Incremented by every change of an observed status; starts at the current time, so that it also grows across
    /// restarts.
    soft: Cell<u64>,
    own_secret: RefCell<Option<OwnSecret>>,
    tenant: RefCell<Option<TenantId>>,
    publishing: Cell<bool>,
    rejections: RefCell<RepeatSuppressor>,
    audit_retention_days: u64,
    /// When expired revocations were last deleted.
    revocations_deleted_at: Cell<Timestamp>,
    /// The last revision whose incomplete snapshot was logged.
    logged_left_out: Cell<Revision>,
}

#[wasm_bindgen]
pub struct Registry(Rc<Inner>);

#[wasm_bindgen]
impl Registry {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<Registry, JsValue> {
        let inner = Inner::open(state, env).map_err(|failure| js_sys::Error::new(&failure.0))?;
        Ok(Self(Rc::new(inner)))
    }

    /// `message` is a [`messages::Message`].
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let ask: messages::Message = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let inner = self.0.clone();
        if matches!(ask.ask, Ask::Snapshot { .. }) && inner.own_secret.borrow().is_some() {
            return reply(inner.snapshot(&ask));
        }
        Ok(tasks::promise(async move { reply(inner.answer(ask).await) }))
    }

    pub fn alarm(&self) -> JsValue {
        let inner = self.0.clone();
        tasks::promise(async move {
            inner.publish_events().await;
            inner.continue_revocations().await;
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Inner {
    fn open(state: &JsValue, env: &JsValue) -> Result<Self, Failure> {
        let tables = Tables::open(state)?;
        let revision = tables.meta("revision")?.as_deref().and_then(Revision::parse).unwrap_or_default();
        let tenant = RefCell::new(tables.meta("tenant")?.map(TenantId::from_stored));
        let soft = Cell::new(clock::now().0);
        Ok(Self {
            tables,
            revision: Cell::new(revision),
            soft,
            own_secret: RefCell::default(),
            tenant,
            publishing: Cell::new(false),
            rejections: RefCell::new(audit::rejections()),
            audit_retention_days: settings::of(env).audit_retention_days,
            revocations_deleted_at: Cell::default(),
            logged_left_out: Cell::default(),
        })
    }

    fn snapshot(&self, message: &messages::Message) -> Result<Reply, Failure> {
        let revision = self.revision.get();
        let stores = self.tables.stores()?;
        let soft = self.soft.get();
        let own_secret = self.own_secret.borrow().as_ref().map(|own| own.encrypted.clone());
        let own_secret = own_secret.ok_or_else(|| Failure("the tenant's secret is not decrypted yet".into()))?;
        if let Ask::Snapshot { known: Some(known), stores: count, soft: knows } = message.ask
            && known == revision
            && count == stores.len()
        {
            return Ok(match knows {
                Some(known) if known != soft => Reply::Measured { soft, measured: self.tables.all_measured()? },
                _ => Reply::Unchanged,
            });
        }
        let mut data = SnapshotData {
            revision,
            services: Vec::new(),
            keys: Vec::new(),
            documents: Vec::new(),
            stores,
            cursor_secret: own_secret,
            soft,
            measured: self.tables.all_measured()?,
            left_out: Vec::new(),
        };
        if self.tables.used()?.total() <= SAFE_BYTES {
            data.services = self.tables.services()?;
            data.keys = self.tables.keys()?;
            data.documents = self.tables.documents()?;
        } else {
            self.fit(&mut data)?;
        }
        Ok(Reply::Snapshot(Box::new(data)))
    }

    async fn answer(self: &Rc<Self>, message: messages::Message) -> Result<Reply, Failure> {
        self.remember_tenant(&message.tenant)?;
        self.load_own_secret().await?;
        match message.ask {
            Ask::Snapshot { .. } => self.snapshot(&message),
            Ask::Hello { store } => self.hello(store),
            Ask::Sweep => {
                self.sweep_lanes().await;
                self.log_due_rejections()?;
                self.delete_old_audit()?;
                if let Err(failure) = self.encrypt_again().await {
                    log_event!(SecretsNotEncryptedAgain, tenant = &self.tenant(), detail = &failure);
                }
                if let Err(failure) = self.end_registrations().await {
                    log_event!(RegistrationsNotDeleted, tenant = &self.tenant(), detail = &failure);
                }
                self.publish_events().await;
                self.continue_revocations().await;
                Ok(Reply::Done)
            }
            Ask::Measured { service, measured, reason } => {
                let reply = self.measure(&service, measured, reason)?;
                let inner = self.clone();
                tasks::spawn(async move { inner.publish_events().await });
                Ok(reply)
            }
            Ask::Audit(query) => self.audit(&query),
            Ask::Refused(refused) => self.record_rejection(&message.by, &refused),
            Ask::Used { key, at } => {
                self.tables.record_key_use(&key, at)?;
                Ok(Reply::Done)
            }
            Ask::UsedClient { client, at } => {
                self.tables.record_client_use(&client, at)?;
                Ok(Reply::Done)
            }
            Ask::LastUsed => Ok(Reply::LastUsed(self.tables.last_used()?)),
            Ask::Room => self.room(),
            Ask::Documents { after } => self.documents(&after),
            Ask::Holdings => self.holdings(),
            ask => self.change(&message.by, ask).await,
        }
    }

    /// A write, known everywhere once it is answered.
    async fn change(self: &Rc<Self>, by: &Actor, ask: Ask) -> Result<Reply, Failure> {
        let reply = match self.apply_write(by, ask).await {
            Ok(reply) => reply,
            Err(WriteError::TooLarge(too_large)) => Reply::TooLarge(too_large),
            Err(WriteError::Failure(failure)) => return Err(failure),
        };
        if matches!(reply, Reply::Service { .. } | Reply::Key(_) | Reply::Document { .. } | Reply::Done) {
            join(self.push(), self.push_lane(&reply)).await;
            let inner = self.clone();
            tasks::spawn(async move { inner.publish_events().await });
        }
        Ok(reply)
    }

    async fn apply_write(&self, by: &Actor, ask: Ask) -> Result<Reply, WriteError> {
        Ok(match ask {
            Ask::Close => self.close(by).await?,
            _ if self.is_closed()? => return Ok(Reply::Absent),
            Ask::Establish { retention, key } => self.establish(by, retention, key).await?,
            Ask::PutService { id, document, condition, rules } => {
                let fresh = self.encrypt_fresh(&id, &document).await?;
                self.put_service(by, &id, &document, fresh, &condition, &rules)?
            }
            Ask::PatchService { id, patch, condition, rules } => {
                let fresh = self.encrypt_fresh(&id, &patch).await?;
                self.patch_service(by, &id, &patch, fresh, &condition, &rules)?
            }
            Ask::RotateSecret { id, overlap_seconds, signing_secret } => {
                let fresh = self.encrypt_signing(&id, signing_secret).await?;
                self.rotate_secret(by, &id, overlap_seconds, fresh)?
            }
            Ask::RenewTools { id, url, read } => self.renew_tools(by, &id, &url, read.map(|tools| *tools))?,
            Ask::AcceptTools { id, names } => self.accept_tools(by, &id, names.as_deref())?,
            Ask::DeleteService { id, condition } => self.delete_service(by, &id, &condition).await?,
            Ask::Put { kind, id, document, condition } => {
                let document = self.encrypt_document(kind, &id, document).await?;
                self.put_and_revoke(by, kind, &id, document, &condition).await?
            }
            Ask::RotateWebhookSecret { id, overlap_seconds, secret } => {
                let secret = self.encrypt_webhook(&id, &secret).await?;
                self.rotate_webhook_secret(by, &id, overlap_seconds, secret)?
            }
            Ask::Register { id, document } => self.register(by, &id, document)?,
            Ask::Delete { kind, id, condition } => self.delete_and_revoke(by, kind, &id, &condition).await?,
            Ask::CreateKey(key) => self.create_key(by, key)?,
            Ask::RotateKey { id, overlap_seconds, hash, last_four } => {
                self.rotate_key(by, &id, overlap_seconds, hash, last_four)?
            }
            Ask::RevokeKey { id } => self.revoke_key(by, &id).await?,
            // The others write nothing.
            _ => Reply::Absent,
        })
    }

    fn remember_tenant(&self, tenant: &TenantId) -> Result<(), Failure> {
        if self.tenant.borrow().is_none() {
            self.tables.set_meta("tenant", tenant.as_str())?;
            *self.tenant.borrow_mut() = Some(tenant.clone());
        }
        Ok(())
    }

    /// Every message names it, and every other use follows a message.
    fn tenant(&self) -> TenantId {
        self.tenant.borrow().clone().unwrap_or_else(|| TenantId::from_stored(""))
    }

    fn hello(&self, store: StoreId) -> Result<Reply, Failure> {
        if !self.tables.stores()?.contains(&store) {
            // The location of contexts affects no decision, so the revision stays.
            self.tables.add_store(store)?;
        }
        Ok(Reply::Revision {
            revision: self.revision.get(),
            context_retention_days: self.retention().context_retention_days,
        })
    }

    /// After a service was written, configures its lane if it has one.
    async fn push_lane(&self, reply: &Reply) {
        if let Reply::Service { service, has_lane: true, .. } = reply {
            self.configure_lane(service).await;
        }
    }
}

/// Goes through text, so that numbers outside the range of serde_json's values become text.
fn as_value(value: &impl serde::Serialize) -> serde_json::Value {
    let text = serde_json::to_string(value).unwrap_or_default();
    serde_json::from_str(&with_texts(&text)).unwrap_or_default()
}

/// Whether a write's precondition fails (RFC 9110 §13.2). `version` is that of the existing document.
fn failed_precondition(version: Option<VersionNumber>, condition: &Condition) -> Option<Refusal> {
    match (version, condition) {
        (Some(_), Condition::None) => Some(Refusal::PreconditionRequired),
        (Some(_), Condition::Absent) => Some(Refusal::PreconditionFailed),
        (Some(version), Condition::Versions(list)) if !list.contains(&version) => Some(Refusal::PreconditionFailed),
        (None, Condition::Exists | Condition::Versions(_)) => Some(Refusal::PreconditionFailed),
        (Some(_), Condition::Exists | Condition::Versions(_)) | (None, Condition::None | Condition::Absent) => None,
    }
}
