//! What follows a failed attempt, as far as it depends on the other services. The retry policy of the context and its
//! deadline belong to `context`.

use super::attempt_result::AttemptResult;
use super::known_service::KnownService;
use super::selection;
use crate::base::time::Timestamp;
use crate::context::ReportedOutcome;
use crate::context::status::ErrorCode;
use crate::context_store::replies::Work;
use crate::services::attempt_timeout;

/// The maximum time that a `Retry-After` received for one context applies to other contexts, in milliseconds: the
/// parameters of one caller may have provoked it.
const MAX_RETRY_AFTER_MS: u64 = 300_000;

/// How long an attempt at the service `called` waits for the response to begin, of the time that its context has left,
/// in milliseconds.
pub fn answer_timeout_ms<S: KnownService>(
    work: &Work,
    services: &[S],
    called: &S,
    left_ms: u64,
    now: Timestamp,
) -> u64 {
    let admission = &work.admission;
    let tries_left = admission.retry.max_attempts.saturating_sub(work.attempt);
    if !admission.idempotent || tries_left == 0 {
        return left_ms;
    }
    let others = selection::callable_others(work, services, &called.service().id, now).min(tries_left);
    attempt_timeout::for_answer(left_ms, others, called.measured().latency_ms)
}

/// Decides whether another attempt follows one at the service `called`, and when. If only another service could do
/// better, `called` is among the hopeless ones, and there must be another. No service waits because of the
/// `Retry-After` of another. An attempt that can only go to the same service needs its retry budget.
pub fn decide<S: KnownService>(attempted: &mut AttemptResult, work: &Work, services: &[S], called: &S, now: Timestamp) {
    let id = &called.service().id;
    let ReportedOutcome::Failed { retryable, untouched, error, retry_after_ms } = &mut attempted.report.outcome else {
        return;
    };
    if let Some(ms) = *retry_after_ms {
        called.live().cool_down_until.set(now.plus_ms(ms.min(MAX_RETRY_AFTER_MS)));
    }
    let others = selection::has_others(work, services, id, now);
    let pause_ms = selection::pause_ms(work, services, id, *retry_after_ms, now);
    *retryable = match attempted.needs_other_service {
        true => pause_ms.is_some(),
        // The same service would refuse it again.
        false => *retryable && (error.code != ErrorCode::AddressRefused || others),
    };
    *retry_after_ms = pause_ms.or(*retry_after_ms).filter(|ms| *ms > 0);
    let admission = &work.admission;
    let repeats = *retryable && (*untouched || admission.idempotent) && work.attempt < admission.retry.max_attempts;
    if repeats && !others && !called.live().may_retry(now) {
        *retryable = false;
        error.message.push_str(" Not retried: this service's retry budget is exhausted.");
    }
}

#[cfg(test)]
mod tests;
