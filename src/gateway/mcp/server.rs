//! What an MCP server tells without being asked.

use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};

use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, settings};
use crate::transport::mcp::{Ear, Heard, Peer, listen, watch_in_time};
use narthex_core::access::principal::Principal;
use narthex_core::base::time::Timestamp;
use narthex_core::base::timing::Timing;
use narthex_core::mcp::subscription::{SubscriptionFilter, passes_in_session};

use super::upstream::Client;
use super::{offered, relay};

/// It is listened to for so long at a time, in milliseconds.
const LISTEN_MS: u64 = 3_600_000;

/// Notifications: their methods, and their parameters as an object's text.
pub type News = LocalBoxStream<'static, (String, String)>;

pub struct Server {
    pub service: String,
    peer: Peer,
    /// What the caller may be told of.
    may: SubscriptionFilter,
    /// What was asked for last.
    pub wanted: SubscriptionFilter,
    pub news: News,
    /// What is watched there by a stream that stays when something else is watched.
    stays: Option<Vec<String>>,
    /// Times in a row that it was heard for a moment at the most, and when it is tried again.
    failed: u32,
    heard_at: Timestamp,
    again_at: Timestamp,
}

/// What somebody may be told of a service.
pub fn allowed(principal: &Principal, service: &str) -> SubscriptionFilter {
    let may = |kind: &str| principal.may(&offered::permission(service, kind));
    let (prompts_list_changed, resources_list_changed) = (may("prompts"), may("resources"));
    SubscriptionFilter {
        tools_list_changed: true,
        prompts_list_changed,
        resources_list_changed,
        ..SubscriptionFilter::default()
    }
}

/// Whether a notification of a server may be told to somebody who may be told of this.
pub fn may_tell(may: &SubscriptionFilter, method: &str) -> bool {
    passes_in_session(method)
        && (may.prompts_list_changed || !method.starts_with("notifications/prompts/"))
        && (may.resources_list_changed || !method.starts_with("notifications/resources/"))
}

impl Server {
    /// The one that this service is. Nothing is heard of it yet. `origin` is the gateway's own.
    pub async fn of(principal: &Principal, origin: &str, entry: &Entry, client: Client<'_>) -> Option<Self> {
        let service = entry.service();
        service.transport.upstream()?;
        if client.session.is_some() && !offered::may_use(principal, entry) {
            return None;
        }
        let may = allowed(principal, &service.id);
        let (peer, _) = relay::peer_of(principal, origin, entry, client).await.ok()?;
        let (service, at) = (service.id.clone(), Timestamp::default());
        let (wanted, news) = (SubscriptionFilter::default(), stream::pending().boxed_local());
        Some(Self { service, peer, may, wanted, news, stays: None, failed: 0, heard_at: at, again_at: at })
    }

    /// What the caller may be told of is looked at again. False where that is nothing any more.
    pub fn renewed(&mut self, principal: &Principal, entry: Option<&Entry>, in_session: bool) -> bool {
        self.may = allowed(principal, &self.service);
        entry.is_some_and(|entry| !in_session || offered::may_use(principal, entry))
    }

    /// Listens to it for this from now on; gives what it agreed to tell.
    pub async fn hear(&mut self, wanted: &SubscriptionFilter) -> SubscriptionFilter {
        let theirs = self.allowed(wanted);
        let until = clock::now().plus_ms(LISTEN_MS);
        if let Some(before) = self.stays.take() {
            let uris = theirs.as_ref().map(|theirs| theirs.resource_subscriptions.clone()).unwrap_or_default();
            let without = |all: &[String], known: &[String]| -> Vec<String> {
                all.iter().filter(|uri| !known.contains(uri)).cloned().collect()
            };
            if watch_in_time(&self.peer, &without(&uris, &before), &without(&before, &uris)).await {
                (self.wanted, self.stays) = (wanted.clone(), Some(uris));
            } else {
                // What it tells is heard all the same; what is watched is said again later.
                self.stays = Some(before);
                self.again_later();
            }
            return theirs.unwrap_or_default();
        }
        self.news = stream::pending().boxed_local();
        self.wanted = wanted.clone();
        let Some(theirs) = theirs else { return SubscriptionFilter::default() };
        match listen(&self.peer, &theirs, until).await {
            Some(Heard { ear, agreed, stays }) => {
                self.news = said(ear);
                self.stays = stays.then(|| agreed.resource_subscriptions.clone());
                self.heard_at = clock::now();
                agreed
            }
            None => {
                self.deaf();
                SubscriptionFilter::default()
            }
        }
    }

    /// What of that the caller may be told of, if it is anything.
    fn allowed(&self, wanted: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let SubscriptionFilter { tools_list_changed, prompts_list_changed, resources_list_changed, .. } = self.may;
        let resource_subscriptions =
            if resources_list_changed { wanted.resource_subscriptions.clone() } else { Vec::new() };
        let theirs = SubscriptionFilter {
            tools_list_changed: wanted.tools_list_changed && tools_list_changed,
            prompts_list_changed: wanted.prompts_list_changed && prompts_list_changed,
            resources_list_changed: wanted.resources_list_changed && resources_list_changed,
            resource_subscriptions,
            task_ids: Vec::new(),
        };
        theirs.upstream_part()
    }

    /// Whether this may be told on the stream of a session, where everything comes that the server tells.
    pub fn may_tell(&self, method: &str) -> bool {
        may_tell(&self.may, method)
    }

    /// Nothing more is heard of it, for a while that grows where it is never heard for long.
    pub fn deaf(&mut self) {
        if clock::now().since(self.heard_at) >= settings::timing().listen_min_ms
            && self.wanted != SubscriptionFilter::default()
        {
            self.failed = 0;
        }
        self.again_later();
        self.wanted = SubscriptionFilter::default();
        self.stays = None;
        self.news = stream::pending().boxed_local();
    }

    fn again_later(&mut self) {
        self.failed = self.failed.saturating_add(1);
        let Timing { listen_retry_ms, listen_retry_max_ms, .. } = settings::timing();
        self.again_at = clock::now().plus_ms((listen_retry_ms << self.failed.min(5)).min(listen_retry_max_ms));
    }

    /// Whether it may be listened to, or to something else, by now.
    pub fn is_due(&self, wanted: &SubscriptionFilter) -> bool {
        self.wanted != *wanted && clock::now() >= self.again_at
    }
}

fn said(ear: Ear) -> News {
    let next = |mut ear: Ear| async move { ear.next().await.map(|told| (told, ear)) };
    stream::unfold(ear, next).boxed_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_used_is_not_told_of() {
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
            let told =
                (may_tell(&both, method), may_tell(&prompts, method), may_tell(&SubscriptionFilter::default(), method));
            assert_eq!(told, (with_both, with_prompts, method == "notifications/message"), "{method}");
        }
    }
}
