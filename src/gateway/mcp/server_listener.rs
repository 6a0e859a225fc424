//! Listens to the unsolicited notifications of an MCP server.

use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};

use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, settings};
use crate::transport::mcp::{NotificationStream, Peer, Subscription, listen, update_watches};
use narthex_core::access::principal::Principal;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::mcp::subscription::{SubscriptionFilter, passes_in_session};

use super::upstream::ClientProfile;
use super::{relay, server_features};

/// The longest duration of one stream from a server, in milliseconds.
const LISTEN_MS: u64 = 3_600_000;

/// Notifications: their methods, and their parameters as the text of a JSON object.
pub type NotificationFeed = LocalBoxStream<'static, (String, String)>;

pub struct ServerListener {
    pub service: ServiceId,
    peer: Peer,
    /// What the caller may receive.
    allowed: SubscriptionFilter,
    /// The latest subscription of the client.
    pub filter: SubscriptionFilter,
    pub notifications: NotificationFeed,
    /// The resources watched at a server whose stream survives a change of them.
    watched: Option<Vec<String>>,
    /// Consecutive failures, and the time of the next attempt.
    failures: u32,
    connected_at: Timestamp,
    retry_at: Timestamp,
}

/// The notifications of a service that a principal may receive.
pub fn allowed(principal: &Principal, service: &ServiceId) -> SubscriptionFilter {
    let may = |kind: &str| principal.may(&server_features::permission(service, kind));
    let (prompts_list_changed, resources_list_changed) = (may("prompts"), may("resources"));
    SubscriptionFilter {
        tools_list_changed: true,
        prompts_list_changed,
        resources_list_changed,
        ..SubscriptionFilter::default()
    }
}

/// Whether a client that may receive `allowed` may receive this notification of a server.
pub fn may_forward(allowed: &SubscriptionFilter, method: &str) -> bool {
    passes_in_session(method)
        && (allowed.prompts_list_changed || !method.starts_with("notifications/prompts/"))
        && (allowed.resources_list_changed || !method.starts_with("notifications/resources/"))
}

impl ServerListener {
    /// A listener for the server of this service, not connected yet; nothing if the client may not use it. `origin` is
    /// the gateway's own.
    pub async fn new(principal: &Principal, origin: &str, entry: &Entry, client: ClientProfile<'_>) -> Option<Self> {
        let service = entry.service();
        if !service.transport.is_mcp() {
            return None;
        }
        if client.session.is_some() && !server_features::may_use(principal, entry) {
            return None;
        }
        let allowed = allowed(principal, &service.id);
        let (peer, _) = relay::peer_of(principal, origin, entry, client).await.ok()?;
        let (service, at) = (service.id.clone(), Timestamp::default());
        let (filter, notifications) = (SubscriptionFilter::default(), stream::pending().boxed_local());
        Some(Self {
            service,
            peer,
            allowed,
            filter,
            notifications,
            watched: None,
            failures: 0,
            connected_at: at,
            retry_at: at,
        })
    }

    /// Reads the caller's permissions again. False if the caller may no longer use the server.
    pub fn refresh_permissions(&mut self, principal: &Principal, entry: Option<&Entry>, in_session: bool) -> bool {
        self.allowed = allowed(principal, &self.service);
        entry.is_some_and(|entry| !in_session || server_features::may_use(principal, entry))
    }

    /// Subscribes at the server; returns the part of the filter that it agreed to.
    pub async fn subscribe(&mut self, filter: &SubscriptionFilter) -> SubscriptionFilter {
        let permitted = self.permitted(filter);
        let until = clock::now().plus_ms(LISTEN_MS);
        if let Some(before) = self.watched.take() {
            let uris = permitted.as_ref().map(|filter| filter.resource_subscriptions.clone()).unwrap_or_default();
            let without = |all: &[String], known: &[String]| -> Vec<String> {
                all.iter().filter(|uri| !known.contains(uri)).cloned().collect()
            };
            if update_watches(&self.peer, &without(&uris, &before), &without(&before, &uris)).await {
                (self.filter, self.watched) = (filter.clone(), Some(uris));
            } else {
                // The stream itself continues; the change of subscriptions is retried later.
                self.watched = Some(before);
                self.retry_later();
            }
            return permitted.unwrap_or_default();
        }
        self.notifications = stream::pending().boxed_local();
        self.filter = filter.clone();
        let Some(permitted) = permitted else { return SubscriptionFilter::default() };
        match listen(&self.peer, &permitted, until).await {
            Some(Subscription { stream, agreed, is_session_stream }) => {
                self.notifications = unfold(stream);
                self.watched = is_session_stream.then(|| agreed.resource_subscriptions.clone());
                self.connected_at = clock::now();
                agreed
            }
            None => {
                self.disconnect();
                SubscriptionFilter::default()
            }
        }
    }

    /// The part of a filter that the caller may receive; nothing if it is empty.
    fn permitted(&self, filter: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let SubscriptionFilter { tools_list_changed, prompts_list_changed, resources_list_changed, .. } = self.allowed;
        let resource_subscriptions =
            if resources_list_changed { filter.resource_subscriptions.clone() } else { Vec::new() };
        let permitted = SubscriptionFilter {
            tools_list_changed: filter.tools_list_changed && tools_list_changed,
            prompts_list_changed: filter.prompts_list_changed && prompts_list_changed,
            resources_list_changed: filter.resources_list_changed && resources_list_changed,
            resource_subscriptions,
            task_ids: Vec::new(),
        };
        permitted.upstream_part()
    }

    /// Whether the client may receive this notification: the stream of a session carries all that its server sends.
    pub fn may_forward(&self, method: &str) -> bool {
        may_forward(&self.allowed, method)
    }

    /// Marks the server's stream as ended. The delay before the next attempt grows with each short stream.
    pub fn disconnect(&mut self) {
        if clock::now().since(self.connected_at) >= settings::timing().listen_min_ms
            && self.filter != SubscriptionFilter::default()
        {
            self.failures = 0;
        }
        self.retry_later();
        self.filter = SubscriptionFilter::default();
        self.watched = None;
        self.notifications = stream::pending().boxed_local();
    }

    fn retry_later(&mut self) {
        self.failures = self.failures.saturating_add(1);
        let Timing { listen_retry_ms, listen_retry_max_ms, .. } = settings::timing();
        self.retry_at = clock::now().plus_ms((listen_retry_ms << self.failures.min(5)).min(listen_retry_max_ms));
    }

    /// Whether the filter differs from the latest subscription, and the next attempt is due.
    pub fn is_due(&self, filter: &SubscriptionFilter) -> bool {
        self.filter != *filter && clock::now() >= self.retry_at
    }
}

fn unfold(feed: NotificationStream) -> NotificationFeed {
    let next = |mut feed: NotificationStream| async move { feed.next().await.map(|notification| (notification, feed)) };
    stream::unfold(feed, next).boxed_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_of_features_without_permission_are_dropped() {
        let both = SubscriptionFilter {
            prompts_list_changed: true,
            resources_list_changed: true,
            ..SubscriptionFilter::default()
        };
        let prompts = SubscriptionFilter { resources_list_changed: false, ..both.clone() };
        for (method, with_both, with_prompts) in [
            ("notifications/prompts/list_changed", true, true),
            ("notifications/resources/list_changed", true, false),
            ("notifications/resources/updated", true, false),
            ("notifications/message", true, true),
            ("notifications/progress", false, false),
        ] {
            let forwarded =
                [&both, &prompts, &SubscriptionFilter::default()].map(|allowed| may_forward(allowed, method));
            assert_eq!(forwarded, [with_both, with_prompts, method == "notifications/message"], "{method}");
        }
    }
}
