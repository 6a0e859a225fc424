//! `Registry`: everything that is configured in one tenant, under one revision.
//!
//! A write raises the revision, is on disk, and has been pushed to every store before it is answered: what
//! is admitted afterwards, anywhere, is decided with it. A store that could not be reached asks by itself
//! within 30 s, which bounds what a lost push can do. Invariant: a revision names one state of all tables.

mod audit;
mod documents;
mod ending;
mod keys;
mod measured;
pub mod messages;
pub mod snapshot;
mod tables;
mod telling;
mod tenancy;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::future::join;
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::core::address::Policy;
use crate::core::audit::{By, changes, fingerprint};
use crate::core::event::RegistryEvent;
use crate::core::gathering::Gathering;
use crate::core::id::StoreId;
use crate::core::json::{Fault, MAX_DEPTH, check};
use crate::core::measured::Measured;
use crate::core::service::{self, Registration, Rules};
use crate::core::signature::Secret;
use crate::objects::reply;
use crate::platform::{Failure, clock, random, settings, tasks};

use audit::Change;
use measured::needs_lane;
pub use measured::target;
use messages::{Ask, Condition, Refusal, Registered, Reply, SnapshotData, WriteRules};
use tables::{SERVICE, Tables};

/// How long a store may take to hear of a new revision, in milliseconds.
const PUSH_PATIENCE_MS: u64 = 2_000;

struct Inner {
    tables: Tables,
    revision: Cell<u64>,
    /// Grows with what is measured; it begins at the time, so that it grows over restarts.
    soft: Cell<u64>,
    cursor_secret: String,
    tenant: RefCell<Option<String>>,
    telling: Cell<bool>,
    refusals: RefCell<Gathering>,
    audit_retention_days: u64,
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
        if matches!(ask.ask, Ask::Snapshot { .. }) {
            return reply(inner.snapshot(&ask));
        }
        Ok(tasks::promise(async move { reply(inner.answer(ask).await) }))
    }

    pub fn alarm(&self) -> JsValue {
        let inner = self.0.clone();
        tasks::promise(async move {
            inner.tell().await;
            Ok(JsValue::UNDEFINED)
        })
    }
}

impl Inner {
    fn open(state: &JsValue, env: &JsValue) -> Result<Self, Failure> {
        let tables = Tables::open(state)?;
        let revision = tables.meta("revision")?.and_then(|text| text.parse().ok()).unwrap_or(0);
        let cursor_secret = match tables.meta("cursor_secret")? {
            Some(secret) => secret,
            None => {
                let secret = Secret::from_random(random::bytes()).text();
                tables.set_meta("cursor_secret", &secret)?;
                secret
            }
        };
        let tenant = RefCell::new(tables.meta("tenant")?);
        let soft = Cell::new(clock::now().0);
        Ok(Self {
            tables,
            revision: Cell::new(revision),
            soft,
            cursor_secret,
            tenant,
            telling: Cell::new(false),
            refusals: RefCell::new(audit::refusals()),
            audit_retention_days: settings::of(env).audit_retention_days,
        })
    }

    fn snapshot(&self, message: &messages::Message) -> Result<Reply, Failure> {
        let revision = self.revision.get();
        let stores = self.tables.stores()?;
        let soft = self.soft.get();
        if let Ask::Snapshot { known: Some(known), stores: count, soft: knows } = message.ask
            && known == revision
            && count == stores.len()
        {
            return Ok(match knows {
                Some(known) if known != soft => Reply::Measured { soft, measured: self.tables.all_measured()? },
                _ => Reply::Unchanged,
            });
        }
        Ok(Reply::Snapshot(Box::new(SnapshotData {
            revision,
            services: self.tables.services()?,
            keys: self.tables.keys()?,
            kept: self.tables.kept()?,
            stores,
            cursor_secret: self.cursor_secret.clone(),
            soft,
            measured: self.tables.all_measured()?,
        })))
    }

    async fn answer(self: &Rc<Self>, message: messages::Message) -> Result<Reply, Failure> {
        self.know_itself(&message.tenant)?;
        let by = &message.by;
        let reply = match message.ask {
            Ask::Snapshot { .. } => return self.snapshot(&message),
            Ask::Hello { store } => return self.hello(store),
            Ask::Sweep => {
                self.sweep_lanes().await;
                self.note_refusals()?;
                self.forget_audit()?;
                self.tell().await;
                return Ok(Reply::Done);
            }
            Ask::Measured { service, measured, reason } => {
                let reply = self.measure(&service, measured, reason)?;
                let inner = self.clone();
                tasks::spawn(async move { inner.tell().await });
                return Ok(reply);
            }
            Ask::Audit(query) => return self.audit(&query),
            Ask::Refused(refused) => return self.refuse(by, &refused),
            Ask::Used { key, at } => {
                self.tables.keep_used(&key, at)?;
                return Ok(Reply::Done);
            }
            Ask::LastUsed => return Ok(Reply::LastUsed(self.tables.used()?)),
            Ask::Holdings => return self.holdings(),
            Ask::Close => self.close(by).await?,
            _ if self.is_closed()? => return Ok(Reply::Absent),
            Ask::Establish { retention, key } => self.establish(by, retention, key).await?,
            Ask::PutService { id, document, condition, rules } => {
                self.put_service(by, &id, &document, &condition, &rules)?
            }
            Ask::PatchService { id, patch, condition, rules } => {
                self.patch_service(by, &id, &patch, &condition, &rules)?
            }
            Ask::DeleteService { id, condition } => self.delete_service(by, &id, &condition).await?,
            Ask::Put { kind, id, document, condition } => self.put_and_end(by, kind, &id, document, &condition).await?,
            Ask::Delete { kind, id, condition } => self.delete_and_end(by, kind, &id, &condition).await?,
            Ask::CreateKey(key) => self.create_key(by, key)?,
            Ask::RotateKey { id, overlap_seconds, hash, last_four } => {
                self.rotate_key(by, &id, overlap_seconds, hash, last_four)?
            }
            Ask::RevokeKey { id } => self.revoke_key(by, &id).await?,
        };
        if matches!(reply, Reply::Service { .. } | Reply::Key(_) | Reply::Kept { .. } | Reply::Done) {
            join(self.push(), self.push_lane(&reply)).await;
            let inner = self.clone();
            tasks::spawn(async move { inner.tell().await });
        }
        Ok(reply)
    }

    fn know_itself(&self, tenant: &str) -> Result<(), Failure> {
        if self.tenant.borrow().is_none() {
            self.tables.set_meta("tenant", tenant)?;
            *self.tenant.borrow_mut() = Some(tenant.into());
        }
        Ok(())
    }

    fn tenant(&self) -> String {
        self.tenant.borrow().clone().unwrap_or_default()
    }

    fn hello(&self, store: StoreId) -> Result<Reply, Failure> {
        if !self.tables.stores()?.contains(&store) {
            // Where contexts are kept decides nothing, so it is no revision.
            self.tables.add_store(store)?;
        }
        Ok(Reply::Revision {
            revision: self.revision.get(),
            context_retention_days: self.retention().context_retention_days,
        })
    }

    /// After a service was written: its lane learns of it, if it has anything to do.
    async fn push_lane(&self, reply: &Reply) {
        if let Reply::Service { service, has_lane: true, .. } = reply {
            self.configure_lane(service).await;
        }
    }

    fn put_service(
        &self,
        by: &By,
        id: &str,
        document: &str,
        condition: &Condition,
        rules: &WriteRules,
    ) -> Result<Reply, Failure> {
        let known: Option<Registered> = self.tables.get(SERVICE, id)?;
        if let Some(refusal) = refused(known.as_ref().map(|known| known.version), condition) {
            return Ok(Reply::Refused(refusal));
        }
        self.keep_service(by, id, document, known, rules, false)
    }

    fn patch_service(
        &self,
        by: &By,
        id: &str,
        patch: &str,
        condition: &Condition,
        rules: &WriteRules,
    ) -> Result<Reply, Failure> {
        let Some(known) = self.tables.get::<Registered>(SERVICE, id)? else {
            return Ok(Reply::Absent);
        };
        if let Some(refusal) = refused(Some(known.version), condition) {
            return Ok(Reply::Refused(refusal));
        }
        let Ok(patch) = serde_json::from_str::<serde_json::Value>(patch) else {
            return Ok(Reply::Faults(vec![Fault::new("#", "must be a JSON object")]));
        };
        let forgets = patch.get("credentials").is_some_and(serde_json::Value::is_null);
        let mut document =
            serde_json::to_value(known.service.view(&self.measured_of(id), known.created_at, known.updated_at))?;
        service::merge_patch(&mut document, patch);
        self.keep_service(by, id, &document.to_string(), Some(known), rules, !forgets)
    }

    /// `keeps`: credentials that are not named stay as they were.
    fn keep_service(
        &self,
        by: &By,
        id: &str,
        document: &str,
        known: Option<Registered>,
        rules: &WriteRules,
        keeps: bool,
    ) -> Result<Reply, Failure> {
        let text = match check(document.as_bytes(), MAX_DEPTH) {
            Ok(text) => text,
            Err(invalid) => return Ok(Reply::Faults(vec![invalid.fault()])),
        };
        let addresses = Policy { allow_loopback: rules.allow_loopback };
        let own_hosts = [rules.own_host.as_str()];
        let read = service::read(id, text, Rules { addresses, own_hosts: &own_hosts, demo: rules.demo });
        let Registration { service, credentials, signing_secret } = match read {
            Ok(registration) => registration,
            Err(faults) => return Ok(Reply::Faults(faults)),
        };
        let now = clock::now();
        let made = known.is_none() && signing_secret.is_none();
        let kept = known.as_ref().map(|known| known.signing_secret.clone());
        let signing_secret = signing_secret.or(kept).unwrap_or_else(|| Secret::from_random(random::bytes()).text());
        let stays = known.as_ref().filter(|known| known.service.transport == service.transport);
        let registered = Registered {
            moved_at: stays.map_or(now, |known| known.moved_at),
            credentials: credentials.or_else(|| known.as_ref().filter(|_| keeps).and_then(|k| k.credentials.clone())),
            signing_secret: signing_secret.clone(),
            version: known.as_ref().map_or(1, |known| known.version + 1),
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            updated_at: now,
            service,
        };
        let known_measured = self.measured_of(id);
        let moved = known.as_ref().is_some_and(|known| known.moved_at != registered.moved_at);
        let measured = if moved { Measured::default() } else { known_measured };
        let had_lane = known_measured.version > 0 || known.as_ref().is_some_and(|known| needs_lane(&known.service));
        let has_lane = had_lane || needs_lane(&registered.service);
        let kind = if known.is_none() { RegistryEvent::ServiceRegistered } else { RegistryEvent::ServiceUpdated };
        let data = json!({
            "id": id, "name": registered.service.name, "type": registered.service.kind,
            "status": registered.service.status(&measured), "version": registered.version,
        });
        let change = Change {
            by,
            action: if known.is_none() { "service.created" } else { "service.updated" },
            object: &format!("services/{id}"),
            changes: changes(&self.told(known.as_ref()), &self.told(Some(&registered))),
        };
        self.write(&change, || {
            self.tables.put(SERVICE, id, &registered)?;
            if moved {
                self.tables.delete_measured(id)?;
            }
            self.queue_event(id, kind, &data)
        })?;
        let signing_secret = made.then_some(signing_secret);
        let service = Box::new(registered);
        Ok(Reply::Service { created: known.is_none(), service, measured, has_lane, signing_secret })
    }

    /// A service as the audit log tells of it: with the fingerprints of its secrets.
    fn told(&self, registered: Option<&Registered>) -> serde_json::Value {
        let Some(registered) = registered else { return serde_json::Value::Null };
        let seen = |secret: &str| fingerprint(&self.cursor_secret, secret);
        let mut told = as_value(&registered.service);
        if let Some(members) = told.as_object_mut() {
            members.insert("signing_secret".into(), json!(seen(&registered.signing_secret)));
            if let Some(credentials) = &registered.credentials {
                let value = seen(&credentials.value);
                members.insert("credentials".into(), json!({"header": credentials.header, "value": value}));
            }
        }
        told
    }

    async fn delete_service(&self, by: &By, id: &str, condition: &Condition) -> Result<Reply, Failure> {
        let Some(known) = self.tables.get::<Registered>(SERVICE, id)? else {
            return Ok(Reply::Absent);
        };
        if let Some(refusal) = refused(Some(known.version), condition) {
            return Ok(Reply::Refused(refusal));
        }
        let had_lane = needs_lane(&known.service) || self.measured_of(id).version > 0;
        let change = Change {
            by,
            action: "service.deleted",
            object: &format!("services/{id}"),
            changes: changes(&self.told(Some(&known)), &serde_json::Value::Null),
        };
        self.write(&change, || {
            self.tables.delete(SERVICE, id)?;
            self.tables.delete_measured(id)?;
            self.queue_event(id, RegistryEvent::ServiceDeregistered, &json!({"id": id}))
        })?;
        if had_lane {
            self.forget_lane(&known).await;
        }
        Ok(Reply::Done)
    }
}

/// By way of text: what writes it as text is there anyway.
fn as_value(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_string(value).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Whether a write's condition keeps it from happening (RFC 9110 §13.2). `version` is of what exists.
fn refused(version: Option<u64>, condition: &Condition) -> Option<Refusal> {
    match (version, condition) {
        (Some(_), Condition::None) => Some(Refusal::PreconditionRequired),
        (Some(_), Condition::Absent) => Some(Refusal::PreconditionFailed),
        (Some(version), Condition::Versions(list)) if !list.contains(&version) => Some(Refusal::PreconditionFailed),
        (None, Condition::Exists | Condition::Versions(_)) => Some(Refusal::PreconditionFailed),
        (Some(_), Condition::Exists | Condition::Versions(_)) | (None, Condition::None | Condition::Absent) => None,
    }
}
