//! What an upstream has beside tools: prompts, resources and completions. They are passed on: a request goes there in the
//! upstream's era, and its result comes back in that of who asked.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::super::json::Object;
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

/// A result in the era of who asked. Nothing when it is none, or asks for what a legacy client cannot be asked here.
pub fn result(method: Passed, result: &RawValue, legacy: bool) -> Option<String> {
    let mut members: Members<'_> = serde_json::from_str(result.get()).ok()?;
    let kind = members.get("resultType").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    let is_complete = kind.is_none_or(|kind| kind == "complete");
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
    members.entry("message".into()).or_insert(&message);
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

/// The items of a page of a list, named as those of one service among others, and the cursor of the next page.
pub fn items(list: &str, service: &str, page: &RawValue) -> Option<(Vec<String>, Option<String>)> {
    let mut page = Object::new(page.get(), "#").ok()?;
    let items: Vec<Members<'_>> = serde_json::from_str(page.raw(list)?.get()).ok()?;
    let named = |item: Members<'_>| {
        let member = naming(list);
        let own: String = serde_json::from_str(item.get(member)?.get()).ok()?;
        let name = to_raw_value(&joined(member, service, &own)).ok()?;
        let mut item: Members<'_> = item;
        item.insert(member.into(), &name);
        serde_json::to_string(&item).ok()
    };
    Some((items.into_iter().filter_map(named).collect(), page.string("nextCursor", 1..=4096)))
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
        assert_eq!(of(json!({"code": "x"}), false), Some(given));
    }

    #[test]
    fn items_are_named_with_their_service() {
        let page = json!({"resources": [{"uri": "file:///a", "name": "a"}, {"no": "uri"}], "nextCursor": "c"});
        let (listed, next) = items("resources", "my_files", &raw_of(&page)).unwrap();
        assert_eq!(listed, [r#"{"name":"a","uri":"my.files+file:///a"}"#]);
        assert_eq!(next.as_deref(), Some("c"));
        let page = json!({"prompts": [{"name": "greet"}]});
        assert_eq!(items("prompts", "a", &raw_of(&page)), Some((vec![r#"{"name":"a__greet"}"#.into()], None)));
        assert_eq!(items("prompts", "a", &raw_of(&json!({}))), None);
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
                let page = json!({list: [{member: own}]});
                let (listed, _) = items(list, &service, &raw_of(&page)).unwrap();
                let item: Value = serde_json::from_str(&listed[0]).unwrap();
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
