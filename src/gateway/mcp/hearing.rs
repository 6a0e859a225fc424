//! What MCP servers tell, on the stream of a client that listens: which servers are listened to, and what of it is passed.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use crate::objects::sessions::messages::{Ask, Reply};
use crate::platform::streams::Stream;
use crate::transport::mcp::catalogue_refresh;
use crate::transport::mcp::services_of;
use narthex_core::base::json::Object;
use narthex_core::mcp::responses;
use narthex_core::mcp::subscription::{SubscriptionFilter, notification, notification_outside};

use super::listening::{Kind, Listening};
use super::server::{self, Server};
use super::session::Session;
use super::upstream::Client;

/// Servers that the stream of one session listens to.
const MAX_SERVERS: usize = 5;

impl Listening {
    /// Listens for what is watched by now, and tells what was noted. False when this stream is over.
    pub(super) async fn watch(&mut self, stream: &Stream) -> bool {
        let Kind::Get(session, number) = &self.form else { return true };
        let (watched, noted, services) = match session.ask(Ask::Listens { number: *number, takes: true }).await {
            Ok(Reply::Listens { watched, noted, services }) => (watched, noted, services),
            Ok(_) => return false,
            Err(_) => return true,
        };
        for id in self.wanted_servers(session, services) {
            let Some(entry) = self.snapshot.service(&id) else { continue };
            let client = Client::legacy(Some(session));
            self.servers.extend(Server::of(&self.principal, &self.origin, entry, client).await);
        }
        for (service, method) in noted {
            self.tell_noted(stream, &service, &method);
        }
        let resource_subscriptions = if self.door.is_some() { watched } else { Vec::new() };
        let wanted = SubscriptionFilter {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions,
            task_ids: Vec::new(),
        };
        let due = self.servers.iter_mut().filter(|server| server.is_due(&wanted));
        join_all(due.map(|server| server.hear(&wanted))).await;
        true
    }

    /// Services that are to be listened to and are not yet.
    /// `services`: those that the session has sessions at, wherever its requests arrived.
    fn wanted_servers(&self, session: &Session, services: Vec<String>) -> Vec<String> {
        let all: Vec<String> = match &self.door {
            Some(id) => vec![id.clone()],
            None => {
                let here = services_of(session.name());
                let more = here.iter().map(ToString::to_string).filter(|id| !services.contains(id));
                let more: BTreeSet<String> = more.collect();
                services.into_iter().chain(more).collect()
            }
        };
        let is_known = |id: &String| self.servers.iter().any(|server| server.service == *id);
        let room = MAX_SERVERS.saturating_sub(self.servers.len());
        all.into_iter().filter(|id| !is_known(id)).take(room).collect()
    }

    /// What a server said during a call, where its client may be informed of it.
    fn tell_noted(&self, stream: &Stream, service: &str, method: &str) {
        let is_here = self.door.as_deref().is_none_or(|door| door == service);
        let may = server::allowed(&self.principal, service);
        if is_here && self.snapshot.service(service).is_some() && server::may_tell(&may, method) {
            stream.write(&responses::event(&notification_outside(method, "{}")));
        }
    }

    /// What a server says, where it is wanted.
    pub(super) async fn pass_on(&mut self, stream: &Stream, at: usize, method: &str, params: &str) {
        let uri = Object::new(params, "#").ok().and_then(|mut params| params.string("uri", 1..=2048));
        let params = if params.starts_with('{') { params } else { "{}" };
        let Some(server) = self.servers.get(at) else { return };
        let is_told = match &self.form {
            Kind::Subscription(_) => server.wanted.matches(method, uri.as_deref()) && server.may_tell(method),
            // Where all services are, none of their resources is watched.
            Kind::Get(..) => server.may_tell(method) && (self.door.is_some() || uri.is_none()),
        };
        if !is_told {
            return;
        }
        if method == "notifications/tools/list_changed" {
            // Whoever looks then is to see them. All that listen here have them read once.
            catalogue_refresh::heed_first(&self.principal.tenant, &server.service).await;
            let _ = self.look().await;
        }
        let text = match &self.form {
            Kind::Subscription(id) => notification(id, method, params),
            Kind::Get(..) => notification_outside(method, params),
        };
        stream.write(&responses::event(&text));
    }
}
