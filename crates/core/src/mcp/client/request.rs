//! Requests to an upstream, in the form of its revision.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::super::MODERN;
use super::super::client_capabilities::{ClientCapabilities, MAX_CAPABILITIES_BYTES};
use super::super::request_headers::{encoded, name_in};
use super::UpstreamRevision;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamRequest<'a> {
    pub method: &'a str,
    /// The text of an object. Its `_meta` belongs to the caller and is left out.
    pub params: &'a str,
    /// The part of the caller's `_meta` to forward, an object's text: see [`super::request_meta`].
    pub meta: Option<&'a str>,
    /// The capabilities of the waiting client, an object's text: no others are declared.
    pub capabilities: &'a str,
    /// The progress token, if progress is wanted.
    pub progress: Option<&'a str>,
    /// The minimum severity of log messages, if any are wanted.
    pub log_level: Option<&'a str>,
}

impl<'a> UpstreamRequest<'a> {
    /// A request without metadata.
    pub fn new(method: &'a str, params: &'a str) -> Self {
        Self { method, params, meta: None, capabilities: "{}", progress: None, log_level: None }
    }

    fn meta(&self, revision: &UpstreamRevision) -> serde_json::Map<String, serde_json::Value> {
        let mut meta = serde_json::Map::new();
        if revision.is_modern() {
            meta.insert(VERSION.into(), MODERN.into());
            meta.insert(CLIENT.into(), client());
            let capabilities = serde_json::from_str(self.capabilities).unwrap_or_else(|_| json!({}));
            meta.insert(CAPABILITIES.into(), capabilities);
            if let Some(level) = self.log_level {
                meta.insert(LOG_LEVEL.into(), level.into());
            }
        }
        if let Some(token) = self.progress {
            meta.insert("progressToken".into(), token.into());
        }
        meta
    }

    /// The body. `None` if the parameters are not an object.
    pub fn body(&self, revision: &UpstreamRevision, id: u64) -> Option<String> {
        let mut params: BTreeMap<String, Box<RawValue>> = serde_json::from_str(self.params).ok()?;
        params.remove("_meta");
        // The caller's metadata is forwarded as written; the gateway's own replaces it.
        let passed = self.meta.and_then(|meta| serde_json::from_str(meta).ok());
        let mut meta: BTreeMap<String, Box<RawValue>> = passed.unwrap_or_default();
        for (name, value) in self.meta(revision) {
            meta.insert(name, to_raw_value(&value).ok()?);
        }
        if !meta.is_empty() {
            params.insert("_meta".into(), to_raw_value(&meta).ok()?);
        }
        let params = serde_json::to_string(&params).ok()?;
        let method = serde_json::to_string(self.method).ok()?;
        Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#))
    }

    /// The headers that repeat the body, and those of a legacy session.
    pub fn headers(&self, revision: &UpstreamRevision, session: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = about(revision, session);
        if revision.is_modern() {
            headers.push(("mcp-method", self.method.into()));
            let params = serde_json::from_str::<&RawValue>(self.params).ok();
            if let Some(name) = name_in(self.method, params) {
                headers.push(("mcp-name", encoded(&name).into_owned()));
            }
        }
        headers
    }
}

/// The capabilities of another client, as declared for it: those that are exercised by requests, which are forwarded.
/// The others are between it and the gateway.
pub fn forwarded_capabilities(capabilities: &RawValue) -> Option<Box<RawValue>> {
    let mut asked: BTreeMap<String, &RawValue> = serde_json::from_str(capabilities.get()).ok()?;
    asked.retain(|name, _| matches!(name.as_str(), "elicitation" | "sampling" | "roots"));
    let passed = to_raw_value(&asked).ok()?;
    if passed.get().len() > MAX_CAPABILITIES_BYTES {
        ClientCapabilities::read(capabilities).declaration()
    } else {
        Some(passed)
    }
}

/// The headers of every message.
pub fn about(revision: &UpstreamRevision, session: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("mcp-protocol-version", revision.version().to_string())];
    if let Some(session) = session {
        headers.push(("mcp-session-id", session.into()));
    }
    headers
}

/// The gateway's `clientInfo`.
fn client() -> serde_json::Value {
    json!({"name": "narthex", "version": env!("CARGO_PKG_VERSION")})
}

/// The first message in a legacy revision.
pub fn initialize(id: u64, version: &str, capabilities: &str) -> String {
    let capabilities: serde_json::Value = serde_json::from_str(capabilities).unwrap_or_else(|_| json!({}));
    let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client()});
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params}).to_string()
}

/// A notification.
pub fn notification(method: &str, params: &serde_json::Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

/// The response to a request of a legacy server: its result, an object's text, or an error if there is none.
pub fn response(id: &RawValue, result: Option<&str>) -> String {
    let answer = match result {
        Some(result) => format!(r#""result":{result}"#),
        None => r#""error":{"code":-32601,"message":"Method not found"}"#.into(),
    };
    format!(r#"{{"jsonrpc":"2.0","id":{},{answer}}}"#, id.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn legacy() -> UpstreamRevision {
        UpstreamRevision::Legacy("2025-11-25".into())
    }

    #[test]
    fn a_modern_request_describes_itself() {
        let params = r#"{"name":"grüß","arguments":{"n":1.0},"_meta":{"of":"another"}}"#;
        let asked = UpstreamRequest {
            capabilities: r#"{"elicitation":{}}"#,
            progress: Some("ctx_1"),
            log_level: Some("info"),
            ..UpstreamRequest::new("tools/call", params)
        };
        let body: Value = serde_json::from_str(&asked.body(&UpstreamRevision::Modern, 7).unwrap()).unwrap();
        assert_eq!((&body["id"], &body["method"]), (&json!(7), &json!("tools/call")));
        let meta = &body["params"]["_meta"];
        assert_eq!(meta[VERSION], json!("2026-07-28"));
        assert_eq!(meta[CAPABILITIES], json!({"elicitation": {}}));
        assert_eq!(meta[LOG_LEVEL], json!("info"));
        assert_eq!(meta["progressToken"], json!("ctx_1"));
        assert_eq!(meta[CLIENT]["name"], json!("narthex"));
        assert!(meta.get("of").is_none());
        let expected = [
            ("mcp-protocol-version", "2026-07-28".to_string()),
            ("mcp-method", "tools/call".into()),
            ("mcp-name", "=?base64?Z3LDvMOf?=".into()),
        ];
        assert_eq!(asked.headers(&UpstreamRevision::Modern, None), expected);
    }

    #[test]
    fn the_clients_metadata_never_replaces_the_gateways() {
        let meta = r#"{"com.example/tenant":"acme","n":1.0,"progressToken":"mine"}"#;
        let asked =
            UpstreamRequest { meta: Some(meta), progress: Some("ctx_1"), ..UpstreamRequest::new("tools/call", "{}") };
        let expected = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"com.example/tenant":"acme","n":1.0,"progressToken":"ctx_1"}}}"#;
        assert_eq!(asked.body(&legacy(), 1).unwrap(), expected);
        let body: Value = serde_json::from_str(&asked.body(&UpstreamRevision::Modern, 1).unwrap()).unwrap();
        assert_eq!(body["params"]["_meta"]["com.example/tenant"], "acme");
        assert_eq!(body["params"]["_meta"][VERSION], "2026-07-28");
    }

    #[test]
    fn a_legacy_request_names_its_revision_and_its_session_only() {
        let asked = UpstreamRequest::new("tools/list", r#"{"cursor":"a"}"#);
        let expected = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"a"}}"#;
        assert_eq!(asked.body(&legacy(), 1).unwrap(), expected);
        let expected = [("mcp-protocol-version", "2025-11-25".to_string()), ("mcp-session-id", "s1".into())];
        assert_eq!(asked.headers(&legacy(), Some("s1")), expected);
    }

    #[test]
    fn arguments_go_on_byte_for_byte() {
        let asked = UpstreamRequest::new("tools/call", r#"{"arguments":{ "a" : 1e2 },"name":"x"}"#);
        assert!(asked.body(&legacy(), 1).unwrap().contains(r#""arguments":{ "a" : 1e2 }"#));
        assert!(UpstreamRequest::new("tools/call", "[]").body(&legacy(), 1).is_none());
    }

    #[test]
    fn a_legacy_connection_begins_with_initialize() {
        let body: Value = serde_json::from_str(&initialize(1, "2025-06-18", r#"{"roots":{}}"#)).unwrap();
        assert_eq!(body["params"]["protocolVersion"], json!("2025-06-18"));
        assert_eq!(body["params"]["capabilities"], json!({"roots": {}}));
        let message: Value = serde_json::from_str(&notification("notifications/initialized", &json!({}))).unwrap();
        assert!(message.get("id").is_none());
    }

    #[test]
    fn only_what_is_asked_by_requests_is_declared_for_another() {
        let capabilities =
            r#"{"elicitation":{"form":{}},"extensions":{"io.modelcontextprotocol/tasks":{}},"roots":{}}"#;
        let capabilities = RawValue::from_string(capabilities.into()).unwrap();
        assert_eq!(forwarded_capabilities(&capabilities).unwrap().get(), r#"{"elicitation":{"form":{}},"roots":{}}"#);
    }

    #[test]
    fn unanswerable_requests_are_rejected_in_form() {
        let id = RawValue::from_string(r#""q1""#.into()).unwrap();
        assert_eq!(response(&id, Some("{}")), r#"{"jsonrpc":"2.0","id":"q1","result":{}}"#);
        assert!(response(&id, None).contains("-32601"));
    }
}
