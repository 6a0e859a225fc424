//! The event hub: it decides like the real one what to append, and keeps the log in memory.

use std::collections::BTreeMap;

use narthex_core::events::bundle::{Bundle, EventKind, newer_than};

use crate::messages::Batch;

#[derive(Debug)]
pub struct LoggedEvent {
    pub number: u64,
    pub subject: String,
    pub is_progress: bool,
}

/// The log, separate for each source; the sequence is the order of appending.
#[derive(Debug, Default)]
pub struct Hub {
    heads: BTreeMap<usize, u64>,
    pub log: BTreeMap<usize, Vec<LoggedEvent>>,
    pub repeats: u64,
}

impl Hub {
    pub fn head(&self, source: usize) -> u64 {
        self.heads.get(&source).copied().unwrap_or(0)
    }

    /// Appends a batch. Returns the last known number.
    pub fn publish(&mut self, source: usize, batch: &Batch) -> Result<u64, String> {
        let known = self.head(source);
        if batch.last <= known {
            self.repeats += 1;
            return Ok(known);
        }
        let bundles: Vec<Bundle> = serde_json::from_str(&batch.bundles).map_err(|error| error.to_string())?;
        let numbers: Vec<u64> = bundles.iter().flat_map(|bundle| bundle.items.iter().map(|item| item.number)).collect();
        if numbers.len() as u64 != batch.count
            || numbers.first() != Some(&batch.first)
            || numbers.last() != Some(&batch.last)
        {
            return Err(format!("a batch does not match its numbers: {numbers:?}"));
        }
        let log = self.log.entry(source).or_default();
        for bundle in newer_than(bundles, known) {
            for item in bundle.items {
                if log.last().is_some_and(|last| last.number >= item.number) {
                    return Err(format!("event {} of store {source} comes after a larger number", item.number));
                }
                let is_progress = matches!(item.kind, EventKind::Progress { .. });
                log.push(LoggedEvent { number: item.number, subject: bundle.subject.clone(), is_progress });
            }
        }
        self.heads.insert(source, batch.last);
        Ok(batch.last)
    }
}
