//! The request body that creates a context.

use semver::VersionReq;
use serde_json::value::RawValue;

/// The longest time to the deadline of a context, in seconds.
pub const MAX_TIMEOUT_SECONDS: u64 = 86_400;

use super::status::{Priority, Source};
use crate::base::id::ContextId;
use crate::base::json::{Fault, Object};
use crate::base::names::valid_tool_name;
use crate::base::object_name::ObjectName;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;

pub const MAX_PARAMETERS_BYTES: usize = 256 * 1024;
pub const MAX_METADATA_BYTES: usize = 8 * 1024;

/// Contexts start before this time, so that their end can be written with a four-digit year: 9999-01-01T00:00:00Z.
const RUN_BEFORE: Timestamp = Timestamp(253_370_764_800_000);

/// Maximum number of tags in a request.
const MAX_TAGS: usize = 10;

/// The parameters of a request without any.
const NO_PARAMETERS: &str = "{}";

/// A request to create a context. The last fields are set by the gateway, not by the body.
#[derive(Debug)]
pub struct NewContext<'a> {
    pub capability: String,
    pub service: Option<ServiceId>,
    pub version: Option<VersionReq>,
    /// The service must have all of these tags.
    pub tags: Vec<String>,
    /// The parameters exactly as they were sent.
    pub parameters: &'a str,
    pub priority: Priority,
    pub timeout_seconds: Option<u64>,
    pub source: Source,
    pub metadata: Option<&'a RawValue>,
    pub run_at: Option<Timestamp>,
    /// The context that this one replays.
    pub replay_of: Option<ContextId>,
    /// The capabilities of the MCP client that waits for it.
    pub client: Option<Box<RawValue>>,
    pub session: Option<ObjectName>,
    /// The client cannot be asked for input while this call runs, although its session supports it.
    pub unasked: bool,
    pub log_level: Option<String>,
    pub meta: Option<Box<RawValue>>,
}

/// Reads a request body. `text` must have passed `json::check`. Returns every fault.
pub fn read(text: &str) -> Result<NewContext<'_>, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let capability =
        body.parsed("capability", "the name of a capability", |name| valid_tool_name(name).then(|| name.to_string()));
    let capability = body.require("capability", capability);
    let service = body.parsed("service", "the id of a service", ServiceId::parse);
    let version = body.parsed("version", "a semver range such as ^1.2", |range| VersionReq::parse(range).ok());
    let tags = body.strings("tags", MAX_TAGS, 100).unwrap_or_default();
    let parameters = body.raw_or_null("parameters").map_or(NO_PARAMETERS, RawValue::get);
    if parameters.len() > MAX_PARAMETERS_BYTES {
        body.fault("parameters", format!("must have at most {MAX_PARAMETERS_BYTES} bytes, has {}", parameters.len()));
    }
    let priority = body.parsed("priority", "low, normal, high or critical", Priority::parse);
    let timeout_seconds = body.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS);
    let source = body.parsed("source", "user, system, service or scheduled", Source::parse);
    let metadata = body.raw("metadata");
    if metadata.is_some_and(|raw| raw.get().len() > MAX_METADATA_BYTES) {
        body.fault("metadata", format!("must have at most {MAX_METADATA_BYTES} bytes"));
    }
    if metadata.is_some_and(|raw| !raw.get().starts_with('{')) {
        body.fault("metadata", "must be an object");
    }
    let run_at = body.parsed("run_at", "a time such as 2026-12-01T00:00:00Z (RFC 3339)", Timestamp::parse);
    if run_at.is_some_and(|at| at >= RUN_BEFORE) {
        body.fault("run_at", "must be before the year 9999");
    }
    let faults = body.finish();
    match capability {
        Some(capability) if faults.is_empty() => Ok(NewContext {
            capability,
            service,
            version,
            tags,
            parameters,
            priority: priority.unwrap_or_default(),
            timeout_seconds,
            source: source.unwrap_or_default(),
            metadata,
            run_at,
            replay_of: None,
            client: None,
            session: None,
            unasked: false,
            log_level: None,
            meta: None,
        }),
        _ => Err(faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(text: &str) -> Vec<String> {
        read(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn only_the_capability_is_needed() {
        let new = read(r#"{"capability":"echo"}"#).unwrap();
        assert_eq!((new.parameters, new.priority, new.source), ("{}", Priority::Normal, Source::User));
    }

    #[test]
    fn every_fault_is_named() {
        let text = r#"{"capability":"","service":"A","version":"one","tags":["eu",1],"priority":"urgent","timeout_seconds":0,
            "source":"me","metadata":[],"run_at":"soon","more":1}"#;
        let expected = [
            "#/capability",
            "#/service",
            "#/version",
            "#/tags/1",
            "#/priority",
            "#/timeout_seconds",
            "#/source",
            "#/metadata",
            "#/run_at",
            "#/more",
        ];
        let mut found = pointers(text);
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(pointers("[]"), ["#"]);
        assert_eq!(pointers("{}"), ["#/capability"]);
    }

    #[test]
    fn a_later_start_is_in_a_year_of_four_digits() {
        let at = |time: &str| read(&format!(r#"{{"capability":"a","run_at":"{time}"}}"#)).map(|new| new.run_at);
        assert_eq!(RUN_BEFORE, Timestamp::parse("9999-01-01T00:00:00Z").unwrap());
        assert!(at("2100-01-01T00:00:00Z").is_ok() && at("9998-12-31T23:59:59.999Z").is_ok());
        for late in ["9999-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9998-12-31T23:59:59-01:00"] {
            assert_eq!(at(late).unwrap_err()[0].pointer, "#/run_at", "{late}");
        }
    }

    #[test]
    fn parameters_are_passed_on_byte_for_byte() {
        let new = read(r#"{"capability":"a","parameters": [1.0,  1e2]}"#).unwrap();
        assert_eq!(new.parameters, "[1.0,  1e2]");
        let large = format!(r#"{{"capability":"a","parameters":"{}"}}"#, "x".repeat(MAX_PARAMETERS_BYTES));
        assert_eq!(pointers(&large), ["#/parameters"]);
    }
}
