//! Lists of prompts and resources, of one server or of all. Everything that fits is on one page, as many clients read
//! only the first.

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
use narthex_core::base::order;
use narthex_core::base::service_id::ServiceId;
use narthex_core::http::page_cursor;
use narthex_core::mcp::app_uris::{self, Apps, Claim};
use narthex_core::mcp::error::Error;
use narthex_core::mcp::list_pages::{CombinedList, CombinedPage, ListRead, ListReader, placed};
use narthex_core::mcp::names;
use narthex_core::mcp::omissions::Omissions;
use narthex_core::mcp::passthrough::{ForwardedMethod, Item, method};
use narthex_core::mcp::responses::{self, private_for_a_while, quoted};

use super::super::call::{Call, Caller};
use super::super::limits;
use super::relay::{RelayOptions, first_response, peer, send, unacceptable};

/// The most servers read at the same time for a combined list.
const MAX_CONCURRENT: usize = 6;
/// The longest read of one server's list, in milliseconds.
const LIST_MS: u64 = 5_000;
/// The time in which reads may start, in milliseconds. Up to twice `MAX_CONCURRENT` silent servers then do not keep the
/// others from being read.
const START_MS: u64 = 7_000;

fn cursor_params(cursor: Option<&str>) -> String {
    cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string()
}

fn cursor_of(params: &str) -> Option<String> {
    serde_json::from_str(Object::new(params, "#").ok()?.raw("cursor")?.get()).ok()
}

/// The list of one server, its pages combined as far as they fit.
pub async fn list_of_server(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    (method, list): (ForwardedMethod, &str),
    params: &str,
    options: RelayOptions<'_>,
) -> Result<String, Error> {
    let started = clock::now();
    let (peer, until, first) = first_response(call, caller, entry, method, params, options).await?;
    let mut whole = CombinedList::new(list, cursor_of(params).as_deref(), first);
    // Further pages get a limited time; the client requests the rest with the cursor.
    let until = until.min(started.plus_ms(LIST_MS));
    while let Some(next) = whole.cursor() {
        if clock::now() >= until {
            break;
        }
        let Ok(page) = send(&peer, method, &cursor_params(Some(&next)), until, options).await else { break };
        if !whole.take(next, page) {
            break;
        }
    }
    Ok(whole.result(method, options.client.legacy).ok_or_else(unacceptable)?)
}

/// Reads one server's list from a cursor on, until it ends, a page is full, or the time is over.
async fn read(
    peer: &Peer,
    service: &ServiceId,
    listed: (ForwardedMethod, &str),
    from: Option<String>,
    options: RelayOptions<'_>,
) -> ListRead {
    let until = clock::now().plus_ms(LIST_MS);
    let (method, _) = listed;
    let mut reader = ListReader::new(service, listed, from);
    loop {
        let page = match send(peer, method, &cursor_params(reader.cursor.as_deref()), until, options).await {
            Ok(page) => page,
            Err(outcome) => {
                let reason = Some(outcome.reason(method.name)).filter(|reason| !peer.secrets.shows_in(reason));
                return reader.broken(reason.unwrap_or_else(|| "the request to the server failed".into()));
            }
        };
        reader = match reader.take(&page) {
            Ok(more) => more,
            Err(read) => return read,
        };
    }
}

/// Reads the lists of several servers, in their order. A server whose request fails, or that may not be called now
/// because of a limit, yields an empty list with the reason. A server whose read did not start in time, or before
/// `is_over`, yields nothing, so that no number of silent servers keeps a client waiting. `from`: the cursor for the
/// first server.
fn read_all<'c>(
    call: &'c Call,
    caller: &'c Caller,
    entries: Vec<&'c Entry>,
    listed: (ForwardedMethod, &'c str),
    from: Option<String>,
    options: RelayOptions<'c>,
    is_over: &'c Cell<bool>,
) -> impl Stream<Item = (&'c ServiceId, Option<ListRead>)> {
    let mut from = from;
    let with_cursor: Vec<_> = entries.into_iter().map(|entry| (entry, from.take())).collect();
    let latest_start = clock::now().plus_ms(START_MS);
    // The limits are checked one after the other, so that each check sees the effect of those before it.
    let started = stream::iter(with_cursor).then(move |(entry, from)| async move {
        let Caller { principal, snapshot, .. } = caller;
        let is_late = is_over.get() || clock::now() >= latest_start;
        let admitted = match is_late {
            true => None,
            false => Some(limits::work(call, principal, snapshot, &entry.service().id, listed.0.kind).await),
        };
        (entry, from, admitted)
    });
    let lists = started.map(move |(entry, from, admitted)| async move {
        let id = &entry.service().id;
        let peer = match admitted {
            None => return (id, None),
            Some(Ok(())) => peer(call, caller, entry, options.client).await,
            Some(Err(problem)) => Err(problem),
        };
        let read = match peer {
            Ok((peer, _)) => read(&peer, id, listed, from, options).await,
            Err(problem) => ListRead::nothing(id, problem.detail),
        };
        (id, Some(read))
    });
    lists.buffered(MAX_CONCURRENT)
}

/// Fills a page from several servers' lists; once it is full, no further reads start. Reads under way run to their end,
/// as they open sessions and use limits.
async fn fill_page<'c>(
    lists: impl Stream<Item = (&'c ServiceId, Option<ListRead>)>,
    is_over: &Cell<bool>,
) -> CombinedPage<'c> {
    let mut lists = std::pin::pin!(lists);
    let mut page = CombinedPage::default();
    while let Some((service, read)) = lists.next().await {
        let is_full = match read {
            _ if is_over.get() => continue,
            Some(read) => !page.take(service, read),
            None => {
                page.end(service, None);
                true
            }
        };
        is_over.set(is_full);
    }
    page
}

/// The combined list of all servers, under names that identify the owner.
pub async fn combined_list(
    call: &Call,
    caller: &Caller,
    mut entries: Vec<&Entry>,
    listed: (ForwardedMethod, &str),
    params: Option<&RawValue>,
    options: RelayOptions<'_>,
) -> Result<String, Error> {
    let (_, list) = listed;
    let Principal { tenant, principal, .. } = &caller.principal;
    let binding = format!("{list} {tenant} {principal}");
    let bad_cursor = || Error::Params("The cursor is not from this list.".into());
    let cursor = params.and_then(|params| Object::new(params.get(), "#").ok()?.raw("cursor"));
    let after = cursor.map(|text| {
        let text: String = serde_json::from_str(text.get()).map_err(|_| bad_cursor())?;
        page_cursor::read(&caller.snapshot.cursor_key, &text, &binding).ok_or_else(bad_cursor)
    });
    let after = after.transpose()?;
    let is_single = entries.len() == 1;
    order::sort_by(&mut entries, |a, b| a.service().id.cmp(&b.service().id));
    let mut from = None;
    if let Some(after) = &after {
        let (service, cursor) = placed(after);
        entries.retain(|entry| entry.service().id.as_str() >= service);
        let is_there = entries.first().is_some_and(|entry| entry.service().id.as_str() == service);
        from = cursor.filter(|_| is_there).map(Into::into);
    }
    let is_over = Cell::new(false);
    let lists = read_all(call, caller, entries, listed, from, options, &is_over);
    let page = fill_page(lists, &is_over).await;
    // The owner of a URI that one service lists is certain only if all lists are known.
    let is_complete = is_single || after.is_none() && page.is_all();
    let CombinedPage { items, left_out, next, .. } = page;
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    let listers = listers(&items);
    let named = |(service, item): (&ServiceId, Item)| {
        let is_unique = is_complete && listers.get(&item.own).is_some_and(|services| services.len() == 1);
        let name = match list {
            "prompts" => names::prompt(service, &item.own),
            "resourceTemplates" => apps.uri(service, &item.own, false),
            _ => apps.uri(service, &item.own, is_unique),
        };
        item.named(list, &name)
    };
    let all: Vec<String> = items.into_iter().filter_map(named).collect();
    let next = next.map(|next| quoted(&page_cursor::write(&caller.snapshot.cursor_key, &next, &binding)));
    let next = next.map_or_else(String::new, |next| format!(r#""nextCursor":{next}"#));
    let all = format!(r#""{list}":[{}]"#, all.join(","));
    let complete =
        responses::result(options.client.legacy, &[&all, &next, &private_for_a_while(options.client.legacy)]);
    Ok(with_omissions(&complete, &left_out).unwrap_or(complete))
}

/// A result that names its omissions; `None` if it has none.
fn with_omissions(result: &str, omissions: &Omissions) -> Option<String> {
    // The common case: a long result is not parsed again.
    if omissions.is_empty() {
        return None;
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(result).ok()?;
    let meta = RawValue::from_string(omissions.meta(members.get("_meta").copied())?).ok()?;
    members.insert("_meta".into(), &meta);
    serde_json::to_string(&members).ok()
}

/// The services that list each app URI.
fn listers<'c>(listed: &[(&'c ServiceId, Item)]) -> BTreeMap<String, BTreeSet<&'c ServiceId>> {
    let mut listers: BTreeMap<String, BTreeSet<&ServiceId>> = BTreeMap::new();
    for (service, item) in listed.iter().filter(|(_, item)| item.own.starts_with(app_uris::SCHEME)) {
        listers.entry(item.own.clone()).or_default().insert(service);
    }
    listers
}

/// The service that owns an app URI, among those with resources that the caller may use.
pub async fn app_owner(
    call: &Call,
    caller: &Caller,
    servers: &[&Entry],
    options: RelayOptions<'_>,
    uri: &str,
) -> Result<ServiceId, Error> {
    let unknown_uri = || Error::Params("No such resource, or you do not have access to it.".into());
    let is_over = Cell::new(false);
    let apps = Apps::of(caller.snapshot.services.iter().map(Entry::service));
    if let Claim::Of(service) = apps.claim(uri) {
        return Ok(service.clone());
    }
    let has_resources = |service: &&ServiceId| servers.iter().any(|entry| entry.service().id == **service);
    let mut claimants: BTreeSet<&ServiceId> = order::insert_all(apps.claimants(uri).filter(has_resources));
    let mut unread = BTreeSet::new();
    if claimants.is_empty() {
        if let [only] = servers {
            return Ok(only.service().id.clone());
        }
        // No tool names the URI: it belongs to the service that lists it, if all others are known not to.
        let method = method("resources/list").ok_or_else(unknown_uri)?;
        let options = RelayOptions { meta: None, ..options };
        let lists = read_all(call, caller, servers.to_vec(), (method, "resources"), None, options, &is_over);
        let mut lists = std::pin::pin!(lists);
        while let Some((service, read)) = lists.next().await {
            if read.as_ref().is_some_and(|read| read.has(uri)) {
                claimants.insert(service);
            } else if read.is_none_or(|read| !read.is_whole) {
                unread.insert(service);
            }
        }
    }
    app_uris::resolve(&apps, uri, &claimants, &unread).cloned().map_err(Error::Params)
}
