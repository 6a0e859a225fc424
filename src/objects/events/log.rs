//! The event log: one row for each batch that a publisher sent.
//!
//! A row is keyed by its first sequence; its events have the sequences that follow, without gaps. Each row also carries
//! the last number of every publisher at that time, so the newest row alone has all positions, and a repeated batch is
//! recognized. The newest row is never deleted.

use serde_json::value::RawValue;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::settings;
use crate::platform::sql::{Row, Sql};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::events::bundle::{Bundle, Item, newer_than, read_bundles};
use narthex_core::events::cloud_event::cloud_event;
use narthex_core::events::fanout::ShardNumber;
use narthex_core::events::log_position::{LogPosition, NewPart};
use narthex_core::events::sequence::Sequence;
use narthex_core::events::viewer::Viewer;
use narthex_core::registry::revision::Revision;

use super::messages::Publish;
use super::messages::shards::{Page, StoredBatch};

const CREATE: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS log (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, at INTEGER NOT NULL, \
     tenant TEXT NOT NULL, teller TEXT NOT NULL, heads TEXT NOT NULL, bundles TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS tickets (hash TEXT PRIMARY KEY, viewer TEXT NOT NULL, until INTEGER NOT NULL) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS kept (retention_ms INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS kept_by (revision TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, tenant TEXT NOT NULL) STRICT",
];

/// Rows deleted at a time.
const ROWS_PER_DELETION: u64 = 500;
/// Batches per page at most.
const PAGE_BATCHES: u64 = 32;
/// A page gets no further batch beyond this size; a batch has at most half of it plus one bundle.
const PAGE_BYTES: usize = 1024 * 1024;

/// A batch in the log.
pub struct Batch {
    pub first: Sequence,
    pub tenant: TenantId,
    pub publisher: String,
    pub bundles: Vec<Bundle>,
}

impl Batch {
    /// Renders one of its events.
    pub fn event(&self, bundle: &Bundle, item: &Item, before: Option<u64>, sequence: Sequence) -> String {
        let settings = settings::current();
        cloud_event(settings.public_url.as_deref(), &self.tenant, &self.publisher, bundle, item, before, sequence)
    }

    /// Every event with its sequence and the number of its subject's previous event.
    pub fn events(&self) -> impl Iterator<Item = (Sequence, &Bundle, &Item, Option<u64>)> {
        let mut sequence = self.first;
        self.bundles
            .iter()
            .flat_map(|bundle| {
                let mut before = bundle.previous_number;
                bundle.items.iter().map(move |item| {
                    let earlier = before.replace(item.number);
                    (bundle, item, earlier)
                })
            })
            .map(move |(bundle, item, earlier)| {
                let at = sequence;
                sequence = sequence.next();
                (at, bundle, item, earlier)
            })
    }
}

pub struct Log {
    sql: Sql,
    position: LogPosition,
}

impl StoredBatch {
    pub fn batch(&self) -> Result<Batch, Failure> {
        let bundles = read_bundles(self.bundles.get())?;
        Ok(Batch { first: self.first, tenant: self.tenant.clone(), publisher: self.publisher.clone(), bundles })
    }
}

/// The tenant in the second column.
fn tenant_in(row: &Row) -> TenantId {
    TenantId::from_stored(row.text(1).unwrap_or_default())
}

fn batch(row: &Row) -> Result<Batch, Failure> {
    Ok(Batch {
        first: row.sequence(0).unwrap_or_default(),
        tenant: tenant_in(row),
        publisher: row.text(2).unwrap_or_default(),
        bundles: read_bundles(&row.text(3).unwrap_or_default())?,
    })
}

impl Log {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Events);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        let newest = sql.first("SELECT first, count, heads FROM log ORDER BY first DESC LIMIT 1", &[])?;
        let position = match newest {
            Some(row) => LogPosition::restore(
                row.sequence(0).unwrap_or_default(),
                row.integer(1).unwrap_or_default(),
                serde_json::from_str(&row.text(2).unwrap_or_default())?,
            ),
            None => LogPosition::default(),
        };
        Ok(Self { sql, position })
    }

    /// The tenant's retention of events, in milliseconds.
    pub fn retention_ms(&self) -> Result<Option<u64>, Failure> {
        Ok(self.sql.first("SELECT retention_ms FROM kept", &[])?.and_then(|row| row.integer(0)))
    }

    /// Sets the tenant's retention, unless a newer revision of its registry has set it. An earlier version of the
    /// gateway does not send the revision.
    pub fn retain(&self, own_ms: Option<u64>, revision: Revision) -> Result<bool, Failure> {
        let known = self.sql.first("SELECT revision FROM kept_by", &[])?.and_then(|row| row.text(0));
        let known = known.as_deref().and_then(Revision::parse).unwrap_or_default();
        if revision < known && revision != Revision::INITIAL {
            return Ok(false);
        }
        self.sql.transaction(|| {
            self.sql.run("DELETE FROM kept", &[])?;
            self.sql.run("DELETE FROM kept_by", &[])?;
            self.sql.run("INSERT INTO kept_by (revision) VALUES (?)", &[(&revision.to_string()).into()])?;
            match own_ms {
                Some(own_ms) => {
                    self.sql.run("INSERT INTO kept (retention_ms) VALUES (CAST(? AS INTEGER))", &[own_ms.into()])
                }
                None => Ok(()),
            }
        })?;
        Ok(true)
    }

    /// The last number received from a publisher.
    pub fn head(&self, publisher: &str) -> u64 {
        self.position.head(publisher)
    }

    /// The sequence of the next event.
    pub fn next(&self) -> Sequence {
        self.position.next()
    }

    /// The present position, for [`Log::rewind`].
    pub fn mark(&self) -> LogPosition {
        self.position.clone()
    }

    /// Returns to a position after the appended rows were rolled back.
    pub fn rewind(&mut self, position: LogPosition) {
        self.position = position;
    }

    pub fn sql(&self) -> Sql {
        self.sql.clone()
    }

    /// The batch with a publisher's event, if it is still in the log.
    pub fn batches_with(&self, publisher: &str, number: u64) -> Result<Vec<Batch>, Failure> {
        let rows = self.sql.rows(
            "SELECT first, tenant, teller, bundles FROM log WHERE teller = ? AND instr(bundles, ?) > 0 LIMIT 10",
            &[publisher.into(), (&format!("\"number\":{number},")).into()],
        )?;
        rows.iter().map(batch).collect()
    }

    /// The sequence of the last event.
    pub fn last(&self) -> Sequence {
        self.position.last()
    }

    /// Appends the new part of a batch; returns true if there was one.
    pub fn append(&mut self, now: Timestamp, publish: &Publish) -> Result<bool, Failure> {
        match self.position.new_part(&publish.publisher, publish.first, publish.last) {
            NewPart::None => Ok(false),
            NewPart::All => self.write(now, publish, publish.count, publish.bundles.get()),
            NewPart::After(known) => {
                let bundles = newer_than(read_bundles(publish.bundles.get())?, known);
                let count: usize = bundles.iter().map(|bundle| bundle.items.len()).sum();
                self.write(now, publish, count as u64, &serde_json::to_string(&bundles)?)
            }
        }
    }

    fn write(&mut self, now: Timestamp, publish: &Publish, count: u64, bundles: &str) -> Result<bool, Failure> {
        let position = self.position.after(&publish.publisher, publish.last, count);
        let heads_text = serde_json::to_string(position.heads())?;
        self.sql.run(
            "INSERT INTO log (first, count, at, tenant, teller, heads, bundles) \
             VALUES (CAST(? AS INTEGER), CAST(? AS INTEGER), CAST(? AS INTEGER), ?, ?, ?, ?)",
            &[
                self.position.next().into(),
                count.into(),
                now.0.into(),
                (&publish.tenant).into(),
                (&publish.publisher).into(),
                (&heads_text).into(),
                bundles.into(),
            ],
        )?;
        self.position = position;
        Ok(true)
    }

    /// Batches with events after `after`, oldest first.
    pub fn after(&self, after: Sequence, most: u64) -> Result<Vec<Batch>, Failure> {
        let rows = self.sql.rows(
            "SELECT first, tenant, teller, bundles FROM log WHERE first + count > CAST(?1 AS INTEGER) + 1 \
             AND first >= COALESCE((SELECT MAX(first) FROM log WHERE first <= CAST(?1 AS INTEGER) + 1), 0) \
             ORDER BY first LIMIT CAST(?2 AS INTEGER)",
            &[after.into(), most.into()],
        )?;
        rows.iter().map(batch).collect()
    }

    /// Batches with events after `after`, in stored form, as many as fit one message.
    pub fn page(&self, after: Sequence) -> Result<Page, Failure> {
        let rows = self.sql.rows(
            "SELECT first, tenant, teller, bundles, count FROM log WHERE first + count > CAST(?1 AS INTEGER) + 1 \
             AND first >= COALESCE((SELECT MAX(first) FROM log WHERE first <= CAST(?1 AS INTEGER) + 1), 0) \
             ORDER BY first LIMIT CAST(?2 AS INTEGER)",
            &[after.into(), PAGE_BATCHES.into()],
        )?;
        let (mut batches, mut bytes, mut last) = (Vec::new(), 0, self.last());
        for row in rows {
            if bytes > PAGE_BYTES {
                break;
            }
            let (first, text) = (row.sequence(0).unwrap_or_default(), row.text(3).unwrap_or_default());
            last = first.plus(row.integer(4).unwrap_or_default()).previous();
            bytes += text.len();
            batches.push(StoredBatch {
                first,
                tenant: tenant_in(&row),
                publisher: row.text(2).unwrap_or_default(),
                bundles: RawValue::from_string(text)?,
            });
        }
        let first_kept = self.first_kept()?.unwrap_or(self.next());
        Ok(Page { batches, first_kept, last })
    }

    /// The registered shards, and their tenant if there are any.
    pub fn shards(&self) -> Result<(Vec<ShardNumber>, Option<TenantId>), Failure> {
        let rows = self.sql.rows("SELECT number, tenant FROM shards", &[])?;
        let tenant = rows.first().map(tenant_in);
        let number = |row: &Row| ShardNumber::new(row.integer(0)?.try_into().ok()?);
        Ok((rows.iter().filter_map(number).collect(), tenant))
    }

    pub fn add_shard(&self, number: ShardNumber, tenant: &TenantId) -> Result<(), Failure> {
        self.sql.run(
            "INSERT OR IGNORE INTO shards (number, tenant) VALUES (CAST(? AS INTEGER), ?)",
            &[u64::from(number.get()).into(), tenant.into()],
        )
    }

    pub fn remove_shard(&self, number: ShardNumber) -> Result<(), Failure> {
        self.sql.run("DELETE FROM shards WHERE number = CAST(? AS INTEGER)", &[u64::from(number.get()).into()])
    }

    /// The sequence before the first event received at this time or later; `at` grows with `first`.
    pub fn before_time(&self, at: Timestamp) -> Result<Sequence, Failure> {
        let (mut low, mut high) = (self.first_kept()?.unwrap_or(self.next()), self.next());
        while low < high {
            let middle = low.midpoint(high);
            let row = self.sql.first(
                "SELECT first, count, at FROM log WHERE first <= CAST(? AS INTEGER) ORDER BY first DESC LIMIT 1",
                &[middle.into()],
            )?;
            let Some(row) = row else { break };
            let (first, count) = (row.sequence(0).unwrap_or_default(), row.integer(1).unwrap_or_default());
            if row.integer(2).unwrap_or_default() >= at.0 {
                high = first;
            } else {
                low = first.plus(count);
            }
        }
        Ok(low.previous())
    }

    pub fn first_kept(&self) -> Result<Option<Sequence>, Failure> {
        let row = self.sql.first("SELECT first FROM log ORDER BY first LIMIT 1", &[])?;
        Ok(row.and_then(|row| row.sequence(0)))
    }

    /// Deletes some of the events older than `before`; returns true if there may be more.
    pub fn delete_old(&self, before: Timestamp) -> Result<bool, Failure> {
        let newest = "SELECT MAX(first) FROM log";
        let newest = self.sql.first(newest, &[])?.and_then(|row| row.sequence(0)).unwrap_or_default();
        let deleted = self.sql.rows(
            "DELETE FROM log WHERE first IN (SELECT first FROM log WHERE at < CAST(? AS INTEGER) \
             AND first < CAST(? AS INTEGER) ORDER BY first LIMIT CAST(? AS INTEGER)) RETURNING 1",
            &[before.0.into(), newest.into(), ROWS_PER_DELETION.into()],
        )?;
        Ok(deleted.len() as u64 == ROWS_PER_DELETION)
    }

    pub fn oldest_at(&self) -> Result<Option<Timestamp>, Failure> {
        let row = self.sql.first("SELECT at FROM log ORDER BY first LIMIT 1", &[])?;
        Ok(row.and_then(|row| row.integer(0)).map(Timestamp))
    }

    pub fn set_alarm(&self, at: Timestamp) {
        self.sql.set_alarm(at);
    }

    pub fn store_ticket(&self, hash: &str, viewer: &str, until: Timestamp, now: Timestamp) -> Result<(), Failure> {
        self.sql.run("DELETE FROM tickets WHERE until < CAST(? AS INTEGER)", &[now.0.into()])?;
        self.sql.run(
            "INSERT INTO tickets (hash, viewer, until) VALUES (?, ?, CAST(? AS INTEGER))",
            &[hash.into(), viewer.into(), until.0.into()],
        )
    }

    pub fn delete_tickets(&self, principal: &PrincipalId) -> Result<(), Failure> {
        self.sql.run("DELETE FROM tickets WHERE json_extract(viewer, '$.principal') = ?", &[principal.into()])
    }

    /// There are few tickets: each lives for a minute.
    pub fn delete_tickets_of(&self, whose: impl Fn(&Viewer) -> bool) -> Result<(), Failure> {
        for row in self.sql.rows("SELECT hash, viewer FROM tickets", &[])? {
            let (hash, viewer) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            if serde_json::from_str(&viewer).is_ok_and(|viewer| whose(&viewer)) {
                self.sql.run("DELETE FROM tickets WHERE hash = ?", &[(&hash).into()])?;
            }
        }
        Ok(())
    }

    /// Removes a ticket, so that it cannot be used twice.
    pub fn redeem_ticket(&self, hash: &str, now: Timestamp) -> Result<Option<String>, Failure> {
        let row = self.sql.first("DELETE FROM tickets WHERE hash = ? RETURNING viewer, until", &[hash.into()])?;
        let live = row.filter(|row| row.integer(1).is_some_and(|until| until > now.0));
        Ok(live.and_then(|row| row.text(0)))
    }
}
