//! Requests that wait for a permit in a lane.

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::CallFault;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::lane::queue::Waiter;
use narthex_core::service_lane::RequestNumber;

use crate::messages::{Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::World;

impl World {
    pub fn acquire(&mut self, at: usize, call: Call, who: Waiter, wait_ms: u64) {
        let context = who.context.clone();
        let request = (wait_ms > 0).then(|| self.number());
        // The waiting call is known before the grants.
        self.services[at].lane.waiting.extend(request.map(|request| (request, call)));
        let entered = self.lane_turn(at, |lane, now, random| lane.acquire(who, request, now, random));
        self.note(|| format!("the lane of s{at} tells {context}: {entered:?}"));
        let waits = request.filter(|request| self.services[at].lane.waiting.contains_key(request));
        if request.is_some() && waits.is_none() {
            // The waiting call has its answer already.
            return;
        }
        let greedy = self.mutant == Some(Mutant::OnePermitTooMany);
        let entered = match entered {
            Some(PermitDecision::Waiting) if greedy => {
                Some(PermitDecision::Permit { number: PermitNumber::of(self.number()), probe: false })
            }
            entered => entered,
        };
        match (entered, waits) {
            (Some(PermitDecision::Waiting), Some(request)) => {
                let life = self.services[at].lane.life;
                self.schedule(self.now + wait_ms, Event::TurnOver { service: at, life, context, request });
                self.tick_soon(at);
            }
            (entered, waits) => {
                if let Some(request) = waits {
                    self.stop_waiting(at, &context, request);
                }
                self.granted(at, entered.unwrap_or(PermitDecision::Waiting));
                let reply = entered.map_or(Reply::Failed(CallFault::Failed), Reply::Permit);
                self.reply_from_lane(at, call, reply);
            }
        }
    }

    /// Returns the call that was waiting.
    fn stop_waiting(&mut self, at: usize, context: &ContextId, request: RequestNumber) -> Option<Call> {
        let object = &mut self.services[at].lane;
        let call = object.waiting.remove(&request)?;
        if let Some(lane) = &mut object.lane {
            lane.stop_waiting(context, request);
        }
        Some(call)
    }

    /// The wait for a permit has timed out.
    pub fn turn_over(&mut self, at: usize, life: u64, context: &ContextId, request: RequestNumber) {
        if self.services[at].lane.life == life
            && let Some(call) = self.stop_waiting(at, context, request)
        {
            self.reply(call, Reply::Permit(PermitDecision::Waiting));
        }
    }

    fn tick_soon(&mut self, at: usize) {
        let now = self.lane_clock(at);
        let object = &mut self.services[at].lane;
        let Some(pause_ms) = object.lane.as_ref().and_then(|lane| lane.next_tick_ms(now)) else { return };
        if !std::mem::replace(&mut object.is_ticking, true) {
            let life = object.life;
            self.schedule(self.now + pause_ms, Event::LaneTicks { service: at, life });
        }
    }

    pub fn lane_ticks(&mut self, at: usize, life: u64) {
        let object = &mut self.services[at].lane;
        if object.life != life || object.lane.is_none() {
            return;
        }
        object.is_ticking = false;
        if !object.waiting.is_empty() {
            self.lane_change(at, |_, _, _| ());
            self.tick_soon(at);
        }
    }
}
