//! The outcome of a tool call, as the end of an attempt.
//!
//! An error of the tool itself (`isError`) is a result: the call was served. A JSON-RPC error is the service's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::definitions;
use super::elicitation::{self, UpstreamQuestion};
use super::response::{Response, ResponseError, RpcError};
use crate::base::json::Object;
use crate::base::service_id::ServiceId;
use crate::calling::response::{self, CallResult, NotCalled, Verdict, clean};
use crate::context::ReportedOutcome;
use crate::services::schema::Schema;

/// The type of a result that is a question.
const ASKS: &str = "input_required";

/// The state of a question that only wants the call to be repeated.
pub fn asks_again(result: &RawValue) -> Option<String> {
    let kind = Object::new(result.get(), "#").ok()?.string("resultType", 1..=64)?;
    if kind != ASKS {
        return None;
    }
    elicitation::of_result(result).ok().filter(|asked| asked.request.is_none())?.state
}

/// The outcome of a request to an upstream.
#[derive(Debug)]
pub enum RequestOutcome {
    Answered(Response),
    /// The response contained an invalid message.
    Invalid(ResponseError),
    /// There was no response of the protocol.
    Transport(CallResult),
}

impl RequestOutcome {
    /// The HTTP status, if one is known.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(_) | Self::Invalid(_) => Some(200),
            Self::Transport(answer) => answer.status(),
        }
    }

    /// The JSON-RPC error, whatever status it came with.
    pub fn error(&self) -> Option<RpcError> {
        match self {
            Self::Answered(Err(error)) => Some(error.clone()),
            Self::Transport(CallResult::Http { body, .. }) => RpcError::of_body(body),
            Self::Answered(Ok(_)) | Self::Invalid(_) | Self::Transport(_) => None,
        }
    }

    /// Whether a repeated request would have the same outcome a moment later.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Answered(_) | Self::Invalid(_) => true,
            Self::Transport(answer) => !answer.passes() && !matches!(answer, CallResult::TimedOut { .. }),
        }
    }

    /// Why a server could not be read, as the end of a sentence that begins with "it" or "its answer"; `asked` is the
    /// method.
    pub fn reason(&self, asked: &str) -> String {
        match self {
            Self::Answered(Ok(_)) => format!("it responded to {asked} with something else"),
            Self::Answered(Err(RpcError { code, message, .. })) => {
                format!("it responded to {asked} with the error {code}: {}", clean(message, MAX_WORDS))
            }
            Self::Invalid(ResponseError::TooLarge) => format!("its response to {asked} is too large"),
            Self::Invalid(ResponseError::NoMessage(why)) => {
                format!("its response to {asked} is not a message of a supported revision: {why}")
            }
            Self::Transport(answer) => silence(answer),
        }
    }
}

/// How much of a server's own error text is kept, in characters.
const MAX_WORDS: usize = 300;

/// What came instead of a message.
fn silence(answer: &CallResult) -> String {
    match answer {
        CallResult::Http { status: 200, body, .. } if body.is_empty() => {
            "it responded with status 200 and no message".into()
        }
        CallResult::Http { status: 200, .. } => {
            "it responded with status 200 and neither application/json nor text/event-stream".into()
        }
        CallResult::Http { status, body, .. } => match response::stated_cause(body) {
            Some(words) => format!("it responded with status {status}: {}", clean(&words, MAX_WORDS)),
            None => format!("it responded with status {status}"),
        },
        CallResult::TooLarge { status } => format!("it responded with status {status} and too large a body"),
        CallResult::Refused => "it could not be reached".into(),
        CallResult::TimedOut { .. } => "it did not respond in time".into(),
        CallResult::NotCalled(NotCalled::Address(refusal)) => format!("it was not called: {refusal}"),
        CallResult::NotCalled(NotCalled::Secrets) => "it was not called: its credentials could not be decrypted".into(),
        CallResult::NotCalled(NotCalled::Document) => "it was not called: its configuration could not be read".into(),
        CallResult::NotCalled(NotCalled::Token) => {
            "it was not called: its authorization server did not issue a token".into()
        }
        CallResult::Accepted | CallResult::Lost | CallResult::Broken | CallResult::Cancelled => {
            "the connection to it broke".into()
        }
    }
}

/// The outcome of an attempt that ended with a JSON-RPC error.
fn refused(service: &ServiceId, error: RpcError) -> Verdict {
    // The effect of an internal error is unknown; all others are found before the work begins.
    response::reported(service, &error.message, Some(error.stored()), error.code == -32603)
}

/// Reads the response to `tools/call`. `schema` is what the structured content must match.
pub fn read(service: &ServiceId, came: RequestOutcome, schema: Option<&Schema>) -> Verdict {
    match came {
        // For a 200 that is not JSON, the body is more informative, which `response` keeps as details.
        RequestOutcome::Transport(CallResult::Http { status: 200, is_json: false, body, .. }) if !body.is_empty() => {
            response::not_json(service, &body)
        }
        RequestOutcome::Transport(CallResult::Http { status: status @ 200..=299, .. }) => response::unacceptable(
            service,
            &format!("The server responded with status {status} and without a message."),
        ),
        RequestOutcome::Transport(answer) => response::read(service, answer, None),
        RequestOutcome::Invalid(ResponseError::TooLarge) => {
            response::read(service, CallResult::TooLarge { status: 200 }, None)
        }
        RequestOutcome::Invalid(ResponseError::NoMessage(why)) => {
            response::unacceptable(service, &format!("The server's response is not a message of the protocol: {why}."))
        }
        RequestOutcome::Answered(Err(error)) => refused(service, error),
        RequestOutcome::Answered(Ok(result)) => finished(service, &result, schema),
    }
}

fn finished(service: &ServiceId, result: &RawValue, schema: Option<&Schema>) -> Verdict {
    let Ok(mut members) = Object::new(result.get(), "#") else {
        return response::unacceptable(service, "The server's response is not a tool result.");
    };
    let kind = members.string("resultType", 1..=64);
    if kind.as_deref() == Some(ASKS) {
        return match elicitation::of_result(result) {
            Ok(UpstreamQuestion { request: Some(request), state }) => {
                Verdict::of(ReportedOutcome::InputRequired { request, state }, None)
            }
            // It asked for repetition too many times.
            Ok(_) => response::unacceptable(service, "The server asked for the call to be repeated too many times."),
            Err(reason) => response::unacceptable(service, reason),
        };
    }
    if let Some(kind) = kind.filter(|kind| kind != "complete") {
        let kind = clean(&kind, MAX_WORDS);
        return response::unacceptable(
            service,
            &format!("The server's response has the resultType {kind}, which was not requested."),
        );
    }
    let is_error = members.boolean("isError").unwrap_or(false);
    let structured = members.raw_or_null("structuredContent");
    // Unless the schema allows `null`, `null` counts as absent.
    let promised = || schema.is_some_and(|schema| schema.check("null").is_ok());
    let is_none = structured.is_some_and(|structured| structured.get() == "null" && !promised());
    if let Some(structured) = structured.filter(|_| !is_error && !is_none) {
        let fits = response::fitting(service, structured, schema);
        if fits.result.is_none() {
            return fits;
        }
    }
    Verdict::of(ReportedOutcome::ToolResult, Some(plain(result, is_none)))
}

/// The result without members of its revision, and with `content`, which every reader expects. Members that strict
/// clients would reject are left out.
fn plain(result: &RawValue, without_structured: bool) -> Box<RawValue> {
    let tidied = definitions::tidy("tools/call", result);
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&tidied) else {
        return result.to_owned();
    };
    if without_structured {
        members.remove("structuredContent");
    }
    let is_plain = members.remove("resultType").is_none() && !without_structured && matches!(tidied, Cow::Borrowed(_));
    if is_plain && members.contains_key("content") {
        return result.to_owned();
    }
    let Ok(none) = serde_json::from_str::<&RawValue>("[]") else { return result.to_owned() };
    members.entry("content".into()).or_insert(none);
    serde_json::value::to_raw_value(&members).unwrap_or_else(|_| result.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::status::ErrorCode;
    use serde_json::{Value, json};

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn of(result: &Value, schema: Option<&str>) -> Verdict {
        let schema = schema.map(|text| Schema::compile(text).unwrap());
        read(&"up".into(), RequestOutcome::Answered(Ok(raw(result))), schema.as_ref())
    }

    fn code(verdict: &Verdict) -> Option<ErrorCode> {
        match &verdict.outcome {
            ReportedOutcome::Failed { error, .. } => Some(error.code),
            _ => None,
        }
    }

    #[test]
    fn a_result_changes_only_in_its_revision() {
        let result = json!({"content": [{"type": "text", "text": "a"}], "isError": true, "_meta": {"x": 1}});
        assert_eq!(of(&result, None).result.unwrap().get(), result.to_string());
        let modern = json!({"resultType": "complete", "structuredContent": [1]});
        assert_eq!(of(&modern, None).result.unwrap().get(), r#"{"content":[],"structuredContent":[1]}"#);
    }

    #[test]
    fn null_members_of_a_result_are_removed() {
        let block = |more: Value| {
            let mut block = json!({"type": "text", "text": "a"});
            block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            block
        };
        let given = json!({"content": [block(json!({"annotations": null, "_meta": null})),
            {"type": "resource", "resource": {"uri": "a:b", "mimeType": null, "text": null, "blob": "AA=="}},
            {"type": "resource_link", "uri": "a:b", "name": "b", "title": null, "size": null},
            {"type": "image", "data": "AA==", "mimeType": "image/png", "annotations": {"audience": null, "priority": 0.5}}],
            "structuredContent": null, "isError": null, "_meta": null, "x": null});
        let expected = json!({"content": [block(json!({})),
            {"type": "resource", "resource": {"uri": "a:b", "blob": "AA=="}},
            {"type": "resource_link", "uri": "a:b", "name": "b"},
            {"type": "image", "data": "AA==", "mimeType": "image/png", "annotations": {"priority": 0.5}}], "x": null});
        let plain =
            |given: &Value, schema| serde_json::from_str::<Value>(of(given, schema).result.unwrap().get()).unwrap();
        assert_eq!(plain(&given, None), expected);
        assert_eq!(plain(&given, Some(r#"{"type":"object"}"#)), expected);
        assert_eq!(
            plain(&json!({"content": null, "structuredContent": {"a": null}}), None),
            json!({"content": [], "structuredContent": {"a": null}})
        );
        // If the schema allows it, it counts.
        let nothing = json!({"content": [], "structuredContent": null});
        assert_eq!(plain(&nothing, Some(r#"{"type":["object","null"]}"#)), nothing);
    }

    #[test]
    fn structured_content_matches_what_the_tool_promises() {
        let schema = Some(r#"{"type":"object","required":["a"]}"#);
        let with = |content: Value, error: bool| json!({"content": [], "structuredContent": content, "isError": error});
        assert!(of(&with(json!({"a": 1}), false), schema).result.is_some());
        assert_eq!(code(&of(&with(json!({}), false), schema)), Some(ErrorCode::UpstreamInvalidResponse));
        assert!(of(&with(json!({}), true), schema).result.is_some());
        assert_eq!(code(&of(&json!({"resultType": "task"}), None)), Some(ErrorCode::UpstreamInvalidResponse));
    }

    #[test]
    fn an_error_of_the_protocol_is_the_services() {
        for (number, again) in [(-32602, false), (-32603, true)] {
            let whole = raw(&json!({"code": number, "message": "no", "data": 7}));
            let error = RpcError { code: number, message: "no".into(), whole };
            let ReportedOutcome::Failed { error, retryable, untouched, .. } =
                read(&"up".into(), RequestOutcome::Answered(Err(error)), None).outcome
            else {
                panic!("it failed");
            };
            assert_eq!((error.code, error.message.as_str()), (ErrorCode::UpstreamError, "no"));
            assert_eq!((retryable, untouched), (again, false));
            assert!(error.details.unwrap().get().contains("\"data\":7"));
        }
        assert_eq!(
            code(&read(&"up".into(), RequestOutcome::Invalid(ResponseError::NoMessage("it is not JSON".into())), None)),
            Some(ErrorCode::UpstreamInvalidResponse)
        );
        let refused = read(&"up".into(), RequestOutcome::Transport(CallResult::Refused), None);
        assert_eq!(code(&refused), Some(ErrorCode::ServiceUnavailable));
        let taken =
            CallResult::Http { status: 202, is_json: false, retry_after_ms: None, location: None, body: vec![] };
        assert_eq!(
            code(&read(&"up".into(), RequestOutcome::Transport(taken), None)),
            Some(ErrorCode::UpstreamInvalidResponse)
        );
    }
}
