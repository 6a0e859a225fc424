//! What a model costs: list prices per million tokens, and the cost of a call by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::call_price::read_currency;
use super::money::Money;
use super::token_usage::Used;
use crate::base::json::{Fault, Object, child};

/// The most tiers, service tiers and priced uses of a model.
const MAX_ENTRIES: usize = 20;
const MILLION: u128 = 1_000_000;
/// The only use that has a price.
const WEB_SEARCH: &str = "web_search";

/// Prices of a million tokens each. What is not named costs what it is a part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Rates {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Money>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Money>,
}

/// Rates for calls with a larger input: they are for all of its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Tier {
    pub above_input: u64,
    #[serde(flatten)]
    pub rates: Rates,
}

/// The prices of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Prices {
    pub currency: String,
    #[serde(flatten)]
    pub rates: Rates,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_tiers: BTreeMap<String, Rates>,
    /// Prices of one use each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_use: BTreeMap<String, Money>,
    /// The date of the prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a call costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Cost {
    pub amount: Money,
    pub currency: String,
    /// Whether the tokens are estimated, or whether the call was made at all is unknown.
    pub estimated: bool,
}

impl Rates {
    /// These, with others in their place where those are named.
    fn or(self, instead: Rates) -> Self {
        Self {
            input: instead.input.or(self.input),
            cached_input: instead.cached_input.or(self.cached_input),
            cache_write: instead.cache_write.or(self.cache_write),
            cache_write_1h: instead.cache_write_1h.or(self.cache_write_1h),
            output: instead.output.or(self.output),
        }
    }

    fn read(from: &mut Object<'_>) -> Self {
        let mut rate = |name| read_money(from, name);
        Self {
            input: rate("input"),
            cached_input: rate("cached_input"),
            cache_write: rate("cache_write"),
            cache_write_1h: rate("cache_write_1h"),
            output: rate("output"),
        }
    }
}

pub(super) fn read_money(from: &mut Object<'_>, name: &str) -> Option<Money> {
    from.parsed(name, "a decimal in a string, such as \"0.25\", with at most nine places", Money::parse)
}

impl Prices {
    /// The cost of what a call used, in the service tier that it ran in.
    pub fn cost(&self, used: &Used, service_tier: Option<&str>) -> Cost {
        let tokens = used.tokens;
        let tier = self.tiers.iter().filter(|tier| tokens.input_tokens > tier.above_input);
        let tier = tier.max_by_key(|tier| tier.above_input).map(|tier| tier.rates).unwrap_or_default();
        let service_tier = service_tier.and_then(|name| self.service_tiers.get(name)).copied().unwrap_or_default();
        let rates = self.rates.or(tier).or(service_tier);
        let input = rates.input.unwrap_or_default();
        let write = rates.cache_write.unwrap_or(input);
        let plain = tokens.input_tokens.saturating_sub(tokens.cached_input_tokens + tokens.cache_write_tokens);
        let sum = input.of_tokens(plain)
            + rates.cached_input.unwrap_or(input).of_tokens(tokens.cached_input_tokens)
            + write.of_tokens(tokens.cache_write_tokens.saturating_sub(used.long_cache_writes))
            + rates.cache_write_1h.unwrap_or(write).of_tokens(used.long_cache_writes)
            + rates.output.unwrap_or_default().of_tokens(tokens.output_tokens);
        // Divided once, and rounded half up.
        let amount = Money(u64::try_from((sum + MILLION / 2) / MILLION).unwrap_or(u64::MAX));
        let search = self.per_use.get(WEB_SEARCH).copied().unwrap_or_default();
        let uses = Money(search.0.saturating_mul(used.web_searches));
        Cost { amount: amount.plus(uses), currency: self.currency.clone(), estimated: tokens.estimated }
    }

    /// Reads the member `prices`.
    pub fn read(document: &mut Object<'_>) -> Option<Self> {
        let mut prices = document.object("prices")?;
        let currency = read_currency(&mut prices);
        let rates = Rates::read(&mut prices);
        let input = prices.require("input", rates.input);
        let per_use = prices.pointer_to("per_use");
        let read = Self {
            currency: currency.clone().unwrap_or_default(),
            rates,
            tiers: read_tiers(&mut prices),
            service_tiers: read_map(&mut prices, "service_tiers", |raw, at| {
                let mut one = Object::new(raw, at).map_err(|fault| vec![fault])?;
                let rates = Rates::read(&mut one);
                let faults = one.finish();
                if faults.is_empty() { Ok(rates) } else { Err(faults) }
            }),
            per_use: read_map(&mut prices, "per_use", |raw, at| {
                if at != format!("{per_use}/{WEB_SEARCH}") {
                    return Err(vec![Fault::new(at, "is unknown: only the price of web_search is known")]);
                }
                let text: String = serde_json::from_str(raw).unwrap_or_default();
                let expected = "must be a decimal in a string, such as \"0.01\"";
                Money::parse(&text).ok_or_else(|| vec![Fault::new(at, expected)])
            }),
            as_of: prices.parsed("as_of", "a date such as 2026-11-01", |text| {
                let is_date = text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
                is_date.then(|| text.to_string())
            }),
            source: prices.string("source", 1..=500),
        };
        document.absorb(prices);
        currency.and(input).map(|_| read)
    }
}

fn read_tiers(prices: &mut Object<'_>) -> Vec<Tier> {
    let at = prices.pointer_to("tiers");
    let items = prices.array("tiers", 0..=MAX_ENTRIES).unwrap_or_default();
    let mut tiers = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        match Object::new(item.get(), &child(&at, &index.to_string())) {
            Ok(mut one) => {
                let above = one.integer("above_input", 1..=u64::MAX);
                let above = one.require("above_input", above);
                let rates = Rates::read(&mut one);
                prices.absorb(one);
                tiers.extend(above.map(|above_input| Tier { above_input, rates }));
            }
            Err(fault) => prices.faults([fault]),
        }
    }
    tiers
}

fn read_map<T>(
    prices: &mut Object<'_>,
    name: &str,
    read: impl Fn(&str, &str) -> Result<T, Vec<Fault>>,
) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    let at = prices.pointer_to(name);
    let Some(raw) = prices.raw(name) else { return all };
    let Some(members) = crate::base::json::members(raw.get()).filter(|members| members.len() <= MAX_ENTRIES) else {
        prices.fault(name, format!("must be an object with at most {MAX_ENTRIES} members"));
        return all;
    };
    for (key, value) in members {
        match read(value.get(), &child(&at, &key)) {
            Ok(value) => drop(all.insert(key.into_owned(), value)),
            Err(faults) => prices.faults(faults),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::token_usage::TokenUsage;
    use super::*;

    fn read(text: &str) -> Result<Prices, Vec<String>> {
        let whole = format!(r#"{{"prices":{text}}}"#);
        let mut document = Object::new(&whole, "#").unwrap();
        let prices = Prices::read(&mut document);
        let faults = document.finish();
        if faults.is_empty() {
            Ok(prices.unwrap())
        } else {
            Err(faults.into_iter().map(|fault| fault.pointer).collect())
        }
    }

    const FULL: &str = r#"{"currency":"USD","input":"0.25","cached_input":"0.025","cache_write":"0.30",
        "cache_write_1h":"0.50","output":"2.00","tiers":[{"above_input":200000,"input":"0.50","output":"4.00"}],
        "service_tiers":{"flex":{"input":"0.125","output":"1.00"}},"per_use":{"web_search":"0.01"},
        "as_of":"2026-11-01","source":"https://example.com"}"#;

    fn used(input: u64, cached: u64, written: u64, output: u64) -> Used {
        Used {
            tokens: TokenUsage {
                input_tokens: input,
                cached_input_tokens: cached,
                cache_write_tokens: written,
                output_tokens: output,
                ..TokenUsage::default()
            },
            ..Used::default()
        }
    }

    #[test]
    fn a_call_costs_what_the_list_says() {
        let prices = read(FULL).unwrap();
        let cost = |used: &Used, tier| prices.cost(used, tier).amount.to_string();
        assert_eq!(cost(&used(1_000_000, 0, 0, 1_000_000), None), "4.50", "the larger input has its own price");
        assert_eq!(cost(&used(100_000, 0, 0, 0), None), "0.025");
        assert_eq!(cost(&used(100_000, 40_000, 10_000, 1_000), None), "0.0185");
        assert_eq!(cost(&used(100_000, 0, 0, 1_000), Some("flex")), "0.0135");
        assert_eq!(cost(&used(100_000, 0, 0, 1_000), Some("default")), "0.027");
        assert_eq!(cost(&Used { long_cache_writes: 10, ..used(10, 0, 10, 0) }, None), "0.000005");
        assert_eq!(cost(&Used { web_searches: 3, ..used(0, 0, 0, 0) }, None), "0.03");
        // 1 token at 0.25 per million is 0.00000025.
        assert_eq!(cost(&used(1, 0, 0, 0), None), "0.00000025");
    }

    #[test]
    fn what_has_no_price_of_its_own_costs_what_it_is_a_part_of() {
        let prices = read(r#"{"currency":"EUR","input":"1"}"#).unwrap();
        assert_eq!(prices.cost(&used(1_000_000, 400_000, 100_000, 9), None).amount.to_string(), "1.00");
        assert_eq!(prices.cost(&used(1, 0, 0, 0), None).currency, "EUR");
    }

    #[test]
    fn a_sum_is_rounded_once_and_half_up() {
        let prices = read(r#"{"currency":"USD","input":"0.0004","output":"0.0001"}"#).unwrap();
        // 0.4 + 0.1 nanos.
        assert_eq!(prices.cost(&used(1, 0, 0, 1), None).amount, Money(1));
        assert_eq!(prices.cost(&used(1, 0, 0, 0), None).amount, Money(0));
    }

    #[test]
    fn prices_are_read_with_all_their_faults() {
        assert_eq!(
            serde_json::from_str::<Prices>(&serde_json::to_string(&read(FULL).unwrap()).unwrap()).unwrap(),
            read(FULL).unwrap()
        );
        for (text, pointers) in [
            ("{}", "#/prices/currency #/prices/input"),
            (r#"{"currency":"usd","input":1}"#, "#/prices/currency #/prices/input"),
            (
                r#"{"currency":"USD","input":"1","tiers":[{"input":"x"}]}"#,
                "#/prices/tiers/0/input #/prices/tiers/0/above_input",
            ),
            (
                r#"{"currency":"USD","input":"1","service_tiers":{"a":{"b":1}},"per_use":{"c":1}}"#,
                "#/prices/service_tiers/a/b #/prices/per_use/c",
            ),
            (r#"{"currency":"USD","input":"1","as_of":"yesterday"}"#, "#/prices/as_of"),
            (
                r#"{"currency":"USD","input":"1","per_use":{"web_searches":"1","web_search":1}}"#,
                "#/prices/per_use/web_searches #/prices/per_use/web_search",
            ),
        ] {
            let mut found = read(text).unwrap_err();
            let mut expected: Vec<&str> = pointers.split(' ').collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{text}");
        }
    }
}
