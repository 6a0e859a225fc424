//! The revision of an upstream, by its response to `server/discover`, and its description of itself.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::{LEGACY, MODERN, definitions};
use super::UpstreamRevision;
use super::response::{Response, RpcError};
use crate::base::json::{Object, kind};
use crate::calling::response::clean;
use crate::services::tool_catalogue::ServerDescription;

/// The largest part of a server's description that is kept, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 16 * 1024;

/// The result of a discovery.
#[derive(Debug)]
pub enum Discovery {
    Modern(Box<ServerDescription>),
    /// It must be called with `initialize`: only a response specific to modern servers shows that it is modern.
    Legacy,
    /// It supports only these revisions, which are not supported here.
    Unknown(Vec<String>),
}

/// Errors that only modern servers return.
pub fn is_modern(error: &RpcError) -> bool {
    matches!(error.code, -32022..=-32020)
}

/// The error that lists the supported versions.
const UNSUPPORTED: i64 = -32022;

/// The versions in a text, by their member.
fn versions(text: &str, name: &str) -> Option<Vec<String>> {
    serde_json::from_str(Object::new(text, "#").ok()?.raw(name)?.get()).ok()
}

/// The versions that an error lists as supported.
fn supported(error: &RpcError) -> Option<Vec<String>> {
    let data = Object::new(error.whole.get(), "#").ok()?.raw("data")?;
    versions(data.get(), "supported")
}

fn by_versions(versions: Vec<String>, server: impl FnOnce() -> ServerDescription) -> Discovery {
    if versions.iter().any(|version| version == MODERN) {
        return Discovery::Modern(Box::new(server()));
    }
    match versions.iter().any(|version| UpstreamRevision::of(version).is_some()) {
        true => Discovery::Legacy,
        false => Discovery::Unknown(versions),
    }
}

/// Reads the response to `server/discover`.
pub fn discovered(response: &Response) -> Discovery {
    match response {
        Ok(result) => match versions(result.get(), "supportedVersions") {
            Some(versions) => by_versions(versions, || ServerDescription::discovered(result)),
            None => Discovery::Legacy,
        },
        Err(error) if error.code == UNSUPPORTED => {
            by_versions(supported(error).unwrap_or_default(), ServerDescription::default)
        }
        // It knows what modern requests require.
        Err(error) if is_modern(error) => Discovery::Modern(Box::default()),
        Err(_) => Discovery::Legacy,
    }
}

/// The revision to use with a server that rejected the requested one and lists others: the latest legacy one, since it
/// rejected `initialize`.
pub fn offered(error: &RpcError) -> Option<UpstreamRevision> {
    let supported = supported(error)?;
    let known = LEGACY.iter().chain([&MODERN]);
    known.copied().find(|known| supported.iter().any(|version| version == known)).and_then(UpstreamRevision::of)
}

/// The revisions of an unsupported server, as a reason.
pub fn unknown(versions: &[String]) -> String {
    let listed: Vec<String> = versions.iter().take(8).map(|version| clean(version, 32)).collect();
    let theirs = if listed.is_empty() { "no revision that it names".into() } else { listed.join(", ") };
    let ours: Vec<&str> = [MODERN].into_iter().chain(LEGACY).collect();
    format!("it supports {theirs}; supported here are {}", ours.join(", "))
}

/// The members that are kept of a larger description.
const OF_INFO: [&str; 4] = ["name", "title", "version", "websiteUrl"];
const OF_CAPABILITIES: [&str; 6] = ["tools", "prompts", "resources", "completions", "logging", "tasks"];

fn small(raw: Option<&RawValue>, essential: &[&str]) -> Option<Box<RawValue>> {
    let raw = raw.filter(|raw| raw.get().starts_with('{'))?;
    if raw.get().len() <= MAX_DESCRIPTION_BYTES {
        return Some(raw.to_owned());
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    let most = MAX_DESCRIPTION_BYTES / (2 * essential.len());
    members.retain(|name, value| essential.contains(&name.as_str()) && value.get().len() <= most);
    to_raw_value(&members).ok()
}

/// A text of at most the maximum size, cut off if longer.
fn shortened(text: String) -> String {
    if text.len() <= MAX_DESCRIPTION_BYTES {
        return text;
    }
    let kept = text.get(..text.floor_char_boundary(MAX_DESCRIPTION_BYTES - '…'.len_utf8())).unwrap_or_default();
    format!("{kept}…")
}

impl ServerDescription {
    fn of(result: &RawValue, info: impl FnOnce(&mut Object<'_>) -> Option<Box<RawValue>>) -> Self {
        let Ok(mut said) = Object::new(result.get(), "#") else { return Self::default() };
        let instructions = said.raw("instructions").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let instructions = instructions.filter(|text| !text.is_empty()).map(shortened);
        let info = info(&mut said);
        Self { info, capabilities: small(said.raw("capabilities"), &OF_CAPABILITIES), instructions, sessions: false }
    }

    fn discovered(result: &RawValue) -> Self {
        Self::of(result, |said| {
            let meta = said.raw("_meta")?;
            small(Object::new(meta.get(), "#").ok()?.raw("io.modelcontextprotocol/serverInfo"), &OF_INFO)
        })
    }

    /// The declaration of this capability, in a form that clients can read.
    pub fn declared(&self, name: &str) -> Option<String> {
        let all = self.capabilities.as_ref()?;
        Object::new(all.get(), "#").ok()?.raw(name).map(definitions::declared)
    }
}

/// The response to `initialize`: the negotiated revision and the server, or what is wrong with it.
pub fn initialized(result: &RawValue) -> Result<(UpstreamRevision, ServerDescription), String> {
    let mut members = Object::new(result.get(), "#").map_err(|_| "its result is not an object".to_string())?;
    let said = members.raw_or_null("protocolVersion").ok_or("its result has no protocolVersion")?;
    let Ok(version) = serde_json::from_str::<String>(said.get()) else {
        return Err(format!("its protocolVersion is {}, not a string", kind(said)));
    };
    let revision = UpstreamRevision::of(&version).filter(|revision| !revision.is_modern());
    let revision = revision.ok_or_else(|| unknown(std::slice::from_ref(&version)))?;
    Ok((revision, ServerDescription::of(result, |said| small(said.raw("serverInfo"), &OF_INFO))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(value: &serde_json::Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    fn error(code: i64, data: serde_json::Value) -> Response {
        Err(RpcError { code, message: "no".into(), whole: raw(&json!({"code": code, "message": "no", "data": data})) })
    }

    fn word(response: &Response) -> &'static str {
        match discovered(response) {
            Discovery::Modern(_) => "modern",
            Discovery::Legacy => "legacy",
            Discovery::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn only_specific_responses_show_a_modern_server() {
        let result = |versions: serde_json::Value| Ok(raw(&json!({"supportedVersions": versions, "capabilities": {}})));
        for (response, expected) in [
            (result(json!(["2026-07-28"])), "modern"),
            (result(json!(["2025-11-25", "2026-07-28"])), "modern"),
            (result(json!(["2025-11-25"])), "legacy"),
            (result(json!(["2031-01-01"])), "unknown"),
            (result(json!("2026-07-28")), "legacy"),
            (Ok(raw(&json!({"tools": []}))), "legacy"),
            (Ok(raw(&json!({}))), "legacy"),
            (error(-32022, json!({"supported": ["2026-07-28"]})), "modern"),
            (error(-32022, json!({"supported": ["2025-11-25"]})), "legacy"),
            (error(-32022, json!({"supported": ["1"]})), "unknown"),
            (error(-32022, json!(null)), "unknown"),
            (error(-32021, json!({"requiredCapabilities": {}})), "modern"),
            (error(-32020, json!(null)), "modern"),
            (error(-32000, json!(null)), "legacy"),
            (error(-32601, json!(null)), "legacy"),
            (error(-32602, json!({"supported": ["2025-11-25"]})), "legacy"),
            (error(0, json!(null)), "legacy"),
        ] {
            assert_eq!(word(&response), expected, "{response:?}");
        }
    }

    #[test]
    fn a_server_that_refuses_a_revision_is_asked_in_one_it_names() {
        let asked = |supported: serde_json::Value| {
            let Err(error) = error(-32602, json!({"supported": supported, "requested": "2025-11-25"})) else {
                return None;
            };
            offered(&error).map(|revision| revision.version().to_string())
        };
        assert_eq!(asked(json!(["2025-06-18"])).as_deref(), Some("2025-06-18"));
        assert_eq!(asked(json!(["2024-11-05", "2025-03-26", "2026-07-28"])).as_deref(), Some("2025-03-26"));
        assert_eq!(asked(json!(["2024-11-05"])).as_deref(), Some("2024-11-05"));
        assert_eq!(asked(json!(["2026-07-28"])).as_deref(), Some("2026-07-28"));
        assert_eq!(asked(json!(["2031-01-01"])), None);
        assert_eq!(asked(json!(null)), None);
    }

    #[test]
    fn a_server_describes_itself() {
        let result = raw(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}},
            "instructions": "Ask.", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "a"}}}));
        let Discovery::Modern(server) = discovered(&Ok(result)) else { panic!("not modern") };
        assert!(server.declares("prompts") && !server.declares("resources"));
        assert_eq!(server.instructions.as_deref(), Some("Ask."));
        assert_eq!(server.info.unwrap().get(), r#"{"name":"a"}"#);
        let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "b"}});
        let (revision, server) = initialized(&raw(&result)).unwrap();
        assert_eq!((revision.version(), server.info.unwrap().get()), ("2025-06-18", r#"{"name":"b"}"#));
    }

    #[test]
    fn declarations_are_readable_for_clients() {
        let capabilities = json!({"prompts": {"listChanged": null}, "resources": {"subscribe": "yes"},
            "completions": true, "logging": {"x": 1}, "tools": null});
        let server = ServerDescription { capabilities: Some(raw(&capabilities)), ..ServerDescription::default() };
        let declared = |name| server.declared(name);
        for name in ["prompts", "resources", "completions"] {
            assert_eq!(declared(name).as_deref(), Some("{}"), "{name}");
        }
        assert_eq!(declared("logging").as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(declared("tools"), None);
    }

    #[test]
    fn invalid_initialize_results_have_a_reason() {
        let why = |result: serde_json::Value| initialized(&raw(&result)).unwrap_err();
        assert_eq!(why(json!({})), "its result has no protocolVersion");
        assert_eq!(why(json!({"protocolVersion": 1})), "its protocolVersion is a number, not a string");
        let ours = "2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05";
        let expected = format!("it supports 2099-01-01; supported here are {ours}");
        assert_eq!(why(json!({"protocolVersion": "2099-01-01"})), expected);
        assert!(why(json!({"protocolVersion": "2026-07-28"})).starts_with("it supports 2026-07-28"));
        assert!(unknown(&[]).starts_with("it supports no revision that it names;"));
    }

    #[test]
    fn long_texts_are_cut_off() {
        let long = "ü".repeat(MAX_DESCRIPTION_BYTES);
        let result = json!({"protocolVersion": "2025-06-18", "instructions": long,
            "capabilities": {"prompts": {}, "experimental": {"x": long}},
            "serverInfo": {"name": "b", "version": "1", "icons": [{"src": long}]}});
        let (_, server) = initialized(&raw(&result)).unwrap();
        assert_eq!(server.info.as_ref().unwrap().get(), r#"{"name":"b","version":"1"}"#);
        assert!(server.declares("prompts") && !server.declares("experimental"));
        let instructions = server.instructions.unwrap();
        assert!(instructions.len() <= MAX_DESCRIPTION_BYTES && instructions.ends_with('…'));
    }
}
