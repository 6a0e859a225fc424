//! `/v1/events`: the tenant's stream by WebSocket or Server-Sent Events, a context's own events, and tickets.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::auth::credential_watch::{CredentialWatch, RequiredPermissions};
use crate::auth::{self, Age};
use crate::objects::contexts::client::{self as contexts, call_with_revision, is_store_of};
use crate::objects::contexts::messages::{Flush, Get};
use crate::objects::events::client::open_socket;
use crate::objects::events::messages::sockets::Open;
use crate::objects::events::messages::{EventList, Events, ListEvents, MakeTicket, Ticket, UseTicket};
use crate::objects::protocol::{self, Request};
use crate::objects::registry::snapshot;
use crate::platform::http::Headers;
use crate::platform::sockets::ClientSocket;
use crate::platform::{clock, random};
use narthex_core::access::api_key;
use narthex_core::access::permission::allows;
use narthex_core::base::canonical::digest;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::Fault;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::events::cloud_event::gap_event;
use narthex_core::events::filter::Filter;
use narthex_core::events::sequence::Sequence;
use narthex_core::events::subscribers::Form;
use narthex_core::events::viewer::Viewer;
use narthex_core::http::page_cursor;
use narthex_core::http::problem::{Code, Problem};

use super::answer::{Answer, internal};
use super::authenticate::authenticated;
use super::call::{Call, Caller};
use super::limits::logins::{self, Login};
use super::lists::{bad_cursor, limit, page};
use super::sse;

const TICKET_MS: u64 = 60_000;
/// Clocks of machines differ by less than this, in milliseconds.
const CLOCKS_DIFFER_MS: u64 = 5_000;
/// The WebSocket subprotocol of CloudEvents, structured JSON.
const SUBPROTOCOL: &str = "cloudevents.json";
const TICKET_PREFIX: &str = "tkt_";

/// The viewer that a caller is by the permission `needed`.
pub fn viewer(caller: &Caller, needed: &str) -> Viewer {
    let principal = &caller.principal;
    let sees_all = principal.sees_all_contexts();
    let needed = std::iter::once(needed).chain(sees_all.then_some("contexts:read:*"));
    Viewer {
        tenant: principal.tenant.clone(),
        principal: principal.principal.clone(),
        sees_all,
        until: principal.until,
        from: principal.from.clone(),
        by: needed.flat_map(|permission| by_roles(caller, permission)).collect(),
        notify_only: false,
    }
}

/// The roles that give the caller a permission; empty if the key itself has it.
fn by_roles(Caller { principal, snapshot, .. }: &Caller, permission: &str) -> Vec<(String, String)> {
    let key = principal.principal.key().and_then(|id| snapshot.key(id));
    if key.is_some_and(|key| allows(&key.permissions, permission)) {
        return Vec::new();
    }
    let roles = key.map_or(principal.roles.as_slice(), |key| std::slice::from_ref(&key.role));
    let grants = |role: &&String| {
        let granted: Vec<String> = snapshot.rules.role(role).into_iter().flatten().map(Into::into).collect();
        allows(&granted, permission)
    };
    roles.iter().filter(grants).map(|role| (role.clone(), permission.to_string())).collect()
}

async fn call_hub<R>(tenant: &TenantId, request: &R) -> Result<R::Reply, Problem>
where
    R: Request<Object = Events>,
{
    protocol::call(&Events::of(tenant), request).await.map_err(internal)
}

/// Watches the credentials of a viewer.
fn watched(call: &Call, caller: &Caller, needed: &str) -> CredentialWatch {
    let all = caller.principal.sees_all_contexts().then_some("contexts:read:*");
    let needed = std::iter::once(needed).chain(all).map(Into::into).collect();
    call.watched(&caller.principal, RequiredPermissions::All(needed))
}

/// The viewer: by a ticket in the query, otherwise by the usual credentials.
async fn identify_viewer(call: &Call) -> Result<(Viewer, Option<CredentialWatch>), Problem> {
    let Some(ticket) = call.query("ticket") else {
        let caller = authenticated(call, Age::Current).await?;
        caller.principal.require("events:read")?;
        return Ok((viewer(&caller, "events:read"), Some(watched(call, &caller, "events:read"))));
    };
    let refused = || {
        Problem::new(Code::Unauthenticated, "The ticket is invalid or has expired. Get another with POST /v1/tickets.")
            .with_header("WWW-Authenticate", r#"Bearer error="invalid_token""#)
    };
    // A ticket names its tenant, as a key does.
    let tenant = ticket.strip_prefix(TICKET_PREFIX).and_then(|rest| rest.split_once('_')).map(|(tenant, _)| tenant);
    logins::check(call)?;
    if let Some(tenant) = tenant
        && let Some(tenant) = auth::existing_tenant(tenant).await.map_err(internal)?
        && let Ticket::Ticket(Some(viewer)) = call_hub(&tenant, &UseTicket { ticket_hash: digest(&ticket) }).await?
    {
        return Ok((viewer, None));
    }
    logins::failed(call, Login::Ticket).await?;
    Err(refused())
}

fn after(call: &Call) -> Result<Option<Sequence>, Problem> {
    let fault = || Problem::invalid(vec![Fault::new("?after", "must be the sequence of an event")]);
    call.query("after").map(|text| Sequence::parse(&text).ok_or_else(fault)).transpose()
}

/// The event after which a stream or page begins. A client that reconnects by itself names it in a header, and repeats
/// the query.
fn resumed(call: &Call) -> Result<Option<Sequence>, Problem> {
    let after = after(call)?;
    let last = call.request.header("last-event-id").filter(|text| !text.trim().is_empty());
    let fault = || Problem::new(Code::InvalidRequest, "Last-Event-ID must be the sequence of an event.");
    Ok(last.map(|text| Sequence::parse(text.trim()).ok_or_else(fault)).transpose()?.or(after))
}

/// How a client reads events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    WebSocket,
    /// Server-Sent Events.
    Stream,
    /// A page of past events.
    Page,
}

/// `otherwise`: whether a client without a preference gets a stream.
fn delivery(call: &Call, otherwise: bool) -> Delivery {
    match () {
        () if call.upgrades() => Delivery::WebSocket,
        () if call.prefers_stream(otherwise) => Delivery::Stream,
        () => Delivery::Page,
    }
}

const STREAM_QUERY: [&str; 6] = ["types", "subject", "service", "owner", "after", "ticket"];
const PAGE_QUERY: [&str; 7] = ["types", "subject", "service", "owner", "after", "limit", "cursor"];

pub async fn stream(call: &Call) -> Result<Answer, Problem> {
    let delivery = delivery(call, true);
    call.only_query(if delivery == Delivery::Page { &PAGE_QUERY } else { &STREAM_QUERY })?;
    // A head uses up no ticket.
    if delivery == Delivery::Page || call.is_head() {
        let caller = authenticated(call, Age::Current).await?;
        caller.principal.require("events:read")?;
        let viewer = viewer(&caller, "events:read");
        let filter = filter(call, &viewer)?;
        if delivery == Delivery::Page {
            return list(call, &caller, viewer, filter, None).await;
        }
        resumed(call)?;
        return Ok(Answer::head_of_stream());
    }
    let (viewer, watched) = identify_viewer(call).await?;
    let filter = filter(call, &viewer)?;
    open(call, viewer, filter, None, (delivery, watched)).await
}

fn filter(call: &Call, viewer: &Viewer) -> Result<Filter, Problem> {
    Filter::from_query(|name| call.query(name), &viewer.principal, viewer.sees_all).map_err(Problem::invalid)
}

/// Opens a socket at the tenant's hub, or at the shard that the hub names. It becomes the response, or feeds a stream.
async fn open(
    call: &Call,
    viewer: Viewer,
    filter: Filter,
    bound_to: Option<String>,
    (delivery, watched): (Delivery, Option<CredentialWatch>),
) -> Result<Answer, Problem> {
    let mut headers = Headers::default();
    headers.set("x-request-id", &call.request_id);
    headers.set("traceparent", &call.trace.header());
    let offered = call.request.header("sec-websocket-protocol").unwrap_or_default();
    if offered.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL) {
        headers.set("sec-websocket-protocol", SUBPROTOCOL);
    }
    let form = if delivery == Delivery::Stream { Form::Frame } else { Form::Message };
    let after = resumed(call)?;
    let headers = headers.as_str().to_string();
    let open = Open { viewer, filter, after, bound_to, form, shard: None, headers };
    let response = open_socket(open).await.map_err(internal)?;
    Ok(match form {
        Form::Message => Answer::made(101, response),
        Form::Frame => sse::answer(&response, watched),
    })
}

/// A socket for a reader that is only notified of events, and then looks itself.
pub async fn held(caller: &Caller, filter: Filter, after: Option<Sequence>) -> Result<ClientSocket, Problem> {
    let viewer = Viewer { notify_only: true, by: Vec::new(), ..viewer(caller, "contexts:read") };
    let headers = Headers::default().as_str().to_string();
    let open = Open { viewer, filter, after, bound_to: None, form: Form::Frame, shard: None, headers };
    Ok(ClientSocket::take(&open_socket(open).await.map_err(internal)?))
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct TicketView<'a> {
    ticket: &'a str,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    expires_at: Timestamp,
}

pub async fn ticket(call: &Call, caller: Caller) -> Result<Answer, Problem> {
    call.read_optional_body(|_| ()).await?;
    // A key that is never stored has the right form: enough randomness, safe in a URL.
    let minted = api_key::mint(&caller.principal.tenant, random::bytes());
    let secret = minted.secret.rsplit('_').next().unwrap_or_default();
    let ticket = format!("{TICKET_PREFIX}{}_{secret}", caller.principal.tenant);
    let until = clock::now().plus_ms(TICKET_MS);
    let make = MakeTicket { ticket_hash: digest(&ticket), viewer: viewer(&caller, "events:read"), until };
    call_hub(&caller.principal.tenant, &make).await?;
    Answer::json(201, &TicketView { ticket: &ticket, expires_at: until })
}

/// The events of a context: a list, or a socket or a stream if the client requests one.
pub async fn of_context(call: &Call, id: &str) -> Result<Answer, Problem> {
    let delivery = delivery(call, false);
    call.only_query(if delivery == Delivery::Stream {
        &["after", "ticket"]
    } else {
        &["after", "limit", "cursor", "ticket"]
    })?;
    let id = ContextId::parse(id).ok_or_else(|| Problem::not_found("context"));
    if delivery != Delivery::Page && !call.is_head() && call.query("ticket").is_some() {
        let (id, (viewer, watched)) = (id?, identify_viewer(call).await?);
        seen_by(&viewer, &id).await?;
        return open_context(call, viewer, &id, (delivery, watched)).await;
    }
    let caller = authenticated(call, Age::Current).await?;
    caller.principal.require("contexts:read")?;
    let (id, viewer) = (id?, viewer(&caller, "contexts:read"));
    let created_at = seen_by(&viewer, &id).await?;
    if delivery == Delivery::Stream && call.is_head() {
        resumed(call)?;
        return Ok(Answer::head_of_stream());
    }
    if delivery != Delivery::Page {
        let watched = watched(call, &caller, "contexts:read");
        return open_context(call, viewer, &id, (delivery, Some(watched))).await;
    }
    // The list includes events that are still on their way to the hub.
    contexts::call(&viewer.tenant, &id, &Flush).await.map_err(internal)?;
    let since = Timestamp(created_at.0.saturating_sub(CLOCKS_DIFFER_MS));
    let filter = Filter { subject: Some(id.to_string()), ..Filter::default() };
    list(call, &caller, viewer, filter, Some(since)).await
}

/// When a context was created; not found for viewers that may not see it.
async fn seen_by(viewer: &Viewer, id: &ContextId) -> Result<Timestamp, Problem> {
    let mut snapshot = snapshot::any(&viewer.tenant).await.map_err(internal)?;
    if !is_store_of(&viewer.tenant, id, &mut snapshot).await.map_err(internal)? {
        return Err(Problem::not_found("context"));
    }
    let get = Get { id: id.clone() };
    let found = call_with_revision(&viewer.tenant, id, &mut snapshot, &get).await.map_err(internal)?.found();
    let visible = found.filter(|found| found.owner == viewer.principal || viewer.sees_all);
    visible.map(|found| found.created_at).ok_or_else(|| Problem::not_found("context"))
}

async fn open_context(
    call: &Call,
    viewer: Viewer,
    id: &ContextId,
    by: (Delivery, Option<CredentialWatch>),
) -> Result<Answer, Problem> {
    let filter = Filter { subject: Some(id.to_string()), ..Filter::default() };
    open(call, viewer, filter, Some(id.to_string()), by).await
}

/// A page of events, the oldest first; none before `since`.
async fn list(
    call: &Call,
    caller: &Caller,
    viewer: Viewer,
    filter: Filter,
    since: Option<Timestamp>,
) -> Result<Answer, Problem> {
    let limit = limit(call, 100, 200)
        .ok_or_else(|| Problem::invalid(vec![Fault::new("?limit", "must be an integer from 1 to 200")]))?;
    // A cursor belongs to its filters and to the viewer.
    let digest = match &filter.subject {
        Some(id) if since.is_some() => format!("events {} {id}", viewer.principal),
        _ => format!("log {} {} {:?} {}", viewer.tenant, viewer.principal, filter, viewer.sees_all),
    };
    let key = &caller.snapshot.cursor_key;
    let after = resumed(call)?;
    let from = match call.query("cursor") {
        Some(text) => {
            let last = page_cursor::read(key, &text, &digest).and_then(|last| Sequence::parse(&last));
            Some(last.ok_or_else(bad_cursor)?)
        }
        None => after,
    };
    let tenant = viewer.tenant.clone();
    let list = ListEvents { viewer, filter, after: from.unwrap_or_default(), since, limit };
    let EventList::Events { mut events, next, gap } = call_hub(&tenant, &list).await?;
    if let Some(first) = gap.filter(|_| since.is_none()) {
        let gap = gap_event(&tenant, clock::now(), from.unwrap_or_default(), first);
        events.insert(0, RawValue::from_string(gap).map_err(|error| Problem::internal(error.to_string()))?);
    }
    page(call, &events, next.map(|last| page_cursor::write(key, &last.to_string(), &digest)))
}
