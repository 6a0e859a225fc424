//! Usage: contexts, their outcomes and durations, counted from events and added up by hour.
//!
//! The hub keeps the figures (`src/objects/events/usage.rs`), and the gateway serves them.

pub mod data_point;
pub mod histogram;
pub mod metrics;
pub mod rejection_counter;

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

    fn add(&mut self, other: &Self) {
        let Self { input, cached_input, cache_write, output, reasoning } = self;
        for (to, from) in [
            (input, other.input),
            (cached_input, other.cached_input),
            (cache_write, other.cache_write),
            (output, other.output),
            (reasoning, other.reasoning),
        ] {
            *to = to.saturating_add(from);
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
    fn add(&mut self, other: &Self) {
        self.amount = self.amount.plus(other.amount);
        self.estimated = self.estimated.plus(other.estimated);
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
    /// From the start of the first attempt to the end of the context.
    pub latency: Histogram,
    /// From the creation to the start of the first attempt.
    pub queue: Histogram,
}

impl UsageCounts {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.created, other.created),
            (&mut self.completed, other.completed),
            (&mut self.failed, other.failed),
            (&mut self.cancelled, other.cancelled),
            (&mut self.timed_out, other.timed_out),
            (&mut self.attempts, other.attempts),
            (&mut self.failed_attempts, other.failed_attempts),
        ] {
            *to += from;
        }
        for (to, from) in [(&mut self.errors, &other.errors), (&mut self.attempt_errors, &other.attempt_errors)] {
            for (code, count) in from {
                *to.entry(code.clone()).or_default() += count;
            }
        }
        self.tokens.add(&other.tokens);
        for (currency, sum) in &other.spend {
            self.spend.entry(currency.clone()).or_default().add(sum);
        }
        self.latency.add(&other.latency);
        self.queue.add(&other.queue);
    }

    fn count_spent(&mut self, spent: &Spent) {
        self.tokens.add(&(&spent.usage).into());
        for Cost { amount, currency, estimated } in spent.costs() {
            let estimated = if *estimated { *amount } else { Money::default() };
            self.spend.entry(currency.clone()).or_default().add(&SpendSum { amount: *amount, estimated });
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

/// Counts the events of one context.
pub fn count(bundle: &Bundle, into: &mut BTreeMap<UsageKey, UsageCounts>) {
    let Some(id) = ContextId::parse(&bundle.subject) else { return };
    for item in &bundle.items {
        let key = UsageKey {
            hour: item.at.0 / HOUR_MS * HOUR_MS,
            service: bundle.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            capability: bundle.capability.clone().unwrap_or_default(),
            principal: bundle.owner.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        match &item.kind {
            EventKind::Status(Status::Created) => into.entry(key).or_default().created += 1,
            EventKind::Attempt(attempt) => {
                let counts = into.entry(key).or_default();
                counts.attempts += 1;
                let good = matches!(attempt.outcome, AttemptOutcome::Succeeded | AttemptOutcome::InputRequired);
                counts.failed_attempts += u64::from(!good);
                if let Some(code) = attempt.code {
                    *counts.attempt_errors.entry(code.as_str().into()).or_default() += 1;
                }
            }
            EventKind::Ended { status, error, execution_time_ms, spent, .. } => {
                let counts = into.entry(key).or_default();
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
