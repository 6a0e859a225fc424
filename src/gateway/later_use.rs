//! Requests that need the content of a call later than in its response: refused if it is not kept.

use narthex_core::base::json::Fault;
use narthex_core::context::Admission;
use narthex_core::http::problem::{Code, Problem};

/// What to do where a capability's content is not kept.
pub const REGISTER: &str = "Leave it out, or register the capability with content full.";

/// What needs the content after the response to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaterUse {
    RespondAsync,
    IdempotencyKey,
    RunAt,
    Schedule,
}

impl LaterUse {
    fn reason(self) -> &'static str {
        match self {
            Self::RespondAsync => "Prefer: respond-async needs a kept result",
            Self::IdempotencyKey => "Idempotency-Key needs a kept result",
            Self::RunAt => "run_at needs kept parameters",
            Self::Schedule => "a schedule needs kept parameters",
        }
    }

    /// The member of the body that asks for it.
    fn fault(self) -> Option<Fault> {
        match self {
            Self::RespondAsync | Self::IdempotencyKey => None,
            Self::RunAt => Some(Fault::new("#/run_at", "needs kept parameters")),
            Self::Schedule => Some(Fault::new("#/capability", "needs kept parameters in a schedule")),
        }
    }
}

/// Refuses what needs content that is not kept.
///
/// # Errors
/// One of the uses is made; the problem names each that is, and what to do `instead`.
pub fn refuse(uses: &[(bool, LaterUse)], subject: &str, instead: &str) -> Result<(), Problem> {
    let uses: Vec<LaterUse> = uses.iter().filter_map(|(is_used, later)| is_used.then_some(*later)).collect();
    if uses.is_empty() {
        return Ok(());
    }
    let errors = uses.iter().filter_map(|later| later.fault()).collect();
    let reasons: Vec<&str> = uses.iter().map(|later| later.reason()).collect();
    let detail =
        format!("The content of {subject} is not kept (content: none), but {}. {instead}", reasons.join(", and "));
    Err(Problem { errors, ..Problem::new(Code::ContentNotKept, detail) })
}

/// Refuses a schedule for a call whose content is not kept.
///
/// # Errors
/// It is not kept.
pub fn refuse_schedule(admission: &Admission) -> Result<(), Problem> {
    refuse(&[(!admission.content.is_full(), LaterUse::Schedule)], &admission.capability, REGISTER)
}
