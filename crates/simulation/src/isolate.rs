//! Isolates: each caches the registry and what it has observed of the services. All workers and consumers of an
//! isolate die with it.

use std::collections::BTreeMap;
use std::rc::Rc;

use narthex_core::base::service_id::ServiceId;
use narthex_core::base::timing::Timing;
use narthex_core::execution::known_service::KnownService;
use narthex_core::lane::live::Live;
use narthex_core::services::Service;

use crate::world::World;

/// A service in a snapshot.
#[derive(Debug, Clone)]
pub struct KnownEntry {
    service: Rc<Service>,
    live: Rc<Live>,
    /// Its lane, by the index of the service in the world.
    pub lane: usize,
}

impl KnownService for KnownEntry {
    fn service(&self) -> &Service {
        &self.service
    }

    fn live(&self) -> &Live {
        &self.live
    }
}

/// The registry at one revision, as an isolate knows it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub revision: u64,
    pub services: Vec<KnownEntry>,
    fetched_at: u64,
}

#[derive(Debug, Default)]
pub struct Isolate {
    pub snapshot: Rc<Snapshot>,
    lives: BTreeMap<ServiceId, Rc<Live>>,
}

/// The registry: the registered services, and the number of the last change.
#[derive(Debug, Default)]
pub struct Registry {
    pub revision: u64,
    /// By the index of the service in the world; `None` if it is not registered.
    pub services: Vec<Option<Rc<Service>>>,
}

impl World {
    /// The snapshot of an isolate, if it is fresh.
    pub fn fresh_snapshot(&self, isolate: usize) -> Option<Rc<Snapshot>> {
        let snapshot = &self.isolates[isolate].snapshot;
        let is_fresh = snapshot.revision > 0 && self.now - snapshot.fetched_at < Timing::DEFAULT.snapshot_max_age_ms;
        is_fresh.then(|| snapshot.clone())
    }

    /// The cached snapshot, of any age, for a decision that a store confirms.
    pub fn any_snapshot(&mut self, isolate: usize) -> Rc<Snapshot> {
        let cached = self.isolates[isolate].snapshot.clone();
        if cached.revision > 0 { cached } else { self.fetch(isolate) }
    }

    /// Reads the registry now.
    pub fn fetch(&mut self, isolate: usize) -> Rc<Snapshot> {
        let cached = &mut self.isolates[isolate];
        let registered = self.registry.services.iter().enumerate();
        let services = registered.filter_map(|(lane, service)| {
            let service = service.clone()?;
            let live = cached.lives.entry(service.id.clone()).or_default().clone();
            live.update_observed(self.services[lane].lane.seen);
            Some(KnownEntry { service, live, lane })
        });
        let services = services.collect();
        let snapshot = Rc::new(Snapshot { revision: self.registry.revision, services, fetched_at: self.now });
        cached.snapshot = snapshot.clone();
        snapshot
    }

    /// What a lane's reply says of its service.
    pub fn observe_service(&mut self, isolate: usize, service: usize) {
        let Self { isolates, services, .. } = self;
        if let Some(live) = isolates[isolate].lives.get(&services[service].name) {
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
        self.isolates[isolate] = Isolate::default();
        self.attempts.retain(|(of, _), _| *of != isolate);
        self.workers.retain(|_, worker| worker.isolate != isolate);
        self.consumers.retain(|_, consumer| consumer.isolate != isolate);
        for request in 0..self.requests.len() {
            self.gateway_dies(request, isolate);
        }
    }

    /// Something changes in the registry. The change is acknowledged once every store knows its revision.
    pub fn registry_changes(&mut self) {
        let at = self.dice.below(self.services.len() as u64) as usize;
        let changed = match &self.registry.services[at] {
            None => Some(self.services[at].document.clone()),
            // Something that no worker depends on: a key, a role.
            Some(service) if self.dice.chance(400) => Some(service.clone()),
            Some(_) if self.dice.chance(300) => None,
            Some(service) => Some(Rc::new(Service { draining: !service.draining, ..Service::clone(service) })),
        };
        self.note(|| format!("s{at} becomes {:?}", changed.as_ref().map(|service| service.draining)));
        self.registry.services[at] = changed;
        self.learn_revision();
    }

    /// All services are registered and take work.
    pub fn registry_recovers(&mut self) {
        self.registry.services = self.services.iter().map(|service| Some(service.document.clone())).collect();
        self.learn_revision();
    }

    fn learn_revision(&mut self) {
        self.registry.revision += 1;
        for store in &mut self.stores {
            store.revision = self.registry.revision;
        }
    }
}
