//! Mutants: each has one defect at the boundary between shell and core. The simulation must find all of them.

use narthex_core::base::id::ContextId;

use crate::messages::Ask;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A report counts even under a lost lease.
    LateReportsCount,
    /// Idempotency keys are not written.
    KeysAreForgotten,
    /// A context that is not idempotent is retried when its worker is lost.
    UnsafeIsRepeated,
    /// After a restart, event numbers start from the beginning.
    NumbersBeginAnew,
    /// The last piece of a result is not written.
    PiecesAreLost,
    /// The alarm is not written together with the rows.
    AlarmIsLostInACrash,
    /// A call that must wait gets a permit.
    OnePermitTooMany,
    /// A restarted lane does not wait for the permits from before.
    LaneOpensAtOnce,
}

impl World {
    pub fn sabotage(&mut self) {
        for store in &self.stores {
            match self.mutant {
                Some(Mutant::KeysAreForgotten) => store.storage.lose_claims(),
                Some(Mutant::PiecesAreLost) => store.storage.lose_pieces(),
                Some(Mutant::NumbersBeginAnew) => store.storage.lose_reservations(),
                _ => {}
            }
        }
    }

    /// The message that the store gets instead of `ask`, and the context that it must not change, if known.
    pub fn mutate(&mut self, store: usize, ask: Ask) -> (Ask, Option<(ContextId, String)>) {
        let late = self.late(store, &ask);
        match (self.mutant, ask) {
            (Some(Mutant::LateReportsCount), Ask::Commit(mut commit)) => {
                if let Some(lease) = self.checker.lease(&commit.id) {
                    commit.report.lease = lease;
                }
                (Ask::Commit(commit), late)
            }
            (Some(Mutant::UnsafeIsRepeated), Ask::Admit(mut admit)) => {
                admit.admission.idempotent = true;
                (Ask::Admit(admit), late)
            }
            (_, ask) => (ask, late),
        }
    }
}
