//! A call that takes a while, followed until it ends: progress and the response, on the stream of that request alone.

use std::rc::Rc;

use futures_util::future::{Either, select};
use serde_json::value::RawValue;

use crate::core::id::ContextId;
use crate::core::lifecycle::Status;
use crate::core::mcp::error::Error;
use crate::core::mcp::reply;
use crate::core::problem::Problem;
use crate::execution::ask_decided;
use crate::objects::contexts::messages::{Ask, Found, Reply};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::streams::Stream;
use crate::platform::{clock, log};

use super::super::answer::internal;
use super::super::contexts::Stopping;
use super::asking::Asking;

/// A store is asked for news for so long at a time, in milliseconds.
const WAIT_MS: u64 = 20_000;
/// Something is written at least so often, in milliseconds: that nobody reads any more is noticed by a write.
const SILENT_MS: u64 = 2_000;

pub struct Following {
    pub stopping: Stopping,
    pub snapshot: Rc<Snapshot>,
    pub id: ContextId,
    /// The id of the JSON-RPC request.
    pub request: Box<RawValue>,
    pub request_id: String,
    /// What progress is reported under, if somebody wants to know.
    pub token: Option<Box<RawValue>>,
    pub legacy: bool,
    pub asking: Asking,
}

fn is_over(found: &Found) -> bool {
    found.ended || found.status == Status::InputRequired
}

impl Following {
    /// The context when it is over, or has progress after this.
    async fn news(&mut self, after: Option<u64>) -> Result<Box<Found>, Problem> {
        let id = self.id.clone();
        let wait = Ask::Wait { id, milliseconds: WAIT_MS, to_the_end: false, news_after: after };
        match ask_decided(&self.stopping.tenant, &self.id, &mut self.snapshot, wait).await.map_err(internal)? {
            Reply::Context(found) => Ok(found),
            _ => Err(Problem::internal("a context that was admitted is not there")),
        }
    }

    /// What came of it, once it has ended or asks for input.
    pub async fn result(&mut self, view: &RawValue, result: Option<&RawValue>) -> Result<String, Error> {
        let concluded = self.asking.result(self.legacy, view, result);
        if matches!(concluded, Err(Error::Capability { .. })) {
            // Who called cannot be asked, and has been told so.
            self.stop().await;
        }
        concluded
    }

    /// For who takes no stream: the result, however long it takes.
    pub async fn wait_out(&mut self) -> Result<String, Error> {
        loop {
            let found = self.news(None).await?;
            if is_over(&found) {
                return self.result(&found.view, found.result.as_deref()).await;
            }
        }
    }

    /// Writes what there is to say until the call is over. Who goes away in the modern era does not want it any more.
    pub async fn write_to(mut self, mut stream: Stream) {
        let (mut event, mut number) = (0, 0.0);
        loop {
            let after = self.token.is_some().then_some(event);
            let Some(news) = heard(&mut stream, self.news(after)).await else {
                if !self.legacy {
                    self.stop().await;
                }
                return;
            };
            let response = match news {
                Ok(found) if is_over(&found) => match self.result(&found.view, found.result.as_deref()).await {
                    Ok(result) => reply::response(&self.request, &result),
                    Err(error) => error.response(Some(&self.request), &self.request_id),
                },
                Ok(found) => {
                    if let (Some(token), Some(progress)) =
                        (&self.token, found.progress.filter(|told| told.event > event))
                    {
                        let (grown, text) = reply::progress(token, number, &progress.data);
                        (event, number) = (progress.event, grown);
                        stream.write(&reply::event(&text));
                    }
                    continue;
                }
                Err(problem) => {
                    let cause = problem.cause.as_deref().unwrap_or(&problem.detail);
                    log(&format!(r#"{{"level":"error","message":"call not followed","detail":{cause:?}}}"#));
                    Error::from(problem).response(Some(&self.request), &self.request_id)
                }
            };
            stream.write(&reply::event(&response));
            stream.close();
            return;
        }
    }

    async fn stop(&mut self) {
        if let Err(failure) = self.stopping.stop(&mut self.snapshot, &self.id).await {
            log(&format!(r#"{{"level":"warn","message":"call not cancelled","detail":{:?}}}"#, failure.0));
        }
    }
}

/// What there is to hear, with a comment now and then while there is nothing; nothing when the reader has gone.
async fn heard<T>(stream: &mut Stream, news: impl Future<Output = T>) -> Option<T> {
    let mut news = std::pin::pin!(news);
    loop {
        let silence = std::pin::pin!(clock::pause(SILENT_MS));
        let gone = match select(news.as_mut(), select(silence, &mut *stream)).await {
            Either::Left((news, _)) => return Some(news),
            Either::Right((Either::Left(_), _)) => false,
            Either::Right((Either::Right(_), _)) => true,
        };
        if gone {
            return None;
        }
        stream.write(reply::SILENCE);
    }
}
