//! The context that a call of a model is: recorded after the response without its content, or stored before the call.

use serde_json::value::RawValue;

use crate::objects::contexts::client::call_with_retry;
use crate::objects::contexts::messages::Record;
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, log_event, settings};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::status::ErrorCode;
use narthex_core::context::{Admission, AttemptReport, ContextError, ReportedOutcome};
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::lane::call_outcome::{CallOutcome, Signal};
use narthex_core::models::failure::{FailureKind, kept_word};
use narthex_core::models::response_body::value_of;
use narthex_core::models::spent::Spent;

use super::beginning::CallFailure;
use super::permit::CallPermit;
use super::stored::StoredCall;

/// What is recorded of a call of a model.
pub struct Recorder {
    pub tenant: TenantId,
    pub admission: Admission,
    pub earlier: Vec<AttemptReport>,
    /// The content is kept, and the call was stored before it was made.
    pub stored: Option<StoredCall>,
}

/// How an attempt ended.
pub enum AttemptEnd {
    Succeeded,
    /// `signal`: what it shows about the service.
    Failed {
        code: ErrorCode,
        message: String,
        signal: Signal,
    },
}

/// What a failed call shows about its service. Deadlines are those of clients, and what a request contains must not
/// close the service to others.
fn signal_of(kind: FailureKind) -> Signal {
    match kind {
        FailureKind::Unreachable | FailureKind::Broken | FailureKind::Late | FailureKind::Server => Signal::Failure,
        FailureKind::NotCalled
        | FailureKind::Deadline
        | FailureKind::Gone
        | FailureKind::RateLimited
        | FailureKind::Exhausted
        | FailureKind::Format => Signal::Ignored,
        FailureKind::Auth
        | FailureKind::NotFound
        | FailureKind::ContextLength
        | FailureKind::ContentFilter
        | FailureKind::Request => Signal::Success,
    }
}

impl AttemptEnd {
    /// A failure that shows nothing about the service.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into(), signal: Signal::Ignored }
    }

    /// A failure of the service.
    pub fn broken(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into(), signal: Signal::Failure }
    }

    /// What it shows about the service.
    pub fn signal(&self) -> Signal {
        match self {
            Self::Succeeded => Signal::Success,
            Self::Failed { signal, .. } => *signal,
        }
    }

    /// Of a call that failed before its first piece. The provider's words may quote the request, so only its word for
    /// the error is kept.
    pub fn of(failed: &CallFailure) -> Self {
        let (code, message) = match failed.kind {
            FailureKind::NotCalled => (ErrorCode::ServiceUnavailable, "The service could not be called."),
            FailureKind::Unreachable => (ErrorCode::ServiceUnavailable, "The service could not be reached."),
            FailureKind::Broken => (ErrorCode::UpstreamError, "The connection broke before the response began."),
            FailureKind::Late => (ErrorCode::UpstreamTimeout, "The service did not respond in time."),
            FailureKind::Deadline => (ErrorCode::DeadlineExceeded, "The deadline passed before the response began."),
            FailureKind::Gone => (ErrorCode::Cancelled, "The client left before the response began."),
            FailureKind::RateLimited => (ErrorCode::ServiceUnavailable, "The provider limits the rate of requests."),
            FailureKind::Exhausted => (ErrorCode::UpstreamError, "The account at the provider has nothing left."),
            FailureKind::Server => (ErrorCode::UpstreamError, "The service failed."),
            FailureKind::Auth => (ErrorCode::UpstreamError, "The provider refused the gateway's credentials."),
            FailureKind::NotFound => (ErrorCode::UpstreamError, "The provider does not have the model."),
            FailureKind::ContextLength => (ErrorCode::UpstreamError, "The request is longer than the model takes."),
            FailureKind::ContentFilter => {
                (ErrorCode::UpstreamError, "The provider's content filter refused the request.")
            }
            FailureKind::Request => (ErrorCode::UpstreamError, "The provider refused the request."),
            FailureKind::Format => (ErrorCode::UpstreamInvalidResponse, "The service responded in another form."),
        };
        let signal = signal_of(failed.kind);
        let Some(response) = &failed.response else { return Self::Failed { code, message: message.into(), signal } };
        let body = value_of(&response.body).unwrap_or_default();
        let word = kept_word(&body).map(|word| format!(", {word}")).unwrap_or_default();
        Self::Failed { code, message: format!("{message} (status {}{word})", response.status), signal }
    }

    fn outcome(self, entry: &Entry) -> ReportedOutcome {
        match self {
            Self::Succeeded => ReportedOutcome::Succeeded,
            Self::Failed { code, message, .. } => failed(code, message, Some(entry.service().id.clone())),
        }
    }
}

fn failed(code: ErrorCode, message: String, service: Option<ServiceId>) -> ReportedOutcome {
    let error = ContextError { code, message, service, details: None };
    ReportedOutcome::Failed { error, retryable: false, untouched: false, retry_after_ms: None }
}

/// The report of an attempt.
pub fn report(entry: &Entry, started_at: Timestamp, status_code: Option<u16>, end: AttemptEnd) -> AttemptReport {
    let (service, times) = (entry.service().id.clone(), (started_at, clock::now()));
    AttemptReport::new(LeaseNumber::FIRST, service, times, status_code, end.outcome(entry))
}

/// Tells the lane of a service how a call of it ended.
pub async fn report_call(
    tenant: &TenantId,
    entry: &Entry,
    permit: Option<CallPermit>,
    report: &AttemptReport,
    signal: Signal,
) {
    let latency_ms = report.ended_at.since(report.started_at);
    let outcome = CallOutcome { outcome: signal, latency_ms, at: report.ended_at };
    match permit {
        Some(permit) => permit.release(outcome).await,
        None => {
            if let Some(successes) = entry.live().count_call(outcome, &settings::timing()) {
                lanes::report_calls(tenant, entry, successes, outcome).await;
            }
        }
    }
}

impl Recorder {
    pub fn new(tenant: TenantId, admission: Admission) -> Self {
        Self { tenant, admission, earlier: Vec::new(), stored: None }
    }

    /// Stores the end of a call that was refused after it had been stored.
    pub async fn store_refusal(self, problem: &Problem, model: &str) {
        let (now, service) = (clock::now(), self.admission.service.clone());
        let code = match problem.code {
            Code::NoServiceAvailable | Code::RateLimited | Code::QueueFull => ErrorCode::ServiceUnavailable,
            Code::RequestTimeout => ErrorCode::DeadlineExceeded,
            Code::Conflict => ErrorCode::Cancelled,
            _ => ErrorCode::UpstreamError,
        };
        let outcome = failed(code, problem.detail.clone(), Some(service.clone()));
        let (lease, status_code) = (LeaseNumber::FIRST, None);
        let report = AttemptReport::new(lease, service, (now, now), status_code, outcome);
        self.store(report, Spent::nothing(model), None).await;
    }

    /// Stores the context. `result`: the whole response, if the content is kept.
    pub async fn store(self, mut report: AttemptReport, spent: Spent, result: Option<Box<RawValue>>) {
        report.spent = Some(Box::new(spent));
        let Self { tenant, admission, earlier, stored } = self;
        let id = admission.id.clone();
        if let Some(stored) = stored {
            if result.is_none() && matches!(report.outcome, ReportedOutcome::Succeeded) {
                log_event!(ResultNotKept, tenant = &tenant, context = &id);
            }
            return stored.commit(report, result, earlier).await;
        }
        let parameters = RawValue::NULL.to_owned();
        let record = Record { admission: Box::new(admission), parameters, report, result: None, earlier };
        if let Err(failure) = call_with_retry(&tenant, &id, &record).await {
            log_event!(ContextNotRecorded, tenant = &tenant, context = &id, detail = &failure);
        }
    }
}
