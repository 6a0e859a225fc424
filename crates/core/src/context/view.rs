//! A context as clients see it, without its parameters and result: the Worker adds those.

use std::collections::BTreeMap;

use semver::Version;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::content::Content;
use crate::base::id::ContextId;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::{Timestamp, as_optional_text, as_text};
use crate::context::status::{ErrorCode, Priority, Source, Status};
use crate::context::{Attempt, AttemptOutcome, ContextError, Head};
use crate::models::spent::{Spent, SpentView};

/// What [`to_view`] writes.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct View<'a> {
    id: &'a str,
    capability: &'a str,
    version: &'a Version,
    service: &'a ServiceId,
    priority: Priority,
    source: Source,
    metadata: Option<&'a RawValue>,
    status: Status,
    error: Option<&'a ContextError>,
    owner: &'a PrincipalId,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<&'a str>,
    tenant: &'a TenantId,
    idempotency_key: Option<&'a str>,
    attempts: Vec<AttemptView<'a>>,
    history: Vec<StepView>,
    execution_time_ms: Option<u64>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    updated_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    expires_at: Timestamp,
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Option<String>"))]
    run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    /// The service's input request, while the context waits for the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_request: Option<&'a RawValue>,
    /// The result has the form of an MCP tool result.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_result: Option<bool>,
    /// The latest progress that the service reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView<'a>>,
    /// What is kept of the parameters and the result, unless it is all of it.
    #[serde(skip_serializing_if = "Content::is_full")]
    content: Content,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    spent: Option<SpentView<'a>>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
struct ProgressView<'a> {
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    at: Timestamp,
    data: &'a RawValue,
}

#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
struct AttemptView<'a> {
    number: u64,
    service: &'a ServiceId,
    outcome: AttemptOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    started_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    ended_at: Timestamp,
    status_code: Option<u16>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
struct StepView {
    status: Status,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "String"))]
    at: Timestamp,
}

fn attempt(attempt: &Attempt) -> AttemptView<'_> {
    AttemptView {
        number: attempt.number,
        service: &attempt.service,
        outcome: attempt.outcome,
        code: attempt.code,
        started_at: attempt.started_at,
        ended_at: attempt.ended_at,
        status_code: attempt.status_code,
    }
}

/// The view of a context that has failed, with the words of its service, which are not kept.
///
/// # Errors
/// It is not the view of a context.
pub fn with_error(view: &RawValue, error: &ContextError) -> Result<Box<RawValue>, serde_json::Error> {
    let mut members: BTreeMap<&str, Box<RawValue>> = serde_json::from_str(view.get())?;
    if members.get("error").is_none_or(|kept| kept.get() == "null") {
        return Ok(view.to_owned());
    }
    members.insert("error", to_raw_value(error)?);
    to_raw_value(&members)
}

/// The view of a context as JSON.
pub fn to_view(head: &Head) -> Result<Box<RawValue>, serde_json::Error> {
    let admission = &head.admission;
    to_raw_value(&View {
        id: admission.id.as_str(),
        capability: &admission.capability,
        version: &admission.version,
        service: &admission.service,
        priority: admission.priority,
        source: admission.source,
        metadata: admission.metadata.as_deref(),
        status: head.status,
        error: head.error.as_ref(),
        owner: &admission.owner,
        owner_name: admission.owner_name.as_deref(),
        tenant: &admission.tenant,
        idempotency_key: admission.idempotency_key.as_deref(),
        attempts: head.attempts.iter().map(attempt).collect(),
        history: head.history.iter().map(|step| StepView { status: step.status, at: step.at }).collect(),
        execution_time_ms: head.execution_time_ms(),
        created_at: admission.created_at,
        updated_at: head.updated_at,
        expires_at: admission.expires_at,
        run_at: admission.run_at,
        replay_of: admission.replay_of.as_ref().map(ContextId::as_str),
        tags: &admission.asked_tags,
        input_request: head.input_request.as_deref().filter(|_| head.status == Status::InputRequired),
        tool_result: head.tool_result.then_some(true),
        progress: head.progress.as_ref().map(|progress| ProgressView { at: progress.at, data: &progress.data }),
        content: admission.content,
        spent: head.spent.as_deref().map(Spent::view),
    })
}
