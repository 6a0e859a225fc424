//! The registry: every decision about the configuration of one tenant, under one revision.
//!
//! It keeps documents in a [`Storage`]: the tables of an object on the platform, a map in the simulation. A method
//! takes who asks and when ([`Turn`]), changes the storage in one transaction, and leaves in [`Effects`] what the shell
//! must do. Everything in memory may be lost at any moment; [`Registry::open`] recovers from the storage alone.
//! Invariants:
//!
//! * a revision identifies one state of all documents, and every write leads to the next one;
//! * a write is answered once no store admits anything under an older revision ([`followers`]), so that every later
//!   admission, anywhere, is decided with it;
//! * each write has one entry in the audit log; its events and notifications are stored with it until they arrive.
//!
//! What a document may contain is decided in the room of its kind: `services`, `access`, `limits`, `webhooks`,
//! `schedules`. Secrets come in encrypted: encryption belongs to the shell.

mod audit;
mod capacity;
mod catalogues;
pub mod copy;
mod documents;
pub mod followers;
mod index;
mod keys;
pub mod known_revision;
pub mod later;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
pub mod messages;
pub mod notifications;
mod observed;
mod outbox;
pub mod records;
mod registrations;
pub mod replies;
pub mod revision;
mod revocations;
pub mod rules;
pub mod secrets;
mod services;
pub mod size;
mod snapshot;
pub mod storage;
mod tenant;
mod webhook_secrets;
mod writes;

use std::cell::Cell;

use crate::access::audit::Actor;
use crate::access::oauth::registrations::Lifetimes;
use crate::access::repeat_suppressor::RepeatSuppressor;
use crate::base::alarm::Alarm;
use crate::base::id::{StoreId, ulid};
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;

use followers::{Followers, Push};
use notifications::{Notification, Notifications};
use replies::{HelloReply, WriteRefusal};
use revision::Revision;
use secrets::OwnSecret;
use size::{StoredSizes, TooLarge};
use storage::Storage;

pub use outbox::Batch;
pub use revocations::Delivery;
pub use secrets::NewSecrets;
pub use services::{ServiceInputs, needs_lane};

/// The settings that a registry depends on.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub audit_retention_ms: u64,
    /// Of clients that registered themselves.
    pub registrations: Lifetimes,
    pub timing: Timing,
}

/// Who asks, and when.
#[derive(Debug)]
pub struct Turn<'a> {
    pub by: &'a Actor,
    pub now: Timestamp,
    random: [u8; 10],
    entries: Cell<u8>,
}

impl<'a> Turn<'a> {
    /// `random` identifies the audit entries of this turn.
    pub fn new(by: &'a Actor, now: Timestamp, random: [u8; 10]) -> Self {
        Self { by, now, random, entries: Cell::new(0) }
    }

    /// The id of the turn's next audit entry.
    fn entry_id(&self) -> String {
        let number = self.entries.replace(self.entries.get().wrapping_add(1));
        let mut random = self.random;
        random[9] = random[9].wrapping_add(number);
        format!("aud_{}", ulid(self.now, random))
    }
}

/// What the shell must do now.
#[derive(Debug, Default)]
pub struct Effects {
    /// Set the alarm to this time, replacing a later one.
    pub alarm: Option<Timestamp>,
    /// Send these to stores, and report the replies to [`Registry::pushed`].
    pub pushes: Vec<Push>,
    /// Send this to the hub, and report the reply to [`Registry::published`].
    pub batch: Option<Batch>,
    /// Send these, and report the replies to [`Registry::notified`].
    pub notifications: Vec<(u64, Notification)>,
    /// Send the lanes of these services their configuration. Nothing depends on it.
    pub lanes: Vec<ServiceId>,
    pub logs: Vec<LogEntry>,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    NearlyFull {
        bytes: u64,
        limit: u64,
    },
    DocumentsLeftOut {
        count: usize,
        first: Vec<String>,
    },
    ToolsDoNotFit {
        service: String,
        reason: String,
    },
    /// A stored service that this version cannot read.
    ServiceNotRead {
        service: String,
    },
    RegistrationsNotDeleted {
        reason: String,
    },
}

/// What must hold before a write is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Receipt {
    /// The revision that the answer reflects.
    pub revision: Revision,
    /// The notifications of the write.
    notifications: Vec<u64>,
}

/// Why a write was not completed.
#[derive(Debug)]
pub enum WriteError {
    Failed(StorageError),
    Refused(WriteRefusal),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        WriteError::Failed(error)
    }
}

impl From<serde_json::Error> for WriteError {
    fn from(error: serde_json::Error) -> Self {
        WriteError::Failed(error.into())
    }
}

impl From<WriteRefusal> for WriteError {
    fn from(refusal: WriteRefusal) -> Self {
        WriteError::Refused(refusal)
    }
}

impl From<TooLarge> for WriteError {
    fn from(too_large: TooLarge) -> Self {
        WriteError::Refused(WriteRefusal::TooLarge(too_large))
    }
}

/// The decisions about a tenant's configuration. The shell carries out [`Registry::take_effects`] after each call.
pub struct Registry<S> {
    storage: S,
    config: Config,
    tenant: Option<TenantId>,
    own_secret: Option<OwnSecret>,
    revision: Revision,
    /// Incremented by every change of an observed status; starts at the current time, so that it also grows across
    /// restarts.
    soft: u64,
    observed: observed::Changes,
    /// The size of the index at a revision, while `sizes` is not known.
    counted_index: Option<(Revision, u64)>,
    checked_services: Option<secrets::CheckedServices>,
    /// The form of the index is stored.
    has_index_form: bool,
    /// Services that isolates have read.
    recent: index::Recent,
    /// The size of the stored documents, once counted; every write updates it.
    sizes: Option<StoredSizes>,
    rejections: RepeatSuppressor,
    /// When expired revocations were last deleted.
    revocations_deleted_at: Timestamp,
    /// The last revision whose incomplete snapshot was logged.
    logged_left_out: Revision,
    followers: Followers,
    notifications: Notifications,
    outbox: outbox::Outbox,
    alarm: Alarm,
    /// What the running write adds; it counts once the write is stored.
    uncommitted: writes::Uncommitted,
    /// The notifications of writes since the last receipt.
    added: Vec<u64>,
    effects: Effects,
}

impl<S: Storage> Registry<S> {
    /// Recovers from `storage`.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn open(storage: S, config: Config, now: Timestamp) -> Result<Self, StorageError> {
        let revision = storage.meta(REVISION)?.as_deref().and_then(Revision::parse).unwrap_or_default();
        let mut registry = Self {
            tenant: storage.meta(TENANT)?.map(TenantId::from_stored),
            own_secret: None,
            revision,
            soft: now.0,
            observed: observed::Changes::since(now.0),
            counted_index: None,
            checked_services: None,
            has_index_form: false,
            recent: index::Recent::default(),
            sizes: None,
            rejections: audit::rejections(),
            revocations_deleted_at: Timestamp::default(),
            logged_left_out: Revision::default(),
            followers: Followers::new(revision, &storage.stores()?, &config.timing, now),
            notifications: Notifications::default(),
            outbox: outbox::Outbox::default(),
            alarm: Alarm::default(),
            uncommitted: writes::Uncommitted::default(),
            added: Vec::new(),
            effects: Effects::default(),
            storage,
            config,
        };
        registry.restore_index()?;
        registry.restore_notifications(now)?;
        registry.take_over_revocations(now)?;
        Ok(registry)
    }

    pub fn storage(&self) -> &S {
        &self.storage
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Stores the tenant on first use. Every message names it, and every other use follows a message.
    ///
    /// # Errors
    /// The storage cannot be written.
    pub fn remember_tenant(&mut self, tenant: &TenantId) -> Result<(), StorageError> {
        if self.tenant.is_none() {
            self.storage.set_meta(TENANT, tenant.as_str())?;
            self.tenant = Some(tenant.clone());
        }
        Ok(())
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant.clone().unwrap_or_else(|| TenantId::from_stored(""))
    }

    /// Answers the question of a store, which is known from then on.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub fn hello(&mut self, store: StoreId, now: Timestamp) -> Result<HelloReply, StorageError> {
        if !self.storage.stores()?.contains(&store) {
            // The location of contexts affects no decision, so the revision stays.
            self.storage.add_store(store)?;
        }
        self.followers.answered(store, now);
        Ok(HelloReply::Revision {
            revision: self.revision,
            context_retention_days: self.retention().context_retention_days,
        })
    }

    /// The stores of the tenant.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn stores(&self) -> Result<Vec<StoreId>, StorageError> {
        self.storage.stores()
    }

    /// Takes the effects of the calls since the last time, and what has become due.
    pub fn take_effects(&mut self, now: Timestamp) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        effects.pushes = self.followers.take_due(now);
        effects.notifications = self.notifications.take_due(now);
        effects.batch = self.next_batch(now);
        effects.alarm = self.effects.alarm.take().or(effects.alarm);
        effects
    }

    /// When [`Registry::take_effects`] must be called although nothing else happens, as far as a waiting write needs
    /// it. The alarm cares for the rest.
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.followers.wake_at(now)
    }

    /// Before a write: what others have added does not concern it.
    pub fn begin_write(&mut self) {
        self.added.clear();
    }

    /// The condition for answering the write that was just made or refused.
    pub fn receipt(&mut self) -> Receipt {
        self.followers.expect();
        Receipt { revision: self.revision, notifications: std::mem::take(&mut self.added) }
    }

    /// The condition for answering a request that has only added notifications.
    pub fn receipt_of_notifications(&mut self) -> Receipt {
        Receipt { revision: Revision::INITIAL, notifications: std::mem::take(&mut self.added) }
    }

    /// Whether a write may be answered. A refusal reflects earlier writes, which may not be known everywhere yet.
    pub fn is_settled(&self, receipt: &Receipt, now: Timestamp) -> bool {
        self.followers.know(receipt.revision, now) && self.notifications.were_tried(&receipt.notifications)
    }

    /// A store has confirmed a push, or did not reply.
    pub fn pushed(&mut self, push: Push, is_confirmed: bool, now: Timestamp) {
        self.followers.pushed(push, is_confirmed, now);
    }

    /// The alarm fires: does what is due and sets the next one.
    pub fn alarm(&mut self, now: Timestamp) {
        self.alarm.fired(now);
        self.do_due(now);
    }

    fn do_due(&mut self, now: Timestamp) {
        self.outbox.may_have_events();
        if self.outbox.is_in_flight() {
            self.arm(now.plus_ms(self.config.timing.event_retry_ms));
        }
        self.guard_notifications(now);
    }

    /// Ensures that notifications are sent when they are due, and again if this instance dies.
    fn guard_notifications(&mut self, now: Timestamp) {
        if !self.notifications.is_empty() {
            let again = now.plus_ms(self.config.timing.event_retry_ms);
            let due = self.notifications.next_due(now);
            self.arm(due.map_or(again, |due| due.min(again)));
        }
    }

    fn arm(&mut self, at: Timestamp) {
        if let Some(at) = self.alarm.by(at) {
            self.effects.alarm = Some(at);
        }
    }
}

const REVISION: &str = "revision";
const TENANT: &str = "tenant";

/// Goes through text, so that numbers outside the range of serde_json's values become text.
fn as_value(value: &impl serde::Serialize) -> serde_json::Value {
    let text = serde_json::to_string(value).unwrap_or_default();
    serde_json::from_str(&crate::base::exact_json::with_texts(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
