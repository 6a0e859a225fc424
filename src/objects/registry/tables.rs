//! The registry's tables: one row per document, and the revision that every write increments.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql, Value};
use narthex_core::access::audit::AuditEntry;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::oauth::client::SELF_REGISTERED;
use narthex_core::access::oauth::registrations::Registration;
use narthex_core::base::id::StoreId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::Bundle;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::size::{StoredSizes, weight};

use super::documents::object;
use super::messages::{AuditQuery, DocumentKind, Key, StoredDocument, StoredService};

const CREATE: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS documents (kind TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, \
     PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS stores (code TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS measured (service TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, bundle TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, actor TEXT NOT NULL, \
     action TEXT NOT NULL, object TEXT NOT NULL, entry TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS used (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS revoked (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];

/// More than any number or time.
const MAX_INTEGER: u64 = 1 << 53;

pub const SERVICE: &str = "service";
pub const KEY: &str = "key";

#[derive(Clone)]
pub struct Tables {
    sql: Sql,
    /// The size of the stored documents, once counted; every write updates it.
    used: Rc<RefCell<Option<StoredSizes>>>,
}

/// A document's kind and id.
pub type DocumentKey = (String, String);

/// Whether a document is a client that registered itself.
pub fn registered_itself(kind: &str, id: &str) -> bool {
    kind == DocumentKind::Client.as_str() && id.starts_with(SELF_REGISTERED)
}

impl Tables {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Registry);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        Ok(Self { sql, used: Rc::default() })
    }

    pub fn transaction<T, E: From<Failure>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let done = self.sql.try_transaction(work);
        if done.is_err() {
            // The count includes writes that were rolled back.
            *self.used.borrow_mut() = None;
        }
        done
    }

    /// The size of the stored documents.
    pub fn used(&self) -> Result<StoredSizes, Failure> {
        if let Some(used) = self.used.borrow().as_ref() {
            return Ok(used.clone());
        }
        let rows = self.sql.rows(
            "SELECT kind, kind = 'client' AND SUBSTR(id, 1, LENGTH(?1)) = ?1, COUNT(*), \
             SUM(LENGTH(CAST(document AS BLOB))) FROM documents GROUP BY 1, 2",
            &[SELF_REGISTERED.into()],
        )?;
        let mut used = StoredSizes::default();
        for row in rows {
            let (count, bytes) = (row.integer(2).unwrap_or(0), row.integer(3).unwrap_or(0));
            used.add(&row.text(0).unwrap_or_default(), row.integer(1) == Some(1), count, bytes);
        }
        *self.used.borrow_mut() = Some(used.clone());
        Ok(used)
    }

    /// Starts a write whose effect on [`Tables::used`] matters.
    pub fn begin(&self) -> Result<StoredSizes, Failure> {
        self.used()?;
        if let Some(used) = self.used.borrow_mut().as_mut() {
            used.begin();
        }
        self.used()
    }

    fn size(&self, kind: &str, id: &str) -> Result<Option<u64>, Failure> {
        let statement = "SELECT LENGTH(CAST(document AS BLOB)) FROM documents WHERE kind = ? AND id = ?";
        Ok(self.sql.first(statement, &[kind.into(), id.into()])?.and_then(|row| row.integer(0)))
    }

    fn changed(&self, kind: &str, id: &str, before: Option<u64>, after: Option<u64>) {
        if let Some(used) = self.used.borrow_mut().as_mut() {
            used.change(kind, registered_itself(kind, id), before, after);
        }
    }

    /// Documents by kind and id, after `after`, each with its size.
    pub fn sizes(&self, after: &DocumentKey, most: u64) -> Result<Vec<(DocumentKey, u64)>, Failure> {
        let rows = self.sql.rows(
            "SELECT kind, id, LENGTH(CAST(document AS BLOB)) FROM documents WHERE (kind, id) > (?1, ?2) \
             ORDER BY kind, id LIMIT CAST(?3 AS INTEGER)",
            &[(&after.0).into(), (&after.1).into(), most.into()],
        )?;
        let sized = rows.iter().filter_map(|row| Some(((row.text(0)?, row.text(1)?), row.integer(2)?)));
        Ok(sized.collect())
    }

    /// The clients that registered themselves. Their documents are not parsed here: they may be many and large.
    pub fn registrations(&self) -> Result<Vec<Registration>, Failure> {
        let used: HashMap<String, Timestamp> = self.last_used()?.into_iter().collect();
        let kind = DocumentKind::Client;
        let rows = self.sql.rows(
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
                used_at: used.get(&object(kind, &id)).copied(),
                source: row.text(3).unwrap_or_default(),
                id,
            })
        };
        Ok(rows.iter().filter_map(registration).collect())
    }

    /// The largest documents, each with its size.
    pub fn largest(&self, most: u64) -> Result<Vec<(DocumentKey, u64)>, Failure> {
        let rows = self.sql.rows(
            "SELECT kind, id, LENGTH(CAST(document AS BLOB)) AS bytes FROM documents ORDER BY bytes DESC, kind, id \
             LIMIT CAST(? AS INTEGER)",
            &[most.into()],
        )?;
        let sized = rows.iter().filter_map(|row| Some(((row.text(0)?, row.text(1)?), row.integer(2)?)));
        Ok(sized.collect())
    }

    /// A document in stored form.
    pub fn text(&self, kind: &str, id: &str) -> Result<Option<String>, Failure> {
        let row =
            self.sql.first("SELECT document FROM documents WHERE kind = ? AND id = ?", &[kind.into(), id.into()])?;
        Ok(row.and_then(|row| row.text(0)))
    }

    pub fn set_alarm(&self, at: narthex_core::base::time::Timestamp) {
        self.sql.set_alarm(at);
    }

    pub fn get<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<Option<T>, Failure> {
        Ok(self.text(kind, id)?.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, Failure> {
        let rows = self.sql.rows("SELECT document FROM documents WHERE kind = ? ORDER BY id", &[kind.into()])?;
        rows.iter().filter_map(|row| row.text(0)).map(|text| Ok(serde_json::from_str(&text)?)).collect()
    }

    pub fn services(&self) -> Result<Vec<StoredService>, Failure> {
        self.all(SERVICE)
    }

    pub fn keys(&self) -> Result<Vec<Key>, Failure> {
        self.all(KEY)
    }

    /// All documents of one kind.
    pub fn documents_of(&self, kind: DocumentKind) -> Result<Vec<StoredDocument>, Failure> {
        self.all(kind.as_str())
    }

    /// All documents except services and keys.
    pub fn documents(&self) -> Result<Vec<StoredDocument>, Failure> {
        let mut documents = Vec::new();
        for kind in DocumentKind::ALL {
            documents.extend(self.all(kind.as_str())?);
        }
        Ok(documents)
    }

    pub fn put<T: Serialize>(&self, kind: &str, id: &str, document: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(document)?;
        let before = self.size(kind, id)?;
        let values: [Value<'_>; 3] = [kind.into(), id.into(), (&text).into()];
        self.sql.run(
            "INSERT INTO documents (kind, id, document) VALUES (?, ?, ?) \
             ON CONFLICT (kind, id) DO UPDATE SET document = excluded.document",
            &values,
        )?;
        self.changed(kind, id, before, Some(text.len() as u64));
        Ok(())
    }

    pub fn delete(&self, kind: &str, id: &str) -> Result<(), Failure> {
        let before = self.size(kind, id)?;
        self.sql.run("DELETE FROM documents WHERE kind = ? AND id = ?", &[kind.into(), id.into()])?;
        self.changed(kind, id, before, None);
        Ok(())
    }

    /// The observed status of every service.
    pub fn all_measured(&self) -> Result<Vec<(ServiceId, ObservedStatus)>, Failure> {
        let rows = self.sql.rows("SELECT service, document FROM measured ORDER BY service", &[])?;
        rows.iter()
            .map(|row| {
                let service = ServiceId::from_stored(row.text(0).unwrap_or_default());
                Ok((service, serde_json::from_str(&row.text(1).unwrap_or_default())?))
            })
            .collect()
    }

    pub fn measured(&self, service: &ServiceId) -> Result<Option<ObservedStatus>, Failure> {
        let row = self.sql.first("SELECT document FROM measured WHERE service = ?", &[service.into()])?;
        Ok(row.and_then(|row| row.text(0)).map(|text| serde_json::from_str(&text)).transpose()?)
    }

    pub fn put_measured(&self, service: &ServiceId, measured: &ObservedStatus) -> Result<(), Failure> {
        self.sql.run(
            "INSERT INTO measured (service, document) VALUES (?, ?) \
             ON CONFLICT (service) DO UPDATE SET document = excluded.document",
            &[service.into(), (&serde_json::to_string(measured)?).into()],
        )
    }

    pub fn delete_measured(&self, service: &ServiceId) -> Result<(), Failure> {
        self.sql.run("DELETE FROM measured WHERE service = ?", &[service.into()])
    }

    pub fn add_audit(&self, entry: &AuditEntry<'_>) -> Result<(), Failure> {
        self.sql.run(
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
    pub fn audit(&self, query: &AuditQuery) -> Result<Vec<(u64, Box<RawValue>)>, Failure> {
        let rows = self.sql.rows(
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
    pub fn delete_old_audit(&self, before: Timestamp) -> Result<(), Failure> {
        self.sql.run(
            "DELETE FROM audit WHERE number IN (SELECT number FROM audit ORDER BY number LIMIT 500) \
             AND at < CAST(? AS INTEGER)",
            &[before.0.into()],
        )?;
        self.sql.run("DELETE FROM revoked WHERE at < CAST(? AS INTEGER)", &[before.0.into()])
    }

    pub fn record_revoked(&self, key: &str, at: Timestamp) -> Result<(), Failure> {
        self.sql
            .run("INSERT OR REPLACE INTO revoked (key, at) VALUES (?, CAST(? AS INTEGER))", &[key.into(), at.0.into()])
    }

    pub fn was_revoked(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.sql.first("SELECT 1 FROM revoked WHERE key = ?", &[key.into()])?.is_some())
    }

    /// Records the last use of a key, if it exists.
    pub fn record_key_use(&self, key: &str, at: Timestamp) -> Result<(), Failure> {
        self.sql.run(
            "INSERT INTO used (key, at) SELECT id, CAST(?2 AS INTEGER) FROM documents WHERE kind = 'key' AND id = ?1 \
             ON CONFLICT (key) DO UPDATE SET at = excluded.at WHERE excluded.at > used.at",
            &[key.into(), at.0.into()],
        )
    }

    /// Records when a client last received a token, if it exists.
    pub fn record_client_use(&self, client: &str, at: Timestamp) -> Result<(), Failure> {
        self.sql.run(
            "INSERT INTO used (key, at) SELECT 'clients/' || id, CAST(?2 AS INTEGER) FROM documents \
             WHERE kind = 'client' AND id = ?1 \
             ON CONFLICT (key) DO UPDATE SET at = excluded.at WHERE excluded.at > used.at",
            &[client.into(), at.0.into()],
        )
    }

    /// The last use of each key and client; a client is named `clients/{id}`.
    pub fn last_used(&self) -> Result<Vec<(String, Timestamp)>, Failure> {
        let rows = self.sql.rows("SELECT key, at FROM used ORDER BY key", &[])?;
        Ok(rows.iter().filter_map(|row| Some((row.text(0)?, Timestamp(row.integer(1)?)))).collect())
    }

    pub fn delete_last_use(&self, key: &str) -> Result<(), Failure> {
        self.sql.run("DELETE FROM used WHERE key = ?", &[key.into()])
    }

    /// Deletes all documents of a kind.
    pub fn delete_all(&self, kind: &str) -> Result<(), Failure> {
        self.sql.run("DELETE FROM documents WHERE kind = ?", &[kind.into()])?;
        *self.used.borrow_mut() = None;
        Ok(())
    }

    pub fn stores(&self) -> Result<Vec<StoreId>, Failure> {
        let rows = self.sql.rows("SELECT code FROM stores ORDER BY code", &[])?;
        Ok(rows.iter().filter_map(|row| StoreId::parse(&row.text(0)?)).collect())
    }

    pub fn add_store(&self, store: StoreId) -> Result<(), Failure> {
        self.sql.run("INSERT INTO stores (code) VALUES (?)", &[(&store.code()).into()])
    }

    pub fn meta(&self, name: &str) -> Result<Option<String>, Failure> {
        let row = self.sql.first("SELECT value FROM meta WHERE name = ?", &[name.into()])?;
        Ok(row.and_then(|row| row.text(0)))
    }

    pub fn set_meta(&self, name: &str, value: &str) -> Result<(), Failure> {
        self.sql.run(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name.into(), value.into()],
        )
    }

    pub fn encrypted(&self, name: &str) -> Result<Option<EncryptedSecret>, Failure> {
        Ok(self.meta(name)?.map(|text| serde_json::from_value(text.into())).transpose()?)
    }

    pub fn set_encrypted(&self, name: &str, secret: &EncryptedSecret) -> Result<(), Failure> {
        self.set_meta(name, serde_json::to_value(secret)?.as_str().unwrap_or_default())
    }

    pub fn queue_event(&self, bundle: &Bundle) -> Result<(), Failure> {
        self.sql.run("INSERT INTO outbox (bundle) VALUES (?)", &[(&serde_json::to_string(bundle)?).into()])
    }

    /// Events the hub does not have yet, with their numbers.
    pub fn queued_events(&self) -> Result<Vec<(u64, Bundle)>, Failure> {
        let rows = self.sql.rows("SELECT number, bundle FROM outbox ORDER BY number LIMIT 200", &[])?;
        rows.iter()
            .map(|row| Ok((row.integer(0).unwrap_or(0), serde_json::from_str(&row.text(1).unwrap_or_default())?)))
            .collect()
    }

    pub fn delete_published(&self, up_to: u64) -> Result<(), Failure> {
        self.sql.run("DELETE FROM outbox WHERE number <= CAST(? AS INTEGER)", &[up_to.into()])
    }
}
