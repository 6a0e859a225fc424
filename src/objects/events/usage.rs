//! Usage, counted from the log, so that it costs a context no message, row or time. The counts and the position up to
//! which they go are written in one transaction, so that nothing is counted twice or left out after a crash.

use std::collections::BTreeMap;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::{Row, Sql};
use crate::platform::{dataset, log_event};
use narthex_core::base::order;
use narthex_core::base::time::Timestamp;
use narthex_core::events::sequence::Sequence;
use narthex_core::usage::data_point::data_point;
use narthex_core::usage::row::{UsageRow, rows_of};
use narthex_core::usage::{HOUR_MS, UsageCounts, UsageKey, count};

use super::Hub;
use super::log::Log;
use super::messages::UsageQuery;

const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS usage (hour INTEGER NOT NULL, service TEXT NOT NULL, capability TEXT NOT NULL, \
     principal TEXT NOT NULL, counts TEXT NOT NULL, parts TEXT NOT NULL DEFAULT '[]', \
     PRIMARY KEY (hour, service, capability, principal)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counted (one INTEGER PRIMARY KEY CHECK (one = 1), upto INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS refused (code TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];
/// For a table that an earlier version created. What it writes leaves the column as it is.
const ADD_PARTS: &str = "ALTER TABLE usage ADD COLUMN parts TEXT NOT NULL DEFAULT '[]'";
/// Batches of the log counted in one transaction.
const BATCHES_PER_COUNT: u64 = 200;
/// Usage is counted at least this often, in milliseconds, and before every query.
pub const COUNT_INTERVAL_MS: u64 = 600_000;
/// Retention of hourly usage, in milliseconds; totals are kept for good.
const HOURS_RETENTION_MS: u64 = 92 * 24 * HOUR_MS;
/// Groups returned at most.
const MAX_GROUPS: usize = 1_000;

/// Data points that one invocation may write.
const MAX_POINTS: usize = 250;

/// Counts with their keys.
type KeyedCounts = Vec<(UsageKey, UsageCounts)>;

pub struct Usage(Sql);

/// The counts and the parts in two columns.
fn read(row: &Row, at: u32) -> Result<UsageRow, Failure> {
    let text = |at| row.text(at).unwrap_or_default();
    Ok(UsageRow { counts: serde_json::from_str(&text(at))?, parts: serde_json::from_str(&text(at + 1))? })
}

impl Usage {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Events);
        for statement in CREATE {
            sql.run(statement, &[])?;
        }
        let created = sql.first("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'usage'", &[])?;
        if !created.and_then(|row| row.text(0)).is_some_and(|text| text.contains("parts")) {
            sql.run(ADD_PARTS, &[])?;
        }
        Ok(Self(sql))
    }

    /// Counts the events logged since the last time.
    pub fn catch_up(&self, log: &Log) -> Result<(), Failure> {
        let upto = "SELECT upto FROM counted";
        let mut counted = self.0.first(upto, &[])?.and_then(|row| row.sequence(0)).unwrap_or_default();
        while counted.next() < log.next() {
            let batches = log.after(counted, BATCHES_PER_COUNT)?;
            let mut counts: BTreeMap<UsageKey, UsageCounts> = BTreeMap::new();
            let Some(last) = batches.last().and_then(|batch| batch.events().last().map(|(at, ..)| at)) else { break };
            for batch in &batches {
                let mut sequence = batch.first;
                for bundle in &batch.bundles {
                    // A batch is counted as a whole because it was logged as a whole.
                    if sequence > counted {
                        count(bundle, &mut counts);
                    }
                    sequence = sequence.plus(bundle.items.len() as u64);
                }
            }
            let rows = rows_of(counts);
            self.0.transaction(|| {
                for (key, added) in &rows {
                    self.add(key, added)?;
                }
                self.0.run(
                    "INSERT INTO counted (one, upto) VALUES (1, CAST(? AS INTEGER)) \
                     ON CONFLICT (one) DO UPDATE SET upto = excluded.upto",
                    &[last.into()],
                )
            })?;
            counted = last;
        }
        Ok(())
    }

    fn add(&self, key: &UsageKey, more: &UsageRow) -> Result<(), Failure> {
        let place = [key.hour.into(), (&key.service).into(), (&key.capability).into(), (&key.principal).into()];
        let known = self.0.first(
            "SELECT counts, parts FROM usage WHERE hour = CAST(? AS INTEGER) AND service = ? AND capability = ? \
             AND principal = ?",
            &place,
        )?;
        let mut usage = known.map(|row| read(&row, 0)).transpose()?.unwrap_or_default();
        usage.merge(more);
        let [hour, service, capability, principal] = place;
        let (counts, parts) = (serde_json::to_string(&usage.counts)?, serde_json::to_string(&usage.parts)?);
        self.0.run(
            "INSERT INTO usage (hour, service, capability, principal, counts, parts) \
             VALUES (CAST(? AS INTEGER), ?, ?, ?, ?, ?) ON CONFLICT (hour, service, capability, principal) \
             DO UPDATE SET counts = excluded.counts, parts = excluded.parts",
            &[hour, service, capability, principal, (&counts).into(), (&parts).into()],
        )
    }

    /// Usage in a span of time, in the requested groups; `None` if there are too many.
    pub fn grouped(&self, query: &UsageQuery) -> Result<Option<Vec<(UsageKey, UsageCounts)>>, Failure> {
        let rows = self.0.rows(
            "SELECT hour, service, capability, principal, counts, parts FROM usage \
             WHERE hour >= CAST(? AS INTEGER) AND hour < CAST(? AS INTEGER)",
            &[query.from.0.max(1).into(), query.until.0.into()],
        )?;
        let mut groups: BTreeMap<UsageKey, UsageCounts> = BTreeMap::new();
        for row in rows {
            let text = |at| row.text(at).unwrap_or_default();
            let hour = row.integer(0).unwrap_or_default();
            for (role, model, counts) in read(&row, 4)?.divided() {
                let (service, capability, principal) = (text(1), text(2), text(3));
                let key = UsageKey { hour, service, capability, principal, role, model };
                groups.entry(query.group_of(key)).or_default().add(&counts);
            }
            if groups.len() > MAX_GROUPS {
                return Ok(None);
            }
        }
        Ok(Some(groups.into_iter().collect()))
    }

    /// Usage since the tenant was created: by service and capability, and tokens and spend also by model.
    pub fn totals(&self) -> Result<(KeyedCounts, KeyedCounts), Failure> {
        let (mut all, mut by_model) = (Vec::new(), Vec::new());
        for row in self.0.rows("SELECT service, capability, counts, parts FROM usage WHERE hour = 0", &[])? {
            let (service, capability) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            let (key, usage) = (UsageKey { service, capability, ..UsageKey::default() }, read(&row, 2)?);
            all.push((key.clone(), usage.counts.clone()));
            let parts =
                usage.divided().map(|(_, model, counts)| (UsageKey { model, ..key.clone() }, counts.of_models()));
            by_model.extend(parts);
        }
        Ok((all, by_model))
    }

    /// Rejected requests since the tenant was created, by code.
    pub fn refused(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let rows = self.0.rows("SELECT code, count FROM refused", &[])?;
        let counts = rows.iter().map(|row| (row.text(0).unwrap_or_default(), row.integer(1).unwrap_or_default()));
        Ok(order::insert_all(counts))
    }

    pub fn count_refused(&self, codes: &BTreeMap<String, u64>) -> Result<(), Failure> {
        self.0.transaction(|| {
            for (code, count) in codes {
                self.0.run(
                    "INSERT INTO refused (code, count) VALUES (?, CAST(? AS INTEGER)) \
                     ON CONFLICT (code) DO UPDATE SET count = count + excluded.count",
                    &[code.into(), (*count).into()],
                )?;
            }
            Ok(())
        })
    }

    /// Deletes expired hours.
    pub fn delete_old(&self, now: Timestamp) -> Result<(), Failure> {
        let before = now.0.saturating_sub(HOURS_RETENTION_MS);
        self.0.run("DELETE FROM usage WHERE hour > 0 AND hour < CAST(? AS INTEGER)", &[before.into()])
    }
}

impl Hub {
    /// Writes contexts that ended in the events just logged to the deployment's dataset, if it has one. This is best
    /// effort: the log remains complete, so points that cannot be written are dropped.
    pub(super) fn write_points(&self, from: Sequence) {
        if !dataset::is_bound() {
            return;
        }
        let Ok(batches) = self.log.borrow().after(from.previous(), 1) else { return };
        let mut points = Vec::new();
        for batch in &batches {
            points.extend(batch.events().filter_map(|(_, bundle, item, _)| data_point(&batch.tenant, bundle, item)));
        }
        let left_out = points.len().saturating_sub(MAX_POINTS);
        points.truncate(MAX_POINTS);
        if points.is_empty() {
            return;
        }
        let written = serde_json::to_string(&points).map_err(Failure::from).and_then(|text| dataset::write(&text));
        if left_out > 0 || written.is_err() {
            let detail = written.err().map(|failure| failure.0).unwrap_or_default();
            let tenant = batches.first().map(|batch| &batch.tenant);
            log_event!(UsageLeftOut, tenant = tenant, count = left_out, detail = detail);
        }
    }
}
