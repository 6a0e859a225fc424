//! The way through a server's list, by which it is seen when it leads back to what was read of it.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// The cursors and the pages of a list that were read.
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

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn is_new(&mut self, what: &str, text: &str) -> bool {
        self.0.insert(Sha256::new().chain_update(what).chain_update(text).finalize().into())
    }

    pub fn is_new_cursor(&mut self, cursor: &str) -> bool {
        self.is_new("cursor\0", cursor)
    }

    pub fn is_new_page(&mut self, items: &str) -> bool {
        self.is_new("page\0", items)
    }
}
