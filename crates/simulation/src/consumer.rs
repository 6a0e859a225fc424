//! Consumers: a wake-up message starts one. It runs the contexts of a store, several at a time, and may die with all of
//! them.

use std::collections::BTreeSet;

use narthex_core::base::timing::Timing;
use narthex_core::context_store::messages::ClaimWork;
use narthex_core::context_store::replies::ClaimReply;

use crate::messages::{Actor, Ask, Event, Reply};
use crate::store::LEASE_MS;
use crate::worker::NewWorker;
use crate::world::World;

/// How many contexts a consumer runs at a time.
const AT_ONCE: usize = 3;
const WORK_POLL_MS: u64 = Timing::DEFAULT.work_poll_ms;

pub struct Consumer {
    store: usize,
    tries: u64,
    pub running: BTreeSet<u64>,
    pending: u64,
}

impl World {
    pub fn terminate(&mut self, consumer: u64) -> Option<Consumer> {
        let dead = self.consumers.remove(&consumer)?;
        for worker in &dead.running {
            self.workers.remove(worker);
        }
        Some(dead)
    }

    /// The queue delivers a wake-up message for a store.
    pub fn deliver_wakeup(&mut self, store: usize, tries: u64) {
        let key = self.number();
        self.consumers.insert(key, Consumer { store, tries, running: BTreeSet::new(), pending: 0 });
        self.claim(key);
    }

    pub fn claim(&mut self, key: u64) {
        let Some(consumer) = self.consumers.get(&key) else { return };
        if consumer.pending != 0 || consumer.running.len() >= AT_ONCE {
            return;
        }
        let claim = ClaimWork { lease_ms: LEASE_MS, gated: Vec::new(), without: Vec::new(), again_at: None };
        let number = self.ask(Actor::Consumer(key), consumer.store, Ask::Claim(claim));
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.pending = number;
        }
    }

    pub fn look_again(&mut self, key: u64) {
        self.claim(key);
    }

    pub fn consumer_replied(&mut self, key: u64, number: u64, reply: Reply) {
        let Some(consumer) = self.consumers.get_mut(&key).filter(|consumer| consumer.pending == number) else { return };
        consumer.pending = 0;
        if self.dice.chance(self.faults.die) {
            self.statistics.deaths += 1;
            self.terminate(key);
            return;
        }
        let Some(consumer) = self.consumers.get(&key) else { return };
        match reply {
            Reply::Claim(ClaimReply::Leased(work) | ClaimReply::Offered(work)) => {
                let (work, store) = (*work, consumer.store);
                self.spawn(NewWorker {
                    work,
                    store,
                    consumer: Some(key),
                    write_behind: false,
                    permit: None,
                    waits_until: 0,
                });
                self.claim(key);
            }
            Reply::Failed if consumer.running.is_empty() => {
                // The platform delivers the message again, a few times.
                if let Some(dead) = self.terminate(key).filter(|dead| dead.tries < 3) {
                    let again = self.now + self.dice.between(500, 5_000);
                    self.schedule(again, Event::Wakeup { store: dead.store, tries: dead.tries + 1 });
                }
            }
            _ if consumer.running.is_empty() => {
                self.consumers.remove(&key);
            }
            _ => self.schedule(self.now + WORK_POLL_MS, Event::LookAgain { consumer: key }),
        }
    }
}
