//! Events as subscribers receive them: CloudEvents 1.0.2, structured, JSON.

use serde::Serialize;
use serde_json::value::RawValue;

use super::bundle::{Bundle, EventKind, Item};
use super::event_type::EventType;
use super::sequence::Sequence;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{AttemptOutcome, ContextError};
use crate::http::one_line::one_line;
use crate::models::spent::{Spent, SpentView};

/// An event as a Server-Sent Events message; its id is where a client resumes.
pub fn frame(event: &str, sequence: Sequence) -> String {
    format!("id: {}\ndata: {}\n\n", sequence.text(), one_line(event))
}

#[derive(Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub(crate) struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    // Which types there are, `contract` compares with `EventType::all`.
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "serde_json::Value"))]
    r#type: &'static str,
    subject: &'a str,
    time: String,
    sequence: String,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum Data<'a> {
    Context(ContextData<'a>),
    Attempt(AttemptData<'a>),
    Raw(&'a RawValue),
}

#[derive(Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub(crate) struct ContextData<'a> {
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a PrincipalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a ServiceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_request: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ContextError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_time_ms: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    spent: Option<SpentView<'a>>,
}

#[derive(Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub(crate) struct AttemptData<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a PrincipalId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'a str>,
    number: u64,
    service: &'a ServiceId,
    outcome: AttemptOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<crate::context::status::ErrorCode>,
    started_at: String,
    ended_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
}

/// The member `data` of an event.
fn event_data<'a>(public: Option<&str>, bundle: &'a Bundle, item: &'a Item) -> Data<'a> {
    let context_data = |status| ContextData {
        id: &bundle.subject,
        status,
        owner: bundle.owner.as_ref(),
        owner_name: bundle.owner_name.as_deref(),
        capability: bundle.capability.as_deref(),
        service: bundle.service.as_ref(),
        replay_of: bundle.replay_of.as_deref().filter(|_| status == Status::Created),
        input_request: None,
        progress: None,
        result: None,
        result_url: None,
        error: None,
        execution_time_ms: None,
        spent: None,
    };
    match &item.kind {
        EventKind::Status(status) => Data::Context(context_data(*status)),
        EventKind::InputRequested { request } => {
            Data::Context(ContextData { input_request: Some(request), ..context_data(Status::InputRequired) })
        }
        EventKind::Progress { data } => {
            Data::Context(ContextData { progress: Some(data), ..context_data(Status::Executing) })
        }
        EventKind::Ended { status, result, linked, error, execution_time_ms, spent, .. } => {
            Data::Context(ContextData {
                result: result.as_deref(),
                result_url: linked.then(|| format!("{}/v1/contexts/{}", public.unwrap_or_default(), bundle.subject)),
                error: error.as_ref(),
                execution_time_ms: *execution_time_ms,
                spent: spent.as_deref().map(Spent::view),
                ..context_data(*status)
            })
        }
        EventKind::Attempt(attempt) => Data::Attempt(AttemptData {
            id: &bundle.subject,
            owner: bundle.owner.as_ref(),
            owner_name: bundle.owner_name.as_deref(),
            capability: bundle.capability.as_deref(),
            number: attempt.number,
            service: &attempt.service,
            outcome: attempt.outcome,
            code: attempt.code,
            started_at: attempt.started_at.text(),
            ended_at: attempt.ended_at.text(),
            status_code: attempt.status_code,
        }),
        EventKind::Registry { data, .. } | EventKind::Unknown(data) => Data::Raw(data),
    }
}

/// One event of a bundle as a CloudEvent. `source` is the code of the store that published it, or `registry`; `before`
/// is the number of the event that caused it. `public` is the gateway's configured address, if any: that of a request
/// is chosen by its sender and must not appear here.
pub fn cloud_event(
    public: Option<&str>,
    tenant: &TenantId,
    source: &str,
    bundle: &Bundle,
    item: &Item,
    before: Option<u64>,
    sequence: Sequence,
) -> String {
    let of_context = !matches!(item.kind, EventKind::Registry { .. });
    serde_json::to_string(&CloudEvent {
        specversion: "1.0",
        id: format!("{source}-{}", item.number),
        source: format!("/tenants/{tenant}"),
        r#type: item.kind.event_type().as_str(),
        subject: &bundle.subject,
        time: item.at.text(),
        sequence: sequence.text(),
        datacontenttype: "application/json",
        correlationid: of_context.then_some(bundle.subject.as_str()),
        causationid: before.map(|number| format!("{source}-{number}")),
        traceparent: bundle.trace.as_deref(),
        data: event_data(public, bundle, item),
    })
    .unwrap_or_default()
}

/// An event outside the log, for one reader; its `sequence` is only a position to resume from.
fn unlogged_event(
    tenant: &TenantId,
    kind: EventType,
    subject: &str,
    id: &str,
    now: Timestamp,
    sequence: Sequence,
    data: String,
) -> String {
    let Ok(data) = RawValue::from_string(data) else {
        return String::new();
    };
    serde_json::to_string(&CloudEvent {
        specversion: "1.0",
        id: id.into(),
        source: format!("/tenants/{tenant}"),
        r#type: kind.as_str(),
        subject,
        time: now.text(),
        sequence: sequence.text(),
        datacontenttype: "application/json",
        correlationid: None,
        causationid: None,
        traceparent: None,
        data: Data::Raw(&data),
    })
    .unwrap_or_default()
}

/// The event that tests a webhook. It is not part of the log and has no position in it.
pub fn test_event(tenant: &TenantId, webhook: &str, id: &str, now: Timestamp) -> String {
    let data = serde_json::json!({"id": webhook}).to_string();
    unlogged_event(tenant, EventType::WebhookTest, webhook, id, now, Sequence::START, data)
}

/// The event that informs a client that events it asked for have been deleted.
pub fn gap_event(tenant: &TenantId, now: Timestamp, asked_after: Sequence, first_kept: Sequence) -> String {
    let (after, first) = (asked_after.text(), first_kept.text());
    let data = format!(r#"{{"after":"{after}","first_available":"{first}"}}"#);
    let id = format!("gap-{asked_after}-{first_kept}");
    unlogged_event(tenant, EventType::StreamGap, "stream", &id, now, first_kept.previous(), data)
}
