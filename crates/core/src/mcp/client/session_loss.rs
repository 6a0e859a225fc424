//! Whether a server's answer to a request in a session says that the session is gone.
//!
//! The protocol has 404 for it. Servers answer with other statuses as well, and say so in words. Such a request was not
//! looked at, so it is sent once more in a new session. What is refused for another reason stays refused.

use super::response::{Response, RpcError};
use super::session_phrases::says_no_session;

/// How much of an answer is looked at, in bytes.
const MAX_BYTES: usize = 4 * 1024;

/// What a refusal of the credentials says of itself (RFC 6750 §3.1).
const CREDENTIALS: [&str; 3] = ["invalid_token", "insufficient_scope", "access token"];

/// What an answer says of the session it was asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Nothing,
    /// It is gone: nothing was looked at.
    Gone,
    /// The request is refused, for a reason that may be the session: the next one begins another.
    Maybe,
}

/// Codes under which servers say it. What a tool says of sessions of its own comes under another, or in a result.
fn may_be_of_session(error: &RpcError) -> bool {
    matches!(error.code, -32_099..=-32_000 | -32_600)
}

/// An error of JSON-RPC about the request itself, whose words are of no session.
fn is_of_request(response: Option<&Response>) -> bool {
    response.is_some_and(|response| {
        response
            .as_ref()
            .is_err_and(|error| matches!(error.code, -32_700 | -32_603..=-32_601) && !says_no_session(&error.message))
    })
}

/// Whether an answer says in words that there is no such session. A response says it in its error, or not at all.
fn says_gone(body: &str, response: Option<&Response>) -> bool {
    match response {
        Some(Err(error)) => may_be_of_session(error) && says_no_session(&error.message),
        Some(Ok(_)) => false,
        None => says_no_session(body),
    }
}

/// Reads an answer to a request in a session: its status, its body where it has one, and the response in that.
pub fn says(status: u16, body: &[u8], response: Option<&Response>) -> Says {
    let body = String::from_utf8_lossy(body.get(..MAX_BYTES).unwrap_or(body));
    let is_gone = match status {
        200..=299 => response.is_some() && says_gone("", response),
        400 | 404 => !is_of_request(response),
        410 => true,
        401 | 403 => says_gone(&body, response) && !CREDENTIALS.iter().any(|words| body.contains(words)),
        // Which say when to come again, or that something on the way did not hear what became of the request.
        408 | 425 | 429 | 502 | 504 => false,
        402..=599 => says_gone(&body, response),
        _ => false,
    };
    match (is_gone, status) {
        (true, _) => Says::Gone,
        (false, 401) => Says::Maybe,
        _ => Says::Nothing,
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
            assert_eq!(says(status, body.as_bytes(), None), Says::Gone, "{status} {body}");
        }
        let long = format!("{}no such session", "é".repeat(MAX_BYTES));
        assert_eq!(says(503, long.as_bytes(), None), Says::Nothing);
    }

    #[test]
    fn what_is_refused_for_another_reason_stays_refused() {
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
            assert_eq!(says(status, body.as_bytes(), None), Says::Nothing, "{status} {body}");
        }
        for body in ["", "Unauthorized", r#"{"error":"invalid_token","error_description":"The session has expired"}"#] {
            assert_eq!(says(401, body.as_bytes(), None), Says::Maybe, "{body}");
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
            assert_eq!(says(status, message.as_bytes(), Some(&response)), Says::Gone, "{status} {message}");
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
            assert_eq!(says(status, message.as_bytes(), Some(&response)), Says::Nothing, "{status} {message}");
        }
        let result: Response = Ok(RawValue::from_string(r#"{"content":"no such session"}"#.into()).unwrap());
        assert_eq!(says(200, b"no such session", Some(&result)), Says::Nothing);
    }
}
