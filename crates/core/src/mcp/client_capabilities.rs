//! What a client can be asked, as it declares it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::base::json::Object;

/// The extension for tasks.
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// The longest declaration that is remembered word for word, in bytes.
pub const MAX_CAPABILITIES_BYTES: usize = 16 * 1024;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Able {
    /// Its user, by a form.
    pub form: bool,
    /// Its user, by a page to open.
    pub url: bool,
    /// Its model.
    pub sampling: bool,
    /// The folders it works in.
    pub roots: bool,
    /// Nothing is asked: it knows tasks.
    pub tasks: bool,
}

/// All that the gateway passes on to whoever calls, as it is declared where nobody has called yet.
pub fn served() -> Option<Box<RawValue>> {
    let all = json!({
        "elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}, "context": {}}, "roots": {},
    });
    serde_json::value::to_raw_value(&all).ok()
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

impl Able {
    /// From `ClientCapabilities`.
    pub fn read(capabilities: &RawValue) -> Self {
        let Ok(mut all) = Object::new(capabilities.get(), "#") else { return Self::default() };
        let elicitation =
            all.raw("elicitation").filter(|raw| is_object(raw)).and_then(|raw| Object::new(raw.get(), "#").ok());
        let url = elicitation.as_ref().is_some_and(|kinds| kinds.has("url"));
        // An empty declaration is one of forms.
        let form = elicitation.as_ref().is_some_and(|kinds| kinds.has("form") || !url);
        let tasks = all
            .raw("extensions")
            .and_then(|extensions| Object::new(extensions.get(), "#").ok()?.raw(TASKS))
            .is_some_and(is_object);
        let mut declares = |name: &str| all.raw(name).is_some_and(is_object);
        Self { form, url, sampling: declares("sampling"), roots: declares("roots"), tasks }
    }

    /// As a client declares it that says no more of it.
    pub fn declared(self) -> Option<Box<RawValue>> {
        let mut all = serde_json::Map::new();
        if self.form || self.url {
            let kinds = [("form", self.form), ("url", self.url)].into_iter().filter(|(_, can)| *can);
            let kinds: serde_json::Map<String, Value> = kinds.map(|(kind, _)| (kind.into(), json!({}))).collect();
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

    /// What is remembered of a declaration: all of it, unless it is too long.
    pub fn remembered(capabilities: &RawValue) -> Option<Box<RawValue>> {
        match capabilities.get().len() > MAX_CAPABILITIES_BYTES {
            true => Self::read(capabilities).declared(),
            false => Some(capabilities.to_owned()),
        }
    }

    /// Whether it can be asked anything at all.
    pub fn is_asked(self) -> bool {
        self.form || self.url || self.sampling || self.roots
    }

    /// What a client would have to declare for these requests and does not; nothing when it declares all.
    pub fn lacks(self, requests: &BTreeMap<String, &RawValue>) -> Option<Value> {
        let mut lacks = serde_json::Map::new();
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
                // Nothing a client could declare makes this a request to it.
                _ => return Some(json!({})),
            };
            if !able {
                lacks.insert(name.into(), needed);
            }
        }
        (!lacks.is_empty()).then_some(Value::Object(lacks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able(capabilities: Value) -> Able {
        Able::read(&serde_json::value::to_raw_value(&capabilities).unwrap())
    }

    fn lacks(able: Able, requests: &Value) -> Option<Value> {
        let text = requests.to_string();
        able.lacks(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_declaration_that_is_too_long_is_remembered_by_what_it_comes_to() {
        let text = "x".repeat(MAX_CAPABILITIES_BYTES);
        let long =
            json!({"elicitation": {"url": {}, "form": {"a": text}}, "roots": {}, "extensions": {TASKS: {}}, "b": text});
        let long = serde_json::value::to_raw_value(&long).unwrap();
        let kept = Able::remembered(&long).unwrap();
        assert!(kept.get().len() < 200, "{kept}");
        assert_eq!(Able::read(&kept), Able::read(&long));
        let passed = super::super::client::request::passed_on(&long).unwrap();
        assert!(passed.get().len() < 200, "{passed}");
        assert!(Able::read(&passed).url && Able::read(&passed).form && Able::read(&passed).roots);
        let short = serde_json::value::to_raw_value(&json!({"roots": {"listChanged": true}})).unwrap();
        assert_eq!(Able::remembered(&short).unwrap().get(), short.get());
    }

    #[test]
    fn a_client_can_be_asked_what_it_declares() {
        let none = Able::default();
        assert_eq!(able(json!({})), none);
        assert_eq!(able(json!({"elicitation": null, "sampling": true, "extensions": {TASKS: 1}})), none);
        assert_eq!(able(json!({"elicitation": {}})), Able { form: true, ..none });
        assert_eq!(able(json!({"elicitation": {"url": {}}})), Able { url: true, ..none });
        assert_eq!(able(json!({"elicitation": {"url": {}, "form": {}}})), Able { url: true, form: true, ..none });
        assert_eq!(able(json!({"sampling": {}, "roots": {}})), Able { sampling: true, roots: true, ..none });
        assert_eq!(able(json!({"extensions": {TASKS: {}}})), Able { tasks: true, ..none });
        assert!(!able(json!({"extensions": {TASKS: {}}})).is_asked() && able(json!({"roots": {}})).is_asked());
    }

    #[test]
    fn what_it_lacks_is_named() {
        let form = json!({"method": "elicitation/create", "params": {"message": "Go on?"}});
        let url = json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://a.example"}});
        let (sampling, roots) = (json!({"method": "sampling/createMessage"}), json!({"method": "roots/list"}));
        let all = json!({"a": form, "b": url, "c": sampling, "d": roots});
        let full = Able { form: true, url: true, sampling: true, roots: true, tasks: false };
        assert_eq!(lacks(full, &all), None);
        assert_eq!(lacks(Able { url: false, ..full }, &all), Some(json!({"elicitation": {"url": {}}})));
        assert_eq!(lacks(Able { form: false, ..full }, &json!({"a": form})), Some(json!({"elicitation": {}})));
        let neither = Able { sampling: false, roots: false, ..full };
        assert_eq!(lacks(neither, &all), Some(json!({"sampling": {}, "roots": {}})));
        assert_eq!(lacks(full, &json!({"a": {"method": "tools/call"}})), Some(json!({})));
        assert_eq!(lacks(full, &json!({"a": 7})), Some(json!({})));
    }
}
