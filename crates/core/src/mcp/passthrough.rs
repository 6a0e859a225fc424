//! The other features of an upstream: prompts, resources and completions. Requests are forwarded in the upstream's
//! revision, and results are returned in the client's. Names are mapped elsewhere.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::definitions::{ListedKind, tidy};
use super::omissions::{Omission, Omissions};
use super::responses::TTL_MS;
use crate::base::json::Object;
use crate::base::service_id::ServiceId;
use crate::calling::response::clean;

/// A method that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardedMethod {
    pub name: &'static str,
    /// The server capability it belongs to.
    pub declared: &'static str,
    /// The object of the permission for it.
    pub kind: &'static str,
    /// The member of the result with the items of a list.
    pub list: Option<&'static str>,
    /// How long a modern client may cache the result if its server does not specify it, in milliseconds.
    ttl_ms: Option<u64>,
}

const fn passed(name: &'static str, declared: &'static str, kind: &'static str) -> ForwardedMethod {
    ForwardedMethod { name, declared, kind, list: None, ttl_ms: None }
}

const METHODS: [ForwardedMethod; 6] = [
    ForwardedMethod { list: Some("prompts"), ttl_ms: Some(TTL_MS), ..passed("prompts/list", "prompts", "prompts") },
    passed("prompts/get", "prompts", "prompts"),
    ForwardedMethod {
        list: Some("resources"),
        ttl_ms: Some(TTL_MS),
        ..passed("resources/list", "resources", "resources")
    },
    ForwardedMethod {
        list: Some("resourceTemplates"),
        ttl_ms: Some(TTL_MS),
        ..passed("resources/templates/list", "resources", "resources")
    },
    // The content may have changed a moment later.
    ForwardedMethod { ttl_ms: Some(0), ..passed("resources/read", "resources", "resources") },
    passed("completion/complete", "completions", "prompts"),
];

/// The forwarded method of this name.
pub fn method(name: &str) -> Option<ForwardedMethod> {
    METHODS.into_iter().find(|known| known.name == name)
}

type Members<'a> = BTreeMap<String, &'a RawValue>;

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.into()).ok()
}

/// The items of a list that clients can read, as texts, and the others.
fn readable(list: &str, items: &[&RawValue]) -> (Vec<String>, Omissions) {
    let (mut read, mut left_out) = (Vec::with_capacity(items.len()), Omissions::default());
    for item in items {
        match ListedKind::of(list).normalized(item) {
            Ok(normalized) => read.push(normalized.into_owned()),
            Err(misfit) => left_out.item(|| {
                let mut members = Object::new(item.get(), "#").ok();
                let said =
                    members.as_mut().and_then(|members| members.raw(naming(list)).or_else(|| members.raw("name")));
                let name = said.and_then(|said| serde_json::from_str::<String>(said.get()).ok());
                let name = name.map(|name| clean(&name, MAX_SHOWN));
                Omission { service: None, name, reason: misfit.to_string() }
            }),
        }
    }
    (read, left_out)
}

/// How much of the name of an omitted item is shown, in characters.
const MAX_SHOWN: usize = 200;

/// The items of a page as text; `None` if it is not a page.
pub fn text<'r>(list: &str, page: &'r RawValue) -> Option<&'r str> {
    let listed = Object::new(page.get(), "#").ok()?.raw(list)?.get();
    let is_empty = listed.strip_prefix('[').is_none_or(|items| items.trim_start().starts_with(']'));
    Some(listed).filter(|_| !is_empty)
}

/// The items of a list in a result. Some languages write an empty list as `null`.
fn listed<'r>(list: &str, members: &Members<'r>) -> Option<Vec<&'r RawValue>> {
    match members.get(list)?.get() {
        "null" => Some(Vec::new()),
        text => serde_json::from_str(text).ok(),
    }
}

/// A result in the client's revision. `None` if it is invalid, or requests input that a legacy client cannot give here.
pub fn result(method: ForwardedMethod, result: &RawValue, legacy: bool) -> Option<String> {
    result_without(method, result, Omissions::default(), legacy)
}

/// The same for a list with known omissions.
pub fn result_without(method: ForwardedMethod, result: &RawValue, missing: Omissions, legacy: bool) -> Option<String> {
    let tidied = tidy(method.name, result);
    let mut members: Members<'_> = serde_json::from_str(&tidied).ok()?;
    let kind = members.get("resultType").and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    let is_complete = kind.is_none_or(|kind| kind == "complete");
    let (items, said);
    if let Some(list) = method.list.filter(|_| is_complete) {
        let (read, mut left_out) = readable(list, &listed(list, &members)?);
        left_out.add(missing);
        if members.get("nextCursor").is_some_and(|next| serde_json::from_str::<String>(next.get()).is_err()) {
            members.remove("nextCursor");
            left_out.list(None, "the rest: its cursor is not a string");
        }
        items = raw(&format!("[{}]", read.join(",")))?;
        members.insert(list.into(), &items);
        if let Some(meta) = left_out.meta(members.get("_meta").copied()) {
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
        // What a server shows everyone is shown here to those who may see it.
        members.insert("cacheScope".into(), &private);
    }
    serde_json::to_string(&members).ok()
}

/// An error in the client's revision: its code, message and data. Modern clients have no separate code for a missing
/// resource.
pub fn error(whole: &RawValue, legacy: bool) -> Option<String> {
    let mut members: Members<'_> = serde_json::from_str(whole.get()).ok()?;
    members.retain(|name, _| matches!(name.as_str(), "code" | "message" | "data"));
    let invalid = raw("-32602")?;
    let code = members.get("code").and_then(|code| code.get().parse::<i64>().ok());
    if code.is_none() || !legacy && matches!(code, Some(-32002 | -32042)) {
        members.insert("code".into(), &invalid);
    }
    let message = raw(r#""The server returned no message.""#)?;
    let says = members.get("message").is_some_and(|message| message.get().starts_with('"'));
    if !says {
        members.insert("message".into(), &message);
    }
    serde_json::to_string(&members).ok()
}

/// The members that name a list's items.
fn naming(list: &str) -> &'static str {
    match list {
        "prompts" => "name",
        "resourceTemplates" => "uriTemplate",
        _ => "uri",
    }
}

/// An item of a server's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The server's name for it: a name, a URI, or a URI template.
    pub own: String,
    whole: String,
}

impl Item {
    /// Its size in a list, in bytes.
    pub fn bytes(&self) -> usize {
        self.whole.len()
    }

    /// The item under another name.
    pub fn named(self, list: &str, name: &str) -> Option<String> {
        if name == self.own {
            return Some(self.whole);
        }
        let mut item: Members<'_> = serde_json::from_str(&self.whole).ok()?;
        let name = to_raw_value(name).ok()?;
        item.insert(naming(list).into(), &name);
        serde_json::to_string(&item).ok()
    }
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Item>,
    pub left_out: Omissions,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// There is a next page that cannot be requested.
    pub is_cut_off: bool,
}

/// The longest cursor that is sent back, in bytes.
const MAX_CURSOR_BYTES: usize = 32 * 1024;

/// A page of one service's list; `None` if it is invalid.
pub fn items(list: &str, service: &ServiceId, page: &RawValue) -> Option<Page> {
    let members: Members<'_> = serde_json::from_str(page.get()).ok()?;
    let (read, left_out) = readable(list, &listed(list, &members)?);
    let item = |whole: String| {
        let own =
            Object::new(&whole, "#").ok()?.raw(naming(list)).map(RawValue::get).map(serde_json::from_str)?.ok()?;
        Some(Item { own, whole })
    };
    let items = read.into_iter().filter_map(item).collect();
    let mut left_out = left_out.of(service);
    let (next, is_cut_off) = next_cursor(&members);
    if is_cut_off {
        left_out.list(Some(service), "the rest: its cursor is not a string, or too long to be sent back");
    }
    Some(Page { items, left_out, next, is_cut_off })
}

/// The cursor of the next page, and whether there is one that cannot be sent back. An empty cursor counts.
fn next_cursor(members: &Members<'_>) -> (Option<String>, bool) {
    let next = members.get("nextCursor").filter(|next| next.get() != "null");
    let cursor = next.and_then(|next| serde_json::from_str::<String>(next.get()).ok());
    let cursor = cursor.filter(|cursor| cursor.len() <= MAX_CURSOR_BYTES);
    let is_broken = next.is_some() && cursor.is_none();
    (cursor, is_broken)
}

/// The cursor of the next page.
pub fn next_of(page: &RawValue) -> Option<String> {
    next_cursor(&serde_json::from_str(page.get()).ok()?).0
}

/// The pages of a list as one: the first, with the items of the others, and the cursor of the rest unless they are all.
/// `None` if one of them is invalid.
pub fn merged(list: &str, pages: &[Box<RawValue>], are_all: bool) -> Option<Box<RawValue>> {
    let (first, last) = (pages.first()?, pages.last()?);
    let last: Members<'_> = serde_json::from_str(last.get()).ok()?;
    let mut whole: Members<'_> = serde_json::from_str(first.get()).ok()?;
    let mut items: Vec<&RawValue> = Vec::new();
    for page in pages {
        items.extend(listed(list, &serde_json::from_str(page.get()).ok()?)?);
    }
    let items = to_raw_value(&items).ok()?;
    whole.insert(list.into(), &items);
    match last.get("nextCursor").filter(|_| !are_all) {
        Some(cursor) => whole.insert("nextCursor".into(), cursor),
        None => whole.remove("nextCursor"),
    };
    to_raw_value(&whole).ok()
}

/// The subject of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Subject {
    Prompt(String),
    /// Its URI, or a URI template.
    Resource(String),
}

/// A completion names its subject in `ref`.
fn holder<'a>(members: &Members<'a>) -> Option<Members<'a>> {
    members.get("ref").and_then(|inner| serde_json::from_str(inner.get()).ok())
}

/// The subject that the parameters name; `None` if it is neither a prompt nor a resource.
pub fn about(params: &RawValue) -> Option<Subject> {
    let members: Members<'_> = serde_json::from_str(params.get()).ok()?;
    let members = holder(&members).unwrap_or(members);
    let text = |name: &str| serde_json::from_str::<String>(members.get(name)?.get()).ok();
    text("name").map(Subject::Prompt).or_else(|| text("uri").map(Subject::Resource))
}

/// The same parameters with the service's own name for the subject.
pub fn in_own_words(params: &RawValue, about: &Subject, own: &str) -> Option<String> {
    let member = match about {
        Subject::Prompt(_) => "name",
        Subject::Resource(_) => "uri",
    };
    let own = to_raw_value(own).ok()?;
    let mut members: Members<'_> = serde_json::from_str(params.get()).ok()?;
    let Some(mut inner) = holder(&members) else {
        members.insert(member.into(), &own);
        return serde_json::to_string(&members).ok();
    };
    inner.insert(member.into(), &own);
    let inner = to_raw_value(&inner).ok()?;
    members.insert("ref".into(), &inner);
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests;
