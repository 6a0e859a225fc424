//! What the replies to a worker's messages mean for its driver.

use std::rc::Rc;

use narthex_core::base::retries::CallFault;
use narthex_core::context_store::replies::RenewReply;
use narthex_core::execution::driver::{
    AdmissionResult, ClientAnswer, CommitReceipt, Event as DriverEvent, RefusalReceipt, Renewal, Unreachable,
};

use crate::isolate::Snapshot;
use crate::messages::{Actor, Event, Reply};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::worker::{Message, Operation, Pending};
use crate::world::World;

/// How many times a message is sent at most while the registry changes.
const MAX_REVISIONS: u32 = 3;

impl World {
    pub fn worker_replied(&mut self, key: u64, number: u64, reply: Reply) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let Some(mut pending) = worker.pending.remove(&number) else { return };
        let isolate = worker.isolate;
        if let Message::Lane { service, .. } = pending.message
            && !matches!(reply, Reply::Failed(_))
        {
            self.observe_service(isolate, service);
        }
        match reply {
            Reply::Failed(fault) if pending.retries.allow(fault) => {
                let pause_ms = pending.retries.pause_ms();
                self.repeat_after(key, pending, pause_ms);
            }
            Reply::Stale if pending.stale + 1 < MAX_REVISIONS => {
                self.statistics.count("stale");
                pending.stale += 1;
                let number = self.read_registry(Actor::Worker(key), isolate);
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.pending.insert(number, pending);
                }
            }
            Reply::Stale => self.conclude(key, pending, Reply::Failed(CallFault::Failed)),
            reply => self.conclude(key, pending, reply),
        }
    }

    pub fn repeat_after(&mut self, key: u64, pending: Pending, pause_ms: u64) {
        let number = self.number();
        self.schedule(self.now + pause_ms, Event::Repeat { worker: key, number });
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.pending.insert(number, pending);
        }
    }

    /// Sends a message again that has failed.
    pub fn repeat(&mut self, key: u64, number: u64) {
        let pending = self.workers.get_mut(&key).and_then(|worker| worker.pending.remove(&number));
        if let Some(pending) = pending {
            self.send_message(key, pending);
        }
    }

    /// The registry has answered: for the driver, or for a message that the store refused.
    pub fn worker_fetched(&mut self, key: u64, number: u64, snapshot: Option<Rc<Snapshot>>) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let Some(mut pending) = worker.pending.remove(&number) else { return };
        let is_refresh = matches!(pending.message, Message::Registry);
        match snapshot {
            Some(snapshot) if is_refresh => {
                worker.snapshot = snapshot;
                self.drive(key, DriverEvent::Refreshed(Ok(())));
            }
            None if is_refresh => self.drive(key, DriverEvent::Refreshed(Err(Unreachable))),
            Some(snapshot) => {
                pending.snapshot = Some(snapshot);
                self.send_message(key, pending);
            }
            None => self.conclude(key, pending, Reply::Failed(CallFault::TimedOut)),
        }
    }

    fn conclude(&mut self, key: u64, pending: Pending, reply: Reply) {
        let Pending { operation, snapshot, .. } = pending;
        let event = match (operation, reply) {
            (Operation::Acquire, Reply::Permit(decision)) => DriverEvent::Acquired(Ok(decision)),
            (Operation::Acquire, _) => DriverEvent::Acquired(Err(Unreachable)),
            (Operation::Lease, Reply::Lease(reply)) => {
                if let (Some(worker), Some(snapshot)) = (self.workers.get_mut(&key), snapshot)
                    && self.mutant != Some(Mutant::CallsOldServices)
                {
                    worker.snapshot = snapshot;
                    worker.record.forget_choice();
                }
                DriverEvent::Leased(Ok(reply.into()))
            }
            (Operation::Lease, _) => DriverEvent::Leased(Err(Unreachable)),
            (Operation::Renew(renewal), Reply::Renew(reply)) => return self.conclude_renewal(key, renewal, reply),
            (Operation::Renew(renewal), _) => DriverEvent::Renewed(renewal, Err(Unreachable)),
            (Operation::Release(permit), _) => DriverEvent::Released(permit),
            (Operation::ReportCalls, _) => DriverEvent::CallsReported,
            (Operation::Admit, Reply::Admit(reply)) => DriverEvent::Admitted(Ok(AdmissionResult::of(&reply))),
            (Operation::Admit, _) => DriverEvent::Admitted(Err(Unreachable)),
            (Operation::Commit, Reply::Commit(reply)) => DriverEvent::Committed(Ok(CommitReceipt::of(&reply))),
            (Operation::Commit, _) => DriverEvent::Committed(Err(Unreachable)),
            (Operation::Record, reply) => DriverEvent::Recorded(reached(&reply)),
            (Operation::PutBack, reply) => DriverEvent::PutBack(reached(&reply)),
            (Operation::Refuse, Reply::Change(reply)) => DriverEvent::Refused(Ok(RefusalReceipt::of(&reply))),
            (Operation::Refuse, _) => DriverEvent::Refused(Err(Unreachable)),
            (Operation::Dispatch, reply) => return self.dispatched(key, &reply),
            (Operation::RequestInput, reply) => return self.input_requested(key, &reply),
            (Operation::AwaitInput, reply) => return self.input_heard(key, reply),
            (Operation::Refresh | Operation::Notice, _) => return self.settle(key),
        };
        self.drive(key, event);
    }

    fn conclude_renewal(&mut self, key: u64, renewal: Renewal, reply: RenewReply) {
        let Some(worker) = self.workers.get(&key) else { return };
        let work = worker.driver.work();
        let is_present = (renewal.hold, renewal.attempt) == (work.hold, work.attempt);
        let call = worker.calling.as_ref().map(|calling| calling.number).filter(|_| is_present);
        let counts = matches!(reply, RenewReply::Renewed { cancel: false });
        self.drive(key, DriverEvent::Renewed(renewal, Ok(reply.into())));
        if !counts {
            self.check_stopped(key, call);
        }
    }

    /// The client gets its answer. `recorded`: with a context that is stored only now.
    pub fn answer_client(&mut self, key: u64, answer: ClientAnswer, recorded: bool) {
        let Some(worker) = self.workers.get_mut(&key) else { return };
        let id = worker.driver.work().admission.id.clone();
        let lease = worker.lease();
        let Some(client) = &mut worker.client else { return };
        if client.answer.replace(answer).is_some() {
            return self.violate(format!("the client of {id} is answered twice"));
        }
        let until = client.until;
        let was_stored_first = !worker.runs_first;
        let is_torn = client.stream.as_ref().is_some_and(|stream| !lease.is_some_and(|lease| stream.is_of(lease)));
        match answer {
            ClientAnswer::Ended if recorded => {}
            ClientAnswer::Ended => {
                if !self.checker.has_ended(&id) {
                    return self.violate(format!("the client of {id} receives an end that is not stored"));
                }
                if is_torn && self.checker.completed(&id) {
                    return self.violate(format!("the stream of {id} has pieces of another attempt"));
                }
            }
            // The client has an id: it must lead to the context.
            ClientAnswer::Continues if !self.checker.knows(&id) => {
                return self.violate(format!("the client of {id} is sent to a context that is not stored"));
            }
            ClientAnswer::Continues => self.checker.acknowledge(&id),
            ClientAnswer::NotStored if was_stored_first => {
                return self.violate(format!("{id} is stored, and its client learns that it is not"));
            }
            ClientAnswer::NotStored => {}
        }
        // A context that runs before it is stored must be stored first, and the registry may have to be read for that.
        let bound_ms = if was_stored_first { 1_000 } else { u64::from(2 * MAX_REVISIONS) * REPLY_TIMEOUT_MS + 1_000 };
        if self.now > until + bound_ms && self.statistics.jumps == 0 {
            self.violate(format!("the client of {id} waits {} ms too long", self.now - until));
        }
    }
}

fn reached(reply: &Reply) -> Result<(), Unreachable> {
    if matches!(reply, Reply::Failed(_)) { Err(Unreachable) } else { Ok(()) }
}
