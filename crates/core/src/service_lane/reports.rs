//! What connections report about their deliveries. An outcome goes to the context's store as a callback does, under the
//! lease of the attempt: a late or repeated report counts once.

use serde_json::value::RawValue;

use super::storage::Storage;
use super::{ServiceLane, StorageError};
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::calling::connection::close_code::ConnectionCloseCode;
use crate::calling::connection::frame::{GatewayMessage, WithdrawalReason};
use crate::calling::connection::pool::Delivery;
use crate::calling::response::{self, CallResult};
use crate::context::AttemptReport;
use crate::context_store::messages::{CallBack, CallbackReport};
use crate::lane::call_outcome::{CallOutcome, fair_ms};
use crate::services::schema::Schema;

/// The time limit for a delivery whose capability the service no longer offers.
const USUAL_SECONDS: u64 = 60;

/// What is reported of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportContent {
    /// The attempt ended or asks for input: a response body, as over HTTP.
    Outcome(String),
    /// JSON.
    Progress(String),
    /// The connection dropped, and no other resumed the delivery in time.
    Lost,
}

/// A report that is to be passed to the context's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    pub delivery: Delivery,
    /// The connection that waits for an answer.
    pub slot: Option<u32>,
    pub content: ReportContent,
}

/// What the service offers under the delivery's capability: the schema of its results, and its time limit.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    pub schema: Option<&'a Schema>,
    pub timeout_seconds: u64,
}

/// What an outcome shows about the service.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// For the context's store.
    pub call: CallBack,
    sample: CallOutcome,
}

impl DeliveryReport {
    /// The message to the context's store about progress; `None` if the report is an outcome or not JSON.
    pub fn progress(&self) -> Option<CallBack> {
        let ReportContent::Progress(progress) = &self.content else { return None };
        let progress = Some(RawValue::from_string(progress.clone()).ok()?);
        Some(self.call(CallbackReport::Beat { lease_ms: None, progress }))
    }

    /// Judges an outcome. `offered` is `None` if the service no longer offers the capability.
    pub fn judge(&self, service: &ServiceId, offered: Option<Offered<'_>>, now: Timestamp) -> Judgement {
        let answer = match &self.content {
            ReportContent::Outcome(body) => CallResult::Http {
                status: 200,
                is_json: true,
                retry_after_ms: None,
                location: None,
                body: body.clone().into(),
            },
            ReportContent::Progress(_) | ReportContent::Lost => CallResult::Lost,
        };
        let Offered { schema, timeout_seconds } =
            offered.unwrap_or(Offered { schema: None, timeout_seconds: USUAL_SECONDS });
        let stated = response::stated_usage(&answer).ok().flatten().map(Box::new);
        let verdict = response::read(service, answer, schema);
        let report = AttemptReport::new(
            self.delivery.lease,
            service.clone(),
            (self.delivery.handed_at, now),
            None,
            verdict.outcome,
        );
        let sample = CallOutcome::of(&report, fair_ms(timeout_seconds), verdict.unhealthy);
        let callback = CallbackReport::Outcome { outcome: report.outcome, result: verdict.result, stated };
        Judgement { call: self.call(callback), sample }
    }

    fn call(&self, callback: CallbackReport) -> CallBack {
        CallBack { id: self.delivery.context.clone(), lease: self.delivery.lease, callback }
    }
}

impl<S: Storage> ServiceLane<S> {
    /// The context's store has an outcome; `counts` is false if the attempt was over there. The delivery ends.
    ///
    /// # Errors
    /// The storage fails. The service reports again after it reconnects.
    pub fn reported(
        &mut self,
        report: &DeliveryReport,
        judgement: &Judgement,
        counts: bool,
        now: Timestamp,
        random: u64,
    ) -> Result<(), StorageError> {
        let number = report.delivery.number();
        // A connection that has resumed a lost delivery in the meantime learns that it is over.
        let reason = (report.content == ReportContent::Lost).then_some(WithdrawalReason::Over);
        // A repeated report counts at the store, but does not show another call of the service.
        let is_first = match self.end_delivery(&number, reason, now) {
            Ok(is_first) => is_first,
            Err(error) => {
                self.report_failed(report, now);
                return Err(error);
            }
        };
        if counts && is_first {
            self.lane.report(0, judgement.sample, now, random);
        }
        if let Some(slot) = report.slot {
            self.send(slot, &GatewayMessage::Done { delivery: &number, late: !counts });
        }
        Ok(())
    }

    /// The context's store could not be reached. The service still has the outcome, and reports it again after it
    /// reconnects; a delivery that was given up expires again.
    pub fn report_failed(&mut self, report: &DeliveryReport, now: Timestamp) {
        if let Some(slot) = report.slot {
            self.hang_up(slot, ConnectionCloseCode::TryAgain, now);
        }
    }
}
