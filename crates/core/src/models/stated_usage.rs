//! What a service states that a call used and cost: the member `usage` of its response.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::money::Money;
use super::price::{Cost, read_money};
use super::spent::Spent;
use super::token_usage::TokenUsage;
use crate::base::json::{Fault, Object};

/// The most tokens of a kind that one call may state.
const MAX_TOKENS: u64 = 1_000_000_000_000;
const MEMBERS: [&str; 7] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated",
    "cost",
];

/// What a service states about a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedUsage {
    #[serde(flatten)]
    tokens: TokenUsage,
    /// In the currency of the capability's price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<Money>,
}

impl StatedUsage {
    /// Reads a `usage` that has known members only.
    ///
    /// # Errors
    /// All its faults, with pointers below `pointer`.
    pub fn read(raw: &RawValue, pointer: &str) -> Result<Self, Vec<Fault>> {
        let mut usage = Object::new(raw.get(), pointer).map_err(|fault| vec![fault])?;
        let stated = Self::of(&mut usage);
        let faults = usage.finish();
        if faults.is_empty() { Ok(stated) } else { Err(faults) }
    }

    /// Reads a `usage` that may be of another form: members that are not known are ignored. `None` if all are.
    ///
    /// # Errors
    /// The faults of the known members.
    pub fn read_known(raw: &RawValue, pointer: &str) -> Result<Option<Self>, Vec<Fault>> {
        let mut usage = Object::new(raw.get(), pointer).map_err(|fault| vec![fault])?;
        let (known, unknown): (Vec<String>, Vec<String>) =
            usage.names().map(str::to_string).partition(|name| MEMBERS.contains(&name.as_str()));
        if known.is_empty() {
            return Ok(None);
        }
        for name in unknown {
            usage.raw_or_null(&name);
        }
        let stated = Self::of(&mut usage);
        let faults = usage.finish();
        if faults.is_empty() { Ok(Some(stated)) } else { Err(faults) }
    }

    fn of(usage: &mut Object<'_>) -> Self {
        let mut count = |name| usage.integer(name, 0..=MAX_TOKENS).unwrap_or_default();
        let tokens = TokenUsage {
            input_tokens: count("input_tokens"),
            cached_input_tokens: count("cached_input_tokens"),
            cache_write_tokens: count("cache_write_tokens"),
            output_tokens: count("output_tokens"),
            reasoning_tokens: count("reasoning_tokens"),
            estimated: usage.boolean("estimated").unwrap_or_default(),
        };
        Self { tokens: tokens.consistent(), cost: read_money(usage, "cost") }
    }

    /// Whether it states a cost, which counts in place of the price of the capability.
    pub fn has_cost(&self) -> bool {
        self.cost.is_some()
    }

    /// What the call used and cost, in this currency.
    pub fn spent(&self, currency: &str) -> Spent {
        let Self { tokens, cost } = *self;
        let cost = cost.map(|amount| Cost { amount, currency: currency.into(), estimated: tokens.estimated });
        Spent { usage: tokens, cost, ..Spent::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<StatedUsage, Vec<String>> {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let pointers = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.pointer).collect();
        StatedUsage::read(raw, "#/usage").map_err(pointers)
    }

    fn read_known(text: &str) -> Result<Option<StatedUsage>, Vec<Fault>> {
        StatedUsage::read_known(serde_json::from_str(text).unwrap(), "#/usage")
    }

    #[test]
    fn tokens_and_costs_are_read_and_stored() {
        let stated = read(r#"{"input_tokens":5,"cached_input_tokens":9,"output_tokens":2,"cost":"0.01"}"#).unwrap();
        let Spent { usage, cost, model, .. } = stated.spent("EUR");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (5, 5, 2));
        assert_eq!(cost, Some(Cost { amount: Money(10_000_000), currency: "EUR".into(), estimated: false }));
        assert!(model.is_empty());
        let stored = serde_json::to_string(&stated).unwrap();
        assert_eq!(serde_json::from_str::<StatedUsage>(&stored).unwrap(), stated);
        assert!(read(r#"{"cost":"1","estimated":true}"#).unwrap().spent("USD").cost.unwrap().estimated);
    }

    #[test]
    fn every_fault_is_named() {
        for (text, pointers) in [
            ("1", "#/usage"),
            (r#"{"cost":0.01}"#, "#/usage/cost"),
            (r#"{"cost":"-1"}"#, "#/usage/cost"),
            (r#"{"cost":"1234567890"}"#, "#/usage/cost"),
            (r#"{"input_tokens":-1,"output_tokens":1e13}"#, "#/usage/input_tokens #/usage/output_tokens"),
            (r#"{"estimated":"no"}"#, "#/usage/estimated"),
            (r#"{"total_tokens":1}"#, "#/usage/total_tokens"),
        ] {
            assert_eq!(read(text).unwrap_err(), pointers.split(' ').collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn usage_of_another_form_is_none() {
        assert_eq!(read_known(r#"{"prompt_tokens":1,"total_tokens":1}"#), Ok(None));
        assert_eq!(read_known("{}"), Ok(None));
        let mixed = read_known(r#"{"input_tokens":1,"total_tokens":"many"}"#).unwrap().unwrap();
        assert_eq!(mixed.spent("USD").usage.input_tokens, 1);
        assert!(read_known(r#"{"cost":1,"total_tokens":1}"#).is_err() && read_known("[]").is_err());
    }

    proptest! {
        #[test]
        fn parts_are_no_more_than_the_whole(
            input in 0..=MAX_TOKENS, cached in 0..=MAX_TOKENS, written in 0..=MAX_TOKENS, output in 0..=MAX_TOKENS,
            reasoning in 0..=MAX_TOKENS
        ) {
            let text = serde_json::json!({"input_tokens": input, "cached_input_tokens": cached,
                "cache_write_tokens": written, "output_tokens": output, "reasoning_tokens": reasoning});
            let usage = read(&text.to_string()).unwrap().spent("USD").usage;
            prop_assert_eq!((usage.input_tokens, usage.output_tokens), (input, output));
            prop_assert!(usage.cached_input_tokens + usage.cache_write_tokens <= input);
            prop_assert!(usage.reasoning_tokens <= output);
        }
    }
}
