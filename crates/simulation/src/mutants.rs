//! Broken cores, each broken at one seam between shell and ledger: the simulation has to find every one of them.

use narthex_core::base::id::ContextId;

use crate::messages::Ask;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A report counts whatever lease it comes under.
    LateReportsCount,
    /// An idempotency key is not written down.
    KeysAreForgotten,
    /// What is not idempotent is tried again when its worker is lost.
    UnsafeIsRepeated,
    /// After a restart events are numbered from the beginning.
    NumbersBeginAnew,
    /// The last piece of a result is not written down.
    PiecesAreLost,
    /// The alarm is not in the same write as what it is for.
    AlarmIsLostInACrash,
    /// Who ought to wait is given a permit.
    OnePermitTooMany,
    /// A lane that restarts does not wait for the permits that are out.
    LaneOpensAtOnce,
}

impl World {
    pub fn sabotage(&mut self) {
        for store in &self.stores {
            match self.mutant {
                Some(Mutant::KeysAreForgotten) => store.shelf.forget_claims_at_once(),
                Some(Mutant::PiecesAreLost) => store.shelf.lose_pieces(),
                Some(Mutant::NumbersBeginAnew) => store.shelf.forget_numbers(),
                _ => {}
            }
        }
    }

    /// What the ledger is handed in place of a message; with it what must not change, where that is known.
    pub fn mutate(&mut self, store: usize, ask: Ask) -> (Ask, Option<(ContextId, String)>) {
        let late = self.late(store, &ask);
        match (self.mutant, ask) {
            (Some(Mutant::LateReportsCount), Ask::Commit { id, mut report, stays_ms }) => {
                if let Some(lease) = self.witness.lease(&id) {
                    report.lease = lease;
                }
                (Ask::Commit { id, report, stays_ms }, late)
            }
            (Some(Mutant::UnsafeIsRepeated), Ask::Admit { mut admission, lease_ms, offers, claim }) => {
                admission.idempotent = true;
                (Ask::Admit { admission, lease_ms, offers, claim }, late)
            }
            (_, ask) => (ask, late),
        }
    }
}
