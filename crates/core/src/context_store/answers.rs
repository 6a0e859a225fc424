//! How a context store answers the requests of [`super::messages`]: a decision, and from its result the reply.
//!
//! Whatever else a request needs belongs to the shell: [`super::Effects`], waking clients, waiting.

use super::messages::{
    Admit, AnswerInput, AwaitInput, CallBack, Cancel, ClaimWork, Commit, Get, GetOrigin, Lease, NarrowInput, PutBack,
    Recall, Record, Refuse, Renew, RequestInput,
};
use super::preconditions::{Fence, Freshness};
use super::replies::{
    AdmitReply, CallbackReply, CancelOutcome, CancelReply, ChangeReply, ClaimReply, CommitReply, ContextDetails,
    ContextReply, InputReply, LeaseReply, Origin, OriginReply, RecallReply, RenewReply, Work,
};
use super::{
    AdmitResult, CallbackResult, CancelResult, ChangeResult, ClaimLookup, CommitResult, ContextStore, NextAttempt,
    Storage, StorageError, StoredContext, WorkClaim,
};
use crate::base::done::Done;
use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::context::view::to_view;
use crate::context::{Attempt, Background, Head};
use crate::events::bundle::last_number;

/// A request that a decision of the context store answers.
pub trait ContextRequest {
    type Reply;
    const FENCE: Fence;
    const FRESHNESS: Freshness;

    /// `random` is for the backoff of an attempt that fails.
    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        random: u64,
    ) -> Result<Self::Reply, StorageError>;
}

impl ContextRequest for Admit {
    type Reply = AdmitReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<AdmitReply, StorageError> {
        let Self { admission, parameters, lease_ms, offers, show, claim } = self;
        Ok(match contexts.admit(*admission, &parameters, lease_ms, offers, claim.as_ref(), now)? {
            AdmitResult::Admitted { head, lease } => {
                // Without a lease there will be no commit that shows it.
                let shows = show || lease.is_none();
                AdmitReply::Admitted { lease, view: shows.then(|| to_view(&head)).transpose()? }
            }
            AdmitResult::IdTaken => AdmitReply::Taken,
            AdmitResult::Replayed(id) => AdmitReply::Replayed { id },
            AdmitResult::KeyReused => AdmitReply::KeyReused,
        })
    }
}

impl ContextRequest for Recall {
    type Reply = RecallReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<RecallReply, StorageError> {
        let Self { claim } = self;
        Ok(match contexts.lookup_claim(Some(&claim), None, now)? {
            ClaimLookup::Unused => RecallReply::Nothing,
            ClaimLookup::Context(id) => RecallReply::Replayed { id },
            ClaimLookup::DifferentRequest => RecallReply::KeyReused,
        })
    }
}

impl ContextRequest for Commit {
    type Reply = CommitReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::None;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        random: u64,
    ) -> Result<CommitReply, StorageError> {
        Ok(match contexts.commit(self, now, random)? {
            CommitResult::Accepted { head, retry_ms } => {
                CommitReply::Committed { view: to_view(&head)?, ended: head.status.is_final(), retry_ms }
            }
            CommitResult::Rejected(head) => CommitReply::Refused { view: to_view(&head)? },
        })
    }
}

impl ContextRequest for Record {
    type Reply = Done;
    const FENCE: Fence = Fence::AnyRevision;
    // The outcome of an execution is stored, whether or not the registry can be reached.
    const FRESHNESS: Freshness = Freshness::Wanted;

    fn answer<S: Storage>(self, contexts: &mut ContextStore<S>, _: Timestamp, _: u64) -> Result<Done, StorageError> {
        contexts.record(self)?;
        Ok(Done::Done)
    }
}

impl ContextRequest for Lease {
    type Reply = LeaseReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<LeaseReply, StorageError> {
        let Self { id, lease_ms } = self;
        let leased = contexts.lease(&id, lease_ms, now)?;
        Ok(leased.map_or(LeaseReply::Nothing, |next| LeaseReply::Leased(work(*next))))
    }
}

impl ContextRequest for Renew {
    type Reply = RenewReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::None;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<RenewReply, StorageError> {
        let Self { id, hold, lease_ms } = self;
        let renewed = contexts.renew(&id, hold, lease_ms, now)?;
        Ok(renewed.map_or(RenewReply::Nothing, |cancel| RenewReply::Renewed { cancel }))
    }
}

impl ContextRequest for ClaimWork {
    type Reply = ClaimReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<ClaimReply, StorageError> {
        let Self { lease_ms, gated, without, again_at } = self;
        if let Some(at) = again_at {
            contexts.wake_consumers_at(at, now);
        }
        Ok(match contexts.claim_next(lease_ms, &gated, &without, now)? {
            WorkClaim::Nothing => ClaimReply::Nothing,
            WorkClaim::Leased(next) => ClaimReply::Leased(work(*next)),
            WorkClaim::Offered(next) => ClaimReply::Offered(work(*next)),
        })
    }
}

impl ContextRequest for PutBack {
    type Reply = Done;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(self, contexts: &mut ContextStore<S>, now: Timestamp, _: u64) -> Result<Done, StorageError> {
        let Self { id, until } = self;
        contexts.put_back(&id, until, now)?;
        Ok(Done::Done)
    }
}

impl ContextRequest for Refuse {
    type Reply = ChangeReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<ChangeReply, StorageError> {
        let Self { id, error } = self;
        changed(contexts.reject(&id, error, now)?)
    }
}

impl ContextRequest for CallBack {
    type Reply = CallbackReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::Wanted;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        random: u64,
    ) -> Result<CallbackReply, StorageError> {
        let Self { id, lease, callback } = self;
        Ok(match contexts.callback(&id, lease, callback, now, random)? {
            CallbackResult::Accepted(head) | CallbackResult::Repeated(head) => {
                CallbackReply::CalledBack { status: head.status, counts: true }
            }
            CallbackResult::LeaseLost(head) => CallbackReply::CalledBack { status: head.status, counts: false },
            CallbackResult::NotFound => CallbackReply::Nothing,
        })
    }
}

impl ContextRequest for RequestInput {
    type Reply = ChangeReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::None;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<ChangeReply, StorageError> {
        let Self { id, lease, request } = self;
        changed(contexts.ask_for_input(&id, lease, request, now)?)
    }
}

/// The reply when the wait is over.
impl ContextRequest for AwaitInput {
    type Reply = InputReply;
    const FENCE: Fence = Fence::AnyRevision;
    const FRESHNESS: Freshness = Freshness::None;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        _: Timestamp,
        _: u64,
    ) -> Result<InputReply, StorageError> {
        let Self { id, lease, milliseconds: _ } = self;
        let input = contexts.input_for(&id, lease)?;
        Ok(input.map_or(InputReply::Nothing, |input| InputReply::Heard { input }))
    }
}

impl ContextRequest for AnswerInput {
    type Reply = ChangeReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<ChangeReply, StorageError> {
        let Self { id, input } = self;
        changed(contexts.answer(&id, input, now)?)
    }
}

impl ContextRequest for NarrowInput {
    type Reply = ChangeReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<ChangeReply, StorageError> {
        let Self { id, from, to } = self;
        changed(contexts.narrow_input_request(&id, &from, to, now)?)
    }
}

impl ContextRequest for Cancel {
    type Reply = CancelReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        now: Timestamp,
        _: u64,
    ) -> Result<CancelReply, StorageError> {
        let Self { id } = self;
        match contexts.cancel(&id, now)? {
            CancelResult::NotFound => Ok(CancelReply::Nothing),
            CancelResult::AlreadyEnded(head) => cancelled(&head, CancelOutcome::Ended, None),
            CancelResult::Cancelled(head, background) => cancelled(&head, CancelOutcome::Now, background),
            CancelResult::Requested(head) => cancelled(&head, CancelOutcome::Asked, None),
        }
    }
}

impl ContextRequest for Get {
    type Reply = ContextReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        _: Timestamp,
        _: u64,
    ) -> Result<ContextReply, StorageError> {
        let Self { id } = self;
        details(contexts, &id)
    }
}

impl ContextRequest for GetOrigin {
    type Reply = OriginReply;
    const FENCE: Fence = Fence::KnownRevision;
    const FRESHNESS: Freshness = Freshness::Needed;

    fn answer<S: Storage>(
        self,
        contexts: &mut ContextStore<S>,
        _: Timestamp,
        _: u64,
    ) -> Result<OriginReply, StorageError> {
        let Self { id } = self;
        let Some(StoredContext { head, parameters, .. }) = contexts.get(&id)? else {
            return Ok(OriginReply::Nothing);
        };
        let ended = head.status.is_final();
        Ok(OriginReply::Origin(Box::new(Origin { admission: head.admission, parameters, ended })))
    }
}

/// A context as [`Get`] returns it.
pub fn details<S: Storage>(contexts: &ContextStore<S>, id: &ContextId) -> Result<ContextReply, StorageError> {
    let Some(StoredContext { head, parameters, result }) = contexts.get(id)? else {
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
        content: head.admission.content,
        run_at: head.admission.run_at,
        view: to_view(&head)?,
        input_request: head.input_request,
        progress: head.progress,
        parameters,
        result,
    })))
}

/// The reply to a request that changes a waiting or running context.
fn changed(changed: ChangeResult) -> Result<ChangeReply, StorageError> {
    Ok(match changed {
        ChangeResult::Done(head) => ChangeReply::Changed { view: to_view(&head)?, ended: head.status.is_final() },
        ChangeResult::Rejected(head, _) => ChangeReply::Refused { view: to_view(&head)? },
        ChangeResult::NotFound => ChangeReply::Nothing,
    })
}

fn cancelled(head: &Head, outcome: CancelOutcome, background: Option<Background>) -> Result<CancelReply, StorageError> {
    Ok(CancelReply::Cancelled { view: to_view(head)?, outcome, background })
}

/// An attempt as it is sent to a Worker.
fn work(NextAttempt { head, parameters }: NextAttempt) -> Box<Work> {
    debug_assert!(last_number(&head) > 0, "{} has events without numbers", head.id());
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
