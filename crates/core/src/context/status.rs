//! The states of a context and the transitions between them, and other enumerations of its lifecycle.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Created,
    Validated,
    Queued,
    Executing,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl Status {
    pub const ALL: [Status; 9] = [
        Status::Created,
        Status::Validated,
        Status::Queued,
        Status::Executing,
        Status::InputRequired,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::TimedOut,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Validated => "validated",
            Status::Queued => "queued",
            Status::Executing => "executing",
            Status::InputRequired => "input_required",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::TimedOut => "timed_out",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether the status is final: it never changes.
    pub fn is_final(self) -> bool {
        match self {
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => true,
            Status::Created | Status::Validated | Status::Queued | Status::Executing | Status::InputRequired => false,
        }
    }

    /// Whether `next` may follow this status directly.
    pub fn may_become(self, next: Status) -> bool {
        match self {
            Status::Created => matches!(next, Status::Validated | Status::Cancelled | Status::TimedOut),
            Status::Validated => matches!(next, Status::Queued | Status::Cancelled | Status::TimedOut),
            Status::Queued => {
                matches!(next, Status::Executing | Status::Failed | Status::Cancelled | Status::TimedOut)
            }
            Status::Executing => matches!(
                next,
                Status::Completed
                    | Status::Failed
                    | Status::Queued
                    | Status::InputRequired
                    | Status::Cancelled
                    | Status::TimedOut
            ),
            Status::InputRequired => {
                matches!(next, Status::Queued | Status::Failed | Status::Cancelled | Status::TimedOut)
            }
            Status::Completed | Status::Failed | Status::Cancelled | Status::TimedOut => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
    Critical,
}

impl Priority {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "low" => Priority::Low,
            "normal" => Priority::Normal,
            "high" => Priority::High,
            "critical" => Priority::Critical,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    #[default]
    User,
    System,
    Service,
    Scheduled,
}

impl Source {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "user" => Source::User,
            "system" => Source::System,
            "service" => Source::Service,
            "scheduled" => Source::Scheduled,
            _ => return None,
        })
    }
}

/// Why a context did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    ServiceUnavailable,
    CircuitOpen,
    /// The stored address of the service may not be called, or may no longer be.
    AddressRefused,
    UpstreamError,
    UpstreamInvalidResponse,
    UpstreamTimeout,
    DeadlineExceeded,
    OutcomeUnknown,
    Cancelled,
    /// The service would continue later, and the content is not kept.
    ContentNotKept,
    Internal,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 11] = [
        ErrorCode::ServiceUnavailable,
        ErrorCode::CircuitOpen,
        ErrorCode::AddressRefused,
        ErrorCode::UpstreamError,
        ErrorCode::UpstreamInvalidResponse,
        ErrorCode::UpstreamTimeout,
        ErrorCode::DeadlineExceeded,
        ErrorCode::OutcomeUnknown,
        ErrorCode::Cancelled,
        ErrorCode::ContentNotKept,
        ErrorCode::Internal,
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::ServiceUnavailable => "service_unavailable",
            ErrorCode::CircuitOpen => "circuit_open",
            ErrorCode::AddressRefused => "address_refused",
            ErrorCode::UpstreamError => "upstream_error",
            ErrorCode::UpstreamInvalidResponse => "upstream_invalid_response",
            ErrorCode::UpstreamTimeout => "upstream_timeout",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::OutcomeUnknown => "outcome_unknown",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::ContentNotKept => "content_not_kept",
            ErrorCode::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_lead_nowhere_and_live_ones_can_end() {
        for from in Status::ALL {
            let next: Vec<Status> = Status::ALL.into_iter().filter(|to| from.may_become(*to)).collect();
            assert_eq!(next.is_empty(), from.is_final(), "{from:?}");
            assert!(from.is_final() || (next.contains(&Status::Cancelled) && next.contains(&Status::TimedOut)));
            assert!(!next.contains(&Status::Created) && !next.contains(&from));
        }
    }

    #[test]
    fn words_are_the_same_everywhere() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
        assert_eq!(ErrorCode::parse("none"), None);
    }
}
