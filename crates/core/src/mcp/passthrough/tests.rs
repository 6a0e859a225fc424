use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn raw_of(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn passed_on(name: &str, value: &Value, legacy: bool) -> Option<Value> {
    result(method(name).unwrap(), &raw_of(value), legacy).map(|text| serde_json::from_str(&text).unwrap())
}

#[test]
fn tools_are_not_passed_on() {
    assert!(method("prompts/list").is_some());
    assert_eq!(method("tools/list"), None);
}

#[test]
fn a_result_has_the_clients_revision() {
    let legacy = json!({"prompts": [], "nextCursor": "a", "_meta": {"x": 1}});
    let modern = json!({"prompts": [], "nextCursor": "a", "_meta": {"x": 1}, "resultType": "complete",
        "ttlMs": 60_000, "cacheScope": "private"});
    assert_eq!(passed_on("prompts/list", &legacy, false), Some(modern.clone()));
    assert_eq!(passed_on("prompts/list", &modern, true), Some(legacy));
    let shared = json!({"contents": [], "resultType": "complete", "ttlMs": 5, "cacheScope": "public"});
    assert_eq!(passed_on("resources/read", &shared, false).unwrap()["cacheScope"], "private");
    assert_eq!(passed_on("resources/read", &shared, false).unwrap()["ttlMs"], 5);
    assert_eq!(passed_on("prompts/get", &json!({}), false), Some(json!({"resultType": "complete"})));
}

#[test]
fn one_item_never_costs_the_others() {
    let good = json!({"uri": "demo://a", "name": "a"});
    let nulls = json!({"uri": "demo://b", "name": "b", "title": null, "mimeType": null, "size": null,
        "annotations": {"audience": null}, "icons": [{"src": "a:b", "sizes": null}]});
    let bad = json!({"uri": "demo://c", "name": "c", "size": "large"});
    let page = json!({"resources": [good, nulls, bad, 7], "nextCursor": null, "_meta": {"x": 1}});
    let expected = json!({"resources": [good, {"uri": "demo://b", "name": "b", "annotations": {},
        "icons": [{"src": "a:b"}]}], "_meta": {"x": 1, "narthex/left_out": [
            {"name": "demo://c", "reason": "its size is a string, not a number"},
            {"reason": "is a number, not an object"}]}});
    assert_eq!(passed_on("resources/list", &page, true), Some(expected));
    assert_eq!(passed_on("resources/list", &json!({"resources": null}), true), Some(json!({"resources": []})));
    assert_eq!(passed_on("resources/list", &json!({"resources": {}}), true), None);
    let contents = json!({"contents": [{"uri": "demo://a", "mimeType": null, "text": "a", "blob": null}]});
    let expected = json!({"contents": [{"uri": "demo://a", "text": "a"}]});
    assert_eq!(passed_on("resources/read", &contents, true), Some(expected));
    let prompt = json!({"description": null, "messages": [{"role": "user", "content":
        {"type": "text", "text": "a", "annotations": null}}]});
    let expected = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]});
    assert_eq!(passed_on("prompts/get", &prompt, true), Some(expected));
    let completion = json!({"completion": {"values": null, "total": null, "hasMore": null}});
    assert_eq!(passed_on("completion/complete", &completion, true), Some(json!({"completion": {"values": []}})));
}

#[test]
fn an_invalid_cursor_is_left_out_with_a_reason() {
    for cursor in [json!(5), json!({}), json!([""]), json!(true)] {
        let page = json!({"prompts": [{"name": "a"}], "nextCursor": cursor});
        let expected = json!({"prompts": [{"name": "a"}],
            "_meta": {"narthex/left_out": [{"reason": "the rest: its cursor is not a string"}]}});
        assert_eq!(passed_on("prompts/list", &page, true), Some(expected));
    }
}

#[test]
fn a_page_of_what_is_no_item_takes_no_room() {
    let page = json!({"resources": vec![0; 300_000], "nextCursor": "n"});
    let read = super::items("resources", &"a".into(), &raw_of(&page)).unwrap();
    assert!(read.items.is_empty() && read.left_out.meta(None).unwrap().len() < 20_000);
    assert!(passed_on("resources/list", &page, true).unwrap().to_string().len() < 20_000);
}

#[test]
fn a_page_has_a_text() {
    let of = |page: &str| text("prompts", &raw(page).unwrap()).map(ToString::to_string);
    assert_eq!(of(r#"{"prompts":[1, 2],"nextCursor":"a"}"#).as_deref(), Some("[1, 2]"));
    for none in [r#"{"prompts":[ ]}"#, r#"{"prompts":null}"#, r#"{"prompts":{}}"#, "{}", "7"] {
        assert_eq!(of(none), None, "{none}");
    }
}

#[test]
fn input_requests_are_forwarded_to_capable_clients() {
    let asks = json!({"resultType": "input_required", "inputRequests": {}, "requestState": "s"});
    assert_eq!(passed_on("prompts/get", &asks, false), Some(asks.clone()));
    assert_eq!(passed_on("prompts/get", &asks, true), None);
    assert_eq!(passed_on("resources/read", &asks, false), Some(asks));
}

#[test]
fn an_error_has_the_clients_revision() {
    let of = |value: Value, legacy| error(&raw_of(&value), legacy).map(|text| serde_json::from_str(&text).unwrap());
    let missing = json!({"code": -32002, "message": "no", "data": {"uri": "a:b"}});
    assert_eq!(of(missing.clone(), true), Some(missing));
    let modern = json!({"code": -32602, "message": "no", "data": {"uri": "a:b"}});
    assert_eq!(of(json!({"code": -32002, "message": "no", "data": {"uri": "a:b"}, "x": 1}), false), Some(modern));
    let given = json!({"code": -32602, "message": "The server returned no message."});
    assert_eq!(of(json!({"code": "x"}), false), Some(given.clone()));
    assert_eq!(of(json!({"code": -32602, "message": null}), false), Some(given));
}

#[test]
fn items_are_listed_by_the_names_they_get() {
    let page = json!({"resources": [{"uri": "file:///a", "name": "a"}, {"name": "no uri"}], "nextCursor": "c"});
    let Page { items, left_out, next, .. } = super::items("resources", &"my_files".into(), &raw_of(&page)).unwrap();
    let named: Vec<_> = items.into_iter().filter_map(|item| item.named("resources", "my.files+file:///a")).collect();
    assert_eq!(named, [r#"{"name":"a","uri":"my.files+file:///a"}"#]);
    assert_eq!(next.as_deref(), Some("c"));
    let missing =
        Omission { service: Some("my_files".into()), name: Some("no uri".into()), reason: "has no uri".into() };
    let mut expected = Omissions::default();
    expected.item(|| missing);
    assert_eq!(left_out, expected);
    let page = json!({"prompts": [{"name": "greet"}], "nextCursor": null});
    let read = super::items("prompts", &"a".into(), &raw_of(&page)).unwrap();
    assert_eq!(read.items[0].clone().named("prompts", "greet").as_deref(), Some(r#"{"name":"greet"}"#));
    assert_eq!(read.next, None);
    let next = |cursor: Value| {
        let page =
            super::items("prompts", &"a".into(), &raw_of(&json!({"prompts": null, "nextCursor": cursor}))).unwrap();
        (page.next, !page.left_out.is_empty())
    };
    assert_eq!(next(json!("")), (Some(String::new()), false));
    assert_eq!(next(json!("c".repeat(5000))), (Some("c".repeat(5000)), false));
    assert_eq!(next(json!("c".repeat(50_000))), (None, true));
    assert_eq!(next(json!(7)), (None, true));
    assert_eq!(super::items("prompts", &"a".into(), &raw_of(&json!({}))), None);
    assert_eq!(super::items("prompts", &"a".into(), &raw_of(&json!({"prompts": {}}))), None);
}

#[test]
fn pages_become_one() {
    let page = |names: Value, more: Value| {
        let mut page = json!({"prompts": names});
        page.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        raw_of(&page)
    };
    let first = page(json!(["a"]), json!({"nextCursor": "1", "_meta": {"x": 1}}));
    let second = page(json!(["b", "c"]), json!({"nextCursor": "2", "_meta": 7}));
    let merged = |pages: &[&RawValue]| {
        let pages: Vec<Box<RawValue>> = pages.iter().map(|page| (*page).to_owned()).collect();
        super::merged("prompts", &pages, false).map(|whole| whole.get().to_string())
    };
    let expected = r#"{"_meta":{"x":1},"nextCursor":"2","prompts":["a","b","c"]}"#;
    assert_eq!(merged(&[&first, &second]).as_deref(), Some(expected));
    let last = page(json!(null), json!({}));
    assert_eq!(merged(&[&first, &last]).as_deref(), Some(r#"{"_meta":{"x":1},"prompts":["a"]}"#));
    let all = super::merged("prompts", &[first.clone(), second.clone()], true).unwrap();
    assert_eq!(all.get(), r#"{"_meta":{"x":1},"prompts":["a","b","c"]}"#);
    assert!(merged(&[&first, &raw_of(&json!({}))]).is_none() && merged(&[]).is_none());
    assert_eq!((next_of(&first).as_deref(), next_of(&last)), (Some("1"), None));
}

#[test]
fn a_request_among_many_is_put_in_its_services_words() {
    let of = |params: Value, own: &str| {
        let params = raw_of(&params);
        let about = about(&params)?;
        let text = in_own_words(&params, &about, own)?;
        Some((about, serde_json::from_str::<Value>(&text).unwrap()))
    };
    let prompt = |name: &str| Subject::Prompt(name.into());
    assert_eq!(of(json!({"name": "a__c", "x": 1}), "c"), Some((prompt("a__c"), json!({"name": "c", "x": 1}))));
    let resource = (Subject::Resource("c.d+file:///x".into()), json!({"uri": "file:///x"}));
    assert_eq!(of(json!({"uri": "c.d+file:///x"}), "file:///x"), Some(resource));
    let asks = json!({"ref": {"type": "ref/prompt", "name": "a__p"}, "argument": {"name": "n", "value": ""}});
    let own = json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "n", "value": ""}});
    assert_eq!(of(asks, "p"), Some((prompt("a__p"), own)));
    assert_eq!(of(json!({}), "c"), None);
    assert_eq!(of(json!({"name": 7}), "c"), None);
}

proptest! {
    #[test]
    fn any_input_is_read_or_rejected(text in "[{}\\[\\]\":,a-z1]{0,40}") {
        if let Some(raw) = raw(&text) {
            for known in METHODS {
                let _ = result(known, &raw, false);
                let _ = result(known, &raw, true);
            }
            let _ = (error(&raw, false), items("prompts", &"a".into(), &raw), merged("prompts", &[raw.clone(), raw.clone()], false));
            let _ = about(&raw).map(|about| in_own_words(&raw, &about, "a"));
        }
    }
}
