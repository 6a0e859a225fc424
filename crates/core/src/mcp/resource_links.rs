//! Rewrites the resources that a service names in its results to their names at `/mcp`, so that links can be read
//! there. At the service's own endpoint everything stays as it came.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::app_uris::{self, Apps};
use crate::base::service_id::ServiceId;
use crate::services::tool_apps;

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// One service's names among others.
pub struct Links<'a> {
    pub service: &'a ServiceId,
    pub apps: &'a Apps<'a>,
    /// The service's own name of the requested item, and the name it was requested by, which is also its name in the
    /// response.
    pub asked: Option<(&'a str, &'a str)>,
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(raw.get()).ok()
}

fn raw(value: &impl serde::Serialize) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}

/// Whether a result may name a resource; a quick test without parsing.
pub fn may_link(result: &str) -> bool {
    ["resource", "uri", "openai/outputTemplate"].into_iter().any(|word| result.contains(word))
}

impl Links<'_> {
    fn uri(&self, own: &str) -> String {
        let asked = self.asked.filter(|(asked, _)| *asked == own);
        asked.map_or_else(|| self.apps.uri(self.service, own, false), |(_, name)| name.into())
    }

    /// The result of a tool, a prompt or a resource. Without resources it stays as it is.
    pub fn result<'t>(&self, result: &'t str) -> Cow<'t, str> {
        if !may_link(result) {
            return Cow::Borrowed(result);
        }
        self.linked(result).map_or(Cow::Borrowed(result), Cow::Owned)
    }

    /// The rest of a tool's definition, which may name its app.
    pub fn definition<'t>(&self, rest: &'t str) -> Cow<'t, str> {
        if !tool_apps::may_name_one(rest) {
            return Cow::Borrowed(rest);
        }
        let linked = || {
            let mut members: Members<'_> = serde_json::from_str(rest).ok()?;
            let meta = self.meta(members.get("_meta")?)?;
            members.insert("_meta".into(), &meta);
            serde_json::to_string(&members).ok()
        };
        linked().map_or(Cow::Borrowed(rest), Cow::Owned)
    }

    fn linked(&self, result: &str) -> Option<String> {
        let mut members: Members<'_> = serde_json::from_str(result).ok()?;
        let mut changed = Vec::new();
        for (name, value) in &members {
            let value = match name.as_str() {
                "content" => self.blocks(value),
                "contents" => self.each(value, |contents| self.with_uri(contents)),
                "messages" => self.each(value, |message| self.message(message)),
                "_meta" => self.meta(value),
                _ => None,
            };
            changed.extend(value.map(|value| (name.clone(), value)));
        }
        if changed.is_empty() {
            return None;
        }
        members.extend(changed.iter().map(|(name, value)| (name.clone(), &**value)));
        serde_json::to_string(&members).ok()
    }

    fn meta(&self, meta: &RawValue) -> Option<Box<RawValue>> {
        let readdressed = app_uris::rewrite_meta(meta, |own| self.uri(own))?;
        RawValue::from_string(readdressed).ok()
    }

    /// The items of an array, some of them changed.
    fn each(&self, items: &RawValue, change: impl Fn(&RawValue) -> Option<Box<RawValue>>) -> Option<Box<RawValue>> {
        let items: Vec<&RawValue> = serde_json::from_str(items.get()).ok()?;
        let changed: Vec<Option<Box<RawValue>>> = items.iter().map(|item| change(item)).collect();
        if changed.iter().all(Option::is_none) {
            return None;
        }
        let all: Vec<&RawValue> =
            items.iter().zip(&changed).map(|(item, changed)| changed.as_deref().unwrap_or(item)).collect();
        raw(&all)
    }

    /// An object with a member replaced.
    fn with(object: &RawValue, name: &str, value: &RawValue) -> Option<Box<RawValue>> {
        let mut members: Members<'_> = serde_json::from_str(object.get()).ok()?;
        members.insert(name.into(), value);
        raw(&members)
    }

    /// An object with a `uri`, rewritten.
    fn with_uri(&self, object: &RawValue) -> Option<Box<RawValue>> {
        let members: Members<'_> = serde_json::from_str(object.get()).ok()?;
        let uri = raw(&self.uri(&text(members.get("uri")?)?))?;
        Self::with(object, "uri", &uri)
    }

    /// Content is one block, or several.
    fn blocks(&self, content: &RawValue) -> Option<Box<RawValue>> {
        if content.get().starts_with('[') { self.each(content, |block| self.block(block)) } else { self.block(content) }
    }

    fn block(&self, block: &RawValue) -> Option<Box<RawValue>> {
        // An image may be large.
        if !block.get().contains("resource") {
            return None;
        }
        let members: Members<'_> = serde_json::from_str(block.get()).ok()?;
        match &*text(members.get("type")?)? {
            "resource_link" => self.with_uri(block),
            "resource" => Self::with(block, "resource", &self.with_uri(members.get("resource")?)?),
            _ => None,
        }
    }

    fn message(&self, message: &RawValue) -> Option<Box<RawValue>> {
        let members: Members<'_> = serde_json::from_str(message.get()).ok()?;
        Self::with(message, "content", &self.blocks(members.get("content")?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn linked(result: &Value) -> Value {
        let apps = Apps::default();
        let links = Links { service: &"my_files".into(), apps: &apps, asked: None };
        serde_json::from_str(&links.result(&result.to_string())).unwrap()
    }

    #[test]
    fn links_of_a_tools_result_name_their_service() {
        let result = json!({"content": [
            {"type": "resource_link", "uri": "demo://thing/1", "name": "thing", "_meta": {"x": 1}},
            {"type": "resource", "resource": {"uri": "demo://thing/2", "text": "uri: demo://thing/3"}},
            {"type": "text", "text": "resource demo://thing/4", "uri": "demo://thing/4"},
        ], "structuredContent": {"uri": "demo://thing/5"}, "_meta": {"ui": {"resourceUri": "ui://app/1"}}});
        let expected = json!({"content": [
            {"type": "resource_link", "uri": "my.files+demo://thing/1", "name": "thing", "_meta": {"x": 1}},
            {"type": "resource", "resource": {"uri": "my.files+demo://thing/2", "text": "uri: demo://thing/3"}},
            {"type": "text", "text": "resource demo://thing/4", "uri": "demo://thing/4"},
        ], "structuredContent": {"uri": "demo://thing/5"}, "_meta": {"ui": {"resourceUri": "ui://my.files+app/1"}}});
        assert_eq!(linked(&result), expected);
    }

    #[test]
    fn so_do_those_of_prompts_and_resources() {
        let prompt = json!({"messages": [
            {"role": "user", "content": {"type": "resource", "resource": {"uri": "a:b", "blob": ""}}},
            {"role": "user", "content": [{"type": "resource_link", "uri": "a:c"}]},
            {"role": "user", "content": {"type": "text", "text": "a resource"}},
        ]});
        let messages = linked(&prompt)["messages"].clone();
        assert_eq!(messages[0]["content"]["resource"], json!({"uri": "my.files+a:b", "blob": ""}));
        assert_eq!(messages[1]["content"][0]["uri"], "my.files+a:c");
        assert_eq!(messages[2], prompt["messages"][2]);
        let read = json!({"contents": [{"uri": "a:b", "text": "t"}, {"no": "uri"}], "ttlMs": 5});
        assert_eq!(
            linked(&read),
            json!({"contents": [{"uri": "my.files+a:b", "text": "t"}, {"no": "uri"}], "ttlMs": 5})
        );
    }

    #[test]
    fn results_without_links_stay_byte_for_byte() {
        let apps = Apps::default();
        let links = Links { service: &"a".into(), apps: &apps, asked: None };
        for text in [
            r#"{ "content" : [ {"type":"text","text":"a resource"} ], "n": 1.0 }"#,
            r#"{"content":[{"type":"resource"},{"type":"resource_link","uri":7},7,null]}"#,
            r#"{"content":"resource","messages":7,"contents":[{}],"_meta":[]}"#,
            "[\"resource\"]",
        ] {
            assert!(matches!(links.result(text), Cow::Borrowed(_)), "{text}");
        }
        let rest = r#"{ "title":"resourceUri", "_meta":{"x":{}} }"#;
        assert!(matches!(links.definition(rest), Cow::Borrowed(_)));
        let app = links.definition(r#"{"title":"T","_meta":{"ui":{"resourceUri":"ui://x"}}}"#);
        assert_eq!(app, r#"{"_meta":{"ui":{"resourceUri":"ui://a+x"}},"title":"T"}"#);
    }

    #[test]
    fn the_requested_item_keeps_its_requested_name() {
        let apps = Apps::default();
        let links = Links { service: &"a".into(), apps: &apps, asked: Some(("ui://x", "ui://x")) };
        let read = links.result(r#"{"contents":[{"uri":"ui://x"},{"uri":"ui://y"}]}"#);
        assert_eq!(read, r#"{"contents":[{"uri":"ui://x"},{"uri":"ui://a+y"}]}"#);
    }

    proptest! {
        /// Whatever a service returns, what is forwarded is JSON.
        #[test]
        fn rewritten_results_stay_json(uri in "\\PC{0,20}", kind in "resource(_link)?|text") {
            let result = json!({"content": [{"type": kind, "uri": uri, "resource": {"uri": uri}}]});
            let read = linked(&result);
            prop_assert!(read["content"][0].is_object());
        }
    }
}
