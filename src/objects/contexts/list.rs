//! Lists a store's contexts. A head may be a few hundred KiB and a list of two hundred contexts is one message, so a
//! list ends early when it becomes too large.

use crate::platform::Failure;
use crate::platform::sql::{Row, Value};
use narthex_core::context::Head;
use narthex_core::context::status::Status;
use narthex_core::http::paging::{PagePart, fitting, merged};

use super::messages::Query;
use super::tables::{Tables, head};

/// Bytes read of each table when the query sets no limit.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

macro_rules! listed {
    ($columns:literal, $table:literal, $and:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ",
            $table,
            " WHERE key > CAST(?1 AS INTEGER) AND key < CAST(?2 AS INTEGER) AND (?3 IS NULL OR owner = ?3) \
              AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR service = ?5) AND (?6 IS NULL OR capability = ?6) ",
            $and,
            " ORDER BY key DESC LIMIT CAST(?7 AS INTEGER)"
        )
    };
}

macro_rules! lives {
    ($columns:literal) => {
        listed!($columns, "live", "AND NOT EXISTS (SELECT 1 FROM done WHERE done.key = live.key)")
    };
}

/// For each table: the statement for the sizes of the heads, and the one for the heads.
const STATEMENTS: [[&str; 2]; 2] = [
    [listed!("length(head)", "done", ""), listed!("id, head", "done", "")],
    [lives!("length(head)"), lives!("id, head")],
];

impl Tables {
    /// Newest first, by id, between two row keys (both exclusive).
    pub fn list(&self, query: &Query, from: &str, to: &str) -> Result<PagePart<Head>, Failure> {
        let max_bytes = query.most_bytes.unwrap_or(MAX_BYTES);
        let mut parts = Vec::new();
        for [sizes, heads] in STATEMENTS {
            let values = |limit: u64| -> [Value<'_>; 7] {
                [
                    from.into(),
                    to.into(),
                    query.owner.as_ref().into(),
                    query.status.map(Status::as_str).into(),
                    query.service.as_ref().into(),
                    query.capability.as_ref().into(),
                    limit.into(),
                ]
            };
            let rows = self.0.rows(sizes, &values(query.limit))?;
            let sizes: Vec<u64> = rows.iter().map(|row| row.integer(0).unwrap_or_default()).collect();
            let fits = fitting(&sizes, max_bytes);
            let rows = self.0.rows(heads, &values(fits as u64))?;
            // A context that this version cannot read is missing in its lists.
            let item = |row: &Row| Some((row.text(0)?, head(row, 1).ok()?));
            let items: Vec<(String, Head)> = rows.iter().filter_map(item).collect();
            let is_full = sizes.len() as u64 == query.limit;
            let cut = fits < sizes.len() || is_full && items.len() < fits;
            parts.push(PagePart { items, cut });
        }
        Ok(merged(parts, usize::try_from(query.limit).unwrap_or(usize::MAX)))
    }
}
