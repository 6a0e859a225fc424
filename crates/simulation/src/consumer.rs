//! Consumers: a wake-up message, or the sweep, starts one. Each performs the actions of the core's consumer, and may
//! die with all that it runs.

use std::rc::Rc;

use narthex_core::base::id::StoreId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::context_store::messages::ClaimWork;
use narthex_core::context_store::replies::{ClaimReply, Work};
use narthex_core::execution::consumer::{ClaimTerms, Consumer as Machine, ConsumerAction, ConsumerEvent, RunNumber};

use crate::isolate::Snapshot;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::store::LEASE_MS;
use crate::worker::{NewWorker, TIMING};
use crate::world::World;

/// How many times the platform delivers a message again that failed.
const MAX_DELIVERIES: u64 = 3;

/// A claim in progress.
struct Claim {
    number: u64,
    store: StoreId,
    at_limit: Vec<ServiceId>,
}

pub struct Consumer {
    store: usize,
    pub isolate: usize,
    tries: u64,
    machine: Machine,
    claim: Option<Claim>,
    snapshot: Rc<Snapshot>,
    /// The context that was claimed and is about to run.
    claimed: Option<(Work, usize)>,
    timer: Option<(Timestamp, u64)>,
}

impl World {
    /// The queue delivers a wake-up message for a store.
    pub fn deliver_wakeup(&mut self, store: usize, tries: u64) {
        let (key, isolate) = (self.number(), self.dice.below(self.isolates.len() as u64) as usize);
        let machine = Machine::new(self.stores[store].id, Timestamp(self.now), &TIMING);
        let snapshot = self.isolates[isolate].snapshot.clone();
        let consumer = Consumer { store, isolate, tries, machine, claim: None, snapshot, claimed: None, timer: None };
        self.consumers.insert(key, consumer);
        self.consume(key, ConsumerEvent::Started);
    }

    fn consume(&mut self, key: u64, event: ConsumerEvent<'_>) {
        let Some(isolate) = self.consumers.get(&key).map(|consumer| consumer.isolate) else { return };
        if self.dice.chance(self.faults.die) {
            return self.crash(isolate, None, Some(key));
        }
        self.note(|| format!("consumer {key}: {event:?}"));
        let now = Timestamp(self.now);
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let actions = consumer.machine.on(event, now);
        for action in self.distort_consumer(actions) {
            self.note(|| format!("consumer {key} shall {action:?}"));
            self.perform_for_consumer(key, action);
        }
        self.set_consumer_timer(key);
    }

    fn set_consumer_timer(&mut self, key: u64) {
        let timer = self.number();
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let wake_at = consumer.machine.wake_at();
        if consumer.timer.map(|(at, _)| at) == wake_at {
            return;
        }
        consumer.timer = wake_at.map(|at| (at, timer));
        if let Some(at) = wake_at {
            self.schedule(at.0.max(self.now), Event::WakeConsumer { consumer: key, timer });
        }
    }

    pub fn wake_consumer(&mut self, key: u64, timer: u64) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        if consumer.timer.take_if(|(_, set)| *set == timer).is_some() {
            self.consume(key, ConsumerEvent::TimePassed);
        }
    }

    fn perform_for_consumer(&mut self, key: u64, action: ConsumerAction) {
        match action {
            ConsumerAction::Claim { store, at_limit } => {
                let Some(consumer) = self.consumers.get_mut(&key) else { return };
                if consumer.claim.replace(Claim { number: 0, store, at_limit }).is_some() {
                    return self.violate(format!("consumer {key} makes two claims at once"));
                }
                let isolate = consumer.isolate;
                match self.fresh_snapshot(isolate) {
                    Some(snapshot) => self.claim(key, snapshot),
                    None => self.fetch_for_claim(key),
                }
            }
            ConsumerAction::Run { number } => self.run_claimed(key, number),
            ConsumerAction::Finish => self.end_consumer(key),
            ConsumerAction::Fail => {
                // The platform delivers the message again, a few times.
                let failed = self.consumers.get(&key).map(|failed| (failed.store, failed.tries));
                self.end_consumer(key);
                if let Some((store, tries)) = failed.filter(|(_, tries)| *tries < MAX_DELIVERIES) {
                    let again = self.now + self.dice.between(500, 5_000);
                    self.schedule(again, Event::Wakeup { store, tries: tries + 1 });
                }
            }
        }
    }

    /// The invocation of a consumer ends, and with it all that it still runs.
    fn end_consumer(&mut self, key: u64) {
        if self.workers.values().any(|worker| worker.consumer.is_some_and(|(consumer, _)| consumer == key)) {
            self.violate(format!("consumer {key} finishes before its contexts"));
        }
        self.consumer_dies(key);
    }

    fn fetch_for_claim(&mut self, key: u64) {
        let Some(isolate) = self.consumers.get(&key).map(|consumer| consumer.isolate) else { return };
        let number = self.read_registry(Actor::Consumer(key), isolate);
        if let Some(claim) = self.consumers.get_mut(&key).and_then(|consumer| consumer.claim.as_mut()) {
            claim.number = number;
        }
    }

    /// The registry has answered.
    pub fn consumer_fetched(&mut self, key: u64, number: u64, snapshot: Option<Rc<Snapshot>>) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        if consumer.claim.as_ref().is_none_or(|claim| claim.number != number) {
            return;
        }
        match snapshot {
            Some(snapshot) => self.claim(key, snapshot),
            None => {
                consumer.claim = None;
                self.consume(key, ConsumerEvent::ClaimFailed);
            }
        }
    }

    fn claim(&mut self, key: u64, snapshot: Rc<Snapshot>) {
        let now = Timestamp(self.now);
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let Some(Claim { store, at_limit, .. }) = &consumer.claim else { return };
        let ClaimTerms { gated, without, again_at } = ClaimTerms::of(&snapshot.services, at_limit, now);
        let ask = Ask::ClaimWork(ClaimWork { lease_ms: LEASE_MS, gated, without, again_at });
        let (store, revision) = (*store, snapshot.revision);
        consumer.snapshot = snapshot;
        let store = self.stores.iter().position(|known| known.id == store).unwrap();
        let number = self.ask(Actor::Consumer(key), store, revision, ask);
        if let Some(claim) = self.consumers.get_mut(&key).and_then(|consumer| consumer.claim.as_mut()) {
            claim.number = number;
        }
    }

    pub fn consumer_replied(&mut self, key: u64, number: u64, reply: Reply) {
        let stores: Vec<StoreId> = self.stores.iter().map(|store| store.id).collect();
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let Some(claim) = consumer.claim.take_if(|claim| claim.number == number) else { return };
        match reply {
            Reply::Stale => {
                consumer.claim = Some(claim);
                self.fetch_for_claim(key);
            }
            Reply::Claim(ClaimReply::Leased(work) | ClaimReply::Offered(work)) => {
                let offered_for = work.hold.is_offered().then(|| work.admission.service.clone());
                consumer.claimed = Some((*work, stores.iter().position(|store| *store == claim.store).unwrap()));
                self.consume(key, ConsumerEvent::Claimed { offered_for });
            }
            Reply::Claim(ClaimReply::Nothing) => self.consume(key, ConsumerEvent::NothingReady { stores: &stores }),
            _ => self.consume(key, ConsumerEvent::ClaimFailed),
        }
    }

    fn run_claimed(&mut self, key: u64, run: RunNumber) {
        let Some(consumer) = self.consumers.get_mut(&key) else { return };
        let Some((work, store)) = consumer.claimed.take() else {
            return self.violate(format!("consumer {key} runs what it has not claimed"));
        };
        let (isolate, snapshot) = (consumer.isolate, consumer.snapshot.clone());
        let consumer = Some((key, run));
        self.spawn(NewWorker {
            work,
            store,
            isolate,
            snapshot,
            consumer,
            write_behind: false,
            permit: None,
            client: None,
        });
        self.check_consumer(key);
    }

    pub fn run_ended(&mut self, key: u64, number: RunNumber) {
        self.consume(key, ConsumerEvent::RunEnded { number });
    }

    /// The sweep runs the contexts of a store that have waited too long.
    pub fn swept(&mut self, store: usize, reply: &Reply) {
        if matches!(reply, Reply::Swept { waits: true }) {
            self.deliver_wakeup(store, MAX_DELIVERIES);
        }
    }
}
