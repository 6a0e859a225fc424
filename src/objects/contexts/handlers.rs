//! The handlers of requests: each lets the core decide, and turns the decision into a reply.

use std::rc::Rc;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater};
use crate::platform::{Failure, random, settings};
use narthex_core::base::id::{ContextId, row_key};
use narthex_core::base::time::Timestamp;
use narthex_core::context::view;
use narthex_core::context::{Attempt, Background, Head};
use narthex_core::context_store::{
    AdmitResult, Callback, CallbackResult, CancelResult, ChangeResult, ClaimLookup, CommitResult, ContextStore,
    NextAttempt, StorageError, StoredContext, WaitCondition, WorkClaim,
};
use narthex_core::http::paging::PagePart;
use narthex_core::registry::revision::Revision;

use super::Store;
use super::messages::*;
use super::tables::{Tables, first_key};

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

    /// Applies a change to a waiting or running context.
    fn change(
        &self,
        decision: impl FnOnce(&mut ContextStore<Tables>) -> Result<ChangeResult, StorageError>,
    ) -> Result<ChangeReply, Failure> {
        Ok(match self.decide(decision)? {
            ChangeResult::Done(head) => {
                ChangeReply::Changed { view: view::to_view(&head)?, ended: head.status.is_final() }
            }
            ChangeResult::Rejected(head, _) => ChangeReply::Refused { view: view::to_view(&head)? },
            ChangeResult::NotFound => ChangeReply::Nothing,
        })
    }

    fn sweep(&self) -> Result<SweepReply, Failure> {
        self.store.handle_due(false);
        let waits = self.store.contexts.borrow().has_overdue(settings::timing().overdue_ms, self.now)?;
        Ok(if waits { SweepReply::Waits } else { SweepReply::Done })
    }
}

impl Handle<LearnRevision> for Turn<'_> {
    fn handle(self, LearnRevision: LearnRevision) -> Result<Done, Failure> {
        self.store.learn_revision(self.revision);
        Ok(Done::Done)
    }
}

impl Handle<Retain> for Turn<'_> {
    fn handle(self, Retain { days }: Retain) -> Result<SweepReply, Failure> {
        self.store.retain(days)?;
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

impl Handle<Admit> for Turn<'_> {
    fn handle(self, request: Admit) -> Result<AdmitReply, Failure> {
        let Admit { admission, parameters, lease_ms, offers, show, claim } = request;
        let admitted = self
            .decide(|contexts| contexts.admit(*admission, &parameters, lease_ms, offers, claim.as_ref(), self.now))?;
        Ok(match admitted {
            AdmitResult::Admitted { head, lease } => {
                // Without a lease there will be no commit that shows it.
                let shows = show || lease.is_none();
                AdmitReply::Admitted { lease, view: shows.then(|| view::to_view(&head)).transpose()? }
            }
            AdmitResult::IdTaken => AdmitReply::Taken,
            AdmitResult::Replayed(id) => AdmitReply::Replayed { id },
            AdmitResult::KeyReused => AdmitReply::KeyReused,
        })
    }
}

impl Handle<Recall> for Turn<'_> {
    fn handle(self, Recall { claim }: Recall) -> Result<RecallReply, Failure> {
        Ok(match self.store.contexts.borrow().lookup_claim(Some(&claim), None, self.now)? {
            ClaimLookup::Unused => RecallReply::Nothing,
            ClaimLookup::Context(id) => RecallReply::Replayed { id },
            ClaimLookup::DifferentRequest => RecallReply::KeyReused,
        })
    }
}

/// The outcome of an execution is stored whatever the registry's present state.
impl Handle<Commit> for Turn<'_> {
    fn handle(self, Commit { id, report, result, stays_ms }: Commit) -> Result<CommitReply, Failure> {
        let (result, now) = (result.as_deref(), self.now);
        match self.decide(|contexts| contexts.commit(&id, report, result, stays_ms, now, random::number()))? {
            CommitResult::Accepted { head, retry_ms } => {
                // Some clients wait only until the service has accepted the work.
                self.store.wake(&id);
                let ended = head.status.is_final();
                Ok(CommitReply::Committed { view: view::to_view(&head)?, ended, retry_ms })
            }
            CommitResult::Rejected(head) => Ok(CommitReply::Refused { view: view::to_view(&head)? }),
        }
    }
}

impl Handle<Record> for Turn<'_> {
    fn handle(self, Record { admission, parameters, report, result }: Record) -> Result<Done, Failure> {
        self.decide(|contexts| contexts.record(*admission, &parameters, report, result.as_deref()))?;
        Ok(Done::Done)
    }
}

impl Handle<Lease> for Turn<'_> {
    fn handle(self, Lease { id, lease_ms }: Lease) -> Result<LeaseReply, Failure> {
        let leased = self.decide(|contexts| contexts.lease(&id, lease_ms, self.now))?;
        Ok(leased.map_or(LeaseReply::Nothing, |next| LeaseReply::Leased(work(*next))))
    }
}

impl Handle<Renew> for Turn<'_> {
    fn handle(self, Renew { id, hold, lease_ms }: Renew) -> Result<RenewReply, Failure> {
        let renewed = self.decide(|contexts| contexts.renew(&id, hold, lease_ms, self.now))?;
        Ok(renewed.map_or(RenewReply::Nothing, |cancel| RenewReply::Renewed { cancel }))
    }
}

impl Handle<ClaimWork> for Turn<'_> {
    fn handle(self, ClaimWork { lease_ms, gated, without, again_at }: ClaimWork) -> Result<ClaimReply, Failure> {
        if let Some(at) = again_at {
            self.decide(|contexts| contexts.wake_consumers_at(at, self.now));
        }
        Ok(match self.decide(|contexts| contexts.claim_next(lease_ms, &gated, &without, self.now))? {
            WorkClaim::Nothing => ClaimReply::Nothing,
            WorkClaim::Leased(next) => ClaimReply::Leased(work(*next)),
            WorkClaim::Offered(next) => ClaimReply::Offered(work(*next)),
        })
    }
}

impl Handle<PutBack> for Turn<'_> {
    fn handle(self, PutBack { id, until }: PutBack) -> Result<Done, Failure> {
        self.decide(|contexts| contexts.put_back(&id, until, self.now))?;
        Ok(Done::Done)
    }
}

impl Handle<Refuse> for Turn<'_> {
    fn handle(self, Refuse { id, error }: Refuse) -> Result<ChangeReply, Failure> {
        self.change(|contexts| contexts.reject(&id, error, self.now))
    }
}

impl Handle<CallBack> for Turn<'_> {
    fn handle(self, CallBack { id, lease, callback }: CallBack) -> Result<CallbackReply, Failure> {
        let callback = match callback {
            CallbackReport::Outcome { outcome, result } => Callback::Outcome { outcome, result },
            CallbackReport::Beat { lease_ms, progress } => Callback::Beat { lease_ms, progress },
        };
        let has_progress = matches!(&callback, Callback::Beat { progress: Some(_), .. });
        let called_back =
            self.decide(|contexts| contexts.callback(&id, lease, callback, self.now, random::number()))?;
        if has_progress {
            self.store.wake(&id);
        }
        Ok(match called_back {
            CallbackResult::Accepted(head) | CallbackResult::Repeated(head) => {
                CallbackReply::CalledBack { status: head.status, counts: true }
            }
            CallbackResult::LeaseLost(head) => CallbackReply::CalledBack { status: head.status, counts: false },
            CallbackResult::NotFound => CallbackReply::Nothing,
        })
    }
}

impl Handle<RequestInput> for Turn<'_> {
    fn handle(self, RequestInput { id, lease, request }: RequestInput) -> Result<ChangeReply, Failure> {
        self.change(|contexts| contexts.ask_for_input(&id, lease, request, self.now))
    }
}

impl HandleLater<AwaitInput> for Turn<'_> {
    fn handle(self, AwaitInput { id, lease, milliseconds }: AwaitInput) -> Answer<InputReply> {
        let store = self.store.clone();
        Answer::later(async move {
            store.wait(&id, milliseconds, |contexts| contexts.awaits_input(&id, lease)).await?;
            let input = store.contexts.borrow().input_for(&id, lease)?;
            Ok(input.map_or(InputReply::Nothing, |input| InputReply::Heard { input }))
        })
    }
}

impl Handle<AnswerInput> for Turn<'_> {
    fn handle(self, AnswerInput { id, input }: AnswerInput) -> Result<ChangeReply, Failure> {
        self.change(|contexts| contexts.answer(&id, input, self.now))
    }
}

impl Handle<NarrowInput> for Turn<'_> {
    fn handle(self, NarrowInput { id, from, to }: NarrowInput) -> Result<ChangeReply, Failure> {
        self.change(|contexts| contexts.narrow_input_request(&id, &from, to, self.now))
    }
}

impl Handle<Get> for Turn<'_> {
    fn handle(self, Get { id }: Get) -> Result<ContextReply, Failure> {
        self.store.get(&id)
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

impl Handle<GetOrigin> for Turn<'_> {
    fn handle(self, GetOrigin { id }: GetOrigin) -> Result<OriginReply, Failure> {
        let Some(StoredContext { head, parameters, .. }) = self.store.contexts.borrow().get(&id)? else {
            return Ok(OriginReply::Nothing);
        };
        let ended = head.status.is_final();
        Ok(OriginReply::Origin(Box::new(Origin { admission: head.admission, parameters, ended })))
    }
}

impl Handle<Cancel> for Turn<'_> {
    fn handle(self, Cancel { id }: Cancel) -> Result<CancelReply, Failure> {
        let cancelled = |head: &Head, outcome, background: Option<Background>| {
            Ok(CancelReply::Cancelled { view: view::to_view(head)?, outcome, background })
        };
        match self.decide(|contexts| contexts.cancel(&id, self.now))? {
            CancelResult::NotFound => Ok(CancelReply::Nothing),
            CancelResult::AlreadyEnded(head) => cancelled(&head, CancelOutcome::Ended, None),
            CancelResult::Cancelled(head, background) => cancelled(&head, CancelOutcome::Now, background),
            CancelResult::Requested(head) => cancelled(&head, CancelOutcome::Asked, None),
        }
    }
}

impl Handle<Query> for Turn<'_> {
    fn handle(self, query: Query) -> Result<ListReply, Failure> {
        // Keys sort by time, so times are ranges of keys.
        let from = query.created_after.map_or(0, |at| first_key(at.plus_ms(1)).saturating_sub(1));
        let to = query.created_before.map_or(i64::MAX as u64, first_key);
        let to = query.before.as_deref().map_or(to, |before| to.min(row_key(before)));
        let PagePart { items, cut } = self.store.tables.list(&query, &from.to_string(), &to.to_string())?;
        let listed = |(_, head): (_, Head)| Ok(ContextSummary { id: head.id().clone(), view: view::to_view(&head)? });
        let items = items.into_iter().map(listed).collect::<Result<_, Failure>>()?;
        Ok(ListReply::Page { items, cut })
    }
}

impl Store {
    fn get(&self, id: &ContextId) -> Result<ContextReply, Failure> {
        let Some(StoredContext { head, parameters, result }) = self.contexts.borrow().get(id)? else {
            return Ok(ContextReply::Nothing);
        };
        Ok(ContextReply::Context(Box::new(ContextDetails {
            owner: head.admission.owner.clone(),
            capability: head.admission.capability.clone(),
            version: head.admission.version.clone(),
            service: head.admission.service.clone(),
            status: head.status,
            ended: head.status.is_final(),
            created_at: head.admission.created_at,
            run_at: head.admission.run_at,
            view: view::to_view(&head)?,
            input_request: head.input_request,
            progress: head.progress,
            parameters,
            result,
        })))
    }

    /// Returns the context when the wait is over.
    async fn wait_and_get(
        &self,
        id: &ContextId,
        milliseconds: u64,
        until: WaitCondition,
    ) -> Result<ContextReply, Failure> {
        self.wait(id, milliseconds, |contexts| contexts.should_wait(id, until)).await?;
        self.get(id)
    }
}

/// An attempt as it is sent to a Worker.
fn work(NextAttempt { head, parameters }: NextAttempt) -> Box<Work> {
    let services = |of: fn(&Attempt) -> bool| {
        head.attempts.iter().filter(|attempt| of(attempt)).map(|attempt| attempt.service.clone()).collect()
    };
    Box::new(Work {
        tried: services(Attempt::failed),
        hopeless: services(Attempt::is_hopeless),
        hold: head.lease.map(|lease| lease.number).into(),
        attempt: head.attempts.len() as u64 + 1,
        input: head.input,
        input_state: head.input_state,
        admission: head.admission,
        parameters,
    })
}
