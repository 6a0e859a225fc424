//! Hands an attempt over to a connection of a service that connects.
//!
//! The lane of the service dispatches the work to a connection with room. The one that had room when the permit was
//! granted may have dropped since, so the attempt looks for another for a while. To ask again after a failed call
//! does not hand the work over twice: the lane recognizes the delivery.
//!
//! A request may also arrive late, or twice. So each says until when it may be carried out, and the attempt asks once
//! more after that time: if no connection has the work then, none gets it, and another service may do it.

use crate::base::retries::{CallFault, Retries};
use crate::base::time::Timestamp;
use crate::base::timing::Timing;
use crate::calling::response::CallResult;

/// How long an attempt looks for a connection, in milliseconds.
const CONNECTION_TIMEOUT_MS: u64 = 15_000;
/// How far the clocks of a Worker and an object may be apart, in milliseconds.
const CLOCK_MARGIN_MS: u64 = 1_000;
/// How many times a failed call of the lane is repeated.
const MAX_RETRIES: u32 = 3;

/// What follows a reply of the lane.
#[derive(Debug)]
pub enum HandOverStep {
    /// Ask the lane after this pause.
    Dispatch {
        pause_ms: u64,
    },
    End(CallResult),
}

/// The hand-over of one attempt.
#[derive(Debug)]
pub struct HandOver {
    until: Timestamp,
    expires_at: Timestamp,
    poll_ms: u64,
    retries: Retries,
    /// The request in progress is sent after `until`: the lane only says whether a connection has the work.
    is_last: bool,
}

impl HandOver {
    pub fn new(expires_at: Timestamp, now: Timestamp, timing: &Timing) -> Self {
        let until = now.plus_ms(CONNECTION_TIMEOUT_MS);
        Self {
            until,
            expires_at,
            poll_ms: timing.connection_poll_ms,
            retries: Retries::up_to(MAX_RETRIES),
            is_last: false,
        }
    }

    /// Until when the lane may carry out the requests.
    pub fn valid_until(&self) -> Timestamp {
        self.until
    }

    /// The first step.
    pub fn begin(&mut self, now: Timestamp) -> HandOverStep {
        self.dispatch_after(0, now)
    }

    /// The step after a reply: whether a connection has the work.
    pub fn on(&mut self, reply: Result<bool, CallFault>, now: Timestamp) -> HandOverStep {
        match reply {
            Ok(true) => HandOverStep::End(CallResult::Accepted),
            Ok(false) if self.is_last => HandOverStep::End(CallResult::Refused),
            Ok(false) => {
                self.retries = Retries::up_to(MAX_RETRIES);
                self.dispatch_after(self.poll_ms, now)
            }
            Err(fault) if self.retries.allow(fault) => self.dispatch_after(self.retries.pause_ms() + self.poll_ms, now),
            // It may have been handed over, and the reply lost.
            Err(_) => HandOverStep::End(CallResult::Lost),
        }
    }

    fn dispatch_after(&mut self, pause_ms: u64, now: Timestamp) -> HandOverStep {
        let last = self.until.plus_ms(CLOCK_MARGIN_MS);
        self.is_last = now.plus_ms(pause_ms) >= self.until;
        let pause_ms = if self.is_last { pause_ms.max(last.since(now)) } else { pause_ms };
        if now.plus_ms(pause_ms) >= self.expires_at {
            return HandOverStep::End(CallResult::TimedOut { deadline: true });
        }
        HandOverStep::Dispatch { pause_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const POLL_MS: u64 = Timing::DEFAULT.connection_poll_ms;

    fn hand_over(lives_ms: u64) -> HandOver {
        HandOver::new(NOW.plus_ms(lives_ms), NOW, &Timing::DEFAULT)
    }

    fn dispatches_after(step: &HandOverStep) -> Option<u64> {
        match step {
            HandOverStep::Dispatch { pause_ms } => Some(*pause_ms),
            HandOverStep::End(_) => None,
        }
    }

    #[test]
    fn a_connection_with_room_accepts_the_work() {
        let mut hand_over = hand_over(60_000);
        assert_eq!(dispatches_after(&hand_over.begin(NOW)), Some(0));
        assert_eq!(dispatches_after(&hand_over.on(Ok(false), NOW)), Some(POLL_MS));
        let step = hand_over.on(Ok(true), NOW);
        assert!(matches!(step, HandOverStep::End(CallResult::Accepted)));
    }

    #[test]
    fn a_hand_over_is_refused_only_once_no_request_can_be_carried_out() {
        let mut hand_over = hand_over(60_000);
        let late = hand_over.valid_until();
        let step = hand_over.on(Ok(false), Timestamp(late.0 - 100));
        assert_eq!(dispatches_after(&step), Some(100 + CLOCK_MARGIN_MS));
        let step = hand_over.on(Ok(false), late.plus_ms(CLOCK_MARGIN_MS));
        assert!(matches!(step, HandOverStep::End(CallResult::Refused)), "{step:?}");
    }

    #[test]
    fn the_outcome_is_unknown_if_the_lane_never_replies() {
        let mut hand_over = hand_over(60_000);
        let steps = [(); 4].map(|()| hand_over.on(Err(CallFault::TimedOut), NOW));
        let pauses = steps.each_ref().map(dispatches_after);
        assert_eq!(pauses, [Some(200 + POLL_MS), Some(400 + POLL_MS), Some(800 + POLL_MS), None]);
        assert!(matches!(steps[3], HandOverStep::End(CallResult::Lost)));
    }

    #[test]
    fn nothing_is_handed_over_after_the_deadline() {
        let step = hand_over(100).on(Ok(false), NOW);
        assert!(matches!(step, HandOverStep::End(CallResult::TimedOut { deadline: true })));
        assert!(dispatches_after(&hand_over(0).begin(NOW)).is_none());
    }
}
