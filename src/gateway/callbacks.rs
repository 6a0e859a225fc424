//! `POST /v1/callbacks/{token}`: a service reports the outcome of background work, keeps it alive, or requests input.
//! The token is the only credential: it authorizes reports on one attempt of one context.

use std::rc::Rc;

use serde_json::json;
use serde_json::value::RawValue;

use crate::auth;
use crate::objects::contexts::client::{self as contexts, call_with_revision};
use crate::objects::contexts::messages::{CallBack, CallbackReply, CallbackReport, ContextDetails, Get};
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::{self, ServiceDocument, Snapshot};
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Fault;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::callback::{self, CallbackMessage};
use narthex_core::calling::response::{self, CallResult, MAX_ANSWER_BYTES};
use narthex_core::context::ReportedOutcome;
use narthex_core::context::status::ErrorCode;
use narthex_core::http::problem::{Code, Problem};

use super::answer::{Answer, internal};
use super::call::Call;

fn unknown() -> Problem {
    Problem::not_found("callback")
}

pub async fn post(call: &Call, token: &str) -> Result<Answer, Problem> {
    let tenant = callback::tenant_of(token).ok_or_else(unknown)?;
    let tenant = &auth::existing_tenant(tenant).await.map_err(internal)?.ok_or_else(unknown)?;
    let snapshot = snapshot::any(tenant).await.map_err(internal)?;
    let (id, lease) = snapshot.callback_key.read(tenant, token).ok_or_else(unknown)?;
    let body = call.service_body(MAX_ANSWER_BYTES).await?;
    let message = callback::read(&body).map_err(Problem::invalid)?;
    let mut connected = None;
    let callback = match message {
        CallbackMessage::Heartbeat { lease_ms, progress } => CallbackReport::Beat {
            lease_ms,
            progress: progress
                .map(|text| RawValue::from_string(text.into()))
                .transpose()
                .map_err(|error| Problem::internal(error.to_string()))?,
        },
        CallbackMessage::Outcome => {
            let found = found(tenant, &id, snapshot.clone()).await?;
            if !found.content.is_full() {
                let detail = "The content of this call is not kept, so that its result can only be the response to it.";
                return Err(Problem::new(Code::ContentNotKept, detail));
            }
            connected = snapshot.service(found.service.as_str()).filter(|entry| entry.service().transport.connects());
            let document = snapshot.document(found.service.as_str()).await.map_err(internal)?;
            outcome(document.as_deref(), &found, body.into_bytes())?
        }
    };
    match contexts::call(tenant, &id, &CallBack { id: id.clone(), lease, callback }).await.map_err(internal)? {
        CallbackReply::CalledBack { status, counts: true } => {
            // Its connection can take other work now.
            if let Some(entry) = connected {
                lanes::withdraw(tenant, entry, &id, Some(lease), false).await;
            }
            Answer::json(200, &json!({"id": id, "status": status}))
        }
        CallbackReply::CalledBack { counts: false, .. } => Err(Problem::new(
            Code::Conflict,
            "This callback is no longer valid: the context has ended, or another attempt has begun. Stop working on it.",
        )),
        CallbackReply::Nothing => Err(unknown()),
    }
}

async fn found(tenant: &TenantId, id: &ContextId, mut snapshot: Rc<Snapshot>) -> Result<Box<ContextDetails>, Problem> {
    let get = Get { id: id.clone() };
    let reply = call_with_revision(tenant, id, &mut snapshot, &get).await.map_err(internal)?;
    reply.found().ok_or_else(unknown)
}

/// Reads a result, an error or a request for input as a response of the service.
fn outcome(
    document: Option<&ServiceDocument>,
    found: &ContextDetails,
    body: Vec<u8>,
) -> Result<CallbackReport, Problem> {
    let schema = document.and_then(|document| document.output(document.position(&found.capability, &found.version)?));
    let answer = CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body };
    // Its faults were reported when the callback was read.
    let stated = response::stated_usage(&answer).ok().flatten().map(Box::new);
    let verdict = response::read(&found.service, answer, schema);
    match verdict.outcome {
        // Reported to the service, which can correct it: the context continues until its time is over.
        ReportedOutcome::Failed { error, .. } if error.code == ErrorCode::UpstreamInvalidResponse => {
            let faults = error.details.and_then(|details| serde_json::from_str::<Vec<Fault>>(details.get()).ok());
            let inside = |fault: Fault| Fault { pointer: fault.pointer.replacen('#', "#/result", 1), ..fault };
            Err(Problem::invalid(match faults {
                Some(faults) => faults.into_iter().map(inside).collect(),
                None => vec![Fault::new("#", error.message)],
            }))
        }
        outcome => Ok(CallbackReport::Outcome { outcome, result: verdict.result, stated }),
    }
}
