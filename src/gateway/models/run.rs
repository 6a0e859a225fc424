//! One request for a model: its targets one after the other, until one responds.

use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};

use crate::auth::credential_watch::RequiredPermissions;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::http::Headers;
use crate::platform::{clock, tasks};
use narthex_core::access::permission;
use narthex_core::access::principal::Principal;
use narthex_core::base::time::Timestamp;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::{Endpoint, Format};
use narthex_core::models::spent::Spent;
use narthex_core::services::model_routing::{ModelMatch, ModelTarget};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::limits::{self, Charge};
use super::attempt::{self, Target};
use super::beginning::{CallFailure, ResponseStart};
use super::delivery::Delivery;
use super::intake::Intake;
use super::permit::{self, CallPermit};
use super::record::{AttemptEnd, Recorder, report, report_call};
use super::{refusal, selection};

/// How long the last target is waited for if its service has no capacity, in milliseconds.
const PERMIT_WAIT_MS: u64 = 10_000;

/// The service of a target.
pub fn entry_of<'s>(snapshot: &'s Snapshot, target: &ModelTarget) -> Option<&'s Entry> {
    snapshot.services.get(target.service)
}

/// A request whose targets are known.
pub struct Run<'a> {
    pub call: &'a Call,
    pub caller: &'a Caller,
    pub endpoint: Endpoint,
    pub snapshot: Rc<Snapshot>,
    pub recorder: Recorder,
    pub deadline: Timestamp,
}

impl Run<'_> {
    /// Calls the targets in their order, until one responds.
    pub async fn run(mut self, found: &ModelMatch, intake: &mut Intake) -> Result<Answer, Problem> {
        let route = found.route.clone();
        let mut last: Option<(CallFailure, usize)> = None;
        let mut skipped: Option<Problem> = None;
        for (at, wanted) in found.targets.iter().enumerate() {
            let is_last = at + 1 == found.targets.len();
            let snapshot = self.snapshot.clone();
            let Some(entry) = entry_of(&snapshot, wanted) else { continue };
            let settings = route.as_ref().map(|route| &route.settings);
            let Some(mut target) = Target::of(entry, wanted, settings).await else { continue };
            if at > 0 {
                self.call.limits.begin_next(Charge::SameRequest);
            }
            let permit = match self.admit(entry, at, is_last).await {
                Ok(permit) => permit,
                Err(problem) => {
                    skipped = Some(problem);
                    continue;
                }
            };
            let started_at = clock::now();
            let called = self.call(entry, &mut target, intake).await;
            let failed = match called {
                Err(problem) => {
                    if let Some(permit) = permit {
                        permit.release_unused().await;
                    }
                    return Err(self.refuse(intake, problem));
                }
                Ok(Ok(begun)) => {
                    let offer = entry.service().capabilities.get(wanted.capability);
                    self.recorder.admission.service = entry.service().id.clone();
                    self.recorder.admission.price = offer.and_then(|offer| offer.price.clone());
                    return Ok(self.deliver(intake, wanted.service, target, permit, started_at, begun));
                }
                Ok(Err(failed)) => failed,
            };
            let moves_on = failed.kind.moves_on(&target.settings) && !is_last && intake.rest.is_none();
            if let Some(ms) = failed.kind.aside_ms(failed.retry_after_ms) {
                self.put_aside(found, at, ms);
            }
            self.note(entry, permit, started_at, &failed).await;
            last = Some((failed, wanted.service));
            if !moves_on {
                break;
            }
        }
        match last {
            Some((failed, service)) => self.fail(intake, failed, service),
            None => {
                let problem = skipped.unwrap_or_else(|| {
                    Problem::new(Code::NoServiceAvailable, "No service that has this model can be called now.")
                        .with_header("Retry-After", "5")
                });
                Err(self.refuse(intake, problem))
            }
        }
    }

    /// A call that was stored ends, if it is refused afterwards.
    fn refuse(self, intake: &Intake, problem: Problem) -> Problem {
        if self.recorder.stored.is_some() {
            let (refused, model) = (problem.clone(), intake.model.clone());
            tasks::keep_running(async move { self.recorder.store_refusal(&refused, &model).await });
        }
        problem
    }

    /// Calls a target, unless its context is cancelled first.
    async fn call(
        &self,
        entry: &Entry,
        target: &mut Target,
        intake: &mut Intake,
    ) -> Result<Result<ResponseStart, CallFailure>, Problem> {
        let called = attempt::call(self.call, entry, target, self.endpoint, intake, self.deadline);
        let Some(stored) = &self.recorder.stored else { return called.await };
        match select(pin!(called), pin!(stored.cancelled())).await {
            Either::Left((called, _)) => called,
            Either::Right(_) => Err(Problem::new(Code::Conflict, "The context was cancelled.")),
        }
    }

    /// Applies the limits of a service and takes a permit for it, if it needs one.
    async fn admit(&self, entry: &Entry, at: usize, is_last: bool) -> Result<Option<CallPermit>, Problem> {
        let (caller, service) = (self.caller, &entry.service().id);
        let is_counted = at == 0 && self.recorder.stored.is_some();
        if !is_counted {
            limits::work(self.call, &caller.principal, &self.snapshot, service, self.endpoint.capability()).await?;
        }
        if !entry.is_gated() {
            return Ok(None);
        }
        let wait_ms = if is_last { PERMIT_WAIT_MS.min(self.deadline.since(clock::now())) } else { 0 };
        permit::acquire(&caller.principal.tenant, entry, &self.recorder.admission, wait_ms).await
    }

    /// Puts a target aside, if another one is free.
    fn put_aside(&self, found: &ModelMatch, at: usize, milliseconds: u64) {
        let tenant = &self.caller.principal.tenant;
        let is_free = |(other, target): (usize, &ModelTarget)| {
            other != at && selection::aside_until(&self.snapshot, tenant, target).is_none()
        };
        if let Some(target) = found.targets.get(at)
            && found.targets.iter().enumerate().any(is_free)
        {
            selection::put_aside(&self.snapshot, tenant, target, milliseconds);
        }
    }

    /// Notes a failed attempt.
    async fn note(&mut self, entry: &Entry, permit: Option<CallPermit>, started_at: Timestamp, failed: &CallFailure) {
        let status = failed.response.as_ref().map(|response| response.status);
        let end = AttemptEnd::of(failed);
        let signal = end.signal();
        let report = report(entry, started_at, status, end);
        report_call(&self.recorder.tenant, entry, permit, &report, signal).await;
        self.recorder.earlier.push(report);
    }

    /// The response of a target.
    fn deliver(
        self,
        intake: &Intake,
        service: usize,
        target: Target,
        permit: Option<CallPermit>,
        started_at: Timestamp,
        begun: ResponseStart,
    ) -> Answer {
        let Self { call, caller, endpoint, snapshot, recorder, deadline } = self;
        let needed = RequiredPermissions::one(permission::to_use(granting(&caller.principal, &intake.model)));
        let watch = call.watched(&caller.principal, needed);
        let mut headers = self::headers(&recorder, begun.head().request_id.as_str(), &target.upstream);
        if endpoint.format() == Format::Anthropic {
            headers.set("request-id", &call.request_id);
        }
        let upstream_ms = clock::now().since(started_at);
        let delivery = Delivery {
            recorder,
            snapshot,
            service,
            target,
            permit,
            limit_permits: call.limits.hand_over(),
            endpoint,
            streams: intake.head.streams,
            model: intake.model.clone(),
            service_tier: intake.head.service_tier.clone(),
            request_bytes: intake.bytes.max(intake.rest.as_ref().map_or(0, |rest| rest.read())),
            started_at,
            deadline,
            request_id: call.request_id.clone(),
            client: call.request.signal(),
        };
        let mut answer = delivery.respond(begun, watch, headers);
        answer.timings.upstream = upstream_ms;
        answer
    }

    /// All targets have failed: the response is that of the last one.
    fn fail(mut self, intake: &Intake, failed: CallFailure, service: usize) -> Result<Answer, Problem> {
        let snapshot = self.snapshot.clone();
        let Some(report) = self.recorder.earlier.pop() else { return Err(Problem::internal("no attempt")) };
        let entry = snapshot.services.get(service);
        if let Some(entry) = entry {
            self.recorder.admission.service = entry.service().id.clone();
        }
        let request_id = failed.response.as_ref().map_or("", |response| response.head.request_id.as_str());
        let headers = headers(&self.recorder, request_id, "");
        let (id, name) = (self.recorder.admission.id.clone(), self.recorder.admission.service.clone());
        let answer = refusal::of_failure(self.call, self.endpoint, &failed, headers);
        tasks::keep_running(self.recorder.store(report, Spent::nothing(&intake.model), None));
        Ok(answer.about(id, Some(name.as_str())))
    }
}

/// The name by which a caller may use a model: as it was asked for, or the listed id behind the service.
fn granting<'m>(principal: &Principal, model: &'m str) -> &'m str {
    let listed = || model.split_once('/').map_or(model, |(_, listed)| listed);
    if selection::may_use(principal, model) { model } else { listed() }
}

/// Headers that say what served a request.
fn headers(recorder: &Recorder, upstream_request_id: &str, model: &str) -> Headers {
    let mut headers = Headers::default();
    headers.set("x-narthex-context", recorder.admission.id.as_str());
    headers.set("x-narthex-service", recorder.admission.service.as_str());
    for (name, value) in [("x-narthex-model", model), ("x-narthex-upstream-request-id", upstream_request_id)] {
        if !value.is_empty() {
            headers.set(name, value);
        }
    }
    headers
}
