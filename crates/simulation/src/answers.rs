//! From a message to the decision of the core, and from there to the reply, as in the object.

use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::memory::MemoryStorage;
use narthex_core::context_store::{
    AdmitResult, Callback, CallbackResult, CancelResult, ChangeResult, CommitResult, ContextStore, NextAttempt,
    StorageError, WorkClaim,
};
use narthex_core::events::bundle::last_number;

use crate::messages::{Ask, CallbackReport, Reply, Work};
use crate::store::LEASE_MS;
use crate::world::{PARAMETERS, raw, result};

/// Answers a message to a store.
pub fn answer(
    contexts: &mut ContextStore<MemoryStorage>,
    ask: Ask,
    now: Timestamp,
    random: u64,
) -> Result<Reply, StorageError> {
    Ok(match ask {
        Ask::Admit { admission, lease_ms, offers, claim } => {
            match contexts.admit(*admission, &raw(PARAMETERS), lease_ms, offers, claim.as_ref(), now)? {
                AdmitResult::Admitted { lease, .. } => Reply::Admitted { lease },
                AdmitResult::IdTaken => Reply::Taken,
                AdmitResult::Replayed(id) => Reply::Replayed(id),
                AdmitResult::KeyReused => Reply::KeyReused,
            }
        }
        Ask::Record { admission, report } => {
            let result = result(&report.outcome);
            contexts.record(*admission, &raw(PARAMETERS), report, result.as_deref())?;
            Reply::Done
        }
        Ask::Commit { id, report, stays_ms } => {
            let result = result(&report.outcome);
            match contexts.commit(&id, report, result.as_deref(), stays_ms, now, random)? {
                CommitResult::Accepted { retry_ms, .. } => Reply::Committed { retry_ms },
                CommitResult::Rejected(_) => Reply::Refused,
            }
        }
        Ask::Lease { id } => {
            let leased = contexts.lease(&id, LEASE_MS, now)?;
            leased.map_or(Reply::Nothing, |next| Reply::Leased(work(*next)))
        }
        Ask::Renew { id, hold } => {
            let held = contexts.renew(&id, hold, LEASE_MS, now)?;
            held.map_or(Reply::Nothing, |cancel| Reply::Renewed { cancel })
        }
        Ask::Claim { gated, without } => match contexts.claim_next(LEASE_MS, &gated, &without, now)? {
            WorkClaim::Nothing => Reply::Nothing,
            WorkClaim::Leased(next) => Reply::Leased(work(*next)),
            WorkClaim::Offered(next) => Reply::Offered(work(*next)),
        },
        Ask::PutBack { id, until } => {
            contexts.put_back(&id, until, now)?;
            Reply::Done
        }
        Ask::Refuse { id, error } => changed(contexts.reject(&id, error, now)?),
        Ask::CallBack { id, lease, said } => callback(contexts, &id, lease, said, now, random)?,
        Ask::Answer { id } => changed(contexts.answer(&id, raw(PARAMETERS), now)?),
        Ask::Cancel { id } => match contexts.cancel(&id, now)? {
            CancelResult::NotFound => Reply::Nothing,
            CancelResult::AlreadyEnded(_) | CancelResult::Cancelled(..) | CancelResult::Requested(_) => Reply::Done,
        },
        Ask::Get { id } => contexts.get(&id)?.map_or(Reply::Nothing, |whole| Reply::Context(whole.head.status)),
        Ask::Sweep => {
            let mut seed = random;
            contexts.sweep(now, || {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                seed >> 11
            });
            Reply::Done
        }
    })
}

fn callback(
    contexts: &mut ContextStore<MemoryStorage>,
    id: &ContextId,
    lease: LeaseNumber,
    report: CallbackReport,
    now: Timestamp,
    random: u64,
) -> Result<Reply, StorageError> {
    let callback = match report {
        CallbackReport::Outcome(outcome) => {
            let result = result(&outcome);
            Callback::Outcome { outcome, result }
        }
        CallbackReport::Beat { lease_ms, progress } => Callback::Beat { lease_ms, progress },
    };
    Ok(match contexts.callback(id, lease, callback, now, random)? {
        CallbackResult::Accepted(_) | CallbackResult::Repeated(_) => Reply::CalledBack { counts: true },
        CallbackResult::LeaseLost(_) => Reply::CalledBack { counts: false },
        CallbackResult::NotFound => Reply::Nothing,
    })
}

fn work(NextAttempt { head, .. }: NextAttempt) -> Box<Work> {
    debug_assert!(last_number(&head) > 0);
    let tried = head.attempts.iter().filter(|attempt| attempt.failed()).map(|attempt| attempt.service.clone());
    Box::new(Work {
        tried: tried.collect(),
        hold: head.lease.map(|lease| lease.number).into(),
        attempt: head.attempts.len() as u64 + 1,
        admission: head.admission,
    })
}

fn changed(changed: ChangeResult) -> Reply {
    match changed {
        ChangeResult::Done(_) => Reply::Done,
        ChangeResult::Rejected(..) => Reply::Refused,
        ChangeResult::NotFound => Reply::Nothing,
    }
}
