//! The deliveries of a lane: work is dispatched to a connection, which gives it to the service.

use std::rc::Rc;

use narthex_core::base::retries::CallFault;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context_store::replies::Work;

use crate::faults::Faults;
use crate::lane_actor::{LaneAsk, LaneObject};
use crate::messages::{Actor, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::world::{PARAMETERS, World, raw};

impl LaneObject {
    /// A connection has more deliveries than it accepts, or the service has.
    fn overload(&self, number: &str, now: Timestamp, may_fail: bool) -> Option<String> {
        let connections = self.connections.as_ref()?;
        let deliveries = self.storage.read(|disk| disk.deliveries.clone());
        let connection = &deliveries.get(number)?.connection;
        // With faults of the disk, the row of one past its deadline could perhaps not be deleted.
        let is_running = |delivery: &&Delivery| delivery.ended_at.is_none() && (!may_fail || delivery.deadline > now);
        let running: Vec<&Delivery> = deliveries.values().filter(is_running).collect();
        let load = running.iter().filter(|delivery| delivery.connection == *connection).count() as u64;
        let credit = connections.open.values().find(|one| one.id == *connection)?.credit;
        let most = self.settings.max_concurrency.unwrap_or(u64::MAX);
        if load > credit {
            Some(format!("{connection} accepts {credit} deliveries and gets {load}"))
        } else {
            (running.len() as u64 > most).then(|| format!("{} deliveries are in progress", running.len()))
        }
    }
}

impl World {
    pub fn dispatch(&mut self, at: usize, call: Call, delivery: Delivery, until: Timestamp, work: &Rc<Work>) {
        self.connections_drop(at);
        let again = LaneAsk::Dispatch { delivery: delivery.clone(), until, work: work.clone() };
        let number = delivery.number();
        let until = (self.mutant != Some(Mutant::DispatchesLate)).then_some(until);
        if self.mutant == Some(Mutant::ForgetsEndedDeliveries) {
            self.lane_crashes(at);
        }
        let object = &mut self.services[at].lane;
        object.dispatching = Some((number.clone(), work.clone()));
        let parameters = raw(PARAMETERS);
        let reply = match self.lane_turn(at, |lane, now, _| lane.dispatch(delivery, until, &parameters, now)) {
            Some(false) => {
                self.arrive_again(at, call, again);
                Reply::Dispatched(false)
            }
            Some(true) => Reply::Dispatched(true),
            None => Reply::Failed(CallFault::Failed),
        };
        self.services[at].lane.dispatching = None;
        self.note(|| format!("the lane of s{at} replies {reply:?} about {number}"));
        self.reply_from_lane(at, call, reply);
    }

    /// The work that is being dispatched arrives at the service.
    pub fn service_gets_work(&mut self, at: usize, number: &str) {
        let Some((dispatched, work)) = self.services[at].lane.dispatching.take() else {
            return self.violate(format!("s{at} gets {number}, which is not dispatched"));
        };
        let Some(lease) = work.hold.lease().filter(|_| dispatched == number) else {
            return self.violate(format!("s{at} gets {number} instead of {dispatched}"));
        };
        self.check_dispatch(at, number);
        self.statistics.executions += 1;
        if let Err(violation) = self.checker.execute(&work, lease, true, self.now) {
            self.violate(violation);
        }
        self.take_on(&work, lease, at);
    }

    /// A copy of a request that was refused arrives late, perhaps after the end of its hand-over.
    fn arrive_again(&mut self, service: usize, call: Call, ask: LaneAsk) {
        let Faults { double, delay, .. } = self.faults;
        if call.actor != Actor::None && double > 0 && delay > 0 && self.dice.chance(300) {
            let late = self.now + self.dice.between(1_000, 14_000);
            let (call, settings) = (Call { actor: Actor::None, ..call }, self.settings_of(service));
            self.schedule(late, Event::ToLane { service, call, settings, ask });
        }
    }

    /// Work was dispatched: its hand-over had not ended, and a connection had room.
    fn check_dispatch(&mut self, at: usize, number: &str) {
        if self.checker.refused.contains(number) {
            self.violate(format!("{number} is dispatched after its hand-over was refused"));
        }
        if let Some(overload) = self.services[at].lane.overload(number, self.lane_clock(at), self.had_disk_faults()) {
            self.violate(format!("s{at}: {overload}"));
        }
    }
}
