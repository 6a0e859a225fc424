//! Calls to the registry of the caller's tenant, the ids in them, and its refusals as problems.

use crate::objects::registry::messages::{Ask, Message, Refusal, Reply};
use crate::platform::objects::{self, Kind as Family};
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::problem::{Code, Problem};

use super::answer::internal;
use super::call::Caller;

/// A write waits until every store has been informed.
pub const WRITE_TIMEOUT_MS: u64 = 15_000;

/// The id of a service that a request names; not found if no service can have it.
pub fn service_id(caller: &Caller, id: &str) -> Result<ServiceId, Problem> {
    caller.snapshot.service_id(id).ok_or_else(|| Problem::not_found("service"))
}

/// Asks the registry of the caller's tenant.
pub async fn ask_registry(caller: &Caller, ask: Ask) -> Result<Reply, Problem> {
    let tenant = &caller.principal.tenant;
    let message = Message { tenant: tenant.clone(), ask, by: caller.by.clone() };
    objects::send(Family::Registry, &tenant.object(), "", &message, WRITE_TIMEOUT_MS).await.map_err(internal)
}

/// The refusals that all writes have in common, as problems.
pub fn refusal(reply: Reply, what: &str) -> Problem {
    match reply {
        Reply::Absent => Problem::not_found(what),
        Reply::InUse { by } => {
            let detail = format!("This {what} is in use by {}. Change or delete them first.", by.join(", "));
            Problem::new(Code::Conflict, detail)
        }
        Reply::Faults(faults) => Problem::invalid(faults),
        Reply::Refused(Refusal::PreconditionRequired) => Problem::new(
            Code::PreconditionRequired,
            format!(
                "This {what} already exists. Send its current ETag as If-Match, or If-Match: * to change it in any state."
            ),
        ),
        Reply::Refused(Refusal::PreconditionFailed) => Problem::new(
            Code::PreconditionFailed,
            format!("The {what} does not match your precondition. Read it again."),
        ),
        Reply::TooLarge(too_large) => Problem::new(Code::PayloadTooLarge, too_large.to_string()),
        Reply::Refused(Refusal::Conflict) => {
            Problem::new(Code::Conflict, format!("Another {what} already has this id."))
        }
        _ => Problem::internal("unexpected reply from the registry"),
    }
}
