use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_000);

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object"}})
}

fn seen(tools: &[Value]) -> Seen {
    let mut seen = Seen { protocol_version: "2026-07-28".into(), ..Seen::default() };
    read_page(&mut seen, &raw(&json!({"tools": tools})), 60).unwrap();
    seen
}

fn first(tools: &[Value]) -> Renewed {
    Catalogue::default().renewed(&[], seen(tools), false, NOW).unwrap()
}

fn names(capabilities: &[Capability]) -> Vec<&str> {
    capabilities.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn a_tool_is_a_capability_and_keeps_all_it_says() {
    let input = r#"{ "type":"object","properties":{"a":{"const":1.0}} }"#;
    let page = format!(
        r#"{{"tools":[{{"name":"echo","title":"Echo","description":"Says it.","inputSchema":{input},
            "annotations":{{"readOnlyHint":true}},"icons":[],"_meta":{{"x":1}},"outputSchema":{{"type":"object"}}}}],"nextCursor":"b"}}"#
    );
    let mut seen = Seen::default();
    let page = RawValue::from_string(page).unwrap();
    assert_eq!(read_page(&mut seen, &page, 300), Ok(Some("b".into())));
    let [Offered { capability, digest }] = seen.tools.as_slice() else { panic!("one tool") };
    assert_eq!(capability.input_schema.as_ref().unwrap().get(), input);
    assert_eq!((capability.description.as_str(), capability.timeout_seconds), ("Says it.", 300));
    assert!(capability.idempotent && capability.durable && !digest.is_empty());
    let rest: Value = serde_json::from_str(capability.tool.as_ref().unwrap().get()).unwrap();
    assert_eq!(rest, json!({"title": "Echo", "annotations": {"readOnlyHint": true}, "icons": [], "_meta": {"x": 1}}));
}

#[test]
fn what_cannot_be_a_capability_is_left_out_and_said() {
    let marked = json!({"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}});
    let seen = seen(&[
        tool("a/b", ""),
        tool("ok", ""),
        tool("ok", "again"),
        json!({"name": "bare"}),
        json!({"name": "marked", "inputSchema": marked}),
        json!(7),
    ]);
    assert_eq!(seen.tools.len(), 1);
    let said: Vec<&str> = seen.left_out.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(said, ["a/b", "ok", "bare", "marked", ""]);
    assert!(read_page(&mut Seen::default(), &raw(&json!({"tools": 7})), 60).is_err());
    let many: Vec<Value> = (0..=MOST_TOOLS).map(|n| tool(&format!("t{n}"), "")).collect();
    assert!(read_page(&mut Seen::default(), &raw(&json!({"tools": many})), 60).is_err());
}

#[test]
fn the_first_list_is_taken_and_the_same_list_changes_nothing() {
    let Renewed { catalogue, offered, changes } = first(&[tool("a", ""), tool("b", "")]);
    assert_eq!((names(&offered), changes.len()), (vec!["a", "b"], 0));
    assert!(catalogue.renewed(&offered, seen(&[tool("a", ""), tool("b", "")]), true, NOW).is_none());
}

#[test]
fn a_changed_tool_is_told_and_served() {
    let Renewed { catalogue, offered, .. } = first(&[tool("a", ""), tool("b", "")]);
    let next = catalogue.renewed(&offered, seen(&[tool("a", "other"), tool("c", "")]), false, NOW).unwrap();
    let told: Vec<_> = next.changes.iter().map(|one| (one.tool.as_str(), one.change, one.held)).collect();
    assert_eq!(told, [("a", Change::Changed, false), ("c", Change::Added, false), ("b", Change::Removed, false)]);
    assert_eq!(names(&next.offered), ["a", "c"]);
    assert_eq!(next.offered[0].description, "other");
}

#[test]
fn a_changed_tool_is_held_back_until_it_is_accepted() {
    let Renewed { catalogue, offered, .. } = first(&[tool("a", ""), tool("b", "")]);
    let list = [tool("a", "other"), tool("b", ""), tool("c", "")];
    let held = catalogue.renewed(&offered, seen(&list), true, NOW).unwrap();
    assert_eq!(names(&held.offered), ["b"]);
    assert!(held.changes.iter().all(|change| change.held) && held.changes.len() == 2);
    // Read again, it is told once only.
    assert!(held.catalogue.renewed(&held.offered, seen(&list), true, NOW).is_none());
    assert!(held.catalogue.accepted(&held.offered, Some(&["x".into()]), NOW).is_none());
    let one = held.catalogue.accepted(&held.offered, Some(&["a".into()]), NOW).unwrap();
    assert_eq!(names(&one.offered), ["b", "a"]);
    let all = one.catalogue.accepted(&one.offered, None, NOW).unwrap();
    assert_eq!(names(&all.offered), ["b", "a", "c"]);
    // One that becomes again what it was is what was accepted.
    let back = held.catalogue.renewed(&held.offered, seen(&[tool("a", ""), tool("b", "")]), true, NOW).unwrap();
    assert_eq!((names(&back.offered), back.catalogue.held.len()), (vec!["a", "b"], 0));
}

#[test]
fn a_list_that_cannot_be_read_changes_nothing_but_is_said_once() {
    let Renewed { catalogue, offered, .. } = first(&[tool("a", "")]);
    let unread = catalogue.unread("it is away", NOW).unwrap();
    assert_eq!((unread.pins.len(), unread.error.as_deref()), (1, Some("it is away")));
    assert!(unread.unread("it is away", NOW).is_none());
    let back = unread.renewed(&offered, seen(&[tool("a", "")]), true, NOW).unwrap();
    assert_eq!((back.catalogue.error, back.changes.len()), (None, 0));
}

#[test]
fn an_older_draft_is_checked_as_far_as_it_can_be() {
    let old = r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","required":["a"]}"#;
    assert!(checkable(old).unwrap().validate(&json!({})).is_err());
    assert!(checkable(r#"{"type":"object","$ref":"https://example.com/a"}"#).is_none());
}

proptest! {
    /// What is offered and what is held are together what the upstream lists; nothing is both.
    #[test]
    fn every_tool_is_offered_or_held(lists in prop::collection::vec(prop::collection::btree_map(0u8..5, 0u8..3, 0..5), 1..6), holds: bool) {
        let (mut catalogue, mut offered) = (Catalogue::default(), Vec::new());
        for list in lists {
            let tools: Vec<Value> = list.iter().map(|(name, text)| tool(&format!("t{name}"), &text.to_string())).collect();
            if let Some(next) = catalogue.renewed(&offered, seen(&tools), holds, NOW) {
                (catalogue, offered) = (next.catalogue, next.offered);
            }
            let mut all: Vec<String> = offered.iter().map(|one| one.name.clone()).collect();
            all.extend(catalogue.held.iter().map(|held| held.capability.name.clone()));
            all.sort();
            let expected: Vec<String> = list.keys().map(|name| format!("t{name}")).collect();
            prop_assert_eq!(all, expected);
            prop_assert!(holds || catalogue.held.is_empty());
            if let Some(next) = catalogue.accepted(&offered, None, NOW) {
                prop_assert!(next.catalogue.held.is_empty());
            }
        }
    }
}
