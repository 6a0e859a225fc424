//! What a store asks its registry before it answers a request, as `objects/contexts` does.

use narthex_core::base::retries::CallFault;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::context_store::preconditions::Freshness;
use narthex_core::registry::revision::Revision;

use crate::messages::{Actor, Ask, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::registry_object::{RegistryAsk, RegistryReply};
use crate::world::World;

/// A request that waits for the registry.
pub struct Question {
    call: Call,
    revision: Revision,
    ask: Ask,
    asked_at: Timestamp,
}

impl World {
    /// A message arrives at a store.
    pub fn reach_store(&mut self, store: usize, call: Call, revision: Revision, ask: Ask) {
        self.note(|| format!("store {store} gets {ask:?}"));
        if self.wake(store).is_err() {
            return self.reply(call, Reply::Failed(CallFault::Failed));
        }
        let now = self.clock(store);
        let is_current = self.stores[store].known.is_current(now, Timing::DEFAULT.registry_silence_ms);
        if ask.freshness() == Freshness::None || is_current {
            return self.answer_at_store(store, call, revision, ask);
        }
        self.statistics.count("question");
        let hello = RegistryAsk::Hello(self.stores[store].id);
        let number = self.ask_registry(Actor::Store(store), hello, REPLY_TIMEOUT_MS);
        self.stores[store].questions.insert(number, Question { call, revision, ask, asked_at: now });
    }

    /// The registry has answered a question, or not.
    pub fn question_answered(&mut self, store: usize, number: u64, reply: &Reply) {
        let Some(question) = self.stores[store].questions.remove(&number) else { return };
        let Question { call, revision, ask, asked_at } = question;
        match reply {
            Reply::Registry(RegistryReply::Hello(own)) => {
                let late = self.mutant == Some(Mutant::QuestionsCountWhenAnswered);
                let asked_at = if late { self.clock(store) } else { asked_at };
                self.stores[store].known.answered(*own, asked_at);
            }
            _ if ask.freshness() == Freshness::Needed => {
                return self.reply(call, Reply::Failed(CallFault::Failed));
            }
            _ => {}
        }
        self.answer_at_store(store, call, revision, ask);
    }

    /// The registry pushes its revision.
    pub fn learn_revision(&mut self, store: usize, revision: Revision) {
        let now = self.clock(store);
        let known = &mut self.stores[store].known;
        known.learn(revision);
        if self.mutant == Some(Mutant::PushesCountAsAnswers) {
            known.answered(revision, now);
        }
    }

    /// A store crashes, and with it the requests that wait.
    pub fn questions_stop(&mut self, store: usize) {
        for Question { call, .. } in std::mem::take(&mut self.stores[store].questions).into_values() {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
    }
}
