//! What a server tells without being asked: of its prompts, its resources, and those of them that are watched.
//!
//! A modern server is asked by `subscriptions/listen`. A legacy one is told what is watched by `resources/subscribe`, and
//! tells by the stream of a `GET` in its session.

use std::pin::pin;

use futures_util::future::{Either, select};
use serde_json::json;

use crate::core::mcp::client::answer::Incoming;
use crate::core::mcp::client::request::Asked;
use crate::core::mcp::subscription::Wanted;
use crate::core::time::Timestamp;
use crate::platform::clock;

use super::exchange::Exchange;
use super::{Conversation, Peer, Pending, ask, links};

/// How long a server may take to say what it will tell, in milliseconds.
const AGREE_MS: u64 = 5_000;

/// Listens until then: what is said, and what of it was agreed on. Nothing where the server tells nothing.
pub async fn listen(peer: &Peer, wanted: &Wanted, until: Timestamp) -> Option<(Conversation, Wanted)> {
    let agreeing = async {
        let link = links::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
        if link.spoken.is_modern() { modern(peer, wanted, until).await } else { legacy(peer, wanted, until).await }
    };
    match select(pin!(agreeing), pin!(clock::pause(AGREE_MS))).await {
        Either::Left((agreed, _)) => agreed,
        Either::Right(_) => None,
    }
}

async fn modern(peer: &Peer, wanted: &Wanted, until: Timestamp) -> Option<(Conversation, Wanted)> {
    let params = json!({"notifications": wanted}).to_string();
    let mut conversation = ask(peer, &Asked::new("subscriptions/listen", &params), &[], until, false).await.ok()?;
    loop {
        match conversation.next().await.ok()? {
            Incoming::Notification { method, params } if method == "notifications/subscriptions/acknowledged" => {
                return Some((conversation, Wanted::read(params.as_deref()).ok()?.of_a_server()?));
            }
            Incoming::Notification { .. } | Incoming::Request { .. } => {}
            Incoming::Response(_) => return None,
        }
    }
}

async fn legacy(peer: &Peer, wanted: &Wanted, until: Timestamp) -> Option<(Conversation, Wanted)> {
    // A session has one such stream: each that listens has one of its own.
    let peer = &Peer { key: format!("{} listening {}", peer.key, links::next_id()), ..peer.clone() };
    let heard = in_session(peer, wanted, until).await;
    // What listens holds it; nobody else is to find it.
    links::forget(peer);
    heard
}

async fn in_session(peer: &Peer, wanted: &Wanted, until: Timestamp) -> Option<(Conversation, Wanted)> {
    let mut agreed = Wanted { resource_subscriptions: Vec::new(), ..wanted.clone() };
    for uri in &wanted.resource_subscriptions {
        let params = json!({"uri": uri}).to_string();
        let asked = ask(peer, &Asked::new("resources/subscribe", &params), &[], until, false).await.ok()?;
        if matches!(asked.response().await, Ok(Ok(_))) {
            agreed.resource_subscriptions.push(uri.clone());
        }
    }
    let agreed = agreed.of_a_server()?;
    let link = links::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
    let exchange = Exchange::listening(peer, &link, until).await?;
    let pending = Pending { peer: peer.clone(), link, id: 0, over: true, alone: true };
    Some((Conversation { pending, exchange, until, deadline: false, resumed: 0 }, agreed))
}
