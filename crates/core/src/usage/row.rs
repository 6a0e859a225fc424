//! What one row of the stored usage has: the counts of an hour, a service, a capability and a principal, and how they
//! divide by role and model.
//!
//! The counts of a row are those of all its contexts. Its parts are stored beside them, so that a version that does not
//! know them counts on without them; what it counts has no role and no model, as what was counted before there were
//! any. Models are named by clients, so the parts of a row are bounded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{UsageCounts, UsageKey};
use crate::models::offer::ANY;

/// The most parts of a row that have their own names. Up to as many again have the own role only, and one has neither.
pub const MAX_NAMED_PARTS: usize = 50;
/// The hour of totals.
pub const TOTAL: u64 = 0;

/// The counts of one role and one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    role: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    model: String,
    counts: UsageCounts,
}

/// A row of the stored usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageRow {
    pub counts: UsageCounts,
    pub parts: Vec<Part>,
}

impl UsageRow {
    /// Adds counts of a role and a model.
    pub fn add(&mut self, role: &str, model: &str, more: &UsageCounts) {
        self.counts.add(more);
        self.add_part(role, model, more);
    }

    fn add_part(&mut self, role: &str, model: &str, more: &UsageCounts) {
        let count = self.parts.len();
        let is_known = |role: &str, model: &str| self.parts.iter().any(|part| part.role == role && part.model == model);
        let (role, model) = match (is_known(role, model) || count < MAX_NAMED_PARTS, count < 2 * MAX_NAMED_PARTS) {
            (true, _) => (role, model),
            (false, true) => (role, ANY),
            (false, false) if is_known(role, ANY) => (role, ANY),
            (false, false) => (ANY, ANY),
        };
        match self.parts.iter_mut().find(|part| part.role == role && part.model == model) {
            Some(part) => part.counts.add(more),
            None => self.parts.push(Part { role: role.into(), model: model.into(), counts: more.clone() }),
        }
    }

    /// Adds another row.
    pub fn merge(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for Part { role, model, counts } in &other.parts {
            self.add_part(role, model, counts);
        }
    }

    /// The counts by role and model; those of neither are what the parts leave.
    pub fn divided(self) -> impl Iterator<Item = (String, String, UsageCounts)> {
        let mut rest = self.counts;
        self.parts.iter().for_each(|part| rest.subtract(&part.counts));
        rest.counts_spend = false;
        let rest = (rest != UsageCounts::default()).then(|| (String::new(), String::new(), rest));
        self.parts.into_iter().map(|Part { role, model, counts }| (role, model, counts)).chain(rest)
    }
}

/// What changes in the stored rows by counts of this key's parts: in those of their hours, and in the totals, which
/// have tokens and spend by model.
pub fn rows_of(counts: BTreeMap<UsageKey, UsageCounts>) -> BTreeMap<UsageKey, UsageRow> {
    let mut rows: BTreeMap<UsageKey, UsageRow> = BTreeMap::new();
    for (mut key, counts) in counts {
        let (role, model) = (std::mem::take(&mut key.role), std::mem::take(&mut key.model));
        let total = UsageKey { hour: TOTAL, principal: String::new(), ..key.clone() };
        rows.entry(key).or_default().add(&role, &model, &counts);
        let row = rows.entry(total).or_default();
        row.counts.add(&counts);
        row.add_part("", &model, &counts.of_models());
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SpendSum;
    use super::*;
    use crate::models::money::Money;

    fn spent(amount: u64) -> UsageCounts {
        let mut counts = UsageCounts { created: 1, counts_spend: true, ..UsageCounts::default() };
        counts.tokens.input = amount;
        counts.spend.insert("USD".into(), SpendSum { amount: Money(amount), estimated: Money(amount / 2) });
        counts.latency.count(amount);
        counts
    }

    fn sum(row: UsageRow) -> UsageCounts {
        let mut sum = UsageCounts::default();
        row.divided().for_each(|(_, _, counts)| sum.add(&counts));
        sum
    }

    #[test]
    fn what_an_earlier_version_counts_has_no_role_and_no_model() {
        let mut row = UsageRow::default();
        row.add("caller", "gpt", &spent(5));
        // It knows neither parts nor flags.
        row.counts.add(&UsageCounts { counts_spend: false, ..spent(7) });
        row.add("caller", "gpt", &spent(11));
        let parts: Vec<_> = row.divided().collect();
        assert_eq!(
            parts[0],
            ("caller".into(), "gpt".into(), {
                let mut two = spent(5);
                two.add(&spent(11));
                two
            })
        );
        assert_eq!(parts[1], (String::new(), String::new(), UsageCounts { counts_spend: false, ..spent(7) }));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn tokens_that_an_earlier_version_dropped_are_still_in_the_parts() {
        let mut row = UsageRow::default();
        row.add("caller", "gpt", &spent(5));
        row.counts.tokens = Default::default();
        row.counts.spend.clear();
        assert_eq!(sum(row), spent(5));
    }

    #[test]
    fn totals_have_tokens_and_spend_by_model_only() {
        let key = |hour, principal: &str, role: &str| UsageKey {
            hour,
            service: "llm".into(),
            principal: principal.into(),
            role: role.into(),
            model: "gpt".into(),
            ..UsageKey::default()
        };
        let counts = [(key(1, "a", "x"), spent(1)), (key(1, "b", "y"), spent(2)), (key(2, "a", "x"), spent(4))];
        let rows = rows_of(counts.into_iter().collect());
        assert_eq!(rows.len(), 4);
        let total = rows.values().next().unwrap();
        assert_eq!((total.counts.created, total.parts.len()), (3, 1));
        let part = &total.parts[0];
        assert_eq!((part.role.as_str(), part.counts.tokens.input, part.counts.created), ("", 7, 0));
    }

    proptest! {
        #[test]
        fn parts_are_bounded_and_nothing_is_lost(
            all in prop::collection::vec((0u8..8, 0u8..200, 0u64..1 << 30, any::<bool>()), 0..400)
        ) {
            let (mut row, mut whole) = (UsageRow::default(), UsageCounts::default());
            for (role, model, amount, is_known) in all {
                let more = spent(amount);
                whole.add(&more);
                match is_known {
                    true => row.add(&role.to_string(), &model.to_string(), &more),
                    false => row.counts.add(&more),
                }
            }
            prop_assert!(row.parts.len() <= 2 * MAX_NAMED_PARTS + 1);
            let stored: Vec<Part> = serde_json::from_str(&serde_json::to_string(&row.parts).unwrap()).unwrap();
            prop_assert_eq!(&stored, &row.parts);
            let divided = sum(row);
            prop_assert_eq!(UsageCounts { counts_spend: true, ..divided }, UsageCounts { counts_spend: true, ..whole });
        }
    }
}
