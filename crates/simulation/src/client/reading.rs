//! What clients do with a context that exists: they read it, answer its input requests, and cancel it.

use narthex_core::context::status::Status;
use narthex_core::context_store::messages::{AnswerInput, Cancel, Get};
use narthex_core::context_store::replies::ContextReply;
use narthex_core::registry::revision::Revision;

use super::Request;
use crate::messages::{Actor, Ask, Event, Reply};
use crate::world::{PARAMETERS, World, raw};

impl World {
    pub fn cancel(&mut self, at: usize) {
        if let Some(id) = self.requests[at].acknowledged.clone() {
            self.ask_current(at, Actor::Canceller(at), Ask::Cancel(Cancel { id }));
        }
    }

    pub fn poll(&mut self, at: usize) {
        if let Some(id) = self.requests[at].acknowledged.clone() {
            self.requests[at].polls += 1;
            self.requests[at].pending = self.ask_current(at, Actor::Request(at), Ask::Get(Get { id }));
        }
    }

    /// Sends a message under the revision that the isolate of the request knows.
    fn ask_current(&mut self, at: usize, actor: Actor, ask: Ask) -> u64 {
        let Request { store, isolate, .. } = self.requests[at];
        let revision = self.any_snapshot(isolate).map_or(Revision::INITIAL, |snapshot| snapshot.revision);
        self.ask(actor, store, revision, ask)
    }

    /// The store has answered a cancellation.
    pub fn cancel_answered(&mut self, at: usize, reply: &Reply) {
        if matches!(reply, Reply::Stale) {
            self.read_registry(Actor::Canceller(at), self.requests[at].isolate);
        } else {
            self.cancelled(at, reply);
        }
    }

    pub(super) fn looked(&mut self, at: usize, reply: Reply) {
        let Some(id) = self.requests[at].acknowledged.clone() else { return };
        match reply {
            Reply::Get(ContextReply::Context(found)) => {
                let status = found.status;
                if let Some(ended) = self.requests[at].ended.filter(|ended| *ended != status) {
                    self.violate(format!("{id} had ended as {ended:?} and is {status:?} now"));
                }
                self.requests[at].ended = Some(status).filter(|status| status.is_final());
                if status == Status::InputRequired && self.dice.chance(700) {
                    let input = raw(PARAMETERS);
                    self.ask_current(at, Actor::None, Ask::AnswerInput(AnswerInput { id, input }));
                }
            }
            Reply::Stale => {
                let number = self.read_registry(Actor::Request(at), self.requests[at].isolate);
                let request = &mut self.requests[at];
                (request.pending, request.is_reading) = (number, true);
                return;
            }
            Reply::Failed(_) => {}
            other => self.violate(format!("{id} was acknowledged, and reading it gives {other:?}")),
        }
        let request = &self.requests[at];
        if request.polls < 4 || (request.ended.is_none() && request.polls < 12) {
            let pause = self.dice.between(500, 8_000);
            self.schedule(self.now + pause, Event::Poll(at));
        }
    }
}
