//! The state of a service besides its document.

use std::cell::Cell;

use narthex_core::base::time::Timestamp;
use narthex_core::lane::call_reporter::CallReporter;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::lane::retry_budget::RetryBudget;

/// State that changes without a revision, shared by all snapshots with the service.
#[derive(Default)]
pub struct Live {
    pub(super) measured: Cell<ObservedStatus>,
    pub tally: Cell<CallReporter>,
    pub budget: Cell<RetryBudget>,
    /// While its breaker is not closed: the lane grants no permit before this time.
    pub blocked_until: Cell<Timestamp>,
    /// Set by `Retry-After`: other services are preferred until this time.
    pub cool_down_until: Cell<Timestamp>,
}

impl Live {
    /// Records a status from the registry or the lane if it is newer.
    pub fn update_observed(&self, measured: ObservedStatus) {
        if measured.version > self.measured.get().version {
            self.measured.set(measured);
        }
    }
}
