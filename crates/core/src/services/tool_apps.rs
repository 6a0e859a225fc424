//! The apps (MCP Apps, `ui://…`) that the definition of a tool names.

use serde_json::value::RawValue;

use crate::base::json::Object;

/// Where a tool's `_meta` has the URI of its app: in an object's member, and under older names.
pub const NESTED: (&str, &str) = ("ui", "resourceUri");
pub const FLAT: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// Whether a tool's definition may name an app; a quick test without parsing.
pub fn may_name_one(definition: &str) -> bool {
    definition.contains("resourceUri") || definition.contains("openai/outputTemplate")
}

/// The URIs in a `_meta`.
fn in_meta(meta: &RawValue) -> Vec<String> {
    let Ok(mut meta) = Object::new(meta.get(), "#") else { return Vec::new() };
    let nested = meta.raw(NESTED.0).and_then(|ui| Object::new(ui.get(), "#").ok()?.raw(NESTED.1));
    let flat: Vec<&RawValue> = FLAT.into_iter().filter_map(|name| meta.raw(name)).collect();
    nested.into_iter().chain(flat).filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect()
}

/// The URIs of the apps that a tool's definition names.
pub fn named(definition: &RawValue) -> Vec<String> {
    if !may_name_one(definition.get()) {
        return Vec::new();
    }
    let meta = Object::new(definition.get(), "#").ok().and_then(|mut rest| rest.raw("_meta"));
    meta.map(in_meta).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_uri_of_a_tools_app_is_found_in_all_forms() {
        let of = |meta: serde_json::Value| {
            named(&RawValue::from_string(json!({"title": "T", "_meta": meta}).to_string()).unwrap())
        };
        assert_eq!(of(json!({"ui": {"resourceUri": "ui://a/1"}})), ["ui://a/1"]);
        assert_eq!(of(json!({"ui/resourceUri": "ui://a/2"})), ["ui://a/2"]);
        assert_eq!(of(json!({"openai/outputTemplate": "ui://a/3"})), ["ui://a/3"]);
        assert!(of(json!({"ui": {"resourceUri": 1}, "other": "ui://a/4"})).is_empty());
    }
}
