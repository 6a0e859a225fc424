//! Turns a message into a decision of the core, and that decision into a reply.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::id::{ContextId, row_key};
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::{Attempt, AttemptReport, Background, Head};
use narthex_core::context_store::{
    AdmitResult, Callback, CallbackResult, CancelResult, ChangeResult, ClaimLookup, CommitResult, ContextStore,
    NextAttempt, StorageError, StoredContext, WorkClaim,
};
use narthex_core::http::paging::PagePart;
use narthex_core::registry::revision::Revision;

use super::messages::{
    Ask, CallbackReport, CancelOutcome, ContextDetails, ContextSummary, Message, Origin, Query, Reply, Work,
};
use super::preconditions::Fence;
use super::tables::{Tables, first_key};
use super::{Store, view};

impl Store {
    pub(super) fn answer(self: &Rc<Self>, message: Message) -> Result<Reply, Failure> {
        let Message { revision, ask } = message;
        let now = clock::now();
        if !self.passes(ask.fence(), revision) {
            return Ok(Reply::Stale { revision: self.revision.get() });
        }
        match ask {
            Ask::Revision => self.learn_revision(revision),
            Ask::Retain { days } => {
                self.retain(days)?;
                return self.sweep(now);
            }
            Ask::Sweep => return self.sweep(now),
            Ask::Commit { id, report, result, stays_ms } => return self.commit(&id, report, result, stays_ms, now),
            Ask::Record { admission, parameters, report, result } => {
                self.decide(|contexts| contexts.record(*admission, &parameters, report, result.as_deref()))?;
            }
            Ask::Renew { id, hold, lease_ms } => {
                let renewed = self.decide(|contexts| contexts.renew(&id, hold, lease_ms, now))?;
                return Ok(renewed.map_or(Reply::Nothing, |cancel| Reply::Renewed { cancel }));
            }
            Ask::CallBack { id, lease, callback } => return self.handle_callback(&id, lease, callback),
            Ask::PutBack { id, until } => {
                self.decide(|contexts| contexts.put_back(&id, until, now))?;
            }
            Ask::Refuse { id, error } => return self.change(|contexts| contexts.reject(&id, error, now)),
            Ask::AskFor { id, lease, request } => {
                return self.change(|contexts| contexts.ask_for_input(&id, lease, request, now));
            }
            Ask::Admit { admission, parameters, lease_ms, offers, show, claim } => {
                let admitted = self.decide(|contexts| {
                    contexts.admit(*admission, &parameters, lease_ms, offers, claim.as_ref(), now)
                })?;
                return admission_reply(admitted, show);
            }
            Ask::Recall { claim } => return self.recall(&claim, now),
            Ask::Lease { id, lease_ms } => {
                let leased = self.decide(|contexts| contexts.lease(&id, lease_ms, now))?;
                return Ok(leased.map_or(Reply::Nothing, |next| Reply::Leased(work(*next))));
            }
            Ask::Claim { lease_ms, gated, without, again_at } => {
                if let Some(at) = again_at {
                    self.decide(|contexts| contexts.wake_consumers_at(at, now));
                }
                return Ok(claim_reply(self.decide(|contexts| contexts.claim_next(lease_ms, &gated, &without, now))?));
            }
            Ask::Get { id } => return self.get(&id),
            Ask::Origin { id } => return self.origin(&id),
            Ask::Cancel { id } => return self.cancel(&id, now),
            Ask::Narrow { id, from, to } => {
                return self.change(|contexts| contexts.narrow_input_request(&id, &from, to, now));
            }
            Ask::Answer { id, input } => return self.change(|contexts| contexts.answer(&id, input, now)),
            Ask::List(query) => return self.list(&query),
            Ask::Wait { .. } | Ask::Follow { .. } | Ask::Hear { .. } | Ask::Flush => {
                return Err(Failure("a message that waits was passed to the synchronous path".into()));
            }
        }
        Ok(Reply::Done)
    }

    /// Applies a change to a waiting or running context.
    fn change(
        self: &Rc<Self>,
        decision: impl FnOnce(&mut ContextStore<Tables>) -> Result<ChangeResult, StorageError>,
    ) -> Result<Reply, Failure> {
        Ok(match self.decide(decision)? {
            ChangeResult::Done(head) => Reply::Changed { view: view::to_view(&head)?, ended: head.status.is_final() },
            ChangeResult::Rejected(head, _) => Reply::Refused { view: view::to_view(&head)? },
            ChangeResult::NotFound => Reply::Nothing,
        })
    }

    /// Whether a message of this revision may be answered. A newer revision is remembered.
    fn passes(&self, fence: Fence, revision: Revision) -> bool {
        match fence {
            Fence::None => true,
            Fence::Revision if revision < self.revision.get() => false,
            Fence::Revision => {
                self.revision.set(revision);
                true
            }
        }
    }

    fn sweep(self: &Rc<Self>, now: Timestamp) -> Result<Reply, Failure> {
        self.handle_due(false);
        let waits = self.contexts.borrow().has_overdue(settings::timing().overdue_ms, now)?;
        Ok(if waits { Reply::Waits } else { Reply::Done })
    }

    /// The outcome of an execution is stored whatever the registry's present state.
    fn commit(
        self: &Rc<Self>,
        id: &ContextId,
        report: AttemptReport,
        result: Option<Box<RawValue>>,
        stays_ms: u64,
        now: Timestamp,
    ) -> Result<Reply, Failure> {
        let result = result.as_deref();
        match self.decide(|contexts| contexts.commit(id, report, result, stays_ms, now, random::number()))? {
            CommitResult::Accepted { head, retry_ms } => {
                // Some clients wait only until the service has accepted the work.
                self.wake(id);
                let ended = head.status.is_final();
                Ok(Reply::Committed { view: view::to_view(&head)?, ended, retry_ms })
            }
            CommitResult::Rejected(head) => Ok(Reply::Refused { view: view::to_view(&head)? }),
        }
    }

    fn recall(&self, claim: &Claim, now: Timestamp) -> Result<Reply, Failure> {
        Ok(match self.contexts.borrow().lookup_claim(Some(claim), None, now)? {
            ClaimLookup::Unused => Reply::Nothing,
            ClaimLookup::Context(id) => Reply::Replayed { id },
            ClaimLookup::DifferentRequest => Reply::KeyReused,
        })
    }

    fn handle_callback(
        self: &Rc<Self>,
        id: &ContextId,
        lease: LeaseNumber,
        report: CallbackReport,
    ) -> Result<Reply, Failure> {
        let callback = match report {
            CallbackReport::Outcome { outcome, result } => Callback::Outcome { outcome, result },
            CallbackReport::Beat { lease_ms, progress } => Callback::Beat { lease_ms, progress },
        };
        let (now, random) = (clock::now(), random::number());
        let has_progress = matches!(&callback, Callback::Beat { progress: Some(_), .. });
        let called_back = self.decide(|contexts| contexts.callback(id, lease, callback, now, random))?;
        if has_progress {
            self.wake(id);
        }
        Ok(match called_back {
            CallbackResult::Accepted(head) | CallbackResult::Repeated(head) => {
                Reply::CalledBack { status: head.status, counts: true }
            }
            CallbackResult::LeaseLost(head) => Reply::CalledBack { status: head.status, counts: false },
            CallbackResult::NotFound => Reply::Nothing,
        })
    }

    fn get(&self, id: &ContextId) -> Result<Reply, Failure> {
        let Some(StoredContext { head, parameters, result }) = self.contexts.borrow().get(id)? else {
            return Ok(Reply::Nothing);
        };
        Ok(Reply::Context(Box::new(ContextDetails {
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

    fn origin(&self, id: &ContextId) -> Result<Reply, Failure> {
        let Some(StoredContext { head, parameters, .. }) = self.contexts.borrow().get(id)? else {
            return Ok(Reply::Nothing);
        };
        let ended = head.status.is_final();
        Ok(Reply::Origin(Box::new(Origin { admission: head.admission, parameters, ended })))
    }

    fn cancel(self: &Rc<Self>, id: &ContextId, now: Timestamp) -> Result<Reply, Failure> {
        let cancelled = |head: &Head, outcome, background: Option<Background>| {
            Ok(Reply::Cancelled { view: view::to_view(head)?, outcome, background })
        };
        match self.decide(|contexts| contexts.cancel(id, now))? {
            CancelResult::NotFound => Ok(Reply::Nothing),
            CancelResult::AlreadyEnded(head) => cancelled(&head, CancelOutcome::Ended, None),
            CancelResult::Cancelled(head, background) => cancelled(&head, CancelOutcome::Now, background),
            CancelResult::Requested(head) => cancelled(&head, CancelOutcome::Asked, None),
        }
    }

    fn list(&self, query: &Query) -> Result<Reply, Failure> {
        // Keys sort by time, so times are ranges of keys.
        let from = query.created_after.map_or(0, |at| first_key(at.plus_ms(1)).saturating_sub(1));
        let to = query.created_before.map_or(i64::MAX as u64, first_key);
        let to = query.before.as_deref().map_or(to, |before| to.min(row_key(before)));
        let PagePart { items, cut } = self.tables.list(query, &from.to_string(), &to.to_string())?;
        let listed = |(_, head): (_, Head)| Ok(ContextSummary { id: head.id().clone(), view: view::to_view(&head)? });
        let items = items.into_iter().map(listed).collect::<Result<_, Failure>>()?;
        Ok(Reply::Page { items, cut })
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

/// `show`: the sender wants the view. A context without a lease is shown in any case.
fn admission_reply(admitted: AdmitResult, show: bool) -> Result<Reply, Failure> {
    Ok(match admitted {
        AdmitResult::Admitted { head, lease } => {
            let shows = show || lease.is_none();
            Reply::Admitted { lease, view: shows.then(|| view::to_view(&head)).transpose()? }
        }
        AdmitResult::IdTaken => Reply::Taken,
        AdmitResult::Replayed(id) => Reply::Replayed { id },
        AdmitResult::KeyReused => Reply::KeyReused,
    })
}

fn claim_reply(claimed: WorkClaim) -> Reply {
    match claimed {
        WorkClaim::Nothing => Reply::Nothing,
        WorkClaim::Leased(next) => Reply::Leased(work(*next)),
        WorkClaim::Offered(next) => Reply::Offered(work(*next)),
    }
}
