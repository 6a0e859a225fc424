//! What a service states about its failure, in any form: plain text, a page, JSON of any shape.
//!
//! The first [`MAX_DETAILS_BYTES`] are kept in `details`; the cause is extracted for `message`. Both are bounded and
//! free of control characters, which could forge a line in a log.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::json_repair;
use crate::context::http_status::{RetryScope, meaning};

/// How much of a failure's description is kept, in bytes.
pub const MAX_DETAILS_BYTES: usize = 4096;
/// The largest error that is examined, in bytes: as much as is read of an error response.
pub const MAX_READ_BYTES: usize = 64 * 1024;
/// The longest message that is made of a service's words, in characters.
pub const MAX_MESSAGE: usize = 2000;
/// The longest code that is examined, in bytes.
const MAX_CODE: usize = 100;

/// Members that may contain the cause, in order of preference: OpenAI's form, OAuth's (RFC 6749 §5.2), problem details
/// (RFC 9457), and those of common frameworks.
const MESSAGES: [&str; 9] =
    ["message", "detail", "error_description", "error_message", "title", "msg", "description", "reason", "errors"];

/// Codes and types that mean the same service will reject the call again, while another may not: no credit, no such
/// model, not authenticated, prompt too long.
const ONLY_HERE: [&str; 21] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "account_deactivated",
    "insufficient_balance",
    "insufficient_credits",
    "model_not_found",
    "model_not_available",
    "unsupported_model",
    "not_found_error",
    "notfounderror",
    "authentication_error",
    "authenticationerror",
    "invalid_api_key",
    "permission_error",
    "permission_denied",
    "permissiondeniederror",
    "context_length_exceeded",
    "exceed_context_size_error",
    "string_above_max_length",
];
/// Codes and types that mean the request is invalid at any service.
const REQUEST: [&str; 4] = ["invalid_request_error", "badrequesterror", "unprocessableentityerror", "invalid_prompt"];
/// Phrases for a prompt that is too long, by servers without a code for it.
const TOO_LONG: [&str; 6] =
    ["context length", "context window", "context size", "prompt is too long", "input is too long", "too many tokens"];

/// What a service stated about a failure.
#[derive(Debug, Default)]
pub struct FailureText {
    /// The cause, in one line.
    pub message: Option<String>,
    pub details: Option<Box<RawValue>>,
    /// Whether the service states that a retry is allowed.
    pub retryable: Option<bool>,
    /// What its codes mean for retries, if anything.
    pub again: Option<RetryScope>,
}

/// Reads the body of an error response.
pub fn of_body(body: &[u8]) -> FailureText {
    let json = json_repair::json(body).and_then(|text| {
        let value: Value = serde_json::from_str(&text).ok()?;
        let error = value.get("error").filter(|error| !is_nothing(error));
        let mut words = of_value(error.unwrap_or(&value), &text);
        // Beside a bare code, other members have the cause.
        if words.message.is_none() || error.is_some_and(Value::is_string) {
            words.message = cause(&value).or(words.message);
        }
        // Only the error's own member counts: any document may have a member of this name.
        words.retryable = words.retryable.filter(|_| error.is_some());
        Some(words)
    });
    json.unwrap_or_else(|| of_text(&String::from_utf8_lossy(body)))
}

/// Reads the JSON of an error in a response.
pub fn of_error(error: &RawValue) -> FailureText {
    let small = Some(error.get()).filter(|text| text.len() <= MAX_READ_BYTES);
    match small.map(serde_json::from_str::<Value>) {
        Some(Ok(value)) => of_value(&value, error.get()),
        _ => of_text(error.get()),
    }
}

fn of_value(error: &Value, text: &str) -> FailureText {
    let message = cause(error).or_else(|| code(error).map(|code| clean(&code, MAX_MESSAGE)));
    let again = again(error, message.as_deref());
    let retryable = error.get("retryable").and_then(Value::as_bool);
    FailureText { message: message.filter(|message| !message.is_empty()), details: details(text), retryable, again }
}

fn of_text(text: &str) -> FailureText {
    let text = text.trim_start_matches('\u{feff}');
    let beginning = text.get(..text.floor_char_boundary(MAX_READ_BYTES)).unwrap_or_default();
    let message = clean(&plain(beginning), MAX_MESSAGE);
    FailureText {
        message: Some(message).filter(|message| !message.is_empty()),
        details: details(text),
        ..FailureText::default()
    }
}

/// Whether an `error` member means "no error": some servers send it with every response.
pub fn is_nothing(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        // A member such as `retryable` carries information.
        Value::Object(members) => members.values().all(|member| !member.is_boolean() && is_nothing(member)),
        Value::Array(items) => items.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The text as JSON if it is small, valid JSON; otherwise its beginning, as a string.
pub fn details(text: &str) -> Option<Box<RawValue>> {
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return None;
    }
    if text.len() <= MAX_DETAILS_BYTES
        && let Some(json) = json_repair::json(text.as_bytes()).filter(|json| json.len() <= MAX_DETAILS_BYTES)
    {
        return RawValue::from_string(json.trim().into()).ok();
    }
    let readable = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let kept: String = text.chars().take(MAX_DETAILS_BYTES).filter(readable).collect();
    to_raw_value(kept.get(..kept.floor_char_boundary(MAX_DETAILS_BYTES))?).ok()
}

/// The text as one line of at most `most` characters.
pub fn clean(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if length >= most {
            line.push('…');
            return line;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        for c in word.chars().filter(|c| !is_invisible(*c)) {
            if length >= most {
                line.push('…');
                return line;
            }
            line.push(c);
            length += 1;
        }
    }
    line
}

/// Characters that change how others are displayed, and could disguise a message.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The title or heading of a web page; other text stays as it is.
fn plain(text: &str) -> String {
    let start = text.trim_start();
    if !start.starts_with('<') {
        return text.into();
    }
    // Same length as the text: only ASCII letters change.
    let lower = text.to_ascii_lowercase();
    for tag in ["title", "h1", "message", "body"] {
        let found = lower.find(&format!("<{tag}")).and_then(|at| {
            let from = at + lower.get(at..)?.find('>')? + 1;
            let to = from + lower.get(from..)?.find(&format!("</{tag}"))?;
            Some(untagged(text.get(from..to)?)).filter(|text| !text.trim().is_empty())
        });
        if let Some(found) = found {
            return found;
        }
    }
    untagged(text)
}

fn untagged(text: &str) -> String {
    let mut is_tag = false;
    let kept = text.chars().map(|c| {
        match c {
            '<' => is_tag = true,
            '>' if is_tag => {
                is_tag = false;
                return ' ';
            }
            _ => {}
        }
        if is_tag { ' ' } else { c }
    });
    kept.collect()
}

/// The cause in an error of any shape.
fn cause(error: &Value) -> Option<String> {
    let found = match error {
        Value::String(text) => clean(&plain(text), MAX_MESSAGE),
        Value::Array(items) => cause(items.first()?)?,
        Value::Object(members) => {
            let nested = |name: &&str| members.get(*name).filter(|value| !is_nothing(value)).and_then(cause);
            MESSAGES.iter().find_map(nested).or_else(|| members.get("error").and_then(cause))?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    Some(found).filter(|found| !found.is_empty())
}

fn code(error: &Value) -> Option<String> {
    ["code", "type", "status"].into_iter().find_map(|name| match error.get(name)? {
        Value::String(text) if !text.is_empty() && text.len() <= MAX_CODE => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// What an error's own codes mean for retries.
fn again(error: &Value, message: Option<&str>) -> Option<RetryScope> {
    let texts = ["code", "type", "status"].into_iter().filter_map(|name| error.get(name)?.as_str());
    let codes: Vec<String> =
        texts.filter(|text| text.len() <= MAX_CODE).map(|text| text.trim().to_ascii_lowercase()).collect();
    let has = |known: &[&str]| codes.iter().any(|code| known.contains(&code.as_str()));
    if has(&ONLY_HERE) {
        return Some(RetryScope::Elsewhere);
    }
    let status = ["code", "status", "status_code"].into_iter().find_map(|name| match error.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let status = status.and_then(|status| u16::try_from(status).ok()).filter(|status| (300..600).contains(status));
    let of_status = status.map(|status| meaning(status, false).again);
    let blames_request = of_status == Some(RetryScope::Nowhere) || has(&REQUEST);
    if blames_request {
        let message = message.unwrap_or_default().to_ascii_lowercase();
        let is_too_long = TOO_LONG.iter().any(|known| message.contains(known));
        return Some(if is_too_long { RetryScope::Elsewhere } else { RetryScope::Nowhere });
    }
    of_status
}

#[cfg(test)]
mod tests;
