//! A `GrantStore`'s one table: documents by name, each with its end.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::time::Timestamp;
use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, document TEXT NOT NULL, \
     until INTEGER NOT NULL) STRICT, WITHOUT ROWID";
/// Numbers beyond this lose digits on their way to the database.
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

    /// Deletes what has ended, and the grant unless it is to be kept.
    pub fn forget(&self, keep: Option<&str>, now: Timestamp) -> Result<(), Failure> {
        self.0.run("DELETE FROM kept WHERE until <= CAST(? AS INTEGER)", &[now.0.into()])?;
        if keep.is_none() {
            self.0.run("DELETE FROM kept WHERE name = ?", &[GRANT.into()])?;
        }
        Ok(())
    }

    /// When the next of what is kept ends; nothing when nothing does.
    pub fn next_end(&self) -> Result<Option<Timestamp>, Failure> {
        let row = self.0.first("SELECT MIN(until) FROM kept WHERE until < CAST(? AS INTEGER)", &[LAST.into()])?;
        Ok(row.and_then(|row| row.integer(0)).map(Timestamp))
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }
}
