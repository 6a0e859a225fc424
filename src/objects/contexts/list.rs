//! The tables as lists read them (`narthex_core::context_store::listing`).
//!
//! `segments` has a row for each thousand ended contexts, `outdated` one for each of these that got another context
//! later. A trigger writes it, so that a version that does not know segments keeps them right.

use narthex_core::base::storage_error::StorageError;
use narthex_core::context::Head;
use narthex_core::context::status::Status;
use narthex_core::context_store::listing::{Filters, Keys, ListStorage, SizedKey, Summarized, Summary, Wanted};

use super::tables::{Tables, head};
use crate::platform::Failure;
use crate::platform::sql::{Row, Value};

/// The form of summaries, in `meta`. A version that changes what a summary has, or the trigger, must change it: the
/// summaries of another form are made anew.
const FORM: &str = "summary_form";
const CURRENT_FORM: &str = "1";

const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS segments (last INTEGER PRIMARY KEY, statuses TEXT NOT NULL, services TEXT NOT NULL, \
     capabilities TEXT NOT NULL, owners TEXT NOT NULL, codes TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS outdated (last INTEGER PRIMARY KEY) STRICT",
    "CREATE TRIGGER IF NOT EXISTS ended_late AFTER INSERT ON done \
     WHEN NEW.key <= (SELECT MAX(last) FROM segments) BEGIN \
     INSERT OR IGNORE INTO outdated (last) SELECT MIN(last) FROM segments WHERE last >= NEW.key; END",
];

macro_rules! keys_of {
    ($table:literal, $and:literal) => {
        concat!(
            "SELECT CAST(key AS TEXT), length(head) FROM ",
            $table,
            " WHERE key > CAST(?1 AS INTEGER) AND key <= CAST(?2 AS INTEGER) AND (?3 IS NULL OR owner = ?3) \
              AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR service = ?5) AND (?6 IS NULL OR capability = ?6) \
              AND (?7 IS NULL OR (status <> 'completed' AND json_extract(head, '$.error.code') = ?7)) ",
            $and,
            " ORDER BY key DESC LIMIT CAST(?8 AS INTEGER)"
        )
    };
}

const LIVE_KEYS: &str = keys_of!("live", "AND NOT EXISTS (SELECT 1 FROM done WHERE done.key = live.key)");
const ENDED_KEYS: &str = keys_of!("done", "");
const HEADS: &str = "SELECT id, head FROM done WHERE key IN (SELECT CAST(value AS INTEGER) FROM json_each(?1)) \
     UNION ALL SELECT id, head FROM live WHERE key IN (SELECT CAST(value AS INTEGER) FROM json_each(?1)) \
     AND NOT EXISTS (SELECT 1 FROM done WHERE done.key = live.key)";

/// A segment begins where the one before ends.
const SEGMENTS: &str = "SELECT CAST(last AS TEXT), CAST(COALESCE((SELECT MAX(earlier.last) FROM segments AS earlier \
     WHERE earlier.last < segments.last), 0) AS TEXT) FROM segments \
     WHERE last > CAST(?1 AS INTEGER) \
     AND last <= COALESCE((SELECT MIN(last) FROM segments WHERE last >= CAST(?2 AS INTEGER)), 0) \
     AND ((?3 IS NULL OR instr(statuses, ?3) > 0) AND (?4 IS NULL OR instr(services, ?4) > 0) \
     AND (?5 IS NULL OR instr(capabilities, ?5) > 0) AND (?6 IS NULL OR instr(owners, ?6) > 0) \
     AND (?7 IS NULL OR instr(codes, ?7) > 0) OR last IN (SELECT last FROM outdated)) \
     ORDER BY last DESC LIMIT CAST(?8 AS INTEGER)";
const OUTDATED: &str = "SELECT CAST(last AS TEXT), CAST(COALESCE((SELECT MAX(earlier.last) FROM segments AS earlier \
     WHERE earlier.last < outdated.last), 0) AS TEXT) FROM outdated ORDER BY last LIMIT CAST(?1 AS INTEGER)";
const SUMMARIZED: &str = "SELECT DISTINCT status, service, capability, owner, \
     CASE WHEN status <> 'completed' THEN json_extract(head, '$.error.code') END \
     FROM done WHERE key > CAST(?1 AS INTEGER) AND key <= CAST(?2 AS INTEGER)";
const PUT_SEGMENT: &str = "INSERT INTO segments (last, statuses, services, capabilities, owners, codes) \
     VALUES (CAST(?1 AS INTEGER), ?2, ?3, ?4, ?5, ?6) ON CONFLICT (last) DO UPDATE SET statuses = excluded.statuses, \
     services = excluded.services, capabilities = excluded.capabilities, owners = excluded.owners, \
     codes = excluded.codes";
/// Segments without contexts: all that are older than the first context.
const DELETE_SEGMENTS: &str = "DELETE FROM segments WHERE last < COALESCE((SELECT MIN(key) FROM done), \
     CAST(?1 AS INTEGER))";
const DELETE_OUTDATED: &str = "DELETE FROM outdated WHERE last NOT IN (SELECT last FROM segments)";

/// A key in this column; keys do not fit into the platform's numbers.
fn key(row: &Row, at: u32) -> Option<u64> {
    row.text(at)?.parse().ok()
}

fn keys(row: &Row) -> Option<Keys> {
    Some(Keys { last: key(row, 0)?, after: key(row, 1)? })
}

impl Tables {
    /// Creates the tables of summaries, anew if they are of another form.
    pub(super) fn open_summaries(&self) -> Result<(), Failure> {
        if self.meta(FORM)?.as_deref() == Some(CURRENT_FORM) {
            return Ok(());
        }
        for table in
            ["DROP TRIGGER IF EXISTS ended_late", "DROP TABLE IF EXISTS segments", "DROP TABLE IF EXISTS outdated"]
        {
            self.0.run(table, &[])?;
        }
        for statement in CREATE {
            self.0.run(statement, &[])?;
        }
        self.set_meta(FORM, CURRENT_FORM)
    }

    fn sized(
        &self,
        statement: &'static str,
        keys: Keys,
        filters: &Filters,
        most: u64,
    ) -> Result<Vec<SizedKey>, StorageError> {
        let (after, last) = (keys.after.to_string(), keys.last.to_string());
        let Filters { owner, status, service, capability, error_code } = filters;
        let values: [Value<'_>; 8] = [
            (&after).into(),
            (&last).into(),
            owner.as_deref().into(),
            status.map(Status::as_str).into(),
            service.as_deref().into(),
            capability.as_deref().into(),
            error_code.as_deref().into(),
            most.into(),
        ];
        let rows = self.0.rows(statement, &values)?;
        Ok(rows.iter().filter_map(|row| Some((key(row, 0)?, row.integer(1)?))).collect())
    }

    /// Deletes the segments of contexts that were deleted.
    pub fn delete_segments(&self, before: &str) -> Result<(), Failure> {
        self.0.run(DELETE_SEGMENTS, &[before.into()])?;
        self.0.run(DELETE_OUTDATED, &[])
    }
}

impl ListStorage for Tables {
    fn live_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError> {
        self.sized(LIVE_KEYS, keys, filters, most)
    }

    fn ended_keys(&self, keys: Keys, filters: &Filters, most: u64) -> Result<Vec<SizedKey>, StorageError> {
        self.sized(ENDED_KEYS, keys, filters, most)
    }

    fn heads(&self, keys: &[u64]) -> Result<Vec<(String, Head)>, StorageError> {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let rows = self.0.rows(HEADS, &[(&serde_json::to_string(&keys)?).into()])?;
        let read = |row: &Row| {
            let head = head(row, 1).ok()?;
            Some((head.id().sort_key().to_string(), head))
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    fn last_summarized(&self) -> Result<Option<u64>, StorageError> {
        let row = self.0.first("SELECT CAST(MAX(last) AS TEXT) FROM segments", &[])?;
        Ok(row.and_then(|row| key(&row, 0)))
    }

    fn segments(&self, keys_: Keys, wanted: &Wanted, most: u64) -> Result<Vec<Keys>, StorageError> {
        let (after, last) = (keys_.after.to_string(), keys_.last.to_string());
        let Wanted { status, service, capability, owner, error_code } = wanted;
        let values: [Value<'_>; 8] = [
            (&after).into(),
            (&last).into(),
            status.as_deref().into(),
            service.as_deref().into(),
            capability.as_deref().into(),
            owner.as_deref().into(),
            error_code.as_deref().into(),
            most.into(),
        ];
        Ok(self.0.rows(SEGMENTS, &values)?.iter().filter_map(keys).collect())
    }

    fn nth_ended(&self, after: u64, before: u64, n: u64) -> Result<Option<u64>, StorageError> {
        let row = self.0.first(
            "SELECT CAST(key AS TEXT) FROM done WHERE key > CAST(?1 AS INTEGER) AND key < CAST(?2 AS INTEGER) \
             ORDER BY key LIMIT 1 OFFSET CAST(?3 AS INTEGER)",
            &[(&after.to_string()).into(), (&before.to_string()).into(), n.saturating_sub(1).into()],
        )?;
        Ok(row.and_then(|row| key(&row, 0)))
    }

    fn summarized(&self, keys: Keys) -> Result<Vec<Summarized>, StorageError> {
        let (after, last) = (keys.after.to_string(), keys.last.to_string());
        let rows = self.0.rows(SUMMARIZED, &[(&after).into(), (&last).into()])?;
        let text = |row: &Row, at| row.text(at).unwrap_or_default();
        let summarized = |row: &Row| Summarized {
            status: text(row, 0),
            service: text(row, 1),
            capability: text(row, 2),
            owner: text(row, 3),
            error_code: row.text(4),
        };
        Ok(rows.iter().map(summarized).collect())
    }

    fn put_segment(&self, last: u64, summary: &Summary) -> Result<(), StorageError> {
        let last = last.to_string();
        let Summary { statuses, services, capabilities, owners, error_codes } = summary;
        let values: [Value<'_>; 6] =
            [(&last).into(), statuses.into(), services.into(), capabilities.into(), owners.into(), error_codes.into()];
        Ok(self.0.transaction(|| {
            self.0.run(PUT_SEGMENT, &values)?;
            self.0.run("DELETE FROM outdated WHERE last = CAST(? AS INTEGER)", &[(&last).into()])
        })?)
    }

    fn outdated(&self, most: u64) -> Result<Vec<Keys>, StorageError> {
        Ok(self.0.rows(OUTDATED, &[most.into()])?.iter().filter_map(keys).collect())
    }
}
