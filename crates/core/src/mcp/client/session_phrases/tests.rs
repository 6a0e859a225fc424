use super::*;
use proptest::prelude::*;

#[test]
fn phrases_about_the_session() {
    for text in [
        "no such session",
        "no such session any more",
        "No session",
        r#"{"error":"unknown session"}"#,
        r#"{"error":{"type":"INVALID_SESSION"}}"#,
        r#"{"error":{"code":"session_not_found"}}"#,
        r#"{"error":"SessionNotFound"}"#,
        r#"{"error":"SessionExpiredError","detail":""}"#,
        r#"{"detail":"Session expired"}"#,
        r#"{"message":"Unknown sessionId"}"#,
        r#"{"session":"not found"}"#,
        "Error: session 7 does not exist",
        "The session has expired. Initialize again.",
        "Session 0b5c-4a1e-99d2 not found",
        "Session 'abc' doesn't exist",
        r#"session "abc" was not found"#,
        "Session ID 12ab is no longer valid",
        "Session timed out",
        "session terminated",
        "Your session has been terminated, please start another",
        "This session is closed",
        "Session is gone",
        "Could not find session 42",
        "Session could not be found",
        "Not a valid session",
        "Bad Request: No valid session ID provided",
        "Missing or invalid Mcp-Session-Id",
        "Invalid or expired session",
        "MCP session not initialized",
        "unknown session: abc",
        "errors.session.expired",
        "InvalidSessionError",
        "No active session for this client",
    ] {
        assert!(says_no_session(text), "{text}");
    }
}

#[test]
fn phrases_about_something_else() {
    for text in [
        "",
        "session",
        "it broke",
        "InvalidRequestError: This Session's transaction has been rolled back",
        "This Session's transaction has been rolled back due to a previous exception during flush. Invalid request.",
        "Session store is down",
        "session store not found",
        "There is no such chat session",
        "Chat session not found",
        "database session closed",
        "Cannot use a session that has ended: MongoExpiredSessionError",
        "Could not save the session. Invalid argument.",
        "The session failed: unknown host",
        r#"{"session":"abc","error":"not found"}"#,
        "invalid session configuration",
        "unknown session type",
        "User of session 7 not found",
        "Something in the MCP session is missing",
        "The file of this session is missing",
        "Session started; the upload expired",
        "Table sessions_old does not exist",
        "requests.Session is closed",
    ] {
        assert!(!says_no_session(text), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read(text in ".{0,80}", middle in "[sS]ession[_ ]?.{0,20}") {
        let _ = says_no_session(&format!("{text}{middle}{text}"));
    }
}
