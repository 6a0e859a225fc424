//! Lists of prompts and resources: those of one server, and those of all. What fits is one page, as many clients read no
//! other.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::platform::clock;
use crate::transport::mcp::Peer;
use narthex_core::access::principal::Principal;
use narthex_core::base::json::Object;
use narthex_core::http::page_cursor;
use narthex_core::mcp::app_uris::{self, Apps, Claim};
use narthex_core::mcp::error::Error;
use narthex_core::mcp::list_pages::{CombinedList, CombinedPage, ListRead, ListReader, placed};
use narthex_core::mcp::names;
use narthex_core::mcp::omissions::Omissions;
use narthex_core::mcp::passthrough::{ForwardedMethod, Item, method};
use narthex_core::mcp::responses::{private_for_a_while, quoted, result as answer};

use super::super::call::{Call, Caller};
use super::super::limits;
use super::relay::{Wish, answered, asked, peer, unacceptable};

/// Servers that are asked at the same time for a list of all, how long each has, and until when they are begun with: twice
/// as many as that may not answer without keeping the others from being read.
const AT_ONCE: usize = 6;
const LIST_MS: u64 = 5_000;
const BEGIN_MS: u64 = 7_000;

fn at(cursor: Option<&str>) -> String {
    cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string()
}

fn cursor_of(params: &str) -> Option<String> {
    serde_json::from_str(Object::new(params, "#").ok()?.raw("cursor")?.get()).ok()
}

/// The list of one server: its own pages as one, as far as they fit.
pub async fn of_one(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    (method, list): (ForwardedMethod, &str),
    params: &str,
    wish: Wish<'_>,
) -> Result<String, Error> {
    let began = clock::now();
    let (peer, until, first) = answered(call, caller, entry, method, params, wish).await?;
    let mut whole = CombinedList::new(list, cursor_of(params).as_deref(), first);
    // What there is more is worth a moment; the client asks for the rest by its cursor.
    let until = until.min(began.plus_ms(LIST_MS));
    while let Some(next) = whole.cursor() {
        if clock::now() >= until {
            break;
        }
        let Ok(page) = asked(&peer, method, &at(Some(&next)), until, wish).await else { break };
        if !whole.take(next, page) {
            break;
        }
    }
    Ok(whole.result(method, wish.client.legacy).ok_or_else(unacceptable)?)
}

/// Reads one server's list from a cursor on, until it ends, there is enough, or the time is over.
async fn read(
    peer: &Peer,
    service: &str,
    listed: (ForwardedMethod, &str),
    from: Option<String>,
    wish: Wish<'_>,
) -> ListRead {
    let until = clock::now().plus_ms(LIST_MS);
    let (method, _) = listed;
    let mut reading = ListReader::new(service, listed, from);
    loop {
        let page = match asked(peer, method, &at(reading.cursor.as_deref()), until, wish).await {
            Ok(page) => page,
            Err(came) => {
                let reason = Some(came.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
                return reading.broken(reason.unwrap_or_else(|| "it could not be asked".into()));
            }
        };
        reading = match reading.take(&page) {
            Ok(more) => more,
            Err(read) => return read,
        };
    }
}

/// Reads the lists of several servers, in their order. What one has that cannot be asked is missing, and said to be; so is
/// what may not be asked now by a limit, and the others' is there. Those that were not begun with in time are nothing: no
/// number of servers that do not answer keeps a client waiting; nor are those once it is over. `from`: the cursor that the
/// first is read from.
fn read_all<'c>(
    call: &'c Call,
    caller: &'c Caller,
    entries: Vec<&'c Entry>,
    listed: (ForwardedMethod, &'c str),
    from: Option<String>,
    wish: Wish<'c>,
    is_over: &'c Cell<bool>,
) -> impl Stream<Item = (&'c str, Option<ListRead>)> {
    let mut from = from;
    let with_cursor: Vec<_> = entries.into_iter().map(|entry| (entry, from.take())).collect();
    let latest = clock::now().plus_ms(BEGIN_MS);
    // One after the other: what is held against a limit once is not held against it for the next.
    let begun = stream::iter(with_cursor).then(move |(entry, from)| async move {
        let Caller { principal, snapshot, .. } = caller;
        let is_late = is_over.get() || clock::now() >= latest;
        let held = match is_late {
            true => None,
            false => Some(limits::work(call, principal, snapshot, &entry.service().id, listed.0.kind).await),
        };
        (entry, from, held)
    });
    let lists = begun.map(move |(entry, from, held)| async move {
        let id = entry.service().id.as_str();
        let peer = match held {
            None => return (id, None),
            Some(Ok(())) => peer(call, caller, entry, wish.client).await,
            Some(Err(problem)) => Err(problem),
        };
        let read = match peer {
            Ok((peer, _)) => read(&peer, id, listed, from, wish).await,
            Err(problem) => ListRead::nothing(id, problem.detail),
        };
        (id, Some(read))
    });
    lists.buffered(AT_ONCE)
}

/// As much of several servers' lists as a page has: when it is full, no more are asked. What is under way then comes to its
/// end, as sessions are begun and limits asked there.
async fn taken<'c>(lists: impl Stream<Item = (&'c str, Option<ListRead>)>, is_over: &Cell<bool>) -> CombinedPage<'c> {
    let mut lists = std::pin::pin!(lists);
    let mut taken = CombinedPage::default();
    while let Some((service, read)) = lists.next().await {
        let is_full = match read {
            _ if is_over.get() => continue,
            Some(read) => !taken.take(service, read),
            None => {
                taken.end(service, None);
                true
            }
        };
        is_over.set(is_full);
    }
    taken
}

/// What all servers list, each thing by a name that says whose it is.
pub async fn of_all(
    call: &Call,
    caller: &Caller,
    mut entries: Vec<&Entry>,
    listed: (ForwardedMethod, &str),
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
        page_cursor::read(&caller.snapshot.cursor_key, &text, &bound).ok_or_else(wrong)
    });
    let after = after.transpose()?;
    let is_single = entries.len() == 1;
    entries.sort_unstable_by(|a, b| a.service().id.cmp(&b.service().id));
    let mut from = None;
    if let Some(after) = &after {
        let (service, cursor) = placed(after);
        entries.retain(|entry| entry.service().id.as_str() >= service);
        let is_there = entries.first().is_some_and(|entry| entry.service().id == service);
        from = cursor.filter(|_| is_there).map(Into::into);
    }
    let is_over = Cell::new(false);
    let taken = taken(read_all(call, caller, entries, listed, from, wish, &is_over), &is_over).await;
    // Whose an address is that one service alone lists is clear only where all lists are known.
    let is_clear = is_single || after.is_none() && taken.is_all();
    let CombinedPage { items, left_out, next, .. } = taken;
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    let listers = listers(&items);
    let named = |(service, item): (&str, Item)| {
        let only = is_clear && listers.get(&item.own).is_some_and(|services| services.len() == 1);
        let name = match list {
            "prompts" => names::prompt(service, &item.own),
            "resourceTemplates" => apps.uri(service, &item.own, false),
            _ => apps.uri(service, &item.own, only),
        };
        item.named(list, &name)
    };
    let all: Vec<String> = items.into_iter().filter_map(named).collect();
    let next = next.map(|next| quoted(&page_cursor::write(&caller.snapshot.cursor_key, &next, &bound)));
    let next = next.map_or_else(String::new, |next| format!(r#""nextCursor":{next}"#));
    let all = format!(r#""{list}":[{}]"#, all.join(","));
    let plain = answer(wish.client.legacy, &[&all, &next, &private_for_a_while(wish.client.legacy)]);
    Ok(with_left_out(&plain, &left_out).unwrap_or(plain))
}

/// A result that names what is missing in it, where something is.
fn with_left_out(plain: &str, left_out: &Omissions) -> Option<String> {
    // Almost always: all of it, which may be long, is then not read again.
    if left_out.is_empty() {
        return None;
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(plain).ok()?;
    let meta = RawValue::from_string(left_out.meta(members.get("_meta").copied())?).ok()?;
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).ok()
}

/// The services that list the address of an app.
fn listers<'c>(listed: &[(&'c str, Item)]) -> BTreeMap<String, BTreeSet<&'c str>> {
    let mut listers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (service, item) in listed.iter().filter(|(_, item)| item.own.starts_with(app_uris::SCHEME)) {
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
    let nothing = || Error::Params("No item here has this name.".into());
    let is_over = Cell::new(false);
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    if let Claim::Of(service) = apps.claim(uri) {
        return Ok(service.into());
    }
    let is_theirs = |service: &&str| theirs.iter().any(|entry| entry.service().id == *service);
    let mut claimants: BTreeSet<&str> = apps.claimants(uri).filter(is_theirs).collect();
    let mut unread = BTreeSet::new();
    if claimants.is_empty() {
        if let [only] = theirs {
            return Ok(only.service().id.clone());
        }
        // No tool names it: it is of the service that lists it, where all others are known not to.
        let method = method("resources/list").ok_or_else(nothing)?;
        let wish = Wish { meta: None, ..wish };
        let lists = read_all(call, caller, theirs.to_vec(), (method, "resources"), None, wish, &is_over);
        let mut lists = std::pin::pin!(lists);
        while let Some((service, read)) = lists.next().await {
            if read.as_ref().is_some_and(|read| read.has(uri)) {
                claimants.insert(service);
            } else if read.is_none_or(|read| !read.is_whole) {
                unread.insert(service);
            }
        }
    }
    app_uris::resolve(&apps, uri, &claimants, &unread).map(Into::into).map_err(Error::Params)
}
