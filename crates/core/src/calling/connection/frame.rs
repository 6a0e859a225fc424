//! The messages of a connection: JSON objects with a `type`, one in each WebSocket message.
//!
//! The subprotocol contains the version. Unknown members are faults in messages from a service; a service must ignore
//! those in messages it receives.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::callback::MAX_PROGRESS_BYTES;
use crate::base::json::{Fault, Object};
use crate::base::service_id::ServiceId;
use crate::lane::observed::HealthStatus;
use crate::models::stated_usage::StatedUsage;

/// The WebSocket subprotocol (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "narthex.service.v1";
/// The largest message from a service, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// The maximum number of concurrent deliveries on one connection.
pub const MAX_CREDIT: u64 = 1_000;
/// How many deliveries one connection may resume.
const MAX_RESUMED_DELIVERIES: usize = 1_000;
/// The longest delivery number, in bytes.
const MAX_DELIVERY_NUMBER_BYTES: usize = 80;

/// A message from a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceMessage {
    /// The service accepts up to `credit` concurrent deliveries from now on, and still has those in `resume`.
    Ready {
        credit: u64,
        resume: Vec<String>,
    },
    /// The outcome of an attempt, or its request for input: a response body, as over HTTP.
    Outcome {
        delivery: String,
        body: String,
    },
    Progress {
        delivery: String,
        progress: String,
    },
    /// The service's own health.
    Status(HealthStatus),
}

/// Reads a message that has passed `json::check`, with all its faults.
pub fn read(text: &str) -> Result<ServiceMessage, Vec<Fault>> {
    let mut message = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let known = "ready, result, error, ask, progress or status";
    let kind = message.parsed("type", known, |kind| {
        ["ready", "result", "error", "ask", "progress", "status"].into_iter().find(|one| *one == kind)
    });
    let kind = message.require("type", kind);
    let said = match kind {
        Some("ready") => ready(&mut message),
        Some("status") => status(&mut message),
        Some("result") => outcome(&mut message, "result"),
        Some("error") => outcome(&mut message, "error"),
        Some("ask") => outcome(&mut message, "input_required"),
        Some(_) => progress(&mut message),
        // Without a known type, the other members cannot be checked.
        None => return Err(vec![Fault::new("#/type", format!("must be {known}"))]),
    };
    let faults = message.finish();
    match said {
        Some(said) if faults.is_empty() => Ok(said),
        _ => Err(faults),
    }
}

fn ready(message: &mut Object<'_>) -> Option<ServiceMessage> {
    let credit = message.integer("credit", 0..=MAX_CREDIT);
    let credit = message.require("credit", credit);
    let resume = message.strings("resume", MAX_RESUMED_DELIVERIES, MAX_DELIVERY_NUMBER_BYTES).unwrap_or_default();
    Some(ServiceMessage::Ready { credit: credit?, resume })
}

fn status(message: &mut Object<'_>) -> Option<ServiceMessage> {
    let status = message.parsed("status", "online or degraded", |status| match status {
        "online" => Some(HealthStatus::Online),
        "degraded" => Some(HealthStatus::Degraded),
        _ => None,
    });
    message.require("status", status).map(ServiceMessage::Status)
}

fn delivery(message: &mut Object<'_>) -> Option<String> {
    let delivery = message.string("delivery", 1..=MAX_DELIVERY_NUMBER_BYTES);
    message.require("delivery", delivery)
}

fn outcome(message: &mut Object<'_>, member: &str) -> Option<ServiceMessage> {
    let delivery = delivery(message);
    let usage = usage(message).map(|usage| format!(r#","usage":{}"#, usage.get())).unwrap_or_default();
    let value = message.raw_or_null(member).map(|value| format!(r#"{{"{member}":{}{usage}}}"#, value.get()));
    let body = message.require(member, value);
    Some(ServiceMessage::Outcome { delivery: delivery?, body: body? })
}

fn usage<'m>(message: &mut Object<'m>) -> Option<&'m RawValue> {
    let usage = message.raw("usage")?;
    let at = message.pointer_to("usage");
    message.faults(StatedUsage::read(usage, &at).err().into_iter().flatten());
    Some(usage)
}

fn progress(message: &mut Object<'_>) -> Option<ServiceMessage> {
    let delivery = delivery(message);
    let progress = message.raw("progress").map(|progress| progress.get().to_string());
    let progress = message.require("progress", progress);
    if progress.as_ref().is_some_and(|text| text.len() > MAX_PROGRESS_BYTES) {
        message.fault("progress", format!("must have at most {MAX_PROGRESS_BYTES} bytes"));
    }
    Some(ServiceMessage::Progress { delivery: delivery?, progress: progress? })
}

/// Why a delivery is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalReason {
    Cancelled,
    /// The context's deadline passed.
    Deadline,
    /// The attempt has ended otherwise, or another one has begun.
    Over,
}

/// A message to a service.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GatewayMessage<'a> {
    /// The first message.
    Welcome {
        connection: &'a str,
        service: &'a ServiceId,
        /// How long deliveries of a dropped connection are kept for it.
        grace_seconds: u64,
        /// The interval of `ping`.
        ping_seconds: u64,
    },
    Work {
        delivery: &'a str,
        work: &'a RawValue,
    },
    Cancel {
        delivery: &'a str,
        reason: WithdrawalReason,
    },
    /// The report is stored. `late`: it had no effect, since the attempt was over.
    Done {
        delivery: &'a str,
        late: bool,
    },
    /// A message had faults.
    Fault {
        errors: &'a [Fault],
    },
}

impl GatewayMessage<'_> {
    /// The message as JSON.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_type() {
        let ready = |credit, resume: &[&str]| {
            Ok(ServiceMessage::Ready { credit, resume: resume.iter().map(ToString::to_string).collect() })
        };
        assert_eq!(read(r#"{"type":"ready","credit":4}"#), ready(4, &[]));
        assert_eq!(read(r#"{"type":"ready","credit":0,"resume":["a.1"]}"#), ready(0, &["a.1"]));
        let outcome = |body: &str| Ok(ServiceMessage::Outcome { delivery: "a.1".into(), body: body.into() });
        assert_eq!(read(r#"{"type":"result","delivery":"a.1","result":null}"#), outcome(r#"{"result":null}"#));
        assert_eq!(
            read(r#"{"type":"error","delivery":"a.1","error":{"code":"x"}}"#),
            outcome(r#"{"error":{"code":"x"}}"#)
        );
        assert_eq!(
            read(r#"{"type":"result","delivery":"a.1","usage":{"cost":"0.01"},"result":null}"#),
            outcome(r#"{"result":null,"usage":{"cost":"0.01"}}"#)
        );
        let asked = read(r#"{"type":"ask","delivery":"a.1","input_required":{"message":"?"}}"#);
        assert_eq!(asked, outcome(r#"{"input_required":{"message":"?"}}"#));
        let progress = read(r#"{"type":"progress","delivery":"a.1","progress":{"done":1}}"#);
        assert_eq!(progress, Ok(ServiceMessage::Progress { delivery: "a.1".into(), progress: r#"{"done":1}"#.into() }));
        assert_eq!(
            read(r#"{"type":"status","status":"degraded"}"#),
            Ok(ServiceMessage::Status(HealthStatus::Degraded))
        );
    }

    #[test]
    fn invalid_messages_have_their_faults_reported() {
        let large = format!(r#"{{"type":"progress","delivery":"a","progress":"{}"}}"#, "x".repeat(MAX_PROGRESS_BYTES));
        for (bad, pointer) in [
            ("[]", "#"),
            ("{}", "#/type"),
            (r#"{"type":"hello"}"#, "#/type"),
            (r#"{"type":"ready"}"#, "#/credit"),
            (r#"{"type":"ready","credit":1001}"#, "#/credit"),
            (r#"{"type":"ready","credit":1,"more":1}"#, "#/more"),
            (r#"{"type":"result","result":1}"#, "#/delivery"),
            (r#"{"type":"result","delivery":"a","error":1}"#, "#/result"),
            (r#"{"type":"result","delivery":"a","result":1,"usage":{"cost":1}}"#, "#/usage/cost"),
            (r#"{"type":"status","status":"offline"}"#, "#/status"),
            (&large, "#/progress"),
        ] {
            let faults = read(bad).unwrap_err();
            assert!(faults.iter().any(|fault| fault.pointer == pointer), "{bad}: {faults:?}");
        }
    }

    #[test]
    fn messages_to_a_service_have_a_type() {
        let done = GatewayMessage::Done { delivery: "a.1", late: false };
        assert_eq!(done.text(), r#"{"type":"done","delivery":"a.1","late":false}"#);
        let cancel = GatewayMessage::Cancel { delivery: "a.1", reason: WithdrawalReason::Over };
        assert_eq!(cancel.text(), r#"{"type":"cancel","delivery":"a.1","reason":"over"}"#);
        let raw = RawValue::from_string(r#"{"b": 1}"#.into()).unwrap();
        let work = GatewayMessage::Work { delivery: "a.1", work: &raw };
        assert_eq!(work.text(), r#"{"type":"work","delivery":"a.1","work":{"b": 1}}"#);
    }
}
