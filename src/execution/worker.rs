//! The worker of one context: performs the actions of the core's driver, and hands in what they result in.
//!
//! All requests of a context are in flight beside each other, in one task. At most one of them is the call of a
//! service, which may be stopped.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;

use crate::objects::contexts::messages::Work;
use crate::objects::lanes::client::Lane;
use crate::objects::lanes::messages::Acquire;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::execution::driver::{Action, ClientAnswer, Driver, Event, Moment, Permit};
use narthex_core::services::outline::TransportOutline;

use super::actions::{self, Done, Job};
use super::{Client, Completion, Timings, WaitOutcome};

/// Works on a context until it ends, belongs to another worker, or must wait for longer than this worker stays. The
/// context is leased or offered to this worker. `permit` is for the service of its admission.
///
/// # Errors
/// An object could not be reached. The lease expires, and the store takes care of the context.
pub async fn work_on(
    tenant: TenantId,
    work: Work,
    snapshot: Rc<Snapshot>,
    permit: Option<Permit>,
    client: Client,
) -> Result<(), Failure> {
    let timing = settings::timing();
    let lane = permit.as_ref().and_then(|permit| snapshot.service(permit.service.as_str()));
    let lane = lane.map(|entry| Rc::new(Lane::of(&tenant, entry)));
    let job = Rc::new(Job::new(tenant, &work.admission, client));
    let driver = Driver::new(work, permit, job.client.waits_until(), timing.inline_retry_max_ms, timing);
    Worker::new(job, driver, snapshot, lane).run().await
}

/// Runs a context that is stored once it has ended, or outlives the wait of its client (`durable: false`). So no object
/// is called before the response.
///
/// # Errors
/// The context could not be stored.
pub async fn run_before_storing(
    tenant: TenantId,
    admission: Admission,
    parameters: Box<RawValue>,
    snapshot: Rc<Snapshot>,
    client: Client,
) -> Result<(), Failure> {
    // The store that is to admit the context gives its first lease the same number.
    let work = Work::first(admission, parameters, Hold::Leased(LeaseNumber::FIRST));
    let job = Rc::new(Job::new(tenant, &work.admission, client));
    let driver = Driver::write_behind(work, job.client.waits_until(), settings::timing());
    Worker::new(job, driver, snapshot, None).run().await
}

struct Worker {
    job: Rc<Job>,
    driver: Driver,
    /// The services that the driver knows.
    snapshot: Rc<Snapshot>,
    /// The lane that granted the present permit, or was asked for one last.
    lane: Option<Rc<Lane>>,
    in_flight: InFlight,
    /// The context as the last receipt says, if it has ended.
    ended: Option<(Box<RawValue>, Option<Box<RawValue>>)>,
    timings: Timings,
    /// The first failure to reach an object.
    failure: Option<Failure>,
}

impl Worker {
    fn new(job: Rc<Job>, driver: Driver, snapshot: Rc<Snapshot>, lane: Option<Rc<Lane>>) -> Self {
        let (in_flight, timings) = (InFlight::default(), Timings::default());
        Self { job, driver, snapshot, lane, in_flight, ended: None, timings, failure: None }
    }

    async fn run(mut self) -> Result<(), Failure> {
        self.hand_in(Event::Started);
        while let Some(done) = self.next().await {
            self.timings.upstream += done.timings.upstream;
            self.timings.commit += done.timings.commit;
            self.ended = done.ended.or(self.ended);
            if let Some(snapshot) = done.snapshot {
                self.snapshot = snapshot;
            }
            if let Some(event) = done.event {
                self.hand_in(event);
            }
            // What the driver could do without is not a failure of the work.
            if self.driver.is_finished() {
                self.failure = self.failure.or(done.failure);
            }
        }
        self.failure.map_or(Ok(()), Err)
    }

    /// Waits for the next thing to happen. `None` if nothing is in progress.
    async fn next(&mut self) -> Option<Done> {
        let wake_at = self.driver.wake_at();
        if wake_at.is_none() && self.in_flight.is_empty() {
            return None;
        }
        let left_ms = wake_at.map(|at| at.since(clock::now()));
        let mut timer = pin!(async move {
            match left_ms {
                Some(ms) => clock::pause(ms).await,
                None => std::future::pending().await,
            }
        });
        let done = poll_fn(|context| {
            if let Poll::Ready(done) = self.in_flight.poll(context) {
                return Poll::Ready(done);
            }
            timer.as_mut().poll(context).map(|()| Done::event(Event::TimePassed))
        });
        Some(done.await)
    }

    fn hand_in(&mut self, event: Event) {
        // The call answers the client itself when its service asks for input.
        if self.driver.has_client() && !self.job.client.waits() {
            self.decide(Event::ClientAnswered);
        }
        self.decide(event);
    }

    fn decide(&mut self, event: Event) {
        let snapshot = self.snapshot.clone();
        let moment = Moment { services: &snapshot.services, now: clock::now(), random: random::number() };
        for action in self.driver.on(event, &moment) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        let (job, snapshot) = (self.job.clone(), self.snapshot.clone());
        let started: LocalBoxFuture<'static, Done> = match action {
            Action::Acquire { at, wait_ms } => {
                let acquire = Acquire::of(&self.driver.work().admission, true, wait_ms);
                self.lane = snapshot.services.get(at).map(|entry| Rc::new(Lane::of(&job.tenant, entry)));
                Box::pin(actions::acquire(job, self.lane.clone(), acquire))
            }
            Action::LeaveQueue { at } => Box::pin(actions::leave_queue(job, snapshot, at)),
            Action::Lease => Box::pin(actions::lease(job, snapshot)),
            Action::AnnounceAttempt { number } => return self.announce_attempt(number),
            Action::Call(call) => {
                self.in_flight.call = Some(Box::pin(actions::call(job, snapshot, call)));
                return;
            }
            Action::StopCall { at, withdraw } => {
                self.in_flight.call = None;
                let Some(lease) = withdraw else { return };
                Box::pin(actions::withdraw(job, snapshot, at, lease))
            }
            Action::Renew(renewal) => Box::pin(actions::renew(job, renewal)),
            Action::RenewPermit(permit) => Box::pin(actions::renew_permit(job, self.lane.clone(), permit)),
            Action::Release { permit, outcome } => Box::pin(actions::release(self.lane.clone(), permit, outcome)),
            Action::ReportCalls { at, successes, last } => {
                Box::pin(actions::report_calls(job, snapshot, at, successes, last))
            }
            Action::Admit(work) => Box::pin(actions::admit(job, snapshot, work)),
            Action::Commit(commit) => Box::pin(actions::commit(job, *commit)),
            Action::Record(record) => Box::pin(actions::record(job, record)),
            Action::PutBack { until } => Box::pin(actions::put_back(job, until)),
            Action::Refuse(error) => Box::pin(actions::refuse(job, error)),
            Action::Refresh => Box::pin(actions::refresh(job)),
            Action::Answer(answer) => return self.answer(answer),
        };
        self.in_flight.others.push(started);
    }

    fn announce_attempt(&self, number: u64) {
        let Some(stream) = &self.job.client.stream else { return };
        let entry = self.snapshot.service(self.driver.work().admission.service.as_str());
        let transport = entry.map(|entry| &Entry::service(entry).transport);
        if stream.has_pieces() || matches!(transport, Some(TransportOutline::Openai)) {
            stream.attempt(number);
        }
    }

    fn answer(&mut self, answer: ClientAnswer) {
        let ended = match answer {
            ClientAnswer::Ended => self.ended.take(),
            // In both cases, the client looks for the context at its store.
            ClientAnswer::Continues | ClientAnswer::NotStored => None,
        };
        let timings = self.timings;
        self.job.client.answer(match ended {
            Some((view, result)) => WaitOutcome::Ended(Completion { view, result, timings }),
            None => WaitOutcome::Continues,
        });
    }
}

/// The requests in progress.
#[derive(Default)]
struct InFlight {
    /// The call of the service.
    call: Option<LocalBoxFuture<'static, Done>>,
    /// They are few, so all of them are polled each time.
    others: Vec<LocalBoxFuture<'static, Done>>,
}

impl InFlight {
    fn is_empty(&self) -> bool {
        self.call.is_none() && self.others.is_empty()
    }

    /// The next one that is done, in the order in which they were started.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        for at in 0..self.others.len() {
            if let Some(Poll::Ready(done)) = self.others.get_mut(at).map(|other| other.as_mut().poll(context)) {
                drop(self.others.remove(at));
                return Poll::Ready(done);
            }
        }
        let Some(call) = &mut self.call else { return Poll::Pending };
        let polled = call.as_mut().poll(context);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}
