//! A call that takes a while, followed until it ends: progress and the response, on the stream of that request alone.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use serde_json::value::RawValue;

use crate::auth;
use crate::auth::credential_watch::CredentialWatch;
use crate::execution::call_with_revision;
use crate::execution::notifications::Notifications;
use crate::objects::contexts::messages::{Ask, ContextDetails, Reply};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::streams::Stream;
use crate::platform::{clock, log_event, settings};
use crate::transport::observer::Notice;
use narthex_core::base::id::ContextId;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::responses;
use narthex_core::mcp::session::{CallInfo, StreamPosition, request_id};

use super::super::answer::internal;
use super::super::call::Call;
use super::super::contexts::Canceller;
use super::asking::{Asking, read};
use super::channel::Channel;
use super::joined;
use super::session::remembered;
use super::upstream::notification;

/// A store is asked for news for so long at a time, in milliseconds.
const WAIT_MS: u64 = 20_000;

pub struct Following {
    pub canceller: Canceller,
    pub snapshot: Rc<Snapshot>,
    pub id: ContextId,
    /// The id of the JSON-RPC request.
    pub request: Box<RawValue>,
    pub request_id: String,
    /// What progress is reported under, if somebody wants to know.
    pub token: Option<Box<RawValue>>,
    pub legacy: bool,
    /// All that is said of it names the task (revision 2025-11-25).
    pub related: bool,
    /// What it links to is named as among the things of all.
    pub joined: bool,
    /// What an upstream logs is shown.
    pub messages: bool,
    /// What an upstream says during the call, where that is made in this request.
    pub notifications: Notifications,
    pub asking: Asking,
    pub reached: StreamPosition,
    /// By what it was called.
    pub watched: Rc<CredentialWatch>,
}

/// What was made of news.
enum Taken {
    Told,
    /// Somebody else says the rest.
    Replaced,
    /// The result.
    Over(String),
}

/// What was heard of a call.
enum Heard {
    News(Result<Box<ContextDetails>, Problem>),
    /// Its upstream says nothing more here.
    Silence,
    /// Somebody else says the rest.
    Replaced,
}

impl Following {
    /// The context when it has ended, asks for more than was asked, or has progress that was not told; or after a while.
    async fn news(&mut self) -> Result<Box<ContextDetails>, Problem> {
        let StreamPosition { event, asked, .. } = self.reached;
        let (id, news_after) = (self.id.clone(), self.token.is_some().then_some(event));
        let follow = Ask::Follow { id, milliseconds: WAIT_MS, asked, news_after, taken: false };
        match call_with_revision(&self.canceller.tenant, &self.id, &mut self.snapshot, follow)
            .await
            .map_err(internal)?
        {
            Reply::Context(found) => Ok(found),
            _ => Err(Problem::internal("a context that was admitted is not there")),
        }
    }

    /// Whether there is nothing to wait for: it has ended, or asks what was not asked yet.
    fn is_over(&self, found: &ContextDetails) -> Result<bool, Problem> {
        if found.ended {
            return Ok(true);
        }
        let task = read(&found.view)?;
        Ok(task.asks() && task.question().number > self.reached.asked)
    }

    /// What a session has to remember of it.
    pub fn begun(&self) -> CallInfo {
        CallInfo {
            request: self.request.get().into(),
            context: self.id.to_string(),
            token: self.token.as_ref().map(|token| token.get().into()),
            related: self.related,
        }
    }

    /// What came of it, once it has ended or asks for input.
    pub async fn result(&mut self, view: &RawValue, result: Option<&RawValue>) -> Result<String, Error> {
        let result = joined::result(&self.snapshot, self.joined, view, result);
        let concluded = self.asking.result(self.legacy, view, result.as_deref());
        if matches!(concluded, Err(Error::Capability { .. })) {
            // Who called cannot be asked, and has been told so.
            self.stop().await;
        }
        match self.related {
            true => concluded.map(|result| responses::related(&result, self.id.as_str())),
            false => concluded,
        }
    }

    /// For who takes no stream: the result, however long it takes.
    pub async fn wait_out(&mut self, call: &Call) -> Result<String, Error> {
        let watched = self.watched.clone();
        match select(pin!(self.waited_out()), pin!(watched.ended())).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(auth::ended(&call.request, &call.settings).into()),
        }
    }

    async fn waited_out(&mut self) -> Result<String, Error> {
        loop {
            let found = self.news().await?;
            if self.is_over(&found)? {
                return self.result(&found.view, found.result.as_deref()).await;
            }
        }
    }

    /// Writes what there is to say until the call is over, for as long as the credentials are good that called.
    pub async fn write_to(mut self, mut channel: Channel) {
        let watched = self.watched.clone();
        let over = matches!(select(pin!(self.write(&mut channel)), pin!(watched.ended())).await, Either::Right(_));
        if over {
            channel.stream.close();
        }
    }

    /// Who goes away in the modern era does not want it any more.
    async fn write(&mut self, channel: &mut Channel) {
        let (token, messages, legacy) = (self.token.clone(), self.messages, self.legacy);
        let text = |notice: &Notice| notification(notice, token.as_deref(), messages, legacy);
        let mut notices = self.notifications.subscribe();
        if notices.is_some() {
            // What is heard here is not told again by the context.
            self.token = None;
        }
        loop {
            let heard = match &mut notices {
                // Where work is done here, its upstream is heard as it speaks.
                Some(speaking) => self.hear(channel, speaking, text).await,
                None => heard(&mut channel.stream, self.news()).await.map(Heard::News),
            };
            let news = match heard {
                Some(Heard::News(news)) => news,
                Some(Heard::Silence) => {
                    notices = None;
                    continue;
                }
                Some(Heard::Replaced) => return,
                None => {
                    if !self.legacy {
                        self.stop().await;
                    }
                    return;
                }
            };
            let response = match self.take_in(channel, news).await {
                Ok(Taken::Told) => continue,
                Ok(Taken::Replaced) => return,
                Ok(Taken::Over(result)) => responses::response(&self.request, &result),
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

    /// Says what an upstream says, until there is news of the context; nothing when the reader has gone.
    async fn hear(
        &mut self,
        channel: &mut Channel,
        speaking: &mut UnboundedReceiver<Notice>,
        text: impl Fn(&Notice) -> Option<String>,
    ) -> Option<Heard> {
        let reached = self.reached;
        let mut news = std::pin::pin!(self.news());
        let over = loop {
            let notice = match heard(&mut channel.stream, select(speaking.next(), news.as_mut())).await? {
                Either::Left((Some(notice), _)) => notice,
                Either::Left((None, _)) => return Some(Heard::Silence),
                Either::Right((news, _)) => break news,
            };
            if let Some(text) = text(&notice)
                && !channel.tell(vec![text], reached, Vec::new()).await
            {
                return Some(Heard::Replaced);
            }
        };
        // What was said before it ended comes before its end.
        while let Ok(notice) = speaking.try_recv() {
            if let Some(text) = text(&notice) {
                channel.tell(vec![text], reached, Vec::new()).await;
            }
        }
        Some(Heard::News(over))
    }

    async fn take_in(&mut self, channel: &Channel, news: Result<Box<ContextDetails>, Problem>) -> Result<Taken, Error> {
        let found = news?;
        if self.is_over(&found)? {
            if !found.ended && self.asking.asks_on_the_way(&found.view)? {
                return self.ask(channel, &found.view).await;
            }
            return self.result(&found.view, found.result.as_deref()).await.map(Taken::Over);
        }
        let Some(token) = &self.token else { return Ok(Taken::Told) };
        let Some(progress) = found.progress.filter(|told| told.event > self.reached.event) else {
            return Ok(Taken::Told);
        };
        let (grown, text) = responses::progress(token, self.reached.progress, &progress.data);
        (self.reached.event, self.reached.progress) = (progress.event, grown);
        Ok(if channel.tell(vec![text], self.reached, Vec::new()).await { Taken::Told } else { Taken::Replaced })
    }

    /// Asks on the call's own stream. Another request will bring the answer, and the context goes on then.
    async fn ask(&mut self, channel: &Channel, view: &RawValue) -> Result<Taken, Error> {
        let question = read(view)?.question();
        let requests = question.requests();
        let requests: BTreeMap<String, &RawValue> =
            serde_json::from_str(&requests).map_err(|_| Problem::internal("a question that cannot be read"))?;
        self.reached.asked = question.number;
        let text = |(at, request): (usize, &&RawValue)| {
            let task = self.related.then_some(self.id.as_str());
            responses::request(&request_id(channel.call(), question.number, at), request, task)
        };
        let texts = requests.values().enumerate().map(text).collect();
        let remembered = requests.iter().map(|(name, request)| remembered(name, request)).collect();
        Ok(if channel.tell(texts, self.reached, remembered).await { Taken::Told } else { Taken::Replaced })
    }

    async fn stop(&mut self) {
        if let Err(failure) = self.canceller.cancel(&mut self.snapshot, &self.id).await {
            log_event!(CallNotCancelled, tenant = &self.canceller.tenant, context = &self.id, detail = &failure);
        }
    }
}

/// What there is to hear, with a comment now and then while there is nothing; nothing when the reader has gone.
async fn heard<T>(stream: &mut Stream, news: impl Future<Output = T>) -> Option<T> {
    let mut news = std::pin::pin!(news);
    loop {
        let silence = std::pin::pin!(clock::pause(settings::timing().call_keep_alive_ms));
        let gone = match select(news.as_mut(), select(silence, &mut *stream)).await {
            Either::Left((news, _)) => return Some(news),
            Either::Right((Either::Left(_), _)) => false,
            Either::Right((Either::Right(_), _)) => true,
        };
        if gone {
            return None;
        }
        stream.write(responses::KEEP_ALIVE);
    }
}
