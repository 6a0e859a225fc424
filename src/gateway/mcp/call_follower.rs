//! Follows a call until it ends: writes its progress and its response to the stream of the request.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

use futures_channel::mpsc::UnboundedReceiver;
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use serde_json::value::RawValue;

use crate::auth;
use crate::auth::credential_watch::CredentialWatch;
use crate::execution::notifications::Notifications;
use crate::execution::{Completion, WaitOutcome};
use crate::objects::contexts::client::call_with_revision;
use crate::objects::contexts::messages::{ContextDetails, Follow};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::streams::Stream;
use crate::platform::{clock, log_event, settings};
use crate::transport::observer::Notification;
use narthex_core::base::id::ContextId;
use narthex_core::context::Progress;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses;
use narthex_core::mcp::session::{CallInfo, StreamPosition, request_id};

use super::super::answer::internal;
use super::super::call::Call;
use super::super::contexts::Canceller;
use super::channel::Channel;
use super::elicitation::{ElicitationMode, read_task};
use super::result_links;
use super::session::session_request;
use super::upstream::notification;

/// The longest wait for news at the store, in milliseconds.
const STORE_WAIT_MS: u64 = 20_000;

pub struct CallFollower {
    pub canceller: Canceller,
    pub snapshot: Rc<Snapshot>,
    pub id: ContextId,
    /// The id of the JSON-RPC request.
    pub request: Box<RawValue>,
    pub request_id: String,
    /// The token under which the client asked for progress.
    pub progress_token: Option<Box<RawValue>>,
    pub legacy: bool,
    /// Each message names the task (revision 2025-11-25).
    pub names_task: bool,
    /// The result links to resources by their names at the combined endpoint.
    pub combined: bool,
    /// Log messages of an upstream are forwarded.
    pub forwards_logs: bool,
    /// The notifications of an upstream that is called in this request.
    pub notifications: Notifications,
    pub elicitation: ElicitationMode,
    pub position: StreamPosition,
    /// The credentials of the call.
    pub credentials: Rc<CredentialWatch>,
    /// Where the end arrives of a call whose result is not kept.
    pub pending: Option<oneshot::Receiver<WaitOutcome>>,
}

/// The state of the context that is followed.
struct FollowedState {
    view: Box<RawValue>,
    result: Option<Box<RawValue>>,
    ended: bool,
    progress: Option<Progress>,
}

/// The effect of a new state of the context on the stream.
enum Update {
    /// All news is written; the call continues.
    Written,
    /// Another stream has taken over.
    Superseded,
    /// The call has this result.
    Finished(String),
}

/// The next event of a call.
enum CallEvent {
    Context(Result<FollowedState, Problem>),
    /// The call in this request is over; the upstream sends no more notifications.
    UpstreamSilent,
    /// Another stream has taken over.
    Superseded,
}

impl CallFollower {
    /// The context once it has ended, or has an elicitation or progress that the stream lacks; at the latest after
    /// `STORE_WAIT_MS`.
    async fn next_state(&mut self) -> Result<FollowedState, Problem> {
        if let Some(pending) = &mut self.pending {
            if let Ok(WaitOutcome::Ended(Completion { view, result, .. })) = pending.await {
                return Ok(FollowedState { view, result, ended: true, progress: None });
            }
            // The store knows how it ended.
            self.pending = None;
        }
        let StreamPosition { event, asked, .. } = self.position;
        let (id, news_after) = (self.id.clone(), self.progress_token.is_some().then_some(event));
        let follow = Follow { id, milliseconds: STORE_WAIT_MS, asked, news_after, taken: false };
        let reply = call_with_revision(&self.canceller.tenant, &self.id, &mut self.snapshot, &follow).await;
        let unknown = || Problem::new(Code::NotFound, "The outcome of this call is not kept, or no longer kept.");
        let ContextDetails { view, result, ended, progress, .. } =
            *reply.map_err(internal)?.found().ok_or_else(unknown)?;
        Ok(FollowedState { view, result, ended, progress })
    }

    /// Whether the wait is over: the context has ended, or has a new elicitation.
    fn is_settled(&self, found: &FollowedState) -> Result<bool, Problem> {
        if found.ended {
            return Ok(true);
        }
        let task = read_task(&found.view)?;
        Ok(task.asks() && task.question().number > self.position.asked)
    }

    /// The part of the call that its session stores.
    pub fn call_info(&self) -> CallInfo {
        CallInfo {
            request: self.request.get().into(),
            context: self.id.to_string(),
            token: self.progress_token.as_ref().map(|token| token.get().into()),
            related: self.names_task,
        }
    }

    /// The result of the call, once its context has ended or requests input.
    pub async fn result(&mut self, view: &RawValue, result: Option<&RawValue>) -> Result<String, Error> {
        let context_result = result_links::rewrite(&self.snapshot, self.combined, view, result);
        let result = self.elicitation.result(self.legacy, view, context_result.as_deref());
        if matches!(result, Err(Error::Capability { .. })) {
            // The client cannot answer, so the context would wait in vain.
            self.cancel().await;
        }
        match self.names_task {
            true => result.map(|result| responses::related(&result, self.id.as_str())),
            false => result,
        }
    }

    /// The result, however long it takes, for a client that accepts no stream.
    pub async fn wait_for_result(&mut self, call: &Call) -> Result<String, Error> {
        let credentials = self.credentials.clone();
        match select(pin!(self.wait()), pin!(credentials.ended())).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(auth::ended(&call.request, &call.settings).into()),
        }
    }

    async fn wait(&mut self) -> Result<String, Error> {
        loop {
            let found = self.next_state().await?;
            if self.is_settled(&found)? {
                return self.result(&found.view, found.result.as_deref()).await;
            }
        }
    }

    /// Writes messages until the call is over or its credentials end.
    pub async fn write_to(mut self, mut channel: Channel) {
        let credentials = self.credentials.clone();
        let is_cut_off =
            matches!(select(pin!(self.write(&mut channel)), pin!(credentials.ended())).await, Either::Right(_));
        if is_cut_off {
            channel.stream.close();
        }
    }

    /// In the modern revision, a client that closes the stream cancels the call.
    async fn write(&mut self, channel: &mut Channel) {
        let (token, forwards_logs, legacy) = (self.progress_token.clone(), self.forwards_logs, self.legacy);
        let text = |notice: &Notification| notification(notice, token.as_deref(), forwards_logs, legacy);
        let mut notices = self.notifications.subscribe();
        if notices.is_some() {
            // The store reports the same progress, which must not be written twice.
            self.progress_token = None;
        }
        loop {
            let event = match &mut notices {
                // This request runs the call, so the upstream's notifications arrive without a detour.
                Some(notices) => self.forward_notices(channel, notices, text).await,
                None => with_keep_alive(&mut channel.stream, self.next_state()).await.map(CallEvent::Context),
            };
            let state = match event {
                Some(CallEvent::Context(state)) => state,
                Some(CallEvent::UpstreamSilent) => {
                    notices = None;
                    continue;
                }
                Some(CallEvent::Superseded) => return,
                None => {
                    if !self.legacy {
                        self.cancel().await;
                    }
                    return;
                }
            };
            let response = match self.write_update(channel, state).await {
                Ok(Update::Written) => continue,
                Ok(Update::Superseded) => return,
                Ok(Update::Finished(result)) => responses::response(&self.request, &result),
                Err(error) => {
                    if let Error::Rejected(problem) = &error {
                        let cause = problem.cause.as_deref().unwrap_or(&problem.detail);
                        let (request_id, tenant) = (&self.request_id, &self.canceller.tenant);
                        log_event!(
                            CallNotFollowed,
                            request_id = request_id,
                            tenant = tenant,
                            context = &self.id,
                            detail = cause,
                        );
                    }
                    error.response(Some(&self.request), &self.request_id)
                }
            };
            return channel.end(&response);
        }
    }

    /// Forwards notifications of an upstream until the context changes; nothing if the reader has gone.
    async fn forward_notices(
        &mut self,
        channel: &mut Channel,
        notices: &mut UnboundedReceiver<Notification>,
        text: impl Fn(&Notification) -> Option<String>,
    ) -> Option<CallEvent> {
        let position = self.position;
        let mut next_state = std::pin::pin!(self.next_state());
        let state = loop {
            let notice = match with_keep_alive(&mut channel.stream, select(notices.next(), next_state.as_mut())).await?
            {
                Either::Left((Some(notice), _)) => notice,
                Either::Left((None, _)) => return Some(CallEvent::UpstreamSilent),
                Either::Right((state, _)) => break state,
            };
            if let Some(text) = text(&notice)
                && !channel.send(vec![text], position, Vec::new()).await
            {
                return Some(CallEvent::Superseded);
            }
        };
        // Notifications from before the end precede the end.
        while let Ok(notice) = notices.try_recv() {
            if let Some(text) = text(&notice) {
                channel.send(vec![text], position, Vec::new()).await;
            }
        }
        Some(CallEvent::Context(state))
    }

    /// Writes the news in a new state of the context.
    async fn write_update(
        &mut self,
        channel: &Channel,
        state: Result<FollowedState, Problem>,
    ) -> Result<Update, Error> {
        let found = state?;
        if self.is_settled(&found)? {
            if !found.ended && self.elicitation.can_ask_on_stream(&found.view)? {
                return self.elicit(channel, &found.view).await;
            }
            return self.result(&found.view, found.result.as_deref()).await.map(Update::Finished);
        }
        let Some(token) = &self.progress_token else { return Ok(Update::Written) };
        let Some(progress) = found.progress.filter(|progress| progress.event > self.position.event) else {
            return Ok(Update::Written);
        };
        let (value, text) = responses::progress(token, self.position.progress, &progress.data);
        (self.position.event, self.position.progress) = (progress.event, value);
        Ok(if channel.send(vec![text], self.position, Vec::new()).await { Update::Written } else { Update::Superseded })
    }

    /// Sends an elicitation on the call's stream. The response arrives in another request, which continues the context.
    async fn elicit(&mut self, channel: &Channel, view: &RawValue) -> Result<Update, Error> {
        let question = read_task(view)?.question();
        let requests = question.requests();
        let requests: BTreeMap<String, &RawValue> =
            serde_json::from_str(&requests).map_err(|_| Problem::internal("an elicitation is unreadable"))?;
        self.position.asked = question.number;
        let text = |(at, request): (usize, &&RawValue)| {
            let task = self.names_task.then_some(self.id.as_str());
            responses::request(&request_id(channel.call(), question.number, at), request, task)
        };
        let texts = requests.values().enumerate().map(text).collect();
        let requests = requests.iter().map(|(name, request)| session_request(name, request)).collect();
        Ok(if channel.send(texts, self.position, requests).await { Update::Written } else { Update::Superseded })
    }

    async fn cancel(&mut self) {
        if let Err(failure) = self.canceller.cancel(&mut self.snapshot, &self.id).await {
            log_event!(CallNotCancelled, tenant = &self.canceller.tenant, context = &self.id, detail = &failure);
        }
    }
}

/// Awaits an event, and writes a comment to the stream after each silent interval; nothing if the reader has gone.
async fn with_keep_alive<T>(stream: &mut Stream, event: impl Future<Output = T>) -> Option<T> {
    let mut event = std::pin::pin!(event);
    loop {
        let silence = std::pin::pin!(clock::pause(settings::timing().call_keep_alive_ms));
        let gone = match select(event.as_mut(), select(silence, &mut *stream)).await {
            Either::Left((event, _)) => return Some(event),
            Either::Right((Either::Left(_), _)) => false,
            Either::Right((Either::Right(_), _)) => true,
        };
        if gone {
            return None;
        }
        stream.write(responses::KEEP_ALIVE);
    }
}
