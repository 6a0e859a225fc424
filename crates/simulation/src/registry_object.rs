//! The registry as its object runs it: a message is one turn, whose writes and alarm are stored together or not at all.
//! Like a store, it may crash before the writes, or between any two effects after them.
//!
//! A write is answered once the core says that it holds, if the object still lives then.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use narthex_core::access::audit::Actor as Author;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::oauth::registrations::Lifetimes;
use narthex_core::base::id::StoreId;
use narthex_core::base::retries::CallFault;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::registry::followers::Push;
use narthex_core::registry::memory::{Disk, MemoryStorage};
use narthex_core::registry::messages::{ReadSnapshot, ReportStatus, SnapshotReply, StatusReply};
use narthex_core::registry::replies::HelloReply;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::secrets::OwnSecret;
use narthex_core::registry::{Config, Receipt, Registry, Turn, WriteError};

use crate::administrator::Write;
use crate::messages::{Actor, Call, Event, RegistryEvent, Reply};
use crate::mutants::Mutant;
use crate::store::Fate;
use crate::world::World;

/// The registry among the sources of the hub.
pub const REGISTRY: usize = usize::MAX;
const NEVER_MS: u64 = 400 * 86_400_000;

/// Nothing is deleted for its age in a world's time.
pub const CONFIG: Config = Config {
    audit_retention_ms: NEVER_MS,
    registrations: Lifetimes { unused_ms: NEVER_MS, idle_ms: NEVER_MS },
    timing: Timing::DEFAULT,
};

#[derive(Debug, Clone)]
pub enum RegistryAsk {
    /// A store asks for the revision.
    Hello(StoreId),
    Read(Rc<ReadSnapshot>),
    Write(Rc<Write>),
    /// A lane reports the status of its service.
    Report(Rc<ReportStatus>),
    Sweep,
}

#[derive(Debug, Clone)]
pub enum RegistryReply {
    Hello(Revision),
    Snapshot(Rc<SnapshotReply>),
    /// A write was made or refused; the reply reflects this revision.
    Written(Revision),
    Measured(StatusReply),
    Swept,
}

/// What isolates keep of a registry, by kind and id.
pub type Index = BTreeMap<(String, String), String>;

pub fn state_of(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The index that the disk has.
fn index_of(disk: &Disk) -> Index {
    let kept = |((kind, id), text): (&(String, String), &Rc<str>)| {
        let outline = (kind == "service").then(|| disk.outlines.get(id).map(|(_, outline)| outline.to_string()));
        ((kind.clone(), id.clone()), outline.flatten().unwrap_or_else(|| text.to_string()))
    };
    disk.documents.iter().map(kept).collect()
}

/// A message of the registry that is under way.
pub enum Sent {
    Push(Push),
    Notification(u64),
    Batch,
}

/// The answer to a write, and what must hold before it is sent.
struct Waiting {
    call: Call,
    receipt: Receipt,
    since: u64,
}

/// How long the answer to a write may wait: as long as a store may rely on what it knows, with the margin for clocks,
/// counted from the end of a push.
const MAX_WAIT_MS: u64 = 34_000;

#[derive(Default)]
pub struct RegistryObject {
    pub storage: MemoryStorage,
    pub registry: Option<Registry<MemoryStorage>>,
    /// The number of this instance.
    pub life: u64,
    /// The difference between its clock and the world's.
    pub offset: i64,
    pub sent: BTreeMap<u64, Sent>,
    waiting: Vec<Waiting>,
    pub timer: Option<Timestamp>,
    /// Its alarm was lost; only the sweep by cron can wake it.
    pub asleep: bool,
}

impl RegistryObject {
    /// The revision on disk.
    pub fn revision(&self) -> Revision {
        let stored = self.storage.read(|disk| disk.meta.get("revision").cloned());
        stored.as_deref().and_then(Revision::parse).unwrap_or_default()
    }
}

pub fn own_secret() -> OwnSecret {
    OwnSecret { encrypted: EncryptedSecret::plaintext("own".into()), plaintext: "own".into() }
}

impl World {
    pub fn registry_happens(&mut self, event: RegistryEvent) {
        match event {
            RegistryEvent::Arrives { call, ask } => self.reach_registry(call, &ask),
            RegistryEvent::Changes => self.registry_changes(),
            RegistryEvent::ChangeAgain { change } => self.send_change(change),
            RegistryEvent::Ticks { life } => self.registry_ticks(life),
            RegistryEvent::Alarm { at } => self.registry_alarm(at),
            RegistryEvent::Dies => {
                self.statistics.crashes += 1;
                self.note(|| "the registry crashes at rest".into());
                self.registry_dies();
            }
            RegistryEvent::Notified { call, content } => self.notified(call, &content),
            RegistryEvent::OpenSockets { isolate } => self.open_sockets(isolate),
            RegistryEvent::SocketOpens { key } => self.socket_opens(key),
        }
    }

    pub fn registry_clock(&self) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.registry.offset))
    }

    /// Starts a new instance from the storage, if there is none.
    fn wake_registry(&mut self) {
        if self.registry.registry.is_some() {
            return;
        }
        self.registry.life += 1;
        let storage = self.registry.storage.clone();
        let hides_stores = self.mutant == Some(Mutant::TrustsSilentStores) && self.registry.life > 1;
        let stores = storage.hide_stores(hides_stores);
        let opened = Registry::open(storage.clone(), CONFIG, self.registry_clock());
        storage.show_stores(stores);
        let Ok(mut registry) = opened else { return };
        registry.set_own_secret(own_secret());
        self.registry.registry = Some(registry);
    }

    pub fn registry_dies(&mut self) {
        let object = &mut self.registry;
        object.registry = None;
        object.sent.clear();
        object.timer = None;
        for Waiting { call, .. } in std::mem::take(&mut object.waiting) {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
    }

    /// Runs one turn, and then its effects. `None` if the object crashed before it could reply.
    pub fn registry_turn<T>(&mut self, decide: impl FnOnce(&mut Registry<MemoryStorage>, &Turn<'_>) -> T) -> Option<T> {
        self.wake_registry();
        let (now, fate) = (self.registry_clock(), self.fate());
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.dice.throw().to_le_bytes());
        let author = Author { actor: "key:admin".into(), ..Author::default() };
        let turn = Turn::new(&author, now, random);
        let before = matches!(fate, Fate::Unwritten).then(|| self.registry.storage.snapshot());
        if self.dice.chance(self.faults.disk) {
            self.statistics.count("registry disk");
            let nth = self.dice.below(6) as u32;
            self.registry.storage.fail_write(Some(nth));
        }
        let access_before = self.access();
        let registry = self.registry.registry.as_mut()?;
        let decided = decide(registry, &turn);
        let (effects, wake_at) = (registry.take_effects(now), registry.wake_at(now));
        self.registry.storage.fail_write(None);
        if let Some(before) = before {
            self.registry.storage.restore(before);
            self.note(|| "the registry crashes, and nothing was written".into());
            self.registry_dies();
            return None;
        }
        self.access_changed(&access_before);
        if let Some(alarm) = effects.alarm.filter(|_| self.mutant != Some(Mutant::RegistryForgetsAlarms)) {
            self.set_registry_alarm(alarm);
        }
        let left = if let Fate::After(left) = fate { left } else { u64::MAX };
        let done = self.carry_out_for_registry(effects, left);
        if left != u64::MAX {
            self.note(|| format!("the registry crashes after {left} effects"));
            self.registry_dies();
            return (done < left).then_some(decided);
        }
        self.wake_registry_later(wake_at);
        self.answer_settled();
        Some(decided)
    }

    /// Sends a message to the registry. Returns the number that identifies the reply.
    pub fn ask_registry(&mut self, actor: Actor, ask: RegistryAsk, patience_ms: u64) -> u64 {
        let call = Call { actor, number: self.number() };
        let travels = self.travel();
        let (patience, fault) = self.patience();
        let patience_ms = if travels.is_empty() { patience.min(patience_ms) } else { patience_ms };
        self.schedule(self.now + patience_ms, Event::Replied { call, reply: Reply::Failed(fault) });
        for delay in travels {
            self.schedule(self.now + delay, Event::Registry(RegistryEvent::Arrives { call, ask: ask.clone() }));
        }
        call.number
    }

    pub fn reach_registry(&mut self, call: Call, ask: &RegistryAsk) {
        self.note(|| format!("the registry gets {ask:?}"));
        let reply = match ask {
            RegistryAsk::Hello(store) => self.registry_turn(|registry, turn| {
                registry
                    .hello(*store, turn.now)
                    .map(|HelloReply::Revision { revision, .. }| RegistryReply::Hello(revision))
            }),
            RegistryAsk::Read(read) => self.read_at_registry(read),
            RegistryAsk::Report(report) => {
                self.registry_turn(|registry, turn| registry.measure(report, turn.now).map(RegistryReply::Measured))
            }
            RegistryAsk::Write(write) => return self.write_at_registry(call, write),
            RegistryAsk::Sweep => {
                self.registry_turn(|registry, turn| registry.sweep(turn).map(|()| RegistryReply::Swept))
            }
        };
        if matches!(ask, RegistryAsk::Sweep) && reply.is_some() {
            self.registry.asleep = false;
        }
        let reply = reply.and_then(Result::ok).map_or(Reply::Failed(CallFault::Failed), Reply::Registry);
        self.reply(call, reply);
    }

    fn read_at_registry(&mut self, read: &ReadSnapshot) -> Option<Result<RegistryReply, StorageError>> {
        let known = read.known;
        let read = self.registry_turn(|registry, _| registry.snapshot(read))?;
        let revision = match &read {
            Ok(SnapshotReply::Snapshot(data)) => Some(data.revision),
            Ok(SnapshotReply::Index(data)) => Some(data.revision),
            Ok(SnapshotReply::Unchanged | SnapshotReply::Measured { .. }) => known,
            Err(_) => None,
        };
        let (state, index) = self.registry.storage.read(|disk| (state_of(&disk.documents), state_of(&index_of(disk))));
        if let Some(revision) = revision
            && self.states.insert(revision, state).is_some_and(|other| other != state)
        {
            self.violate(format!("revision {revision} identifies two states"));
        }
        self.indexes.extend(revision.map(|revision| (revision, index)));
        Some(read.map(|reply| RegistryReply::Snapshot(Rc::new(reply))))
    }

    /// Makes a write, whose answer waits until it holds.
    fn write_at_registry(&mut self, call: Call, write: &Write) {
        let forgets = self.mutant == Some(Mutant::AnswersBeforeNotifying);
        let written = self.registry_turn(|registry, turn| {
            registry.begin_write();
            let outcome = write.apply(registry, turn);
            let receipt = registry.receipt();
            // The second one has no notifications.
            let receipt = if forgets { registry.receipt() } else { receipt };
            (outcome, receipt)
        });
        let Some((outcome, receipt)) = written else {
            return self.reply(call, Reply::Failed(CallFault::Failed));
        };
        match outcome {
            Ok(()) => self.statistics.count("write"),
            Err(WriteError::Refused(_)) => self.statistics.count("write refused"),
            Err(WriteError::Failed(_)) => return self.reply(call, Reply::Failed(CallFault::Failed)),
        }
        let answers_at_once = match self.mutant {
            Some(Mutant::AnswersBeforeStoresKnow) => outcome.is_ok(),
            Some(Mutant::RefusesBeforeStoresKnow) => outcome.is_err(),
            _ => false,
        };
        if answers_at_once {
            return self.reply(call, Reply::Registry(RegistryReply::Written(receipt.revision)));
        }
        // It may have crashed after its last effect.
        if self.registry.registry.is_some() {
            self.registry.waiting.push(Waiting { call, receipt, since: self.now });
            // Asking for the receipt may have made pushes due.
            self.registry_turn(|_, _| ());
        } else {
            self.reply(call, Reply::Failed(CallFault::Failed));
        }
    }

    /// Answers the writes that hold now.
    fn answer_settled(&mut self) {
        let now = self.registry_clock();
        let object = &mut self.registry;
        let Some(registry) = &object.registry else { return };
        let (settled, waiting) = std::mem::take(&mut object.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| registry.is_settled(&waiting.receipt, now));
        object.waiting = waiting;
        for Waiting { call, receipt, since } in settled {
            self.statistics.count(if self.now - since > 25_000 { "answered late" } else { "answered" });
            self.check_settled(call);
            self.reply(call, Reply::Registry(RegistryReply::Written(receipt.revision)));
        }
        let waits = |waiting: &Waiting| self.now - waiting.since > MAX_WAIT_MS;
        if self.statistics.jumps == 0 && self.registry.waiting.iter().any(waits) {
            self.violate("the answer to a write waits for too long".into());
        }
    }

    /// Changes the registry when there are no faults.
    pub fn arrange_registry(&mut self, write: &Write) {
        let author = Author::default();
        self.wake_registry();
        let (now, random, access_before) = (self.registry_clock(), [0; 10], self.access());
        let Some(registry) = &mut self.registry.registry else { return };
        write.apply(registry, &Turn::new(&author, now, random)).unwrap();
        let effects = registry.take_effects(now);
        if let Some(alarm) = effects.alarm {
            self.set_registry_alarm(alarm);
        }
        self.carry_out_for_registry(effects, u64::MAX);
        self.access_changed(&access_before);
    }

    /// At the end, no answer waits.
    pub fn check_answers(&mut self) {
        if !self.registry.waiting.is_empty() {
            self.violate("the answer to a write still waits".into());
        }
    }

    /// The contents of the registry's disk.
    pub fn registry_disk(&self) -> Disk {
        self.registry.storage.snapshot()
    }

    /// A service as the registry has stored it, if it is registered now.
    pub fn stored_service_text(&self, service: &ServiceId) -> Option<Rc<str>> {
        let key = ("service".to_string(), service.to_string());
        self.registry.storage.read(|disk| disk.documents.get(&key).cloned())
    }
}
