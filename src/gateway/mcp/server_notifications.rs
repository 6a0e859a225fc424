//! Notifications of MCP servers on a client's notification stream: the choice of servers, and the filter.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::objects::sessions::messages::{CheckStream, Gone, StreamState};
use crate::platform::streams::Stream;
use crate::transport::mcp::catalogue_refresh;
use crate::transport::mcp::services_of;
use narthex_core::base::json::Object;
use narthex_core::base::order;
use narthex_core::base::service_id::ServiceId;
use narthex_core::mcp::responses;
use narthex_core::mcp::subscription::{SubscriptionFilter, notification, notification_outside};

use super::notification_stream::{NotificationStream, Reader};
use super::server_listener::{self, ServerListener};
use super::session::Session;
use super::upstream::ClientProfile;

/// The most servers that the stream of one session listens to.
const MAX_SERVERS: usize = 5;

impl NotificationStream {
    /// Asks the session for its subscriptions and its stored notifications, subscribes at the servers and writes the
    /// notifications. False if the stream is over.
    pub(super) async fn poll_session(&mut self, stream: &Stream) -> bool {
        let Reader::Session(session, number) = &self.reader else { return true };
        let (watched, noted, services) = match session.ask(&CheckStream { number: *number, takes: true }).await {
            Ok(Ok(StreamState::Current { watched, noted, services })) => (watched, noted, services),
            Ok(Ok(StreamState::Replaced) | Err(Gone::Gone)) => return false,
            Err(_) => return true,
        };
        for id in self.missing_servers(session, services) {
            let Some(entry) = self.snapshot.service(id.as_str()) else { continue };
            let client = ClientProfile::legacy(Some(session));
            self.servers.extend(ServerListener::new(&self.principal, &self.origin, entry, client).await);
        }
        for (service, method) in noted {
            self.write_noted(stream, &service, &method);
        }
        let resource_subscriptions = if self.service.is_some() { watched } else { Vec::new() };
        let filter = SubscriptionFilter {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions,
            task_ids: Vec::new(),
        };
        let due = self.servers.iter_mut().filter(|server| server.is_due(&filter));
        join_all(due.map(|server| server.subscribe(&filter))).await;
        true
    }

    /// The services that the stream must listen to and does not yet.
    /// `services`: those where the session has sessions, opened by any isolate.
    fn missing_servers(&self, session: &Session, services: Vec<ServiceId>) -> Vec<ServiceId> {
        let all: Vec<ServiceId> = match &self.service {
            Some(id) => vec![id.clone()],
            None => {
                let here = services_of(session.name());
                let more: BTreeSet<ServiceId> = order::insert_all(here.into_iter().filter(|id| !services.contains(id)));
                services.into_iter().chain(more).collect()
            }
        };
        let is_known = |id: &ServiceId| self.servers.iter().any(|server| server.service == *id);
        let room = MAX_SERVERS.saturating_sub(self.servers.len());
        all.into_iter().filter(|id| !is_known(id)).take(room).collect()
    }

    /// Writes a notification that a server sent during a call, if the client may receive it.
    fn write_noted(&self, stream: &Stream, service: &ServiceId, method: &str) {
        let is_here = self.service.as_ref().is_none_or(|id| id == service);
        let allowed = server_listener::allowed(&self.principal, service);
        if is_here
            && self.snapshot.service(service.as_str()).is_some()
            && server_listener::may_forward(&allowed, method)
        {
            stream.write(&responses::event(&notification_outside(method, "{}")));
        }
    }

    /// Forwards a notification of a server, if the client subscribed to it.
    pub(super) async fn forward(&mut self, stream: &Stream, at: usize, method: &str, params: &str) {
        let uri = Object::new(params, "#").ok().and_then(|mut params| params.string("uri", 1..=2048));
        let params = if params.starts_with('{') { params } else { "{}" };
        let Some(server) = self.servers.get(at) else { return };
        let is_subscribed = match &self.reader {
            Reader::Subscription(_) => server.filter.matches(method, uri.as_deref()),
            // The combined endpoint has no subscriptions to resources.
            Reader::Session(..) => self.service.is_some() || uri.is_none(),
        };
        if !is_subscribed || !server.may_forward(method) {
            return;
        }
        if method == "notifications/tools/list_changed" {
            // A client that lists the tools then must see the new ones. All streams share one read of them.
            catalogue_refresh::refresh_and_wait(&self.principal.tenant, &server.service).await;
            let _ = self.check_tools().await;
        }
        let text = match &self.reader {
            Reader::Subscription(id) => notification(id, method, params),
            Reader::Session(..) => notification_outside(method, params),
        };
        stream.write(&responses::event(&text));
    }
}
