//! When a failed call of an object is made again.

use std::future::Future;

use crate::platform::clock;
use crate::platform::objects::CallError;

/// The pause before a request is repeated that the platform has repeated itself, in milliseconds. The object is
/// starting or moving.
const RETRYABLE_PAUSE_MS: u64 = 1_000;

/// The repetitions of a call that has no effect when repeated.
#[derive(Debug)]
pub struct Retries {
    max: u32,
    done: u32,
    /// The call was repeated after [`CallError::Retryable`].
    after_retryable: bool,
    pause_ms: u64,
}

impl Retries {
    pub fn up_to(max: u32) -> Self {
        Self { max, done: 0, after_retryable: false, pause_ms: 0 }
    }

    /// Whether the call may be made again after this error. If so, it counts as repeated.
    pub fn allow(&mut self, error: &CallError) -> bool {
        let is_retryable = matches!(error, CallError::Retryable(_));
        let is_allowed = match error {
            CallError::Overloaded(_) | CallError::Malformed { .. } => false,
            // Once, because the platform does not repeat a request that the object may have received.
            CallError::Retryable(_) => !self.after_retryable,
            CallError::TimedOut { .. } | CallError::Failed(_) => true,
        };
        if !is_allowed || !self.allow_another() {
            return false;
        }
        if is_retryable {
            self.after_retryable = true;
            self.pause_ms = RETRYABLE_PAUSE_MS;
        }
        true
    }

    /// Whether the call may be made again although it did not fail. If so, it counts as repeated.
    pub fn allow_another(&mut self) -> bool {
        let is_allowed = self.done < self.max;
        if is_allowed {
            self.done += 1;
            self.pause_ms = 100 << self.done;
        }
        is_allowed
    }

    /// As [`Retries::allow`], after the pause before the call is made again.
    pub async fn pause_after(&mut self, error: &CallError) -> bool {
        let is_allowed = self.allow(error);
        if is_allowed {
            clock::pause(self.pause_ms).await;
        }
        is_allowed
    }

    /// The pause before the call that was allowed last, in milliseconds: it doubles each time.
    pub fn pause_ms(&self) -> u64 {
        self.pause_ms
    }
}

/// Repeats a call that has no effect when repeated, with increasing pauses.
pub async fn with_retries<T, F>(max: u32, mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut retries = Retries::up_to(max);
    loop {
        match call().await {
            Err(error) => {
                if !retries.pause_after(&error).await {
                    return Err(error);
                }
            }
            reply => return reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> CallError {
        CallError::Failed("the Wasm instance died".into())
    }

    fn retryable() -> CallError {
        CallError::Retryable("Network connection lost.".into())
    }

    #[test]
    fn an_overloaded_object_is_not_called_again() {
        let mut retries = Retries::up_to(4);
        assert!(retries.allow(&failed()));
        assert!(!retries.allow(&CallError::Overloaded("too many requests".into())));
    }

    #[test]
    fn an_unreadable_reply_is_not_asked_for_again() {
        assert!(!Retries::up_to(4).allow(&CallError::Malformed { request: "get", detail: "expected value".into() }));
    }

    #[test]
    fn what_the_platform_has_repeated_is_sent_once_more_whatever_came_before() {
        let mut retries = Retries::up_to(4);
        assert!(retries.allow(&failed()));
        assert!(retries.allow(&retryable()));
        assert_eq!(retries.pause_ms(), RETRYABLE_PAUSE_MS);
        assert!(!retries.allow(&retryable()));
        assert!(!Retries::up_to(0).allow(&retryable()));
    }

    #[test]
    fn other_failures_are_repeated_up_to_the_maximum_with_pauses_that_double() {
        let mut retries = Retries::up_to(4);
        let timed_out = CallError::TimedOut { object: "default".into(), timeout_ms: 10 };
        let pauses = [failed(), timed_out.clone(), retryable(), failed()].map(|error| {
            assert!(retries.allow(&error));
            retries.pause_ms()
        });
        assert_eq!(pauses, [200, 400, 1_000, 1_600]);
        assert!(!retries.allow(&timed_out));
    }
}
