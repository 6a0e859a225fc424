//! The messages of a connection: JSON objects with a `type`, one in each WebSocket message.
//!
//! The subprotocol has the version in it. Members that are not known are faults in what a service sends, and are to
//! be passed over in what it is sent.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::callback::MAX_PROGRESS_BYTES;
use crate::base::json::{Fault, Object};
use crate::lane::observed::HealthStatus;

/// The WebSocket subprotocol (RFC 6455 §1.9).
pub const SUBPROTOCOL: &str = "narthex.service.v1";
/// The largest message a service may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;
/// The most work one connection takes at once.
pub const MAX_CREDIT: u64 = 1_000;
/// Deliveries one connection may take up again.
const MAX_RESUMED: usize = 1_000;
/// The longest number of a delivery.
const LONGEST_DELIVERY: usize = 80;

/// What a service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It takes so much at once from now on, and still has these deliveries.
    Ready {
        credit: u64,
        resume: Vec<String>,
    },
    /// How an attempt ended, or what it needs to go on: the body of an answer, as over HTTP.
    Outcome {
        delivery: String,
        body: String,
    },
    Progress {
        delivery: String,
        progress: String,
    },
    /// How it is.
    Status(HealthStatus),
}

/// Reads a message that has passed `json::check`. All faults are named.
pub fn read(text: &str) -> Result<Said, Vec<Fault>> {
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
        // Of what kind the others should be, nobody knows.
        None => return Err(vec![Fault::new("#/type", format!("must be {known}"))]),
    };
    let faults = message.finish();
    match said {
        Some(said) if faults.is_empty() => Ok(said),
        _ => Err(faults),
    }
}

fn ready(message: &mut Object<'_>) -> Option<Said> {
    let credit = message.integer("credit", 0..=MAX_CREDIT);
    let credit = message.require("credit", credit);
    let resume = message.strings("resume", MAX_RESUMED, LONGEST_DELIVERY).unwrap_or_default();
    Some(Said::Ready { credit: credit?, resume })
}

fn status(message: &mut Object<'_>) -> Option<Said> {
    let status = message.parsed("status", "online or degraded", |status| match status {
        "online" => Some(HealthStatus::Online),
        "degraded" => Some(HealthStatus::Degraded),
        _ => None,
    });
    message.require("status", status).map(Said::Status)
}

fn delivery(message: &mut Object<'_>) -> Option<String> {
    let delivery = message.string("delivery", 1..=LONGEST_DELIVERY);
    message.require("delivery", delivery)
}

fn outcome(message: &mut Object<'_>, member: &str) -> Option<Said> {
    let delivery = delivery(message);
    let value = message.raw_or_null(member).map(|value| format!(r#"{{"{member}":{}}}"#, value.get()));
    let body = message.require(member, value);
    Some(Said::Outcome { delivery: delivery?, body: body? })
}

fn progress(message: &mut Object<'_>) -> Option<Said> {
    let delivery = delivery(message);
    let progress = message.raw("progress").map(|progress| progress.get().to_string());
    let progress = message.require("progress", progress);
    if progress.as_ref().is_some_and(|text| text.len() > MAX_PROGRESS_BYTES) {
        message.fault("progress", format!("must have at most {MAX_PROGRESS_BYTES} bytes"));
    }
    Some(Said::Progress { delivery: delivery?, progress: progress? })
}

/// Why a delivery is not to be worked on any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Cancelled,
    /// Its context's time is over.
    Deadline,
    /// Its attempt is over: it ended otherwise, or another has begun.
    Over,
}

/// What a service is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told<'a> {
    /// The first message.
    Welcome {
        connection: &'a str,
        service: &'a str,
        /// How long what a connection had is kept for it when it drops.
        grace_seconds: u64,
        /// How often to send `ping`.
        ping_seconds: u64,
    },
    Work {
        delivery: &'a str,
        work: &'a RawValue,
    },
    Cancel {
        delivery: &'a str,
        reason: Reason,
    },
    /// What was reported is stored. `late`: it came to nothing, as the attempt was over.
    Done {
        delivery: &'a str,
        late: bool,
    },
    /// A message could not be read.
    Fault {
        errors: &'a [Fault],
    },
}

impl Told<'_> {
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_one_thing_in_a_message() {
        let ready = |credit, resume: &[&str]| {
            Ok(Said::Ready { credit, resume: resume.iter().map(ToString::to_string).collect() })
        };
        assert_eq!(read(r#"{"type":"ready","credit":4}"#), ready(4, &[]));
        assert_eq!(read(r#"{"type":"ready","credit":0,"resume":["a.1"]}"#), ready(0, &["a.1"]));
        let outcome = |body: &str| Ok(Said::Outcome { delivery: "a.1".into(), body: body.into() });
        assert_eq!(read(r#"{"type":"result","delivery":"a.1","result":null}"#), outcome(r#"{"result":null}"#));
        assert_eq!(
            read(r#"{"type":"error","delivery":"a.1","error":{"code":"x"}}"#),
            outcome(r#"{"error":{"code":"x"}}"#)
        );
        let asked = read(r#"{"type":"ask","delivery":"a.1","input_required":{"message":"?"}}"#);
        assert_eq!(asked, outcome(r#"{"input_required":{"message":"?"}}"#));
        let progress = read(r#"{"type":"progress","delivery":"a.1","progress":{"done":1}}"#);
        assert_eq!(progress, Ok(Said::Progress { delivery: "a.1".into(), progress: r#"{"done":1}"#.into() }));
        assert_eq!(read(r#"{"type":"status","status":"degraded"}"#), Ok(Said::Status(HealthStatus::Degraded)));
    }

    #[test]
    fn what_cannot_be_read_names_its_faults() {
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
            (r#"{"type":"status","status":"offline"}"#, "#/status"),
            (&large, "#/progress"),
        ] {
            let faults = read(bad).unwrap_err();
            assert!(faults.iter().any(|fault| fault.pointer == pointer), "{bad}: {faults:?}");
        }
    }

    #[test]
    fn what_a_service_is_told_has_a_type() {
        let done = Told::Done { delivery: "a.1", late: false };
        assert_eq!(done.text(), r#"{"type":"done","delivery":"a.1","late":false}"#);
        let cancel = Told::Cancel { delivery: "a.1", reason: Reason::Over };
        assert_eq!(cancel.text(), r#"{"type":"cancel","delivery":"a.1","reason":"over"}"#);
        let raw = RawValue::from_string(r#"{"b": 1}"#.into()).unwrap();
        let work = Told::Work { delivery: "a.1", work: &raw };
        assert_eq!(work.text(), r#"{"type":"work","delivery":"a.1","work":{"b": 1}}"#);
    }
}
