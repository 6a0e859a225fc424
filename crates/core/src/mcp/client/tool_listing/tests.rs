use super::*;
use serde_json::{Value, json};

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

fn listing() -> Listing {
    Listing::new("2026-07-28".into(), ServerDescription::default(), 60)
}

fn read(tools: &[Value]) -> ToolsRead {
    let mut listing = listing();
    assert_eq!(listing.take(&raw(&json!({"tools": tools}))), Ok(None));
    listing.finish(None).unwrap()
}

fn names(seen: &ToolsRead) -> Vec<&str> {
    seen.tools.iter().map(|tool| tool.capability.name.as_str()).collect()
}

fn left_out(seen: &ToolsRead) -> Vec<(&str, &str)> {
    seen.left_out.iter().map(|tool| (tool.name.as_str(), tool.reason.as_str())).collect()
}

#[test]
fn a_tool_is_a_capability_with_its_complete_definition() {
    let input = r#"{ "type":"object","properties":{"a":{"const":1.0}} }"#;
    let page = format!(
        r#"{{"tools":[{{"name":"echo","title":"Echo","description":"Says it.","inputSchema":{input},
            "annotations":{{"readOnlyHint":true}},"icons":[],"_meta":{{"x":1}},"outputSchema":{{"type":"object"}}}}],"nextCursor":"b"}}"#
    );
    let mut listing = Listing::new(String::new(), ServerDescription::default(), 300);
    let page = RawValue::from_string(page).unwrap();
    assert_eq!(listing.take(&page), Ok(Some("b".into())));
    let seen = listing.finish(None).unwrap();
    let [OfferedTool { capability, digest }] = seen.tools.as_slice() else { panic!("one tool") };
    assert_eq!(capability.input_schema.as_ref().unwrap().get(), input);
    assert_eq!((capability.description.as_str(), capability.timeout_seconds), ("Says it.", 300));
    assert!(capability.idempotent && capability.durable && !digest.is_empty());
    let rest: Value = serde_json::from_str(capability.tool.as_ref().unwrap().get()).unwrap();
    assert_eq!(rest, json!({"title": "Echo", "annotations": {"readOnlyHint": true}, "icons": [], "_meta": {"x": 1}}));
}

#[test]
fn invalid_tools_are_left_out_with_a_reason() {
    let marked = json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}});
    let large = json!({"type": "object", "description": "x".repeat(270_000)});
    let seen = read(&[
        tool("a/b"),
        tool("ok"),
        tool("ok"),
        json!({"name": "bare"}),
        json!({"name": "null", "inputSchema": null}),
        json!({"name": "marked", "inputSchema": marked}),
        json!({"name": "large", "inputSchema": large}),
        json!({"name": "either", "inputSchema": {"type": ["object", "null"], "properties": {}}}),
        json!({"name": 7, "inputSchema": {"type": "object"}}),
        json!(7),
        tool(&"n".repeat(129)),
    ]);
    assert_eq!(names(&seen), ["ok"]);
    let name = "has an invalid name: a name has 1 to 128 letters, digits, _, - or .";
    let long = "n".repeat(128);
    let expected = [
        ("a/b", name),
        ("ok", "is listed twice"),
        ("bare", "has no inputSchema"),
        ("null", "has no inputSchema"),
        ("marked", "has an x-mcp-header where it is not allowed"),
        ("large", "has a schema that is too large"),
        ("either", r#"its inputSchema.type is not "object", as arguments are"#),
        ("", name),
        ("", "is a number, not an object"),
        (long.as_str(), name),
    ];
    assert_eq!(left_out(&seen), expected);
}

#[test]
fn names_that_the_specification_allows_are_taken() {
    let long = "n".repeat(128);
    let all = ["_private", "-dash", ".dot", "..", "A.b-c_9", long.as_str()];
    assert_eq!(names(&read(&all.map(tool))), all);
}

#[test]
fn a_member_that_is_null_is_none_and_is_no_change() {
    let plain = json!({"name": "a", "inputSchema": {"type": "object"}});
    let nulls = json!({"name": "a", "title": null, "description": null, "icons": null, "outputSchema": null,
        "annotations": {"readOnlyHint": null, "title": null}, "execution": {"taskSupport": null}, "_meta": null,
        "inputSchema": {"type": "object", "properties": null, "required": null, "$schema": null}});
    let (plain, nulls) = (read(&[plain]), read(&[nulls]));
    let rest = nulls.tools[0].capability.tool.as_ref().unwrap();
    assert_eq!(serde_json::from_str::<Value>(rest.get()).unwrap(), json!({"annotations": {}, "execution": {}}));
    assert_eq!(
        nulls.tools[0].capability.input_schema.as_ref().map(|raw| raw.get()),
        plain.tools[0].capability.input_schema.as_ref().map(|raw| raw.get())
    );
    assert!(nulls.tools[0].capability.output_schema.is_none() && !nulls.tools[0].capability.idempotent);
}

#[test]
fn tools_beyond_the_bound_are_named() {
    let many: Vec<Value> = (0..=MAX_TOOLS).map(|n| tool(&format!("t{n}"))).collect();
    let seen = read(&many);
    assert_eq!(seen.tools.len(), MAX_TOOLS);
    assert_eq!(left_out(&seen), [("t500", "is beyond the 500 tools that one service may have")]);
    let many: Vec<Value> = (0..2 * MAX_TOOLS + 7).map(|n| tool(&format!("t{n}"))).collect();
    let seen = read(&many);
    assert_eq!((seen.tools.len(), seen.left_out.len()), (MAX_TOOLS, MAX_LEFT_OUT + 1));
    assert_eq!(left_out(&seen).last(), Some(&("", "7 more tools are left out")));
    let big = |name: &str| json!({"name": name, "description": "x".repeat(600_000), "inputSchema": {"type": "object"}});
    let seen = read(&[big("a"), big("b"), tool("c")]);
    assert_eq!(names(&seen), ["a", "c"]);
    assert_eq!(seen.left_out[0].name, "b");
}

#[test]
fn a_cursor_is_whatever_text_it_is() {
    let page = |name: &str, cursor: Value| raw(&json!({"tools": [tool(name)], "nextCursor": cursor}));
    let long = "c".repeat(5_000);
    for cursor in ["", "a", long.as_str()] {
        let mut listing = listing();
        assert_eq!(listing.take(&page("one", json!(cursor))), Ok(Some(cursor.into())));
        assert_eq!(listing.take(&page("two", json!(null))), Ok(None));
        assert_eq!(names(&listing.finish(None).unwrap()), ["one", "two"]);
    }
    for (cursor, why) in [
        (json!("c".repeat(40_000)), "its nextCursor has 40000 bytes, and at most 32768 are sent back"),
        (json!(7), "its response to tools/list has a nextCursor that is a number, not a string"),
    ] {
        let mut listing = listing();
        let broken = listing.take(&page("one", cursor)).unwrap_err();
        assert_eq!(broken, why);
        let seen = listing.finish(Some(broken)).unwrap();
        assert!(seen.unread.as_deref().unwrap().starts_with(why));
        assert_eq!(names(&seen), ["one"]);
    }
}

#[test]
fn a_list_that_repeats_itself_ends() {
    let page = |cursor: &str| raw(&json!({"tools": [tool("one")], "nextCursor": cursor}));
    // Servers that begin again at an empty cursor mean it as the end.
    let mut listing = listing();
    assert_eq!(listing.take(&page("")), Ok(Some(String::new())));
    assert_eq!(listing.take(&page("")), Ok(None));
    let seen = listing.finish(None).unwrap();
    assert!(names(&seen) == ["one"] && seen.left_out.is_empty() && seen.unread.is_none());
    let mut listing = super::tests::listing();
    assert!(listing.take(&page("a")).is_ok());
    assert_eq!(
        listing.take(&page("a")).unwrap_err(),
        "its list of tools does not end: it returned the same page again"
    );
}

#[test]
fn invalid_lists_have_a_reason() {
    let why = |page: Value| {
        let mut listing = listing();
        let why = listing.take(&raw(&page)).unwrap_err();
        assert_eq!(listing.finish(Some(why.clone())).unwrap_err(), why);
        why
    };
    assert_eq!(why(json!({})), "its response to tools/list is not a list of tools: tools is missing");
    let wrong = "its response to tools/list is not a list of tools: tools is an object, not an array";
    assert_eq!(why(json!({"tools": {}})), wrong);
    // Some languages write an empty list as `null`.
    assert_eq!(listing().take(&raw(&json!({"tools": null}))), Ok(None));
}
