//! Notifications of a server outside requests: about its prompts and resources, and updates of watched resources.
//!
//! Modern servers are subscribed to by `subscriptions/listen`. Legacy servers learn by `resources/subscribe` which
//! resources are watched, and send notifications on the stream of a `GET` in the session.

use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use serde_json::json;

use crate::platform::{clock, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::mcp::client::request::UpstreamRequest;
use narthex_core::mcp::client::response::UpstreamMessage;
use narthex_core::mcp::subscription::SubscriptionFilter;

use super::exchange::Exchange;
use super::{Conversation, Peer, PendingRequest, ask, discovery, link_cache};

/// How long a server may take to accept a subscription, in milliseconds.
const SUBSCRIBE_TIMEOUT_MS: u64 = 5_000;
/// How long to wait for the stream of a session, which may open only with its first event, in milliseconds.
const OPEN_TIMEOUT_MS: u64 = 1_000;

/// An accepted subscription.
pub struct Subscription {
    pub stream: NotificationStream,
    /// What the server has agreed to send.
    pub agreed: SubscriptionFilter,
    /// The stream belongs to a session with other uses: watches change without another stream.
    pub is_session_stream: bool,
}

/// The notifications of a server, as they arrive.
pub enum NotificationStream {
    Opening(LocalBoxFuture<'static, Option<Conversation>>),
    Open(Box<Conversation>),
}

impl NotificationStream {
    /// The next notification: its method, and its parameters as the text of an object. `None` at the end.
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
                Ok(UpstreamMessage::Notification { method, params }) => {
                    let params = params.map_or_else(|| "{}".into(), |params| params.get().to_string());
                    return Some((method, params));
                }
                // There is no call here whose client could answer.
                Ok(UpstreamMessage::Request { id, method, .. }) => {
                    conversation.respond(&id, (method == "ping").then_some("{}")).await;
                }
                Ok(UpstreamMessage::Response(_)) | Err(_) => return None,
            }
        }
    }
}

/// Subscribes until then. `None` if the server sends no notifications.
pub async fn listen(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Subscription> {
    let agreeing = async {
        let link = discovery::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
        if link.revision.is_modern() {
            modern(peer, wanted, until).await
        } else if peer.session.is_some() {
            watch(peer, &wanted.resource_subscriptions, &[], until).await;
            in_session(peer, wanted.clone(), until, true).await
        } else {
            apart(peer, wanted, until).await
        }
    };
    match select(pin!(agreeing), pin!(clock::pause(SUBSCRIBE_TIMEOUT_MS))).await {
        Either::Left((agreed, _)) => agreed,
        Either::Right(_) => None,
    }
}

async fn modern(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Subscription> {
    let params = json!({"notifications": wanted}).to_string();
    let mut conversation =
        ask(peer, &UpstreamRequest::new("subscriptions/listen", &params), &[], until, false).await.ok()?;
    loop {
        match conversation.next().await.ok()? {
            UpstreamMessage::Notification { method, params }
                if method == "notifications/subscriptions/acknowledged" =>
            {
                let agreed = SubscriptionFilter::read(params.as_deref()).ok()?.upstream_part()?;
                // The subscriber handles changes itself.
                conversation.refreshes_tools = false;
                return Some(Subscription {
                    stream: NotificationStream::Open(Box::new(conversation)),
                    agreed,
                    is_session_stream: false,
                });
            }
            UpstreamMessage::Notification { .. } | UpstreamMessage::Request { .. } => {}
            UpstreamMessage::Response(_) => return None,
        }
    }
}

/// For requesters without a session: a session has one such stream, so every subscription uses a session of its own.
async fn apart(peer: &Peer, wanted: &SubscriptionFilter, until: Timestamp) -> Option<Subscription> {
    let peer = CloseOnDrop(peer.private());
    let watched = watch(&peer.0, &wanted.resource_subscriptions, &[], until).await;
    let agreed = SubscriptionFilter { resource_subscriptions: watched, ..wanted.clone() }.upstream_part()?;
    in_session(&peer.0, agreed, until, false).await
}

/// A peer whose link is closed when this is dropped.
struct CloseOnDrop(Peer);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let peer = self.0.clone();
        tasks::keep_running(async move { link_cache::close(&peer).await });
    }
}

/// As [`watch`], within a time-out, for a session whose stream is open. False if the server does not respond in time.
pub async fn update_watches(peer: &Peer, added: &[String], removed: &[String]) -> bool {
    let until = clock::now().plus_ms(SUBSCRIBE_TIMEOUT_MS);
    let watching = pin!(watch(peer, added, removed, until));
    matches!(select(watching, pin!(clock::pause(SUBSCRIBE_TIMEOUT_MS))).await, Either::Left(_)) && clock::now() < until
}

/// Changes which resources a legacy server watches. Returns the added ones that it accepted.
async fn watch(peer: &Peer, added: &[String], removed: &[String], until: Timestamp) -> Vec<String> {
    let mut agreed = Vec::new();
    let unwatched = removed.iter().map(|uri| ("resources/unsubscribe", uri));
    for (method, uri) in unwatched.chain(added.iter().map(|uri| ("resources/subscribe", uri))) {
        let params = json!({"uri": uri}).to_string();
        let Ok(asked) = ask(peer, &UpstreamRequest::new(method, &params), &[], until, false).await else { break };
        if matches!(asked.response().await, Ok(Ok(_))) && method == "resources/subscribe" {
            agreed.push(uri.clone());
        }
    }
    agreed
}

/// The stream for the notifications of a legacy server. Some servers begin their response only with the first
/// notification.
async fn in_session(
    peer: &Peer,
    agreed: SubscriptionFilter,
    until: Timestamp,
    is_session_stream: bool,
) -> Option<Subscription> {
    let link = discovery::open(peer, peer.hint.as_deref(), until, false).await.ok()?;
    let peer = peer.clone();
    let opening = async move {
        let exchange = Exchange::listening(&peer, &link.revision, link.session.as_deref(), until).await?;
        let pending = PendingRequest { peer, link, id: 0, over: true };
        Some(Conversation { pending, exchange, until, deadline: false, resumed: 0, refreshes_tools: false })
    };
    let stream = match select(opening.boxed_local(), pin!(clock::pause(OPEN_TIMEOUT_MS))).await {
        Either::Left((open, _)) => NotificationStream::Open(Box::new(open?)),
        Either::Right((_, opening)) => NotificationStream::Opening(opening),
    };
    Some(Subscription { stream, agreed, is_session_stream })
}
