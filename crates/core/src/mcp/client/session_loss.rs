//! Whether a server's response to a request in a session means that the session is gone.
//!
//! The protocol uses 404 for it. Some servers use other statuses, and explain in words. Such a request was not
//! processed, so it is sent again in a new session. A request that was rejected for another reason stays rejected.

use super::response::{Response, RpcError};
use super::session_phrases::says_no_session;

/// How much of a response is examined, in bytes.
const MAX_BYTES: usize = 4 * 1024;

/// Words in a rejection of the credentials (RFC 6750 §3.1).
const CREDENTIALS: [&str; 3] = ["invalid_token", "insufficient_scope", "access token"];

/// What a response means for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Nothing,
    /// It is gone: nothing was processed.
    Gone,
    /// The request is rejected, possibly because of the session: the next one begins a new session.
    Maybe,
}

/// Codes that servers use for it. Errors of a tool about its own sessions have other codes, or are results.
fn may_be_of_session(error: &RpcError) -> bool {
    matches!(error.code, -32_099..=-32_000 | -32_600)
}

/// A JSON-RPC error about the request itself, which never concerns the session.
fn is_of_request(response: Option<&Response>) -> bool {
    response.is_some_and(|response| {
        response
            .as_ref()
            .is_err_and(|error| matches!(error.code, -32_700 | -32_603..=-32_601) && !says_no_session(&error.message))
    })
}

/// Whether a response states in words that there is no such session. A JSON-RPC response states it in its error, or not
/// at all.
fn says_gone(body: &str, response: Option<&Response>) -> bool {
    match response {
        Some(Err(error)) => may_be_of_session(error) && says_no_session(&error.message),
        Some(Ok(_)) => false,
        None => says_no_session(body),
    }
}

/// Evaluates a response to a request in a session: its status, its body if it has one, and the JSON-RPC response in it.
pub fn session_state(status: u16, body: &[u8], response: Option<&Response>) -> SessionState {
    let body = String::from_utf8_lossy(body.get(..MAX_BYTES).unwrap_or(body));
    let is_gone = match status {
        200..=299 => response.is_some() && says_gone("", response),
        400 | 404 => !is_of_request(response),
        410 => true,
        401 | 403 => says_gone(&body, response) && !CREDENTIALS.iter().any(|words| body.contains(words)),
        // These state when to retry, or that an intermediary does not know what happened to the request.
        408 | 425 | 429 | 502 | 504 => false,
        402..=599 => says_gone(&body, response),
        _ => false,
    };
    match (is_gone, status) {
        (true, _) => SessionState::Gone,
        (false, 401) => SessionState::Maybe,
        _ => SessionState::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn error(code: i64, message: &str) -> Response {
        Err(RpcError { code, message: message.into(), whole: RawValue::from_string("{}".into()).unwrap() })
    }

    #[test]
    fn a_session_that_is_gone_is_known_by_its_status_or_by_words() {
        for (status, body) in [
            (404, ""),
            (404, "Not Found"),
            (400, "Bad Request: No valid session ID provided"),
            (410, ""),
            (401, "no such session any more"),
            (403, r#"{"error":{"type":"INVALID_SESSION"}}"#),
            (409, r#"{"detail":"Session expired"}"#),
            (422, r#"{"message":"Unknown sessionId"}"#),
            (500, "Error: session 7 does not exist"),
            (503, r#"{"error":"unknown session"}"#),
        ] {
            assert_eq!(session_state(status, body.as_bytes(), None), SessionState::Gone, "{status} {body}");
        }
        let long = format!("{}no such session", "é".repeat(MAX_BYTES));
        assert_eq!(session_state(503, long.as_bytes(), None), SessionState::Nothing);
    }

    #[test]
    fn other_rejections_stay_rejections() {
        for (status, body) in [
            (403, ""),
            (403, r#"{"error":"insufficient_scope","error_description":"session is missing a scope"}"#),
            (403, "You may not do that."),
            (429, "too many calls in this session, which is closed for a minute"),
            (500, ""),
            (500, "it broke"),
            (503, r#"{"error":"session store is down"}"#),
            (502, "Unknown host"),
            (502, "unknown session"),
            (504, "session timed out"),
            (500, "InvalidRequestError: This Session's transaction has been rolled back"),
            (500, "Chat session not found"),
            (200, "no such session"),
            (202, ""),
        ] {
            assert_eq!(session_state(status, body.as_bytes(), None), SessionState::Nothing, "{status} {body}");
        }
        for body in ["", "Unauthorized", r#"{"error":"invalid_token","error_description":"The session has expired"}"#] {
            assert_eq!(session_state(401, body.as_bytes(), None), SessionState::Maybe, "{body}");
        }
    }

    #[test]
    fn an_error_of_json_rpc_is_about_the_session_or_about_the_request() {
        for (status, code, message) in [
            (400, -32_000, "Bad Request: Server not initialized"),
            (400, -32_602, "Invalid session"),
            (404, -32_001, "Session not found"),
            (200, -32_001, "Session not found"),
            (200, -32_600, "Session terminated"),
            (500, -32_001, "Session not found"),
            (503, -32_000, "unknown session"),
        ] {
            let response = error(code, message);
            assert_eq!(
                session_state(status, message.as_bytes(), Some(&response)),
                SessionState::Gone,
                "{status} {message}"
            );
        }
        for (status, code, message) in [
            (400, -32_602, "Invalid arguments"),
            (404, -32_601, "Method not found"),
            (200, -32_602, "There is no such chat session"),
            (200, -32_000, "It broke"),
            (200, -32_000, "Chat session not found"),
            (500, -32_603, "InvalidRequestError: This Session's transaction has been rolled back"),
            (400, -32_603, "InvalidRequestError: This Session's transaction has been rolled back"),
            (500, -32_603, "Session not found"),
            (502, -32_000, "Session not found"),
        ] {
            let response = error(code, message);
            assert_eq!(
                session_state(status, message.as_bytes(), Some(&response)),
                SessionState::Nothing,
                "{status} {message}"
            );
        }
        let result: Response = Ok(RawValue::from_string(r#"{"content":"no such session"}"#.into()).unwrap());
        assert_eq!(session_state(200, b"no such session", Some(&result)), SessionState::Nothing);
    }
}
