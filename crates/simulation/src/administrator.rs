//! Administrators: they change the registry, and repeat a change whose answer they have not received.
//!
//! Once a change is answered, it must hold everywhere: no store may accept a decision under an older revision.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use narthex_core::access::audit::Actor as Author;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::tenant::Retention;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::registry::memory::{Disk, MemoryStorage};
use narthex_core::registry::messages::{
    Condition, DeleteService, DocumentKind, Establish, NewKey, PutDocument, PutService, WriteRules,
};
use narthex_core::registry::revision::Revision;
use narthex_core::registry::storage::Storage;
use narthex_core::registry::{NewSecrets, Registry, ServiceInputs, Turn, WriteError};
use serde_json::json;

use crate::isolate::Snapshot;
use crate::messages::{Actor, Event, RegistryEvent, Reply};
use crate::network::REPLY_TIMEOUT_MS;
use crate::registry_object::{CONFIG, RegistryAsk, RegistryReply, own_secret};
use crate::world::{BEGINNING, World, raw};

/// How long the answer to a write may take: longer than stores rely on what they know.
const WRITE_TIMEOUT_MS: u64 = 45_000;
/// How many times a change is repeated.
const MAX_REPEATS: u64 = 3;
/// The role of all keys.
pub const ROLE: &str = "watcher";
/// The permission that sockets need.
pub const EVENTS: &str = "events:read";
/// How many keys there may be.
const KEYS: u64 = 2;

#[derive(Debug)]
pub enum Write {
    PutService(PutService),
    DeleteService(DeleteService),
    CreateKey(NewKey),
    RevokeKey(String),
    PutRole(PutDocument),
    Establish(Retention),
}

impl Write {
    pub fn put_service(id: &str, document: String) -> Self {
        let rules = WriteRules {
            allow_loopback: false,
            allowed_origins: Vec::new(),
            own_host: "gateway.example.com".into(),
            public_host: None,
            demo: false,
        };
        // Whatever its version: the administrator wants this state.
        let id = ServiceId::from_stored(id.to_string());
        Self::PutService(PutService { id, document, condition: Condition::Exists, rules })
    }

    pub fn create_key(id: String) -> Self {
        Self::CreateKey(NewKey {
            name: id.clone(),
            id,
            role: ROLE.into(),
            permissions: Vec::new(),
            hash: "0".into(),
            last_four: "0000".into(),
            created_by: PrincipalId::of_key("admin"),
            expires_at: Timestamp(u64::MAX >> 12),
        })
    }

    pub fn put_role(may_read_events: bool) -> Self {
        let permissions = if may_read_events { json!([EVENTS]) } else { json!([]) };
        let document = raw(&json!({"description": "", "permissions": permissions}).to_string());
        Self::PutRole(PutDocument { kind: DocumentKind::Role, id: ROLE.into(), document, condition: Condition::Exists })
    }

    /// The same for what does not exist yet.
    pub fn anew(self) -> Self {
        match self {
            Self::PutService(put) => Self::PutService(PutService { condition: Condition::None, ..put }),
            Self::PutRole(put) => Self::PutRole(PutDocument { condition: Condition::None, ..put }),
            other => other,
        }
    }

    pub fn apply(&self, registry: &mut Registry<MemoryStorage>, turn: &Turn<'_>) -> Result<(), WriteError> {
        match self {
            Self::PutService(put) => {
                let signing = ("s".to_string(), EncryptedSecret::plaintext("s".into()));
                let fresh = NewSecrets { signing, credentials: Vec::new() };
                registry.put_service(put, ServiceInputs { fresh, bindings: None }, turn).map(drop)
            }
            Self::DeleteService(delete) => registry.delete_service(delete, turn),
            Self::CreateKey(key) => registry.create_key(key.clone(), turn).map(drop),
            Self::RevokeKey(id) => registry.revoke_key(id, turn),
            Self::PutRole(PutDocument { kind, id, document, condition }) => {
                let (id, document, condition) = (id.clone(), document.clone(), condition.clone());
                registry.put_document(PutDocument { kind: *kind, id, document, condition }, turn).map(drop)
            }
            Self::Establish(retention) => {
                registry.establish(Establish { retention: *retention, key: None }, turn).map(drop)
            }
        }
    }
}

/// A change, from the first request until its answer.
pub struct Change {
    write: Rc<Write>,
    pending: u64,
    repeats: u64,
}

impl Change {
    pub fn is_pending(&self) -> bool {
        self.pending != 0
    }

    /// The service whose lane learns of it.
    pub fn lane(&self) -> Option<&ServiceId> {
        match &*self.write {
            Write::PutService(put) => Some(&put.id),
            _ => None,
        }
    }
}

/// A revision of which a client knows that it holds, since when.
type Acknowledged = (u64, Revision);

/// What administrators have been answered.
#[derive(Default)]
pub struct Acknowledgements {
    /// By time; each has a higher revision than those before.
    all: Vec<Acknowledged>,
}

impl Acknowledgements {
    fn add(&mut self, at: u64, revision: Revision) {
        if self.all.last().is_none_or(|(_, last)| *last < revision) {
            self.all.push((at, revision));
        }
    }

    /// The revision that must hold since `at`.
    pub fn by(&self, at: u64) -> Revision {
        self.all.iter().rev().find(|(since, _)| *since <= at).map(|(_, revision)| *revision).unwrap_or_default()
    }
}

impl World {
    /// Plans changes, and sockets that are opened. Returns whether there are any.
    pub fn plan_changes(&mut self) -> bool {
        let mut any = false;
        while self.dice.chance(self.faults.registry) {
            any = true;
            let at = self.dice.between(BEGINNING, self.calm_at());
            self.schedule(at, Event::Registry(RegistryEvent::Changes));
            let at = self.dice.between(BEGINNING, self.calm_at());
            let isolate = self.dice.below(self.isolates.len() as u64) as usize;
            self.schedule(at, Event::Registry(RegistryEvent::OpenSockets { isolate }));
        }
        any
    }

    /// The faults end.
    pub fn calm_registry(&mut self) {
        self.registry.offset = 0;
        if self.registry.asleep || self.registry.storage.read(|disk| !disk.notifications.is_empty()) {
            // The pause before a notification is repeated.
            self.last_until(self.now + 75_000);
        }
        if self.registry.asleep {
            self.ask_registry(Actor::None, RegistryAsk::Sweep, REPLY_TIMEOUT_MS);
        }
        self.registry_recovers();
    }

    /// An administrator changes something.
    pub fn registry_changes(&mut self) {
        let write = self.some_write();
        self.changes.push(Change { write: Rc::new(write), pending: 0, repeats: self.dice.below(MAX_REPEATS + 1) });
        self.send_change(self.changes.len() - 1);
    }

    fn some_write(&mut self) -> Write {
        let at = self.dice.below(self.services.len() as u64) as usize;
        let (name, key) = (self.services[at].name.clone(), format!("k{}", self.dice.below(KEYS)));
        let is_there = self.is_registered(&self.services[at].name);
        match self.dice.below(10) {
            0..=1 if is_there => Write::DeleteService(DeleteService { id: name, condition: Condition::Exists }),
            0..=4 if is_there => Write::put_service(name.as_str(), self.services[at].body(self.dice.chance(500))),
            0..=4 => Write::put_service(name.as_str(), self.services[at].body(false)).anew(),
            5 => Write::create_key(key),
            6..=7 => Write::RevokeKey(key),
            8 => Write::put_role(self.dice.chance(500)),
            _ => Write::Establish(Retention {
                context_retention_days: Some(self.dice.between(10, 20)),
                event_retention_hours: None,
            }),
        }
    }

    /// Whether a service is registered now.
    pub fn is_registered(&self, service: &ServiceId) -> bool {
        self.stored_service_text(service).is_some()
    }

    pub fn send_change(&mut self, at: usize) {
        let ask = RegistryAsk::Write(self.changes[at].write.clone());
        self.changes[at].pending = self.ask_registry(Actor::Administrator(at), ask, WRITE_TIMEOUT_MS);
    }

    /// The registry has answered, or not.
    pub fn change_answered(&mut self, at: usize, number: u64, reply: &Reply) {
        if self.changes[at].pending != number {
            return;
        }
        self.changes[at].pending = 0;
        match reply {
            Reply::Registry(RegistryReply::Written(revision)) => {
                self.note(|| format!("revision {revision} is acknowledged"));
                self.acknowledged.add(self.now, *revision);
            }
            // The client repeats it, and learns that it is done.
            _ if self.changes[at].repeats > 0 => {
                self.changes[at].repeats -= 1;
                let pause = self.dice.between(10, 3_000);
                self.schedule(self.now + pause, Event::Registry(RegistryEvent::ChangeAgain { change: at }));
            }
            _ => {}
        }
    }

    /// A store accepts a decision that was made under this revision.
    pub fn check_accepted(&mut self, store: usize, revision: Revision) {
        let holds = self.acknowledged.by(self.now);
        if revision < holds {
            self.violate(format!("store {store} accepts revision {revision}, and {holds} was acknowledged before"));
        }
    }

    /// The decision about a request that no store confirms: its snapshot may lack only changes that were acknowledged
    /// less than 2 s before the request arrived.
    pub fn check_unconfirmed(&mut self, request: usize, snapshot: &Snapshot) {
        let since = self.requests[request].arrived_at.saturating_sub(Timing::DEFAULT.snapshot_max_age_ms);
        let holds = self.acknowledged.by(since);
        if snapshot.revision < holds {
            let text = format!("a decision uses revision {}, and {holds} was acknowledged", snapshot.revision);
            self.violate(text);
        }
    }

    /// All services are registered and take work.
    fn registry_recovers(&mut self) {
        for at in 0..self.services.len() {
            let name = &self.services[at].name;
            let put = Write::put_service(name.as_str(), self.services[at].body(false));
            if !self.is_registered(name) {
                self.arrange_registry(&put.anew());
            } else if self.is_draining(name) {
                self.arrange_registry(&put);
            }
        }
    }

    fn is_draining(&self, service: &ServiceId) -> bool {
        self.stored_service_text(service).is_some_and(|text| text.contains(r#""draining":true"#))
    }

    /// The first state of the registry: what was written, and learned by all, before the world began.
    pub fn arrange_documents(&mut self) {
        self.registry.storage.restore(first_disk());
        for at in 0..self.services.len() {
            let (name, body) = (self.services[at].name.clone(), self.services[at].body(false));
            let text = stored_service(&name, body);
            self.recipients.configure(&text);
            self.registry.storage.put_text("service", name.as_str(), &text).unwrap();
        }
    }
}

thread_local! {
    /// The disk of a registry that has the role and the keys. The same in all worlds.
    static FIRST_DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
    /// Services as a registry stores them, by their documents.
    static SERVICES: RefCell<HashMap<String, Rc<str>>> = RefCell::default();
}

fn first_disk() -> Disk {
    let make = || {
        let keys = (0..KEYS).map(|key| Write::create_key(format!("k{key}")));
        written([Write::put_role(true).anew()].into_iter().chain(keys))
    };
    FIRST_DISK.with_borrow_mut(|disk| disk.get_or_insert_with(make).clone())
}

fn stored_service(name: &ServiceId, body: String) -> Rc<str> {
    let make = || {
        let put = Write::put_service(name.as_str(), body.clone()).anew();
        written([put]).documents.into_values().next().unwrap()
    };
    SERVICES.with_borrow_mut(|services| services.entry(body.clone()).or_insert_with(make).clone())
}

/// The disk of a registry after these writes by a version without an index, and without what it has published.
fn written(writes: impl IntoIterator<Item = Write>) -> Disk {
    let (storage, now, author) = (MemoryStorage::default(), Timestamp(BEGINNING), Author::default());
    let mut registry = Registry::open(storage.clone(), CONFIG, now).unwrap();
    registry.remember_tenant(&TenantId::first()).unwrap();
    registry.set_own_secret(own_secret());
    for write in writes {
        write.apply(&mut registry, &Turn::new(&author, now, [0; 10])).unwrap();
    }
    let disk = storage.snapshot();
    let (outlines, changes) = (BTreeMap::new(), BTreeSet::new());
    Disk { outlines, changes, outbox: BTreeMap::new(), notifications: BTreeMap::new(), last_event: 0, ..disk }
}
