//! What an upstream has beside tools: prompts, resources and completions. They are passed on: a request goes there in the
//! upstream's era, and its result comes back in that of the client. What things are called is decided elsewhere.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

use super::definitions::{Listed, tidy};
use super::omissions::{LeftOut, LeftOuts};
use super::responses::TTL_MS;
use crate::base::json::Object;
use crate::calling::response::clean;

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

/// The items of a list that clients can read, each as a text, and the others.
fn readable(list: &str, items: &[&RawValue]) -> (Vec<String>, LeftOuts) {
    let (mut read, mut left_out) = (Vec::with_capacity(items.len()), LeftOuts::default());
    for item in items {
        match Listed::of(list).fitted(item) {
            Ok(fitted) => read.push(fitted.into_owned()),
            Err(misfit) => left_out.item(|| {
                let mut members = Object::new(item.get(), "#").ok();
                let said =
                    members.as_mut().and_then(|members| members.raw(naming(list)).or_else(|| members.raw("name")));
                let name = said.and_then(|said| serde_json::from_str::<String>(said.get()).ok());
                let name = name.map(|name| clean(&name, MAX_SHOWN));
                LeftOut { service: None, name, reason: misfit.to_string() }
            }),
        }
    }
    (read, left_out)
}

/// The longest name that is shown of what is left out, in characters.
const MAX_SHOWN: usize = 200;

/// What a page lists, as a text; nothing where that is nothing, or it is no page.
pub fn text<'r>(list: &str, page: &'r RawValue) -> Option<&'r str> {
    let listed = Object::new(page.get(), "#").ok()?.raw(list)?.get();
    let is_empty = listed.strip_prefix('[').is_none_or(|items| items.trim_start().starts_with(']'));
    Some(listed).filter(|_| !is_empty)
}

/// The items of a list in a result. `null` is how some languages write a list without any.
fn listed<'r>(list: &str, members: &Members<'r>) -> Option<Vec<&'r RawValue>> {
    match members.get(list)?.get() {
        "null" => Some(Vec::new()),
        text => serde_json::from_str(text).ok(),
    }
}

/// A result in the era of who asked. Nothing when it is none, or asks for what a legacy client cannot be asked here.
pub fn result(method: Passed, result: &RawValue, legacy: bool) -> Option<String> {
    result_without(method, result, LeftOuts::default(), legacy)
}

/// The same for a list that something is known to be missing in.
pub fn result_without(method: Passed, result: &RawValue, missing: LeftOuts, legacy: bool) -> Option<String> {
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
            left_out.list(None, "what follows: its cursor is no text");
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

/// The members of a list's items that name them.
fn naming(list: &str) -> &'static str {
    match list {
        "prompts" => "name",
        "resourceTemplates" => "uriTemplate",
        _ => "uri",
    }
}

/// One of the things that a server lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What its server calls it: a name, a URI, or a template of such.
    pub own: String,
    whole: String,
}

impl Item {
    pub fn bytes(&self) -> usize {
        self.whole.len()
    }

    /// As it is listed by another name.
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
    pub left_out: LeftOuts,
    /// The cursor of the next.
    pub next: Option<String>,
    /// There is a next, which cannot be asked for.
    pub is_cut_off: bool,
}

/// The longest cursor that is sent back, in bytes.
const MAX_CURSOR_BYTES: usize = 32 * 1024;

/// A page of the list of one service; nothing where it is none.
pub fn items(list: &str, service: &str, page: &RawValue) -> Option<Page> {
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
        left_out.list(Some(service), "what follows: its cursor is no text, or too long to be sent back");
    }
    Some(Page { items, left_out, next, is_cut_off })
}

/// The cursor of the next page, and whether there is one that cannot be sent back. An empty one is one too.
fn next_cursor(members: &Members<'_>) -> (Option<String>, bool) {
    let next = members.get("nextCursor").filter(|next| next.get() != "null");
    let cursor = next.and_then(|next| serde_json::from_str::<String>(next.get()).ok());
    let cursor = cursor.filter(|cursor| cursor.len() <= MAX_CURSOR_BYTES);
    let is_broken = next.is_some() && cursor.is_none();
    (cursor, is_broken)
}

/// The cursor of the page after this one.
pub fn next_of(page: &RawValue) -> Option<String> {
    next_cursor(&serde_json::from_str(page.get()).ok()?).0
}

/// The pages of a list as one: the first, with the items of the others, and the cursor of what was not asked for, unless
/// they are all. Nothing when one of them is no page.
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

/// What a request among many is about.
#[derive(Debug, PartialEq, Eq)]
pub enum About {
    Prompt(String),
    /// Its URI, or a template of such.
    Resource(String),
}

/// A completion says in `ref` what it is for.
fn holder<'a>(members: &Members<'a>) -> Option<Members<'a>> {
    members.get("ref").and_then(|inner| serde_json::from_str(inner.get()).ok())
}

/// What the parameters name; nothing when they name neither a prompt nor a resource.
pub fn about(params: &RawValue) -> Option<About> {
    let members: Members<'_> = serde_json::from_str(params.get()).ok()?;
    let members = holder(&members).unwrap_or(members);
    let text = |name: &str| serde_json::from_str::<String>(members.get(name)?.get()).ok();
    text("name").map(About::Prompt).or_else(|| text("uri").map(About::Resource))
}

/// The same parameters in the words of the service that is asked.
pub fn in_own_words(params: &RawValue, about: &About, own: &str) -> Option<String> {
    let member = match about {
        About::Prompt(_) => "name",
        About::Resource(_) => "uri",
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
