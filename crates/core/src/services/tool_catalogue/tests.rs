use super::*;
use crate::mcp::client::tool_listing::Listing;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_000);

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn tool(name: &str, description: &str) -> Value {
    json!({"name": name, "description": description, "inputSchema": {"type": "object"}})
}

fn read(tools: &[Value], broken: Option<&str>) -> ToolsRead {
    let mut listing = Listing::new("2026-07-28".into(), ServerDescription::default(), 60);
    listing.take(&raw(&json!({"tools": tools}))).unwrap();
    listing.finish(broken.map(Into::into)).unwrap()
}

fn seen(tools: &[Value]) -> ToolsRead {
    read(tools, None)
}

fn first(tools: &[Value]) -> CatalogueUpdate {
    Catalogue::default().update(&[], seen(tools), false, NOW).unwrap()
}

fn names(capabilities: &[Capability]) -> Vec<&str> {
    capabilities.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn the_first_list_is_taken_and_the_same_list_changes_nothing() {
    let CatalogueUpdate { catalogue, offered, changes } = first(&[tool("a", ""), tool("b", "")]);
    assert_eq!((names(&offered), changes.len()), (vec!["a", "b"], 0));
    assert!(catalogue.update(&offered, seen(&[tool("a", ""), tool("b", "")]), true, NOW).is_none());
}

#[test]
fn a_changed_tool_is_published_and_served() {
    let CatalogueUpdate { catalogue, offered, .. } = first(&[tool("a", ""), tool("b", "")]);
    let next = catalogue.update(&offered, seen(&[tool("a", "other"), tool("c", "")]), false, NOW).unwrap();
    let changes: Vec<_> = next.changes.iter().map(|one| (one.tool.as_str(), one.change, one.held)).collect();
    assert_eq!(changes, [("a", Change::Changed, false), ("c", Change::Added, false), ("b", Change::Removed, false)]);
    assert_eq!(names(&next.offered), ["a", "c"]);
    assert_eq!(next.offered[0].description, "other");
}

#[test]
fn a_changed_tool_is_held_back_until_it_is_accept() {
    let CatalogueUpdate { catalogue, offered, .. } = first(&[tool("a", ""), tool("b", "")]);
    let list = [tool("a", "other"), tool("b", ""), tool("c", "")];
    let held = catalogue.update(&offered, seen(&list), true, NOW).unwrap();
    assert_eq!(names(&held.offered), ["b"]);
    assert!(held.changes.iter().all(|change| change.held) && held.changes.len() == 2);
    // Read again, it is reported only once.
    assert!(held.catalogue.update(&held.offered, seen(&list), true, NOW).is_none());
    assert!(held.catalogue.accept(&held.offered, Some(&["x".into()]), NOW).is_none());
    let one = held.catalogue.accept(&held.offered, Some(&["a".into()]), NOW).unwrap();
    assert_eq!(names(&one.offered), ["b", "a"]);
    let all = one.catalogue.accept(&one.offered, None, NOW).unwrap();
    assert_eq!(names(&all.offered), ["b", "a", "c"]);
    // A tool that changes back has its accepted definition again.
    let back = held.catalogue.update(&held.offered, seen(&[tool("a", ""), tool("b", "")]), true, NOW).unwrap();
    assert_eq!((names(&back.offered), back.catalogue.held.len()), (vec!["a", "b"], 0));
}

#[test]
fn a_failed_read_changes_nothing_and_is_reported_once() {
    let CatalogueUpdate { catalogue, offered, .. } = first(&[tool("a", "")]);
    let unread = catalogue.record_failure("it is away", NOW).unwrap();
    assert_eq!((unread.pins.len(), unread.error.as_deref()), (1, Some("it is away")));
    assert!(unread.record_failure("it is away", NOW).is_none());
    let back = unread.update(&offered, seen(&[tool("a", "")]), true, NOW).unwrap();
    assert_eq!((back.catalogue.error, back.changes.len()), (None, 0));
}

#[test]
fn unread_tools_stay_as_they_are() {
    let all = [tool("a", ""), tool("b", ""), tool("c", "")];
    for holds in [false, true] {
        let CatalogueUpdate { catalogue, offered, .. } = first(&all);
        let part = catalogue.update(&offered, read(&[tool("b", "other")], Some("it broke")), holds, NOW).unwrap();
        let changes: Vec<_> = part.changes.iter().map(|one| (one.tool.as_str(), one.change)).collect();
        assert_eq!(changes, [("b", Change::Changed)]);
        assert!(part.catalogue.error.as_deref().unwrap().starts_with("it broke"));
        let expected = if holds { vec!["a", "c"] } else { vec!["b", "a", "c"] };
        assert_eq!((names(&part.offered), part.catalogue.pins.len()), (expected, 3));
        // A known change is not reported again.
        let again = read(&[tool("b", "other")], Some("it broke"));
        assert!(part.catalogue.update(&part.offered, again, holds, NOW).is_none_or(|next| next.changes.is_empty()));
        let whole = part.catalogue.update(&part.offered, seen(&all), holds, NOW).unwrap();
        assert_eq!((whole.catalogue.error, names(&whole.offered)), (None, vec!["a", "b", "c"]));
    }
}

#[test]
fn the_rest_of_the_first_list_is_not_held() {
    let part = read(&[tool("a", "")], Some("it broke"));
    let first = Catalogue::default().update(&[], part, true, NOW).unwrap();
    assert_eq!((names(&first.offered), first.catalogue.first_unfinished), (vec!["a"], true));
    let whole = seen(&[tool("a", "other"), tool("b", "")]);
    let next = first.catalogue.update(&first.offered, whole, true, NOW).unwrap();
    assert_eq!((names(&next.offered), next.catalogue.held.len()), (vec!["b"], 1));
    assert!(!next.catalogue.first_unfinished);
    let new = seen(&[tool("a", "other"), tool("b", ""), tool("c", "")]);
    let later = next.catalogue.update(&next.offered, new, true, NOW).unwrap();
    assert_eq!((names(&later.offered), later.catalogue.held.len()), (vec!["b"], 2));
}

#[test]
fn definitions_read_by_an_earlier_version_are_read_again() {
    let CatalogueUpdate { catalogue, offered, .. } = first(&[tool("a", "")]);
    let mut before = offered.clone();
    before[0].tool = Some(raw(&json!({"annotations": {"readOnlyHint": null}})));
    let next = catalogue.update(&before, seen(&[tool("a", "")]), true, NOW).unwrap();
    assert!(next.changes.is_empty() && next.offered[0].tool.is_none());
}

proptest! {
    /// Offered and held tools together are those that the upstream lists; none is both.
    #[test]
    fn every_tool_is_offered_or_held(lists in prop::collection::vec(prop::collection::btree_map(0u8..5, 0u8..3, 0..5), 1..6), holds: bool) {
        let (mut catalogue, mut offered) = (Catalogue::default(), Vec::new());
        for list in lists {
            let tools: Vec<Value> = list.iter().map(|(name, text)| tool(&format!("t{name}"), &text.to_string())).collect();
            if let Some(next) = catalogue.update(&offered, seen(&tools), holds, NOW) {
                (catalogue, offered) = (next.catalogue, next.offered);
            }
            let mut all: Vec<String> = offered.iter().map(|one| one.name.clone()).collect();
            all.extend(catalogue.held.iter().map(|held| held.capability.name.clone()));
            all.sort();
            let expected: Vec<String> = list.keys().map(|name| format!("t{name}")).collect();
            prop_assert_eq!(all, expected);
            prop_assert!(holds || catalogue.held.is_empty());
            if let Some(next) = catalogue.accept(&offered, None, NOW) {
                prop_assert!(next.catalogue.held.is_empty());
            }
        }
    }
}
