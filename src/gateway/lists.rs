//! `GET /v1/contexts`, and the common parts of all lists: limits, cursors, pages.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::value::RawValue;

use crate::objects::contexts::client::call_under_any;
use crate::objects::contexts::messages::{Contexts, ListReply, Query};
use narthex_core::base::json::Fault;
use narthex_core::base::time::Timestamp;
use narthex_core::context::status::{ErrorCode, Status};
use narthex_core::http::page_cursor;
use narthex_core::http::paging::{PagePart, merged};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::http::query::integer;

use super::answer::{Answer, internal};
use super::call::{Call, Caller};

const DEFAULT_LIMIT: u64 = 50;
/// The maximum that all stores of a tenant read for a page, and the minimum and maximum of each store, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
const MIN_BYTES: u64 = 64 * 1024;
const MAX_OF_ONE: u64 = 2 * 1024 * 1024;

fn filters(call: &Call) -> Result<Query, Problem> {
    let mut faults = Vec::new();
    let created_after = time(call, "created_after", &mut faults);
    let created_before = time(call, "created_before", &mut faults);
    let status = call.query("status").map(|text| Status::parse(&text));
    if status == Some(None) {
        faults.push(Fault::new("?status", "must be a status such as queued or completed"));
    }
    let error_code = call.query("error_code");
    if error_code.as_deref().is_some_and(|code| ErrorCode::parse(code).is_none()) {
        faults.push(Fault::new("?error_code", "must be the code of a context's error, such as upstream_timeout"));
    }
    let limit = limit(call, DEFAULT_LIMIT, 200);
    if limit.is_none() {
        faults.push(Fault::new("?limit", "must be an integer from 1 to 200"));
    }
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    Ok(Query {
        owner: None,
        status: status.flatten(),
        service: call.query("service"),
        capability: call.query("capability"),
        error_code,
        created_after,
        created_before,
        before: None,
        limit: limit.unwrap_or(DEFAULT_LIMIT),
        most_bytes: None,
        stops: false,
    })
}

/// A time from the query; a fault if it cannot be parsed.
pub fn time(call: &Call, name: &str, faults: &mut Vec<Fault>) -> Option<Timestamp> {
    let text = call.query(name)?;
    let time = Timestamp::parse(&text);
    if time.is_none() {
        faults.push(Fault::new(format!("?{name}"), "must be a time such as 2026-12-01T00:00:00Z (RFC 3339)"));
    }
    time
}

/// `limit` from the query; `None` if it is out of range.
pub fn limit(call: &Call, default: u64, most: u64) -> Option<u64> {
    match call.query("limit") {
        None => Some(default),
        Some(text) => integer(&text).filter(|limit| (1..=most).contains(limit)),
    }
}

const LIST_QUERY: [&str; 9] =
    ["status", "service", "capability", "error_code", "created_after", "created_before", "limit", "cursor", "owner"];

pub async fn contexts(call: &Call, mut caller: Caller) -> Result<Answer, Problem> {
    call.only_query(&LIST_QUERY)?;
    let mut query = filters(call)?;
    query.owner = match call.query("owner").as_deref() {
        Some("*") => {
            caller.principal.require("contexts:read:*")?;
            None
        }
        None | Some("me") => Some(caller.principal.principal.to_string()),
        Some(other) => {
            if other != caller.principal.principal.as_str() {
                caller.principal.require("contexts:read:*")?;
            }
            Some(other.to_string())
        }
    };
    let cursor = call.query("cursor");
    let (found, next) = found(&mut caller, query, cursor.as_deref()).await?;
    page(call, &found, next)
}

/// The caller's own contexts, the newest first, and the cursor of the next page.
pub async fn own(
    caller: &mut Caller,
    limit: u64,
    cursor: Option<&str>,
) -> Result<(Vec<Box<RawValue>>, Option<String>), Problem> {
    let owner = Some(caller.principal.principal.to_string());
    found(caller, Query { owner, limit, ..Query::default() }, cursor).await
}

async fn found(
    caller: &mut Caller,
    mut query: Query,
    cursor: Option<&str>,
) -> Result<(Vec<Box<RawValue>>, Option<String>), Problem> {
    // A cursor belongs to its filters and to the caller; the length of its pages may change.
    let filters = Query { limit: DEFAULT_LIMIT, ..query.clone() };
    let digest =
        format!("contexts {} {}", caller.principal.tenant, serde_json::to_string(&filters).unwrap_or_default());
    if let Some(text) = cursor {
        let before = page_cursor::read(&caller.snapshot.cursor_key, text, &digest);
        query.before = Some(before.ok_or_else(bad_cursor)?);
    }
    let limit = query.limit;
    query.limit += 1;
    query.stops = true;
    query.most_bytes = Some((MAX_BYTES / caller.snapshot.stores.len().max(1) as u64).clamp(MIN_BYTES, MAX_OF_ONE));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (items, next) = merged(ask_all(caller, &query).await?).page(limit);
    Ok((items, next.map(|key| page_cursor::write(&caller.snapshot.cursor_key, &key, &digest))))
}

pub fn bad_cursor() -> Problem {
    Problem::new(Code::InvalidRequest, "The cursor is not from this list with these filters.")
}

/// Which part of a list of the registry a request asks for: `limit` and `cursor`.
pub struct Listing {
    pub limit: usize,
    /// The sort key of the last item of the page before.
    pub after: Option<String>,
    /// What a cursor is bound to.
    filters: String,
}

const MAX_LISTED: u64 = 1_000;
/// The maximum size of such a page, in bytes. The memory of an isolate never shrinks.
const MAX_LISTED_BYTES: u64 = 8 * 1024 * 1024;

impl Listing {
    /// `filters`: the query members that the list depends on.
    pub fn read(call: &Call, caller: &Caller, name: &str, filters: &[&str]) -> Result<Self, Problem> {
        let known: Vec<&str> = filters.iter().chain(&["limit", "cursor"]).copied().collect();
        call.only_query(&known)?;
        let Some(limit) = limit(call, MAX_LISTED, MAX_LISTED) else {
            let detail = format!("must be an integer from 1 to {MAX_LISTED}");
            return Err(Problem::invalid(vec![Fault::new("?limit", detail)]));
        };
        let given: Vec<Option<String>> = filters.iter().map(|name| call.query(name)).collect();
        let filters =
            format!("{name} {} {}", caller.principal.tenant, serde_json::to_string(&given).unwrap_or_default());
        let after = match call.query("cursor") {
            Some(text) => Some(page_cursor::read(&caller.snapshot.cursor_key, &text, &filters).ok_or_else(bad_cursor)?),
            None => None,
        };
        Ok(Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), after, filters })
    }

    /// The cursor after an item.
    pub fn cursor(&self, caller: &Caller, last: &str) -> String {
        page_cursor::write(&caller.snapshot.cursor_key, last, &self.filters)
    }
}

/// The items of a page that is made from documents, which may be large and come in another order. It holds no more than
/// a page may have.
#[derive(Default)]
pub struct ListedItems {
    items: BTreeMap<usize, Box<RawValue>>,
    bytes: u64,
    /// The first item that is beyond the page.
    end: Option<usize>,
}

impl ListedItems {
    /// Whether an item of this index may still be on the page.
    pub fn may_have(&self, index: usize) -> bool {
        self.end.is_none_or(|end| index < end)
    }

    pub fn has(&self, index: usize) -> bool {
        self.items.contains_key(&index)
    }

    /// Adds an item. The last ones make room if the page would be too large.
    pub fn add<T: serde::Serialize>(&mut self, index: usize, item: &T) -> Result<(), Problem> {
        if !self.may_have(index) {
            return Ok(());
        }
        let item = serde_json::value::to_raw_value(item).map_err(|error| Problem::internal(error.to_string()))?;
        self.bytes += item.get().len() as u64;
        self.items.insert(index, item);
        while self.bytes > MAX_LISTED_BYTES && self.items.len() > 1 {
            let Some((last, item)) = self.items.pop_last() else { break };
            self.bytes -= item.get().len() as u64;
            self.end = Some(last);
        }
        Ok(())
    }

    /// The items, and how many of `all` the page covers.
    pub fn finish(self, all: usize) -> (Vec<Box<RawValue>>, usize) {
        (self.items.into_values().collect(), self.end.unwrap_or(all))
    }
}

/// A page with its `Link` (RFC 8288).
pub fn page<T: serde::Serialize>(call: &Call, data: &[T], next: Option<String>) -> Result<Answer, Problem> {
    #[derive(serde::Serialize)]
    struct Page<'a, T> {
        data: &'a [T],
        next_cursor: Option<&'a str>,
    }
    let answer = Answer::json(200, &Page { data, next_cursor: next.as_deref() })?;
    Ok(match next {
        Some(cursor) => answer.with("link", &format!("<{}>; rel=\"next\"", call.with_query("cursor", &cursor))),
        None => answer,
    })
}

/// Whether the error of a listed context has this code.
fn has_error(view: &RawValue, code: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct View<'v> {
        #[serde(borrow)]
        error: Option<Coded<'v>>,
    }
    #[derive(serde::Deserialize)]
    struct Coded<'v> {
        code: &'v str,
    }
    serde_json::from_str::<View<'_>>(view.get()).is_ok_and(|view| view.error.is_some_and(|error| error.code == code))
}

/// Asks every store of the tenant at once.
async fn ask_all(caller: &mut Caller, query: &Query) -> Result<Vec<PagePart<Box<RawValue>>>, Problem> {
    let tenant = &caller.principal.tenant;
    let revision = caller.snapshot.revision;
    let lists = caller
        .snapshot
        .stores
        .iter()
        .map(|store| async move { call_under_any(&Contexts::of(tenant, *store), revision, query).await });
    let mut found = Vec::new();
    for part in join_all(lists).await {
        let ListReply::Page { items, cut, complete_to } = part.map_err(internal)?;
        // A store of an earlier version does not say where its list ends, and does not filter by error codes.
        let may_have_more = cut || items.len() as u64 >= query.limit;
        let last = items.last().filter(|_| may_have_more).map(|item| item.id.sort_key().to_string());
        let complete_to = complete_to.or(last);
        let fits = |view: &RawValue| query.error_code.as_deref().is_none_or(|code| has_error(view, code));
        let items = items.into_iter().filter(|item| fits(&item.view));
        let items = items.map(|item| (item.id.sort_key().to_string(), item.view)).collect();
        found.push(PagePart { items, complete_to });
    }
    Ok(found)
}
