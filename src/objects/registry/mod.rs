//! `Registry`: the configuration of one tenant, under one revision.
//!
//! A write increments the revision and is stored and pushed to every store before it is answered, so that every later
//! admission, anywhere, is decided with it. A store that could not be reached asks by itself within 30 s, which bounds
//! the effect of a lost push. Invariant: a revision identifies one state of all tables.

mod audit;
mod capacity;
mod catalogues;
pub mod client;
mod compiled_schemas;
mod documents;
mod encryption;
mod handlers;
mod keys;
pub mod messages;
mod observed;
mod publish;
mod records;
mod registrations;
mod replies;
mod revocation;
mod services;
pub mod snapshot;
mod tables;
mod tenant;
mod versions;
mod webhooks;
mod writes;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::shell::{Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::{Failure, clock, settings};
use narthex_core::access::repeat_suppressor::RepeatSuppressor;
use narthex_core::base::exact_json::with_texts;
use narthex_core::base::id::StoreId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::version::VersionNumber;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::size::SAFE_BYTES;

use encryption::OwnSecret;
pub use encryption::document_secret_data;
use handlers::Received;
use messages::{Ask, Condition, HelloReply, Message, ReadSnapshot, Refusal, SnapshotData, SnapshotReply, WriteRefusal};
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

durable_object!(Registry: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let tables = Tables::open(state)?;
        let revision = tables.meta("revision")?.as_deref().and_then(Revision::parse).unwrap_or_default();
        let tenant = RefCell::new(tables.meta("tenant")?.map(TenantId::from_stored));
        let soft = Cell::new(clock::now().0);
        Ok(Rc::new(Self {
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
        }))
    }

    fn answer(self: &Rc<Self>, message: Message<Ask>) -> WrittenAnswer {
        let Message { tenant, ask, by } = message;
        ask.dispatch(Received { inner: self.clone(), tenant, by })
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        let inner = self.clone();
        Outcome::later(async move {
            inner.publish_events().await;
            inner.continue_revocations().await;
            Ok(())
        })
    }
}

impl Inner {
    fn snapshot(&self, request: &ReadSnapshot) -> Result<SnapshotReply, Failure> {
        let revision = self.revision.get();
        let stores = self.tables.stores()?;
        let soft = self.soft.get();
        let own_secret = self.own_secret.borrow().as_ref().map(|own| own.encrypted.clone());
        let own_secret = own_secret.ok_or_else(|| Failure("the tenant's secret is not decrypted yet".into()))?;
        if request.known == Some(revision) && request.stores == stores.len() {
            return Ok(match request.soft {
                Some(known) if known != soft => SnapshotReply::Measured { soft, measured: self.tables.all_measured()? },
                _ => SnapshotReply::Unchanged,
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
        Ok(SnapshotReply::Snapshot(Box::new(data)))
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

    fn hello(&self, store: StoreId) -> Result<HelloReply, Failure> {
        if !self.tables.stores()?.contains(&store) {
            // The location of contexts affects no decision, so the revision stays.
            self.tables.add_store(store)?;
        }
        Ok(HelloReply::Revision {
            revision: self.revision.get(),
            context_retention_days: self.retention().context_retention_days,
        })
    }
}

/// Goes through text, so that numbers outside the range of serde_json's values become text.
fn as_value(value: &impl serde::Serialize) -> serde_json::Value {
    let text = serde_json::to_string(value).unwrap_or_default();
    serde_json::from_str(&with_texts(&text)).unwrap_or_default()
}

/// Checks the precondition of a write (RFC 9110 §13.2). `version` is that of the existing document.
fn check_precondition(version: Option<VersionNumber>, condition: &Condition) -> Result<(), WriteRefusal> {
    let refusal = match (version, condition) {
        (Some(_), Condition::None) => Refusal::PreconditionRequired,
        (Some(_), Condition::Absent) => Refusal::PreconditionFailed,
        (Some(version), Condition::Versions(list)) if !list.contains(&version) => Refusal::PreconditionFailed,
        (None, Condition::Exists | Condition::Versions(_)) => Refusal::PreconditionFailed,
        (Some(_), Condition::Exists | Condition::Versions(_)) | (None, Condition::None | Condition::Absent) => {
            return Ok(());
        }
    };
    Err(WriteRefusal::Refused(refusal))
}
