//! The invariants of workers: what a driver may do, by what its worker has learned, and what it must have done.

use std::collections::{BTreeMap, BTreeSet};

use narthex_core::base::id::ContextId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::{Attempt, AttemptOutcome, AttemptReport, Head, ReportedOutcome};
use narthex_core::context_store::replies::{AdmitReply, ClaimReply, LeaseReply, Work};
use narthex_core::execution::driver::{Call, Event as DriverEvent};
use narthex_core::execution::known_service::KnownService;
use narthex_core::lane::PermitDecision;
use narthex_core::registry::revision::Revision;
use narthex_core::services::outline::ServiceOutline;

use crate::invariants::InvariantChecker;
use crate::isolate::Registered;
use crate::messages::Reply;
use crate::worker::{TIMING, Worker};
use crate::world::World;

/// How much later than a renewal a worker may react to what it has learned.
const REACTION_MS: u64 = 2_000;
/// A worker has finished this long after the end of its context.
const HANGING_MS: u64 = 25_000;
/// The retries of one service that an isolate may decide within ten seconds, whatever else it does.
const FREE_RETRIES: usize = 3;
/// The span that surely lies in the window of a retry budget, and the one that may.
const SURE_MS: u64 = 9_000;
const WHOLE_MS: u64 = 10_000;

/// What happened in one attempt of a worker, besides what its driver remembers.
#[derive(Debug, Default)]
pub struct AttemptRecord {
    /// The services among which it had to choose; unknown after the services have changed.
    choice: Option<BTreeSet<ServiceId>>,
    /// The last answer of the lane.
    passage: Option<PermitDecision>,
    /// When each service may be called again.
    rests: BTreeMap<ServiceId, u64>,
}

impl AttemptRecord {
    /// The services have changed since the choice.
    pub fn forget_choice(&mut self) {
        self.choice = None;
    }
}

/// The first attempts at a service and its retries, by an isolate.
#[derive(Debug, Default)]
pub struct Attempts {
    firsts: Vec<u64>,
    retries: Vec<u64>,
}

/// By isolate, and by service since its registration.
pub type AttemptCounts = BTreeMap<(usize, Registered), Attempts>;

/// The revision of the registry under which each lease was granted.
pub type Grants = BTreeMap<(ContextId, LeaseNumber), Revision>;

impl World {
    /// A store has answered: the lease that it granted. `admitted` is the context that it was asked to admit.
    pub fn grant(&mut self, store: usize, admitted: Option<ContextId>, reply: &Reply) {
        let (id, lease) = match reply {
            Reply::Lease(LeaseReply::Leased(work)) | Reply::Claim(ClaimReply::Leased(work)) => {
                (Some(work.admission.id.clone()), work.hold.lease())
            }
            Reply::Admit(AdmitReply::Admitted { lease, .. }) => (admitted, *lease),
            _ => return,
        };
        if let (Some(id), Some(lease)) = (id, lease) {
            let revision = self.stores[store].known.revision();
            self.grants.entry((id, lease)).or_insert(revision);
        }
    }

    /// Before the driver learns of an event.
    pub fn watch_event(&mut self, key: u64, event: &DriverEvent) {
        let Some(worker) = self.workers.get(&key) else { return };
        match event {
            // After a wait under a lease, the services are read for an attempt that has its service, and needs another
            // only if that one takes no more work.
            DriverEvent::Refreshed(_) if worker.driver.is_queueing() || !worker.driver.work().hold.is_offered() => {
                let asked = worker.lane.map(|lane| &self.services[lane].name);
                let admitted_for = &worker.driver.work().admission.service;
                let takes = |service: &ServiceOutline| !service.draining || service.id == *admitted_for;
                let mut known = worker.snapshot.services.iter().map(crate::isolate::KnownEntry::service);
                if known.any(|service| Some(&service.id) == asked && takes(service)) {
                    return;
                }
                let choice = self.choice(worker);
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.record.choice = choice;
                }
            }
            DriverEvent::Started | DriverEvent::Refreshed(Ok(())) => {
                let choice = self.choice(worker);
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.record.choice = choice;
                    worker.record.passage = None;
                }
            }
            DriverEvent::Acquired(Ok(decision)) => {
                let decision = *decision;
                if matches!(decision, PermitDecision::Open { .. }) {
                    self.statistics.count("open breaker");
                }
                let worker = self.workers.get_mut(&key);
                let (Some(worker), PermitDecision::Permit { number, probe }) = (worker, decision) else {
                    if let Some(worker) = self.workers.get_mut(&key) {
                        worker.record.passage = Some(decision);
                    }
                    return;
                };
                worker.record.passage = Some(decision);
                if let Some(lane) = worker.lane {
                    worker.permits.insert((self.services[lane].name.clone(), number), probe);
                }
            }
            _ => {}
        }
    }

    /// The services that are preferred for the next attempt: not hopeless, and untried.
    fn choice(&self, worker: &Worker) -> Option<BTreeSet<ServiceId>> {
        let work = worker.driver.work();
        let head = self.checker.head(&work.admission.id)?;
        let of = |fits: fn(&Attempt) -> bool| -> BTreeSet<&ServiceId> {
            head.attempts.iter().filter(|attempt| fits(attempt)).map(|attempt| &attempt.service).collect()
        };
        let (tried, hopeless) = (of(Attempt::failed), of(Attempt::is_hopeless));
        let takes = |known: &&crate::isolate::KnownEntry| {
            let (service, asked) = (known.service(), &work.admission.asked_service);
            (!service.draining || service.id == head.admission.service)
                && (work.admission.content.is_full()
                    || !service.transport.connects()
                    || service.id == head.admission.service)
                && !known.is_offline()
                && asked.as_ref().is_none_or(|asked| *asked == service.id)
        };
        let all: BTreeSet<ServiceId> =
            worker.snapshot.services.iter().filter(takes).map(|known| known.service().id.clone()).collect();
        let without = |pool: BTreeSet<ServiceId>, others: &BTreeSet<&ServiceId>| {
            let left: BTreeSet<ServiceId> = pool.iter().filter(|id| !others.contains(id)).cloned().collect();
            if left.is_empty() { pool } else { left }
        };
        Some(without(without(all, &hopeless), &tried))
    }

    /// A call begins.
    pub fn check_call(&mut self, key: u64, call: &Call, service: usize) {
        let Some(worker) = self.workers.get(&key) else { return };
        let (id, known) = (&call.work.admission.id, &worker.snapshot.services[call.at]);
        let name = &known.service().id;
        let has_permit = worker.permits.keys().any(|(of, _)| of == name);
        let violation = if known.is_limited() && !has_permit {
            Some(format!("{id} calls {name} without a permit"))
        } else if matches!(worker.record.passage, Some(PermitDecision::Open { .. })) && !has_permit {
            Some(format!("{id} calls {name}, whose breaker is open"))
        } else if self.grants.get(&(id.clone(), call.lease)).is_some_and(|at| worker.snapshot.revision < *at) {
            Some(format!("{id} calls {name} by a revision of the registry that its lease excludes"))
        } else if let Some(choice) = &worker.record.choice
            && call.work.attempt > 1
            // A worker whose lease has expired does not know the attempts since.
            && self.checker.lease(id) == Some(call.lease)
            && !choice.is_empty()
            && !choice.contains(name)
            // It chooses again if its service has become unavailable since.
            && self.choice(worker).is_some_and(|choice| !choice.contains(name))
        {
            Some(format!("{id} calls {name} again, and there are {choice:?}"))
        } else if self.was_quiet()
            && !self.has_changes()
            && worker.record.rests.get(name).is_some_and(|until| *until > self.now + 50)
        {
            Some(format!("{id} calls {name} before its Retry-After"))
        } else {
            None
        };
        if let Some(violation) = violation {
            self.violate(violation);
        }
        self.count_first(key, service, &call.work);
    }

    fn count_first(&mut self, key: u64, service: usize, work: &Work) {
        let Some(worker) = self.workers.get(&key) else { return };
        let name = self.services[service].name.clone();
        if !work.tried.contains(&name) {
            let counts = self.attempts.entry((worker.isolate, worker.snapshot.registered(&name))).or_default();
            counts.firsts.push(self.now);
        }
    }

    /// A service says when it may be called again.
    pub fn rest(&mut self, key: u64, service: &ServiceId, retry_after_ms: u64) {
        let until = self.now + retry_after_ms;
        if let Some(worker) = self.workers.get_mut(&key) {
            worker.record.rests.insert(service.clone(), until);
        }
    }

    /// An attempt is reported: its retry, if it asks for one, is within the budget of the service.
    pub fn check_retry(&mut self, key: u64, report: &AttemptReport) {
        let Some(worker) = self.workers.get(&key) else { return };
        let ReportedOutcome::Failed { retryable: true, untouched, error, .. } = &report.outcome else { return };
        let work = worker.driver.work();
        let admission = &work.admission;
        let repeats = (*untouched || admission.idempotent) && work.attempt < admission.retry.max_attempts;
        let is_other = |known: &&crate::isolate::KnownEntry| {
            let service = known.service();
            service.id != report.service
                && !work.tried.contains(&service.id)
                && admission.asked_service.as_ref().is_none_or(|asked| *asked == service.id)
        };
        let is_open = matches!(worker.record.passage, Some(PermitDecision::Open { .. }));
        // There was no service to call, or its breaker is open.
        let was_called = error.service.is_some() && !is_open;
        if !repeats || !was_called || worker.snapshot.services.iter().any(|known| is_other(&known)) {
            return;
        }
        let now = self.now;
        let registered = worker.snapshot.registered(&report.service);
        let counts = self.attempts.entry((worker.isolate, registered)).or_default();
        counts.retries.push(now);
        let within = |times: &[u64], ms: u64| times.iter().filter(|at| now - **at < ms).count();
        let most = FREE_RETRIES.max(within(&counts.firsts, WHOLE_MS) / 5);
        if within(&counts.retries, SURE_MS) > most {
            let text = format!("{} is retried more often than its budget allows", report.service);
            self.violate(text);
        }
    }

    /// After each event: a limited service is called only while its permit is not returned.
    pub fn check_permit(&mut self, key: u64) {
        let Some(worker) = self.workers.get(&key) else { return };
        let Some(calling) = &worker.calling else { return };
        let service = &self.services[calling.service];
        let is_limited = service.lane.settings.max_concurrency.is_some() || service.lane.connections.is_some();
        if is_limited && !worker.permits.keys().any(|(of, _)| *of == service.name) {
            let text = format!("{} is called without a permit", service.name);
            self.violate(text);
        }
    }

    /// A worker has learned that it does not hold the context any longer, or that it is cancelled.
    pub fn check_stopped(&mut self, key: u64, call: Option<u64>) {
        let continues = call.is_some()
            && self
                .workers
                .get(&key)
                .is_some_and(|worker| worker.calling.as_ref().map(|calling| calling.number) == call);
        if continues {
            self.violate(format!("worker {key} continues a call that does not count any longer"));
        }
    }

    /// A worker has finished.
    pub fn check_finished(&mut self, key: u64, worker: &Worker) {
        let id = &worker.driver.work().admission.id;
        if !worker.permits.is_empty() {
            self.violate(format!("worker {key} keeps {:?}", worker.permits));
        } else if worker.client.as_ref().is_some_and(|client| client.answer.is_none()) {
            self.violate(format!("the client of {id} is never answered"));
        } else if worker.calling.is_some() {
            self.violate(format!("worker {key} finishes during its call for {id}"));
        }
    }

    pub fn check_workers_at_end(&mut self) {
        let now = self.now;
        let is_over = |worker: &&Worker| {
            let head = self.checker.head(&worker.driver.work().admission.id);
            let ended = head.filter(|head| head.status.is_final()).and_then(|head| head.history.last());
            ended.is_some_and(|last| last.at.plus_ms(HANGING_MS).0 < now)
        };
        let hanging = self.workers.iter().find(|(_, worker)| is_over(worker)).map(|(key, _)| *key);
        if let Some(key) = hanging {
            self.violate(format!("worker {key} does not finish although its context has ended"));
        }
        let runs = |key: u64| self.workers.values().any(|worker| worker.consumer.is_some_and(|(of, _)| of == key));
        if let Some(key) = self.consumers.keys().copied().find(|key| !runs(*key)) {
            self.violate(format!("consumer {key} does not finish although nothing runs"));
        }
        let waits = |worker: &&Worker| {
            worker.client.as_ref().is_some_and(|client| client.answer.is_none() && client.until + 1_000 < now)
        };
        if let Some(worker) = self.workers.values().find(waits) {
            let text = format!("the client of {} still waits", worker.driver.work().admission.id);
            self.violate(text);
        }
    }

    /// A call begins: the calls with a valid permit are within the limit, and at most one is a probe.
    pub fn check_in_flight(&mut self, service: usize) {
        let is_quiet = self.was_quiet();
        let (name, lane) = (&self.services[service].name, &self.services[service].lane);
        if lane.connections.is_some() {
            return;
        }
        // With faults, a lane counts a permit as free that it could not renew.
        let counts = |number| {
            let ends = lane.permits.get(number);
            is_quiet || (ends.is_some_and(|until| *until > self.now) && !lane.lapsed.contains(number))
        };
        let calling = self
            .workers
            .values()
            .filter(|worker| worker.calling.as_ref().is_some_and(|calling| calling.service == service));
        let permits =
            calling.flat_map(|worker| &worker.permits).filter(|((of, number), _)| of == name && counts(number));
        let probes: Vec<bool> = permits.map(|(_, is_probe)| *is_probe).collect();
        let (calls, probing) = (probes.len() as u64, probes.iter().filter(|probe| **probe).count());
        if lane.settings.max_concurrency.is_some_and(|most| calls > most) {
            self.violate(format!("s{service} has {calls} concurrent calls"));
        } else if probing > 1 {
            self.violate(format!("s{service} has {probing} concurrent probes"));
        }
    }

    pub fn check_consumer(&mut self, key: u64) {
        let runs = |worker: &&Worker| worker.consumer.is_some_and(|(consumer, _)| consumer == key);
        let running = self.workers.values().filter(runs).count();
        if running > 8 {
            self.violate(format!("consumer {key} runs {running} contexts"));
        }
    }

    /// In a world without faults of messages and machines, no lease is lost, and cancellation is prompt.
    pub fn check_promptness(&self, id: &ContextId, head: &Head, checker: &InvariantChecker) -> Result<(), String> {
        if !self.was_quiet() {
            return Ok(());
        }
        let is_lost = |attempt: &Attempt| attempt.outcome == AttemptOutcome::Lost;
        if !checker.accepted.contains(id) && head.attempts.iter().any(is_lost) {
            return Err(format!("{id} lost a lease although nothing failed"));
        }
        let ended = head.history.last().map_or(Timestamp(0), |last| last.at);
        let latest = checker.cancelled.get(id).map(|at| at.plus_ms(TIMING.renew_ms + REACTION_MS));
        if latest.is_some_and(|latest| ended > latest) {
            return Err(format!("{id} is worked on after its cancellation"));
        }
        Ok(())
    }
}
