//! The deliveries of a lane: work is dispatched to a connection, withdrawn, or given up.

use std::rc::Rc;

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::CallFault;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::{Delivery, Expiry};
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::replies::Work;

use crate::faults::Faults;
use crate::lane_actor::{LaneAsk, LaneObject, Turn};
use crate::lane_reports::lost;
use crate::messages::{Actor, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::World;

/// What a lane does with a request to dispatch work.
enum Dispatched {
    Now,
    Before,
    Refused,
}

impl LaneObject {
    /// A connection has more deliveries than it accepts, or the service has.
    fn overload(&self, connection: &str) -> Option<String> {
        let connections = self.connections.as_ref()?;
        let running: Vec<&Delivery> =
            self.disk.deliveries.values().filter(|delivery| delivery.ended_at.is_none()).collect();
        let load = running.iter().filter(|delivery| delivery.connection == connection).count() as u64;
        let credit = connections.open.values().find(|one| one.id == connection)?.credit;
        let most = connections.max_concurrency.unwrap_or(u64::MAX);
        if load > credit {
            Some(format!("{connection} accepts {credit} deliveries and gets {load}"))
        } else {
            (running.len() as u64 > most).then(|| format!("{} deliveries are in progress", running.len()))
        }
    }
}

impl Turn<'_> {
    fn dispatch(&mut self, delivery: Delivery, until: Timestamp, mutant: Option<Mutant>) -> Dispatched {
        let (now, number) = (self.now, delivery.number());
        let until = (mutant != Some(Mutant::DispatchesLate)).then_some(until);
        let Some(connections) = self.connections.as_deref_mut() else { return Dispatched::Refused };
        let is_known = match mutant {
            Some(Mutant::ForgetsEndedDeliveries) => connections.pool.find(&number).is_some(),
            _ => connections.pool.was_dispatched(&number),
        };
        if is_known {
            return Dispatched::Before;
        }
        if connections.pool.is_obsolete(&delivery, until, now) {
            return Dispatched::Refused;
        }
        // A new attempt of the same context: an earlier attempt that is still running is late.
        for (earlier, _) in connections.pool.withdraw(&delivery.context, None, now) {
            self.deliveries.insert(earlier.number(), earlier);
        }
        let most = connections.max_concurrency;
        let Some((_, delivery)) = connections.pool.dispatch(delivery, most, now) else { return Dispatched::Refused };
        self.deliveries.insert(number, delivery);
        Dispatched::Now
    }

    /// Returns whether it was in progress.
    pub fn end_delivery(&mut self, number: &str) -> bool {
        let Some(connections) = self.connections.as_deref_mut() else { return false };
        let ended = connections.pool.end(number, self.now);
        ended.map(|(ended, _)| self.deliveries.insert(number.into(), ended)).is_some()
    }

    /// Removes deliveries past their deadline, and lists those of dropped connections to give up.
    fn expire_deliveries(&mut self) -> Vec<Delivery> {
        let Some(connections) = self.connections.as_deref_mut() else { return Vec::new() };
        let Expiry { given_up, past, forgotten } = connections.pool.expire(self.now);
        let past = past.iter().map(|(delivery, _)| delivery.number());
        for number in past.chain(forgotten) {
            self.deliveries.remove(&number);
        }
        given_up
    }
}

impl World {
    pub fn dispatch(&mut self, at: usize, call: Call, delivery: Delivery, until: Timestamp, work: &Rc<Work>) {
        self.connections_drop(at);
        let again = LaneAsk::Dispatch { delivery: delivery.clone(), until, work: work.clone() };
        let (lease, number, mutant) = (delivery.lease, delivery.number(), self.mutant);
        let reply = match self.lane_turn(at, |turn| (turn.dispatch(delivery, until, mutant), false)) {
            Some(Dispatched::Now) => {
                self.check_dispatch(at, &number);
                self.statistics.executions += 1;
                if let Err(violation) = self.checker.execute(work, lease, true, self.now) {
                    self.violate(violation);
                }
                self.take_on(work, lease, at);
                Reply::Dispatched(true)
            }
            Some(Dispatched::Before) => Reply::Dispatched(true),
            Some(Dispatched::Refused) => {
                self.arrive_again(at, call, again);
                Reply::Dispatched(false)
            }
            None => Reply::Failed(CallFault::Failed),
        };
        self.note(|| format!("the lane of s{at} replies {reply:?} about {number}"));
        self.reply(call, reply);
    }

    /// A copy of a request that was refused arrives late, perhaps after the end of its hand-over.
    fn arrive_again(&mut self, service: usize, call: Call, ask: LaneAsk) {
        let Faults { double, delay, .. } = self.faults;
        if call.actor != Actor::None && double > 0 && delay > 0 && self.dice.chance(300) {
            let late = self.now + self.dice.between(1_000, 14_000);
            let call = Call { actor: Actor::None, ..call };
            self.schedule(late, Event::ToLane { service, call, ask });
        }
    }

    /// Work was dispatched: its hand-over had not ended, and a connection had room.
    fn check_dispatch(&mut self, at: usize, number: &str) {
        if self.checker.refused.contains(number) {
            self.violate(format!("{number} is dispatched after its hand-over was refused"));
        }
        let lane = &self.services[at].lane;
        let overload = lane.disk.deliveries.get(number).and_then(|delivery| lane.overload(&delivery.connection));
        if let Some(overload) = overload {
            self.violate(format!("s{at}: {overload}"));
        }
    }

    pub fn withdraw(&mut self, at: usize, context: &ContextId, lease: Option<LeaseNumber>) -> Option<()> {
        self.lane_turn(at, |turn| {
            let connections = turn.connections.as_deref_mut();
            let ended = connections.map(|connections| connections.pool.withdraw(context, lease, turn.now));
            for (delivery, _) in ended.unwrap_or_default() {
                turn.deliveries.insert(delivery.number(), delivery);
            }
            ((), false)
        })
    }

    /// The alarm of the lane.
    pub fn deliveries_expire(&mut self, at: usize) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        // It was moved to an earlier time, and set again since.
        if connections.alarm_at.is_none_or(|alarm| alarm > self.now) {
            return;
        }
        connections.alarm_at = None;
        match self.lane_turn(at, |turn| (turn.expire_deliveries(), false)) {
            // The reports that it began ended with it.
            Some(_) if self.services[at].lane.lane.is_none() => {}
            Some(given_up) => {
                for delivery in given_up {
                    self.note(|| format!("the lane of s{at} gives up {}", delivery.number()));
                    let report = lost(&self.services[at].name, delivery, self.lane_clock(at));
                    self.send_report(at, report);
                }
            }
            // The platform repeats an alarm that failed.
            None => {
                let again = self.now + self.dice.between(1_000, 2_500);
                self.schedule(again, Event::LaneAlarm { service: at });
            }
        }
    }

    /// The alarm of a lane rings again, because it has failed.
    pub fn lane_alarm(&mut self, at: usize) {
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.alarm_at = Some(self.now);
            self.deliveries_expire(at);
        }
    }
}
