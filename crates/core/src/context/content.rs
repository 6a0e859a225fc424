//! What is kept of the content of a context: its parameters and its result, and what its service says in between.
//!
//! Without it, only the worker that makes the call has the content. No other worker can make an attempt, and nothing
//! can be delivered once that worker is gone. The store keeps to this whatever a worker sends.

use serde_json::value::RawValue;

use super::{Admission, AttemptReport, ContextError, Head, ReportedOutcome, Transition};
use crate::base::content::Content;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::status::{ErrorCode, Status};

/// What is said of a failure in place of the service's words, which may repeat the content.
fn plain_words(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::ServiceUnavailable => "The service could not be called.",
        ErrorCode::CircuitOpen => "The circuit breaker of this service is open.",
        ErrorCode::AddressRefused => "The address of the service may not be called.",
        ErrorCode::UpstreamError => "The service reported an error.",
        ErrorCode::UpstreamInvalidResponse => "The response of the service was not acceptable.",
        ErrorCode::UpstreamTimeout => "The service did not respond in time.",
        ErrorCode::DeadlineExceeded => "The deadline passed before the context completed.",
        ErrorCode::OutcomeUnknown => "Whether the service did the work is unknown.",
        ErrorCode::Cancelled => "The context was cancelled.",
        ErrorCode::ContentNotKept => "The service wanted to continue later, for which the content is not kept.",
        ErrorCode::Internal => "The gateway failed.",
    }
}

impl ReportedOutcome {
    /// Work that its service would continue later has failed if the content is not kept.
    pub fn refuse_later(&mut self, service: &ServiceId) {
        let message = match self {
            Self::Succeeded | Self::ToolResult | Self::Failed { .. } => return,
            Self::Accepted { .. } => {
                "The service accepted the work to finish it later (202), but the content of this call is not kept, so \
                 that its result could not be delivered. Register the capability with content full, or let the \
                 service respond with the result."
            }
            Self::InputRequired { .. } => {
                "The service asked for input, but the content of this call is not kept, so that it cannot wait for \
                 an answer. Register the capability with content full, or let the service do without."
            }
        };
        let service = Some(service.clone());
        let error = ContextError { code: ErrorCode::ContentNotKept, message: message.into(), service, details: None };
        *self = Self::Failed { error, retryable: false, untouched: false, retry_after_ms: None };
    }
}

impl AttemptReport {
    /// The report as it is stored. The message of an error is the worker's own.
    #[must_use]
    pub fn kept(mut self, content: Content) -> Self {
        if content.is_full() {
            return self;
        }
        self.outcome.refuse_later(&self.service);
        if let ReportedOutcome::Failed { error, .. } = &mut self.outcome {
            error.details = None;
        }
        self
    }

    /// The report as a worker sends it to the store: without the words of the service, which may repeat the content.
    #[must_use]
    pub fn without_words(mut self, content: Content) -> Self {
        if let ReportedOutcome::Failed { error, .. } = &mut self.outcome
            && !content.is_full()
        {
            error.message = plain_words(error.code).into();
        }
        self.kept(content)
    }
}

impl Admission {
    /// The admission as it is stored: what belongs to the content is left out.
    #[must_use]
    pub fn kept(mut self) -> Self {
        if !self.content.is_full() {
            (self.meta, self.client, self.log_level) = (None, None, None);
        }
        self
    }

    /// Takes what is not stored from the admission of the same context as its worker has it.
    pub fn restore(&mut self, whole: &Self) {
        if !self.content.is_full() {
            self.meta.clone_from(&whole.meta);
            self.client.clone_from(&whole.client);
            self.log_level.clone_from(&whole.log_level);
        }
    }

    /// A large member as it is stored.
    pub fn kept_part<'r>(&self, part: &'r RawValue) -> &'r RawValue {
        if self.content.is_full() { part } else { RawValue::NULL }
    }
}

impl Head {
    /// Whether only the worker that has the content can make an attempt.
    pub fn is_bound_to_worker(&self) -> bool {
        !self.admission.content.is_full()
    }

    /// Ends a queued context whose worker is gone, and with it the content.
    pub fn lose_worker(&mut self, now: Timestamp) -> Transition {
        let message = "The worker that had the content of this context was lost before its call, and it is not kept.";
        self.end(Status::Failed, self.error(ErrorCode::ServiceUnavailable, message), now)
    }
}
