//! Refusals in the formats that model clients know.

use serde_json::{Value, json};

use super::endpoint::{Endpoint, Format};

/// The type of an error in OpenAI's format, by the status, and its code where that differs from the gateway's.
fn openai_words(status: u16, code: &str) -> (&'static str, String) {
    let kind = match status {
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let code = match (status, code) {
        (401, _) => "invalid_api_key",
        (429, "rate_limited") => "rate_limit_exceeded",
        _ => code,
    };
    (kind, code.into())
}

/// The type of an error in Anthropic's format, by the status.
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The body of a refusal. `code` is the gateway's word for it, `param` the member of the request that is at fault.
pub fn body(format: Format, status: u16, code: &str, message: &str, param: Option<&str>, request_id: &str) -> String {
    error(format, status, code, message, param, request_id).to_string()
}

fn error(format: Format, status: u16, code: &str, message: &str, param: Option<&str>, request_id: &str) -> Value {
    match format {
        Format::OpenAi => {
            let (kind, code) = openai_words(status, code);
            json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
        }
        Format::Anthropic => json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": message},
            "request_id": request_id,
        }),
    }
}

/// The event that ends a stream with an error.
pub fn event(
    endpoint: Endpoint,
    status: u16,
    code: &str,
    message: &str,
    (request_id, sequence): (&str, u64),
) -> String {
    match endpoint {
        Endpoint::Responses => {
            let data =
                json!({"type": "error", "code": code, "message": message, "param": null, "sequence_number": sequence});
            format!("event: error\ndata: {data}\n\n")
        }
        Endpoint::Chat | Endpoint::Embeddings => {
            format!("data: {}\n\n", error(Format::OpenAi, status, code, message, None, request_id))
        }
        Endpoint::Messages | Endpoint::CountTokens => {
            format!("event: error\ndata: {}\n\n", error(Format::Anthropic, status, code, message, None, request_id))
        }
    }
}

/// The body for an error that came as an event of a stream, before its first piece.
pub fn body_of_event(format: Format, status: u16, data: &str, request_id: &str) -> String {
    let value: Value = serde_json::from_str(data).unwrap_or_default();
    if value.get("error").is_some_and(Value::is_object) {
        return data.into();
    }
    let error = value.pointer("/response/error").unwrap_or(&value);
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let message = text("message").or_else(|| value.get("error")?.as_str()).unwrap_or(data);
    body(format, status, text("code").unwrap_or("upstream_error"), message, None, request_id)
}

/// A member of the request, as OpenAI names it, from its pointer.
pub fn param(pointer: &str) -> Option<String> {
    let path = pointer.strip_prefix("#/")?;
    Some(path.replace('/', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_types_that_libraries_know() {
        let read = |format, status, code| -> Value {
            serde_json::from_str(&body(format, status, code, "m", Some("model"), "req_1")).unwrap()
        };
        assert_eq!(
            read(Format::OpenAi, 404, "model_not_found"),
            json!({"error": {"message": "m", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(read(Format::OpenAi, 401, "unauthenticated")["error"]["code"], "invalid_api_key");
        assert_eq!(read(Format::OpenAi, 429, "rate_limited")["error"]["code"], "rate_limit_exceeded");
        assert_eq!(
            read(Format::Anthropic, 413, "payload_too_large"),
            json!({"type": "error", "error": {"type": "request_too_large", "message": "m"}, "request_id": "req_1"})
        );
        for (status, kind) in [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (503, "overloaded_error"),
            (529, "overloaded_error"),
        ] {
            assert_eq!(read(Format::Anthropic, status, "x")["error"]["type"], kind, "{status}");
        }
    }

    #[test]
    fn a_stream_ends_with_an_error_that_libraries_raise() {
        assert!(event(Endpoint::Chat, 502, "c", "m", ("r", 0)).starts_with("data: {\"error\":"));
        assert!(event(Endpoint::Messages, 502, "c", "m", ("r", 0)).starts_with("event: error\ndata: {"));
        assert!(event(Endpoint::Responses, 502, "c", "m", ("r", 7)).contains("\"sequence_number\":7"));
        assert_eq!(param("#/messages/0/role").as_deref(), Some("messages.0.role"));
    }
}
