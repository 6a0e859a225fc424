//! How the client that created a context receives it: as one response when the wait is over, or as Server-Sent Events
//! until the context ends.

use std::pin::pin;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::client_stream::ClientStream;
use crate::execution::notifications::Notifications;
use crate::execution::{Client, WaitOutcome};
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Wait};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::http::Headers;
use crate::platform::{Failure, clock, settings, tasks};
use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::context::status::Status;
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::prefer::Prefer;
use narthex_core::http::problem::Problem;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::context_state::{ContextState, Until, context_json, wait_for_news, waiting_client};

/// How the client wants to receive the context.
#[derive(Clone, Copy)]
pub(super) struct DeliveryMode<'p> {
    pub preference: &'p Prefer,
    /// As an event stream, for as long as it lasts.
    pub streams: bool,
    /// Receives the notifications of the calls that are made in this request, by a caller that follows a call that
    /// takes longer.
    pub notifications: Option<&'p Notifications>,
}

/// How long after the deadline of a context whose content is not kept its client still waits, in milliseconds. The
/// attempt ends at the deadline.
const AFTER_DEADLINE_MS: u64 = 30_000;

/// A created context, as the client receives it.
pub(super) enum CreationOutput {
    State(ContextState),
    Stream(Answer),
}

/// An open event stream about a context.
struct EventStream {
    response: JsValue,
    live: Rc<ClientStream>,
}

impl EventStream {
    fn open() -> Self {
        let mut headers = Headers::default();
        headers.set("content-type", EVENT_STREAM);
        let (response, live) = ClientStream::open(&headers);
        Self { response, live: Rc::new(live) }
    }
}

/// The client's end of a context that this Worker runs.
pub(super) struct Delivery {
    news: oneshot::Receiver<WaitOutcome>,
    until: Until,
    stream: Option<EventStream>,
    /// The permission that keeps the stream open.
    needed: RequiredPermissions,
}

/// The permission by which a context was created.
pub(super) fn create_permission(admission: &Admission) -> RequiredPermissions {
    RequiredPermissions::one(format!("contexts:create:{}.{}", admission.service, admission.capability))
}

impl Delivery {
    /// Both ends: the one that the work carries along, and the client's. A stream lasts until the context has ended.
    pub(super) fn open(call: &Call, mode: DeliveryMode<'_>, admission: &Admission) -> (Client, Self) {
        if !mode.streams {
            let (mut client, news) = match admission.content {
                Content::Full => waiting_client(call, mode.preference),
                // The result could not be fetched later.
                Content::None => Client::waiting_until(admission.expires_at.plus_ms(AFTER_DEADLINE_MS)),
            };
            if let Some(notifications) = mode.notifications {
                client = client.with_notifications(notifications);
            }
            let until = match (admission.content, mode.notifications) {
                (Content::Full, _) => Until::Wait,
                (Content::None, None) => Until::End,
                (Content::None, Some(_)) => Until::Followed,
            };
            return (client, Self { news, until, stream: None, needed: RequiredPermissions::ToCreate });
        }
        let (client, news) = Client::waiting_until(admission.expires_at);
        let (stream, needed) = (EventStream::open(), create_permission(admission));
        (client.with_stream(stream.live.clone()), Self { news, until: Until::End, stream: Some(stream), needed })
    }

    /// The response about a context that this Worker runs.
    pub(super) async fn respond(
        self,
        call: &Call,
        caller: &Caller,
        id: &ContextId,
        parameters: Box<RawValue>,
        preference: &Prefer,
        admit_ms: u64,
    ) -> Result<CreationOutput, Problem> {
        let Some(EventStream { response, live }) = self.stream else {
            let state =
                wait_for_news(call, caller, id, &parameters, preference, admit_ms, (self.news, self.until)).await?;
            return Ok(CreationOutput::State(state));
        };
        let news = self.news;
        let (follower, permits) = (Follower::new(caller, id), call.limits.hand_over());
        let watched = call.watched(&caller.principal, self.needed);
        tasks::keep_running(async move {
            let events = pin!(async {
                live.send("context", &format!(r#"{{"id":"{}","status":"executing"}}"#, follower.id));
                match with_keep_alive(&live, news).await {
                    Ok(WaitOutcome::Ended(worked)) => {
                        let result = worked.result.as_deref().map(RawValue::get);
                        live.send("end", &context_json(&worked.view, parameters.get(), result));
                    }
                    // Another Worker has the context now.
                    _ => follower.publish_until_end(&live).await,
                }
            });
            select(events, pin!(watched.ended())).await;
            live.close();
            drop(permits);
        });
        Ok(CreationOutput::Stream(stream_answer(response, id)))
    }
}

/// An event stream about a context that another Worker runs.
pub(super) fn stream_context(call: &Call, caller: &Caller, id: &ContextId, needed: RequiredPermissions) -> Answer {
    let EventStream { response, live } = EventStream::open();
    let (follower, permits) = (Follower::new(caller, id), call.limits.hand_over());
    let watched = call.watched(&caller.principal, needed);
    tasks::keep_running(async move {
        select(pin!(follower.publish_until_end(&live)), pin!(watched.ended())).await;
        live.close();
        drop(permits);
    });
    stream_answer(response, id)
}

fn stream_answer(response: JsValue, id: &ContextId) -> Answer {
    let answer = Answer::stream(response).with("location", &format!("/v1/contexts/{id}"));
    Answer { context: Some(id.clone()), ..answer }
}

/// Waits for news, and writes a comment to the stream after each silent interval.
async fn with_keep_alive(
    live: &ClientStream,
    mut news: oneshot::Receiver<WaitOutcome>,
) -> Result<WaitOutcome, oneshot::Canceled> {
    loop {
        let pause = pin!(clock::pause(settings::timing().keep_alive_ms));
        match select(&mut news, pause).await {
            Either::Left((news, _)) => return news,
            Either::Right(_) => live.comment(),
        }
    }
}

/// Follows a context by asking its store.
struct Follower {
    tenant: TenantId,
    id: ContextId,
    snapshot: Rc<Snapshot>,
}

impl Follower {
    fn new(caller: &Caller, id: &ContextId) -> Self {
        Self { tenant: caller.principal.tenant.clone(), id: id.clone(), snapshot: caller.snapshot.clone() }
    }

    /// Writes each change of status to the stream, and the context once it has ended.
    async fn publish_until_end(mut self, live: &ClientStream) {
        let mut published = None;
        loop {
            match self.next_state(published).await {
                Ok(Some(found)) if found.ended => {
                    let result = found.result.as_deref().map(RawValue::get);
                    return live.send("end", &context_json(&found.view, found.parameters.get(), result));
                }
                Ok(Some(found)) if Some(found.status) != published => {
                    published = Some(found.status);
                    live.send("context", &context_json(&found.view, found.parameters.get(), None));
                }
                Ok(Some(_)) => live.comment(),
                // The client finds the context at the URL in the `Location` header.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The context once its status differs from the published one, or after the keep-alive interval.
    async fn next_state(&mut self, published: Option<Status>) -> Result<Option<Box<ContextDetails>>, Failure> {
        let id = self.id.clone();
        let to_the_end = published == Some(Status::InputRequired);
        let milliseconds = if published.is_none() { 0 } else { settings::timing().keep_alive_ms };
        let wait = Wait { id, milliseconds, to_the_end, news_after: None };
        Ok(call_with_revision(&self.tenant, &self.id, &mut self.snapshot, &wait).await?.found())
    }
}
