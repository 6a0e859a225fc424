//! The declared capabilities of a client: what it can be asked.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::base::json::Object;
use crate::base::order;

/// The extension for tasks.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// The longest declaration that is stored verbatim, in bytes.
pub const MAX_CAPABILITIES_BYTES: usize = 16 * 1024;

/// The capabilities that matter to the gateway.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// Elicitation by a form.
    pub form: bool,
    /// Elicitation by a page to open.
    pub url: bool,
    /// Sampling by the client's model.
    pub sampling: bool,
    /// The folders it works in.
    pub roots: bool,
    /// It supports tasks; not a request.
    pub tasks: bool,
}

/// Everything that the gateway forwards, declared while there is no caller yet.
pub fn served() -> Option<Box<RawValue>> {
    let all = json!({
        "elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}, "context": {}}, "roots": {},
    });
    serde_json::value::to_raw_value(&all).ok()
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

impl ClientCapabilities {
    /// Reads `ClientCapabilities`.
    pub fn read(capabilities: &RawValue) -> Self {
        let Ok(mut all) = Object::new(capabilities.get(), "#") else { return Self::default() };
        let elicitation =
            all.raw("elicitation").filter(|raw| is_object(raw)).and_then(|raw| Object::new(raw.get(), "#").ok());
        let url = elicitation.as_ref().is_some_and(|kinds| kinds.has("url"));
        // An empty declaration means forms.
        let form = elicitation.as_ref().is_some_and(|kinds| kinds.has("form") || !url);
        let tasks = all
            .raw("extensions")
            .and_then(|extensions| Object::new(extensions.get(), "#").ok()?.raw(TASKS))
            .is_some_and(is_object);
        let mut declares = |name: &str| all.raw(name).is_some_and(is_object);
        Self { form, url, sampling: declares("sampling"), roots: declares("roots"), tasks }
    }

    /// The minimal declaration of these capabilities.
    pub fn declaration(self) -> Option<Box<RawValue>> {
        let mut all = serde_json::Map::new();
        if self.form || self.url {
            let kinds = [("form", self.form), ("url", self.url)].into_iter().filter(|(_, can)| *can);
            let kinds: serde_json::Map<String, Value> =
                order::insert_all(kinds.map(|(kind, _)| (kind.into(), json!({}))));
            all.insert("elicitation".into(), kinds.into());
        }
        for (name, can) in [("sampling", self.sampling), ("roots", self.roots)] {
            if can {
                all.insert(name.into(), json!({}));
            }
        }
        if self.tasks {
            all.insert("extensions".into(), json!({TASKS: {}}));
        }
        serde_json::value::to_raw_value(&all).ok()
    }

    /// The part of a declaration that is stored: all of it, unless it is too long.
    pub fn storable(capabilities: &RawValue) -> Option<Box<RawValue>> {
        match capabilities.get().len() > MAX_CAPABILITIES_BYTES {
            true => Self::read(capabilities).declaration(),
            false => Some(capabilities.to_owned()),
        }
    }

    /// Whether the client can be asked anything.
    pub fn can_be_asked(self) -> bool {
        self.form || self.url || self.sampling || self.roots
    }

    /// What a client would have to declare for these requests but does not; `None` if nothing is missing.
    pub fn missing(self, requests: &BTreeMap<String, &RawValue>) -> Option<Value> {
        let mut missing = serde_json::Map::new();
        for request in requests.values() {
            let mut request = Object::new(request.get(), "#").ok();
            let method = request.as_mut().and_then(|request| request.string("method", 1..=64)).unwrap_or_default();
            let params = request.as_mut().and_then(|request| request.raw("params"));
            let by_url = params
                .and_then(|params| Object::new(params.get(), "#").ok()?.string("mode", 1..=16))
                .is_some_and(|mode| mode == "url");
            let (able, name, needed) = match method.as_str() {
                "elicitation/create" if by_url => (self.url, "elicitation", json!({"url": {}})),
                "elicitation/create" => (self.form, "elicitation", json!({})),
                "sampling/createMessage" => (self.sampling, "sampling", json!({})),
                "roots/list" => (self.roots, "roots", json!({})),
                // No capability makes this a request to a client.
                _ => return Some(json!({})),
            };
            if !able {
                missing.insert(name.into(), needed);
            }
        }
        (!missing.is_empty()).then_some(Value::Object(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able(capabilities: Value) -> ClientCapabilities {
        ClientCapabilities::read(&serde_json::value::to_raw_value(&capabilities).unwrap())
    }

    fn missing(able: ClientCapabilities, requests: &Value) -> Option<Value> {
        let text = requests.to_string();
        able.missing(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_declaration_that_is_too_long_is_remembered_by_what_it_comes_to() {
        let text = "x".repeat(MAX_CAPABILITIES_BYTES);
        let long =
            json!({"elicitation": {"url": {}, "form": {"a": text}}, "roots": {}, "extensions": {TASKS: {}}, "b": text});
        let long = serde_json::value::to_raw_value(&long).unwrap();
        let kept = ClientCapabilities::storable(&long).unwrap();
        assert!(kept.get().len() < 200, "{kept}");
        assert_eq!(ClientCapabilities::read(&kept), ClientCapabilities::read(&long));
        let passed = super::super::client::request::forwarded_capabilities(&long).unwrap();
        assert!(passed.get().len() < 200, "{passed}");
        assert!(
            ClientCapabilities::read(&passed).url
                && ClientCapabilities::read(&passed).form
                && ClientCapabilities::read(&passed).roots
        );
        let short = serde_json::value::to_raw_value(&json!({"roots": {"listChanged": true}})).unwrap();
        assert_eq!(ClientCapabilities::storable(&short).unwrap().get(), short.get());
    }

    #[test]
    fn a_client_can_be_asked_what_it_declares() {
        let none = ClientCapabilities::default();
        assert_eq!(able(json!({})), none);
        assert_eq!(able(json!({"elicitation": null, "sampling": true, "extensions": {TASKS: 1}})), none);
        assert_eq!(able(json!({"elicitation": {}})), ClientCapabilities { form: true, ..none });
        assert_eq!(able(json!({"elicitation": {"url": {}}})), ClientCapabilities { url: true, ..none });
        assert_eq!(
            able(json!({"elicitation": {"url": {}, "form": {}}})),
            ClientCapabilities { url: true, form: true, ..none }
        );
        assert_eq!(
            able(json!({"sampling": {}, "roots": {}})),
            ClientCapabilities { sampling: true, roots: true, ..none }
        );
        assert_eq!(able(json!({"extensions": {TASKS: {}}})), ClientCapabilities { tasks: true, ..none });
        assert!(!able(json!({"extensions": {TASKS: {}}})).can_be_asked() && able(json!({"roots": {}})).can_be_asked());
    }

    #[test]
    fn missing_capabilities_are_named() {
        let form = json!({"method": "elicitation/create", "params": {"message": "Go on?"}});
        let url = json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://a.example"}});
        let (sampling, roots) = (json!({"method": "sampling/createMessage"}), json!({"method": "roots/list"}));
        let all = json!({"a": form, "b": url, "c": sampling, "d": roots});
        let full = ClientCapabilities { form: true, url: true, sampling: true, roots: true, tasks: false };
        assert_eq!(missing(full, &all), None);
        assert_eq!(missing(ClientCapabilities { url: false, ..full }, &all), Some(json!({"elicitation": {"url": {}}})));
        assert_eq!(
            missing(ClientCapabilities { form: false, ..full }, &json!({"a": form})),
            Some(json!({"elicitation": {}}))
        );
        let neither = ClientCapabilities { sampling: false, roots: false, ..full };
        assert_eq!(missing(neither, &all), Some(json!({"sampling": {}, "roots": {}})));
        assert_eq!(missing(full, &json!({"a": {"method": "tools/call"}})), Some(json!({})));
        assert_eq!(missing(full, &json!({"a": 7})), Some(json!({})));
    }
}
