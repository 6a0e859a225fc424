//! `/v1/events`: the tenant's stream by WebSocket, a context's own events as a list, and tickets.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::auth::{FIRST_TENANT, Principal};
use crate::core::filter::Filter;
use crate::core::id::ContextId;
use crate::core::json::Fault;
use crate::core::key;
use crate::core::problem::{Code, Problem};
use crate::core::time::{Timestamp, as_text};
use crate::execution::ask_decided;
use crate::objects::contexts::messages::{Ask as StoreAsk, Reply as StoreReply};
use crate::objects::events::messages::{Ask, Open, Reply, Viewer};
use crate::platform::http::Headers;
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, random};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::contexts::{bad_cursor, limit, page};
use super::routes::authenticated;

const TICKET_MS: u64 = 60_000;
/// The WebSocket subprotocol of CloudEvents, structured JSON.
const SUBPROTOCOL: &str = "cloudevents.json";
const TICKET_PREFIX: &str = "tkt_";

fn viewer(principal: &Principal) -> Viewer {
    Viewer {
        tenant: principal.tenant.clone(),
        principal: principal.principal.clone(),
        sees_all: principal.sees_all_contexts(),
        until: principal.until,
    }
}

fn hash(ticket: &str) -> String {
    Sha256::digest(ticket.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn ask_hub(tenant: &str, ask: &Ask) -> Result<Reply, Problem> {
    objects::send(Kind::Events, tenant, "", ask, PATIENCE_MS)
        .await
        .map_err(internal)
}

/// Who looks: by a ticket in the query, else by the usual credentials.
async fn who_looks(call: &Call) -> Result<Viewer, Problem> {
    let Some(ticket) = call.query("ticket") else {
        let caller = authenticated(call).await?;
        caller.principal.require("events:read")?;
        return Ok(viewer(&caller.principal));
    };
    let refused = || {
        Problem::new(
            Code::Unauthenticated,
            "The ticket is not valid (any more). Get another by POST /v1/tickets.",
        )
        .with_header("WWW-Authenticate", r#"Bearer error="invalid_token""#)
    };
    // A ticket's tenant is in the ticket, as a key's is in the key.
    let tenant = ticket
        .strip_prefix(TICKET_PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .map(|(tenant, _)| tenant);
    let tenant = tenant.filter(|tenant| *tenant == FIRST_TENANT).ok_or_else(refused)?;
    match ask_hub(
        tenant,
        &Ask::UseTicket {
            ticket_hash: hash(&ticket),
        },
    )
    .await?
    {
        Reply::Ticket(Some(viewer)) => Ok(viewer),
        _ => Err(refused()),
    }
}

fn after(call: &Call) -> Result<Option<u64>, Problem> {
    let text = call.query("after");
    let number = text
        .as_deref()
        .map(|text| text.parse::<u64>().ok().filter(|n| *n < 1 << 53));
    match number {
        Some(None) => Err(Problem::invalid(vec![Fault::new(
            "?after",
            "must be an event's sequence",
        )])),
        Some(after) => Ok(after),
        None => Ok(None),
    }
}

const STREAM_QUERY: [&str; 6] = ["types", "subject", "service", "owner", "after", "ticket"];

pub async fn stream(call: &Call) -> Result<Answer, Problem> {
    if !call
        .request
        .header("upgrade")
        .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    {
        // Whoever has no credentials learns that first.
        authenticated(call).await?.principal.require("events:read")?;
        return Err(Problem::new(
            Code::UpgradeRequired,
            "Open this path as a WebSocket, with the subprotocol cloudevents.json.",
        )
        .with_header("Upgrade", "websocket"));
    }
    call.only_query(&STREAM_QUERY)?;
    let viewer = who_looks(call).await?;
    let filter =
        Filter::from_query(|name| call.query(name), &viewer.principal, viewer.sees_all).map_err(Problem::invalid)?;
    open(call, viewer, filter, after(call)?).await
}

async fn open(call: &Call, viewer: Viewer, filter: Filter, after: Option<u64>) -> Result<Answer, Problem> {
    let mut headers = Headers::default();
    headers.set("x-request-id", &call.request_id);
    headers.set("traceparent", &call.trace.header());
    let offered = call.request.header("sec-websocket-protocol").unwrap_or_default();
    if offered.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL) {
        headers.set("sec-websocket-protocol", SUBPROTOCOL);
    }
    let tenant = viewer.tenant.clone();
    let open = Open {
        viewer,
        filter,
        after,
        headers: headers.as_str().to_string(),
    };
    let response = objects::open_socket(Kind::Events, &tenant, &open)
        .await
        .map_err(internal)?;
    Ok(Answer::made(101, response))
}

pub async fn ticket(call: &Call, caller: Caller) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Ticket<'a> {
        ticket: &'a str,
        #[serde(serialize_with = "as_text")]
        expires_at: Timestamp,
    }
    caller.principal.require("events:read")?;
    let body = call.optional_json_body().await?;
    if !matches!(body.trim_ascii(), b"{}") && !body.is_empty() {
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let faults = crate::core::json::Object::new(text, "#")
            .map_or_else(|fault| vec![fault], crate::core::json::Object::finish);
        if !faults.is_empty() {
            return Err(Problem::invalid(faults));
        }
    }
    // A key that is never kept has the right form: enough randomness, safe in a URL.
    let minted = key::mint(&caller.principal.tenant, random::bytes());
    let secret = minted.secret.rsplit('_').next().unwrap_or_default();
    let ticket = format!("{TICKET_PREFIX}{}_{secret}", caller.principal.tenant);
    let until = clock::now().plus_ms(TICKET_MS);
    let ask = Ask::MakeTicket {
        ticket_hash: hash(&ticket),
        viewer: viewer(&caller.principal),
        until,
    };
    ask_hub(&caller.principal.tenant, &ask).await?;
    Answer::json(
        201,
        &Ticket {
            ticket: &ticket,
            expires_at: until,
        },
    )
}

/// A context's own events: a list, or a socket when one is asked for.
pub async fn of_context(call: &Call, mut caller: Caller, id: &str) -> Result<Answer, Problem> {
    caller.principal.require("contexts:read")?;
    call.only_query(&["after", "limit", "cursor"])?;
    let id = ContextId::parse(id).ok_or_else(|| Problem::not_found("context"))?;
    let tenant = caller.principal.tenant.clone();
    let get = StoreAsk::Get { id: id.clone() };
    let created_at = match ask_decided(&tenant, &id, &mut caller.snapshot, get)
        .await
        .map_err(internal)?
    {
        StoreReply::Context(found)
            if found.owner == caller.principal.principal || caller.principal.sees_all_contexts() =>
        {
            found.created_at
        }
        _ => return Err(Problem::not_found("context")),
    };
    let filter = Filter {
        subject: Some(id.to_string()),
        ..Filter::default()
    };
    let viewer = viewer(&caller.principal);
    if call
        .request
        .header("upgrade")
        .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    {
        return open(call, viewer, filter, after(call)?).await;
    }
    // What has happened is in the list, even what is still on its way to the hub.
    ask_decided(&tenant, &id, &mut caller.snapshot, StoreAsk::Flush)
        .await
        .map_err(internal)?;
    let limit = limit(call, 100, 200)
        .ok_or_else(|| Problem::invalid(vec![Fault::new("?limit", "must be an integer from 1 to 200")]))?;
    let from = match call.query("cursor") {
        Some(cursor) => Some(cursor.parse::<u64>().map_err(|_| bad_cursor())?),
        None => after(call)?,
    };
    let ask = Ask::List {
        viewer,
        filter,
        after: from.unwrap_or(0),
        since: Some(Timestamp(created_at.0.saturating_sub(5_000))),
        limit,
    };
    match ask_hub(&tenant, &ask).await? {
        Reply::Events { events, next, .. } => page(call, &events, next.map(|sequence| sequence.to_string())),
        _ => Err(Problem::internal("the hub answered something else")),
    }
}
