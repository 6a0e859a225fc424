//! What is known of a service beside its document.

use std::cell::Cell;

use narthex_core::base::time::Timestamp;
use narthex_core::lane::call_reporter::CallReporter;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::lane::retry_budget::RetryBudget;

/// What changes without a revision, shared by all snapshots that have the service.
#[derive(Default)]
pub struct Live {
    pub(super) measured: Cell<ObservedStatus>,
    pub tally: Cell<CallReporter>,
    pub budget: Cell<RetryBudget>,
    /// While its circuit is not closed: the lane lets nobody through before this.
    pub shut_until: Cell<Timestamp>,
    /// Until then it wants to be left alone, by its `Retry-After`: others are tried first where there are any.
    pub rests_until: Cell<Timestamp>,
}

impl Live {
    /// Takes in what the registry or the lane itself says, if it is news.
    pub fn hear(&self, measured: ObservedStatus) {
        if measured.version > self.measured.get().version {
            self.measured.set(measured);
        }
    }
}
