//! How whoever made a context hears of it: by one answer at its end, or by Server-Sent Events until then.

use std::pin::pin;
use std::rc::Rc;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::auth::watched::Needed;
use crate::execution::live::Live;
use crate::execution::{News, Waiter, ask_decided};
use crate::objects::contexts::messages::{Ask, Found, Reply};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::http::Headers;
use crate::platform::{Failure, clock};
use narthex_core::base::id::ContextId;
use narthex_core::context::Admission;
use narthex_core::context::status::Status;
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::prefer::Prefer;
use narthex_core::http::problem::Problem;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::waiting::{Told, told, waiter, whole};

/// A silent stream says so after this time.
const SILENT_MS: u64 = 15_000;

/// How whoever asks is to hear of it.
#[derive(Clone, Copy)]
pub(super) struct Hearing<'p> {
    pub preference: &'p Prefer,
    /// By a stream, as long as it lasts.
    pub listens: bool,
}

/// What came of making a context.
pub(super) enum Made {
    Told(Told),
    Streamed(Answer),
}

/// Whoever listens.
pub(super) struct Listener {
    response: JsValue,
    live: Rc<Live>,
}

/// Whoever made a context: they are told once, or listen.
pub(super) struct Asker {
    news: oneshot::Receiver<News>,
    listener: Option<Listener>,
    /// What lets them listen.
    needed: Needed,
}

fn listener() -> Listener {
    let mut headers = Headers::default();
    headers.set("content-type", EVENT_STREAM);
    let (response, live) = Live::open(&headers);
    Listener { response, live: Rc::new(live) }
}

/// What the work carries along, and who is at the other end. A stream lasts until the context has ended.
pub(super) fn asker(call: &Call, hearing: Hearing<'_>, admission: &Admission) -> (Waiter, Asker) {
    if !hearing.listens {
        let (waiter, news) = waiter(call, hearing.preference);
        return (waiter, Asker { news, listener: None, needed: Needed::ToCreate });
    }
    let (waiter, news) = Waiter::until(admission.expires_at);
    let (listener, needed) = (listener(), to_create(admission));
    (waiter.listening(listener.live.clone()), Asker { news, listener: Some(listener), needed })
}

/// The permission by which a context was made.
pub(super) fn to_create(admission: &Admission) -> Needed {
    Needed::one(format!("contexts:create:{}.{}", admission.service, admission.capability))
}

impl Asker {
    /// What is heard of a context that is being worked on here.
    pub(super) async fn hears(
        self,
        call: &Call,
        caller: &Caller,
        id: &ContextId,
        parameters: Box<RawValue>,
        preference: &Prefer,
        admit_ms: u64,
    ) -> Result<Made, Problem> {
        let Some(Listener { response, live }) = self.listener else {
            return told(call, caller, id, &parameters, preference, admit_ms, self.news).await.map(Made::Told);
        };
        let news = self.news;
        let (following, permits) = (Following::new(caller, id), call.limits.hand_over());
        let watched = call.watched(&caller.principal, self.needed);
        call.keep_running(async move {
            let telling = pin!(async {
                live.tell("context", &format!(r#"{{"id":"{}","status":"executing"}}"#, following.id));
                match silently(&live, news).await {
                    Ok(News::Ended(worked)) => {
                        let result = worked.result.as_deref().map(RawValue::get);
                        live.tell("end", &whole(&worked.view, parameters.get(), result));
                    }
                    // It goes on elsewhere.
                    _ => following.until_ended(&live).await,
                }
            });
            select(telling, pin!(watched.ended())).await;
            live.close();
            drop(permits);
        });
        Ok(Made::Streamed(streamed(response, id)))
    }
}

/// The answer about a context that others work on.
pub(super) fn follow(call: &Call, caller: &Caller, id: &ContextId, needed: Needed) -> Answer {
    let Listener { response, live } = listener();
    let (following, permits) = (Following::new(caller, id), call.limits.hand_over());
    let watched = call.watched(&caller.principal, needed);
    call.keep_running(async move {
        select(pin!(following.until_ended(&live)), pin!(watched.ended())).await;
        live.close();
        drop(permits);
    });
    streamed(response, id)
}

fn streamed(response: JsValue, id: &ContextId) -> Answer {
    let answer = Answer::stream(response).with("location", &format!("/v1/contexts/{id}"));
    Answer { context: Some(id.clone()), ..answer }
}

/// News, with a comment in the stream for each while without.
async fn silently(live: &Live, mut news: oneshot::Receiver<News>) -> Result<News, oneshot::Canceled> {
    loop {
        let pause = pin!(clock::pause(SILENT_MS));
        match select(&mut news, pause).await {
            Either::Left((news, _)) => return news,
            Either::Right(_) => live.comment(),
        }
    }
}

/// A context whose store is asked how it goes on.
struct Following {
    tenant: String,
    id: ContextId,
    snapshot: Rc<Snapshot>,
}

impl Following {
    fn new(caller: &Caller, id: &ContextId) -> Self {
        Self { tenant: caller.principal.tenant.clone(), id: id.clone(), snapshot: caller.snapshot.clone() }
    }

    async fn until_ended(mut self, live: &Live) {
        let mut told = None;
        loop {
            match self.look(told).await {
                Ok(Some(found)) if found.ended => {
                    let result = found.result.as_deref().map(RawValue::get);
                    return live.tell("end", &whole(&found.view, found.parameters.get(), result));
                }
                Ok(Some(found)) if Some(found.status) != told => {
                    told = Some(found.status);
                    live.tell("context", &whole(&found.view, found.parameters.get(), None));
                }
                Ok(Some(_)) => live.comment(),
                // It is looked for where the answer's `Location` says.
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Its state when it has changed from what was told, or after a while.
    async fn look(&mut self, told: Option<Status>) -> Result<Option<Box<Found>>, Failure> {
        let id = self.id.clone();
        let to_the_end = told == Some(Status::InputRequired);
        let milliseconds = if told.is_none() { 0 } else { SILENT_MS };
        let wait = Ask::Wait { id, milliseconds, to_the_end, news_after: None };
        match ask_decided(&self.tenant, &self.id, &mut self.snapshot, wait).await? {
            Reply::Context(found) => Ok(Some(found)),
            _ => Ok(None),
        }
    }
}
