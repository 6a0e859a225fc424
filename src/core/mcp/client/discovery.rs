//! Which era an upstream belongs to, by its answer to `server/discover`, and what it says of itself.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::super::json::Object;
use super::super::MODERN;
use super::Spoken;
use super::answer::{Response, RpcError};

/// What a server says of itself, bounded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Server {
    /// Its name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Box<RawValue>>,
    /// What it has beside tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
}

/// The largest part of what a server says of itself that is kept, in bytes.
const MAX_SAID_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub enum Discovered {
    Modern(Box<Server>),
    /// It has to be asked by `initialize`.
    Legacy,
    /// It speaks nothing that is spoken here.
    Unknown,
    /// The answer says nothing of eras: it was refused or failed for another reason.
    Failed,
}

/// Errors that only a modern server gives.
pub fn is_modern(error: &RpcError) -> bool {
    matches!(error.code, -32022..=-32020)
}

/// Versions in a text, by their member.
fn versions(text: &str, name: &str) -> Option<Vec<String>> {
    serde_json::from_str(Object::new(text, "#").ok()?.raw(name)?.get()).ok()
}

fn by_versions(versions: &[String], server: impl FnOnce() -> Server) -> Discovered {
    if versions.iter().any(|version| version == MODERN) {
        return Discovered::Modern(Box::new(server()));
    }
    match versions.iter().any(|version| Spoken::of(version).is_some()) {
        true => Discovered::Legacy,
        false => Discovered::Unknown,
    }
}

/// Reads the answer: its status, and the response if there was one.
pub fn discovered(status: u16, response: Option<&Response>) -> Discovered {
    match response {
        Some(Ok(result)) => match versions(result.get(), "supportedVersions") {
            Some(versions) => by_versions(&versions, || Server::discovered(result)),
            None => Discovered::Legacy,
        },
        Some(Err(error)) if is_modern(error) => {
            let data = Object::new(error.whole.get(), "#").ok().and_then(|mut error| error.raw("data"));
            let supported = data.and_then(|data| versions(data.get(), "supported")).unwrap_or_default();
            by_versions(&supported, Server::default)
        }
        _ if matches!(status, 200..=299 | 400 | 404..=406 | 415 | 422) => Discovered::Legacy,
        _ => Discovered::Failed,
    }
}

fn small(raw: Option<&RawValue>) -> Option<Box<RawValue>> {
    raw.filter(|raw| raw.get().starts_with('{') && raw.get().len() <= MAX_SAID_BYTES).map(RawValue::to_owned)
}

impl Server {
    fn of(result: &RawValue, info: impl FnOnce(&mut Object<'_>) -> Option<Box<RawValue>>) -> Self {
        let Ok(mut said) = Object::new(result.get(), "#") else { return Self::default() };
        let instructions = said.string("instructions", 1..=MAX_SAID_BYTES);
        Self { info: info(&mut said), capabilities: small(said.raw("capabilities")), instructions }
    }

    fn discovered(result: &RawValue) -> Self {
        Self::of(result, |said| {
            let meta = said.raw("_meta")?;
            small(Object::new(meta.get(), "#").ok()?.raw("io.modelcontextprotocol/serverInfo"))
        })
    }

    /// What it declares of this, as it said it.
    pub fn declared(&self, name: &str) -> Option<String> {
        let all = self.capabilities.as_ref()?;
        Object::new(all.get(), "#").ok()?.raw(name).map(|raw| raw.get().to_string())
    }

    /// Whether it declares this: `resources`, `prompts`, `completions`, `logging`.
    pub fn declares(&self, name: &str) -> bool {
        let capabilities = self.capabilities.as_ref();
        capabilities.is_some_and(|raw| Object::new(raw.get(), "#").is_ok_and(|all| all.has(name)))
    }
}

/// What `initialize` was answered: the revision it agreed on, and the server. Nothing when nobody here speaks that.
pub fn initialized(result: &RawValue) -> Option<(Spoken, Server)> {
    let version = Object::new(result.get(), "#").ok()?.string("protocolVersion", 1..=64)?;
    let spoken = Spoken::of(&version).filter(|spoken| !spoken.is_modern())?;
    Some((spoken, Server::of(result, |said| small(said.raw("serverInfo")))))
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

    fn word(status: u16, response: Option<&Response>) -> &'static str {
        match discovered(status, response) {
            Discovered::Modern(_) => "modern",
            Discovered::Legacy => "legacy",
            Discovered::Unknown => "unknown",
            Discovered::Failed => "failed",
        }
    }

    #[test]
    fn the_answer_to_discover_tells_the_era() {
        let result = |versions: serde_json::Value| Ok(raw(&json!({"supportedVersions": versions, "capabilities": {}})));
        for (status, response, expected) in [
            (200, Some(result(json!(["2026-07-28"]))), "modern"),
            (200, Some(result(json!(["2025-11-25", "2026-07-28"]))), "modern"),
            (200, Some(result(json!(["2025-11-25"]))), "legacy"),
            (200, Some(result(json!(["2031-01-01"]))), "unknown"),
            (200, Some(Ok(raw(&json!({"tools": []})))), "legacy"),
            (400, Some(error(-32022, json!({"supported": ["2026-07-28"]}))), "modern"),
            (400, Some(error(-32022, json!({"supported": ["2025-11-25"]}))), "legacy"),
            (400, Some(error(-32022, json!({"supported": ["1"]}))), "unknown"),
            (400, Some(error(-32000, json!(null))), "legacy"),
            (200, Some(error(-32601, json!(null))), "legacy"),
            (404, Some(error(-32601, json!(null))), "legacy"),
            (400, None, "legacy"),
            (404, None, "legacy"),
            (405, None, "legacy"),
            (401, None, "failed"),
            (403, None, "failed"),
            (429, None, "failed"),
            (503, None, "failed"),
            (302, None, "failed"),
        ] {
            assert_eq!(word(status, response.as_ref()), expected, "{status} {response:?}");
        }
    }

    #[test]
    fn a_server_says_what_it_has() {
        let result = raw(&json!({"supportedVersions": ["2026-07-28"], "capabilities": {"prompts": {}},
            "instructions": "Ask.", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "a"}}}));
        let Discovered::Modern(server) = discovered(200, Some(&Ok(result))) else { panic!("not modern") };
        assert!(server.declares("prompts") && !server.declares("resources"));
        assert_eq!(server.instructions.as_deref(), Some("Ask."));
        assert_eq!(server.info.unwrap().get(), r#"{"name":"a"}"#);
        let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "b"}});
        let (spoken, server) = initialized(&raw(&result)).unwrap();
        assert_eq!((spoken.version(), server.info.unwrap().get()), ("2025-06-18", r#"{"name":"b"}"#));
        assert!(initialized(&raw(&json!({"protocolVersion": "2026-07-28"}))).is_none());
        assert!(initialized(&raw(&json!({}))).is_none());
    }
}
