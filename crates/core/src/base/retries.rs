//! Which failed call of an object is made again, and after which pause.

/// The pause before a request is repeated that the platform has repeated itself, in milliseconds. The object is
/// starting or moving.
const RETRYABLE_PAUSE_MS: u64 = 1_000;

/// How a call of an object failed. Whether the object has acted is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// There was no reply in time.
    TimedOut,
    /// The object has more requests than it can handle.
    Overloaded,
    /// The connection was lost, or the object was starting or moving. The platform has itself tried again.
    Retryable,
    /// The object failed.
    Failed,
    /// The reply cannot be read.
    Malformed,
}

/// The repetitions of a call that has no effect when repeated.
#[derive(Debug)]
pub struct Retries {
    max: u32,
    done: u32,
    /// The call was repeated after [`CallFault::Retryable`].
    after_retryable: bool,
    pause_ms: u64,
}

impl Retries {
    pub fn up_to(max: u32) -> Self {
        Self { max, done: 0, after_retryable: false, pause_ms: 0 }
    }

    /// Whether the call may be made again after this fault. If so, it counts as repeated.
    pub fn allow(&mut self, fault: CallFault) -> bool {
        let is_retryable = fault == CallFault::Retryable;
        let is_allowed = match fault {
            CallFault::Overloaded | CallFault::Malformed => false,
            // Once, because the platform does not repeat a request that the object may have received.
            CallFault::Retryable => !self.after_retryable,
            CallFault::TimedOut | CallFault::Failed => true,
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

    /// The pause before the call that was allowed last, in milliseconds: it doubles each time.
    pub fn pause_ms(&self) -> u64 {
        self.pause_ms
    }
}

/// The pause after another failure, in milliseconds: it doubles with each earlier one, up to `max_ms`.
pub fn doubling_pause_ms(first_ms: u64, earlier_failures: u32, max_ms: u64) -> u64 {
    first_ms.saturating_mul(1 << earlier_failures.min(32)).min(max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(
            [0, 1, 2, 4, 5, u32::MAX].map(|failures| doubling_pause_ms(200, failures, 3_200)),
            [200, 400, 800, 3_200, 3_200, 3_200]
        );
        assert_eq!(doubling_pause_ms(u64::MAX, 3, u64::MAX), u64::MAX);
    }

    #[test]
    fn an_overloaded_object_is_not_called_again() {
        let mut retries = Retries::up_to(4);
        assert!(retries.allow(CallFault::Failed));
        assert!(!retries.allow(CallFault::Overloaded));
    }

    #[test]
    fn an_unreadable_reply_is_not_asked_for_again() {
        assert!(!Retries::up_to(4).allow(CallFault::Malformed));
    }

    #[test]
    fn what_the_platform_has_repeated_is_sent_once_more_whatever_came_before() {
        let mut retries = Retries::up_to(4);
        assert!(retries.allow(CallFault::Failed));
        assert!(retries.allow(CallFault::Retryable));
        assert_eq!(retries.pause_ms(), RETRYABLE_PAUSE_MS);
        assert!(!retries.allow(CallFault::Retryable));
        assert!(!Retries::up_to(0).allow(CallFault::Retryable));
    }

    #[test]
    fn other_failures_are_repeated_up_to_the_maximum_with_pauses_that_double() {
        let mut retries = Retries::up_to(4);
        let faults = [CallFault::Failed, CallFault::TimedOut, CallFault::Retryable, CallFault::Failed];
        let pauses = faults.map(|fault| {
            assert!(retries.allow(fault));
            retries.pause_ms()
        });
        assert_eq!(pauses, [200, 400, 1_000, 1_600]);
        assert!(!retries.allow(CallFault::TimedOut));
    }
}
