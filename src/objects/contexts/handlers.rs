//! The handlers of requests. The core answers most of them; what is left is waiting, waking, and what concerns the
//! store as a whole.

use std::rc::Rc;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater};
use crate::platform::{Failure, clock, log_event, random, settings};
use narthex_core::base::id::{ContextId, first_row_key, row_key};
use narthex_core::base::time::Timestamp;
use narthex_core::context::Head;
use narthex_core::context::view::to_view;
use narthex_core::context_store::answers::details;
use narthex_core::context_store::listing::{self, Bounds, Filters, Keys, MAX_READ, SEGMENT_CONTEXTS};
use narthex_core::context_store::{ContextRequest, ContextStore, WaitCondition};
use narthex_core::http::paging::PagePart;
use narthex_core::registry::revision::Revision;

use super::Store;
use super::messages::*;
use super::tables::Tables;

/// Bytes of a list when the query sets no limit.
const MAX_LIST_BYTES: u64 = 2 * 1024 * 1024;

/// The handling of one request.
pub(super) struct Turn<'a> {
    pub store: &'a Rc<Store>,
    /// The revision of the sender.
    pub revision: Revision,
    pub now: Timestamp,
}

impl Turn<'_> {
    fn decide<T>(&self, decide: impl FnOnce(&mut ContextStore<Tables>) -> T) -> T {
        self.store.decide(decide)
    }

    /// The answer that the core decides alone.
    fn answer<R: ContextRequest>(&self, request: R) -> Result<R::Reply, Failure> {
        Ok(self.decide(|contexts| request.answer(contexts, self.now, random::number()))?)
    }

    fn sweep(&self) -> Result<SweepReply, Failure> {
        self.store.handle_due(false);
        if let Err(error) = listing::summarize(&self.store.tables, self.now, SEGMENT_CONTEXTS) {
            // Lists read what is not summarized.
            log_event!(SweepFailed, detail = error.0);
        }
        let waits = self.store.contexts.borrow().has_overdue(settings::timing().overdue_ms, self.now)?;
        Ok(if waits { SweepReply::Waits } else { SweepReply::Done })
    }
}

impl Handle<LearnRevision> for Turn<'_> {
    fn handle(self, LearnRevision: LearnRevision) -> Result<Done, Failure> {
        self.store.revision.borrow_mut().learn(self.revision);
        Ok(Done::Done)
    }
}

impl Handle<Retain> for Turn<'_> {
    fn handle(self, Retain { days, revision }: Retain) -> Result<SweepReply, Failure> {
        self.store.retain(days, revision)?;
        self.sweep()
    }
}

impl Handle<Sweep> for Turn<'_> {
    fn handle(self, Sweep: Sweep) -> Result<SweepReply, Failure> {
        self.sweep()
    }
}

impl HandleLater<Flush> for Turn<'_> {
    fn handle(self, Flush: Flush) -> Answer<Done> {
        let store = self.store.clone();
        Answer::later(async move {
            store.flush().await;
            Ok(Done::Done)
        })
    }
}

/// Handles requests by what the core answers.
macro_rules! answered_by_the_core {
    ($($Request:ident => $Reply:ident;)*) => {
        $(impl Handle<$Request> for Turn<'_> {
            fn handle(self, request: $Request) -> Result<$Reply, Failure> {
                self.answer(request)
            }
        })*
    };
}

answered_by_the_core! {
    Admit => AdmitReply;
    Recall => RecallReply;
    Record => Done;
    Lease => LeaseReply;
    Renew => RenewReply;
    ClaimWork => ClaimReply;
    PutBack => Done;
    Refuse => ChangeReply;
    RequestInput => ChangeReply;
    AnswerInput => ChangeReply;
    NarrowInput => ChangeReply;
    Get => ContextReply;
    GetOrigin => OriginReply;
    Cancel => CancelReply;
}

/// The outcome of an execution is stored whatever the registry's present state.
impl Handle<Commit> for Turn<'_> {
    fn handle(self, request: Commit) -> Result<CommitReply, Failure> {
        let id = request.id.clone();
        let reply = self.answer(request)?;
        if matches!(reply, CommitReply::Committed { .. }) {
            // Some clients wait only until the service has accepted the work.
            self.store.wake(&id);
        }
        Ok(reply)
    }
}

impl Handle<CallBack> for Turn<'_> {
    fn handle(self, request: CallBack) -> Result<CallbackReply, Failure> {
        let has_progress = matches!(&request.callback, CallbackReport::Beat { progress: Some(_), .. });
        let id = request.id.clone();
        let reply = self.answer(request)?;
        if has_progress {
            self.store.wake(&id);
        }
        Ok(reply)
    }
}

impl HandleLater<AwaitInput> for Turn<'_> {
    fn handle(self, request: AwaitInput) -> Answer<InputReply> {
        let store = self.store.clone();
        Answer::later(async move {
            let AwaitInput { id, lease, milliseconds } = &request;
            store.wait(id, *milliseconds, |contexts| contexts.awaits_input(id, *lease)).await?;
            Ok(store.decide(|contexts| request.answer(contexts, clock::now(), random::number()))?)
        })
    }
}

impl HandleLater<Wait> for Turn<'_> {
    fn handle(self, Wait { id, milliseconds, to_the_end, news_after }: Wait) -> Answer<ContextReply> {
        let input_requests = (!to_the_end).then_some(0);
        let until = WaitCondition { progress_after: news_after, input_requests, accepted: false };
        let store = self.store.clone();
        Answer::later(async move { store.wait_and_get(&id, milliseconds, until).await })
    }
}

impl HandleLater<Follow> for Turn<'_> {
    fn handle(self, Follow { id, milliseconds, asked, news_after, taken }: Follow) -> Answer<ContextReply> {
        let until = WaitCondition { progress_after: news_after, input_requests: Some(asked), accepted: taken };
        let store = self.store.clone();
        Answer::later(async move { store.wait_and_get(&id, milliseconds, until).await })
    }
}

impl Handle<Query> for Turn<'_> {
    fn handle(self, query: Query) -> Result<ListReply, Failure> {
        // Keys sort by time, so times are ranges of keys.
        let after = query.created_after.map_or(0, |at| first_row_key(at.plus_ms(1)).saturating_sub(1));
        let to = query.created_before.map_or(i64::MAX as u64, first_row_key);
        let to = query.before.as_deref().map_or(to, |before| to.min(row_key(before)));
        let Query { owner, status, service, capability, error_code, limit, most_bytes, stops, .. } = query;
        let filters = Filters { owner, status, service, capability, error_code };
        let keys = Keys { after, last: to.saturating_sub(1) };
        let bytes = most_bytes.unwrap_or(MAX_LIST_BYTES);
        let bounds = Bounds { contexts: limit, bytes, segments: if stops { MAX_READ } else { u64::MAX >> 1 } };
        let PagePart { items, complete_to } = listing::list(&self.store.tables, keys, &filters, bounds)?;
        let listed = |(_, head): (_, Head)| Ok(ContextSummary { id: head.id().clone(), view: to_view(&head)? });
        let items = items.into_iter().map(listed).collect::<Result<_, Failure>>()?;
        Ok(ListReply::Page { items, cut: complete_to.is_some(), complete_to })
    }
}

impl Store {
    /// Returns the context when the wait is over.
    async fn wait_and_get(
        &self,
        id: &ContextId,
        milliseconds: u64,
        until: WaitCondition,
    ) -> Result<ContextReply, Failure> {
        self.wait(id, milliseconds, |contexts| contexts.should_wait(id, until)).await?;
        Ok(details(&self.contexts.borrow(), id)?)
    }
}
