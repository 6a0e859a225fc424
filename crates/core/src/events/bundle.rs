//! Events as stores and registries publish them.
//!
//! A source reports what happened in a [`Bundle`]: the subject once, then what happened to it, each item with a number
//! that only grows. The hub stores bundles as they came, gives each item the next `sequence`, and writes the CloudEvent
//! ([`cloud_event`](super::cloud_event)) only when it is read.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::order;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::status::Status;
use crate::context::{Attempt, ContextError, Head, HistoryEntry};
use crate::models::spent::Spent;

use super::event_type::EventType;
pub use super::event_type::RegistryEvent;

/// A result larger than this is linked from its event instead of included, in bytes.
pub const MAX_RESULT_BYTES: usize = 16 * 1024;

/// What an event contains of a result.
#[derive(Debug, Clone, Copy)]
pub enum EventResult<'a> {
    Absent,
    /// The result itself.
    Inline(&'a RawValue),
    /// A link: the result is too large.
    Linked,
}

impl<'a> EventResult<'a> {
    /// As [`EventResult::from`], for a stored result of which only small ones are at hand: a completed context has one.
    pub fn stored(head: &Head, small: Option<&'a RawValue>) -> Self {
        match small {
            None if head.status == Status::Completed && head.admission.content.is_full() => Self::Linked,
            small => small.into(),
        }
    }
}

impl<'a> From<Option<&'a RawValue>> for EventResult<'a> {
    fn from(result: Option<&'a RawValue>) -> Self {
        match result {
            None => Self::Absent,
            Some(result) if result.get().len() <= MAX_RESULT_BYTES => Self::Inline(result),
            Some(_) => Self::Linked,
        }
    }
}

/// What happened to one subject, in order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Bundle {
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PrincipalId>,
    /// The owner's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// The context that this one replays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The role of the owner when the context was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The model, under the name that usage counts it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The number of the subject's last event before the first item.
    #[serde(rename = "after", default, skip_serializing_if = "Option::is_none")]
    pub previous_number: Option<u64>,
    pub items: Vec<Item>,
}

/// One event of a bundle, with the number that its source gave it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    pub number: u64,
    pub at: Timestamp,
    #[serde(rename = "what", serialize_with = "stored_kind")]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Status(Status),
    /// `input_required`, with the question.
    #[serde(rename = "asked")]
    InputRequested {
        request: Box<RawValue>,
    },
    /// Progress that a service reported.
    Progress {
        data: Box<RawValue>,
    },
    Ended {
        status: Status,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Box<RawValue>>,
        /// The result is too large to be included.
        #[serde(default)]
        linked: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ContextError>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        execution_time_ms: Option<u64>,
        /// The number of attempts.
        #[serde(default)]
        attempts: u64,
        /// What it used of a model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spent: Option<Box<Spent>>,
    },
    Attempt(Attempt),
    Registry {
        kind: RegistryEvent,
        data: Box<RawValue>,
    },
    /// An event of a later version, in stored form. It is kept, and no subscriber receives it from this version.
    #[serde(skip)]
    Unknown(Box<RawValue>),
}

/// Writes an unknown event as it was read.
fn stored_kind<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    match kind {
        EventKind::Unknown(raw) => raw.serialize(serializer),
        known => known.serialize(serializer),
    }
}

/// An item whose event may be unknown.
#[derive(Deserialize)]
struct AnyItem {
    number: u64,
    at: Timestamp,
    #[serde(rename = "what")]
    kind: Box<RawValue>,
}

impl AnyItem {
    fn read(self) -> Item {
        let kind = serde_json::from_str(self.kind.get()).unwrap_or(EventKind::Unknown(self.kind));
        Item { number: self.number, at: self.at, kind }
    }
}

impl Bundle {
    /// Reads a stored bundle, whose events may be of a later version.
    ///
    /// # Errors
    /// The text is not a bundle.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).or_else(|_| Self::read_any(text))
    }

    fn read_any(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Items {
            items: Vec<AnyItem>,
        }
        let Items { items } = serde_json::from_str(text)?;
        let mut rest: Map<String, Value> = serde_json::from_str(text)?;
        rest.insert("items".into(), Value::Array(Vec::new()));
        let bundle: Self = serde_json::from_value(rest.into())?;
        Ok(Self { items: items.into_iter().map(AnyItem::read).collect(), ..bundle })
    }
}

/// Reads a stored list of bundles, whose events may be of a later version.
///
/// # Errors
/// The text is not a list of bundles.
pub fn read_bundles(text: &str) -> Result<Vec<Bundle>, serde_json::Error> {
    serde_json::from_str(text).or_else(|_| {
        let bundles: Vec<Box<RawValue>> = serde_json::from_str(text)?;
        bundles.iter().map(|raw| Bundle::read(raw.get())).collect()
    })
}

impl EventKind {
    pub fn event_type(&self) -> EventType {
        match self {
            EventKind::Unknown(_) => EventType::Unknown,
            EventKind::Status(status) | EventKind::Ended { status, .. } => EventType::Status(*status),
            EventKind::InputRequested { .. } => EventType::Status(Status::InputRequired),
            EventKind::Progress { .. } => EventType::Progress,
            EventKind::Attempt(_) => EventType::Attempt,
            EventKind::Registry { kind, .. } => EventType::Registry(*kind),
        }
    }
}

fn step_item(head: &Head, step: &HistoryEntry, result: EventResult<'_>) -> Item {
    let request = head.input_request.as_ref().filter(|_| step.status == Status::InputRequired);
    let kind = if let Some(request) = request {
        EventKind::InputRequested { request: request.clone() }
    } else if step.status.is_final() {
        EventKind::Ended {
            status: step.status,
            result: if let EventResult::Inline(result) = result { Some(result.to_owned()) } else { None },
            linked: matches!(result, EventResult::Linked),
            error: head.error.clone(),
            execution_time_ms: head.execution_time_ms(),
            attempts: head.attempts.len() as u64,
            spent: head.spent.clone(),
        }
    } else {
        EventKind::Status(step.status)
    };
    Item { number: step.event, at: step.at, kind }
}

/// The numbers of all events of a context.
fn numbers(head: &Head) -> impl Iterator<Item = u64> {
    let steps = head.history.iter().map(|step| step.event);
    let attempts = head.attempts.iter().map(|attempt| attempt.event);
    steps.chain(attempts).chain(head.progress.iter().map(|progress| progress.event))
}

/// The number of the last event, or 0.
pub fn last_number(head: &Head) -> u64 {
    numbers(head).max().unwrap_or(0)
}

/// The bundle of all steps, attempts and progress of a context with numbers above `known`, in order.
pub fn bundle(head: &Head, result: EventResult<'_>, known: u64) -> Bundle {
    let previous_number = numbers(head).filter(|n| *n <= known).max();
    let mut items: Vec<Item> = head
        .history
        .iter()
        .filter(|step| step.event > known)
        .map(|step| step_item(head, step, result))
        .chain(head.attempts.iter().filter(|attempt| attempt.event > known).map(|attempt| Item {
            number: attempt.event,
            at: attempt.ended_at,
            kind: EventKind::Attempt(attempt.clone()),
        }))
        .chain(head.progress.iter().filter(|progress| progress.event > known).map(|progress| Item {
            number: progress.event,
            at: progress.at,
            kind: EventKind::Progress { data: progress.data.clone() },
        }))
        .collect();
    order::sort_by_key(&mut items, |item| item.number);
    Bundle {
        subject: head.admission.id.to_string(),
        owner: Some(head.admission.owner.clone()),
        owner_name: head.admission.owner_name.clone(),
        replay_of: head.admission.replay_of.as_ref().map(ToString::to_string),
        capability: Some(head.admission.capability.clone()),
        service: Some(head.admission.service.clone()),
        trace: Some(head.admission.trace.clone()).filter(|trace| !trace.is_empty()),
        role: Some(head.admission.role.clone()).filter(|role| !role.is_empty()),
        model: head.admission.counted_model.clone(),
        previous_number: previous_number.filter(|n| *n > 0),
        items,
    }
}

/// Removes the items up to number `known`, and bundles that have no others.
pub fn newer_than(mut bundles: Vec<Bundle>, known: u64) -> Vec<Bundle> {
    for bundle in &mut bundles {
        if let Some(skipped) = bundle.items.iter().map(|item| item.number).filter(|n| *n <= known).max() {
            bundle.previous_number = Some(skipped);
            bundle.items.retain(|item| item.number > known);
        }
    }
    bundles.retain(|bundle| !bundle.items.is_empty());
    bundles
}

/// Numbers the steps and attempts that have no number yet: an attempt comes before the step it caused.
pub fn assign_numbers(head: &mut Head, mut next: impl FnMut() -> u64) {
    let mut attempts = head.attempts.iter_mut().filter(|attempt| attempt.event == 0);
    let mut before = Status::Created;
    for step in &mut head.history {
        if step.event == 0 {
            // An attempt that waits for input may end without being resumed.
            let may_end_attempt =
                before == Status::Executing || (before == Status::InputRequired && step.status.is_final());
            // Several may have been made before the store learned of any.
            let most = if step.status.is_final() { usize::MAX } else { 1 };
            for attempt in attempts.by_ref().take(if may_end_attempt { most } else { 0 }) {
                attempt.event = next();
            }
            step.event = next();
        }
        before = step.status;
    }
    if let Some(progress) = head.progress.as_mut().filter(|progress| progress.event == 0) {
        progress.event = next();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_of_a_later_version_is_kept_as_it_is_and_concerns_no_other() {
        let unknown = json!({"priced": {"amount": "0.10", "by": [1.50]}});
        let bundles = json!([
            {"subject": "ctx_1", "owner": "key:k", "after": 4, "items": [
                {"number": 5, "at": 1, "what": {"status": "queued"}},
                {"number": 6, "at": 2, "what": unknown},
                {"number": 7, "at": 3, "what": {"status": "dreaming"}}]},
            {"subject": "ctx_2", "items": [{"number": 8, "at": 3, "what": {"progress": {"data": {"a": 1.10}}}}]},
        ]);
        let read = read_bundles(&bundles.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), bundles);
        let types: Vec<_> = read.iter().flat_map(|bundle| &bundle.items).map(|item| item.kind.event_type()).collect();
        let expected = [EventType::Status(Status::Queued), EventType::Unknown, EventType::Unknown, EventType::Progress];
        assert_eq!(types, expected);
        assert!(read_bundles("{}").is_err() && read_bundles(r#"[{"subject": "x"}]"#).is_err());
    }
}
