//! Isolates: each caches the registry and what it has observed of the services. All workers and consumers of an
//! isolate die with it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::execution::known_service::KnownService;
use narthex_core::lane::live::Live;
use narthex_core::registry::copy::RegistryCopy;
use narthex_core::registry::messages::{DocumentKind, IndexData, ReadSnapshot, SnapshotReply, StoredOutline};
use narthex_core::registry::revision::Revision;
use narthex_core::services::outline::ServiceOutline;

use crate::administrator::EVENTS;
use crate::messages::{Actor, Call, Reply};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::registry_object::{Index, RegistryAsk, RegistryReply, state_of};
use crate::world::World;

/// A service in a snapshot.
#[derive(Debug, Clone)]
pub struct KnownEntry {
    outline: Rc<StoredOutline>,
    live: Rc<Live>,
    /// Its lane, by the index of the service in the world.
    pub lane: usize,
}

impl KnownService for KnownEntry {
    fn service(&self) -> &ServiceOutline {
        &self.outline.service
    }

    fn live(&self) -> &Live {
        &self.live
    }
}

/// The registry at one revision, as an isolate knows it.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub revision: Revision,
    pub services: Vec<KnownEntry>,
    pub keys: Vec<String>,
    /// Whether the role of the keys has the permission that sockets need.
    pub may_read_events: bool,
    stores: usize,
    /// What it was made from; `None` for an isolate that has read nothing yet.
    pub copy: Option<RegistryCopy>,
    /// When it was requested; `None` for an isolate that has read nothing yet.
    fetched_at: Cell<Option<u64>>,
}

impl Snapshot {
    /// The present registration of a service.
    pub fn registered(&self, service: &ServiceId) -> Registered {
        let known = self.services.iter().find(|known| known.service().id == *service);
        let since = known.map(|known| (known.outline.created_at, known.outline.moved_at)).unwrap_or_default();
        (service.clone(), since.0, since.1)
    }

    /// How long ago it was requested.
    pub fn age_ms(&self, now: u64) -> u64 {
        self.fetched_at.get().map_or(u64::MAX, |at| now - at)
    }
}

/// A service since it was registered and got its address: what is known of it begins anew then.
pub type Registered = (ServiceId, Timestamp, Timestamp);

#[derive(Debug, Default)]
pub struct Isolate {
    pub snapshot: Rc<Snapshot>,
    /// What is known of each service since it was registered and got its address.
    lives: BTreeMap<Registered, Rc<Live>>,
    /// The number of isolates that were at this place before.
    life: u64,
}

/// A reading of the registry in progress.
pub struct Read {
    isolate: usize,
    life: u64,
    known: Rc<Snapshot>,
    asked_at: u64,
}

impl World {
    /// The snapshot of an isolate, if it is fresh.
    pub fn fresh_snapshot(&self, isolate: usize) -> Option<Rc<Snapshot>> {
        let snapshot = &self.isolates[isolate].snapshot;
        (snapshot.age_ms(self.now) < Timing::DEFAULT.snapshot_max_age_ms).then(|| snapshot.clone())
    }

    /// The cached snapshot, of any age, for a decision that a store confirms.
    pub fn any_snapshot(&self, isolate: usize) -> Option<Rc<Snapshot>> {
        let snapshot = &self.isolates[isolate].snapshot;
        snapshot.fetched_at.get().map(|_| snapshot.clone())
    }

    /// Reads the registry for an isolate. Returns the number that identifies the reply.
    pub fn read_registry(&mut self, actor: Actor, isolate: usize) -> u64 {
        let known = self.isolates[isolate].snapshot.clone();
        let revision = known.fetched_at.get().map(|_| known.revision);
        let read = ReadSnapshot { known: revision, stores: known.stores, index: true, ..ReadSnapshot::default() };
        let number = self.ask_registry(actor, RegistryAsk::Read(Rc::new(read)), REPLY_TIMEOUT_MS);
        let life = self.isolates[isolate].life;
        self.reads.insert(number, Read { isolate, life, known, asked_at: self.now });
        number
    }

    /// The registry has answered, or not.
    pub fn registry_read(&mut self, read: Read, call: Call, reply: &Reply) {
        let snapshot = match reply {
            Reply::Registry(RegistryReply::Snapshot(reply)) => self.snapshot_read(read, reply),
            _ => None,
        };
        match call.actor {
            Actor::Worker(worker) => self.worker_fetched(worker, call.number, snapshot),
            Actor::Consumer(consumer) => self.consumer_fetched(consumer, call.number, snapshot),
            Actor::Request(request) => self.request_fetched(request, call.number, snapshot),
            Actor::Canceller(request) if snapshot.is_some() => self.cancel(request),
            Actor::Viewer => {
                if let Some(snapshot) = snapshot {
                    self.viewer_fetched(&snapshot);
                }
            }
            Actor::Job(_)
            | Actor::Canceller(_)
            | Actor::Lane(_)
            | Actor::Sweep(_)
            | Actor::Registry
            | Actor::Store(_)
            | Actor::Administrator(_)
            | Actor::None => {}
        }
    }

    /// The snapshot that a reply leads to; the isolate caches it unless it has a newer one.
    fn snapshot_read(&mut self, read: Read, reply: &SnapshotReply) -> Option<Rc<Snapshot>> {
        let Read { isolate, life, known, asked_at } = read;
        if self.isolates[isolate].life != life {
            return None;
        }
        let snapshot = match reply {
            SnapshotReply::Unchanged => known,
            SnapshotReply::Measured { measured, .. } => {
                for known in &known.services {
                    let observed = measured.iter().find(|(service, _)| *service == known.outline.service.id);
                    observed.inspect(|(_, observed)| known.live.update_observed(*observed));
                }
                known
            }
            SnapshotReply::Index(data) => Rc::new(self.snapshot_of(isolate, &known, data)?),
            SnapshotReply::Snapshot(_) => return None,
        };
        // Its age counts from the request, not from the reply.
        let counts_from = if self.mutant == Some(Mutant::SnapshotsAgeFromReplies) { self.now } else { asked_at };
        snapshot.fetched_at.set(snapshot.fetched_at.get().max(Some(counts_from)));
        let cached = &mut self.isolates[isolate].snapshot;
        if cached.revision <= snapshot.revision {
            *cached = snapshot.clone();
        }
        Some(snapshot)
    }

    fn snapshot_of(&mut self, isolate: usize, known: &Snapshot, data: &IndexData) -> Option<Snapshot> {
        let copy = self.copy_of(known.copy.as_ref(), data)?;
        let Self { isolates, services, .. } = self;
        let entry = |outline: &Rc<StoredOutline>| {
            let id = &outline.service.id;
            let lane = services.iter().position(|service| service.name == *id)?;
            let since = (id.clone(), outline.created_at, outline.moved_at);
            let live = isolates[isolate].lives.entry(since).or_default().clone();
            let measured = data.measured.iter().find(|(service, _)| service == id);
            measured.inspect(|(_, observed)| live.update_observed(*observed));
            Some(KnownEntry { outline: outline.clone(), live, lane })
        };
        let role = copy.documents.iter().find(|stored| stored.kind == DocumentKind::Role);
        Some(Snapshot {
            revision: copy.revision,
            services: copy.outlines.iter().filter_map(entry).collect(),
            keys: copy.keys.iter().map(|key| key.id.clone()).collect(),
            may_read_events: role.is_some_and(|role| role.document.get().contains(EVENTS)),
            stores: copy.stores.len(),
            copy: Some(copy),
            fetched_at: Cell::default(),
        })
    }

    /// The copy that an isolate has after reading an index, or the changes of one.
    fn copy_of(&mut self, known: Option<&RegistryCopy>, data: &IndexData) -> Option<RegistryCopy> {
        let mut data = data.clone();
        if self.mutant == Some(Mutant::CopiesKeepDeleted) {
            data.deleted.clear();
        }
        let copy = match data.since {
            Some(since) => {
                self.statistics.count("index changed");
                let changed = known.and_then(|known| known.changed(&mut data));
                if changed.is_none() {
                    self.violate(format!("the changes since revision {since} are not those that were asked for"));
                }
                changed?
            }
            None => RegistryCopy::new(&mut data),
        };
        self.check_copy(&copy);
        Some(copy)
    }

    /// Whatever changes led to it, a copy is the index of the registry at its revision.
    fn check_copy(&mut self, copy: &RegistryCopy) {
        let form = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap_or_default();
        let mut index = Index::new();
        for outline in &copy.outlines {
            let key = ("service".to_string(), outline.service.id.to_string());
            index.insert(key, form(&|| serde_json::to_string(&**outline)));
        }
        for key in &*copy.keys {
            index.insert(("key".into(), key.id.clone()), form(&|| serde_json::to_string(key)));
        }
        for stored in &*copy.documents {
            let key = (stored.kind.as_str().to_string(), stored.id.clone());
            index.insert(key, form(&|| serde_json::to_string(stored)));
        }
        let state = state_of(&index);
        if self.indexes.get(&copy.revision).is_none_or(|expected| *expected != state) {
            self.violate(format!("a copy is not the registry at revision {}", copy.revision));
        }
    }

    /// What a lane's reply says of its service.
    pub fn observe_service(&mut self, isolate: usize, service: usize) {
        let Self { isolates, services, .. } = self;
        for (_, live) in isolates[isolate].lives.iter().filter(|((id, ..), _)| *id == services[service].name) {
            live.update_observed(services[service].lane.seen);
        }
    }

    /// The platform ends a worker, or its whole isolate. A consumer's workers die with it.
    pub fn crash(&mut self, isolate: usize, worker: Option<u64>, consumer: Option<u64>) {
        if self.dice.chance(200) {
            return self.isolate_dies(isolate);
        }
        self.statistics.deaths += 1;
        let consumer = consumer.or_else(|| self.workers.get(&worker?)?.consumer.map(|(consumer, _)| consumer));
        self.note(|| format!("worker {worker:?} of consumer {consumer:?} dies"));
        if let Some(worker) = worker {
            self.workers.remove(&worker);
        }
        if let Some(consumer) = consumer {
            self.consumer_dies(consumer);
        }
    }

    /// A consumer ends, with everything that it runs.
    pub fn consumer_dies(&mut self, consumer: u64) {
        self.consumers.remove(&consumer);
        self.workers.retain(|_, worker| worker.consumer.is_none_or(|(of, _)| of != consumer));
    }

    /// An isolate dies, with everything in it.
    fn isolate_dies(&mut self, isolate: usize) {
        self.statistics.deaths += 1;
        self.note(|| format!("isolate {isolate} dies"));
        let life = self.isolates[isolate].life + 1;
        self.isolates[isolate] = Isolate { life, ..Isolate::default() };
        self.attempts.retain(|(of, _), _| *of != isolate);
        self.workers.retain(|_, worker| worker.isolate != isolate);
        self.consumers.retain(|_, consumer| consumer.isolate != isolate);
        for request in 0..self.requests.len() {
            self.gateway_dies(request, isolate);
        }
    }
}
