//! What a client can be asked, as it declares it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::json::Object;

/// The extension for tasks.
const TASKS: &str = "io.modelcontextprotocol/tasks";

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
