use super::*;
use proptest::prelude::*;

fn words(body: &str) -> (Option<String>, Option<String>) {
    let FailureText { message, details, .. } = of_body(body.as_bytes());
    (message, details.map(|details| details.get().to_string()))
}

#[test]
fn the_cause_is_found_in_errors_of_any_shape() {
    for (body, expected) in [
        ("the prompt has 5000 tokens, 4096 fit", "the prompt has 5000 tokens, 4096 fit"),
        (r#"{"error":{"code":-32000,"message":"out of paper"}}"#, "out of paper"),
        (r#"{"error":"no such printer"}"#, "no such printer"),
        (r#"{"message":"slow down","code":7}"#, "slow down"),
        (r#"{"detail":"Not Found"}"#, "Not Found"),
        (r#"{"detail":[{"loc":["body","n"],"msg":"field required","type":"missing"}]}"#, "field required"),
        (r#"{"title":"Out of credit","status":403,"detail":"Your balance is 30."}"#, "Your balance is 30."),
        (r#"{"type":"about:blank","title":"Gone"}"#, "Gone"),
        (r#"{"error":"invalid_client","error_description":"who is that?"}"#, "who is that?"),
        (r#"{"errors":[{"message":"first"},{"message":"second"}]}"#, "first"),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"too busy now"}}"#, "too busy now"),
        (r#"{"object":"error","message":"longer than 4096 tokens","code":400}"#, "longer than 4096 tokens"),
        (r#"{"error":{"error":{"message":"twice wrapped"}}}"#, "twice wrapped"),
        (r#"{"error":{"code":"no_stock"}}"#, "no_stock"),
        (r#""just a text""#, "just a text"),
        ("\u{feff}{\"message\":\"marked\"}", "marked"),
        ("<!doctype html><html><head><TITLE>502 Bad\n Gateway</TITLE></head><body>x</body></html>", "502 Bad Gateway"),
        ("<html><body><p>no title</p></body></html>", "no title"),
        ("<Error><Code>SlowDown</Code><Message>Reduce it</Message></Error>", "Reduce it"),
        ("{not json", "{not json"),
        ("forged\r\nline\u{0}\u{1b}[31m\u{202e}x", "forged line [31mx"),
    ] {
        assert_eq!(words(body).0.as_deref(), Some(expected), "{body}");
    }
    for body in ["", "  ", "{}", "null", "[]", r#"{"error":null}"#, r#"{"error":{}}"#, r#"{"a":1}"#] {
        assert_eq!(words(body).0, None, "{body}");
    }
}

#[test]
fn the_first_4_kib_are_kept_whatever_their_form() {
    assert_eq!(words(r#"{"why": ["because"]}"#).1.as_deref(), Some(r#"{"why": ["because"]}"#));
    assert_eq!(words("busy").1.as_deref(), Some(r#""busy""#));
    assert_eq!(words("").1, None);
    assert_eq!(words("a\u{0}b\tc").1.as_deref(), Some(r#""ab\tc""#));
    // Cut between characters, never within one.
    for text in ["é".repeat(5000), format!("a{}", "é".repeat(5000)), format!("[\"{}\"]", "🔑".repeat(3000))] {
        let kept: String = serde_json::from_str(&words(&text).1.unwrap()).unwrap();
        assert!(text.starts_with(&kept) && kept.len() <= MAX_DETAILS_BYTES && kept.len() > MAX_DETAILS_BYTES - 4);
    }
    let long = format!(r#"{{"error":{{"message":"{}","retryable":true}}}}"#, "x".repeat(6000));
    let FailureText { message, retryable, .. } = of_body(long.as_bytes());
    assert_eq!((message.unwrap().chars().count(), retryable), (MAX_MESSAGE + 1, Some(true)));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(words(&deep).1.as_deref(), Some(serde_json::to_string(&deep).unwrap().as_str()));
}

#[test]
fn an_error_of_megabytes_is_not_looked_into() {
    let large = format!(r#"{{"message":"no","more":"{}","retryable":true}}"#, "x".repeat(MAX_READ_BYTES));
    let FailureText { message, details, retryable, .. } = of_error(&RawValue::from_string(large).unwrap());
    assert!(message.unwrap().starts_with(r#"{"message":"no""#) && retryable.is_none());
    assert!(details.unwrap().get().len() < 2 * MAX_DETAILS_BYTES);
}

#[test]
fn only_the_errors_own_member_allows_a_retry() {
    let retryable = |body: &str| of_body(body.as_bytes()).retryable;
    assert_eq!(retryable(r#"{"error":{"retryable":true}}"#), Some(true));
    assert_eq!(retryable(r#"{"error":{"code":"x","message":"y","retryable":false}}"#), Some(false));
    for body in [r#"{"retryable":true}"#, r#"{"error":{"retryable":"true"}}"#, r#"{"error":"x","retryable":true}"#, "x"]
    {
        assert_eq!(retryable(body), None, "{body}");
    }
}

#[test]
fn codes_show_which_side_is_at_fault() {
    use RetryScope::*;
    for (error, expected) in [
        (r#"{"code":"insufficient_quota","type":"insufficient_quota"}"#, Some(Elsewhere)),
        (r#"{"code":null,"type":"Insufficient_Quota"}"#, Some(Elsewhere)),
        (r#"{"code":"context_length_exceeded","type":"invalid_request_error"}"#, Some(Elsewhere)),
        (
            r#"{"message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            Some(Elsewhere),
        ),
        (r#"{"code":"model_not_found","type":"invalid_request_error"}"#, Some(Elsewhere)),
        (r#"{"message":"longer than the model takes","type":"invalid_request_error","code":400}"#, Some(Nowhere)),
        (r#"{"type":"invalid_request_error"}"#, Some(Nowhere)),
        (r#"{"code":404}"#, Some(Elsewhere)),
        (r#"{"code":"429"}"#, Some(Anywhere)),
        (r#"{"code":529}"#, Some(Anywhere)),
        (r#"{"code":500,"message":"the context length is a mystery"}"#, Some(Anywhere)),
        (r#"{"code":-32000}"#, None),
        (r#"{"code":70000}"#, None),
        (r#"{"type":"overloaded_error"}"#, None),
        (r#""text""#, None),
    ] {
        let raw: Box<RawValue> = serde_json::from_str(error).unwrap();
        assert_eq!(of_error(&raw).again, expected, "{error}");
    }
}

proptest! {
    #[test]
    fn error_texts_are_bounded(body in prop::collection::vec(any::<u8>(), 0..200), times in 1usize..100) {
        let FailureText { message, details, .. } = of_body(&body.repeat(times));
        if let Some(message) = message {
            prop_assert!(message.chars().count() <= MAX_MESSAGE + 1 && !message.contains(char::is_control));
        }
        if let Some(details) = details {
            prop_assert!(details.get().len() <= 2 * MAX_DETAILS_BYTES + 2, "{}", details.get().len());
            prop_assert!(serde_json::from_str::<Value>(details.get()).is_ok());
        }
    }

    #[test]
    fn markup_of_any_kind_is_read(text in "(<|>|</?title|</?h1>|body|é|İ| |[a-z]){0,30}") {
        let _ = of_body(text.as_bytes());
    }
}
