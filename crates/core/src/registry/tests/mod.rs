//! A registry with a storage in memory, which outlives it as the tables outlive their object.

mod alarms;
mod any_operations;
mod audit;
mod capacity;
mod catalogues;
mod documents;
mod effects;
mod forms;
mod index;
mod keys;
mod later;
mod notifications;
mod paging;
mod registrations;
mod relays;
mod revocations;
mod secrets;
mod services;
mod snapshots;
mod tenant;

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use forms::{
    called, client, connecting, fresh, inputs, issuer, limit, new_key, online, probed, role, rules, webhook, with,
};

use super::later::Needs;
use super::memory::{Disk, MemoryStorage};
use super::messages::{
    Condition, DeleteDocument, DeleteService, DocumentKind, Key, NewKey, PatchService, PutDocument, PutService,
    RegisterClient, RegisterReply, ReportStatus, StatusReply, StoredDocument, StoredService, WrittenDocument,
    WrittenService,
};
use super::*;
use crate::access::audit::fingerprint;
use crate::access::encrypted_secret::EncryptedSecret;
use crate::access::oauth::registrations::{IDLE_MS, UNUSED_MS};
use crate::access::webhook_signature::Secret;
use crate::base::id::Region;
use crate::base::version::VersionNumber;
use crate::events::bundle::{Bundle, EventKind};
use crate::lane::observed::{HealthStatus, ObservedStatus};

const START: u64 = 1_700_000_000_000;
const SECOND: u64 = 1_000;
const DAY: u64 = 86_400_000;
/// The tenant's own secret, on which fingerprints depend.
const OWN: &str = "the tenant's own secret";
const ADDRESS: &str = "203.0.113.7";

fn at(ms: u64) -> Timestamp {
    Timestamp(START + ms)
}

fn config() -> Config {
    let registrations = Lifetimes { unused_ms: UNUSED_MS, idle_ms: IDLE_MS };
    Config { audit_retention_ms: 30 * DAY, registrations, timing: Timing::DEFAULT }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn id(text: &str) -> ServiceId {
    ServiceId::parse(text).unwrap()
}

fn store(shard: u16) -> StoreId {
    StoreId { region: Region::Eu, shard }
}

fn version(number: u64) -> VersionNumber {
    VersionNumber::parse(&number.to_string()).unwrap()
}

fn encrypted(text: &str) -> EncryptedSecret {
    EncryptedSecret::plaintext(text.into())
}

/// A secret with which requests are signed.
fn signing(number: u8) -> String {
    Secret::from_random([number; 32]).text()
}

/// A refusal in the form in which it is sent.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, WriteError>) -> Value {
    match outcome {
        Err(WriteError::Refused(refusal)) => serde_json::to_value(refusal).unwrap(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The pointers of the faults for which a write was refused.
fn faults<T: std::fmt::Debug>(outcome: Result<T, WriteError>) -> Vec<String> {
    let refusal = refusal(outcome);
    let faults = refusal["faults"].as_array().unwrap();
    faults.iter().map(|fault| fault["pointer"].as_str().unwrap().to_string()).collect()
}

fn precondition_required() -> Value {
    json!({"refused": "precondition_required"})
}

fn precondition_failed() -> Value {
    json!({"refused": "precondition_failed"})
}

fn conflict() -> Value {
    json!({"refused": "conflict"})
}

/// What a write has added to the disk.
#[derive(Debug)]
struct Added {
    revisions: u64,
    audit: Vec<Value>,
    events: Vec<(String, Value)>,
    notifications: Vec<Value>,
}

impl Added {
    fn event_types(&self) -> Vec<&str> {
        self.events.iter().map(|(kind, _)| kind.as_str()).collect()
    }
}

struct Fixture {
    storage: MemoryStorage,
    registry: Registry<MemoryStorage>,
    now: Timestamp,
    by: Actor,
    turns: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::of(TenantId::FIRST)
    }

    fn of(tenant: &str) -> Self {
        let mut fixture = Self::on(MemoryStorage::default(), at(0));
        fixture.registry.remember_tenant(&TenantId::parse(tenant).unwrap()).unwrap();
        fixture
    }

    fn on(storage: MemoryStorage, now: Timestamp) -> Self {
        let mut registry = Registry::open(storage.clone(), config(), now).unwrap();
        registry.set_own_secret(OwnSecret { encrypted: encrypted(OWN), plaintext: OWN.into() });
        let by = Actor {
            actor: "key:ada".into(),
            name: Some("Ada".into()),
            request_id: "req_1".into(),
            address: ADDRESS.into(),
        };
        Self { storage, registry, now, by, turns: 0 }
    }

    /// The object crashes, and the next message starts a new instance.
    fn restarted(self) -> Self {
        Self::on(self.storage, self.now)
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    fn act<T>(&mut self, work: impl FnOnce(&mut Registry<MemoryStorage>, &Turn<'_>) -> T) -> T {
        self.turns += 1;
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.turns.to_be_bytes());
        work(&mut self.registry, &Turn::new(&self.by, self.now, random))
    }

    fn try_put_service(
        &mut self,
        name: &str,
        document: &Value,
        condition: Condition,
    ) -> Result<WrittenService, WriteError> {
        let document = document.to_string();
        let inputs = inputs(&document);
        let put = PutService { id: id(name), document, condition, rules: rules() };
        self.act(|registry, turn| registry.put_service(&put, inputs, turn))
    }

    /// Creates or replaces a service.
    fn put_service(&mut self, name: &str, document: &Value) -> WrittenService {
        let known = self.registry.service(&id(name)).unwrap();
        let condition = if known.is_some() { Condition::Exists } else { Condition::None };
        self.try_put_service(name, document, condition).unwrap()
    }

    fn try_patch_service(
        &mut self,
        name: &str,
        patch: &Value,
        condition: Condition,
    ) -> Result<WrittenService, WriteError> {
        let patch = patch.to_string();
        let inputs = inputs(&patch);
        let request = PatchService { id: id(name), patch, condition, rules: rules() };
        self.act(|registry, turn| registry.patch_service(&request, inputs, turn))
    }

    fn patch_service(&mut self, name: &str, patch: &Value) -> WrittenService {
        self.try_patch_service(name, patch, Condition::Exists).unwrap()
    }

    fn rotate_secret(&mut self, name: &str, overlap: u64, secret: &str) -> Result<WrittenService, WriteError> {
        let secret = (secret.to_string(), encrypted(secret));
        self.act(|registry, turn| registry.rotate_secret(&id(name), overlap, secret, turn))
    }

    fn try_delete_service(&mut self, name: &str, condition: Condition) -> Result<(), WriteError> {
        self.act(|registry, turn| registry.delete_service(&DeleteService { id: id(name), condition }, turn))
    }

    fn service(&self, name: &str) -> StoredService {
        self.registry.service(&id(name)).unwrap().unwrap()
    }

    fn measure(&mut self, service: &str, measured: ObservedStatus) -> StatusReply {
        let report = ReportStatus { service: id(service), moved_at: None, measured, reason: None };
        self.registry.measure(&report, self.now).unwrap()
    }

    fn try_put(
        &mut self,
        kind: DocumentKind,
        id: &str,
        document: &Value,
        condition: Condition,
    ) -> Result<WrittenDocument, WriteError> {
        let put = PutDocument { kind, id: id.into(), document: raw(document), condition };
        self.act(|registry, turn| registry.put_document(put, turn))
    }

    /// Creates or replaces a document.
    fn put(&mut self, kind: DocumentKind, id: &str, document: &Value) -> WrittenDocument {
        let known = self.registry.document(kind, id).unwrap();
        let condition = if known.is_some() { Condition::Exists } else { Condition::None };
        self.try_put(kind, id, document, condition).unwrap()
    }

    fn try_delete(&mut self, kind: DocumentKind, id: &str, condition: Condition) -> Result<(), WriteError> {
        let delete = DeleteDocument { kind, id: id.into(), condition };
        self.act(|registry, turn| registry.delete_document(&delete, turn))
    }

    fn delete(&mut self, kind: DocumentKind, id: &str) {
        self.try_delete(kind, id, Condition::Exists).unwrap();
    }

    fn document(&self, kind: DocumentKind, id: &str) -> Option<StoredDocument> {
        self.registry.document(kind, id).unwrap()
    }

    /// The content of a stored document.
    fn content(&self, kind: DocumentKind, id: &str) -> Value {
        serde_json::from_str(self.document(kind, id).unwrap().document.get()).unwrap()
    }

    fn create_key(&mut self, id: &str, role: &str) -> Result<Box<Key>, WriteError> {
        self.act(|registry, turn| registry.create_key(new_key(id, role), turn))
    }

    fn register(&mut self, id: &str) -> Result<RegisterReply, WriteError> {
        let request = RegisterClient { id: id.into(), document: raw(&client()) };
        self.act(|registry, turn| registry.register(request, turn))
    }

    fn sweep(&mut self) {
        self.act(|registry, turn| registry.sweep(turn)).unwrap();
    }

    fn notified(&mut self, number: u64, delivery: Delivery) {
        self.registry.notified(number, delivery, self.now).unwrap();
    }

    /// The notifications that are sent now.
    fn sent(&mut self) -> Vec<(u64, Value)> {
        let notifications = self.effects().notifications;
        notifications.into_iter().map(|(number, sent)| (number, serde_json::to_value(sent).unwrap())).collect()
    }

    fn revision(&self) -> u64 {
        self.registry.revision().to_string().parse().unwrap()
    }

    /// The entries of the audit log, oldest first.
    fn audit(&self) -> Vec<Value> {
        self.storage.read(|disk| disk.audit.values().map(|row| serde_json::from_str(&row.entry).unwrap()).collect())
    }

    fn last_entry(&self) -> Value {
        self.audit().pop().unwrap()
    }

    /// Everything that the audit log says, as one text.
    fn audit_text(&self) -> String {
        self.storage.read(|disk| disk.audit.values().map(|row| row.entry.clone()).collect())
    }

    fn notifications(&self) -> Vec<Value> {
        self.storage.read(|disk| disk.notifications.values().map(|row| serde_json::from_str(row).unwrap()).collect())
    }

    /// What this adds to the disk.
    fn added<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Added {
        let (before, revision) = (self.storage.snapshot(), self.revision());
        work(self);
        let after = self.storage.snapshot();
        let audit = newer(&before.audit, &after.audit).map(|row| serde_json::from_str(&row.entry).unwrap());
        Added {
            revisions: self.revision() - revision,
            audit: audit.collect(),
            events: newer(&before.outbox, &after.outbox).map(|text| event(text)).collect(),
            notifications: newer(&before.notifications, &after.notifications)
                .map(|text| serde_json::from_str(text).unwrap())
                .collect(),
        }
    }

    /// This must change nothing.
    fn unchanged<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (before, revision) = (text(&self.storage.snapshot()), self.revision());
        let done = work(self);
        assert_eq!((text(&self.storage.snapshot()), self.revision()), (before, revision));
        done
    }

    /// Takes the effects, and sets the alarm as the shell does.
    fn effects(&mut self) -> Effects {
        let effects = self.registry.take_effects(self.now);
        if let Some(at) = effects.alarm {
            let earlier = self.storage.alarm().filter(|set| *set < at);
            self.storage.set_alarm(earlier.or(Some(at)));
        }
        effects
    }

    /// The alarm rings, at its time.
    fn ring(&mut self) {
        self.now = self.now.max(self.storage.alarm().unwrap());
        self.storage.set_alarm(None);
        self.registry.alarm(self.now);
    }

    /// Everything is sent and confirmed.
    fn confirm_all(&mut self) {
        loop {
            let Effects { pushes, batch, notifications, .. } = self.effects();
            if pushes.is_empty() && batch.is_none() && notifications.is_empty() {
                return;
            }
            for push in pushes {
                self.registry.pushed(push, true, self.now);
            }
            for (number, _) in notifications {
                self.registry.notified(number, Delivery::Confirmed, self.now).unwrap();
            }
            if let Some(batch) = batch {
                self.registry.published(Some(batch.last), self.now).unwrap();
            }
        }
    }
}

/// The lane of a registered service as a recipient.
fn lane(fixture: &Fixture, service: &str) -> Value {
    json!({"lane": fixture.service(service).lane_settings()})
}

fn newer<'a, T>(before: &BTreeMap<u64, T>, after: &'a BTreeMap<u64, T>) -> impl Iterator<Item = &'a T> {
    let last = before.keys().next_back().copied().unwrap_or_default();
    after.range(last + 1..).map(|(_, row)| row)
}

/// The type of a queued event, and its data.
fn event(text: &str) -> (String, Value) {
    let Bundle { items, .. } = serde_json::from_str(text).unwrap();
    let [item] = items.as_slice() else { panic!("one item per bundle") };
    let EventKind::Registry { data, .. } = &item.kind else { panic!("an event of another source") };
    (item.kind.event_type().as_str().to_string(), serde_json::from_str(data.get()).unwrap())
}

/// Everything on the disk.
fn text(disk: &Disk) -> String {
    format!("{disk:?}")
}
