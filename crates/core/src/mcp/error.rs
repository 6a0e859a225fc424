//! The errors of JSON-RPC 2.0 and of the Model Context Protocol: codes, HTTP statuses, form.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::MODERN;
use crate::base::json::Object;
use crate::http::problem::{Code, Problem};

/// Why a message is not served.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// It is not acceptable JSON.
    Parse(String),
    /// It is JSON, but not an acceptable message.
    Invalid(String),
    /// The method is unknown. In the legacy revisions such an error comes with status 200, since 404 means that the
    /// session ended.
    Method { name: String, legacy: bool },
    /// The parameters of a method are invalid. This is a response of the method, so the status stays 200.
    Params(String),
    /// Required metadata of a modern request is invalid or missing.
    Envelope(String),
    /// A header contradicts the body.
    Header(String),
    /// The client must declare a capability; `required` is the object of the missing ones.
    Capability { required: Value },
    /// A revision that is not supported in this form.
    Version { requested: String },
    /// A server behind the gateway rejected the request: the text of its error, in the client's revision. Also a
    /// response.
    Forwarded(String),
    /// The gateway rejected the request for reasons outside the protocol: credentials, permissions, limits, internal
    /// errors.
    Rejected(Box<Problem>),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Rejected(Box::new(problem))
    }
}

/// The code of an error.
fn code_in(error: &str) -> Option<i64> {
    Object::new(error, "#").ok()?.raw("code")?.get().parse().ok()
}

impl Error {
    /// The JSON-RPC code. Rejections outside the protocol have their HTTP status as their code.
    pub fn code(&self) -> i64 {
        match self {
            Self::Parse(_) => -32700,
            Self::Invalid(_) => -32600,
            Self::Method { .. } => -32601,
            Self::Params(_) | Self::Envelope(_) => -32602,
            Self::Header(_) => -32020,
            Self::Capability { .. } => -32021,
            Self::Version { .. } => -32022,
            Self::Forwarded(error) => code_in(error).unwrap_or(-32603),
            Self::Rejected(problem) if problem.code == Code::Internal => -32603,
            Self::Rejected(problem) => i64::from(problem.code.status()),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            // Errors of the protocol itself have its status, whichever server returned them.
            Self::Forwarded(error) if code_in(error).is_some_and(|code| (-32022..=-32020).contains(&code)) => 400,
            Self::Params(_) | Self::Forwarded(_) | Self::Method { legacy: true, .. } => 200,
            Self::Method { legacy: false, .. } => 404,
            Self::Rejected(problem) => problem.code.status(),
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
            Self::Forwarded(error) => error.clone(),
            Self::Rejected(problem) => problem.detail.clone(),
        }
    }

    fn data(&self, request_id: &str) -> Option<Value> {
        match self {
            Self::Capability { required } => Some(json!({"requiredCapabilities": required})),
            Self::Version { requested } => Some(json!({"supported": [MODERN], "requested": requested})),
            Self::Rejected(problem) => {
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

    /// The response, without an id if the request's could not be read.
    pub fn response(&self, id: Option<&RawValue>, request_id: &str) -> String {
        let id = id.map_or_else(String::new, |id| format!(r#""id":{},"#, id.get()));
        if let Self::Forwarded(error) = self {
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
    fn errors_of_a_server_are_forwarded() {
        let error = Error::Forwarded(r#"{"code":7,"message":"no"}"#.into());
        assert_eq!(error.status(), 200);
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"no"}}"#;
        assert_eq!(error.response(Some(&raw("1")), "req_1"), expected);
    }

    #[test]
    fn the_data_has_what_a_client_needs_to_continue() {
        let version = Error::Version { requested: "1900-01-01".into() };
        assert!(version.response(None, "").contains(r#""data":{"requested":"1900-01-01","supported":["2026-07-28"]}"#));
        let capability = Error::Capability { required: json!({"sampling": {}}) };
        assert!(capability.response(None, "").contains(r#""data":{"requiredCapabilities":{"sampling":{}}}"#));
        let refused = Error::from(Problem::new(Code::RateLimited, "slower"));
        assert!(refused.response(None, "req_1").contains(r#""data":{"code":"rate_limited","request_id":"req_1"}"#));
    }
}
