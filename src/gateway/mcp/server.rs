//! What the MCP server behind a door tells without being asked.

use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use serde_json::value::RawValue;

use crate::core::mcp::client::answer::Incoming;
use crate::core::mcp::subscription::Wanted;
use crate::platform::clock;
use crate::transport::mcp::{Conversation, Peer, listen};

use super::super::call::{Call, Caller};
use super::{Door, passing};

/// It is listened to for so long at a time, in milliseconds.
const LISTEN_MS: u64 = 3_600_000;

/// Notifications: their methods, and their parameters as an object's text.
pub type News = LocalBoxStream<'static, (String, String)>;

pub struct Server {
    peer: Peer,
    /// What the caller may be told of.
    may: Wanted,
    /// What was asked for last.
    pub wanted: Wanted,
    pub news: News,
}

impl Server {
    /// The one behind this door. Nothing is heard of it yet.
    pub async fn at(call: &Call, caller: &Caller, door: Door<'_>, capabilities: Option<&RawValue>) -> Option<Self> {
        let entry = caller.snapshot.service(door.0?)?;
        entry.service().transport.upstream()?;
        let may = |kind: &str| caller.principal.may(&passing::permission(&entry.service().id, kind));
        let (prompts_list_changed, resources_list_changed) = (may("prompts"), may("resources"));
        let may =
            Wanted { tools_list_changed: true, prompts_list_changed, resources_list_changed, ..Wanted::default() };
        let (peer, _) = passing::peer(call, caller, entry, capabilities).await.ok()?;
        Some(Self { peer, may, wanted: Wanted::default(), news: stream::pending().boxed_local() })
    }

    /// Listens to it for this from now on; gives what it agreed to tell.
    pub async fn hear(&mut self, wanted: &Wanted) -> Wanted {
        self.deaf();
        self.wanted = wanted.clone();
        let Wanted { tools_list_changed, prompts_list_changed, resources_list_changed, .. } = self.may;
        let resource_subscriptions =
            if resources_list_changed { wanted.resource_subscriptions.clone() } else { Vec::new() };
        let theirs = Wanted {
            tools_list_changed: wanted.tools_list_changed && tools_list_changed,
            prompts_list_changed: wanted.prompts_list_changed && prompts_list_changed,
            resources_list_changed: wanted.resources_list_changed && resources_list_changed,
            resource_subscriptions,
            task_ids: Vec::new(),
        };
        let Some(theirs) = theirs.of_a_server() else { return Wanted::default() };
        match listen(&self.peer, &theirs, clock::now().plus_ms(LISTEN_MS)).await {
            Some((conversation, agreed)) => {
                self.news = said(conversation);
                agreed
            }
            None => Wanted::default(),
        }
    }

    /// Nothing more is heard of it.
    pub fn deaf(&mut self) {
        self.wanted = Wanted::default();
        self.news = stream::pending().boxed_local();
    }
}

fn said(conversation: Conversation) -> News {
    let next = |mut conversation: Conversation| async move {
        loop {
            match conversation.next().await {
                Ok(Incoming::Notification { method, params }) => {
                    let params = params.map_or_else(|| "{}".into(), |params| params.get().to_string());
                    return Some(((method, params), conversation));
                }
                Ok(Incoming::Request { .. }) => {}
                Ok(Incoming::Response(_)) | Err(_) => return None,
            }
        }
    };
    stream::unfold(conversation, next).boxed_local()
}
