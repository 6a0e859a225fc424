//! The path through a server's list, to detect when it leads back to pages that were read.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// The cursors and pages that were read.
#[derive(Debug, Default)]
pub struct Trail(BTreeSet<[u8; 32]>);

impl Trail {
    /// Begins at this cursor.
    pub fn starting_at(cursor: Option<&str>) -> Self {
        let mut trail = Self::default();
        if let Some(cursor) = cursor {
            trail.is_new_cursor(cursor);
        }
        trail
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_new(&mut self, what: &str, text: &str) -> bool {
        self.0.insert(Sha256::new().chain_update(what).chain_update(text).finalize().into())
    }

    /// Records a cursor; false if it was read before.
    pub fn is_new_cursor(&mut self, cursor: &str) -> bool {
        self.is_new("cursor\0", cursor)
    }

    /// Records a page's items; false if they were read before.
    pub fn is_new_page(&mut self, items: &str) -> bool {
        self.is_new("page\0", items)
    }
}
