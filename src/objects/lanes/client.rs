//! The Worker's side of a service's lane: permits and reports of calls.
//!
//! A service without `max_concurrency` whose breaker is closed costs no request to the lane: its calls are counted
//! here; the lane is notified of failures at once and of successes from time to time, after the response.

use std::rc::Rc;

use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::protocol::{Done, Pending, Request, call_enclosed, open_socket};
use crate::objects::registry::snapshot::{Entry, ServiceDocument};
use crate::objects::registry::target;
use crate::objects::retries::pause_after;
use crate::platform::http::Headers;
use crate::platform::objects::{CallError, SocketResponse};
use crate::platform::{Failure, clock, log_event};
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::retries::Retries;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::events::viewer::Viewer;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::live::Live;
use narthex_core::lane::observed::HealthStatus;
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::service_lane::probing::ProbeReport;

use super::messages::{
    Acquire, CheckConnection, Dispatch, DispatchReply, Heartbeat, HeartbeatReply, LaneReply, Lanes, Leave, Message,
    Open, PermitReply, Probe, ProbeReply, Release, Renew, ReportCalls, Withdraw,
};

/// How many times a message is retried that is safe to repeat.
const MAX_RETRIES: u32 = 1;

/// Sends a request to the lane of a service.
pub fn call<R: Request<Object = Lanes>>(about: &Message<()>, request: &R) -> Pending<LaneReply<R::Reply>> {
    call_enclosed(&Lanes::of(&about.tenant, &about.service), about, request)
}

/// A lane, with what comes with each request. The holder of a permit keeps it, because the service may be changed or
/// deleted before the permit is released.
pub struct Lane {
    about: Message<()>,
    live: Rc<Live>,
}

impl Lane {
    pub fn of(tenant: &TenantId, entry: &Entry) -> Self {
        Self { about: Message::with_settings(tenant, &entry.outline.lane_settings()), live: entry.live.clone() }
    }

    /// Sends a request and records the status in the reply.
    async fn call<R: Request<Object = Lanes>>(&self, request: &R) -> Result<R::Reply, CallError> {
        let LaneReply { observed, reply } = call(&self.about, request).await?;
        self.live.update_observed(observed);
        Ok(reply)
    }

    /// As [`Lane::call`], with retries; a failure is only logged, because the lane recovers by itself.
    async fn notify(&self, max_retries: u32, request: &impl Request<Object = Lanes, Reply = Done>) {
        self.notify_by(max_retries, &|| call(&self.about, request)).await;
    }

    /// The same code for all requests, which keeps the program small.
    async fn notify_by(&self, max_retries: u32, call: &dyn Fn() -> Pending<LaneReply<Done>>) {
        let mut retries = Retries::up_to(max_retries);
        loop {
            let error = match call().await {
                Ok(LaneReply { observed, .. }) => return self.live.update_observed(observed),
                Err(error) => error,
            };
            let Message { tenant, service, .. } = &self.about;
            log_event!(LaneNotNotified, tenant = tenant, service = service, detail = &error);
            if !pause_after(&mut retries, &error).await {
                return;
            }
        }
    }

    pub fn service(&self) -> &ServiceId {
        &self.about.service
    }

    /// Requests a permit, and waits for it as long as the request says.
    pub async fn acquire(&self, request: &Acquire) -> Result<PermitDecision, CallError> {
        let PermitReply::Decision(decision) = self.call(request).await?;
        Ok(decision)
    }

    /// Extends a permit; due with each renewal of the lease.
    pub async fn renew(&self, permit: PermitNumber, principal: &PrincipalId) {
        self.notify(MAX_RETRIES, &Renew { permit, principal: principal.clone() }).await;
    }

    /// Returns a permit with the outcome of its call.
    pub async fn release(&self, permit: PermitNumber, sample: CallOutcome) {
        self.notify(MAX_RETRIES, &Release { permit, sample }).await;
    }

    /// Returns a permit without a call.
    pub async fn release_unused(&self, permit: PermitNumber) {
        self.release(permit, CallOutcome::unused(clock::now())).await;
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

/// Dispatches work to a connection of a service that connects, not later than `until`. Returns whether a connection has
/// it; false if none has capacity. Safe to repeat.
pub async fn dispatch(
    tenant: &TenantId,
    entry: &Entry,
    delivery: &Delivery,
    until: Timestamp,
    work: &RawValue,
) -> Result<bool, CallError> {
    let dispatch = Dispatch { delivery: delivery.clone(), work: work.to_owned(), until: Some(until) };
    let DispatchReply::Dispatched(dispatched) = Lane::of(tenant, entry).call(&dispatch).await?;
    Ok(dispatched)
}

/// Ends the attempt of a context at a service that connects: it was cancelled, of which the service is notified, or
/// ended by a callback. With a lease, the attempts under later ones are not affected.
pub async fn withdraw(
    tenant: &TenantId,
    entry: &Entry,
    context: &ContextId,
    lease: Option<LeaseNumber>,
    cancelled: bool,
) {
    Lane::of(tenant, entry).notify(MAX_RETRIES, &Withdraw { context: context.clone(), cancelled, lease }).await;
}

/// The response that opens a connection of a service.
pub async fn connect(tenant: &TenantId, entry: &Entry, viewer: Viewer, headers: &Headers) -> Result<JsValue, Failure> {
    let address = Lanes::of(tenant, &entry.service().id);
    let open = Open::Connect { viewer, headers: headers.as_str().into() };
    match open_socket(&address, &Message::with_settings(tenant, &entry.outline.lane_settings()).with(open)).await? {
        SocketResponse::Here(response) => Ok(response),
        SocketResponse::Elsewhere(_) => Err(Failure("a lane redirected a connection".into())),
    }
}

/// Probes a service now, and returns the result.
pub async fn check(tenant: &TenantId, entry: &Entry, document: &ServiceDocument) -> Result<ProbeReport, CallError> {
    let lane = Lane::of(tenant, entry);
    let ProbeReply::Report(report) = match target(&document.registered) {
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

/// Reports calls without a permit: this many successes, and then this one.
pub async fn report_calls(tenant: &TenantId, entry: &Entry, successes: u64, last: CallOutcome) {
    // Sent once: a repeated message would count twice.
    Lane::of(tenant, entry).notify(0, &ReportCalls { successes, last }).await;
}
