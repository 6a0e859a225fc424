//! A lane's tables: a few rows, each written only when it changes, and one for each delivery that is in
//! progress or ended recently.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::service_lane::probing::Target;
use narthex_core::service_lane::storage::{Storage, Stored, StoredState};

/// The lane's identity, its breaker and health, and what is due.
const STATE: &str = "state";
/// Where the service is probed.
const TARGET: &str = "target";
/// No permit is valid after this time.
const BUSY_UNTIL: &str = "busy_until";

#[derive(Clone)]
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

    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StorageError> {
        let row = self.0.first("SELECT value FROM kept WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)).map(|text| serde_json::from_str(&text)).transpose()?)
    }

    fn put<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StorageError> {
        let text = serde_json::to_string(value)?;
        Ok(self.0.run(
            "INSERT INTO kept (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name.into(), (&text).into()],
        )?)
    }

    /// A version that does not know `ended_at` takes a delivery that has ended for one past its deadline, and removes
    /// it.
    fn deliveries(&self) -> Result<Vec<Delivery>, StorageError> {
        let rows = self.0.rows("SELECT value FROM deliveries", &[])?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(&row.text(0)?).ok()).collect())
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.0.set_alarm(at);
    }
}

impl Storage for Tables {
    fn read(&self) -> Result<Stored, StorageError> {
        Ok(Stored {
            state: self.get(STATE)?,
            target: self.get(TARGET)?,
            busy_until: self.get(BUSY_UNTIL)?.unwrap_or_default(),
            deliveries: self.deliveries()?,
        })
    }

    fn put_state(&self, state: &StoredState) -> Result<(), StorageError> {
        self.put(STATE, state)
    }

    fn put_target(&self, target: &Target) -> Result<(), StorageError> {
        self.put(TARGET, target)
    }

    fn delete_target(&self) -> Result<(), StorageError> {
        Ok(self.0.run("DELETE FROM kept WHERE name = ?", &[TARGET.into()])?)
    }

    fn put_busy_until(&self, until: Timestamp) -> Result<(), StorageError> {
        self.put(BUSY_UNTIL, &until)
    }

    fn put_delivery(&self, delivery: &Delivery) -> Result<(), StorageError> {
        let (number, text) = (delivery.number(), serde_json::to_string(delivery)?);
        Ok(self.0.run(
            "INSERT INTO deliveries (number, value) VALUES (?, ?) \
             ON CONFLICT (number) DO UPDATE SET value = excluded.value",
            &[(&number).into(), (&text).into()],
        )?)
    }

    fn delete_delivery(&self, number: &str) -> Result<(), StorageError> {
        Ok(self.0.run("DELETE FROM deliveries WHERE number = ?", &[number.into()])?)
    }

    fn delete_all(&self) -> Result<(), StorageError> {
        self.0.transaction(|| {
            self.0.run("DELETE FROM kept", &[])?;
            self.0.run("DELETE FROM deliveries", &[])
        })?;
        self.0.delete_alarm();
        Ok(())
    }
}
