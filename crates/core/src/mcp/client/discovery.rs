//! Which era an upstream belongs to, by its answer to `server/discover`, and what it says of itself.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::{LEGACY, MODERN, definitions};
use super::Spoken;
use super::response::{Response, RpcError};
use crate::base::json::{Object, kind};
use crate::calling::response::clean;
use crate::services::tool_catalogue::Server;

/// The largest part of what a server says of itself that is kept, in bytes.
const MAX_SAID_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub enum Discovered {
    Modern(Box<Server>),
    /// It has to be asked by `initialize`: only what a modern server alone would answer says that it is one.
    Legacy,
    /// It speaks nothing that is spoken here, but these.
    Unknown(Vec<String>),
}

/// Errors that only a modern server gives.
pub fn is_modern(error: &RpcError) -> bool {
    matches!(error.code, -32022..=-32020)
}

/// The error that says which versions there are.
const UNSUPPORTED: i64 = -32022;

/// Versions in a text, by their member.
fn versions(text: &str, name: &str) -> Option<Vec<String>> {
    serde_json::from_str(Object::new(text, "#").ok()?.raw(name)?.get()).ok()
}

/// The versions that an error says there are.
fn supported(error: &RpcError) -> Option<Vec<String>> {
    let data = Object::new(error.whole.get(), "#").ok()?.raw("data")?;
    versions(data.get(), "supported")
}

fn by_versions(versions: Vec<String>, server: impl FnOnce() -> Server) -> Discovered {
    if versions.iter().any(|version| version == MODERN) {
        return Discovered::Modern(Box::new(server()));
    }
    match versions.iter().any(|version| Spoken::of(version).is_some()) {
        true => Discovered::Legacy,
        false => Discovered::Unknown(versions),
    }
}

/// Reads the response to `server/discover`.
pub fn discovered(response: &Response) -> Discovered {
    match response {
        Ok(result) => match versions(result.get(), "supportedVersions") {
            Some(versions) => by_versions(versions, || Server::discovered(result)),
            None => Discovered::Legacy,
        },
        Err(error) if error.code == UNSUPPORTED => by_versions(supported(error).unwrap_or_default(), Server::default),
        // It knows what a modern request has to have.
        Err(error) if is_modern(error) => Discovered::Modern(Box::default()),
        Err(_) => Discovered::Legacy,
    }
}

/// The revision to go on in with a server that refused the one it was asked for, where it says which it speaks: the
/// latest legacy one, as `initialize` is what it refused.
pub fn offered(error: &RpcError) -> Option<Spoken> {
    let supported = supported(error)?;
    let known = LEGACY.iter().chain([&MODERN]);
    known.copied().find(|known| supported.iter().any(|version| version == known)).and_then(Spoken::of)
}

/// What a server speaks that nobody here does, as a reason.
pub fn unknown(versions: &[String]) -> String {
    let listed: Vec<String> = versions.iter().take(8).map(|version| clean(version, 32)).collect();
    let theirs = if listed.is_empty() { "no revision that it names".into() } else { listed.join(", ") };
    let ours: Vec<&str> = [MODERN].into_iter().chain(LEGACY).collect();
    format!("it speaks {theirs}; spoken here are {}", ours.join(", "))
}

/// What a server says of itself that is larger is taken by these members alone.
const OF_INFO: [&str; 4] = ["name", "title", "version", "websiteUrl"];
const OF_CAPABILITIES: [&str; 6] = ["tools", "prompts", "resources", "completions", "logging", "tasks"];

fn small(raw: Option<&RawValue>, essential: &[&str]) -> Option<Box<RawValue>> {
    let raw = raw.filter(|raw| raw.get().starts_with('{'))?;
    if raw.get().len() <= MAX_SAID_BYTES {
        return Some(raw.to_owned());
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    let most = MAX_SAID_BYTES / (2 * essential.len());
    members.retain(|name, value| essential.contains(&name.as_str()) && value.get().len() <= most);
    to_raw_value(&members).ok()
}

/// A text that is not longer than what is kept, in bytes: cut where it is.
fn shortened(text: String) -> String {
    if text.len() <= MAX_SAID_BYTES {
        return text;
    }
    let kept = text.get(..text.floor_char_boundary(MAX_SAID_BYTES - '…'.len_utf8())).unwrap_or_default();
    format!("{kept}…")
}

impl Server {
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

    /// What it declares of this, as it said it, as far as clients can read it.
    pub fn declared(&self, name: &str) -> Option<String> {
        let all = self.capabilities.as_ref()?;
        Object::new(all.get(), "#").ok()?.raw(name).map(definitions::declared)
    }

    /// Whether it declares this: `resources`, `prompts`, `completions`, `logging`.
    pub fn declares(&self, name: &str) -> bool {
        let capabilities = self.capabilities.as_ref();
        capabilities.is_some_and(|raw| Object::new(raw.get(), "#").is_ok_and(|all| all.has(name)))
    }
}

/// What `initialize` was answered: the revision it agreed on, and the server; or what is wrong with it.
pub fn initialized(result: &RawValue) -> Result<(Spoken, Server), String> {
    let mut members = Object::new(result.get(), "#").map_err(|_| "its result is not an object".to_string())?;
    let said = members.raw_or_null("protocolVersion").ok_or("its result has no protocolVersion")?;
    let Ok(version) = serde_json::from_str::<String>(said.get()) else {
        return Err(format!("its protocolVersion is {}, not a string", kind(said)));
    };
    let spoken = Spoken::of(&version).filter(|spoken| !spoken.is_modern());
    let spoken = spoken.ok_or_else(|| unknown(std::slice::from_ref(&version)))?;
    Ok((spoken, Server::of(result, |said| small(said.raw("serverInfo"), &OF_INFO))))
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
            Discovered::Modern(_) => "modern",
            Discovered::Legacy => "legacy",
            Discovered::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn only_what_a_modern_server_answers_says_that_it_is_one() {
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
            offered(&error).map(|spoken| spoken.version().to_string())
        };
        assert_eq!(asked(json!(["2025-06-18"])).as_deref(), Some("2025-06-18"));
        assert_eq!(asked(json!(["2024-11-05", "2025-03-26", "2026-07-28"])).as_deref(), Some("2025-03-26"));
        assert_eq!(asked(json!(["2024-11-05"])).as_deref(), Some("2024-11-05"));
        assert_eq!(asked(json!(["2026-07-28"])).as_deref(), Some("2026-07-28"));
        assert_eq!(asked(json!(["2031-01-01"])), None);
        assert_eq!(asked(json!(null)), None);
    }

    #[test]
    fn a_server_says_what_it_has() {
        let result = raw(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}},
            "instructions": "Ask.", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "a"}}}));
        let Discovered::Modern(server) = discovered(&Ok(result)) else { panic!("not modern") };
        assert!(server.declares("prompts") && !server.declares("resources"));
        assert_eq!(server.instructions.as_deref(), Some("Ask."));
        assert_eq!(server.info.unwrap().get(), r#"{"name":"a"}"#);
        let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "b"}});
        let (spoken, server) = initialized(&raw(&result)).unwrap();
        assert_eq!((spoken.version(), server.info.unwrap().get()), ("2025-06-18", r#"{"name":"b"}"#));
    }

    #[test]
    fn what_a_server_declares_is_what_clients_can_read() {
        let capabilities = json!({"prompts": {"listChanged": null}, "resources": {"subscribe": "yes"},
            "completions": true, "logging": {"x": 1}, "tools": null});
        let server = Server { capabilities: Some(raw(&capabilities)), ..Server::default() };
        let declared = |name| server.declared(name);
        for name in ["prompts", "resources", "completions"] {
            assert_eq!(declared(name).as_deref(), Some("{}"), "{name}");
        }
        assert_eq!(declared("logging").as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(declared("tools"), None);
    }

    #[test]
    fn what_initialize_was_answered_wrongly_is_said() {
        let why = |result: serde_json::Value| initialized(&raw(&result)).unwrap_err();
        assert_eq!(why(json!({})), "its result has no protocolVersion");
        assert_eq!(why(json!({"protocolVersion": 1})), "its protocolVersion is a number, not a string");
        let ours = "2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05";
        let expected = format!("it speaks 2099-01-01; spoken here are {ours}");
        assert_eq!(why(json!({"protocolVersion": "2099-01-01"})), expected);
        assert!(why(json!({"protocolVersion": "2026-07-28"})).starts_with("it speaks 2026-07-28"));
        assert!(unknown(&[]).starts_with("it speaks no revision that it names;"));
    }

    #[test]
    fn what_is_too_long_is_cut_and_not_lost() {
        let long = "ü".repeat(MAX_SAID_BYTES);
        let result = json!({"protocolVersion": "2025-06-18", "instructions": long,
            "capabilities": {"prompts": {}, "experimental": {"x": long}},
            "serverInfo": {"name": "b", "version": "1", "icons": [{"src": long}]}});
        let (_, server) = initialized(&raw(&result)).unwrap();
        assert_eq!(server.info.as_ref().unwrap().get(), r#"{"name":"b","version":"1"}"#);
        assert!(server.declares("prompts") && !server.declares("experimental"));
        let instructions = server.instructions.unwrap();
        assert!(instructions.len() <= MAX_SAID_BYTES && instructions.ends_with('…'));
    }
}
