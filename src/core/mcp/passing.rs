//! What an upstream has beside tools: prompts, resources and completions. They are passed on: a request goes there in the
//! upstream's era, and its result comes back in that of who asked.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::super::json::Object;
use super::super::upstream::clean;
use super::definition::{Listed, tidy};
use super::reply::TTL_MS;

/// A method that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    pub name: &'static str,
    /// The capability a server declares that has it.
    pub declared: &'static str,
    /// What is asked for, as a permission names it.
    pub kind: &'static str,
    /// The member of the result that has a list's items.
    pub list: Option<&'static str>,
    /// How long a modern client may keep the result when its server says nothing, in milliseconds.
    ttl_ms: Option<u64>,
}

const fn passed(name: &'static str, declared: &'static str, kind: &'static str) -> Passed {
    Passed { name, declared, kind, list: None, ttl_ms: None }
}

const METHODS: [Passed; 6] = [
    Passed { list: Some("prompts"), ttl_ms: Some(TTL_MS), ..passed("prompts/list", "prompts", "prompts") },
    passed("prompts/get", "prompts", "prompts"),
    Passed { list: Some("resources"), ttl_ms: Some(TTL_MS), ..passed("resources/list", "resources", "resources") },
    Passed {
        list: Some("resourceTemplates"),
        ttl_ms: Some(TTL_MS),
        ..passed("resources/templates/list", "resources", "resources")
    },
    // What it says may have changed a moment later.
    Passed { ttl_ms: Some(0), ..passed("resources/read", "resources", "resources") },
    passed("completion/complete", "completions", "prompts"),
];

/// The method of this name, if it is passed on.
pub fn method(name: &str) -> Option<Passed> {
    METHODS.into_iter().find(|known| known.name == name)
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.into()).ok()
}

/// An item of a list that clients could not read, and would refuse the whole list for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub reason: String,
}

/// The member of a list's `_meta` that names what is left out of it, and how much is named.
const LEFT_OUT: &str = "narthex/left_out";
const MOST_LEFT_OUT: usize = 100;

/// `_meta` with what is left out of a list, beside what it says already; nothing where nothing is.
pub fn meta(left_out: &[LeftOut], said: Option<&RawValue>) -> Option<String> {
    let left_out = left_out.get(..left_out.len().min(MOST_LEFT_OUT)).filter(|left_out| !left_out.is_empty())?;
    let mut members: BTreeMap<String, Box<RawValue>> =
        said.and_then(|said| serde_json::from_str(said.get()).ok()).unwrap_or_default();
    members.insert(LEFT_OUT.into(), to_raw_value(left_out).ok()?);
    serde_json::to_string(&members).ok()
}

/// The items of a list that clients can read, each as a text, and the others.
fn readable(list: &str, items: &[&RawValue]) -> (Vec<String>, Vec<LeftOut>) {
    let (mut read, mut left_out) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        match Listed::of(list).fitted(item) {
            Ok(fitted) => read.push(fitted.into_owned()),
            Err(misfit) => {
                let mut members = Object::new(item.get(), "#").ok();
                let said =
                    members.as_mut().and_then(|members| members.raw(naming(list)).or_else(|| members.raw("name")));
                let name = said.and_then(|said| serde_json::from_str::<String>(said.get()).ok());
                let name = name.map(|name| clean(&name, MAX_SHOWN));
                left_out.push(LeftOut { service: None, name, reason: misfit.to_string() });
            }
        }
    }
    (read, left_out)
}

/// The longest name that is shown of what is left out, in characters.
const MAX_SHOWN: usize = 200;

/// The items of a list in a result. `null` is how some languages write a list without any.
fn listed<'r>(list: &str, members: &Members<'r>) -> Option<Vec<&'r RawValue>> {
    match members.get(list)?.get() {
        "null" => Some(Vec::new()),
        text => serde_json::from_str(text).ok(),
    }
}

/// A result in the era of who asked. Nothing when it is none, or asks for what a legacy client cannot be asked here.
pub fn result(method: Passed, result: &RawValue, legacy: bool) -> Option<String> {
    let tidied = tidy(method.name, result);
    let mut members: Members<'_> = serde_json::from_str(&tidied).ok()?;
    let kind = members.get("resultType").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    let is_complete = kind.is_none_or(|kind| kind == "complete");
    let (items, said);
    if let Some(list) = method.list.filter(|_| is_complete) {
        let (read, left_out) = readable(list, &listed(list, &members)?);
        items = raw(&format!("[{}]", read.join(",")))?;
        members.insert(list.into(), &items);
        if let Some(meta) = meta(&left_out, members.get("_meta").copied()) {
            said = raw(&meta)?;
            members.insert("_meta".into(), &said);
        }
    }
    if legacy {
        if !is_complete {
            return None;
        }
        for name in ["resultType", "ttlMs", "cacheScope"] {
            members.remove(name);
        }
        return serde_json::to_string(&members).ok();
    }
    let (complete, private, ttl) =
        (raw(r#""complete""#)?, raw(r#""private""#)?, raw(&method.ttl_ms.unwrap_or_default().to_string())?);
    members.entry("resultType".into()).or_insert(&complete);
    if method.ttl_ms.is_some() && is_complete {
        let says = members.get("ttlMs").is_some_and(|ttl| ttl.get().parse::<u64>().is_ok());
        if !says {
            members.insert("ttlMs".into(), &ttl);
        }
        // What its server shows everybody is shown here to those who may see it.
        members.insert("cacheScope".into(), &private);
    }
    serde_json::to_string(&members).ok()
}

/// An error in the era of who asked: its code, message and data. Modern clients know no code of its own for what is not
/// there.
pub fn error(whole: &RawValue, legacy: bool) -> Option<String> {
    let mut members: Members<'_> = serde_json::from_str(whole.get()).ok()?;
    members.retain(|name, _| matches!(name.as_str(), "code" | "message" | "data"));
    let invalid = raw("-32602")?;
    let code = members.get("code").and_then(|code| code.get().parse::<i64>().ok());
    if code.is_none() || !legacy && matches!(code, Some(-32002 | -32042)) {
        members.insert("code".into(), &invalid);
    }
    let message = raw(r#""The server gave no message.""#)?;
    let says = members.get("message").is_some_and(|message| message.get().starts_with('"'));
    if !says {
        members.insert("message".into(), &message);
    }
    serde_json::to_string(&members).ok()
}

/// What stands between a service and what it calls something, where the things of many are listed together.
const BETWEEN_NAMES: &str = "__";
const BETWEEN_URIS: char = '+';

/// A service's id as the beginning of a URI's scheme, which has no `_`.
fn scheme(service: &str) -> String {
    service.replace('_', ".")
}

/// The name of a prompt, or the URI of a resource, of a service among others.
fn joined(member: &str, service: &str, own: &str) -> String {
    match member {
        "name" => format!("{service}{BETWEEN_NAMES}{own}"),
        _ => format!("{}{BETWEEN_URIS}{own}", scheme(service)),
    }
}

/// What a service itself calls that, if it can be one of its.
fn own<'t>(member: &str, service: &str, text: &'t str) -> Option<&'t str> {
    match member {
        "name" => text.strip_prefix(service)?.strip_prefix(BETWEEN_NAMES),
        _ => text.strip_prefix(&scheme(service))?.strip_prefix(BETWEEN_URIS),
    }
}

/// The members of a list's items that name them.
fn naming(list: &str) -> &'static str {
    match list {
        "prompts" => "name",
        "resourceTemplates" => "uriTemplate",
        _ => "uri",
    }
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<String>,
    pub left_out: Vec<LeftOut>,
    /// The cursor of the next.
    pub next: Option<String>,
}

/// The longest cursor that is sent back, in bytes.
const MAX_CURSOR_BYTES: usize = 32 * 1024;

/// A page of a list, its items named as those of one service among others; nothing where it is none.
pub fn items(list: &str, service: &str, page: &RawValue) -> Option<Page> {
    let members: Members<'_> = serde_json::from_str(page.get()).ok()?;
    let (read, mut left_out) = readable(list, &listed(list, &members)?);
    let named = |item: String| {
        let mut members: Members<'_> = serde_json::from_str(&item).ok()?;
        let member = naming(list);
        let own: String = serde_json::from_str(members.get(member)?.get()).ok()?;
        let name = to_raw_value(&joined(member, service, &own)).ok()?;
        members.insert(member.into(), &name);
        serde_json::to_string(&members).ok()
    };
    let items = read.into_iter().filter_map(named).collect();
    left_out.iter_mut().for_each(|left_out| left_out.service = Some(service.into()));
    let next = members.get("nextCursor").filter(|next| next.get() != "null");
    let cursor = next.and_then(|next| serde_json::from_str::<String>(next.get()).ok());
    let cursor = cursor.filter(|cursor| cursor.len() <= MAX_CURSOR_BYTES);
    if next.is_some() && cursor.is_none() {
        left_out.push(LeftOut::of(service, "what follows: its cursor is no text, or too long to be sent back"));
    }
    Some(Page { items, left_out, next: cursor })
}

impl LeftOut {
    /// Of all that a service would list.
    pub fn of(service: &str, reason: impl Into<String>) -> Self {
        Self { service: Some(service.into()), name: None, reason: reason.into() }
    }
}

/// Whom a request among many is for, and its parameters in that service's own words. `services` are all there are.
pub fn addressed<'s>(params: &RawValue, services: impl Iterator<Item = &'s str>) -> Option<(&'s str, String)> {
    let mut members: Members<'_> = serde_json::from_str(params.get()).ok()?;
    // A completion says in `ref` what it is for.
    let inner: Option<Members<'_>> = members.get("ref").and_then(|inner| serde_json::from_str(inner.get()).ok());
    let (member, text) = {
        let holder = inner.as_ref().unwrap_or(&members);
        let (member, text) = ["name", "uri"].into_iter().find_map(|name| Some((name, holder.get(name)?)))?;
        (member, serde_json::from_str::<String>(text.get()).ok()?)
    };
    // One service's id may be the beginning of another's.
    let (service, own) =
        services.filter_map(|id| Some((id, own(member, id, &text)?))).max_by_key(|(id, _)| id.len())?;
    let own = to_raw_value(own).ok()?;
    let inner = match inner {
        Some(mut inner) => {
            inner.insert(member.into(), &own);
            Some(to_raw_value(&inner).ok()?)
        }
        None => None,
    };
    match &inner {
        Some(inner) => members.insert("ref".into(), inner),
        None => members.insert(member.into(), &own),
    };
    Some((service, serde_json::to_string(&members).ok()?))
}

#[cfg(test)]
mod tests {
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
    fn a_result_is_in_the_era_of_who_asked() {
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
    fn what_asks_for_more_goes_to_who_can_be_asked() {
        let asks = json!({"resultType": "input_required", "inputRequests": {}, "requestState": "s"});
        assert_eq!(passed_on("prompts/get", &asks, false), Some(asks.clone()));
        assert_eq!(passed_on("prompts/get", &asks, true), None);
        assert_eq!(passed_on("resources/read", &asks, false), Some(asks));
    }

    #[test]
    fn an_error_is_in_the_era_of_who_asked() {
        let of = |value: Value, legacy| error(&raw_of(&value), legacy).map(|text| serde_json::from_str(&text).unwrap());
        let missing = json!({"code": -32002, "message": "no", "data": {"uri": "a:b"}});
        assert_eq!(of(missing.clone(), true), Some(missing));
        let modern = json!({"code": -32602, "message": "no", "data": {"uri": "a:b"}});
        assert_eq!(of(json!({"code": -32002, "message": "no", "data": {"uri": "a:b"}, "x": 1}), false), Some(modern));
        let given = json!({"code": -32602, "message": "The server gave no message."});
        assert_eq!(of(json!({"code": "x"}), false), Some(given.clone()));
        assert_eq!(of(json!({"code": -32602, "message": null}), false), Some(given));
    }

    #[test]
    fn items_are_named_with_their_service() {
        let page = json!({"resources": [{"uri": "file:///a", "name": "a"}, {"name": "no uri"}], "nextCursor": "c"});
        let read = items("resources", "my_files", &raw_of(&page)).unwrap();
        assert_eq!(read.items, [r#"{"name":"a","uri":"my.files+file:///a"}"#]);
        assert_eq!(read.next.as_deref(), Some("c"));
        let left_out =
            LeftOut { service: Some("my_files".into()), name: Some("no uri".into()), reason: "has no uri".into() };
        assert_eq!(read.left_out, [left_out]);
        let page = json!({"prompts": [{"name": "greet"}], "nextCursor": null});
        let read = items("prompts", "a", &raw_of(&page)).unwrap();
        assert_eq!((read.items, read.next), (vec![r#"{"name":"a__greet"}"#.to_string()], None));
        let next = |cursor: Value| {
            let page = items("prompts", "a", &raw_of(&json!({"prompts": null, "nextCursor": cursor}))).unwrap();
            (page.next, page.left_out.len())
        };
        assert_eq!(next(json!("")), (Some(String::new()), 0));
        assert_eq!(next(json!("c".repeat(5000))), (Some("c".repeat(5000)), 0));
        assert_eq!(next(json!("c".repeat(50_000))), (None, 1));
        assert_eq!(next(json!(7)), (None, 1));
        assert_eq!(items("prompts", "a", &raw_of(&json!({}))), None);
        assert_eq!(items("prompts", "a", &raw_of(&json!({"prompts": {}}))), None);
    }

    #[test]
    fn a_request_among_many_finds_its_service() {
        let services = ["a", "a__b", "c_d"];
        let of = |params: Value| {
            addressed(&raw_of(&params), services.into_iter())
                .map(|(service, params)| (service, serde_json::from_str::<Value>(&params).unwrap()))
        };
        assert_eq!(of(json!({"name": "a__b__c", "x": 1})), Some(("a__b", json!({"name": "c", "x": 1}))));
        assert_eq!(of(json!({"uri": "c.d+file:///x"})), Some(("c_d", json!({"uri": "file:///x"}))));
        let asks = json!({"ref": {"type": "ref/prompt", "name": "a__p"}, "argument": {"name": "n", "value": ""}});
        let own = json!({"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "n", "value": ""}});
        assert_eq!(of(asks), Some(("a", own)));
        assert_eq!(of(json!({"name": "b__c"})), None);
        assert_eq!(of(json!({})), None);
    }

    proptest! {
        #[test]
        fn what_was_listed_is_found(service in "[a-z0-9][a-z0-9_-]{0,12}", other in "[a-z0-9][a-z0-9_-]{0,12}", own in "[a-z:/{}]{1,20}") {
            let services = [service.as_str(), other.as_str()];
            for (list, member) in [("prompts", "name"), ("resources", "uri")] {
                let mut item = json!({"name": "a"});
                item[member] = own.clone().into();
                let page = items(list, &service, &raw_of(&json!({list: [item]}))).unwrap();
                let item: Value = serde_json::from_str(&page.items[0]).unwrap();
                let Some((found, params)) = addressed(&raw_of(&json!({member: item[member]})), services.into_iter()) else {
                    return Err(TestCaseError::fail("not found"));
                };
                let params: Value = serde_json::from_str(&params).unwrap();
                // `a` with `b__c` reads as `a__b` with `c`, where both are there.
                let ambiguous = found != service && joined(member, found, params[member].as_str().unwrap()) == item[member];
                prop_assert!(ambiguous || found == service && params[member] == own.as_str());
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in "[{}\\[\\]\":,a-z1]{0,40}") {
            if let Some(raw) = raw(&text) {
                for known in METHODS {
                    let _ = result(known, &raw, false);
                    let _ = result(known, &raw, true);
                }
                let _ = (error(&raw, false), items("prompts", "a", &raw), addressed(&raw, ["a"].into_iter()));
            }
        }
    }
}
