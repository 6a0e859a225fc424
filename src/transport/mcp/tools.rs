//! `tools/list` and `tools/call`.

use serde_json::json;

use crate::core::capability::Capability;
use crate::core::mcp::client::answer::{Broken, Incoming};
use crate::core::mcp::client::catalogue::{Seen, read_page};
use crate::core::mcp::client::request::Asked;
use crate::core::mcp::client::verdict::Came;
use crate::core::mcp::mirror;
use crate::core::time::Timestamp;
use crate::core::upstream::Answer;
use crate::objects::registry::snapshot::Entry;

use super::super::Order;
use super::{Peer, ask, links};

/// Pages of a list that are read.
const MOST_PAGES: usize = 100;

/// Calls a tool, for as long as the context has time.
pub async fn call_tool(order: &Order<'_>, peer: Peer, entry: &Entry) -> Came {
    let admission = &order.work.admission;
    if admission.expires_at <= order.now {
        return Came::Transport(Answer::TimedOut { deadline: true });
    }
    let (name, arguments) = (json!(admission.capability), order.work.parameters.get());
    let params = format!(r#"{{"name":{name},"arguments":{arguments}}}"#);
    let is_it = |known: &&Capability| known.name == admission.capability;
    let schema = entry.service().capabilities.iter().find(is_it).and_then(|known| known.input_schema.as_deref());
    let mut headers = schema.map_or_else(Vec::new, |schema| mirror::headers(schema.get(), arguments));
    headers.push(("traceparent".into(), order.trace.header()));
    let asked = Asked { log_level: admission.log_level.as_deref(), ..Asked::new("tools/call", &params) };
    let mut conversation = match ask(&peer, &asked, &headers, admission.expires_at, true).await {
        Ok(conversation) => conversation,
        Err(came) => return came,
    };
    loop {
        match conversation.next().await {
            Ok(Incoming::Response(response)) => return Came::Answered(response),
            Ok(Incoming::Request { id, method, .. }) => {
                conversation.respond(&id, (method == "ping").then_some("{}")).await;
            }
            Ok(Incoming::Notification { .. }) => {}
            Err(came) => return came,
        }
    }
}

/// Reads all tools there are, until then; or says why not.
pub async fn list_tools(peer: &Peer, timeout_seconds: u64, until: Timestamp) -> Result<Seen, String> {
    // What it was before is not to be trusted: it may have become another.
    links::forget(peer);
    let link = links::discover(peer, until, false).await.map_err(reason)?;
    let mut seen = Seen {
        protocol_version: link.spoken.version().into(),
        server: link.server.clone().unwrap_or_default(),
        ..Seen::default()
    };
    if seen.server.capabilities.is_some() && !seen.server.declares("tools") {
        return Ok(seen);
    }
    let mut cursor: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor})).to_string();
        let conversation = ask(peer, &Asked::new("tools/list", &params), &[], until, false).await.map_err(reason)?;
        let page = match conversation.response().await.map_err(reason)? {
            Ok(page) => page,
            Err(error) => return Err(format!("it refused tools/list with {}", error.code)),
        };
        match read_page(&mut seen, &page, timeout_seconds)? {
            Some(next) => cursor = Some(next),
            None => return Ok(seen),
        }
    }
    Err("its list of tools does not end".into())
}

/// Why an upstream could not be read, without its own words.
fn reason(came: Came) -> String {
    match came {
        Came::Answered(Ok(_)) => "it answered something else".into(),
        Came::Answered(Err(error)) => format!("it answered with the error {}", error.code),
        Came::Broken(Broken::TooLarge) => "its answer is too large".into(),
        Came::Broken(Broken::NoMessage) => "its answer is no message of a revision that is spoken here".into(),
        Came::Transport(answer) => match (answer.status(), answer) {
            (Some(status), _) => format!("it answered with status {status}"),
            (None, Answer::Refused) => "it could not be reached".into(),
            (None, Answer::TimedOut { .. }) => "it did not answer in time".into(),
            (None, _) => "the connection to it broke".into(),
        },
    }
}
