//! One request for a model: its targets one after the other, until one responds.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::http::Headers;
use crate::platform::{clock, random, tasks};
use narthex_core::access::permission;
use narthex_core::access::principal::Principal;
use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::{self, Fault};
use narthex_core::base::time::Timestamp;
use narthex_core::context::Admission;
use narthex_core::context::status::{Priority, Source};
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::prefer;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::{Endpoint, Format};
use narthex_core::models::spent::Spent;
use narthex_core::models::token_usage::TokenUsage;
use narthex_core::services::model_routing::{ModelMatch, ModelTarget};

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::limits::{self, Charge};
use super::attempt::{self, Target};
use super::beginning::{CallFailure, ResponseStart};
use super::delivery::Delivery;
use super::intake::{self, Intake};
use super::permit::{self, CallPermit};
use super::record::{AttemptEnd, Recorder, report, report_call};
use super::{refusal, selection};

/// How long a call may take, in seconds: a stream, and a response in one piece.
const STREAM_SECONDS: u64 = 3_600;
const WHOLE_SECONDS: u64 = 600;
/// The largest metadata of a request, in bytes.
const MAX_METADATA: usize = 8 * 1024;
/// How long the last target is waited for if its service has no capacity, in milliseconds.
const PERMIT_WAIT_MS: u64 = 10_000;

/// Serves a request for a model.
pub async fn serve(call: &Call, mut caller: Caller, endpoint: Endpoint) -> Result<Answer, Problem> {
    // A client that leaves ends its call, and leaves a record.
    let _stay = tasks::stay();
    refuse_async(call)?;
    let metadata = metadata(call)?;
    let timeout = timeout(call)?;
    let mut intake = intake::read(call, endpoint).await?;
    // Only texts are streamed.
    intake.head.streams &= endpoint != Endpoint::Embeddings;
    refuse_state(endpoint, &intake)?;
    let found = selection::select(call, &mut caller, endpoint, &intake.model, &intake.head).await?;
    let seconds =
        timeout.unwrap_or(f64::MAX).min(if intake.head.streams { STREAM_SECONDS } else { WHOLE_SECONDS } as f64);
    let deadline = call.began.plus_ms((seconds * 1_000.0) as u64);
    if clock::now() >= deadline {
        return Err(Problem::new(Code::RequestTimeout, "The time of the request was over when its body had arrived."));
    }
    let snapshot = caller.snapshot.clone();
    let first = found.targets.first().and_then(|target| entry_of(&snapshot, target));
    let (entry, target) = first.zip(found.targets.first()).ok_or_else(|| Problem::internal("no target"))?;
    let admission = admission(call, &caller, entry, target, endpoint, metadata, deadline)?;
    let recorder = Recorder { tenant: caller.principal.tenant.clone(), admission, earlier: Vec::new() };
    Run { call, caller: &caller, endpoint, snapshot: snapshot.clone(), recorder, deadline }
        .run(&found, &mut intake)
        .await
}

fn entry_of<'s>(snapshot: &'s Snapshot, target: &ModelTarget) -> Option<&'s Entry> {
    snapshot.services.get(target.service)
}

/// The Responses API is served without state: what needs it is refused.
fn refuse_state(endpoint: Endpoint, intake: &Intake) -> Result<(), Problem> {
    if endpoint != Endpoint::Responses {
        return Ok(());
    }
    let refused = |name: &str, detail: &str| {
        let errors = vec![Fault::new(format!("#/{name}"), detail)];
        Err(Problem { errors, ..Problem::new(Code::InvalidRequest, format!("The member {name} {detail}.")) })
    };
    if intake.head.store == Some(true) {
        return refused("store", "must be false: the gateway keeps no responses");
    }
    if intake.head.background {
        return refused("background", "must be false: create a context instead");
    }
    match intake.head.stateful {
        Some(name) => refused(name, "is not supported: the gateway keeps no responses"),
        None => Ok(()),
    }
}

/// A response that is not kept cannot be fetched later.
fn refuse_async(call: &Call) -> Result<(), Problem> {
    if !prefer::parse(call.request.header("prefer")).respond_async {
        return Ok(());
    }
    let detail = "Responses of models are not kept, so that they cannot be fetched later. Leave out respond-async, or \
                  create a context with POST /v1/contexts.";
    Err(Problem::new(Code::ContentNotKept, detail))
}

/// The metadata of the context, from its header.
fn metadata(call: &Call) -> Result<Option<Box<RawValue>>, Problem> {
    let Some(text) = call.request.header("x-narthex-metadata").filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let malformed = |detail: String| Problem::new(Code::InvalidRequest, format!("X-Narthex-Metadata {detail}."));
    if text.len() > MAX_METADATA {
        return Err(malformed(format!("must have at most {MAX_METADATA} bytes")));
    }
    let text = json::check(text.trim().as_bytes(), json::MAX_DEPTH)
        .map_err(|invalid| malformed(format!("is not acceptable JSON: {invalid}")))?;
    let raw = RawValue::from_string(text.into()).ok().filter(|raw| raw.get().starts_with('{'));
    raw.map(Some).ok_or_else(|| malformed("must be a JSON object".into()))
}

/// The time that the client allows, in seconds.
fn timeout(call: &Call) -> Result<Option<f64>, Problem> {
    let Some(text) = call.request.header("x-narthex-timeout") else { return Ok(None) };
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.001..=1e6).contains(seconds));
    let malformed = || Problem::new(Code::InvalidRequest, "X-Narthex-Timeout must be a number of seconds above 0.");
    seconds.map(Some).ok_or_else(malformed)
}

fn admission(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    target: &ModelTarget,
    endpoint: Endpoint,
    metadata: Option<Box<RawValue>>,
    deadline: Timestamp,
) -> Result<Admission, Problem> {
    let service = entry.service();
    let offer = service.capabilities.get(target.capability).ok_or_else(|| Problem::internal("no capability"))?;
    // Its deadline counts from then.
    let now = call.began;
    Ok(Admission {
        id: ContextId::new(call.new_store(), now, random::bytes()),
        tenant: caller.principal.tenant.clone(),
        owner: caller.principal.principal.clone(),
        owner_name: caller.principal.name.clone(),
        replay_of: None,
        capability: endpoint.capability().into(),
        asked_service: None,
        asked_version: None,
        asked_tags: Vec::new(),
        service: service.id.clone(),
        version: offer.version.clone(),
        idempotent: false,
        retry: service.retry,
        priority: Priority::default(),
        source: Source::User,
        metadata,
        idempotency_key: None,
        created_at: now,
        expires_at: deadline,
        run_at: None,
        trace: call.trace.header(),
        trace_state: call.trace.state.clone(),
        client: None,
        session: None,
        unasked: false,
        log_level: None,
        meta: None,
        content: Content::None,
        origin: String::new(),
    })
}

struct Run<'a> {
    call: &'a Call,
    caller: &'a Caller,
    endpoint: Endpoint,
    snapshot: Rc<Snapshot>,
    recorder: Recorder,
    deadline: Timestamp,
}

impl Run<'_> {
    /// Calls the targets in their order, until one responds.
    async fn run(mut self, found: &ModelMatch, intake: &mut Intake) -> Result<Answer, Problem> {
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
            let permit = match self.admit(entry, is_last).await {
                Ok(permit) => permit,
                Err(problem) => {
                    skipped = Some(problem);
                    continue;
                }
            };
            let started_at = clock::now();
            let called = attempt::call(self.call, entry, &mut target, self.endpoint, intake, self.deadline).await;
            let failed = match called {
                Err(problem) => {
                    if let Some(permit) = permit {
                        permit.release_unused().await;
                    }
                    return Err(problem);
                }
                Ok(Ok(begun)) => {
                    self.recorder.admission.service = entry.service().id.clone();
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
            None => Err(skipped.unwrap_or_else(|| {
                Problem::new(Code::NoServiceAvailable, "No service that has this model can be called now.")
                    .with_header("Retry-After", "5")
            })),
        }
    }

    /// Applies the limits of a service and takes a permit for it, if it needs one.
    async fn admit(&self, entry: &Entry, is_last: bool) -> Result<Option<CallPermit>, Problem> {
        let (caller, service) = (self.caller, &entry.service().id);
        limits::work(self.call, &caller.principal, &self.snapshot, service, self.endpoint.capability()).await?;
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
        let id = self.recorder.admission.id.clone();
        let answer = refusal::of_failure(self.call, self.endpoint, &failed, headers);
        let spent =
            Spent { model: intake.model.clone(), usage: TokenUsage::default(), cost: None, finish_reason: None };
        tasks::keep_running(self.recorder.store(report, spent));
        Ok(Answer { context: Some(id), ..answer })
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
