//! Calls of models that failed before their first piece: what kind of failure it is, and whether another target is
//! tried.

use serde_json::Value;

use super::route::{CallSettings, FallbackOn};

/// How long a model is put aside at most, in milliseconds.
const MAX_ASIDE_MS: u64 = 60_000;
/// The longest word of a provider that is kept, in bytes.
const MAX_WORD: usize = 60;

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The service could not be called: its address, its credentials or its document.
    NotCalled,
    /// No connection.
    Unreachable,
    /// The connection broke before the first piece.
    Broken,
    /// No first piece in time.
    Late,
    /// The deadline of the request.
    Deadline,
    /// The client has left.
    Gone,
    RateLimited,
    /// The account at the provider has nothing left.
    Exhausted,
    /// A status of 5xx, or an error that says so.
    Server,
    Auth,
    NotFound,
    ContextLength,
    ContentFilter,
    /// The request is at fault.
    Request,
    /// A response of another form.
    Format,
}

impl FailureKind {
    /// By the status and the body of a response other than 200.
    pub fn of_response(status: u16, body: &Value) -> Self {
        let error = error_of(body);
        match status {
            401 | 403 => Self::Auth,
            402 => Self::Exhausted,
            404 => Self::NotFound,
            408 => Self::Late,
            429 if is_exhausted(error) => Self::Exhausted,
            429 => Self::RateLimited,
            500.. => Self::Server,
            // A redirect is not followed, and other statuses of success have no result.
            ..=399 => Self::Format,
            _ => Self::of_words(error).unwrap_or(Self::Request),
        }
    }

    /// By an error in a response with status 200.
    pub fn of_error(error: &Value) -> Self {
        let code = ["code", "status", "status_code"].iter().find_map(|name| error.get(name)?.as_u64());
        if let Some(status) = code.filter(|status| (400..600).contains(status)) {
            return Self::of_response(status as u16, error);
        }
        let kind = word(error, "type").or_else(|| word(error, "code")).unwrap_or_default();
        match kind {
            "rate_limit_error" | "rate_limit_exceeded" | "tokens" | "requests" => Self::RateLimited,
            "insufficient_quota" | "billing_error" => Self::Exhausted,
            "authentication_error" | "permission_error" | "invalid_api_key" => Self::Auth,
            "not_found_error" | "model_not_found" => Self::NotFound,
            "invalid_request_error" | "request_too_large" => Self::of_words(error).unwrap_or(Self::Request),
            _ => Self::of_words(error).unwrap_or(Self::Server),
        }
    }

    /// Failures that providers report by words only.
    fn of_words(error: &Value) -> Option<Self> {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let (code, kind, message) = (text("code"), text("type"), text("message"));
        let names = |words: &[&str]| words.iter().any(|word| code == *word || kind == *word);
        if names(&["context_length_exceeded", "string_above_max_length", "exceed_context_size_error"])
            || message.contains("maximum context length")
            || message.contains("prompt is too long")
            || message.contains("context length exceeded")
        {
            return Some(Self::ContextLength);
        }
        if names(&[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "data_inspection_failed",
        ]) || message.contains("content management policy")
        {
            return Some(Self::ContentFilter);
        }
        names(&["model_not_found", "deploymentnotfound"]).then_some(Self::NotFound)
    }

    /// Whether another target is tried.
    pub fn moves_on(self, settings: &CallSettings) -> bool {
        match self {
            Self::NotCalled
            | Self::Unreachable
            | Self::Broken
            | Self::Late
            | Self::RateLimited
            | Self::Exhausted
            | Self::Server
            | Self::Format => true,
            Self::Auth => settings.falls_back_on(FallbackOn::Auth),
            Self::NotFound => settings.falls_back_on(FallbackOn::NotFound),
            Self::ContextLength => settings.falls_back_on(FallbackOn::ContextLength),
            Self::ContentFilter => settings.falls_back_on(FallbackOn::ContentFilter),
            Self::Request | Self::Deadline | Self::Gone => false,
        }
    }

    /// For how long its model is put aside, in milliseconds: as long as the provider asks for.
    pub fn aside_ms(self, retry_after_ms: Option<u64>) -> Option<u64> {
        match self {
            Self::RateLimited | Self::Server | Self::Late => retry_after_ms.map(|ms| ms.min(MAX_ASIDE_MS)),
            Self::NotCalled
            | Self::Unreachable
            | Self::Broken
            | Self::Deadline
            | Self::Gone
            | Self::Exhausted
            | Self::Auth
            | Self::NotFound
            | Self::ContextLength
            | Self::ContentFilter
            | Self::Request
            | Self::Format => None,
        }
    }
}

/// The error in a body: its member, or the body itself.
pub fn error_of(body: &Value) -> &Value {
    // Google's endpoint sends a list.
    let body = body.as_array().and_then(|items| items.first()).unwrap_or(body);
    body.get("error").filter(|error| error.is_object() || error.is_string()).unwrap_or(body)
}

fn is_exhausted(error: &Value) -> bool {
    let is = |name| word(error, name).is_some_and(|word| word == "insufficient_quota" || word == "billing_error");
    is("code") || is("type")
}

fn word<'v>(error: &'v Value, name: &str) -> Option<&'v str> {
    error.get(name)?.as_str().filter(|word| !word.is_empty())
}

/// The provider's own message.
pub fn message_of(body: &Value) -> Option<&str> {
    let error = error_of(body);
    error.as_str().or_else(|| error.get("message")?.as_str()).or_else(|| error.get("detail")?.as_str())
}

/// The longest plain text that is shown as an error, in bytes.
const MAX_TEXT: usize = 2_000;

/// The words of an error that is plain text, not JSON or HTML.
pub fn text_of(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim_start_matches('\u{feff}').trim();
    (1..=MAX_TEXT).contains(&text.len()).then_some(text).filter(|text| !text.starts_with(['<', '{', '[']))
}

/// The provider's word for an error, if it can be kept where content is not: one short word of letters.
pub fn kept_word(body: &Value) -> Option<&str> {
    let error = error_of(body);
    let is_word =
        |text: &&str| text.len() <= MAX_WORD && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    word(error, "code").filter(is_word).or_else(|| word(error, "type").filter(is_word))
}

/// The status by which a client learns of an error that came with status 200.
pub fn status_of_error(error: &Value) -> u16 {
    match FailureKind::of_error(error) {
        FailureKind::RateLimited | FailureKind::Exhausted => 429,
        FailureKind::Auth => 401,
        FailureKind::NotFound => 404,
        FailureKind::ContextLength | FailureKind::ContentFilter | FailureKind::Request => 400,
        _ if word(error, "type") == Some("overloaded_error") => 529,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_text_is_shown_and_pages_are_not() {
        assert_eq!(text_of(b" 4096 tokens fit\n"), Some("4096 tokens fit"));
        assert_eq!(text_of("\u{feff}busy".as_bytes()), Some("busy"));
        for body in [&b""[..], b" ", b"<html>no</html>", b"{\"error\":", b"\xff", &[b'a'; MAX_TEXT + 1]] {
            assert_eq!(text_of(body), None);
        }
    }

    #[test]
    fn failures_are_known_by_status_and_words() {
        let error = |code: &str| json!({"error": {"code": code, "message": "m"}});
        for (status, body, kind) in [
            (401, json!({}), FailureKind::Auth),
            (402, json!({}), FailureKind::Exhausted),
            (404, json!({}), FailureKind::NotFound),
            (408, json!({}), FailureKind::Late),
            (429, json!({}), FailureKind::RateLimited),
            (429, error("insufficient_quota"), FailureKind::Exhausted),
            (500, error("context_length_exceeded"), FailureKind::Server),
            (529, json!({}), FailureKind::Server),
            (400, error("context_length_exceeded"), FailureKind::ContextLength),
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}}),
                FailureKind::ContextLength,
            ),
            (400, error("content_filter"), FailureKind::ContentFilter),
            (400, error("invalid_value"), FailureKind::Request),
            (422, json!("no"), FailureKind::Request),
            (302, json!({}), FailureKind::Format),
            (201, json!({}), FailureKind::Format),
            (400, json!([{"error": {"code": 400, "message": "prompt is too long"}}]), FailureKind::ContextLength),
        ] {
            assert_eq!(FailureKind::of_response(status, &body), kind, "{status} {body}");
        }
        for (error, kind, status) in [
            (json!({"type": "overloaded_error"}), FailureKind::Server, 529),
            (json!({"code": 429}), FailureKind::RateLimited, 429),
            (json!({"code": "400"}), FailureKind::Server, 500),
            (json!({"type": "invalid_request_error", "message": "m"}), FailureKind::Request, 400),
            (json!("too busy"), FailureKind::Server, 500),
        ] {
            assert_eq!((FailureKind::of_error(&error), status_of_error(&error)), (kind, status), "{error}");
        }
    }

    #[test]
    fn only_what_says_nothing_about_the_request_moves_on() {
        let plain = CallSettings::default();
        let all =
            CallSettings { fallback_on: Some(vec![FallbackOn::Auth, FallbackOn::ContextLength]), ..plain.clone() };
        for (kind, by_default, with_all) in [
            (FailureKind::Unreachable, true, true),
            (FailureKind::Server, true, true),
            (FailureKind::Auth, false, true),
            (FailureKind::ContextLength, false, true),
            (FailureKind::NotFound, false, false),
            (FailureKind::Request, false, false),
            (FailureKind::Deadline, false, false),
        ] {
            assert_eq!((kind.moves_on(&plain), kind.moves_on(&all)), (by_default, with_all), "{kind:?}");
        }
    }

    #[test]
    fn a_provider_puts_a_model_aside_for_a_minute_at_most() {
        assert_eq!(FailureKind::RateLimited.aside_ms(Some(5_000)), Some(5_000));
        assert_eq!(FailureKind::Server.aside_ms(Some(3_600_000)), Some(60_000));
        assert_eq!(FailureKind::RateLimited.aside_ms(None), None);
        assert_eq!(FailureKind::Exhausted.aside_ms(Some(5_000)), None);
        assert_eq!(FailureKind::Request.aside_ms(Some(5_000)), None);
    }

    #[test]
    fn only_a_providers_word_is_kept() {
        assert_eq!(
            kept_word(&json!({"error": {"code": "model_not_found", "message": "secret"}})),
            Some("model_not_found")
        );
        assert_eq!(kept_word(&json!({"error": {"type": "invalid_request_error"}})), Some("invalid_request_error"));
        assert_eq!(kept_word(&json!({"error": {"code": "My prompt", "type": "Also 1"}})), None);
        assert_eq!(message_of(&json!({"detail": "no"})), Some("no"));
    }
}
