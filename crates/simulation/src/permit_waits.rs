//! Requests that wait for a permit in a lane.

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::CallFault;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::Waiter;

use crate::messages::{Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::World;

/// How often a lane checks its queue while requests wait.
const TICK_MS: u64 = 1_000;

impl World {
    pub fn acquire(&mut self, at: usize, call: Call, who: Waiter, wait_ms: u64) {
        let context = who.context.clone();
        let greedy = self.mutant == Some(Mutant::OnePermitTooMany);
        // The waiting call is known before the grants.
        if wait_ms > 0 {
            self.services[at].lane.waiters.entry(context.clone()).or_default().push(call);
        }
        let entered = self.lane_turn(at, |turn| {
            let entered = turn.lane.acquire(who, turn.now, turn.random);
            if entered == PermitDecision::Waiting && wait_ms > 0 {
                turn.lane.set_present(&context, true);
            }
            // There is a single probe, even across a restart.
            (entered, matches!(entered, PermitDecision::Permit { probe: true, .. }))
        });
        self.note(|| format!("the lane of s{at} tells {context}: {entered:?}"));
        if self.services[at].lane.lane.is_none() {
            // The waiting call has its answer already.
            if wait_ms == 0 {
                self.granted(at, entered.unwrap_or(PermitDecision::Waiting));
                self.reply(call, entered.map_or(Reply::Failed(CallFault::Failed), Reply::Permit));
            }
            return;
        }
        let entered = match entered {
            Some(PermitDecision::Waiting) if greedy => {
                PermitDecision::Permit { number: PermitNumber::of(self.number()), probe: false }
            }
            Some(entered) => entered,
            None => return,
        };
        self.granted(at, entered);
        if entered == PermitDecision::Waiting && wait_ms > 0 {
            let life = self.services[at].lane.life;
            self.schedule(self.now + wait_ms, Event::TurnOver { service: at, life, context, call });
            self.tick_soon(at);
            return;
        }
        self.stop_waiting(at, &context, call);
        self.reply(call, Reply::Permit(entered));
    }

    /// Returns whether the call was waiting.
    fn stop_waiting(&mut self, at: usize, context: &ContextId, call: Call) -> bool {
        let object = &mut self.services[at].lane;
        let Some(waiting) = object.waiters.get_mut(context) else { return false };
        let before = waiting.len();
        waiting.retain(|other| *other != call);
        let waited = waiting.len() < before;
        if waiting.is_empty() {
            object.waiters.remove(context);
            if let Some(lane) = object.lane.as_mut() {
                lane.set_present(context, false);
            }
        }
        waited
    }

    /// The wait for a permit has timed out.
    pub fn turn_over(&mut self, at: usize, life: u64, context: &ContextId, call: Call) {
        if self.services[at].lane.life == life && self.stop_waiting(at, context, call) {
            self.reply(call, Reply::Permit(PermitDecision::Waiting));
        }
    }

    fn tick_soon(&mut self, at: usize) {
        let now = self.lane_clock(at);
        let object = &mut self.services[at].lane;
        let Some(lane) = &object.lane else { return };
        if object.waiters.is_empty() || std::mem::replace(&mut object.is_ticking, true) {
            return;
        }
        let pause = lane.next_grant_at(now).map_or(TICK_MS, |next| next.since(now)).clamp(10, TICK_MS);
        let life = object.life;
        self.schedule(self.now + pause, Event::LaneTicks { service: at, life });
    }

    pub fn lane_ticks(&mut self, at: usize, life: u64) {
        let object = &mut self.services[at].lane;
        if object.life != life || object.lane.is_none() {
            return;
        }
        object.is_ticking = false;
        if !object.waiters.is_empty() {
            self.lane_turn(at, |_| ((), false));
            self.tick_soon(at);
        }
    }
}
