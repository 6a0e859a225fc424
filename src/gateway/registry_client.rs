//! Calls to the registry of the caller's tenant, the ids in them, and its refusals as problems.

use std::rc::Rc;

use crate::objects::protocol::Request;
use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{Refusal, Registries, WriteRefusal};
use crate::objects::registry::snapshot::{Entry, Missing, ServiceDocument};
use crate::objects::reply::Reply;
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::services::outline::ServiceOutline;

use super::answer::internal;
use super::call::Caller;

/// The id of a service that a request names; not found if no service can have it.
pub fn service_id(caller: &Caller, id: &str) -> Result<ServiceId, Problem> {
    caller.snapshot.service_id(id).ok_or_else(|| Problem::not_found("service"))
}

/// The document of a service in the caller's snapshot.
pub async fn document(entry: &Entry) -> Result<Rc<ServiceDocument>, Problem> {
    entry.document().await.map_err(|missing| {
        let deleted = || Problem::not_found("service");
        unread(entry.service(), missing).unwrap_or_else(deleted)
    })
}

/// The problem of a service without a document, unless it was deleted.
pub fn unread(service: &ServiceOutline, missing: Missing) -> Option<Problem> {
    match missing {
        Missing::Deleted => None,
        Missing::Unreadable => Some(Problem::later_version(&format!("The service {}", service.id))),
        Missing::Failed(failure) => Some(internal(failure)),
    }
}

/// Asks the registry of the caller's tenant.
pub async fn ask_registry<R: Request<Object = Registries>>(caller: &Caller, request: &R) -> Result<R::Reply, Problem> {
    ask_as(&caller.principal.tenant, &caller.by, request).await.map_err(internal)
}

/// Writes in the registry of the caller's tenant. `what` is what the request refers to.
pub async fn write<R, T>(caller: &Caller, request: &R, what: &str) -> Result<T, Problem>
where
    R: Request<Object = Registries, Reply = Reply<T, WriteRefusal>>,
{
    let Reply(outcome) = ask_registry(caller, request).await?;
    outcome.map_err(|reason| refusal(reason, what))
}

/// A refused write as a problem.
pub fn refusal(refusal: WriteRefusal, what: &str) -> Problem {
    match refusal {
        WriteRefusal::Absent => Problem::not_found(what),
        WriteRefusal::InUse { by } => {
            let detail = format!("This {what} is in use by {}. Change or delete them first.", by.join(", "));
            Problem::new(Code::Conflict, detail)
        }
        WriteRefusal::Faults(faults) => Problem::invalid(faults),
        WriteRefusal::Refused(Refusal::PreconditionRequired) => Problem::new(
            Code::PreconditionRequired,
            format!(
                "This {what} already exists. Send its current ETag as If-Match, or If-Match: * to change it in any state."
            ),
        ),
        WriteRefusal::Refused(Refusal::PreconditionFailed) => Problem::new(
            Code::PreconditionFailed,
            format!("The {what} does not match your precondition. Read it again."),
        ),
        WriteRefusal::TooLarge(too_large) => Problem::new(Code::PayloadTooLarge, too_large.to_string()),
        WriteRefusal::Refused(Refusal::Conflict) => {
            Problem::new(Code::Conflict, format!("Another {what} already has this id."))
        }
        WriteRefusal::Refused(Refusal::Unreadable) => Problem::later_version(&format!("The {what}")),
    }
}
