//! The revision of its registry that a store knows, and until when it may rely on it.

use super::revision::Revision;
use crate::base::time::Timestamp;

/// In memory only: after a restart, a store knows nothing and must ask.
#[derive(Debug, Default)]
pub struct KnownRevision {
    revision: Revision,
    /// When the last question that the registry answered was sent.
    asked_at: Option<Timestamp>,
}

impl KnownRevision {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the store may decide without asking the registry first. Only an answered question counts, from when it
    /// was sent: a message of the registry may have been under way for any time, so a newer one may be lost.
    pub fn is_current(&self, now: Timestamp, silence_ms: u64) -> bool {
        self.asked_at.is_some_and(|at| now.since(at) < silence_ms)
    }

    /// The registry has this revision.
    pub fn learn(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// The registry has answered a question that was sent at `asked_at`.
    pub fn answered(&mut self, revision: Revision, asked_at: Timestamp) {
        self.learn(revision);
        self.asked_at = self.asked_at.max(Some(asked_at));
    }

    /// Whether a decision that was made under this revision is accepted. If it is newer, the store knows it from then
    /// on.
    ///
    /// # Errors
    /// The store knows a newer revision, which it returns.
    pub fn accept(&mut self, revision: Revision) -> Result<(), Revision> {
        if revision < self.revision {
            return Err(self.revision);
        }
        self.revision = revision;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        (0..number).fold(Revision::INITIAL, |revision, _| revision.next())
    }

    #[test]
    fn older_decisions_are_rejected_and_newer_ones_are_believed() {
        let mut known = KnownRevision::default();
        known.learn(revision(3));
        assert_eq!(known.accept(revision(2)), Err(revision(3)));
        assert_eq!(known.accept(revision(3)), Ok(()));
        assert_eq!(known.accept(revision(5)), Ok(()));
        assert_eq!(known.accept(revision(4)), Err(revision(5)));
        // Late messages.
        known.learn(revision(4));
        known.answered(revision(1), Timestamp(0));
        assert_eq!(known.revision(), revision(5));
    }

    #[test]
    fn only_an_answered_question_counts_and_from_when_it_was_sent() {
        let mut known = KnownRevision::default();
        known.learn(revision(3));
        assert!(!known.is_current(Timestamp(0), 30));
        known.answered(revision(3), Timestamp(100));
        assert!(known.is_current(Timestamp(129), 30) && !known.is_current(Timestamp(130), 30));
        // A push says nothing of later ones.
        known.learn(revision(4));
        assert!(!known.is_current(Timestamp(130), 30));
        // The reply to an earlier question arrives late.
        known.answered(revision(4), Timestamp(90));
        assert!(known.is_current(Timestamp(129), 30) && !known.is_current(Timestamp(130), 30));
    }
}
