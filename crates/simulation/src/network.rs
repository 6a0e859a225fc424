//! Messages between the actors: they are lost, late, or arrive twice, and so are their replies.

use narthex_core::base::retries::CallFault;
use narthex_core::registry::revision::Revision;

use crate::messages::{Actor, Ask, Call, Event, Reply};
use crate::registry_object::RegistryReply;
use crate::world::World;

/// How long a caller waits for a reply.
pub const REPLY_TIMEOUT_MS: u64 = 10_000;

impl World {
    /// The delays of a message's copies: none if it is lost, two if it is duplicated.
    pub fn travel(&mut self) -> Vec<u64> {
        if self.dice.chance(self.faults.lose) {
            self.statistics.lost += 1;
            return Vec::new();
        }
        let copies = if self.dice.chance(self.faults.double) { 2 } else { 1 };
        self.statistics.doubled += copies - 1;
        (0..copies)
            .map(|_| {
                if self.dice.chance(self.faults.delay) {
                    self.statistics.delayed += 1;
                    self.dice.between(30, 14_000)
                } else {
                    self.dice.between(1, 20)
                }
            })
            .collect()
    }

    /// After which time a caller without a reply gives up, and what it learns.
    pub fn patience(&mut self) -> (u64, CallFault) {
        if self.dice.chance(500) {
            let fault = self.dice.pick(&[CallFault::Failed, CallFault::Retryable, CallFault::Overloaded]);
            (self.dice.between(1, 300), fault)
        } else {
            (REPLY_TIMEOUT_MS, CallFault::TimedOut)
        }
    }

    /// Sends a message to a store, with the revision that the sender knows. Returns the number that identifies the
    /// reply.
    pub fn ask(&mut self, actor: Actor, store: usize, revision: Revision, ask: Ask) -> u64 {
        let call = Call { actor, number: self.number() };
        let travels = self.travel();
        if travels.iter().min().is_none_or(|delay| *delay > REPLY_TIMEOUT_MS) {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
        for delay in travels {
            self.schedule(self.now + delay, Event::ToStore { store, call, revision, ask: ask.clone() });
        }
        call.number
    }

    /// Sends a reply.
    pub fn reply(&mut self, call: Call, reply: Reply) {
        if call.actor == Actor::None {
            return;
        }
        let mut travels = self.travel();
        let is_revision = matches!(reply, Reply::Registry(RegistryReply::Hello(_)));
        if is_revision && self.faults.cut > 0 && self.dice.chance(300) {
            // A store that is soon cut off learns late until when it may rely on what it knows.
            travels = vec![self.dice.between(4_000, REPLY_TIMEOUT_MS)];
        }
        match travels.first() {
            Some(delay) => self.schedule(self.now + (*delay).min(REPLY_TIMEOUT_MS), Event::Replied { call, reply }),
            None => {
                let (patience, fault) = self.patience();
                self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
            }
        }
    }

    pub fn replied(&mut self, call: Call, reply: Reply) {
        if let Some(read) = self.reads.remove(&call.number) {
            return self.registry_read(read, call, &reply);
        }
        match call.actor {
            Actor::Request(request) => self.request_replied(request, call.number, reply),
            Actor::Worker(worker) => self.worker_replied(worker, call.number, reply),
            Actor::Consumer(consumer) => self.consumer_replied(consumer, call.number, reply),
            Actor::Job(job) => self.job_replied(job, call.number, &reply),
            Actor::Lane(service) => self.lane_replied(service, call.number, &reply),
            Actor::Canceller(request) => self.cancel_answered(request, &reply),
            Actor::Sweep(store) => self.swept(store, &reply),
            Actor::Registry => self.registry_replied(call.number, &reply),
            Actor::Store(store) => self.question_answered(store, call.number, &reply),
            Actor::Administrator(change) => self.change_answered(change, call.number, &reply),
            Actor::Viewer | Actor::None => {}
        }
    }

    /// Sends a wake-up message; it may be lost, duplicated or late.
    pub fn enqueue_wakeup(&mut self, store: usize) {
        for delay in self.travel() {
            self.schedule(self.now + delay, Event::Wakeup { store, tries: 0 });
        }
    }
}
