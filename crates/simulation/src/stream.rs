//! A client that receives the result piece by piece.

use narthex_core::context::lease::LeaseNumber;

/// The pieces that belong together, as the client sees it: those after the last announcement of an attempt.
#[derive(Debug, Default)]
pub struct ClientStream {
    /// The lease of the call that sent each.
    pieces: Vec<LeaseNumber>,
}

impl ClientStream {
    pub fn begin_attempt(&mut self) {
        self.pieces.clear();
    }

    pub fn piece(&mut self, lease: LeaseNumber) {
        self.pieces.push(lease);
    }

    /// Whether all pieces are of the attempt with this lease.
    pub fn is_of(&self, lease: LeaseNumber) -> bool {
        self.pieces.iter().all(|piece| *piece == lease)
    }
}
