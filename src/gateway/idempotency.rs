//! Idempotency keys: the claim of a request, the admission under it, and what an earlier request with it created.

use crate::objects::contexts::client::{call_under, has_store};
use crate::objects::contexts::messages::{Admit, AdmitReply, Contexts, Recall, RecallReply, Stale};
use crate::objects::registry::snapshot;
use crate::objects::reply::Reply;
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical;
use narthex_core::base::id::ContextId;
use narthex_core::base::retries::Retries;
use narthex_core::context::idempotency::{self, Claim};
use narthex_core::http::problem::{Code, Problem};

use super::answer::internal;
use super::call::{Call, Caller};
use super::decision::MAX_DECISIONS;

pub type Admitted = Reply<AdmitReply, Stale>;

/// The idempotency key of a request, with its claim. `text` is its body.
///
/// # Errors
/// The key is malformed.
pub fn claim(call: &Call, principal: &Principal, text: &str) -> Result<Option<(String, Claim)>, Problem> {
    let Some(header) = call.request.header("idempotency-key") else { return Ok(None) };
    let malformed = || {
        Problem::new(Code::InvalidRequest, "Idempotency-Key must be 1 to 255 visible ASCII characters, quoted or bare.")
    };
    let key = idempotency::parse(header).ok_or_else(malformed)?;
    let fingerprint = canonical::fingerprint(text).ok_or_else(|| Problem::internal("the body has no fingerprint"))?;
    let claim = Claim::new(&principal.tenant, &principal.principal, &call.path, &key, fingerprint);
    Ok(Some((key, claim)))
}

/// The key was used for another request.
pub fn reused() -> Problem {
    let detail = "This Idempotency-Key was used with a different body within the last 24 hours. \
                  Use a new key for a new request.";
    Problem::new(Code::IdempotencyKeyReused, detail)
}

/// The context of an earlier request with this key, for a request that is rejected with `problem` otherwise.
///
/// # Errors
/// The store does not know the key: `problem`. Or the key was used for another request.
pub async fn recall(
    call: &Call,
    caller: &mut Caller,
    claim: Option<&Claim>,
    problem: Problem,
) -> Result<ContextId, Problem> {
    let Some(claim) = claim else { return Err(problem) };
    let store = claim.store(call.settings.home_region);
    let tenant = caller.principal.tenant.clone();
    // A store without contexts has no keys either, and a rejected request must not create it.
    if !has_store(&tenant, store, &mut caller.snapshot.clone()).await.map_err(internal)? {
        return Err(problem);
    }
    let recall = Recall { claim: claim.clone() };
    let address = Contexts::of(&tenant, store);
    for _ in 0..MAX_DECISIONS {
        match call_under(&address, caller.snapshot.revision, &recall).await.map_err(internal)? {
            Reply(Ok(RecallReply::Replayed { id })) => return Ok(id),
            Reply(Ok(RecallReply::KeyReused)) => return Err(reused()),
            Reply(Ok(RecallReply::Nothing)) => return Err(problem),
            Reply(Err(Stale::Stale { .. })) => {
                caller.snapshot = snapshot::refreshed(&tenant).await.map_err(internal)?;
                // The credentials of the caller may have ended.
                caller.authenticate_again(call).await?;
            }
        }
    }
    Err(problem)
}

/// Admits a context, and asks once more if the first reply was lost: the store recognizes the id.
///
/// # Errors
/// The store cannot be reached.
pub async fn admit(caller: &Caller, admit: &Admit) -> Result<Admitted, Problem> {
    let store = Contexts::holding(&caller.principal.tenant, &admit.admission.id).map_err(internal)?;
    let admitted = match call_under(&store, caller.snapshot.revision, admit).await {
        // At once, because the client waits.
        Err(error) if Retries::up_to(1).allow(error.fault()) => {
            call_under(&store, caller.snapshot.revision, admit).await
        }
        admitted => admitted,
    };
    admitted.map_err(internal)
}
