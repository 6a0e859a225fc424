//! What is known of a service beside its document.

use std::cell::Cell;

use narthex_core::base::time::Timestamp;
use narthex_core::lane::call_reporter::Tally;
use narthex_core::lane::observed::Measured;
use narthex_core::lane::retry_budget::Budget;

/// What changes without a revision, shared by all snapshots that have the service.
#[derive(Default)]
pub struct Live {
    pub(super) measured: Cell<Measured>,
    pub tally: Cell<Tally>,
    pub budget: Cell<Budget>,
    /// While its circuit is not closed: the lane lets nobody through before this.
    pub shut_until: Cell<Timestamp>,
    /// Until then it wants to be left alone, by its `Retry-After`: others are tried first where there are any.
    pub rests_until: Cell<Timestamp>,
}

impl Live {
    /// Takes in what the registry or the lane itself says, if it is news.
    pub fn hear(&self, measured: Measured) {
        if measured.version > self.measured.get().version {
            self.measured.set(measured);
        }
    }
}
