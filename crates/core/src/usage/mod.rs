//! Usage: contexts, their outcomes and durations, counted from events and added up by hour.
//!
//! The hub keeps the figures (`src/objects/events/usage.rs`), and the gateway serves them.

pub mod data_point;
pub mod histogram;
pub mod metrics;
pub mod rejection_counter;
pub mod row;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::ContextId;
use crate::context::AttemptOutcome;
use crate::context::status::Status;
use crate::events::bundle::{Bundle, EventKind};
use crate::models::money::Money;
use crate::models::price::Cost;
use crate::models::spent::Spent;
use crate::models::token_usage::TokenUsage;
use histogram::Histogram;

/// One hour, in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// Rows and object requests of a context that is waited for, and of each further attempt.
const ROWS: u64 = 2;
const REQUESTS: u64 = 2;
const ROWS_OF_ATTEMPT: u64 = 2;
const REQUESTS_OF_ATTEMPT: u64 = 1;
/// Dollars per million.
const USD_PER_MILLION_ROWS: f64 = 1.0;
const USD_PER_MILLION_REQUESTS: f64 = 0.15;

/// What is counted together. A text is empty if the counts are not grouped by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// When the hour began, in milliseconds.
    pub hour: u64,
    pub service: String,
    pub capability: String,
    pub principal: String,
    /// The role of the principal when the context was created.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The model, under the name that it is counted by; `*` for all others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
}

/// Tokens of models. Cached and cache-writing ones are parts of the input, reasoning is a part of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TokenCounts {
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl TokenCounts {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn each(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        let Self { input, cached_input, cache_write, output, reasoning } = self;
        for (to, from) in [
            (input, other.input),
            (cached_input, other.cached_input),
            (cache_write, other.cache_write),
            (output, other.output),
            (reasoning, other.reasoning),
        ] {
            *to = change(*to, from);
        }
    }
}

impl From<&TokenUsage> for TokenCounts {
    fn from(usage: &TokenUsage) -> Self {
        Self {
            input: usage.input_tokens,
            cached_input: usage.cached_input_tokens,
            cache_write: usage.cache_write_tokens,
            output: usage.output_tokens,
            reasoning: usage.reasoning_tokens,
        }
    }
}

/// An amount of money of which a part may be estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpendSum {
    pub amount: Money,
    /// The part of it that is estimated.
    pub estimated: Money,
}

impl SpendSum {
    fn each(&mut self, other: &Self, change: impl Fn(u64, u64) -> u64) {
        self.amount = Money(change(self.amount.0, other.amount.0));
        self.estimated = Money(change(self.estimated.0, other.estimated.0));
    }
}

/// The counts of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageCounts {
    pub created: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub timed_out: u64,
    pub attempts: u64,
    pub failed_attempts: u64,
    /// Contexts and attempts that ended with an error, by code: as text, so that a version that does not know a code
    /// keeps it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attempt_errors: BTreeMap<String, u64>,
    /// The tokens of models.
    #[serde(skip_serializing_if = "TokenCounts::is_zero")]
    pub tokens: TokenCounts,
    /// What was spent, by currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spend: BTreeMap<String, SpendSum>,
    /// Whether this was counted by a version that counts tokens and spend.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub counts_spend: bool,
    /// From the start of the first attempt to the end of the context.
    pub latency: Histogram,
    /// From the creation to the start of the first attempt.
    pub queue: Histogram,
}

impl UsageCounts {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: &Self) {
        self.each(other, u64::saturating_add);
        self.counts_spend |= other.counts_spend;
        self.latency.add(&other.latency);
        self.queue.add(&other.queue);
    }

    /// Takes the counts of a part away. What the part has more of is 0 then.
    fn subtract(&mut self, part: &Self) {
        self.each(part, u64::saturating_sub);
        for counts in [&mut self.errors, &mut self.attempt_errors] {
            counts.retain(|_, count| *count > 0);
        }
        self.spend.retain(|_, sum| *sum != SpendSum::default());
        self.latency.subtract(&part.latency);
        self.queue.subtract(&part.queue);
    }

    /// Changes each number by that of another part.
    fn each(&mut self, other: &Self, change: fn(u64, u64) -> u64) {
        for (to, from) in [
            (&mut self.created, other.created),
            (&mut self.completed, other.completed),
            (&mut self.failed, other.failed),
            (&mut self.cancelled, other.cancelled),
            (&mut self.timed_out, other.timed_out),
            (&mut self.attempts, other.attempts),
            (&mut self.failed_attempts, other.failed_attempts),
        ] {
            *to = change(*to, from);
        }
        for (to, from) in [(&mut self.errors, &other.errors), (&mut self.attempt_errors, &other.attempt_errors)] {
            for (code, count) in from {
                let to = to.entry(code.clone()).or_default();
                *to = change(*to, *count);
            }
        }
        self.tokens.each(&other.tokens, change);
        for (currency, sum) in &other.spend {
            self.spend.entry(currency.clone()).or_default().each(sum, change);
        }
    }

    /// Only what models used, and what was spent.
    pub fn of_models(&self) -> Self {
        let Self { tokens, spend, counts_spend, .. } = self;
        Self { tokens: *tokens, spend: spend.clone(), counts_spend: *counts_spend, ..Self::default() }
    }

    fn count_spent(&mut self, spent: &Spent) {
        self.tokens.each(&(&spent.usage).into(), u64::saturating_add);
        for Cost { amount, currency, estimated } in spent.costs() {
            let estimated = if *estimated { *amount } else { Money::default() };
            self.spend
                .entry(currency.clone())
                .or_default()
                .each(&SpendSum { amount: *amount, estimated }, u64::saturating_add);
        }
    }

    /// Contexts that have ended.
    pub fn ended(&self) -> u64 {
        self.completed + self.failed + self.cancelled + self.timed_out
    }

    /// The cost of a context includes its first attempt; only further ones are added.
    fn further_attempts(&self) -> u64 {
        self.attempts.saturating_sub(self.ended())
    }

    /// Estimated rows written to Durable Object storage.
    pub fn rows_written(&self) -> u64 {
        ROWS * self.created + ROWS_OF_ATTEMPT * self.further_attempts()
    }

    /// Estimated requests to Durable Objects.
    pub fn object_requests(&self) -> u64 {
        REQUESTS * self.created + REQUESTS_OF_ATTEMPT * self.further_attempts()
    }

    /// Estimated cost in US dollars.
    pub fn usd(&self) -> f64 {
        let (rows, requests) = (self.rows_written() as f64, self.object_requests() as f64);
        (rows * USD_PER_MILLION_ROWS + requests * USD_PER_MILLION_REQUESTS) / 1_000_000.0
    }
}

fn counts_of(into: &mut BTreeMap<UsageKey, UsageCounts>, key: UsageKey) -> &mut UsageCounts {
    let counts = into.entry(key).or_default();
    counts.counts_spend = true;
    counts
}

/// Counts the events of one context.
pub fn count(bundle: &Bundle, into: &mut BTreeMap<UsageKey, UsageCounts>) {
    let Some(id) = ContextId::parse(&bundle.subject) else { return };
    for item in &bundle.items {
        let key = UsageKey {
            hour: item.at.0 / HOUR_MS * HOUR_MS,
            service: bundle.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            capability: bundle.capability.clone().unwrap_or_default(),
            principal: bundle.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
            role: bundle.role.clone().unwrap_or_default(),
            model: bundle.model.clone().unwrap_or_default(),
        };
        match &item.kind {
            EventKind::Status(Status::Created) => counts_of(into, key).created += 1,
            EventKind::Attempt(attempt) => {
                let counts = counts_of(into, key);
                counts.attempts += 1;
                let good = matches!(attempt.outcome, AttemptOutcome::Succeeded | AttemptOutcome::InputRequired);
                counts.failed_attempts += u64::from(!good);
                if let Some(code) = attempt.code {
                    *counts.attempt_errors.entry(code.as_str().into()).or_default() += 1;
                }
            }
            EventKind::Ended { status, error, execution_time_ms, spent, .. } => {
                let counts = counts_of(into, key);
                if let Some(spent) = spent {
                    counts.count_spent(spent);
                }
                match status {
                    Status::Completed => counts.completed += 1,
                    Status::Failed => counts.failed += 1,
                    Status::Cancelled => counts.cancelled += 1,
                    Status::TimedOut => counts.timed_out += 1,
                    _ => {}
                }
                if let Some(error) = error {
                    *counts.errors.entry(error.code.as_str().into()).or_default() += 1;
                }
                if let Some(ms) = execution_time_ms {
                    counts.latency.count(*ms);
                    counts.queue.count(item.at.since(id.created_at()).saturating_sub(*ms));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{Region, StoreId};
    use crate::base::principal_id::PrincipalId;
    use crate::base::time::Timestamp;
    use crate::events::bundle::Item;

    #[test]
    fn a_context_is_counted_once_in_the_hours_in_which_things_happened() {
        let store = StoreId { region: Region::Eu, shard: 0 };
        let created = 10 * HOUR_MS - 500;
        let item = |number, at, kind| Item { number, at: Timestamp(at), kind };
        let ended = EventKind::Ended {
            spent: None,
            status: Status::Completed,
            result: None,
            linked: false,
            error: None,
            execution_time_ms: Some(600),
            attempts: 1,
        };
        let bundle = Bundle {
            subject: ContextId::new(store, Timestamp(created), [0; 10]).to_string(),
            owner: Some(PrincipalId::of_key("me")),
            owner_name: None,
            replay_of: None,
            capability: Some("chat".into()),
            service: Some("llm".into()),
            trace: None,
            role: Some("caller".into()),
            model: Some("*".into()),
            previous_number: None,
            items: vec![
                item(1, created, EventKind::Status(Status::Created)),
                item(2, created, EventKind::Status(Status::Queued)),
                item(3, created + 1_000, ended),
            ],
        };
        let mut counts = BTreeMap::new();
        count(&bundle, &mut counts);
        assert_eq!(counts.keys().map(|key| key.hour).collect::<Vec<_>>(), [9 * HOUR_MS, 10 * HOUR_MS]);
        assert!(counts.keys().all(|key| (key.role.as_str(), key.model.as_str()) == ("caller", "*")));
        let mut sum = UsageCounts::default();
        counts.values().for_each(|one| sum.add(one));
        assert_eq!((sum.created, sum.completed, sum.ended()), (1, 1, 1));
        assert_eq!((sum.latency.sum_ms(), sum.queue.sum_ms()), (600, 400));
        assert_eq!((sum.rows_written(), sum.object_requests()), (2, 2));
        let mut none = BTreeMap::new();
        count(&Bundle { subject: "llm".into(), ..bundle }, &mut none);
        assert!(none.is_empty(), "services are no contexts");
    }
}
