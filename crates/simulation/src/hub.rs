//! The event hub: what it appends is decided as by the real one, and kept in memory.

use std::collections::BTreeMap;

use narthex_core::events::bundle::{Bundle, EventKind, newer_than};

use crate::messages::Batch;

#[derive(Debug)]
pub struct Logged {
    pub number: u64,
    pub subject: String,
    pub is_progress: bool,
}

/// The log, apart for each teller; the sequence is the order of appending.
#[derive(Debug, Default)]
pub struct Hub {
    heads: BTreeMap<usize, u64>,
    pub log: BTreeMap<usize, Vec<Logged>>,
    pub repeats: u64,
}

impl Hub {
    pub fn head(&self, teller: usize) -> u64 {
        self.heads.get(&teller).copied().unwrap_or(0)
    }

    /// Takes in a batch; gives the last number known then.
    pub fn publish(&mut self, teller: usize, batch: &Batch) -> Result<u64, String> {
        let known = self.head(teller);
        if batch.last <= known {
            self.repeats += 1;
            return Ok(known);
        }
        let told: Vec<Bundle> = serde_json::from_str(&batch.bundles).map_err(|error| error.to_string())?;
        let numbers: Vec<u64> = told.iter().flat_map(|bundle| bundle.items.iter().map(|item| item.number)).collect();
        if numbers.len() as u64 != batch.count
            || numbers.first() != Some(&batch.first)
            || numbers.last() != Some(&batch.last)
        {
            return Err(format!("a batch does not hold what it says: {numbers:?}"));
        }
        let log = self.log.entry(teller).or_default();
        for bundle in newer_than(told, known) {
            for item in bundle.items {
                if log.last().is_some_and(|last| last.number >= item.number) {
                    return Err(format!("event {} of store {teller} comes after a larger number", item.number));
                }
                let is_progress = matches!(item.kind, EventKind::Progress { .. });
                log.push(Logged { number: item.number, subject: bundle.subject.clone(), is_progress });
            }
        }
        self.heads.insert(teller, batch.last);
        Ok(batch.last)
    }
}
