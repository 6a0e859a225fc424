//! Events as they travel and as they are seen: CloudEvents 1.0.2, structured, JSON.
//!
//! A store tells what happened in a [`Bundle`]: the subject once, then what happened to it, each item
//! under a number that only grows. The hub keeps bundles as they came, gives each item the next
//! `sequence`, and writes the CloudEvent only for those who look.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{Attempt, AttemptOutcome, ContextError, Head, Step};
use crate::http::one_line::one_line;

/// A result larger than this, in bytes, is linked from its event instead of carried.
pub const MAX_RESULT_BYTES: usize = 16 * 1024;

/// What an event tells of a result.
#[derive(Debug, Clone, Copy)]
pub enum Carried<'a> {
    Nothing,
    /// The result itself.
    Whole(&'a RawValue),
    /// Where it is: it is too large.
    Linked,
}

impl<'a> Carried<'a> {
    /// As [`Carried::from`], where of a result that was kept only a small one is at hand: what completed has a result.
    pub fn kept(head: &Head, small: Option<&'a RawValue>) -> Self {
        match small {
            None if head.status == Status::Completed => Self::Linked,
            small => small.into(),
        }
    }
}

impl<'a> From<Option<&'a RawValue>> for Carried<'a> {
    fn from(result: Option<&'a RawValue>) -> Self {
        match result {
            None => Self::Nothing,
            Some(result) if result.get().len() <= MAX_RESULT_BYTES => Self::Whole(result),
            Some(_) => Self::Linked,
        }
    }
}

/// What one subject went through, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Bundle {
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What people call the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// The context that this one does once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The number of the subject's event before the first item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    pub number: u64,
    pub at: Timestamp,
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Status(Status),
    /// `input_required`, with what is asked for.
    Asked {
        request: Box<RawValue>,
    },
    /// What a service said of its work.
    Progress {
        data: Box<RawValue>,
    },
    Ended {
        status: Status,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Box<RawValue>>,
        /// The result is too large to be carried.
        #[serde(default)]
        linked: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ContextError>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution_time_ms: Option<u64>,
        /// How many there were.
        #[serde(default)]
        attempts: u64,
    },
    Attempt(Attempt),
    Registry {
        kind: RegistryEvent,
        data: Box<RawValue>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistryEvent {
    #[serde(rename = "service.registered")]
    ServiceRegistered,
    #[serde(rename = "service.updated")]
    ServiceUpdated,
    #[serde(rename = "service.deregistered")]
    ServiceDeregistered,
    #[serde(rename = "service.status")]
    ServiceStatus,
    #[serde(rename = "service.tool_changed")]
    ServiceToolChanged,
    #[serde(rename = "key.created")]
    KeyCreated,
    #[serde(rename = "key.revoked")]
    KeyRevoked,
    #[serde(rename = "webhook.disabled")]
    WebhookDisabled,
    #[serde(rename = "registry.filling")]
    RegistryFilling,
}

impl What {
    /// The CloudEvents `type`.
    pub fn event_type(&self) -> &'static str {
        match self {
            What::Status(status) | What::Ended { status, .. } => status_type(*status),
            What::Asked { .. } => status_type(Status::InputRequired),
            What::Progress { .. } => "context.progress",
            What::Attempt(_) => "context.attempt",
            What::Registry { kind, .. } => match kind {
                RegistryEvent::ServiceRegistered => "service.registered",
                RegistryEvent::ServiceUpdated => "service.updated",
                RegistryEvent::ServiceDeregistered => "service.deregistered",
                RegistryEvent::ServiceStatus => "service.status",
                RegistryEvent::ServiceToolChanged => "service.tool_changed",
                RegistryEvent::KeyCreated => "key.created",
                RegistryEvent::KeyRevoked => "key.revoked",
                RegistryEvent::WebhookDisabled => "webhook.disabled",
                RegistryEvent::RegistryFilling => "registry.filling",
            },
        }
    }
}

fn status_type(status: Status) -> &'static str {
    match status {
        Status::Created => "context.created",
        Status::Validated => "context.validated",
        Status::Queued => "context.queued",
        Status::Executing => "context.executing",
        Status::InputRequired => "context.input_required",
        Status::Completed => "context.completed",
        Status::Failed => "context.failed",
        Status::Cancelled => "context.cancelled",
        Status::TimedOut => "context.timed_out",
    }
}

fn step_item(head: &Head, step: &Step, result: Carried<'_>) -> Item {
    let asked = head.input_request.as_ref().filter(|_| step.status == Status::InputRequired);
    let what = if let Some(request) = asked {
        What::Asked { request: request.clone() }
    } else if step.status.is_final() {
        What::Ended {
            status: step.status,
            result: if let Carried::Whole(result) = result { Some(result.to_owned()) } else { None },
            linked: matches!(result, Carried::Linked),
            error: head.error.clone(),
            execution_time_ms: head.execution_time_ms(),
            attempts: head.attempts.len() as u64,
        }
    } else {
        What::Status(step.status)
    };
    Item { number: step.event, at: step.at, what }
}

/// The numbers of all its events.
fn numbers(head: &Head) -> impl Iterator<Item = u64> {
    let steps = head.history.iter().map(|step| step.event);
    let attempts = head.attempts.iter().map(|attempt| attempt.event);
    steps.chain(attempts).chain(head.progress.iter().map(|progress| progress.event))
}

/// The last event that has a number.
pub fn last_number(head: &Head) -> u64 {
    numbers(head).max().unwrap_or(0)
}

/// Tells of every step and attempt of a context whose number is beyond `known`, in order.
pub fn bundle(head: &Head, result: Carried<'_>, known: u64) -> Bundle {
    let after = numbers(head).filter(|n| *n <= known).max();
    let mut items: Vec<Item> = head
        .history
        .iter()
        .filter(|step| step.event > known)
        .map(|step| step_item(head, step, result))
        .chain(head.attempts.iter().filter(|attempt| attempt.event > known).map(|attempt| Item {
            number: attempt.event,
            at: attempt.ended_at,
            what: What::Attempt(attempt.clone()),
        }))
        .chain(head.progress.iter().filter(|progress| progress.event > known).map(|progress| Item {
            number: progress.event,
            at: progress.at,
            what: What::Progress { data: progress.data.clone() },
        }))
        .collect();
    items.sort_by_key(|item| item.number);
    Bundle {
        subject: head.admission.id.to_string(),
        owner: Some(head.admission.owner.clone()),
        owner_name: head.admission.owner_name.clone(),
        replay_of: head.admission.replay_of.as_ref().map(ToString::to_string),
        capability: Some(head.admission.capability.clone()),
        service: Some(head.admission.service.clone()),
        trace: Some(head.admission.trace.clone()).filter(|trace| !trace.is_empty()),
        after: after.filter(|n| *n > 0),
        items,
    }
}

/// What is left of bundles for whoever knows their teller's events up to `known`.
pub fn beyond(mut bundles: Vec<Bundle>, known: u64) -> Vec<Bundle> {
    for bundle in &mut bundles {
        if let Some(skipped) = bundle.items.iter().map(|item| item.number).filter(|n| *n <= known).max() {
            bundle.after = Some(skipped);
            bundle.items.retain(|item| item.number > known);
        }
    }
    bundles.retain(|bundle| !bundle.items.is_empty());
    bundles
}

/// Gives numbers to the steps and attempts that have none yet: an attempt comes before the step it caused.
pub fn number(head: &mut Head, mut next: impl FnMut() -> u64) {
    let mut attempts = head.attempts.iter_mut().filter(|attempt| attempt.event == 0);
    let mut was_executing = false;
    for step in &mut head.history {
        if step.event == 0 {
            if was_executing && let Some(attempt) = attempts.next() {
                attempt.event = next();
            }
            step.event = next();
        }
        was_executing = step.status == Status::Executing;
    }
    if let Some(progress) = head.progress.as_mut().filter(|progress| progress.event == 0) {
        progress.event = next();
    }
}

/// `sequence` as text that sorts: 16 digits.
pub fn sequence_text(sequence: u64) -> String {
    format!("{sequence:016}")
}

/// An event as Server-Sent Events carry it; its id is where a client resumes.
pub fn frame(event: &str, sequence: u64) -> String {
    format!("id: {}\ndata: {}\n\n", sequence_text(sequence), one_line(event))
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
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
#[serde(untagged)]
enum Data<'a> {
    Context(ContextData<'a>),
    Attempt(AttemptData<'a>),
    Raw(&'a RawValue),
}

#[derive(Serialize)]
struct ContextData<'a> {
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
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
}

#[derive(Serialize)]
struct AttemptData<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'a str>,
    number: u64,
    service: &'a str,
    outcome: AttemptOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<crate::context::status::ErrorCode>,
    started_at: String,
    ended_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
}

/// One event of a bundle as a CloudEvent. `teller` is who told it: a store's code, or `registry`. `public` is the
/// gateway's address, where that is configured: what a request was sent to is the sender's to say.
#[expect(clippy::too_many_lines, reason = "one member after the other of one JSON object")]
pub fn cloud_event(
    public: Option<&str>,
    tenant: &str,
    teller: &str,
    bundle: &Bundle,
    item: &Item,
    before: Option<u64>,
    sequence: u64,
) -> String {
    let context_data = |status| ContextData {
        id: &bundle.subject,
        status,
        owner: bundle.owner.as_deref(),
        owner_name: bundle.owner_name.as_deref(),
        capability: bundle.capability.as_deref(),
        service: bundle.service.as_deref(),
        replay_of: bundle.replay_of.as_deref().filter(|_| status == Status::Created),
        input_request: None,
        progress: None,
        result: None,
        result_url: None,
        error: None,
        execution_time_ms: None,
    };
    let data = match &item.what {
        What::Status(status) => Data::Context(context_data(*status)),
        What::Asked { request } => {
            Data::Context(ContextData { input_request: Some(request), ..context_data(Status::InputRequired) })
        }
        What::Progress { data } => {
            Data::Context(ContextData { progress: Some(data), ..context_data(Status::Executing) })
        }
        What::Ended { status, result, linked, error, execution_time_ms, .. } => Data::Context(ContextData {
            result: result.as_deref(),
            result_url: linked.then(|| format!("{}/v1/contexts/{}", public.unwrap_or_default(), bundle.subject)),
            error: error.as_ref(),
            execution_time_ms: *execution_time_ms,
            ..context_data(*status)
        }),
        What::Attempt(attempt) => Data::Attempt(AttemptData {
            id: &bundle.subject,
            owner: bundle.owner.as_deref(),
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
        What::Registry { data, .. } => Data::Raw(data),
    };
    let of_context = !matches!(item.what, What::Registry { .. });
    serde_json::to_string(&CloudEvent {
        specversion: "1.0",
        id: format!("{teller}-{}", item.number),
        source: format!("/tenants/{tenant}"),
        r#type: item.what.event_type(),
        subject: &bundle.subject,
        time: item.at.text(),
        sequence: sequence_text(sequence),
        datacontenttype: "application/json",
        correlationid: of_context.then_some(bundle.subject.as_str()),
        causationid: before.map(|number| format!("{teller}-{number}")),
        traceparent: bundle.trace.as_deref(),
        data,
    })
    .unwrap_or_default()
}

/// An event that is none of the log's: for one reader, with a place in the sequence only to go on from.
fn aside(
    tenant: &str,
    kind: &'static str,
    subject: &str,
    id: &str,
    now: Timestamp,
    sequence: u64,
    data: String,
) -> String {
    let Ok(data) = RawValue::from_string(data) else {
        return String::new();
    };
    serde_json::to_string(&CloudEvent {
        specversion: "1.0",
        id: id.into(),
        source: format!("/tenants/{tenant}"),
        r#type: kind,
        subject,
        time: now.text(),
        sequence: sequence_text(sequence),
        datacontenttype: "application/json",
        correlationid: None,
        causationid: None,
        traceparent: None,
        data: Data::Raw(&data),
    })
    .unwrap_or_default()
}

/// What a webhook is sent to see whether it works. It is no event of the log, and has no place in its sequence.
pub fn test_event(tenant: &str, webhook: &str, id: &str, now: Timestamp) -> String {
    let data = serde_json::json!({"id": webhook}).to_string();
    aside(tenant, "webhook.test", webhook, id, now, 0, data)
}

/// Tells a client that events it asked for are no longer kept.
pub fn gap_event(tenant: &str, now: Timestamp, asked_after: u64, first_kept: u64) -> String {
    let (after, first) = (sequence_text(asked_after), sequence_text(first_kept));
    let data = format!(r#"{{"after":"{after}","first_available":"{first}"}}"#);
    let id = format!("gap-{asked_after}-{first_kept}");
    aside(tenant, "stream.gap", "stream", &id, now, first_kept.saturating_sub(1), data)
}

#[cfg(test)]
mod tests;
