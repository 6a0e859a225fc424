//! `pieces`: results that are too large for the row of their context, split into rows of their own.
//!
//! They are written in the transaction that ends the context and are deleted with it. The context's own row then has no
//! result: a completed context without a result in its row has pieces. A version without support for pieces shows such
//! a context without its result; pieces left behind when it deletes a context are removed by the next deletion of a
//! version that supports them.

use serde_json::value::RawValue;

use crate::platform::Failure;
use narthex_core::base::id::ContextId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::context_store::result_pieces::{ROW_BYTES, joined};

use super::tables::Tables;

/// Without row ids, each piece costs one row written, not a second one for its key.
pub const CREATE: &str = "CREATE TABLE IF NOT EXISTS pieces (key INTEGER NOT NULL, number INTEGER NOT NULL, \
     text TEXT NOT NULL, PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID";

/// Only for the given context; if it was already stored, its pieces exist.
const INSERT: &str = "INSERT INTO pieces (key, number, text) SELECT CAST(?1 AS INTEGER), CAST(?2 AS INTEGER), ?3 \
     WHERE EXISTS (SELECT 1 FROM done WHERE key = CAST(?1 AS INTEGER) AND id = ?4) ON CONFLICT DO NOTHING";

/// Pieces deleted at a time: each costs as much as hundreds of small contexts.
const MAX_DELETED: u64 = 64;

impl Tables {
    /// Runs `store` and writes the result's pieces in one transaction.
    pub fn with_pieces<T>(
        &self,
        id: &ContextId,
        pieces: &[&str],
        store: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if pieces.is_empty() {
            return store();
        }
        self.0.transaction(|| {
            let stored = store()?;
            let key = id.row_key();
            for (number, piece) in (0_u64..).zip(pieces) {
                self.0.run(INSERT, &[(&key).into(), number.into(), (*piece).into(), id.as_str().into()])?;
            }
            Ok(stored)
        })
    }

    /// Joins the pieces of a result, if there are any.
    pub fn joined(&self, id: &ContextId) -> Result<Option<Box<RawValue>>, StorageError> {
        let key = id.row_key();
        let rows =
            self.0.rows("SELECT text FROM pieces WHERE key = CAST(? AS INTEGER) ORDER BY number", &[(&key).into()])?;
        let whole = joined(rows.into_iter().map(|row| row.text(0).unwrap_or_default()), ROW_BYTES);
        Ok(whole.map(RawValue::from_string).transpose()?)
    }

    /// The key, at most `before`, up to which contexts can be deleted at once without exceeding [`MAX_DELETED`]
    /// pieces.
    pub fn within_reach(&self, before: &str) -> Result<String, Failure> {
        let row = self.0.first(
            "SELECT CAST(key AS TEXT) FROM pieces WHERE key < CAST(?1 AS INTEGER) ORDER BY key, number \
             LIMIT 1 OFFSET CAST(?2 AS INTEGER)",
            &[before.into(), MAX_DELETED.into()],
        )?;
        Ok(row.and_then(|row| row.text(0)).unwrap_or_else(|| before.into()))
    }

    /// Deletes the pieces of deleted contexts.
    pub fn delete_stray(&self, before: &str) -> Result<(), Failure> {
        self.0.run(
            "DELETE FROM pieces WHERE key < CAST(?1 AS INTEGER) \
             AND NOT EXISTS (SELECT 1 FROM done WHERE done.key = pieces.key)",
            &[before.into()],
        )
    }
}
