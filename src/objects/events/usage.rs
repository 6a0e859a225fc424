//! Usage, counted from the log, so that it costs a context no message, row or time. The counts and the position up to
//! which they go are written in one transaction, so that nothing is counted twice or left out after a crash.

use std::collections::BTreeMap;

use crate::platform::Failure;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use crate::platform::{dataset, log_event};
use narthex_core::base::order;
use narthex_core::base::time::Timestamp;
use narthex_core::events::sequence::Sequence;
use narthex_core::usage::data_point::data_point;
use narthex_core::usage::{HOUR_MS, UsageCounts, UsageKey, count};

use super::Hub;
use super::log::Log;
use super::messages::UsageQuery;

const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS usage (hour INTEGER NOT NULL, service TEXT NOT NULL, capability TEXT NOT NULL, \
     principal TEXT NOT NULL, counts TEXT NOT NULL, PRIMARY KEY (hour, service, capability, principal)) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counted (one INTEGER PRIMARY KEY CHECK (one = 1), upto INTEGER NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS refused (code TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID",
];
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

/// The key of the totals.
const TOTAL: u64 = 0;

pub struct Usage(Sql);

impl Usage {
    pub fn open(state: &wasm_bindgen::JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Events);
        for statement in CREATE {
            sql.run(statement, &[])?;
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
            self.0.transaction(|| {
                for (key, added) in &counts {
                    self.add(key, added)?;
                    self.add(&UsageKey { hour: TOTAL, principal: String::new(), ..key.clone() }, added)?;
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

    fn add(&self, key: &UsageKey, more: &UsageCounts) -> Result<(), Failure> {
        let place = [key.hour.into(), (&key.service).into(), (&key.capability).into(), (&key.principal).into()];
        let known = self.0.first(
            "SELECT counts FROM usage WHERE hour = CAST(? AS INTEGER) AND service = ? AND capability = ? \
             AND principal = ?",
            &place,
        )?;
        let mut counts: UsageCounts = match known.and_then(|row| row.text(0)) {
            Some(text) => serde_json::from_str(&text)?,
            None => UsageCounts::default(),
        };
        counts.add(more);
        let [hour, service, capability, principal] = place;
        self.0.run(
            "INSERT INTO usage (hour, service, capability, principal, counts) \
             VALUES (CAST(? AS INTEGER), ?, ?, ?, ?) \
             ON CONFLICT (hour, service, capability, principal) DO UPDATE SET counts = excluded.counts",
            &[hour, service, capability, principal, (&serde_json::to_string(&counts)?).into()],
        )
    }

    /// Usage in a span of time, in the requested groups; `None` if there are too many.
    pub fn grouped(&self, query: &UsageQuery) -> Result<Option<Vec<(UsageKey, UsageCounts)>>, Failure> {
        let rows = self.0.rows(
            "SELECT hour, service, capability, principal, counts FROM usage \
             WHERE hour >= CAST(? AS INTEGER) AND hour < CAST(? AS INTEGER)",
            &[query.from.0.max(1).into(), query.until.0.into()],
        )?;
        let mut groups: BTreeMap<UsageKey, UsageCounts> = BTreeMap::new();
        for row in rows {
            let text = |at, is_grouped: bool| if is_grouped { row.text(at).unwrap_or_default() } else { String::new() };
            let hour = row.integer(0).unwrap_or_default();
            let key = UsageKey {
                hour: query.bucket_ms.map_or(0, |bucket| hour / bucket.max(1) * bucket),
                service: text(1, query.by_service),
                capability: text(2, query.by_capability),
                principal: text(3, query.by_principal),
            };
            let counts: UsageCounts = serde_json::from_str(&row.text(4).unwrap_or_default())?;
            groups.entry(key).or_default().add(&counts);
            if groups.len() > MAX_GROUPS {
                return Ok(None);
            }
        }
        Ok(Some(groups.into_iter().collect()))
    }

    /// Usage since the tenant was created, by service and capability.
    pub fn totals(&self) -> Result<Vec<(UsageKey, UsageCounts)>, Failure> {
        let rows = self.0.rows("SELECT service, capability, counts FROM usage WHERE hour = 0", &[])?;
        let total = |row: &crate::platform::sql::Row| {
            let (service, capability) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
            let counts = serde_json::from_str(&row.text(2).unwrap_or_default())?;
            Ok((UsageKey { service, capability, ..UsageKey::default() }, counts))
        };
        rows.iter().map(total).collect()
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
