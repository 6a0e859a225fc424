//! Carries one context from its lease to its commit: a state machine without I/O.
//!
//! [`Driver::on`] takes an event and returns the actions that follow, to be performed in this order; the caller awaits
//! their results beside each other and hands each in as another event. It wakes the driver at [`Driver::wake_at`].
//! The simulation performs the same actions in its worlds.
//!
//! Three rules hold in every state. A service is called only under a lease of the store, or before the context is
//! stored at all (`durable: false`). A permit that was granted is returned exactly once. A client that waits is
//! answered once: by the end of its wait, with the end of the context if that is stored by then.

mod call;
mod gate;
mod messages;
mod receipts;
mod renewal;
mod report;

use std::rc::Rc;

use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::context::{self, lease::Hold};
use crate::context_store::replies::Work;
use crate::execution::attempt_result::AttemptResult;
use crate::execution::backoff::Backoff;
use crate::execution::known_service::KnownService;
use crate::execution::selection::{self, Selection};
use crate::lane::call_outcome::CallOutcome;

pub use messages::{
    Action, AdmissionResult, Call, ClientAnswer, Commit, CommitReceipt, Event, LeaseResult, Permit, RefusalReceipt,
    RenewResult, Renewal, Unreachable, Withheld,
};

/// What holds when an event happens.
#[derive(Debug)]
pub struct Moment<'a, S> {
    /// The services that the worker knows.
    pub services: &'a [S],
    pub now: Timestamp,
    pub random: u64,
}

/// The service that the attempt goes to.
#[derive(Debug, Clone)]
struct Target {
    /// Its index.
    at: usize,
    service: ServiceId,
    /// It opens its connections itself.
    connects: bool,
    /// It must not be called without a permit.
    is_limited: bool,
}

/// A worker waits for a permit.
#[derive(Debug)]
struct Queueing {
    target: Target,
    backoff: Backoff,
    /// When the lane is asked again that could not be reached.
    asks_at: Option<Timestamp>,
    /// The services are read again before the lane is asked again.
    refreshes: bool,
}

/// Whether the store knows the context.
#[derive(Debug)]
enum Admission {
    Stored,
    /// The context is run first and recorded then.
    NotStored,
    /// It is to be stored although it has not ended. The service may have responded before that is done.
    Requested(Option<Box<AttemptResult>>),
}

#[derive(Debug)]
enum State {
    New,
    Queueing(Queueing),
    /// `None`: there is no service, which the attempt reports.
    Leasing(Option<Target>),
    Calling(Target),
    /// The service's next call must see the result of the probe.
    ReleasingProbe(Permit, Box<AttemptResult>),
    Committing {
        renews: bool,
    },
    /// The context is returned, refused or recorded: the worker's last step.
    Leaving,
    /// The next attempt begins at this time.
    Pausing(Timestamp),
    /// The services are read again: for the next attempt, or for this one at the target, which was waited for.
    Refreshing(Option<Target>),
    Finished,
}

/// Makes the attempts of one context, until it ends, belongs to another worker, or must wait longer than `stays_ms`.
#[derive(Debug)]
pub struct Driver {
    work: Rc<Work>,
    admission: Admission,
    permit: Option<Permit>,
    /// The service whose lane was asked for a permit and has not replied.
    asked: Option<ServiceId>,
    /// Until when a client waits.
    client: Option<Timestamp>,
    stays_ms: u64,
    timing: Timing,
    state: State,
    /// When the attempt began.
    began: Timestamp,
    /// When the hold was granted or renewed last.
    renewed_at: Timestamp,
    /// Calls to report to the lane once the commit is made.
    unreported: Option<(usize, u64, CallOutcome)>,
    /// How many messages about calls have no reply of a lane yet. The next attempt must see what they change.
    unsettled: usize,
    actions: Vec<Action>,
}

impl Driver {
    /// For a context that is leased or offered to this worker. `permit` is for the service of its admission.
    pub fn new(work: Work, permit: Option<Permit>, client: Option<Timestamp>, stays_ms: u64, timing: Timing) -> Self {
        Self {
            work: Rc::new(work),
            admission: Admission::Stored,
            permit,
            asked: None,
            client,
            stays_ms,
            timing,
            state: State::New,
            began: Timestamp::default(),
            renewed_at: Timestamp::default(),
            unreported: None,
            unsettled: 0,
            actions: Vec::new(),
        }
    }

    /// For a context that is run before it is stored (`durable: false`), under the first lease.
    pub fn write_behind(mut work: Work, client: Option<Timestamp>, timing: Timing) -> Self {
        // A context that is not stored cannot be retried.
        work.admission.retry.max_attempts = 1;
        Self { admission: Admission::NotStored, ..Self::new(work, None, client, 0, timing) }
    }

    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Whether a client waits for an answer of this driver.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Whether the work stays with this worker although another one could do it later: a client waits for it, or
    /// no other worker has its content.
    fn stays(&self) -> bool {
        self.client.is_some() || self.has_all_content()
    }

    /// Whether the content is nowhere but here.
    fn has_all_content(&self) -> bool {
        !self.work.admission.content.is_full()
    }

    /// Whether it waits in the queue of a service.
    pub fn is_queueing(&self) -> bool {
        matches!(self.state, State::Queueing(_))
    }

    /// No event follows but those of actions in progress.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// When the driver wants the next [`Event::TimePassed`].
    pub fn wake_at(&self) -> Option<Timestamp> {
        let own = match &self.state {
            State::Queueing(Queueing { asks_at, .. }) => *asks_at,
            State::Pausing(until) => Some(*until).filter(|_| self.unsettled == 0),
            State::New
            | State::Leasing(_)
            | State::Calling(_)
            | State::ReleasingProbe(..)
            | State::Committing { .. }
            | State::Leaving
            | State::Refreshing(_)
            | State::Finished => None,
        };
        let wait = self.client.filter(|_| !matches!(self.admission, Admission::Requested(_)));
        [own, self.renews_at(), wait].into_iter().flatten().min()
    }

    pub fn on<S: KnownService>(&mut self, event: Event, moment: &Moment<'_, S>) -> Vec<Action> {
        match event {
            Event::Started => {
                self.renewed_at = moment.now;
                self.start(moment);
            }
            Event::TimePassed => self.time_passed(moment),
            Event::ClientAnswered => self.client = None,
            Event::Acquired(reply) => self.acquired(reply, moment),
            Event::Leased(reply) => self.leased(reply, moment),
            Event::Renewed(renewal, reply) => self.renewed(renewal, reply, moment),
            Event::Responded(result) => self.responded(result, moment),
            Event::Released(permit) => {
                self.settled(moment);
                self.released(&permit);
            }
            Event::CallsReported => self.settled(moment),
            Event::Admitted(reply) => self.admitted(reply, moment),
            Event::Committed(reply) => self.committed(reply, moment),
            Event::Recorded(_) | Event::PutBack(_) => self.left(None, moment.now),
            Event::Refused(reply) => self.left(reply.ok(), moment.now),
            Event::Refreshed(reply) => self.refreshed(reply, moment),
        }
        std::mem::take(&mut self.actions)
    }

    /// The last step was made.
    fn left(&mut self, refusal: Option<RefusalReceipt>, now: Timestamp) {
        if !matches!(self.state, State::Leaving) {
            return;
        }
        if refusal == Some(RefusalReceipt::Ended) {
            self.answer(ClientAnswer::Ended);
        }
        self.report_calls();
        self.finish(now);
    }

    fn refreshed<S: KnownService>(&mut self, reply: Result<(), Unreachable>, moment: &Moment<'_, S>) {
        if matches!(self.state, State::Queueing(Queueing { refreshes: true, .. })) {
            return self.ask_lane_again(moment);
        }
        let State::Refreshing(target) = &mut self.state else { return };
        match (target.take(), reply) {
            (None, Ok(())) => self.start(moment),
            (None, Err(Unreachable)) => self.finish(moment.now),
            // The services stay as they are known.
            (Some(target), _) => self.attempt_at(&target, moment),
        }
    }

    fn wanted(&self) -> &context::Admission {
        &self.work.admission
    }

    /// Begins an attempt: selects its service, and passes the gate of it.
    fn start<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        self.began = moment.now;
        if matches!(self.admission, Admission::NotStored) {
            return self.attempt_without_gate(moment);
        }
        let services = moment.services;
        let selected = selection::select_service(&self.work, services, moment.now, moment.random);
        let target = match selected {
            Selection::Service { at, version } => target(services, at).inspect(|_| {
                Rc::make_mut(&mut self.work).admission.version = version;
            }),
            Selection::Unavailable if self.work.hold.is_offered() && !self.stays() => {
                return self.wait_for_service(moment);
            }
            Selection::Unavailable | Selection::NoCandidate => None,
        };
        match target {
            Some(target) => self.enter(target, moment),
            None => {
                self.release_unused(moment.now);
                self.lease(None, moment);
            }
        }
    }

    /// Leases the context, unless that is done, and makes the attempt. The services may have changed while the worker
    /// waited for a permit.
    fn lease<S: KnownService>(&mut self, target: Option<Target>, moment: &Moment<'_, S>) {
        if self.work.hold.is_offered() {
            self.actions.push(Action::Lease);
            self.state = State::Leasing(target);
        } else if matches!(self.state, State::Queueing(_)) {
            self.actions.push(Action::Refresh);
            self.state = State::Refreshing(target);
        } else {
            self.attempt(target, moment);
        }
    }

    fn leased<S: KnownService>(&mut self, reply: Result<LeaseResult, Unreachable>, moment: &Moment<'_, S>) {
        let State::Leasing(target) = &mut self.state else { return };
        let target = target.take();
        match reply {
            Ok(LeaseResult::Leased(mut work)) if !work.hold.is_offered() => {
                self.renewed_at = moment.now;
                // The offer may be older than the last attempt.
                let is_known = work.attempt == self.work.attempt;
                if self.has_all_content() {
                    work.parameters = self.work.parameters.clone();
                    work.admission.restore(&self.work.admission);
                }
                self.work = Rc::new(*work);
                match target.filter(|_| is_known) {
                    Some(target) => self.attempt_at(&target, moment),
                    None => self.start(moment),
                }
            }
            // Another worker has it, or it was cancelled, or the store cannot be reached.
            Ok(LeaseResult::Leased(_) | LeaseResult::Nothing) | Err(Unreachable) => self.finish(moment.now),
        }
    }

    /// Makes the attempt at a service that was selected before the lease. The services may have changed since: only
    /// what is registered now may be called.
    fn attempt_at<S: KnownService>(&mut self, selected: &Target, moment: &Moment<'_, S>) {
        match self.find(&selected.service, moment) {
            // Its limit is new.
            Some(found) if found.is_limited && !selected.is_limited && self.permit.is_none() => {
                self.enter(found, moment);
            }
            Some(found) => self.attempt(Some(found), moment),
            None => self.start(moment),
        }
    }

    /// A context that is not stored is run at the service of its admission, which needs no permit.
    fn attempt_without_gate<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        let service = self.wanted().service.clone();
        let target = self.find(&service, moment);
        self.attempt(target, moment);
    }

    /// The service with this id, as it is registered now.
    fn find<S: KnownService>(&mut self, service: &ServiceId, moment: &Moment<'_, S>) -> Option<Target> {
        let (at, version) = selection::find(&self.work, moment.services, service)?;
        Rc::make_mut(&mut self.work).admission.version = version;
        target(moment.services, at)
    }

    fn time_passed<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        let now = moment.now;
        if self.client.is_some_and(|until| until <= now) {
            self.wait_is_over();
        }
        if self.renews_at().is_some_and(|at| at <= now) {
            self.renew(now);
        }
        match &mut self.state {
            State::Queueing(queueing) if queueing.asks_at.is_some_and(|at| at <= now) => {
                queueing.asks_at = None;
                self.ask_lane(moment);
            }
            _ => self.end_pause(now),
        }
    }

    /// Begins the next attempt once its time has come.
    fn end_pause(&mut self, now: Timestamp) {
        if self.unsettled == 0 && matches!(self.state, State::Pausing(until) if until <= now) {
            let work = Rc::make_mut(&mut self.work);
            work.tried.push(work.admission.service.clone());
            work.attempt += 1;
            work.hold = Hold::Offered;
            self.actions.push(Action::Refresh);
            self.state = State::Refreshing(None);
        }
    }

    /// Answers the client that does not wait any longer. If its context is not stored, it is stored first.
    fn wait_is_over(&mut self) {
        match self.admission {
            Admission::Stored => self.answer(ClientAnswer::Continues),
            // The result could not be fetched.
            Admission::NotStored if self.has_all_content() => self.answer(ClientAnswer::NotStored),
            Admission::NotStored if matches!(self.state, State::Calling(_)) => self.admit(None),
            Admission::NotStored | Admission::Requested(_) => {}
        }
    }

    fn answer(&mut self, answer: ClientAnswer) {
        if self.client.take().is_some() {
            self.actions.push(Action::Answer(answer));
        }
    }

    /// Nothing is left to do: returns what the worker still has.
    fn finish(&mut self, now: Timestamp) {
        self.release_unused(now);
        let is_stored = matches!(self.admission, Admission::Stored);
        self.answer(if is_stored { ClientAnswer::Continues } else { ClientAnswer::NotStored });
        self.state = State::Finished;
    }
}

fn target<S: KnownService>(services: &[S], at: usize) -> Option<Target> {
    let known = services.get(at)?;
    let (service, connects) = (known.service().id.clone(), known.service().transport.connects());
    Some(Target { at, service, connects, is_limited: known.is_limited() })
}

#[cfg(test)]
mod tests;
