//! A lane's tables: a few rows, each written only when it changes, and one for each delivery that is in
//! progress or ended recently.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;

/// The lane's identity, its breaker and health, and what is due.
pub const STATE: &str = "state";
/// Where the service is probed.
pub const TARGET: &str = "target";
/// No permit is valid after this time.
pub const BUSY_UNTIL: &str = "busy_until";

pub struct Tables(Sql);

impl Tables {
    pub fn open(state: &JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Lanes);
        sql.run(
            "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
            &[],
        )?;
        sql.run(
            "CREATE TABLE IF NOT EXISTS deliveries (number TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, \
             WITHOUT ROWID",
            &[],
        )?;
        Ok(Self(sql))
    }

    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let row = self.0.first("SELECT value FROM kept WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)).map(|text| serde_json::from_str(&text)).transpose()?)
    }

    pub fn put<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value)?;
        self.0.run(
            "INSERT INTO kept (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name.into(), (&text).into()],
        )
    }

    pub fn delete_all(&self) -> Result<(), Failure> {
        self.0.delete_alarm();
        self.0.run("DELETE FROM kept", &[])?;
        self.0.run("DELETE FROM deliveries", &[])
    }

    /// Deliveries in progress, and those that ended recently.
    ///
    /// A version that does not know `ended_at` takes an ended one for a delivery past its deadline, and removes it.
    pub fn deliveries(&self) -> Result<Vec<Delivery>, Failure> {
        let rows = self.0.rows("SELECT value FROM deliveries", &[])?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.text(0)?).ok()).collect())
    }

    pub fn put_delivery(&self, delivery: &Delivery) -> Result<(), Failure> {
        let (number, text) = (delivery.number(), serde_json::to_string(delivery)?);
        self.0.run(
            "INSERT INTO deliveries (number, value) VALUES (?, ?) \
             ON CONFLICT (number) DO UPDATE SET value = excluded.value",
            &[(&number).into(), (&text).into()],
        )
    }

    pub fn delete_delivery(&self, number: &str) -> Result<(), Failure> {
        self.0.run("DELETE FROM deliveries WHERE number = ?", &[number.into()])
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }
}
