//! Capabilities as tools: their definitions, and the results of upstream tools. At `/mcp/{service}` a tool has the
//! service's own name for it, at `/mcp` a name that identifies the service ([`super::names`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::resource_links::Links;
use super::responses::{complete, quoted};
use super::schema_root::with_objects;
use crate::base::json::{Object, members, object};
use crate::services::capability::{Capability, TaskSupport};

/// The type at the root of a schema: none, an object, an object among others, or something else.
enum Root {
    Open,
    Object,
    Among,
    Other,
}

fn root(schema: &RawValue) -> Root {
    let Ok(mut members) = Object::new(schema.get(), "#") else {
        // `true` and `false`.
        return if schema.get() == "true" { Root::Open } else { Root::Other };
    };
    match members.raw_or_null("type").map(RawValue::get) {
        None => Root::Open,
        Some(r#""object""#) => Root::Object,
        Some(types) => {
            let types = serde_json::from_str::<Vec<&RawValue>>(types).unwrap_or_default();
            if types.iter().any(|one| one.get() == r#""object""#) { Root::Among } else { Root::Other }
        }
    }
}

/// The input schema as listed: with an object at its root, since arguments are an object. `None` if no arguments could
/// match.
fn input(schema: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let Some(schema) = schema else { return Some(Cow::Borrowed(r#"{"type":"object"}"#)) };
    match root(schema) {
        Root::Object => Some(Cow::Borrowed(schema.get())),
        Root::Open => {
            let rest = schema.get().strip_prefix('{').unwrap_or("}").trim_ascii_start();
            let comma = if rest.starts_with('}') { "" } else { "," };
            Some(Cow::Owned(format!(r#"{{"type":"object"{comma}{rest}"#)))
        }
        Root::Among => {
            let members = members(schema.get())?.into_iter().map(|(name, value)| {
                let value = if name == "type" { r#""object""# } else { value.get() };
                (name, Cow::Borrowed(value))
            });
            Some(Cow::Owned(object(&members.collect::<Vec<_>>())))
        }
        Root::Other => None,
    }
}

/// The other members of a definition, each preceded by a comma. Tasks are the gateway's own, so the definition's member
/// for them is left out.
fn other_members(rest: &str) -> String {
    let all: BTreeMap<String, &RawValue> = serde_json::from_str(rest).unwrap_or_default();
    let shown = all.iter().filter(|(name, _)| *name != "execution");
    shown.map(|(name, value)| format!(",{}:{}", quoted(name), value.get())).collect()
}

/// Writes a tool as listed; `None` if the capability cannot be a tool. Schemas stay as registered. In the legacy
/// revisions only object results have an output schema. `links` is set in a list of several services. `tasks`: the task
/// support of its calls.
pub fn definition(
    name: &str,
    capability: &Capability,
    tasks: TaskSupport,
    legacy: bool,
    links: Option<&Links<'_>>,
) -> Option<String> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let input = input(capability.input_schema.as_deref())?;
    let shown = |schema: &'_ str| if legacy { with_objects(schema) } else { None };
    let mut text = format!(r#"{{"name":{}"#, quoted(name));
    if !capability.description.is_empty() {
        text.push_str(r#","description":"#);
        text.push_str(&quoted(&capability.description));
    }
    text.push_str(r#","inputSchema":"#);
    text.push_str(shown(&input).as_deref().unwrap_or(&input));
    let output = capability.output_schema.as_deref().filter(|schema| match root(schema) {
        Root::Object => true,
        Root::Open | Root::Among | Root::Other => !legacy && schema.get().starts_with('{'),
    });
    if let Some(output) = output {
        text.push_str(r#","outputSchema":"#);
        text.push_str(shown(output.get()).as_deref().unwrap_or(output.get()));
    }
    match capability.tool_definition() {
        Some(rest) => {
            let rest = links.map_or(Cow::Borrowed(rest.get()), |links| links.definition(rest.get()));
            text.push_str(&other_members(&rest));
        }
        None if capability.idempotent => text.push_str(r#","annotations":{"idempotentHint":true}"#),
        None => {}
    }
    if legacy {
        text.push_str(&format!(r#","execution":{{"taskSupport":"{}"}}"#, tasks.as_str()));
    }
    text.push('}');
    Some(text)
}

/// The result of an upstream tool, unchanged but for the form of the client's revision and the context's id.
pub fn forwarded_result(legacy: bool, result: &str, context: &str) -> String {
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(result) else {
        return complete(legacy, &[r#""content":[]"#], Some(context));
    };
    let meta = members.remove("_meta");
    if legacy && members.get("structuredContent").is_some_and(|value| !value.get().starts_with('{')) {
        // Only an object is allowed there; the content has the value too.
        members.remove("structuredContent");
    }
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.get())).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let plain = complete(legacy, &members, Some(context));
    // The gateway adds its own metadata; the upstream's stays beside it.
    let own = complete(legacy, &[], Some(context));
    let said = || {
        let mut meta: BTreeMap<String, &RawValue> = serde_json::from_str(meta?.get()).ok()?;
        let own: BTreeMap<&str, &RawValue> = serde_json::from_str(&own).ok()?;
        meta.extend(serde_json::from_str::<BTreeMap<String, &RawValue>>(own.get("_meta")?.get()).ok()?);
        with_meta(&plain, &serde_json::to_string(&meta).ok()?)
    };
    said().unwrap_or(plain)
}

/// A result with another `_meta`.
fn with_meta(result: &str, meta: &str) -> Option<String> {
    let meta = RawValue::from_string(meta.into()).ok()?;
    let mut members = serde_json::from_str::<BTreeMap<String, &RawValue>>(result).ok()?;
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn capability(more: Value) -> Capability {
        let mut document = json!({"name": "echo", "version": "1.0.0", "idempotent": false, "durable": true,
            "timeout_seconds": 60, "permissions": []});
        for (name, value) in more.as_object().unwrap() {
            document[name] = value.clone();
        }
        serde_json::from_str(&document.to_string()).unwrap()
    }

    fn shown(more: Value, legacy: bool) -> Option<Value> {
        definition("echo", &capability(more), TaskSupport::Optional, legacy, None)
            .map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn omitted_members_are_not_shown() {
        assert_eq!(shown(json!({}), false), Some(json!({"name": "echo", "inputSchema": {"type": "object"}})));
        let full = json!({"description": "Says \"it\" again", "idempotent": true,
            "input_schema": {"type": "object", "x-unknown": 1}, "output_schema": {"type": "object"}});
        let expected = json!({"name": "echo", "description": "Says \"it\" again", "inputSchema": {"type": "object", "x-unknown": 1},
            "outputSchema": {"type": "object"}, "annotations": {"idempotentHint": true}, "execution": {"taskSupport": "optional"}});
        assert_eq!(shown(full, true), Some(expected));
    }

    #[test]
    fn arguments_are_an_object_whatever_the_schema_leaves_open() {
        let with =
            |schema: Value| shown(json!({"input_schema": schema}), false).map(|tool| tool["inputSchema"].clone());
        assert_eq!(with(json!({"required": ["a"]})), Some(json!({"type": "object", "required": ["a"]})));
        assert_eq!(with(json!({})), Some(json!({"type": "object"})));
        assert_eq!(with(json!(true)), Some(json!({"type": "object"})));
        let among = json!({"properties": {"a": {}}, "type": ["object", "null"]});
        assert_eq!(with(among), Some(json!({"properties": {"a": {}}, "type": "object"})));
        assert_eq!(with(json!({"type": "string"})), None);
        assert_eq!(with(json!({"type": ["string", "null"]})), None);
        assert_eq!(with(json!(false)), None);
    }

    #[test]
    fn legacy_revisions_have_object_results_only() {
        let with = |schema: Value, legacy| {
            shown(json!({"output_schema": schema}), legacy).unwrap().get("outputSchema").cloned()
        };
        assert_eq!(with(json!({"type": "array"}), false), Some(json!({"type": "array"})));
        assert_eq!(with(json!({"type": "array"}), true), None);
        assert_eq!(with(json!({"minimum": 1}), true), None);
        assert_eq!(with(json!(true), false), None);
    }

    /// Clients of 2025 reject a whole list because of a property whose schema is `true` or `false`.
    #[test]
    fn boolean_schemas_are_objects_in_legacy_revisions() {
        let schema = json!({"type": "object", "properties": {"b": true, "a": {"not": true}, "c": false}});
        let objects = json!({"type": "object", "properties": {"b": {}, "a": {"not": true}, "c": {"not": {}}}});
        for member in ["input_schema", "output_schema"] {
            let with = |legacy| shown(json!({member: schema.clone()}), legacy).unwrap();
            let name = if member == "input_schema" { "inputSchema" } else { "outputSchema" };
            assert_eq!((&with(false)[name], &with(true)[name]), (&schema, &objects));
        }
    }

    #[test]
    fn a_schema_stays_byte_for_byte() {
        let text = r#"{ "type" : "object","$defs":{"a":{"const":1.0}} , "properties":{}}"#;
        let document = format!(
            r#"{{"name":"a","version":"1.0.0","idempotent":false,"durable":true,"timeout_seconds":1,"permissions":[],"input_schema":{text}}}"#
        );
        let tool =
            definition("a", &serde_json::from_str(&document).unwrap(), TaskSupport::Optional, false, None).unwrap();
        assert!(tool.contains(text), "{tool}");
    }

    #[test]
    fn an_upstream_tools_definition_is_shown_verbatim() {
        let rest = json!({"title": "Echo", "annotations": {"readOnlyHint": true}, "_meta": {"x": {}}});
        let tool = shown(json!({"tool": rest, "idempotent": true, "input_schema": {"type": "object"}}), true).unwrap();
        let expected = json!({"name": "echo", "inputSchema": {"type": "object"}, "title": "Echo",
            "annotations": {"readOnlyHint": true}, "_meta": {"x": {}}, "execution": {"taskSupport": "optional"}});
        assert_eq!(tool, expected);
    }

    #[test]
    fn an_upstream_tools_result_is_forwarded_unchanged() {
        let result = json!({"content": [{"type": "image"}], "isError": true, "structuredContent": [1],
            "_meta": {"x": 1, "io.modelcontextprotocol/serverInfo": {"name": "up"}}});
        let modern: Value = serde_json::from_str(&forwarded_result(false, &result.to_string(), "ctx_1")).unwrap();
        assert_eq!((&modern["content"], &modern["isError"]), (&result["content"], &json!(true)));
        assert_eq!((&modern["structuredContent"], &modern["resultType"]), (&json!([1]), &json!("complete")));
        assert_eq!((&modern["_meta"]["x"], &modern["_meta"]["narthex/context"]), (&json!(1), &json!("ctx_1")));
        assert_eq!(modern["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], json!("narthex"));
        let legacy: Value = serde_json::from_str(&forwarded_result(true, &result.to_string(), "ctx_1")).unwrap();
        assert!(legacy.get("structuredContent").is_none() && legacy.get("resultType").is_none());
        let bare = forwarded_result(true, r#"{"content":[]}"#, "ctx_1");
        assert_eq!(bare, r#"{"_meta":{"narthex/context":"ctx_1"},"content":[]}"#);
    }
}
