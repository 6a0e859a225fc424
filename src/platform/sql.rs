//! All SQL passes through here: statements are constants, values are bound, exceptions are errors.

use std::cell::RefCell;
use std::collections::HashMap;

use js_sys::{Array, JsString};
use wasm_bindgen::prelude::*;

use super::Failure;
use super::objects::Kind;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::sequence::Sequence;

#[wasm_bindgen(module = "/src/platform/sql.js")]
extern "C" {
    #[wasm_bindgen(catch)]
    fn sql(storage: &JsValue, kind: u32, statement: &JsString, parameters: &Array) -> Result<Array, JsValue>;
    #[wasm_bindgen(catch)]
    fn run(storage: &JsValue, kind: u32, statement: &JsString, parameters: &Array) -> Result<(), JsValue>;
    #[wasm_bindgen(catch)]
    fn transaction(storage: &JsValue, work: &mut dyn FnMut() -> bool) -> Result<(), JsValue>;
    #[wasm_bindgen(js_name = setAlarm)]
    fn set_alarm(storage: &JsValue, kind: u32, time: f64);
    #[wasm_bindgen(js_name = deleteAlarm)]
    fn delete_alarm(storage: &JsValue);
}

/// A bound value. Integers beyond 2^53 would lose digits: bind them as text.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Integer(u64),
    Null,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Value::Text(text)
    }
}

impl<'a> From<&'a TenantId> for Value<'a> {
    fn from(tenant: &'a TenantId) -> Self {
        Value::Text(tenant.as_str())
    }
}

impl<'a> From<&'a ServiceId> for Value<'a> {
    fn from(service: &'a ServiceId) -> Self {
        Value::Text(service.as_str())
    }
}

impl<'a> From<&'a PrincipalId> for Value<'a> {
    fn from(principal: &'a PrincipalId) -> Self {
        Value::Text(principal.as_str())
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Integer(number)
    }
}

impl From<Sequence> for Value<'_> {
    fn from(sequence: Sequence) -> Self {
        Value::Integer(sequence.get())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

thread_local! {
    /// Statements as JavaScript strings, by address: each is converted once per isolate.
    static STATEMENTS: RefCell<HashMap<(usize, usize), JsString>> = RefCell::new(HashMap::new());
}

/// A row, read by position.
pub struct Row(Array);

impl Row {
    pub fn text(&self, at: u32) -> Option<String> {
        self.0.get(at).as_string()
    }

    pub fn integer(&self, at: u32) -> Option<u64> {
        self.0.get(at).as_f64().filter(|number| *number >= 0.0).map(|number| number as u64)
    }

    pub fn sequence(&self, at: u32) -> Option<Sequence> {
        self.integer(at).map(Sequence::from_stored)
    }
}

fn bound(values: &[Value<'_>]) -> Array {
    let parameters = Array::new_with_length(values.len() as u32);
    for (at, value) in values.iter().enumerate() {
        let bound = match value {
            Value::Text(text) => JsValue::from_str(text),
            Value::Integer(number) => JsValue::from_f64(*number as f64),
            Value::Null => JsValue::NULL,
        };
        parameters.set(at as u32, bound);
    }
    parameters
}

fn with_text<T>(statement: &'static str, work: impl FnOnce(&JsString) -> T) -> T {
    STATEMENTS.with_borrow_mut(|statements| {
        work(statements.entry((statement.as_ptr() as usize, statement.len())).or_insert_with(|| statement.into()))
    })
}

/// An object's database.
#[derive(Clone)]
pub struct Sql {
    storage: JsValue,
    kind: Kind,
}

impl Sql {
    /// `state` is the constructor argument of the object.
    pub fn of(state: &JsValue, kind: Kind) -> Self {
        let storage = js_sys::Reflect::get(state, &JsValue::from_str("storage")).unwrap_or(JsValue::UNDEFINED);
        Self { storage, kind }
    }

    pub fn rows(&self, statement: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, Failure> {
        let rows = with_text(statement, |text| sql(&self.storage, self.kind as u32, text, &bound(values)))?;
        Ok(rows.iter().map(|row| Row(row.unchecked_into())).collect())
    }

    pub fn run(&self, statement: &'static str, values: &[Value<'_>]) -> Result<(), Failure> {
        Ok(with_text(statement, |text| run(&self.storage, self.kind as u32, text, &bound(values)))?)
    }

    pub fn first(&self, statement: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, Failure> {
        Ok(self.rows(statement, values)?.into_iter().next())
    }

    /// Commits everything that `work` writes, or nothing if it fails.
    pub fn transaction<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.try_transaction(work)
    }

    /// As [`Sql::transaction`], with the error type of `work`.
    pub fn try_transaction<T, E: From<StorageError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut work = Some(work);
        let mut result = Err(E::from(StorageError("the transaction did not run".into())));
        let ended = transaction(&self.storage, &mut || {
            if let Some(work) = work.take() {
                result = work();
            }
            result.is_ok()
        });
        match (ended, result) {
            (Ok(()), result) => result,
            (Err(_), Err(failure)) => Err(failure),
            (Err(error), Ok(_)) => Err(StorageError::from(Failure::from(error)).into()),
        }
    }

    /// Deletes the alarm: the object sleeps until it is called.
    pub fn delete_alarm(&self) {
        delete_alarm(&self.storage);
    }

    /// Sets the alarm, replacing the previous one. Writes one row.
    pub fn set_alarm(&self, at: Timestamp) {
        set_alarm(&self.storage, self.kind as u32, at.0 as f64);
    }
}
