//! The tables of a `GrantStore`: documents by name, each with its expiry; and, in one object per tenant, the list of
//! its grants.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::base::time::Timestamp;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, document TEXT NOT NULL, \
     until INTEGER NOT NULL) STRICT, WITHOUT ROWID";
/// Only in the object that lists a tenant's grants.
const CREATE_LIST: &str = "CREATE TABLE IF NOT EXISTS listed (id TEXT PRIMARY KEY, owner TEXT NOT NULL, \
     client TEXT NOT NULL, until INTEGER NOT NULL, document TEXT NOT NULL) STRICT, WITHOUT ROWID";
/// Each addition deletes some expired entries.
const DELETE_EXPIRED: &str = "DELETE FROM listed WHERE id IN (SELECT id FROM listed ORDER BY id LIMIT 20) \
     AND until <= CAST(? AS INTEGER)";
/// Larger numbers lose digits on their way to the database.
const LAST: u64 = 1 << 53;

pub const GRANT: &str = "grant";
pub const PAIRS: &str = "pairs";

pub struct Tables(Sql);

impl Tables {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Grants);
        sql.run(CREATE, &[])?;
        Ok(Self(sql))
    }

    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let row = self.0.first("SELECT document FROM kept WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)).map(|text| serde_json::from_str(&text)).transpose()?)
    }

    pub fn put<T: Serialize>(&self, name: &str, document: &T, until: Timestamp) -> Result<(), Failure> {
        let text = serde_json::to_string(document)?;
        self.0.run(
            "INSERT INTO kept (name, document, until) VALUES (?, ?, CAST(? AS INTEGER)) \
             ON CONFLICT (name) DO UPDATE SET document = excluded.document, until = excluded.until",
            &[name.into(), (&text).into(), until.0.min(LAST).into()],
        )
    }

    /// Deletes what has ended, and the grant unless it must be kept.
    pub fn delete_ended(&self, keep: Option<&str>, now: Timestamp) -> Result<(), Failure> {
        self.0.run("DELETE FROM kept WHERE until <= CAST(? AS INTEGER)", &[now.0.into()])?;
        if keep.is_none() {
            self.0.run("DELETE FROM kept WHERE name = ?", &[GRANT.into()])?;
        }
        Ok(())
    }

    /// When the next document expires; `None` if none does.
    pub fn next_end(&self) -> Result<Option<Timestamp>, Failure> {
        let row = self.0.first("SELECT MIN(until) FROM kept WHERE until < CAST(? AS INTEGER)", &[LAST.into()])?;
        Ok(row.and_then(|row| row.integer(0)).map(Timestamp))
    }

    pub fn list(&self, entry: &GrantEntry, now: Timestamp) -> Result<(), Failure> {
        self.0.run(CREATE_LIST, &[])?;
        self.0.run(DELETE_EXPIRED, &[now.0.into()])?;
        let text = serde_json::to_string(entry)?;
        let GrantEntry { id, allowed, until, .. } = entry;
        self.0.run(
            "INSERT INTO listed (id, owner, client, until, document) VALUES (?, ?, ?, CAST(? AS INTEGER), ?) \
             ON CONFLICT (id) DO UPDATE SET document = excluded.document",
            &[id.into(), (&allowed.subject).into(), (&allowed.client).into(), until.0.into(), (&text).into()],
        )
    }

    pub fn unlist(&self, grant: &str) -> Result<(), Failure> {
        self.0.run(CREATE_LIST, &[])?;
        self.0.run("DELETE FROM listed WHERE id = ?", &[grant.into()])
    }

    pub fn listed(&self, query: &GrantQuery, now: Timestamp) -> Result<Vec<GrantEntry>, Failure> {
        self.0.run(CREATE_LIST, &[])?;
        let rows = self.0.rows(
            "SELECT document FROM listed WHERE until > CAST(?1 AS INTEGER) AND (?2 IS NULL OR owner = ?2) \
             AND (?3 IS NULL OR client = ?3) AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT CAST(?5 AS INTEGER)",
            &[
                now.0.into(),
                query.owner.as_deref().into(),
                query.client.as_deref().into(),
                query.before.as_deref().into(),
                query.limit.into(),
            ],
        )?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.text(0)?).ok()).collect())
    }

    pub fn find(&self, grant: &str, now: Timestamp) -> Result<Option<GrantEntry>, Failure> {
        self.0.run(CREATE_LIST, &[])?;
        let row = self.0.first(
            "SELECT document FROM listed WHERE id = ?1 AND until > CAST(?2 AS INTEGER)",
            &[grant.into(), now.0.into()],
        )?;
        Ok(row.and_then(|row| row.text(0)).map(|text| serde_json::from_str(&text)).transpose()?)
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }
}
