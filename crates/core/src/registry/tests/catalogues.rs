use super::*;
use crate::registry::messages::{AcceptTools, RenewTools, ToolsReply};
use crate::registry::size::{MAX_DOCUMENT_BYTES, MAX_INDEX_BYTES};
use crate::services::tool_catalogue::ToolsRead;

const URL: &str = "https://mcp.example/mcp";

fn mcp(url: &str, changed_tools: &str) -> Value {
    json!({"name": "Tools", "type": "tool", "transport": {"kind": "mcp", "url": url, "changed_tools": changed_tools}})
}

/// Tools with their digests.
fn tools(each: &[(&str, &str)]) -> ToolsRead {
    let tool = |(name, digest): &(&str, &str)| {
        json!({"digest": digest, "capability": {"name": name, "version": "1.0.0", "idempotent": false,
            "durable": false, "timeout_seconds": 60, "permissions": []}})
    };
    let tools: Vec<Value> = each.iter().map(tool).collect();
    serde_json::from_value(json!({"protocol_version": "2025-11-25", "server": {}, "tools": tools, "left_out": []}))
        .unwrap()
}

fn renew(fixture: &mut Fixture, read: Result<ToolsRead, &str>) -> Result<ToolsReply, WriteError> {
    renew_at(fixture, URL, read)
}

fn renew_at(fixture: &mut Fixture, url: &str, read: Result<ToolsRead, &str>) -> Result<ToolsReply, WriteError> {
    let read = read.map(Box::new).map_err(Into::into);
    let request = RenewTools { id: id("tools"), url: url.into(), read };
    fixture.act(|registry, turn| registry.renew_tools(request, turn))
}

fn accept(fixture: &mut Fixture, names: Option<&[&str]>) -> Result<ToolsReply, WriteError> {
    let names = names.map(|names| names.iter().map(ToString::to_string).collect());
    let request = AcceptTools { id: id("tools"), names };
    fixture.act(|registry, turn| registry.accept_tools(&request, turn))
}

fn is_unchanged(reply: Result<ToolsReply, WriteError>) -> bool {
    matches!(reply.unwrap(), ToolsReply::Unchanged)
}

fn offered(fixture: &Fixture) -> Vec<String> {
    fixture.service("tools").service.capabilities.iter().map(|one| one.name.clone()).collect()
}

fn error(fixture: &Fixture) -> Option<String> {
    fixture.service("tools").service.catalogue.and_then(|catalogue| catalogue.error)
}

/// A server whose tools are `a` and `b`.
fn known(changed_tools: &str) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.put_service("tools", &mcp(URL, changed_tools));
    renew(&mut fixture, Ok(tools(&[("a", "1"), ("b", "1")]))).unwrap();
    fixture
}

#[test]
fn the_tools_that_were_read_are_offered() {
    let mut fixture = Fixture::new();
    fixture.put_service("tools", &mcp(URL, "serve"));
    let added = fixture.added(|fixture| renew(fixture, Ok(tools(&[("a", "1"), ("b", "2")]))).unwrap());
    assert_eq!((added.revisions, added.events.len(), added.notifications.len()), (1, 0, 0));
    let [entry] = added.audit.as_slice() else { panic!("{:?}", added.audit) };
    assert_eq!((&entry["action"], &entry["object"]), (&json!("service.tools_read"), &json!("services/tools")));
    assert_eq!(entry["changes"], json!({"tools": {"from": {}, "to": {"a": "1", "b": "2"}}}));
    assert_eq!(offered(&fixture), ["a", "b"]);
    // The version is that of the document.
    assert_eq!(fixture.service("tools").version, version(1));
}

#[test]
fn the_same_tools_change_nothing() {
    let mut fixture = known("serve");
    fixture.unchanged(|fixture| {
        fixture.pass(SECOND);
        assert!(is_unchanged(renew(fixture, Ok(tools(&[("a", "1"), ("b", "1")])))));
    });
}

#[test]
fn tools_of_another_address_are_ignored() {
    let mut fixture = known("serve");
    fixture.put_service("words", &called("https://words.example/a"));
    fixture.unchanged(|fixture| {
        assert!(is_unchanged(renew_at(fixture, "https://mcp.example/old", Ok(tools(&[("x", "1")])))));
        let request = RenewTools { id: id("words"), url: URL.into(), read: Ok(Box::default()) };
        assert!(is_unchanged(fixture.act(|registry, turn| registry.renew_tools(request, turn))));
        let request = RenewTools { id: id("absent"), url: URL.into(), read: Ok(Box::default()) };
        assert_eq!(refusal(fixture.act(|registry, turn| registry.renew_tools(request, turn))), "absent");
    });
}

#[test]
fn each_changed_tool_has_an_event() {
    let mut fixture = known("serve");
    let added = fixture.added(|fixture| renew(fixture, Ok(tools(&[("a", "2"), ("c", "1")]))).unwrap());
    assert_eq!((added.revisions, added.audit.len()), (1, 1));
    let changed = |tool: &str, change: &str, digest: Option<&str>, previous: Option<&str>| {
        let data = json!({"id": "tools", "tool": tool, "change": change, "digest": digest, "previous": previous,
            "held": false});
        ("service.tool_changed".to_string(), data)
    };
    let expected = [
        changed("a", "changed", Some("2"), Some("1")),
        changed("c", "added", Some("1"), None),
        changed("b", "removed", None, Some("1")),
    ];
    assert_eq!(added.events, expected);
    assert_eq!(offered(&fixture), ["a", "c"]);
}

#[test]
fn changed_tools_are_held_back_until_they_are_accepted() {
    let mut fixture = known("hold");
    let added = fixture.added(|fixture| renew(fixture, Ok(tools(&[("a", "2"), ("b", "1"), ("c", "1")]))).unwrap());
    assert!(added.events.iter().all(|(_, data)| data["held"] == true) && added.events.len() == 2);
    assert_eq!(offered(&fixture), ["b"]);
    fixture.unchanged(|fixture| assert!(is_unchanged(accept(fixture, Some(&["x"])))));
    let added = fixture.added(|fixture| accept(fixture, Some(&["c"])).unwrap());
    assert_eq!((added.revisions, added.events.len(), added.audit.len()), (1, 0, 1));
    assert_eq!(added.audit[0]["action"], "service.tools_accepted");
    assert_eq!(offered(&fixture), ["b", "c"]);
    accept(&mut fixture, None).unwrap();
    assert_eq!(offered(&fixture), ["b", "c", "a"]);
    fixture.unchanged(|fixture| assert!(is_unchanged(accept(fixture, None))));
    let absent = AcceptTools { id: id("absent"), names: None };
    assert_eq!(refusal(fixture.act(|registry, turn| registry.accept_tools(&absent, turn))), "absent");
}

#[test]
fn a_failed_read_is_recorded_once_and_the_tools_stay() {
    let mut fixture = known("serve");
    let added = fixture.added(|fixture| renew(fixture, Err("no reply")).unwrap());
    assert_eq!((added.revisions, added.events.len()), (1, 0));
    assert_eq!(added.audit[0]["changes"], json!({"error": {"from": null, "to": "no reply"}}));
    assert_eq!((offered(&fixture), error(&fixture).as_deref()), (vec!["a".into(), "b".into()], Some("no reply")));
    fixture.unchanged(|fixture| assert!(is_unchanged(renew(fixture, Err("no reply")))));
    renew(&mut fixture, Ok(tools(&[("a", "1"), ("b", "1")]))).unwrap();
    assert_eq!(error(&fixture), None);
}

#[test]
fn tools_stay_while_the_address_of_their_server_is_the_same() {
    let mut fixture = known("serve");
    let changed = with(mcp(URL, "hold"), json!({"name": "Renamed"}));
    fixture.put_service("tools", &changed);
    assert_eq!(offered(&fixture), ["a", "b"]);
    fixture.patch_service("tools", &json!({"transport": {"timeout_seconds": 9}}));
    assert_eq!(offered(&fixture), ["a", "b"]);
    assert!(fixture.service("tools").service.catalogue.is_some());
    fixture.patch_service("tools", &json!({"transport": {"url": "https://mcp.example/other"}}));
    assert_eq!(offered(&fixture), Vec::<String>::new());
    assert!(fixture.service("tools").service.catalogue.is_none());
}

#[test]
fn tools_that_exceed_the_limit_of_a_document_are_recorded_as_a_failure() {
    let mut fixture = known("serve");
    let long = "x".repeat(usize::try_from(MAX_DOCUMENT_BYTES).unwrap());
    let added = fixture.added(|fixture| renew(fixture, Ok(tools(&[("a", &long)]))).unwrap());
    assert_eq!((added.revisions, added.audit.len(), added.events.len()), (1, 1, 0));
    assert_eq!(error(&fixture).unwrap(), "its tools exceed the size limit of one service");
    assert_eq!(offered(&fixture), ["a", "b"]);
    let logs = fixture.effects().logs;
    assert!(matches!(logs.as_slice(), [LogEntry::ToolsDoNotFit { service, .. }] if service == "tools"), "{logs:?}");
    fixture.unchanged(|fixture| assert!(is_unchanged(renew(fixture, Ok(tools(&[("a", &long)]))))));
}

#[test]
fn tools_that_do_not_fit_into_a_full_registry_are_recorded_within_the_reserve() {
    let mut fixture = known("serve");
    let used = fixture.registry.size().unwrap().index_bytes;
    let mut left = MAX_INDEX_BYTES - used;
    for number in 0.. {
        // The rest of the document, and its overhead.
        let Some(size) = left.checked_sub(300).map(|size| size.min(1_500_000)) else { break };
        fixture.put(DocumentKind::Limit, &format!("filler-{number}"), &json!("x".repeat(size.try_into().unwrap())));
        left = MAX_INDEX_BYTES - fixture.registry.size().unwrap().index_bytes;
    }
    let long = "x".repeat(600);
    renew(&mut fixture, Ok(tools(&[("a", "1"), ("b", "1"), (&long, "1")]))).unwrap();
    let reason = "its tools exceed the space left in the registry: see GET /v1/registry";
    assert_eq!(error(&fixture).as_deref(), Some(reason));
    assert_eq!(offered(&fixture), ["a", "b"]);
    assert_eq!(fixture.service("tools").service.catalogue.unwrap().pins["a"], "1");
}
