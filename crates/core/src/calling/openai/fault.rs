//! Errors in a response with status 200: as its body, or as a piece of a stream.

use serde_json::value::RawValue;

use super::node::{self, Parts, is_empty};

/// The longest text of an error that is kept, in characters.
const MAX_TEXT: usize = 1000;
/// Members with the text of an error that has no `error` member.
const WORDS: [&str; 6] = ["message", "detail", "msg", "error_message", "error_msg", "error_description"];
/// The error, if the response is nothing else.
pub fn of(answer: &str) -> Option<Box<RawValue>> {
    let members: Parts<'_> = serde_json::from_str(answer).ok()?;
    let whole = || is_one(&members).then(|| RawValue::from_string(answer.into()).ok()).flatten();
    member(&members).map(RawValue::to_owned).or_else(whole)
}

/// The error in a response or a piece of one, if there is one.
pub fn member<'a>(members: &Parts<'a>) -> Option<&'a RawValue> {
    let error = members.get("error").or_else(|| members.get("errors"));
    error.copied().filter(|error| says_something(error))
}

/// Some servers send the member in every chunk, empty or with empty members.
fn says_something(error: &RawValue) -> bool {
    let nothing = |raw: &RawValue| is_empty(raw) || matches!(raw.get(), "false" | "0");
    !nothing(error) && node::parts(error).is_none_or(|members| members.values().any(|raw| !nothing(raw)))
}

/// Whether an object without `choices` is itself an error.
pub fn is_one(members: &Parts<'_>) -> bool {
    let said = |name: &str| members.get(name).and_then(|raw| node::text(raw)).filter(|text| !text.is_empty());
    let is_error = |text: String| text.to_ascii_lowercase().contains("error");
    if members.contains_key("choices") || members.contains_key("data") || members.contains_key("usage") {
        return false;
    }
    said("object").is_some_and(is_error)
        || said("type").is_some_and(is_error)
        || WORDS.iter().any(|name| said(name).is_some())
}

/// A response body with just this error, as JSON.
pub fn body(error: &str) -> String {
    format!(r#"{{"error":{error}}}"#)
}

/// The same for a text, which may itself be an object.
pub fn body_of_words(words: &str) -> String {
    if words.starts_with('{') && serde_json::from_str::<&RawValue>(words).is_ok() {
        return body(words);
    }
    let mut text = String::new();
    node::write_text(&words.trim().chars().take(MAX_TEXT).collect::<String>(), &mut text);
    body(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn an_error_is_known_in_all_its_forms() {
        for (text, expected) in [
            (r#"{"error":{"message":"a"}}"#, true),
            (r#"{"error":"a","choices":[]}"#, true),
            (r#"{"errors":[{"message":"a"}]}"#, true),
            (r#"{"object":"error","message":"a"}"#, true),
            (r#"{"type":"BadRequestError"}"#, true),
            (r#"{"detail":"Not Found"}"#, true),
            (r#"{"error":"","choices":[]}"#, false),
            (r#"{"error":null}"#, false),
            (r#"{"error":{}}"#, false),
            (r#"{"error":false}"#, false),
            (r#"{"error":{"message":"","code":0,"param":null},"choices":[]}"#, false),
            (r#"{"type":"ping"}"#, false),
            (r#"{"message":""}"#, false),
            (r#"{"choices":[],"message":"a"}"#, false),
        ] {
            let text = raw(text);
            let members = node::parts(&text).unwrap();
            assert_eq!(member(&members).is_some() || is_one(&members), expected, "{text}");
        }
    }
}
