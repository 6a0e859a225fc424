use super::*;
use serde_json::{Value, json};

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn of(listed: ListedKind, definition: &Value) -> Result<Value, String> {
    let normalized = listed.normalized(&raw(definition)).map(Cow::into_owned);
    normalized.map(|text| serde_json::from_str(&text).unwrap()).map_err(|misfit| misfit.to_string())
}

fn with(base: Value, member: &str, value: Value) -> Value {
    let mut definition = base;
    definition[member] = value;
    definition
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of definitions")]
fn definitions_that_strict_clients_reject_are_misfits() {
    let tool = || json!({"name": "t", "inputSchema": {"type": "object"}});
    let resource = || json!({"uri": "a:b", "name": "b"});
    let template = || json!({"uriTemplate": "a:{b}", "name": "b"});
    let prompt = || json!({"name": "p"});
    for (listed, base, member, value, wrong) in [
        (ListedKind::Tool, tool(), "title", json!(7), "its title is a number, not a string"),
        (ListedKind::Tool, tool(), "description", json!(["a"]), "its description is an array, not a string"),
        (ListedKind::Tool, tool(), "annotations", json!("read"), "its annotations is a string, not an object"),
        (
            ListedKind::Tool,
            tool(),
            "annotations",
            json!({"readOnlyHint": "yes"}),
            "its annotations.readOnlyHint is a string, not true or false",
        ),
        (
            ListedKind::Tool,
            tool(),
            "execution",
            json!({"taskSupport": "sometimes"}),
            "its execution.taskSupport is not one of required, optional, forbidden",
        ),
        (ListedKind::Tool, tool(), "icons", json!({}), "its icons is an object, not an array"),
        (ListedKind::Tool, tool(), "icons", json!([{"src": "a"}, {"src": null}]), "its icons[1] has no src"),
        (
            ListedKind::Tool,
            tool(),
            "icons",
            json!([{"src": "a", "sizes": "48x48"}]),
            "its icons[0].sizes is a string, not an array",
        ),
        (
            ListedKind::Tool,
            tool(),
            "icons",
            json!([{"src": "a", "theme": "blue"}]),
            "its icons[0].theme is not one of light, dark",
        ),
        (ListedKind::Tool, tool(), "icons", json!([null]), "its icons[0] is null, not an object"),
        (ListedKind::Tool, tool(), "_meta", json!([]), "its _meta is an array, not an object"),
        (ListedKind::Tool, tool(), "inputSchema", json!([]), "its inputSchema is an array, not an object"),
        (
            ListedKind::Tool,
            tool(),
            "inputSchema",
            json!({"properties": {"a": 1}}),
            "its inputSchema.properties.a is a number, not a schema",
        ),
        (ListedKind::Tool, tool(), "outputSchema", json!(true), "its outputSchema is a boolean, not an object"),
        (
            ListedKind::Tool,
            tool(),
            "outputSchema",
            json!({"$ref": "#/$defs/x"}),
            "its outputSchema.$ref refers to nothing in this schema",
        ),
        (ListedKind::Resource, resource(), "uri", json!(null), "has no uri"),
        (ListedKind::Resource, resource(), "name", json!(7), "its name is a number, not a string"),
        (ListedKind::Resource, resource(), "size", json!("5 kB"), "its size is a string, not a number"),
        (
            ListedKind::Resource,
            resource(),
            "annotations",
            json!({"audience": ["model"]}),
            "its annotations.audience[0] is not one of user, assistant",
        ),
        (
            ListedKind::Resource,
            resource(),
            "annotations",
            json!({"priority": 5}),
            "its annotations.priority is not a number from 0 to 1",
        ),
        (ListedKind::Template, template(), "uriTemplate", json!(null), "has no uriTemplate"),
        (ListedKind::Template, template(), "mimeType", json!({}), "its mimeType is an object, not a string"),
        (ListedKind::Prompt, prompt(), "name", json!(null), "has no name"),
        (ListedKind::Prompt, prompt(), "arguments", json!({}), "its arguments is an object, not an array"),
        (ListedKind::Prompt, prompt(), "arguments", json!([{"description": "x"}]), "its arguments[0] has no name"),
        (
            ListedKind::Prompt,
            prompt(),
            "arguments",
            json!([{"name": "a", "required": "yes"}]),
            "its arguments[0].required is a string, not true or false",
        ),
    ] {
        let definition = with(base, member, value);
        assert_eq!(of(listed, &definition), Err(wrong.into()), "{definition}");
    }
}

#[test]
fn a_member_that_is_null_is_left_out() {
    let icon = json!([{"src": "a", "mimeType": null, "sizes": null, "theme": null}]);
    let resource = json!({"uri": "a:b", "name": "b", "title": null, "description": null, "mimeType": null, "size": null,
        "annotations": {"audience": null, "priority": null, "lastModified": null}, "icons": icon, "_meta": null});
    let expected = json!({"uri": "a:b", "name": "b", "annotations": {}, "icons": [{"src": "a"}]});
    assert_eq!(of(ListedKind::Resource, &resource), Ok(expected));
    let prompt = json!({"name": "p", "arguments": [{"name": "a", "description": null, "required": null}]});
    assert_eq!(of(ListedKind::Prompt, &prompt), Ok(json!({"name": "p", "arguments": [{"name": "a"}]})));
    let own = json!({"name": "p", "x-own": null, "_meta": {"a": null}});
    assert_eq!(of(ListedKind::Prompt, &own), Ok(own.clone()));
}

#[test]
fn valid_definitions_stay_byte_for_byte() {
    let text = r#"{ "name":"t", "x-own" : [1.0, null], "inputSchema":{ "type":"object", "properties":{"a":{"default":null}}}}"#;
    let definition = RawValue::from_string(text.into()).unwrap();
    assert!(matches!(ListedKind::Tool.normalized(&definition), Ok(Cow::Borrowed(same)) if same == text));
}

#[test]
fn an_invalid_date_is_removed() {
    let dated = |date: &str| json!({"uri": "a:b", "name": "b", "annotations": {"lastModified": date, "priority": 1}});
    for date in ["2025-01-12T15:00:58Z", "2025-01-12T15:00:58.123456+02:00", "2025-01-12T15:00Z"] {
        assert_eq!(of(ListedKind::Resource, &dated(date)), Ok(dated(date)), "{date}");
    }
    let without = json!({"uri": "a:b", "name": "b", "annotations": {"priority": 1}});
    for date in [
        "2025-01-12",
        "2025-01-12T15:00:58",
        "2025-01-12 15:00:58Z",
        "2025-02-30T15:00:58Z",
        "2025-01-12t15:00:58z",
        "yesterday",
        "ü",
    ] {
        assert_eq!(of(ListedKind::Resource, &dated(date)), Ok(without.clone()), "{date}");
    }
}

#[test]
fn a_result_passes_without_what_is_null_and_keeps_the_rest() {
    let tidied = |method: &str, value: &Value| serde_json::from_str::<Value>(&tidy(method, &raw(value))).unwrap();
    let result = json!({"content": [{"type": "text", "text": null, "annotations": null}, {"type": "new", "x": null}, 7],
        "structuredContent": {"a": null}, "isError": "no"});
    let expected = json!({"content": [{"type": "text", "text": null}, {"type": "new", "x": null}, 7],
        "structuredContent": {"a": null}, "isError": "no"});
    assert_eq!(tidied("tools/call", &result), expected);
    let progress = json!({"progressToken": "a", "progress": 1, "total": null, "message": null});
    assert_eq!(tidied("notifications/progress", &progress), json!({"progressToken": "a", "progress": 1}));
    let line = json!({"level": "info", "logger": null, "data": null});
    assert_eq!(tidied("notifications/message", &line), json!({"level": "info", "data": null}));
    let asked = json!({"message": "Who?", "mode": null, "requestedSchema": {"type": "object", "required": null,
        "properties": {"a": {"type": "string", "title": null, "default": null}}}});
    let expected = json!({"message": "Who?", "requestedSchema": {"type": "object",
        "properties": {"a": {"type": "string", "default": null}}}});
    assert_eq!(tidied("elicitation/create", &asked), expected);
    let sampling = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "a", "annotations": null}},
        {"role": "user", "content": [{"type": "text", "text": "b", "_meta": null}]}], "maxTokens": 5, "temperature": null});
    let expected = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "a"}},
        {"role": "user", "content": [{"type": "text", "text": "b"}]}], "maxTokens": 5});
    assert_eq!(tidied("sampling/createMessage", &sampling), expected);
    let plain = raw(&json!({"content": [{"type": "text", "text": "a"}]}));
    assert!(matches!(tidy("tools/call", &plain), Cow::Borrowed(_)));
}

proptest::proptest! {
    #[test]
    fn any_definition_is_normalized_or_rejected(text in "[{}\\[\\]\":,a-z1]{0,40}", name in "name|uri|icons|annotations|inputSchema|_meta") {
        let text = format!(r#"{{"{name}":{text}}}"#);
        if let Ok(definition) = RawValue::from_string(text) {
            for listed in [ListedKind::Tool, ListedKind::Resource, ListedKind::Template, ListedKind::Prompt] {
                if let Ok(normalized) = listed.normalized(&definition) {
                    proptest::prop_assert!(serde_json::from_str::<Value>(&normalized).is_ok());
                }
            }
            for method in ["tools/call", "resources/read", "elicitation/create"] {
                let tidied = tidy(method, &definition);
                proptest::prop_assert!(serde_json::from_str::<Value>(&tidied).is_ok());
            }
        }
    }
}
