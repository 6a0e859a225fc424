use serde_json::{Value, json};

use super::super::message::{Body, Message, read};
use super::*;

/// The revision, or the code and status of the rejection.
fn decide(body: &Value, headers: Headers<'_>) -> Result<&'static str, (i64, u16)> {
    let text = body.to_string();
    let Ok(Body::One(Message::Request(request))) = read(text.as_bytes()) else { panic!("{text}") };
    match of(&request, headers) {
        Ok(Revision::Modern(_)) => Ok("modern"),
        Ok(Revision::Legacy(Some(known))) => Ok(known),
        Ok(Revision::Legacy(None)) => Ok("legacy"),
        Err(error) => Err((error.code(), error.status())),
    }
}

fn request(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

fn claiming(version: Value) -> Value {
    json!({"_meta": {VERSION: version, CAPABILITIES: {}}})
}

const MODERN_HEADERS: Headers<'static> =
    Headers { version: Some("2026-07-28"), method: Some("tools/list"), name: None };

#[test]
fn every_request_has_the_expected_revision() {
    let none = Headers::default();
    let says = |version| Headers { version: Some(version), ..none };
    let list = |params: Value| request("tools/list", params);
    let table = [
        // 4. initialize
        (request("initialize", json!({"protocolVersion": "2025-11-25"})), none, Ok("legacy")),
        (request("initialize", json!({})), says("2026-07-28"), Ok("legacy")),
        (request("initialize", claiming(json!("2025-11-25"))), none, Ok("legacy")),
        (request("initialize", claiming(json!(7))), none, Ok("legacy")),
        (request("initialize", claiming(json!("2026-07-28"))), none, Err((-32601, 404))),
        (request("initialize", claiming(json!("2027-01-01"))), none, Err((-32601, 404))),
        // 5. A claim
        (list(claiming(json!("2026-07-28"))), MODERN_HEADERS, Ok("modern")),
        (list(claiming(json!(7))), MODERN_HEADERS, Err((-32602, 400))),
        (list(claiming(json!(null))), MODERN_HEADERS, Err((-32602, 400))),
        (list(json!({"_meta": {VERSION: "2026-07-28"}})), MODERN_HEADERS, Err((-32602, 400))),
        (list(json!({"_meta": {VERSION: "2026-07-28", CAPABILITIES: []}})), MODERN_HEADERS, Err((-32602, 400))),
        (
            list(json!({"_meta": {VERSION: "2026-07-28", CAPABILITIES: {}, CLIENT: 1}})),
            MODERN_HEADERS,
            Err((-32602, 400)),
        ),
        (list(claiming(json!("2026-07-28"))), says("2025-11-25"), Err((-32020, 400))),
        (list(claiming(json!("2027-01-01"))), MODERN_HEADERS, Err((-32020, 400))),
        (list(claiming(json!("2027-01-01"))), says("2027-01-01"), Err((-32022, 400))),
        (list(claiming(json!("2025-11-25"))), none, Err((-32022, 400))),
        (list(claiming(json!("soon"))), none, Err((-32022, 400))),
        (list(claiming(json!("2026-07-28"))), none, Err((-32020, 400))),
        (list(claiming(json!("2026-07-28"))), says("2026-07-28"), Err((-32020, 400))),
        // 6. Only a header
        (list(json!({})), MODERN_HEADERS, Err((-32602, 400))),
        (list(json!({"_meta": {}})), MODERN_HEADERS, Err((-32602, 400))),
        (list(json!({"_meta": {CAPABILITIES: {}}})), says("2099-01-01"), Err((-32602, 400))),
        // 7. All else
        (list(json!({})), none, Ok("legacy")),
        (list(json!({"_meta": 7})), none, Ok("legacy")),
        (list(json!({})), says("2025-06-18"), Ok("2025-06-18")),
        (list(json!({})), says("2025-03-26"), Ok("2025-03-26")),
        (list(json!({})), says("1999-01-01"), Err((-32600, 400))),
        (list(json!({})), says("nonsense"), Err((-32600, 400))),
        // The rules for modern headers do not apply to legacy requests.
        (list(json!({})), Headers { method: Some("ping"), name: Some("x"), ..says("2025-11-25") }, Ok("2025-11-25")),
    ];
    for (body, headers, expected) in table {
        assert_eq!(decide(&body, headers), expected, "{body} with {headers:?}");
    }
    let bare = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(decide(&bare, MODERN_HEADERS), Err((-32602, 400)));
    assert_eq!(decide(&bare, none), Ok("legacy"));
}

#[test]
fn a_name_in_the_header_is_the_name_in_the_body() {
    let mut params = claiming(json!("2026-07-28"));
    params["name"] = json!("echo");
    let body = request("tools/call", params);
    let says = |name| Headers { method: Some("tools/call"), name, ..MODERN_HEADERS };
    assert_eq!(decide(&body, says(Some("echo"))), Ok("modern"));
    assert_eq!(decide(&body, says(Some("other"))), Err((-32020, 400)));
    assert_eq!(decide(&body, says(None)), Err((-32020, 400)));
}

#[test]
fn an_envelope_has_the_clients_capabilities() {
    let read_envelope = |capabilities: Value| {
        let text = request("tools/list", json!({"_meta": {VERSION: MODERN, CAPABILITIES: capabilities}})).to_string();
        let Ok(Body::One(Message::Request(request))) = read(text.as_bytes()) else { panic!("{text}") };
        match of(&request, MODERN_HEADERS) {
            Ok(Revision::Modern(envelope)) => envelope,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read_envelope(json!({})).able, ClientCapabilities::default());
    let able = ClientCapabilities { form: true, roots: true, ..ClientCapabilities::default() };
    assert_eq!(read_envelope(json!({"elicitation": {}, "roots": {}})).able, able);
}

#[test]
fn initialize_is_answered_with_the_revision_that_was_asked_for_if_it_is_known() {
    for (asked, given) in [
        (Some("2025-11-25"), "2025-11-25"),
        (Some("2025-06-18"), "2025-06-18"),
        (Some("2025-03-26"), "2025-03-26"),
        (Some("2024-11-05"), "2024-11-05"),
        (Some("2024-10-07"), "2025-11-25"),
        (Some("2031-01-01"), "2025-11-25"),
        (Some("2026-07-28"), "2025-11-25"),
        (None, "2025-11-25"),
    ] {
        assert_eq!(negotiated(asked), given);
    }
}

#[test]
fn progress_is_reported_under_a_string_or_an_integer() {
    let raw = |text: &str| RawValue::from_string(text.into()).unwrap();
    for (params, token) in [
        (r#"{"_meta":{"progressToken":"a"}}"#, Some(r#""a""#)),
        (r#"{"_meta":{"progressToken":7}}"#, Some("7")),
        (r#"{"_meta":{"progressToken":7.5}}"#, None),
        (r#"{"_meta":{"progressToken":null}}"#, None),
        (r#"{"_meta":{}}"#, None),
        ("{}", None),
    ] {
        let params = raw(params);
        assert_eq!(progress_token(Some(&params)).map(RawValue::get), token, "{params}");
    }
    assert!(progress_token(None).is_none());
    let long = raw(&format!(r#"{{"_meta":{{"progressToken":"{}"}}}}"#, "x".repeat(MAX_TOKEN_BYTES)));
    assert!(progress_token(Some(&long)).is_none());
}
