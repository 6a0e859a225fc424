//! The refusals of JSON-RPC 2.0 and of the Model Context Protocol: codes, the HTTP statuses they come with, their form.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::MODERN;
use crate::base::json::Object;
use crate::http::problem::{Code, Problem};

/// Why a message is not served.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// It is no acceptable JSON.
    Parse(String),
    /// It is JSON, but no message that may be sent here.
    Invalid(String),
    /// Nobody serves this method. In the legacy era such an error rides on 200: 404 means there that a session ended.
    Method { name: String, legacy: bool },
    /// A method's own parameters are wrong: its answer, so the status stays 200.
    Params(String),
    /// What every modern request has to say of itself is wrong or missing.
    Envelope(String),
    /// A header does not say what the body says.
    Header(String),
    /// The client has to declare a capability for this; `required` is the object of what is missing.
    Capability { required: Value },
    /// A revision that is not served in this form.
    Version { requested: String },
    /// What a server behind the gateway has refused: an error's text, in the era of who asked. An answer, too.
    Passed(String),
    /// What the gateway refuses whatever the protocol: no credentials, no permission, over the limit, a failure of its own.
    Refused(Box<Problem>),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }
}

/// The code that an error has.
fn code_in(error: &str) -> Option<i64> {
    Object::new(error, "#").ok()?.raw("code")?.get().parse().ok()
}

impl Error {
    /// The range of JSON-RPC is for the protocol; what HTTP refuses has the status as its code.
    pub fn code(&self) -> i64 {
        match self {
            Self::Parse(_) => -32700,
            Self::Invalid(_) => -32600,
            Self::Method { .. } => -32601,
            Self::Params(_) | Self::Envelope(_) => -32602,
            Self::Header(_) => -32020,
            Self::Capability { .. } => -32021,
            Self::Version { .. } => -32022,
            Self::Passed(error) => code_in(error).unwrap_or(-32603),
            Self::Refused(problem) if problem.code == Code::Internal => -32603,
            Self::Refused(problem) => i64::from(problem.code.status()),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            // What the protocol itself refuses has its status, whoever refused it.
            Self::Passed(error) if code_in(error).is_some_and(|code| (-32022..=-32020).contains(&code)) => 400,
            Self::Params(_) | Self::Passed(_) | Self::Method { legacy: true, .. } => 200,
            Self::Method { legacy: false, .. } => 404,
            Self::Refused(problem) => problem.code.status(),
            Self::Parse(_) | Self::Invalid(_) | Self::Envelope(_) => 400,
            Self::Header(_) | Self::Capability { .. } | Self::Version { .. } => 400,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Parse(detail) => format!("Parse error: {detail}"),
            Self::Invalid(detail) => format!("Invalid request: {detail}"),
            Self::Method { name, .. } => format!("Method not found: {name}"),
            Self::Params(detail) | Self::Envelope(detail) => detail.clone(),
            Self::Header(detail) => format!("Header mismatch: {detail}"),
            Self::Capability { .. } => "Missing required client capability".into(),
            Self::Version { .. } => "Unsupported protocol version".into(),
            Self::Passed(error) => error.clone(),
            Self::Refused(problem) => problem.detail.clone(),
        }
    }

    fn data(&self, request_id: &str) -> Option<Value> {
        match self {
            Self::Capability { required } => Some(json!({"requiredCapabilities": required})),
            Self::Version { requested } => Some(json!({"supported": [MODERN], "requested": requested})),
            Self::Refused(problem) => {
                let mut data = json!({"code": problem.code.as_str(), "request_id": request_id});
                let after = problem.headers.iter().find(|(name, _)| *name == "Retry-After");
                // A message of a batch has no header of its own.
                if let (Some(members), false) = (data.as_object_mut(), problem.violated().is_empty()) {
                    members.insert("violated-policies".into(), json!(problem.violated()));
                    let seconds = after.and_then(|(_, value)| value.parse::<u64>().ok());
                    members.extend(seconds.map(|seconds| ("retry_after".into(), json!(seconds))));
                }
                Some(data)
            }
            _ => None,
        }
    }

    /// The response. Without an id where the request's could not be read.
    pub fn response(&self, id: Option<&RawValue>, request_id: &str) -> String {
        let id = id.map_or_else(String::new, |id| format!(r#""id":{},"#, id.get()));
        if let Self::Passed(error) = self {
            return format!(r#"{{"jsonrpc":"2.0",{id}"error":{error}}}"#);
        }
        let mut error = json!({"code": self.code(), "message": self.message()});
        if let (Some(data), Some(members)) = (self.data(request_id), error.as_object_mut()) {
            members.insert("data".into(), data);
        }
        format!(r#"{{"jsonrpc":"2.0",{id}"error":{error}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn only_errors_of_the_protocol_itself_change_the_status() {
        let text = String::new;
        for (error, code, status) in [
            (Error::Parse(text()), -32700, 400),
            (Error::Invalid(text()), -32600, 400),
            (Error::Method { name: text(), legacy: false }, -32601, 404),
            (Error::Method { name: text(), legacy: true }, -32601, 200),
            (Error::Params(text()), -32602, 200),
            (Error::Envelope(text()), -32602, 400),
            (Error::Header(text()), -32020, 400),
            (Error::Capability { required: json!({}) }, -32021, 400),
            (Error::Version { requested: text() }, -32022, 400),
            (Problem::internal("a secret").into(), -32603, 500),
            (Problem::new(Code::RateLimited, "slower").into(), 429, 429),
            (Problem::new(Code::PermissionDenied, "no").into(), 403, 403),
        ] {
            assert_eq!((error.code(), error.status()), (code, status), "{error:?}");
            assert!(!error.response(None, "req_1").contains("a secret"));
        }
    }

    #[test]
    fn an_id_comes_back_as_it_was_sent() {
        let error = Error::Params("Unknown tool: x".into());
        let expected = r#"{"jsonrpc":"2.0","id":1e2,"error":{"code":-32602,"message":"Unknown tool: x"}}"#;
        assert_eq!(error.response(Some(&raw("1e2")), "req_1"), expected);
        let expected = r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid request: no"}}"#;
        assert_eq!(Error::Invalid("no".into()).response(None, "req_1"), expected);
    }

    #[test]
    fn what_a_server_refused_is_passed_on() {
        let error = Error::Passed(r#"{"code":7,"message":"no"}"#.into());
        assert_eq!(error.status(), 200);
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"no"}}"#;
        assert_eq!(error.response(Some(&raw("1")), "req_1"), expected);
    }

    #[test]
    fn what_a_client_needs_to_go_on_is_in_the_data() {
        let version = Error::Version { requested: "1900-01-01".into() };
        assert!(version.response(None, "").contains(r#""data":{"requested":"1900-01-01","supported":["2026-07-28"]}"#));
        let capability = Error::Capability { required: json!({"sampling": {}}) };
        assert!(capability.response(None, "").contains(r#""data":{"requiredCapabilities":{"sampling":{}}}"#));
        let refused = Error::from(Problem::new(Code::RateLimited, "slower"));
        assert!(refused.response(None, "req_1").contains(r#""data":{"code":"rate_limited","request_id":"req_1"}"#));
    }
}
