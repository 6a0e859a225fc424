//! When a driver renews what it holds: the lease or the offer of its context, and its permit.

use crate::base::time::Timestamp;

use super::{Action, Admission, Driver, Renewal, State};

impl Driver {
    /// When the lease or the offer, and the permit, are renewed.
    pub(super) fn renews_at(&self) -> Option<Timestamp> {
        let holds = match &self.state {
            State::Queueing(_)
            | State::Calling(_)
            | State::ReleasingProbe(..)
            | State::Committing { renews: true }
            | State::Refreshing(Some(_)) => matches!(self.admission, Admission::Stored),
            State::New
            | State::Leasing(_)
            | State::Leaving
            | State::Pausing(_)
            | State::Refreshing(None)
            | State::Committing { renews: false }
            | State::Finished => false,
        };
        let granted_at = self.permit.as_ref().map(|permit| permit.granted_at);
        let since = granted_at.map_or(self.renewed_at, |granted_at| granted_at.min(self.renewed_at));
        holds.then(|| since.plus_ms(self.timing.renew_ms))
    }

    /// Renews without waiting for the reply: a lost one must not cost the lease.
    pub(super) fn renew(&mut self, now: Timestamp) {
        self.renewed_at = now;
        self.actions.push(Action::Renew(self.renewal()));
        if let Some(permit) = &mut self.permit {
            permit.granted_at = now;
            self.actions.push(Action::RenewPermit(permit.clone()));
        }
    }

    pub(super) fn renewal(&self) -> Renewal {
        Renewal { hold: self.work.hold, attempt: self.work.attempt }
    }
}
