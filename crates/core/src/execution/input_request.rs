//! An attempt that asks the client for input, and waits for the answer at the store.

use serde_json::value::RawValue;

use crate::base::retries::CallFault;
use crate::base::timing::Timing;
use crate::context_store::replies::{ChangeReply, InputReply};
use crate::execution::backoff::Backoff;

/// What follows a reply of the store.
#[derive(Debug)]
pub enum InputStep {
    /// Wait for the answer at the store, after this pause.
    Await {
        pause_ms: u64,
    },
    Answered(Box<RawValue>),
    /// The attempt ends before there is an answer.
    Gone,
}

/// One request for input.
#[derive(Debug)]
pub struct InputRequest {
    backoff: Backoff,
    retry_ms: u64,
}

impl InputRequest {
    pub fn new(timing: &Timing) -> Self {
        Self { backoff: Backoff::default(), retry_ms: timing.input_retry_ms }
    }

    /// The step after the store's reply to the request.
    pub fn requested(&self, reply: &ChangeReply) -> InputStep {
        match reply {
            ChangeReply::Changed { .. } => InputStep::Await { pause_ms: 0 },
            ChangeReply::Refused { .. } | ChangeReply::Nothing => InputStep::Gone,
        }
    }

    /// The step after a wait at the store. The answer may be there although a call has failed.
    pub fn on(&mut self, reply: Result<InputReply, CallFault>) -> InputStep {
        match reply {
            Ok(InputReply::Heard { input: Some(input) }) => InputStep::Answered(input),
            Ok(InputReply::Heard { input: None }) => {
                self.backoff = Backoff::default();
                InputStep::Await { pause_ms: 0 }
            }
            Ok(InputReply::Nothing) | Err(CallFault::Malformed) => InputStep::Gone,
            Err(CallFault::TimedOut | CallFault::Overloaded | CallFault::Retryable | CallFault::Failed) => {
                InputStep::Await { pause_ms: self.backoff.next_ms(self.retry_ms) }
            }
        }
    }
}
