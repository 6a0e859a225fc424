//! A store's tables.
//!
//! `live` takes a context when it is admitted, `done` when it ends; the row in `live` stays until the hub has
//! the context's last event, so what is still to be told after a crash is found among few rows. That makes
//! three rows written for a context: one into `live`, one into `done`, one out of `live`. Both tables are
//! clustered by id (which sorts by time) and have no further index: an index would cost a row each time.

use serde_json::value::RawValue;

use crate::core::context::Head;
use crate::core::id::ContextId;
use crate::core::lifecycle::Status;
use crate::core::time::Timestamp;
use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql, Value};

use super::messages::Query;

const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS live (id TEXT PRIMARY KEY, owner TEXT NOT NULL, capability TEXT NOT NULL, \
     service TEXT NOT NULL, status TEXT NOT NULL, priority INTEGER NOT NULL, due INTEGER NOT NULL, \
     expires INTEGER NOT NULL, head TEXT NOT NULL, parameters TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS done (id TEXT PRIMARY KEY, owner TEXT NOT NULL, capability TEXT NOT NULL, \
     service TEXT NOT NULL, status TEXT NOT NULL, head TEXT NOT NULL, parameters TEXT NOT NULL, result TEXT) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
];

const INSERT_LIVE: &str = "INSERT INTO live (id, owner, capability, service, status, priority, due, expires, head, \
     parameters) VALUES (?, ?, ?, ?, ?, CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER), ?, ?)";
const UPDATE_LIVE: &str = "UPDATE live SET service = ?, status = ?, due = CAST(? AS INTEGER), head = ? WHERE id = ?";
const FINISH: &str = "INSERT INTO done (id, owner, capability, service, status, head, parameters, result) \
     SELECT id, owner, capability, ?2, ?3, ?4, parameters, ?5 FROM live WHERE id = ?1";
const INSERT_DONE: &str = "INSERT INTO done (id, owner, capability, service, status, head, parameters, result) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const CLEAN: &str = "DELETE FROM live WHERE id IN (SELECT value FROM json_each(?))";

/// A context with its large parts.
pub struct Whole {
    pub head: Head,
    pub parameters: Box<RawValue>,
    pub result: Option<Box<RawValue>>,
}

/// A row of `live`, as far as the alarm needs it.
pub struct Due {
    pub id: String,
    pub status: Option<Status>,
    pub due: Timestamp,
    pub expires: Timestamp,
}

/// A context that has ended, with its result.
pub type Ended = (Head, Option<Box<RawValue>>);

#[derive(Clone)]
pub struct Tables(Sql);

fn head(row: &Row, at: u32) -> Result<Head, Failure> {
    Ok(serde_json::from_str(&row.text(at).unwrap_or_default())?)
}

fn raw(row: &Row, at: u32) -> Result<Option<Box<RawValue>>, Failure> {
    Ok(row.text(at).map(RawValue::from_string).transpose()?)
}

impl Tables {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Contexts);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        Ok(Self(sql))
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }

    pub fn insert(&self, head: &Head, parameters: &RawValue) -> Result<(), Failure> {
        let admission = &head.admission;
        let text = serde_json::to_string(head)?;
        self.0.run(
            INSERT_LIVE,
            &[
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
            ],
        )
    }

    pub fn update(&self, head: &Head) -> Result<(), Failure> {
        let text = serde_json::to_string(head)?;
        let values: [Value<'_>; 5] = [
            (&head.admission.service).into(),
            head.status.as_str().into(),
            head.due().0.into(),
            (&text).into(),
            head.id().as_str().into(),
        ];
        self.0.run(UPDATE_LIVE, &values)
    }

    /// Puts an ended context beside the live one; [`Tables::clean`] takes the live one away later.
    pub fn finish(&self, head: &Head, result: Option<&RawValue>) -> Result<(), Failure> {
        let text = serde_json::to_string(head)?;
        self.0.run(
            FINISH,
            &[
                head.id().as_str().into(),
                (&head.admission.service).into(),
                head.status.as_str().into(),
                (&text).into(),
                result.map(RawValue::get).into(),
            ],
        )
    }

    /// Keeps a context that was never live. One that is kept already stays as it is.
    pub fn insert_done(&self, head: &Head, parameters: &RawValue, result: Option<&RawValue>) -> Result<(), Failure> {
        let admission = &head.admission;
        let text = serde_json::to_string(head)?;
        self.0.run(
            INSERT_DONE,
            &[
                admission.id.as_str().into(),
                (&admission.owner).into(),
                (&admission.capability).into(),
                (&admission.service).into(),
                head.status.as_str().into(),
                (&text).into(),
                parameters.get().into(),
                result.map(RawValue::get).into(),
            ],
        )
    }

    pub fn clean(&self, ids: &[String]) -> Result<(), Failure> {
        self.0.run(CLEAN, &[(&serde_json::to_string(ids)?).into()])
    }

    pub fn live_head(&self, id: &ContextId) -> Result<Option<Head>, Failure> {
        let row = self
            .0
            .first("SELECT head FROM live WHERE id = ?", &[id.as_str().into()])?;
        row.map(|row| head(&row, 0)).transpose()
    }

    pub fn done_head(&self, id: &ContextId) -> Result<Option<Head>, Failure> {
        let row = self
            .0
            .first("SELECT head FROM done WHERE id = ?", &[id.as_str().into()])?;
        row.map(|row| head(&row, 0)).transpose()
    }

    pub fn live(&self, id: &ContextId) -> Result<Option<Whole>, Failure> {
        let row = self.0.first(
            "SELECT head, parameters, NULL FROM live WHERE id = ?",
            &[id.as_str().into()],
        )?;
        row.map(whole).transpose()
    }

    pub fn done(&self, id: &ContextId) -> Result<Option<Whole>, Failure> {
        let row = self.0.first(
            "SELECT head, parameters, result FROM done WHERE id = ?",
            &[id.as_str().into()],
        )?;
        row.map(whole).transpose()
    }

    /// Ids that have ended and whose last event may still have to be told.
    pub fn untold(&self) -> Result<Vec<Ended>, Failure> {
        let rows = self.0.rows(
            "SELECT done.head, done.result FROM done JOIN live ON live.id = done.id ORDER BY done.id",
            &[],
        )?;
        rows.iter().map(|row| Ok((head(row, 0)?, raw(row, 1)?))).collect()
    }

    pub fn live_heads(&self) -> Result<Vec<Head>, Failure> {
        let rows = self.0.rows("SELECT head FROM live ORDER BY id", &[])?;
        rows.iter().map(|row| head(row, 0)).collect()
    }

    /// Everything in `live`, soonest first. `live` is small: this reads no parameters.
    pub fn by_due(&self) -> Result<Vec<Due>, Failure> {
        let rows = self
            .0
            .rows("SELECT id, status, due, expires FROM live ORDER BY due", &[])?;
        Ok(rows
            .iter()
            .filter_map(|row| {
                let status = row.text(1).as_deref().and_then(Status::parse);
                let (due, expires) = (Timestamp(row.integer(2)?), Timestamp(row.integer(3)?));
                Some(Due {
                    id: row.text(0)?,
                    status,
                    due,
                    expires,
                })
            })
            .collect())
    }

    /// What waits and may begin: highest priority first, then oldest.
    pub fn ready(&self, now: Timestamp, most: u64) -> Result<Vec<String>, Failure> {
        let rows = self.0.rows(
            "SELECT id FROM live WHERE status = 'queued' AND due <= CAST(? AS INTEGER) \
             ORDER BY priority DESC, id LIMIT CAST(? AS INTEGER)",
            &[now.0.into(), most.into()],
        )?;
        Ok(rows.iter().filter_map(|row| row.text(0)).collect())
    }

    pub fn list(&self, query: &Query, from: &str, to: &str) -> Result<Vec<(String, Head)>, Failure> {
        const DONE: &str = "SELECT id, head FROM done WHERE id > ?1 AND id < ?2 AND (?3 IS NULL OR owner = ?3) \
             AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR service = ?5) AND (?6 IS NULL OR capability = ?6) \
             ORDER BY id DESC LIMIT CAST(?7 AS INTEGER)";
        const LIVE: &str = "SELECT id, head FROM live WHERE id > ?1 AND id < ?2 AND (?3 IS NULL OR owner = ?3) \
             AND (?4 IS NULL OR status = ?4) AND (?5 IS NULL OR service = ?5) AND (?6 IS NULL OR capability = ?6) \
             AND NOT EXISTS (SELECT 1 FROM done WHERE done.id = live.id) \
             ORDER BY id DESC LIMIT CAST(?7 AS INTEGER)";
        let values: [Value<'_>; 7] = [
            from.into(),
            to.into(),
            query.owner.as_ref().into(),
            query.status.map(Status::as_str).into(),
            query.service.as_ref().into(),
            query.capability.as_ref().into(),
            query.limit.into(),
        ];
        let mut found = Vec::new();
        for statement in [DONE, LIVE] {
            for row in self.0.rows(statement, &values)? {
                found.push((row.text(0).unwrap_or_default(), head(&row, 1)?));
            }
        }
        found.sort_by(|a, b| b.0.cmp(&a.0));
        found.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        Ok(found)
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

fn whole(row: Row) -> Result<Whole, Failure> {
    let parameters = raw(&row, 1)?.ok_or_else(|| Failure("a context without parameters".into()))?;
    Ok(Whole {
        head: head(&row, 0)?,
        parameters,
        result: raw(&row, 2)?,
    })
}
