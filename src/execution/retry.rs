//! What follows from an attempt that failed, as far as it depends on the other services that could do the work.

use crate::objects::contexts::messages::Work;
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::base::time::Timestamp;
use narthex_core::context::ReportedOutcome;
use narthex_core::context::status::ErrorCode;
use narthex_core::services::attempt_timeout;

use super::{Attempted, choice};

/// A `Retry-After` that one context received counts for other contexts this long at most, in milliseconds: the caller's
/// parameters may have provoked it.
const MAX_REST_MS: u64 = 300_000;

/// Milliseconds an attempt at this service waits for its answer to begin, of those its context has left.
pub fn patience_ms(work: &Work, snapshot: &Snapshot, entry: &Entry, left_ms: u64) -> u64 {
    let admission = &work.admission;
    let tries_left = admission.retry.max_attempts.saturating_sub(work.attempt);
    if !admission.idempotent || tries_left == 0 {
        return left_ms;
    }
    let others = choice::callable_others(work, snapshot, &entry.service().id).min(tries_left);
    attempt_timeout::for_answer(left_ms, others, entry.measured().latency_ms)
}

/// Settles whether a failed attempt is followed by another, and when: one that only another service could do better
/// needs one; no service waits for what another one said by `Retry-After`; and what could only be tried again at the same
/// service needs that service's retry budget.
pub fn settle(attempted: &mut Attempted, work: &mut Work, snapshot: &Snapshot, entry: &Entry, now: Timestamp) {
    let id = entry.service().id.as_str();
    if attempted.elsewhere {
        work.hopeless.push(id.into());
    }
    let ReportedOutcome::Failed { retryable, untouched, error, retry_after_ms } = &mut attempted.report.outcome else {
        return;
    };
    if let Some(ms) = *retry_after_ms {
        entry.live.rests_until.set(now.plus_ms(ms.min(MAX_REST_MS)));
    }
    let others = choice::has_others(work, snapshot, id);
    let pause_ms = choice::pause_ms(work, snapshot, id, *retry_after_ms, now);
    *retryable = match attempted.elsewhere {
        true => pause_ms.is_some(),
        // Nothing changes by trying there again.
        false => *retryable && (error.code != ErrorCode::AddressRefused || others),
    };
    *retry_after_ms = pause_ms.or(*retry_after_ms).filter(|ms| *ms > 0);
    let admission = &work.admission;
    let repeats = *retryable && (*untouched || admission.idempotent) && work.attempt < admission.retry.max_attempts;
    if repeats && !others && !lanes::may_retry(entry, now) {
        *retryable = false;
        error.message.push_str(" It is not tried again: too many retries at this service already.");
    }
}
