//! What came of a tool's call, as the end of an attempt.
//!
//! A tool's own failure (`isError`) is a result: the call was served. An error of JSON-RPC is the service's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::definitions;
use super::elicitation::{self, Asked};
use super::response::{Broken, Response, RpcError};
use crate::base::json::Object;
use crate::calling::response::{self, Answer, NotCalled, Verdict, clean};
use crate::context::Outcome;
use crate::services::schema::Schema;

/// The kind of a result that is a question.
const ASKS: &str = "input_required";

/// The state of a question that asks for nothing but to be asked again.
pub fn asks_again(result: &RawValue) -> Option<String> {
    let kind = Object::new(result.get(), "#").ok()?.string("resultType", 1..=64)?;
    if kind != ASKS {
        return None;
    }
    elicitation::of_result(result).ok().filter(|asked| asked.request.is_none())?.state
}

/// What came of a request to an upstream.
#[derive(Debug)]
pub enum Came {
    Answered(Response),
    /// It was answered with what is no message.
    Broken(Broken),
    /// There was no answer of the protocol's.
    Transport(Answer),
}

impl Came {
    /// The HTTP status there was, as far as one is known.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(_) | Self::Broken(_) => Some(200),
            Self::Transport(answer) => answer.status(),
        }
    }

    /// The error of JSON-RPC it came with, whatever status that had.
    pub fn error(&self) -> Option<RpcError> {
        match self {
            Self::Answered(Err(error)) => Some(error.clone()),
            Self::Transport(Answer::Http { body, .. }) => RpcError::of_body(body),
            Self::Answered(Ok(_)) | Self::Broken(_) | Self::Transport(_) => None,
        }
    }

    /// Whether nothing was heard that would be another answer a moment later.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Answered(_) | Self::Broken(_) => true,
            Self::Transport(answer) => !answer.passes() && !matches!(answer, Answer::TimedOut { .. }),
        }
    }

    /// Why a server could not be read, as the end of a sentence that begins with "it" or "its answer"; `asked` is the
    /// method it was asked by.
    pub fn reason(&self, asked: &str) -> String {
        match self {
            Self::Answered(Ok(_)) => format!("it answered {asked} with something else"),
            Self::Answered(Err(RpcError { code, message, .. })) => {
                format!("it answered {asked} with the error {code}: {}", clean(message, MAX_WORDS))
            }
            Self::Broken(Broken::TooLarge) => format!("its answer to {asked} is too large"),
            Self::Broken(Broken::NoMessage(why)) => {
                format!("its answer to {asked} is no message of a revision that is spoken here: {why}")
            }
            Self::Transport(answer) => silence(answer),
        }
    }
}

/// The longest part of a server's own words that is kept of a failure to read it, in characters.
const MAX_WORDS: usize = 300;

/// What came in place of a message.
fn silence(answer: &Answer) -> String {
    match answer {
        Answer::Http { status: 200, body, .. } if body.is_empty() => {
            "it answered with status 200 and no message".into()
        }
        Answer::Http { status: 200, .. } => {
            "it answered with status 200 and neither application/json nor text/event-stream".into()
        }
        Answer::Http { status, body, .. } => match response::said(body) {
            Some(words) => format!("it answered with status {status}: {}", clean(&words, MAX_WORDS)),
            None => format!("it answered with status {status}"),
        },
        Answer::TooLarge { status } => format!("it answered with status {status} and more than is read"),
        Answer::Refused => "it could not be reached".into(),
        Answer::TimedOut { .. } => "it did not answer in time".into(),
        Answer::NotCalled(NotCalled::Address(refusal)) => format!("it was not called: {refusal}"),
        Answer::NotCalled(NotCalled::Secrets) => "it was not called: its secrets could not be opened".into(),
        Answer::NotCalled(NotCalled::Token) => "it was not called: its authorization server gave no token".into(),
        Answer::TakenOn | Answer::Lost | Answer::Broken | Answer::Cancelled => "the connection to it broke".into(),
    }
}

/// What an attempt ends with when JSON-RPC says no.
fn refused(service: &str, error: RpcError) -> Verdict {
    // Of an internal error nobody knows what it came to; whatever else is refused was wrong before it began.
    response::reported(service, &error.message, Some(error.kept()), error.code == -32603)
}

/// Reads the answer to `tools/call`. `schema` is what the structured content must match.
pub fn read(service: &str, came: Came, schema: Option<&Schema>) -> Verdict {
    match came {
        // An error status in the form of an answer says more by its body, which `upstream` keeps as details.
        Came::Transport(Answer::Http { status: 200, is_json: false, body, .. }) if !body.is_empty() => {
            response::not_json(service, &body)
        }
        Came::Transport(Answer::Http { status: status @ 200..=299, .. }) => {
            response::unacceptable(service, &format!("The server answered with status {status} and without a message."))
        }
        Came::Transport(answer) => response::read(service, answer, None),
        Came::Broken(Broken::TooLarge) => response::read(service, Answer::TooLarge { status: 200 }, None),
        Came::Broken(Broken::NoMessage(why)) => {
            response::unacceptable(service, &format!("The server's answer is no message of the protocol: {why}."))
        }
        Came::Answered(Err(error)) => refused(service, error),
        Came::Answered(Ok(result)) => finished(service, &result, schema),
    }
}

fn finished(service: &str, result: &RawValue, schema: Option<&Schema>) -> Verdict {
    let Ok(mut members) = Object::new(result.get(), "#") else {
        return response::unacceptable(service, "The server's answer is no result of a tool.");
    };
    let kind = members.string("resultType", 1..=64);
    if kind.as_deref() == Some(ASKS) {
        return match elicitation::of_result(result) {
            Ok(Asked { request: Some(request), state }) => Verdict::of(Outcome::InputRequired { request, state }, None),
            // One that only wants to be asked again was, often enough.
            Ok(_) => response::unacceptable(service, "The server does not come to an end."),
            Err(reason) => response::unacceptable(service, reason),
        };
    }
    if let Some(kind) = kind.filter(|kind| kind != "complete") {
        let kind = clean(&kind, MAX_WORDS);
        return response::unacceptable(
            service,
            &format!("The server's answer has the resultType {kind}, which was not asked for."),
        );
    }
    let is_error = members.boolean("isError").unwrap_or(false);
    let structured = members.raw_or_null("structuredContent");
    // Where nothing promises that it may be `null`, that is none.
    let promised = || schema.is_some_and(|schema| schema.check("null").is_ok());
    let is_none = structured.is_some_and(|structured| structured.get() == "null" && !promised());
    if let Some(structured) = structured.filter(|_| !is_error && !is_none) {
        let fits = response::fitting(service, structured, schema);
        if fits.result.is_none() {
            return fits;
        }
    }
    Verdict::of(Outcome::ToolResult, Some(plain(result, is_none)))
}

/// The result without what only its era says, and with content, which every reader expects. What strict clients would
/// refuse all of it for is left out.
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
        read("up", Came::Answered(Ok(raw(result))), schema.as_ref())
    }

    fn code(verdict: &Verdict) -> Option<ErrorCode> {
        match &verdict.outcome {
            Outcome::Failed { error, .. } => Some(error.code),
            _ => None,
        }
    }

    #[test]
    fn a_result_stays_as_it_is_but_for_its_era() {
        let result = json!({"content": [{"type": "text", "text": "a"}], "isError": true, "_meta": {"x": 1}});
        assert_eq!(of(&result, None).result.unwrap().get(), result.to_string());
        let modern = json!({"resultType": "complete", "structuredContent": [1]});
        assert_eq!(of(&modern, None).result.unwrap().get(), r#"{"content":[],"structuredContent":[1]}"#);
    }

    #[test]
    fn what_is_null_in_a_result_is_left_out() {
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
        // Where it is promised, it is something.
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
            let Outcome::Failed { error, retryable, untouched, .. } =
                read("up", Came::Answered(Err(error)), None).outcome
            else {
                panic!("it failed");
            };
            assert_eq!((error.code, error.message.as_str()), (ErrorCode::UpstreamError, "no"));
            assert_eq!((retryable, untouched), (again, false));
            assert!(error.details.unwrap().get().contains("\"data\":7"));
        }
        assert_eq!(
            code(&read("up", Came::Broken(Broken::NoMessage("it is not JSON".into())), None)),
            Some(ErrorCode::UpstreamInvalidResponse)
        );
        let refused = read("up", Came::Transport(Answer::Refused), None);
        assert_eq!(code(&refused), Some(ErrorCode::ServiceUnavailable));
        let taken = Answer::Http { status: 202, is_json: false, retry_after_ms: None, location: None, body: vec![] };
        assert_eq!(code(&read("up", Came::Transport(taken), None)), Some(ErrorCode::UpstreamInvalidResponse));
    }
}
