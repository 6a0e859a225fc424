//! A store's tables.
//!
//! `live` receives a context when it is admitted, `done` when it ends; the row in `live` stays until the hub has the
//! context's last event, so that unpublished events are found among few rows after a crash. Then it is spare: a later
//! context takes it over, with its own key, which is one row written. So a context writes two rows: one in `live`, one
//! in `done`. Both tables are keyed by an integer made from the id, which sorts by time; a text key would need either
//! an index (one more row) or a table without row ids (whose rows spill to further pages beyond a kilobyte). Integers
//! beyond 2^53 are bound as text. Two ids may share a key, so every row found is compared with the id requested.
//!
//! A result that is too large for its row in `done` is stored in `pieces`, a row each (see `result_rows.rs`).

use serde_json::value::RawValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql, Value};
use narthex_core::base::id::{ContextId, first_row_key};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::context::Head;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::status::Status;
use narthex_core::context_store::result_pieces::{Layout, ROW_BYTES};
use narthex_core::context_store::{DueContext, EndedContext, Insertion, ReadyContext, Storage, StoredContext};
use narthex_core::events::bundle::MAX_RESULT_BYTES;

const CREATE: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS live (key INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, \
     capability TEXT NOT NULL, service TEXT NOT NULL, status TEXT NOT NULL, priority INTEGER NOT NULL, \
     due INTEGER NOT NULL, expires INTEGER NOT NULL, head TEXT NOT NULL, parameters TEXT NOT NULL, \
     acknowledged INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE IF NOT EXISTS done (key INTEGER PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, \
     capability TEXT NOT NULL, service TEXT NOT NULL, status TEXT NOT NULL, head TEXT NOT NULL, \
     parameters TEXT NOT NULL, result TEXT) STRICT",
    super::result_rows::CREATE,
    "CREATE TABLE IF NOT EXISTS claims (scope TEXT PRIMARY KEY, id TEXT NOT NULL, fingerprint TEXT NOT NULL, \
     until INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
];

/// For tables that an earlier version created. Its insertions leave the default in the column.
const ADD_ACKNOWLEDGED: &str = "ALTER TABLE live ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0";

const INSERT_LIVE: &str = "INSERT INTO live (key, id, owner, capability, service, status, priority, due, \
     expires, head, parameters, acknowledged) \
     SELECT CAST(?1 AS INTEGER), ?2, ?3, ?4, ?5, ?6, CAST(?7 AS INTEGER), CAST(?8 AS INTEGER), CAST(?9 AS INTEGER), \
     ?10, ?11, CAST(?12 AS INTEGER) WHERE NOT EXISTS (SELECT 1 FROM done WHERE key = CAST(?1 AS INTEGER)) \
     ON CONFLICT DO NOTHING RETURNING 1";
/// SQLite moves the row to its new key; `rowsWritten` counts one.
const OVERWRITE_SPARE: &str = "UPDATE live SET key = CAST(?1 AS INTEGER), id = ?2, owner = ?3, capability = ?4, \
     service = ?5, status = ?6, priority = CAST(?7 AS INTEGER), due = CAST(?8 AS INTEGER), \
     expires = CAST(?9 AS INTEGER), head = ?10, parameters = ?11, acknowledged = CAST(?12 AS INTEGER) \
     WHERE key = CAST(?13 AS INTEGER) AND id = ?14 \
     AND EXISTS (SELECT 1 FROM done WHERE key = CAST(?13 AS INTEGER) AND id = ?14) \
     AND NOT EXISTS (SELECT 1 FROM done WHERE key = CAST(?1 AS INTEGER)) \
     AND NOT EXISTS (SELECT 1 FROM live WHERE key = CAST(?1 AS INTEGER)) RETURNING 1";
const UPDATE_LIVE: &str = "UPDATE live SET service = ?, status = ?, due = CAST(? AS INTEGER), head = ? \
     WHERE key = CAST(? AS INTEGER) AND id = ?";
const FINISH: &str = "INSERT INTO done (key, id, owner, capability, service, status, head, parameters, result) \
     SELECT key, id, owner, capability, ?3, ?4, ?5, parameters, ?6 FROM live \
     WHERE key = CAST(?1 AS INTEGER) AND id = ?2";
const INSERT_DONE: &str = "INSERT INTO done (key, id, owner, capability, service, status, head, parameters, result) \
     SELECT CAST(?1 AS INTEGER), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 \
     WHERE NOT EXISTS (SELECT 1 FROM live WHERE key = CAST(?1 AS INTEGER)) ON CONFLICT DO NOTHING RETURNING 1";
const CLEAN: &str = "DELETE FROM live WHERE key IN (SELECT CAST(value AS INTEGER) FROM json_each(?1)) \
     AND EXISTS (SELECT 1 FROM done WHERE done.key = live.key AND done.id = live.id) \
     AND (status = 'queued' OR octet_length(head) + octet_length(parameters) > CAST(?2 AS INTEGER)) RETURNING id";

/// `live`, `done` and their auxiliary tables.
#[derive(Clone)]
pub struct Tables(pub(super) Sql);

pub(super) fn head(row: &Row, at: u32) -> Result<Head, StorageError> {
    Ok(serde_json::from_str(&row.text(at).unwrap_or_default())?)
}

/// The id in the first column.
fn id(row: &Row) -> Option<ContextId> {
    ContextId::parse(&row.text(0)?)
}

fn raw(row: &Row, at: u32) -> Result<Option<Box<RawValue>>, StorageError> {
    Ok(row.text(at).map(RawValue::from_string).transpose()?)
}

impl Tables {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Contexts);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        let tables = Self(sql);
        tables.add_acknowledged()?;
        tables.open_summaries()?;
        Ok(tables)
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }

    fn add_acknowledged(&self) -> Result<(), Failure> {
        let created = self.0.first("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'live'", &[])?;
        let has = created.and_then(|row| row.text(0)).is_some_and(|text| text.contains("acknowledged"));
        if has { Ok(()) } else { self.0.run(ADD_ACKNOWLEDGED, &[]) }
    }

    /// Returns false if the key is taken: by this context, or by another created in the same millisecond.
    fn insert_live(&self, insertion: Insertion<'_>) -> Result<bool, Failure> {
        let Insertion { head, parameters, claim: _, acknowledged, spare } = insertion;
        let admission = &head.admission;
        let text = serde_json::to_string(head)?;
        let key = admission.id.row_key();
        let spare = spare.map(|id| (id.row_key(), id.as_str()));
        let (spare_key, spare_id) = spare.as_ref().map(|(key, id)| (key, *id)).unzip();
        let values: [Value<'_>; 14] = [
            (&key).into(),
            admission.id.as_str().into(),
            (&admission.owner).into(),
            (&admission.capability).into(),
            (&admission.service).into(),
            head.status.as_str().into(),
            (admission.priority as u64).into(),
            head.due().0.into(),
            admission.expires_at.0.into(),
            (&text).into(),
            parameters.get().into(),
            acknowledged.into(),
            spare_key.into(),
            spare_id.into(),
        ];
        let rows = match spare_id {
            Some(_) => self.0.rows(OVERWRITE_SPARE, &values)?,
            None => self.0.rows(INSERT_LIVE, values.split_at(12).0)?,
        };
        Ok(!rows.is_empty())
    }

    fn claim(&self, claim: &Claim, id: &ContextId, until: Timestamp) -> Result<(), Failure> {
        self.0.run(
            "INSERT INTO claims (scope, id, fingerprint, until) VALUES (?, ?, ?, CAST(? AS INTEGER)) \
             ON CONFLICT (scope) DO UPDATE SET id = excluded.id, fingerprint = excluded.fingerprint, \
             until = excluded.until",
            &[(&claim.scope).into(), id.as_str().into(), (&claim.fingerprint).into(), until.0.into()],
        )
    }

    fn find(&self, statement: &'static str, id: &ContextId) -> Result<Option<Row>, Failure> {
        let key = id.row_key();
        self.0.first(statement, &[(&key).into(), id.as_str().into()])
    }

    pub fn meta(&self, name: &str) -> Result<Option<String>, Failure> {
        let row = self.0.first("SELECT value FROM meta WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)))
    }

    pub fn set_meta(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.0.run(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name.into(), value.into()],
        )
    }
}

impl Storage for Tables {
    fn insert(&self, insertion: Insertion<'_>) -> Result<bool, StorageError> {
        let Some((claim, until)) = insertion.claim else { return Ok(self.insert_live(insertion)?) };
        // The key and its context are written in one transaction.
        Ok(self.0.transaction(|| {
            let inserted = self.insert_live(insertion)?;
            if inserted {
                self.claim(claim, insertion.head.id(), until)?;
            }
            Ok(inserted)
        })?)
    }

    fn update(&self, head: &Head) -> Result<(), StorageError> {
        let text = serde_json::to_string(head)?;
        let key = head.id().row_key();
        let values: [Value<'_>; 6] = [
            (&head.admission.service).into(),
            head.status.as_str().into(),
            head.due().0.into(),
            (&text).into(),
            (&key).into(),
            head.id().as_str().into(),
        ];
        Ok(self.0.run(UPDATE_LIVE, &values)?)
    }

    /// Writes an ended context into `done`; its row in `live` is deleted or overwritten later.
    fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), StorageError> {
        let text = serde_json::to_string(head)?;
        let key = head.id().row_key();
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let values: [Value<'_>; 6] = [
            (&key).into(),
            head.id().as_str().into(),
            (&head.admission.service).into(),
            head.status.as_str().into(),
            (&text).into(),
            beside.into(),
        ];
        Ok(self.with_pieces(head.id(), &pieces, || self.0.run(FINISH, &values))?)
    }

    /// Stores a context that was never live; returns false if its key is taken.
    fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<bool, StorageError> {
        let admission = &head.admission;
        let text = serde_json::to_string(head)?;
        let key = admission.id.row_key();
        let Layout { beside, pieces } = Layout::of(result, ROW_BYTES);
        let values: [Value<'_>; 9] = [
            (&key).into(),
            admission.id.as_str().into(),
            (&admission.owner).into(),
            (&admission.capability).into(),
            (&admission.service).into(),
            head.status.as_str().into(),
            (&text).into(),
            parameters.get().into(),
            beside.into(),
        ];
        let insert = || self.0.rows(INSERT_DONE, &values).map(|rows| !rows.is_empty());
        Ok(self.with_pieces(head.id(), &pieces, insert)?)
    }

    fn clean(&self, ids: &[ContextId], max_bytes: usize) -> Result<Vec<ContextId>, StorageError> {
        let keys: Vec<String> = ids.iter().map(ContextId::row_key).collect();
        let rows = self.0.rows(CLEAN, &[(&serde_json::to_string(&keys)?).into(), (max_bytes as u64).into()])?;
        Ok(rows.iter().filter_map(id).collect())
    }

    fn acknowledged(&self) -> Result<u64, StorageError> {
        let row = self.0.first("SELECT acknowledged FROM live ORDER BY key DESC LIMIT 1", &[])?;
        Ok(row.and_then(|row| row.integer(0)).unwrap_or(0))
    }

    fn set_acknowledged(&self, number: u64) -> Result<(), StorageError> {
        Ok(self.0.run(
            "UPDATE live SET acknowledged = CAST(? AS INTEGER) WHERE key = (SELECT MAX(key) FROM live)",
            &[number.into()],
        )?)
    }

    fn live_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        let row = self.find("SELECT head FROM live WHERE key = CAST(? AS INTEGER) AND id = ?", id)?;
        row.map(|row| head(&row, 0)).transpose()
    }

    fn done_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        let row = self.find("SELECT head FROM done WHERE key = CAST(? AS INTEGER) AND id = ?", id)?;
        row.map(|row| head(&row, 0)).transpose()
    }

    fn live(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        let row = self.find("SELECT head, parameters, NULL FROM live WHERE key = CAST(? AS INTEGER) AND id = ?", id)?;
        row.map(whole).transpose()
    }

    fn done(&self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        let row =
            self.find("SELECT head, parameters, result FROM done WHERE key = CAST(? AS INTEGER) AND id = ?", id)?;
        let Some(mut context) = row.map(whole).transpose()? else { return Ok(None) };
        if context.result.is_none() && context.head.status == Status::Completed {
            context.result = self.joined(id)?;
        }
        Ok(Some(context))
    }

    fn unpublished(&self) -> Result<Vec<(ContextId, Option<EndedContext>)>, StorageError> {
        let rows = self.0.rows(
            "SELECT done.id, done.head, \
             CASE WHEN octet_length(done.result) <= CAST(? AS INTEGER) THEN done.result END \
             FROM live JOIN done ON live.key = done.key AND live.id = done.id",
            &[(MAX_RESULT_BYTES as u64).into()],
        )?;
        let ended = |row: &Row| Some((head(row, 1).ok()?, raw(row, 2).ok()?));
        Ok(rows.iter().filter_map(|row| Some((id(row)?, ended(row)))).collect())
    }

    fn live_heads(&self) -> Result<Vec<(ContextId, Option<Head>)>, StorageError> {
        let rows = self.0.rows(
            "SELECT id, head FROM live \
             WHERE NOT EXISTS (SELECT 1 FROM done WHERE done.key = live.key AND done.id = live.id)",
            &[],
        )?;
        Ok(rows.iter().filter_map(|row| Some((id(row)?, head(row, 1).ok()))).collect())
    }

    /// `live` is small, and no parameters are read.
    fn by_due(&self) -> Result<Vec<DueContext>, StorageError> {
        let rows = self.0.rows("SELECT id, status, due, expires FROM live ORDER BY due", &[])?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let status = row.text(1).as_deref().and_then(Status::parse);
                let (due, expires) = (Timestamp(row.integer(2)?), Timestamp(row.integer(3)?));
                Some(DueContext { id: ContextId::parse(&row.text(0)?)?, status, due, expires })
            })
            .collect())
    }

    fn ready(&self, now: Timestamp, without: &[ServiceId], most: u64) -> Result<Vec<ReadyContext>, StorageError> {
        let rows = self.0.rows(
            "SELECT id, service FROM live WHERE status = 'queued' AND due <= CAST(?1 AS INTEGER) \
             AND expires > CAST(?1 AS INTEGER) AND service NOT IN (SELECT value FROM json_each(?2)) \
             ORDER BY priority DESC, key LIMIT CAST(?3 AS INTEGER)",
            &[now.0.into(), (&serde_json::to_string(without)?).into(), most.into()],
        )?;
        let ready = |row: &Row| {
            let (id, service) = (ContextId::parse(&row.text(0)?)?, ServiceId::from_stored(row.text(1)?));
            Some(ReadyContext { id, service })
        };
        Ok(rows.iter().filter_map(ready).collect())
    }

    /// Looks up an idempotency key: its context, and the fingerprint of the request.
    fn find_claim(&self, scope: &str, now: Timestamp) -> Result<Option<(ContextId, String)>, StorageError> {
        let row = self.0.first(
            "SELECT id, fingerprint FROM claims WHERE scope = ? AND until > CAST(? AS INTEGER)",
            &[scope.into(), now.0.into()],
        )?;
        Ok(row.and_then(|row| Some((ContextId::parse(&row.text(0)?)?, row.text(1)?))))
    }

    /// Deletes some of the expired idempotency keys.
    fn delete_expired_claims(&self, now: Timestamp) -> Result<(), StorageError> {
        Ok(self.0.run(
            "DELETE FROM claims WHERE scope IN (SELECT scope FROM claims WHERE until <= CAST(? AS INTEGER) LIMIT 500)",
            &[now.0.into()],
        )?)
    }

    fn oldest_done(&self) -> Result<Option<Timestamp>, StorageError> {
        let row = self.0.first(
            "SELECT id FROM done WHERE NOT EXISTS (SELECT 1 FROM live WHERE live.key = done.key) ORDER BY key LIMIT 1",
            &[],
        )?;
        Ok(row.and_then(|row| ContextId::parse(&row.text(0)?)).map(|id| id.created_at()))
    }

    fn delete_done(&self, before: Timestamp, most: u64) -> Result<u64, StorageError> {
        let before = self.within_reach(&first_row_key(before).to_string())?;
        let values: [Value<'_>; 2] = [(&before).into(), most.into()];
        // Keys sort by the time of creation. A context whose last event is unpublished stays until it is published.
        let rows = self.0.transaction(|| {
            let rows = self.0.rows(
                "DELETE FROM done WHERE key IN (SELECT key FROM done WHERE key < CAST(?1 AS INTEGER) \
                 AND NOT EXISTS (SELECT 1 FROM live WHERE live.key = done.key) ORDER BY key LIMIT CAST(?2 AS INTEGER)) \
                 RETURNING 1",
                &values,
            )?;
            self.delete_stray(&before)?;
            if !rows.is_empty() {
                self.delete_segments(&before)?;
            }
            Ok(rows)
        })?;
        Ok(rows.len() as u64)
    }

    fn reserved_number(&self) -> Result<u64, StorageError> {
        Ok(self.meta("numbers")?.and_then(|n| n.parse().ok()).unwrap_or(0))
    }

    fn reserve_number(&self, bound: u64) -> Result<(), StorageError> {
        Ok(self.set_meta("numbers", &bound.to_string())?)
    }
}

fn whole(row: Row) -> Result<StoredContext, StorageError> {
    let parameters = raw(&row, 1)?.ok_or_else(|| StorageError("a context without parameters".into()))?;
    Ok(StoredContext { head: head(&row, 0)?, parameters, result: raw(&row, 2)? })
}
