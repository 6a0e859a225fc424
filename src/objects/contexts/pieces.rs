//! `pieces`: results that are too large for the row of their context, cut into rows of their own.
//!
//! They are written in the transaction that ends the context, and go with it. Their context's row has no result; what
//! has completed and has none beside it has pieces. A version that knows no pieces shows such a context without its
//! result; the pieces it leaves behind when it deletes a context are deleted by the next that does.

use serde_json::value::RawValue;

use crate::platform::Failure;
use narthex_core::base::id::ContextId;
use narthex_core::context_store::StorageError;
use narthex_core::context_store::result_pieces::{ROW_BYTES, joined};

use super::tables::Tables;

/// Without row ids, so that a piece is one row and its key no second.
pub const CREATE: &str = "CREATE TABLE IF NOT EXISTS pieces (key INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT NOT NULL, \
     PRIMARY KEY (key, number)) STRICT, WITHOUT ROWID";

/// Only beside its own context; one that was kept before has its pieces.
const INSERT: &str = "INSERT INTO pieces (key, number, text) SELECT CAST(?1 AS INTEGER), CAST(?2 AS INTEGER), ?3 \
     WHERE EXISTS (SELECT 1 FROM done WHERE key = CAST(?1 AS INTEGER) AND id = ?4) ON CONFLICT DO NOTHING";

/// Pieces deleted at a time: each is as much work as hundreds of small contexts.
const MAX_FORGOTTEN: u64 = 64;

impl Tables {
    /// What `keep` writes and the pieces that belong to it, all or nothing.
    pub fn with_pieces<T>(
        &self,
        id: &ContextId,
        pieces: &[&str],
        keep: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if pieces.is_empty() {
            return keep();
        }
        self.0.transaction(|| {
            let kept = keep()?;
            let key = id.row_key();
            for (number, piece) in (0_u64..).zip(pieces) {
                self.0.run(INSERT, &[(&key).into(), number.into(), (*piece).into(), id.as_str().into()])?;
            }
            Ok(kept)
        })
    }

    /// The result that lies in pieces, if there are any.
    pub fn joined(&self, id: &ContextId) -> Result<Option<Box<RawValue>>, StorageError> {
        let key = id.row_key();
        let rows =
            self.0.rows("SELECT text FROM pieces WHERE key = CAST(? AS INTEGER) ORDER BY number", &[(&key).into()])?;
        let whole = joined(rows.into_iter().map(|row| row.text(0).unwrap_or_default()), ROW_BYTES);
        Ok(whole.map(RawValue::from_string).transpose()?)
    }

    /// The key up to which contexts can be deleted at a time, `before` at most: not too many have pieces.
    pub fn within_reach(&self, before: &str) -> Result<String, Failure> {
        let row = self.0.first(
            "SELECT CAST(key AS TEXT) FROM pieces WHERE key < CAST(?1 AS INTEGER) ORDER BY key, number \
             LIMIT 1 OFFSET CAST(?2 AS INTEGER)",
            &[before.into(), MAX_FORGOTTEN.into()],
        )?;
        Ok(row.and_then(|row| row.text(0)).unwrap_or_else(|| before.into()))
    }

    /// Deletes the pieces of contexts that are gone.
    pub fn forget_stray(&self, before: &str) -> Result<(), Failure> {
        self.0.run(
            "DELETE FROM pieces WHERE key < CAST(?1 AS INTEGER) \
             AND NOT EXISTS (SELECT 1 FROM done WHERE done.key = pieces.key)",
            &[before.into()],
        )
    }
}
