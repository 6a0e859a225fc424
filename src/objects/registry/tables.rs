//! The registry's tables: one row per document, and the revision that every write increments.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql, Value};
use narthex_core::access::audit::AuditEntry;
use narthex_core::access::oauth::client::SELF_REGISTERED;
use narthex_core::access::oauth::registrations::Registration;
use narthex_core::base::id::StoreId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::Bundle;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::revision::Revision;
use narthex_core::registry::size::weight;
use narthex_core::registry::storage::{DocumentKey, KindTotal, Storage};

use super::messages::{AuditQuery, DocumentKind};

const CREATE: [&str; 11] = [
    "CREATE TABLE IF NOT EXISTS documents (kind TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, \
     PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stores (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS measured (service TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, bundle TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, \
     action TEXT NOT NULL, object TEXT NOT NULL, entry TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS used (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS notifications (number INTEGER PRIMARY KEY AUTOINCREMENT, notification TEXT NOT NULL) \
     STRICT",
    "CREATE TABLE IF NOT EXISTS outlines (service TEXT PRIMARY KEY, digest TEXT NOT NULL, outline TEXT NOT NULL) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS changes (revision INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, \
     PRIMARY KEY (revision, kind, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS revoked (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// More than any number or time.
const MAX_INTEGER: u64 = 1 << 53;

/// A handle of the registry's tables.
#[derive(Clone)]
pub struct Tables {
    sql: Sql,
}

impl Tables {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Registry);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        Ok(Self { sql })
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.sql.set_alarm(at);
    }

    fn run(&self, statement: &'static str, values: &[Value<'_>]) -> Result<(), StorageError> {
        Ok(self.sql.run(statement, values)?)
    }

    fn rows(&self, statement: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, StorageError> {
        Ok(self.sql.rows(statement, values)?)
    }

    fn first(&self, statement: &'static str, values: &[Value<'_>]) -> Result<Option<Row>, StorageError> {
        Ok(self.sql.first(statement, values)?)
    }

    /// Documents with their sizes: rows of kind, id and bytes.
    fn sized(&self, statement: &'static str, values: &[Value<'_>]) -> Result<Vec<(DocumentKey, u64)>, StorageError> {
        let rows = self.rows(statement, values)?;
        let sized = rows.iter().filter_map(|row| Some(((row.text(0)?, row.text(1)?), row.integer(2)?)));
        Ok(sized.collect())
    }
}

impl Storage for Tables {
    fn transaction<T, E: From<StorageError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.sql.try_transaction(work)
    }

    fn text(&self, kind: &str, id: &str) -> Result<Option<String>, StorageError> {
        let row = self.first("SELECT document FROM documents WHERE kind = ? AND id = ?", &[kind.into(), id.into()])?;
        Ok(row.and_then(|row| row.text(0)))
    }

    fn texts(&self, kind: &str) -> Result<Vec<String>, StorageError> {
        let rows = self.rows("SELECT document FROM documents WHERE kind = ? ORDER BY id", &[kind.into()])?;
        Ok(rows.iter().filter_map(|row| row.text(0)).collect())
    }

    fn texts_besides(&self, kind: &str) -> Result<Vec<(String, String)>, StorageError> {
        // Two ranges of the key, so that the documents in between are not read.
        let before = "SELECT kind, document FROM documents WHERE kind < ? ORDER BY kind, id";
        let after = "SELECT kind, document FROM documents WHERE kind > ? ORDER BY kind, id";
        let mut rows = self.rows(before, &[kind.into()])?;
        rows.extend(self.rows(after, &[kind.into()])?);
        Ok(rows.iter().filter_map(|row| Some((row.text(0)?, row.text(1)?))).collect())
    }

    fn put_text(&self, kind: &str, id: &str, text: &str) -> Result<(), StorageError> {
        self.run(
            "INSERT INTO documents (kind, id, document) VALUES (?, ?, ?) \
             ON CONFLICT (kind, id) DO UPDATE SET document = excluded.document",
            &[kind.into(), id.into(), text.into()],
        )
    }

    fn delete(&self, kind: &str, id: &str) -> Result<(), StorageError> {
        self.run("DELETE FROM documents WHERE kind = ? AND id = ?", &[kind.into(), id.into()])
    }

    fn delete_all(&self, kind: &str) -> Result<(), StorageError> {
        self.run("DELETE FROM documents WHERE kind = ?", &[kind.into()])
    }

    fn size(&self, kind: &str, id: &str) -> Result<Option<u64>, StorageError> {
        let statement = "SELECT LENGTH(CAST(document AS BLOB)) FROM documents WHERE kind = ? AND id = ?";
        Ok(self.first(statement, &[kind.into(), id.into()])?.and_then(|row| row.integer(0)))
    }

    fn totals(&self, except: Option<&str>) -> Result<Vec<KindTotal>, StorageError> {
        let rows = self.rows(
            "SELECT kind, kind = 'client' AND SUBSTR(id, 1, LENGTH(?1)) = ?1, COUNT(*), \
             SUM(LENGTH(CAST(document AS BLOB))) FROM documents WHERE ?2 IS NULL OR kind <> ?2 GROUP BY 1, 2",
            &[SELF_REGISTERED.into(), except.into()],
        )?;
        let total = |row: &Row| KindTotal {
            kind: row.text(0).unwrap_or_default(),
            registered_itself: row.integer(1) == Some(1),
            count: row.integer(2).unwrap_or(0),
            bytes: row.integer(3).unwrap_or(0),
        };
        Ok(rows.iter().map(total).collect())
    }

    fn sizes(&self, after: &DocumentKey, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError> {
        self.sized(
            "SELECT kind, id, LENGTH(CAST(document AS BLOB)) FROM documents WHERE (kind, id) > (?1, ?2) \
             ORDER BY kind, id LIMIT CAST(?3 AS INTEGER)",
            &[(&after.0).into(), (&after.1).into(), most.into()],
        )
    }

    fn largest(&self, most: u64) -> Result<Vec<(DocumentKey, u64)>, StorageError> {
        self.sized(
            "SELECT kind, id, LENGTH(CAST(document AS BLOB)) AS bytes FROM documents ORDER BY bytes DESC, kind, id \
             LIMIT CAST(? AS INTEGER)",
            &[most.into()],
        )
    }

    fn registrations(&self) -> Result<Vec<Registration>, StorageError> {
        let used: HashMap<String, Timestamp> = self.last_used()?.into_iter().collect();
        let kind = DocumentKind::Client;
        let rows = self.rows(
            "SELECT id, LENGTH(CAST(document AS BLOB)), json_extract(document, '$.created_at'), \
             json_extract(document, '$.source') FROM documents WHERE kind = ?1 AND SUBSTR(id, 1, LENGTH(?2)) = ?2 \
             ORDER BY id",
            &[kind.as_str().into(), SELF_REGISTERED.into()],
        )?;
        let registration = |row: &Row| {
            let id = row.text(0)?;
            Some(Registration {
                bytes: weight(kind.as_str(), row.integer(1)?),
                created_at: Timestamp(row.integer(2)?),
                used_at: used.get(&format!("clients/{id}")).copied(),
                source: row.text(3).unwrap_or_default(),
                id,
            })
        };
        Ok(rows.iter().filter_map(registration).collect())
    }

    fn outline(&self, service: &str) -> Result<Option<(String, String)>, StorageError> {
        let row = self.first("SELECT digest, outline FROM outlines WHERE service = ?", &[service.into()])?;
        Ok(row.and_then(|row| Some((row.text(0)?, row.text(1)?))))
    }

    fn outlines(&self) -> Result<Vec<String>, StorageError> {
        let rows = self.rows("SELECT outline FROM outlines ORDER BY service", &[])?;
        Ok(rows.iter().filter_map(|row| row.text(0)).collect())
    }

    fn put_outline(&self, service: &str, digest: &str, text: &str) -> Result<(), StorageError> {
        self.run(
            "INSERT INTO outlines (service, digest, outline) VALUES (?, ?, ?) \
             ON CONFLICT (service) DO UPDATE SET digest = excluded.digest, outline = excluded.outline",
            &[service.into(), digest.into(), text.into()],
        )
    }

    fn delete_outline(&self, service: &str) -> Result<(), StorageError> {
        self.run("DELETE FROM outlines WHERE service = ?", &[service.into()])
    }

    fn delete_all_outlines(&self) -> Result<(), StorageError> {
        self.run("DELETE FROM outlines", &[])
    }

    fn outline_total(&self) -> Result<(u64, u64), StorageError> {
        let row = self.first("SELECT COUNT(*), SUM(LENGTH(CAST(outline AS BLOB))) FROM outlines", &[])?;
        Ok(row.map_or((0, 0), |row| (row.integer(0).unwrap_or(0), row.integer(1).unwrap_or(0))))
    }

    fn record_change(&self, revision: Revision, kind: &str, id: &str) -> Result<(), StorageError> {
        self.run(
            "INSERT OR IGNORE INTO changes (revision, kind, id) VALUES (CAST(? AS INTEGER), ?, ?)",
            &[revision.number().into(), kind.into(), id.into()],
        )
    }

    fn changes_after(&self, revision: Revision, most: u64) -> Result<Vec<DocumentKey>, StorageError> {
        let rows = self.rows(
            "SELECT kind, id FROM changes WHERE revision > CAST(? AS INTEGER) ORDER BY revision, kind, id \
             LIMIT CAST(? AS INTEGER)",
            &[revision.number().into(), most.into()],
        )?;
        Ok(rows.iter().filter_map(|row| Some((row.text(0)?, row.text(1)?))).collect())
    }

    fn recorded_revisions(&self) -> Result<Option<(Revision, Revision)>, StorageError> {
        let ends = [
            "SELECT revision FROM changes ORDER BY revision LIMIT 1",
            "SELECT revision FROM changes ORDER BY revision DESC LIMIT 1",
        ];
        let [first, last] = ends.map(|statement| self.first(statement, &[]));
        let number = |row: Option<Row>| row.and_then(|row| row.integer(0)).map(Revision::from_number);
        Ok(number(first?).zip(number(last?)))
    }

    fn delete_changes_before(&self, revision: Revision) -> Result<(), StorageError> {
        self.run("DELETE FROM changes WHERE revision < CAST(? AS INTEGER)", &[revision.number().into()])
    }

    /// The observed status of every service.
    fn all_measured(&self) -> Result<Vec<(ServiceId, ObservedStatus)>, StorageError> {
        let rows = self.rows("SELECT service, document FROM measured ORDER BY service", &[])?;
        // One that this version cannot read is observed anew.
        let measured = |row: &Row| {
            let service = ServiceId::from_stored(row.text(0)?);
            Some((service, serde_json::from_str(&row.text(1)?).ok()?))
        };
        Ok(rows.iter().filter_map(measured).collect())
    }

    fn measured(&self, service: &ServiceId) -> Result<Option<ObservedStatus>, StorageError> {
        let row = self.first("SELECT document FROM measured WHERE service = ?", &[service.into()])?;
        Ok(row.and_then(|row| row.text(0)).and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn put_measured(&self, service: &ServiceId, measured: &ObservedStatus) -> Result<(), StorageError> {
        self.run(
            "INSERT INTO measured (service, document) VALUES (?, ?) \
             ON CONFLICT (service) DO UPDATE SET document = excluded.document",
            &[service.into(), (&serde_json::to_string(measured)?).into()],
        )
    }

    fn delete_measured(&self, service: &ServiceId) -> Result<(), StorageError> {
        self.run("DELETE FROM measured WHERE service = ?", &[service.into()])
    }

    fn add_audit(&self, entry: &AuditEntry<'_>) -> Result<(), StorageError> {
        self.run(
            "INSERT INTO audit (at, actor, action, object, entry) VALUES (CAST(? AS INTEGER), ?, ?, ?, ?)",
            &[
                entry.at.0.into(),
                entry.actor.into(),
                entry.action.into(),
                entry.object.into(),
                (&serde_json::to_string(entry)?).into(),
            ],
        )
    }

    /// Matching entries with their numbers, newest first.
    fn audit(&self, query: &AuditQuery) -> Result<Vec<(u64, Box<RawValue>)>, StorageError> {
        let rows = self.rows(
            "SELECT number, entry FROM audit WHERE (?1 IS NULL OR actor = ?1) AND (?2 IS NULL OR action GLOB ?2) \
             AND (?3 IS NULL OR object = ?3) AND at > ?4 AND at < ?5 AND number < ?6 \
             ORDER BY number DESC LIMIT CAST(?7 AS INTEGER)",
            &[
                query.actor.as_deref().into(),
                query.action.as_deref().into(),
                query.object.as_deref().into(),
                query.after.map_or(0, |at| at.0).into(),
                query.before.map_or(MAX_INTEGER, |at| at.0).into(),
                query.below.unwrap_or(MAX_INTEGER).into(),
                query.limit.into(),
            ],
        )?;
        rows.iter()
            .map(|row| Ok((row.integer(0).unwrap_or(0), RawValue::from_string(row.text(1).unwrap_or_default())?)))
            .collect()
    }

    /// Deletes some of the older audit entries, and the older names of revoked keys.
    fn delete_old_audit(&self, before: Timestamp) -> Result<(), StorageError> {
        self.run(
            "DELETE FROM audit WHERE number IN (SELECT number FROM audit ORDER BY number LIMIT 500) \
             AND at < CAST(? AS INTEGER)",
            &[before.0.into()],
        )?;
        self.run("DELETE FROM revoked WHERE at < CAST(? AS INTEGER)", &[before.0.into()])
    }

    fn record_revoked(&self, key: &str, at: Timestamp) -> Result<(), StorageError> {
        self.run("INSERT OR REPLACE INTO revoked (key, at) VALUES (?, CAST(? AS INTEGER))", &[key.into(), at.0.into()])
    }

    fn was_revoked(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.first("SELECT 1 FROM revoked WHERE key = ?", &[key.into()])?.is_some())
    }

    fn record_use(&self, name: &str, at: Timestamp) -> Result<(), StorageError> {
        // Only of what exists.
        let (kind, id) = name.strip_prefix("clients/").map_or(("key", name), |id| ("client", id));
        self.run(
            "INSERT INTO used (key, at) SELECT ?1, CAST(?4 AS INTEGER) FROM documents WHERE kind = ?2 AND id = ?3 \
             ON CONFLICT (key) DO UPDATE SET at = excluded.at WHERE excluded.at > used.at",
            &[name.into(), kind.into(), id.into(), at.0.into()],
        )
    }

    /// The last use of each key and client; a client is named `clients/{id}`.
    fn last_used(&self) -> Result<Vec<(String, Timestamp)>, StorageError> {
        let rows = self.rows("SELECT key, at FROM used ORDER BY key", &[])?;
        Ok(rows.iter().filter_map(|row| Some((row.text(0)?, Timestamp(row.integer(1)?)))).collect())
    }

    fn delete_last_use(&self, key: &str) -> Result<(), StorageError> {
        self.run("DELETE FROM used WHERE key = ?", &[key.into()])
    }

    fn stores(&self) -> Result<Vec<StoreId>, StorageError> {
        let rows = self.rows("SELECT code FROM stores ORDER BY code", &[])?;
        Ok(rows.iter().filter_map(|row| StoreId::parse(&row.text(0)?)).collect())
    }

    fn add_store(&self, store: StoreId) -> Result<(), StorageError> {
        self.run("INSERT INTO stores (code) VALUES (?)", &[(&store.code()).into()])
    }

    fn meta(&self, name: &str) -> Result<Option<String>, StorageError> {
        let row = self.first("SELECT value FROM meta WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)))
    }

    fn set_meta(&self, name: &str, value: &str) -> Result<(), StorageError> {
        self.run(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name.into(), value.into()],
        )
    }

    fn queue_event(&self, bundle: &Bundle) -> Result<(), StorageError> {
        self.run("INSERT INTO outbox (bundle) VALUES (?)", &[(&serde_json::to_string(bundle)?).into()])
    }

    /// Events the hub does not have yet, with their numbers.
    fn queued_events(&self) -> Result<Vec<(u64, Bundle)>, StorageError> {
        let rows = self.rows("SELECT number, bundle FROM outbox ORDER BY number LIMIT 200", &[])?;
        rows.iter()
            .map(|row| Ok((row.integer(0).unwrap_or(0), Bundle::read(&row.text(1).unwrap_or_default())?)))
            .collect()
    }

    fn delete_published(&self, up_to: u64) -> Result<(), StorageError> {
        self.run("DELETE FROM outbox WHERE number <= CAST(? AS INTEGER)", &[up_to.into()])
    }

    fn queue_notification(&self, text: &str) -> Result<u64, StorageError> {
        let statement = "INSERT INTO notifications (notification) VALUES (?) RETURNING number";
        let number = self.first(statement, &[text.into()])?.and_then(|row| row.integer(0));
        number.ok_or_else(|| StorageError("a notification without a number".into()))
    }

    fn queued_notifications(&self) -> Result<Vec<(u64, String)>, StorageError> {
        let rows = self.rows("SELECT number, notification FROM notifications ORDER BY number", &[])?;
        Ok(rows.iter().filter_map(|row| Some((row.integer(0)?, row.text(1)?))).collect())
    }

    fn update_notification(&self, number: u64, text: &str) -> Result<(), StorageError> {
        self.run(
            "UPDATE notifications SET notification = ?2 WHERE number = CAST(?1 AS INTEGER)",
            &[number.into(), text.into()],
        )
    }

    fn delete_notification(&self, number: u64) -> Result<(), StorageError> {
        self.run("DELETE FROM notifications WHERE number = CAST(? AS INTEGER)", &[number.into()])
    }
}
