//! What a server tells without being asked: of its prompts, its resources, and those of them that are watched.
//!
//! A modern server is asked by `subscriptions/listen`. A legacy one is told what is watched by `resources/subscribe`, and
//! tells by the stream of a `GET` in its session.

use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use serde_json::json;

use crate::platform::{clock, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::response::Incoming;
use narthex_core::mcp::subscription::SubscriptionFilter;

use super::exchange::Exchange;
use super::{Conversation, Peer, Pending, ask, known, links};

/// How long a server may take to say what it will tell, in milliseconds.
const AGREE_MS: u64 = 5_000;
/// How long the stream of a session is waited for, which may open with its first event, in milliseconds.
const OPEN_MS: u64 = 1_000;

/// What is heard of a server.
pub struct Heard {
    pub ear: Ear,
    /// What was agreed on.
    pub agreed: SubscriptionFilter,
    /// It is the stream of a session that has other uses: what is watched changes without another stream.
    pub stays: bool,
}

/// What a server tells, as it comes.
pub enum Ear {
    Opening(LocalBoxFuture<'static, Option<Conversation>>),
    Open(Box<Conversation>),
}

impl Ear {
    /// The next notification: its method, and its parameters as an object's text. Nothing when no more comes.
    pub async fn next(&mut self) -> Option<(String, String)> {
        loop {
            let conversation = match self {
                Self::Open(conversation) => conversation,
                Self::Opening(opening) => {
                    *self = Self::Open(Box::new(opening.await?));
                    continue;
                }
            };
            match conversation.next().await {
                Ok(Incoming::Notification { method, params }) => {
                    let params = params.map_or_else(|| "{}".into(), |params| params.get().to_string());
                    return Some((method, params));
                }
                // There is no call here whose client could be asked.
                Ok(Incoming::Request { id, method, .. }) => {
                    conversation.respond(&id, (method == "ping").then_some("{}")).await;
                }
                Ok(Incoming::Response(_)) | Err(_) => return None,
            }
        }
    }
}

/// Listens until then. Nothing where the server tells nothing.
pub async fn listen(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Heard> {
    let agreeing = async {
        let link = links::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
        if link.spoken.is_modern() {
            modern(peer, wanted, until).await
        } else if peer.session.is_some() {
            watch(peer, &wanted.resource_subscriptions, &[], until).await;
            in_session(peer, wanted.clone(), until, true).await
        } else {
            apart(peer, wanted, until).await
        }
    };
    match select(pin!(agreeing), pin!(clock::pause(AGREE_MS))).await {
        Either::Left((agreed, _)) => agreed,
        Either::Right(_) => None,
    }
}

async fn modern(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Heard> {
    let params = json!({"notifications": wanted}).to_string();
    let mut conversation =
        ask(peer, &UpstreamRequest::new("subscriptions/listen", &params), &[], until, false).await.ok()?;
    loop {
        match conversation.next().await.ok()? {
            Incoming::Notification { method, params } if method == "notifications/subscriptions/acknowledged" => {
                let agreed = SubscriptionFilter::read(params.as_deref()).ok()?.upstream_part()?;
                // Who listens sees to what has changed.
                conversation.heeds = false;
                return Some(Heard { ear: Ear::Open(Box::new(conversation)), agreed, stays: false });
            }
            Incoming::Notification { .. } | Incoming::Request { .. } => {}
            Incoming::Response(_) => return None,
        }
    }
}

/// For who has no session of their own: a session has one such stream, so each that listens has a session for it.
async fn apart(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Heard> {
    let peer = Closing(peer.apart());
    let watched = watch(&peer.0, &wanted.resource_subscriptions, &[], until).await;
    let agreed = SubscriptionFilter { resource_subscriptions: watched, ..wanted.clone() }.upstream_part()?;
    in_session(&peer.0, agreed, until, false).await
}

/// A peer whose links end with it, or with what was begun by them.
struct Closing(Peer);

impl Drop for Closing {
    fn drop(&mut self) {
        let peer = self.0.clone();
        tasks::spawn(async move { known::close(&peer).await });
    }
}

/// The same for a stream that stays, which is not to wait for long. False where the server does not answer in time.
pub async fn watch_in_time(peer: &Peer, more: &[String], no_more: &[String]) -> bool {
    let until = clock::now().plus_ms(AGREE_MS);
    let watching = pin!(watch(peer, more, no_more, until));
    matches!(select(watching, pin!(clock::pause(AGREE_MS))).await, Either::Left(_)) && clock::now() < until
}

/// Tells a legacy server which resources are watched from now on, and which no more. Gives those that it agreed to.
async fn watch(peer: &Peer, more: &[String], no_more: &[String], until: Timestamp) -> Vec<String> {
    let mut agreed = Vec::new();
    let unwatched = no_more.iter().map(|uri| ("resources/unsubscribe", uri));
    for (method, uri) in unwatched.chain(more.iter().map(|uri| ("resources/subscribe", uri))) {
        let params = json!({"uri": uri}).to_string();
        let Ok(asked) = ask(peer, &UpstreamRequest::new(method, &params), &[], until, false).await else { break };
        if matches!(asked.response().await, Ok(Ok(_))) && method == "resources/subscribe" {
            agreed.push(uri.clone());
        }
    }
    agreed
}

/// The stream by which a legacy server tells what belongs to no request. Some begin to answer with what they tell first.
async fn in_session(peer: &Peer, agreed: SubscriptionFilter, until: Timestamp, stays: bool) -> Option<Heard> {
    let link = links::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
    let peer = peer.clone();
    let opening = async move {
        let exchange = Exchange::listening(&peer, &link.spoken, link.session.as_deref(), until).await?;
        let pending = Pending { peer, link, id: 0, over: true };
        Some(Conversation { pending, exchange, until, deadline: false, resumed: 0, heeds: false })
    };
    let ear = match select(opening.boxed_local(), pin!(clock::pause(OPEN_MS))).await {
        Either::Left((open, _)) => Ear::Open(Box::new(open?)),
        Either::Right((_, opening)) => Ear::Opening(opening),
    };
    Some(Heard { ear, agreed, stays })
}
