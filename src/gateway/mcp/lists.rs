//! Lists of prompts and resources: those of one server, and those of all. What fits is one page, as many clients read no
//! other.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use serde_json::value::RawValue;

use crate::auth::Principal;
use crate::core::cursor;
use crate::core::json::Object;
use crate::core::mcp::apps::{self, Apps, Claim};
use crate::core::mcp::error::Error;
use crate::core::mcp::names;
use crate::core::mcp::passing::{Item, LeftOut, Page, Passed, items, merged, meta, method, next_of, result};
use crate::core::mcp::reply::{private_for_a_while, quoted, result as answer};
use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::Peer;

use super::super::call::{Call, Caller};
use super::super::limits;
use super::passing::{Wish, asked, peer, told, unacceptable};

/// How long a page's text may get, in bytes, and how many of a server's own pages it has.
const MOST_BYTES: usize = 512 * 1024;
const MOST_PAGES: usize = 20;
/// Servers that are asked at the same time for a list of all, and for how long.
const AT_ONCE: usize = 6;
const LIST_MS: u64 = 5_000;
/// Between a service and its server's cursor in a cursor of a list of all.
const BETWEEN: char = ' ';
/// The longest cursor of a server's that fits into one of the gateway's, in bytes.
const MAX_CURSOR_BYTES: usize = 2048;

fn at(cursor: Option<&str>) -> String {
    cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string()
}

/// The list of one server: its own pages as one, as far as they fit.
pub async fn of_one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    (method, list): (Passed, &str),
    params: &str,
    wish: Wish<'_>,
) -> Result<String, Error> {
    let Caller { principal, snapshot, .. } = caller;
    limits::work(call, principal, snapshot, &entry.service().id, method.kind).await?;
    let (peer, upstream) = peer(call, caller, entry, wish.client).await?;
    let now = clock::now();
    let until = now.plus_ms(upstream.timeout_seconds * 1000);
    let first = asked(&peer, method, params, until, wish).await;
    let mut pages = vec![first.map_err(|came| told(&peer, method, &came, wish.client.legacy))?];
    let mut bytes = pages.iter().map(|page| page.get().len()).sum::<usize>();
    // What there is more is worth a moment; the client asks for the rest by its cursor.
    let until = until.min(now.plus_ms(LIST_MS));
    let mut before = None;
    while pages.len() < MOST_PAGES && bytes < MOST_BYTES && clock::now() < until {
        let next = pages.last().and_then(|page| next_of(page));
        let Some(next) = next.filter(|next| Some(next) != before.as_ref()) else { break };
        let Ok(page) = asked(&peer, method, &at(Some(&next)), until, wish).await else { break };
        bytes += page.get().len();
        if bytes > MOST_BYTES || merged(list, std::slice::from_ref(&page)).is_none() {
            break;
        }
        // An empty cursor may lead back to the beginning: then the list was whole.
        if next.is_empty() && pages.last().is_some_and(|last| last.get() == page.get()) {
            break;
        }
        pages.push(page);
        before = Some(next);
    }
    // What is no list is said to be none where it is read.
    let whole = if pages.len() > 1 { merged(list, &pages) } else { None };
    let whole = whole.or_else(|| pages.into_iter().next());
    Ok(whole.and_then(|whole| result(method, &whole, wish.client.legacy)).ok_or_else(unacceptable)?)
}

/// What was read of one server's list.
#[derive(Default)]
struct Read {
    /// Its pages, each with the cursor it was asked for by.
    pages: Vec<(Option<String>, Vec<Item>)>,
    left_out: Vec<LeftOut>,
    /// Of what was not read.
    next: Option<String>,
}

/// Reads one server's list from a cursor on, until it ends, there is enough, or the time is over.
async fn read(
    peer: &Peer,
    service: &str,
    (method, list): (Passed, &str),
    from: Option<String>,
    wish: Wish<'_>,
) -> Read {
    let until = clock::now().plus_ms(LIST_MS);
    let (mut read, mut cursor, mut bytes) = (Read::default(), from, 0);
    let mut last: Option<Box<RawValue>> = None;
    loop {
        let page = match asked(peer, method, &at(cursor.as_deref()), until, wish).await {
            Ok(page) => page,
            Err(came) => {
                let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
                let reason = reason.unwrap_or_else(|| "it could not be asked".into());
                read.left_out.push(LeftOut::of(service, reason));
                return read;
            }
        };
        // An empty cursor may lead back to the beginning: then the list was whole.
        if cursor.as_deref() == Some("") && last.is_some_and(|last| last.get() == page.get()) {
            return read;
        }
        let Some(Page { items, left_out, next }) = items(list, service, &page) else {
            read.left_out.push(LeftOut::of(service, format!("its answer to {} is no list", method.name)));
            return read;
        };
        bytes += items.iter().map(Item::bytes).sum::<usize>();
        read.left_out.extend(left_out);
        let repeated = next == cursor;
        read.pages.push((cursor, items));
        if next.is_none() || repeated {
            return read;
        }
        if read.pages.len() >= MOST_PAGES || bytes > MOST_BYTES {
            return Read { next, ..read };
        }
        (cursor, last) = (next, Some(page));
    }
}

/// Reads the lists of several servers. What one has that cannot be asked is missing, and said to be; so is what may not be
/// asked now by a limit, and the others' is there. `from`: the cursor that the first of them is read from.
async fn read_all<'c>(
    call: &Call,
    caller: &Caller,
    entries: &[&'c Entry],
    listed: (Passed, &str),
    from: Option<String>,
    wish: Wish<'_>,
) -> Vec<(&'c str, Read)> {
    let mut within = Vec::with_capacity(entries.len());
    let mut from = from;
    for entry in entries {
        let Caller { principal, snapshot, .. } = caller;
        let from = from.take();
        if limits::work(call, principal, snapshot, &entry.service().id, listed.0.kind).await.is_ok() {
            within.push((*entry, from));
        }
    }
    let lists = stream::iter(within).map(|(entry, from)| async move {
        let id = entry.service().id.as_str();
        match peer(call, caller, entry, wish.client).await {
            Ok((peer, _)) => (id, read(&peer, id, listed, from, wish).await),
            Err(problem) => (id, Read { left_out: vec![LeftOut::of(id, problem.detail)], ..Read::default() }),
        }
    });
    lists.buffered(AT_ONCE).collect().await
}

/// Where a page of a list of all ends: before this page of this service.
fn place(service: &str, cursor: Option<&str>) -> String {
    cursor.map_or_else(|| service.into(), |cursor| format!("{service}{BETWEEN}{cursor}"))
}

/// A page of a list of all.
#[derive(Default)]
struct Taken<'c> {
    items: Vec<(&'c str, Item)>,
    left_out: Vec<LeftOut>,
    /// Where it ends.
    next: Option<String>,
}

/// As much of what was read as a page has.
fn cut<'c>(all: Vec<(&'c str, Read)>) -> Taken<'c> {
    let (mut taken, mut bytes) = (Taken::default(), 0);
    for (service, read) in all {
        taken.left_out.extend(read.left_out);
        for (cursor, items) in read.pages {
            let more = items.iter().map(Item::bytes).sum::<usize>();
            let fits = bytes == 0 || bytes + more <= MOST_BYTES;
            if !fits && cursor.as_ref().is_none_or(|cursor| cursor.len() <= MAX_CURSOR_BYTES) {
                return Taken { next: Some(place(service, cursor.as_deref())), ..taken };
            }
            bytes += more;
            taken.items.extend(items.into_iter().map(|item| (service, item)));
        }
        match read.next {
            Some(next) if next.len() <= MAX_CURSOR_BYTES => {
                return Taken { next: Some(place(service, Some(&next))), ..taken };
            }
            Some(_) => taken.left_out.push(LeftOut::of(service, "what follows: its cursor is too long")),
            None => {}
        }
    }
    taken
}

/// What all servers list, each thing by a name that says whose it is.
pub async fn of_all(
    call: &Call,
    caller: &Caller,
    mut entries: Vec<&Entry>,
    listed: (Passed, &str),
    params: Option<&RawValue>,
    wish: Wish<'_>,
) -> Result<String, Error> {
    let (_, list) = listed;
    let Principal { tenant, principal, .. } = &caller.principal;
    let bound = format!("{list} {tenant} {principal}");
    let wrong = || Error::Params("The cursor is not one this list gave out.".into());
    let asked = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("cursor"));
    let after = asked.map(|text| {
        let text: String = serde_json::from_str(text.get()).map_err(|_| wrong())?;
        cursor::read(&caller.snapshot.cursor_key, &text, &bound).ok_or_else(wrong)
    });
    let after = after.transpose()?;
    entries.sort_unstable_by(|a, b| a.service().id.cmp(&b.service().id));
    let mut from = None;
    if let Some(after) = &after {
        let (service, cursor) = after.split_once(BETWEEN).map_or((after.as_str(), None), |(id, at)| (id, Some(at)));
        entries.retain(|entry| entry.service().id.as_str() >= service);
        let is_there = entries.first().is_some_and(|entry| entry.service().id == service);
        from = cursor.filter(|_| is_there).map(Into::into);
    }
    let Taken { items, left_out, next } = cut(read_all(call, caller, &entries, listed, from, wish).await);
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    let listers = listers(&items);
    let named = |(service, item): (&str, Item)| {
        let only = listers.get(&item.own).is_some_and(|services| services.len() == 1);
        let name = match list {
            "prompts" => names::prompt(service, &item.own),
            "resourceTemplates" => apps.uri(service, &item.own, false),
            _ => apps.uri(service, &item.own, only),
        };
        item.named(list, &name)
    };
    let all: Vec<String> = items.into_iter().filter_map(named).collect();
    let next = next.map(|next| quoted(&cursor::write(&caller.snapshot.cursor_key, &next, &bound)));
    let next = next.map_or_else(String::new, |next| format!(r#""nextCursor":{next}"#));
    let all = format!(r#""{list}":[{}]"#, all.join(","));
    let plain = answer(wish.client.legacy, &[&all, &next, &private_for_a_while(wish.client.legacy)]);
    Ok(with_left_out(&plain, &left_out).unwrap_or(plain))
}

/// A result that names what is missing in it, where something is.
fn with_left_out(plain: &str, left_out: &[LeftOut]) -> Option<String> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(plain).ok()?;
    let meta = RawValue::from_string(meta(left_out, members.get("_meta").copied())?).ok()?;
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).ok()
}

/// The services that list the address of an app.
fn listers<'c>(listed: &[(&'c str, Item)]) -> BTreeMap<String, BTreeSet<&'c str>> {
    let mut listers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (service, item) in listed.iter().filter(|(_, item)| item.own.starts_with(apps::SCHEME)) {
        listers.entry(item.own.clone()).or_default().insert(service);
    }
    listers
}

/// The service whose app has this address, among those that have resources and that the caller may use.
pub async fn whose_app(
    call: &Call,
    caller: &Caller,
    theirs: &[&Entry],
    wish: Wish<'_>,
    uri: &str,
) -> Result<String, Error> {
    let nothing = || Error::Params("Nothing here has this name.".into());
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    if let Claim::Of(service) = apps.claim(uri) {
        return Ok(service.into());
    }
    let is_theirs = |service: &&str| theirs.iter().any(|entry| entry.service().id == *service);
    let mut claimants: BTreeSet<&str> = apps.claimants(uri).filter(is_theirs).collect();
    let read;
    if claimants.is_empty() {
        if let [only] = theirs {
            return Ok(only.service().id.clone());
        }
        // No tool names it: it is of the service that lists it.
        let method = method("resources/list").ok_or_else(nothing)?;
        let wish = Wish { meta: None, ..wish };
        read = read_all(call, caller, theirs, (method, "resources"), None, wish).await;
        let items = read.iter().flat_map(|(service, read)| read.pages.iter().map(move |(_, items)| (*service, items)));
        claimants
            .extend(items.filter(|(_, items)| items.iter().any(|item| item.own == uri)).map(|(service, _)| service));
    }
    match (claimants.first(), claimants.len()) {
        (None, _) => Err(nothing()),
        (Some(service), 1) => Ok((*service).into()),
        (Some(_), _) => {
            let forms: Vec<String> = claimants.iter().map(|service| apps.uri(service, uri, false)).collect();
            Err(Error::Params(format!("Several services have this. Ask for one of: {}", forms.join(", "))))
        }
    }
}
