//! Passes the reports of connections about their deliveries to the context stores.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::objects::contexts::client::call_store;
use crate::objects::contexts::messages::{CallBack, CallbackReply, CallbackReport, Contexts};
use crate::objects::registry::snapshot;
use crate::objects::retries::with_retries;
use crate::platform::{Failure, clock, log, random, tasks};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::connection::close_code::ConnectionCloseCode;
use narthex_core::calling::connection::frame::{GatewayMessage, WithdrawalReason};
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::{self, CallResult};
use narthex_core::context::AttemptReport;
use narthex_core::lane::call_outcome::{CallOutcome, fair_ms};

use super::Inner;
use super::state::Identity;

/// The time limit for a delivery whose capability the service no longer offers.
const USUAL_SECONDS: u64 = 60;
/// How many times a report to a store is retried.
const MAX_RETRIES: u32 = 5;

impl Inner {
    /// Handles the outcome of an attempt, or an input request.
    pub(super) fn handle_outcome(self: &Rc<Self>, slot: u32, number: &str, body: String) {
        let Some(delivery) = self.connections.pool.borrow().find(number).cloned() else {
            return self.connections.send(slot, &GatewayMessage::Done { delivery: number, late: true });
        };
        let answer =
            CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body: body.into() };
        let inner = self.clone();
        tasks::spawn(async move {
            let number = delivery.number();
            match inner.end(delivery, answer, None).await {
                Ok(counts) => inner.connections.send(slot, &GatewayMessage::Done { delivery: &number, late: !counts }),
                // The service still has the outcome, and reports it again after it reconnects.
                Err(failure) => {
                    inner.log(log::Message::OutcomeNotReported, &failure);
                    inner.hang_up(&[slot], ConnectionCloseCode::TryAgain);
                }
            }
            inner.settle_and_notify();
        });
    }

    /// Fails a delivery that the service did not resume in time.
    pub(super) fn give_up(self: &Rc<Self>, delivery: Delivery) {
        let inner = self.clone();
        tasks::spawn(async move {
            // If this fails, the delivery expires again.
            // A connection that has resumed it in the meantime learns that it is over.
            if let Err(failure) = inner.end(delivery, CallResult::Lost, Some(WithdrawalReason::Over)).await {
                inner.log(log::Message::OutcomeNotReported, &failure);
            }
            inner.settle_and_notify();
        });
    }

    /// Reports the outcome of an attempt to the context's store and removes the delivery; returns false if it was over.
    async fn end(
        &self,
        delivery: Delivery,
        answer: CallResult,
        reason: Option<WithdrawalReason>,
    ) -> Result<bool, Failure> {
        let Some(Identity { tenant, service }) = self.state.identity.borrow().clone() else {
            return Err(Failure("a lane without a service".into()));
        };
        let snapshot = snapshot::any(&tenant).await?;
        let document = snapshot.document(service.as_str()).await?;
        let offered = document.as_ref().and_then(|document| {
            let at = document.position(&delivery.capability, &delivery.version)?;
            Some((document.output(at), document.service().capabilities.get(at)?.timeout_seconds))
        });
        let (schema, timeout_seconds) = offered.unwrap_or((None, USUAL_SECONDS));
        let verdict = response::read(&service, answer, schema);
        let now = clock::now();
        let report = AttemptReport {
            lease: delivery.lease,
            service,
            started_at: delivery.handed_at,
            ended_at: now,
            status_code: None,
            outcome: verdict.outcome,
        };
        let sample = CallOutcome::of(&report, fair_ms(timeout_seconds), verdict.unhealthy);
        let callback = CallbackReport::Outcome { outcome: report.outcome, result: verdict.result };
        let counts = self.call_back(&tenant, &delivery, callback).await?;
        let ended = self.connections.pool.borrow_mut().end(&delivery.number(), clock::now());
        // A repeated report counts at the store, but is no second call of the service.
        let is_first = ended.is_some();
        self.store_ended(ended.into_iter().collect(), reason)?;
        if counts && is_first {
            self.lane.borrow_mut().report(0, sample, clock::now(), random::number());
        }
        Ok(counts)
    }

    async fn call_back(
        &self,
        tenant: &TenantId,
        delivery: &Delivery,
        callback: CallbackReport,
    ) -> Result<bool, Failure> {
        let id = &delivery.context;
        let report = CallBack { id: id.clone(), lease: delivery.lease, callback };
        let store = Contexts::holding(tenant, id)?;
        Ok(match with_retries(MAX_RETRIES, || call_store(&store, &report)).await? {
            CallbackReply::CalledBack { counts, .. } => counts,
            // The context does not exist.
            CallbackReply::Nothing => false,
        })
    }

    /// Reports progress, best effort.
    pub(super) fn handle_progress(self: &Rc<Self>, number: &str, progress: String) {
        let Some(delivery) = self.connections.pool.borrow().find(number).cloned() else { return };
        let inner = self.clone();
        tasks::spawn(async move {
            let Some(Identity { tenant, .. }) = inner.state.identity.borrow().clone() else { return };
            let Ok(progress) = RawValue::from_string(progress) else { return };
            let callback = CallbackReport::Beat { lease_ms: None, progress: Some(progress) };
            if let Err(failure) = inner.call_back(&tenant, &delivery, callback).await {
                inner.log(log::Message::ProgressNotReported, &failure);
            }
        });
    }
}
