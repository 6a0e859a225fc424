//! The Worker's side of a service's lane: permits and reports of calls.
//!
//! A service without `max_concurrency` whose breaker is closed costs no request to the lane: its calls are counted
//! here; the lane is notified of failures at once and of successes from time to time, after the response.

use std::rc::Rc;

use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::events::messages::Viewer;
use crate::objects::protocol::{Done, Pending, Request, call_enclosed, open_socket};
use crate::objects::registry::snapshot::Entry;
use crate::objects::registry::target;
use crate::objects::retries::pause_after;
use crate::platform::http::Headers;
use crate::platform::objects::{CallError, SocketResponse};
use crate::platform::{Failure, clock, log_event, settings};
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::Retries;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::Admission;
use narthex_core::context::status::Priority;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::live::Live;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::lane::permit_number::PermitNumber;

use super::messages::{
    Acquire, CheckConnection, Dispatch, DispatchReply, Heartbeat, HeartbeatReply, LaneReply, Lanes, Leave, Message,
    Open, PermitReply, Probe, ProbeReply, ProbeReport, Release, Renew, ReportCalls, Withdraw,
};

/// How many times a message is retried that is safe to repeat.
const MAX_RETRIES: u32 = 1;

/// A request for a permit.
pub struct PermitRequest<'a> {
    pub tenant: &'a TenantId,
    pub entry: &'a Entry,
    pub context: &'a ContextId,
    pub principal: &'a PrincipalId,
    pub priority: Priority,
    pub deadline: Timestamp,
    /// The context was admitted before: it is never rejected with [`AcquireResult::Full`].
    pub admitted: bool,
}

impl<'a> PermitRequest<'a> {
    /// For an admitted context, or one about to be.
    pub fn new(tenant: &'a TenantId, entry: &'a Entry, admission: &'a Admission, admitted: bool) -> Self {
        Self {
            tenant,
            entry,
            context: &admission.id,
            principal: &admission.owner,
            priority: admission.priority,
            deadline: admission.expires_at,
            admitted,
        }
    }
}

pub enum AcquireResult {
    /// No permit is needed: the caller makes the call and reports it with [`note`].
    Free,
    /// The caller makes the call, renews the permit during it and releases it with the outcome.
    Permit(Permit),
    /// The context has a place in the wait queue until its deadline or [`leave`].
    Waiting,
    /// The wait queue is full: reject with `queue_full`.
    Full { retry_after_ms: u64 },
    /// The breaker is open until this time.
    Open { until: Timestamp },
    /// The remaining time is shorter than a typical call.
    TooLate,
}

/// The right to make one call.
pub struct Permit {
    lane: Lane,
    number: PermitNumber,
    is_probe: bool,
    granted_at: Timestamp,
    principal: PrincipalId,
}

/// Sends a request to the lane of a service.
pub fn call<R: Request<Object = Lanes>>(about: &Message<()>, request: &R) -> Pending<LaneReply<R::Reply>> {
    call_enclosed(&Lanes::of(&about.tenant, &about.service), about, request)
}

/// A lane, with what comes with each request.
struct Lane {
    about: Message<()>,
    live: Rc<Live>,
}

impl Lane {
    fn of(tenant: &TenantId, entry: &Entry) -> Self {
        Self { about: Message::about(tenant, &entry.registered), live: entry.live.clone() }
    }

    /// Sends a request and records the status in the reply.
    async fn call<R: Request<Object = Lanes>>(&self, request: &R) -> Result<R::Reply, CallError> {
        let LaneReply { observed, reply } = call(&self.about, request).await?;
        self.live.update_observed(observed);
        Ok(reply)
    }

    /// As [`Lane::call`], with retries; a failure is only logged, because the lane recovers by itself.
    async fn notify(&self, max_retries: u32, request: &impl Request<Object = Lanes, Reply = Done>) {
        let mut retries = Retries::up_to(max_retries);
        while let Err(error) = self.call(request).await {
            let Message { tenant, service, .. } = &self.about;
            log_event!(LaneNotNotified, tenant = tenant, service = service, detail = &error);
            if !pause_after(&mut retries, &error).await {
                return;
            }
        }
    }
}

/// Requests a permit and waits for it at most `wait_ms`. An open breaker that is known here costs no request.
///
/// # Errors
/// The lane cannot be reached. A service without a limit may be called anyway: its breaker is only advice then. With a
/// limit the call must not be made; it is retried later, as after [`AcquireResult::Waiting`].
pub async fn acquire(request: &PermitRequest<'_>, wait_ms: u64) -> Result<AcquireResult, CallError> {
    if let Some(until) = request.entry.live.known_open_until(clock::now()) {
        return Ok(AcquireResult::Open { until });
    }
    let lane = Lane::of(request.tenant, request.entry);
    let acquire = Acquire {
        context: request.context.clone(),
        principal: request.principal.clone(),
        priority: request.priority,
        deadline: request.deadline,
        admitted: request.admitted,
        wait_ms,
    };
    let PermitReply::Decision(decision) = lane.call(&acquire).await?;
    Ok(match decision {
        PermitDecision::Free => AcquireResult::Free,
        PermitDecision::Permit { number, probe } => {
            let principal = request.principal.clone();
            AcquireResult::Permit(Permit { lane, number, is_probe: probe, granted_at: clock::now(), principal })
        }
        PermitDecision::Waiting => AcquireResult::Waiting,
        PermitDecision::Full { retry_after_ms } => AcquireResult::Full { retry_after_ms },
        PermitDecision::Open { until } => {
            request.entry.live.block_until(until);
            AcquireResult::Open { until }
        }
        PermitDecision::TooLate => AcquireResult::TooLate,
    })
}

impl Permit {
    /// Whether this call tests if the service has recovered. Its [`Permit::release`] is awaited before the context's
    /// end is published, so that the next caller knows the result.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// When it was granted: it is valid for `permit_ms` from then.
    pub fn granted_at(&self) -> Timestamp {
        self.granted_at
    }

    /// Extends it by `permit_ms`; due with each renewal of the lease.
    pub async fn renew(&self) {
        let renew = Renew { permit: self.number, principal: self.principal.clone() };
        self.lane.notify(MAX_RETRIES, &renew).await;
    }

    /// Returns it with the outcome of the call.
    pub async fn release(self, sample: CallOutcome) {
        self.lane.notify(MAX_RETRIES, &Release { permit: self.number, sample }).await;
    }
}

/// Leaves the wait queue, because the context was cancelled, has ended, or must wait elsewhere.
pub async fn leave(tenant: &TenantId, entry: &Entry, context: &ContextId) {
    Lane::of(tenant, entry).notify(MAX_RETRIES, &Leave { context: context.clone() }).await;
}

/// Reports a service's own status, valid for `lease_ms`; returns until when.
pub async fn heartbeat(
    tenant: &TenantId,
    entry: &Entry,
    status: HealthStatus,
    lease_ms: u64,
) -> Result<Timestamp, CallError> {
    let HeartbeatReply::Valid { until } = Lane::of(tenant, entry).call(&Heartbeat { status, lease_ms }).await?;
    Ok(until)
}

/// Dispatches work to a connection of a service that connects; returns false if none has capacity. Safe to repeat.
pub async fn dispatch(
    tenant: &TenantId,
    entry: &Entry,
    delivery: &Delivery,
    work: &RawValue,
) -> Result<bool, CallError> {
    let dispatch = Dispatch { delivery: delivery.clone(), work: work.to_owned() };
    let DispatchReply::Dispatched(dispatched) = Lane::of(tenant, entry).call(&dispatch).await?;
    Ok(dispatched)
}

/// Ends the attempt of a context at a service that connects: it was cancelled, of which the service is notified, or
/// ended by a callback.
pub async fn withdraw(tenant: &TenantId, entry: &Entry, context: &ContextId, cancelled: bool) {
    Lane::of(tenant, entry).notify(MAX_RETRIES, &Withdraw { context: context.clone(), cancelled }).await;
}

/// The response that opens a connection of a service.
pub async fn connect(tenant: &TenantId, entry: &Entry, viewer: Viewer, headers: &Headers) -> Result<JsValue, Failure> {
    let address = Lanes::of(tenant, &entry.service().id);
    let open = Open::Connect { viewer, headers: headers.as_str().into() };
    match open_socket(&address, &Message::about(tenant, &entry.registered).with(open)).await? {
        SocketResponse::Here(response) => Ok(response),
        SocketResponse::Elsewhere(_) => Err(Failure("a lane redirected a connection".into())),
    }
}

/// Probes a service now, and returns the result.
pub async fn check(tenant: &TenantId, entry: &Entry) -> Result<ProbeReport, CallError> {
    let lane = Lane::of(tenant, entry);
    let ProbeReply::Report(report) = match target(&entry.registered) {
        Some(target) => lane.call(&Probe(target)).await?,
        None if entry.service().transport.connects() => lane.call(&CheckConnection).await?,
        // The service is part of the gateway, which is evidently running.
        None => {
            let (status_code, error, at) = (None, None, clock::now());
            return Ok(ProbeReport { good: true, unmeasured: false, status_code, error, latency_ms: 0, at });
        }
    };
    Ok(report)
}

/// Counts a call without a permit. If the lane must be notified now, returns that work, to be done after the response.
pub fn note(tenant: &TenantId, entry: &Entry, sample: CallOutcome) -> Option<impl Future<Output = ()> + 'static> {
    let successes = entry.live.count_call(sample, &settings::timing())?;
    let lane = Lane::of(tenant, entry);
    // Sent once: a repeated message would count twice.
    Some(async move { lane.notify(0, &ReportCalls { successes, last: sample }).await })
}
