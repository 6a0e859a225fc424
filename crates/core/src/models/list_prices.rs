//! The list prices of providers' models, as the providers publish them. They are for models that name no price of their
//! own, at the host of their provider: the same model elsewhere has another price.
//!
//! Each price has its source and its date. `list_prices.json` has only what a source states.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::money::Money;
use super::offer::ModelOffer;
use super::price::{Cost, Prices, Rates, Tier};
use super::token_usage::Used;

/// The service tiers that the standard prices are for.
const STANDARD_TIERS: [&str; 4] = ["default", "standard", "auto", "standard_only"];

static PROVIDERS: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    serde_json::from_str::<Vec<Listed>>(include_str!("list_prices.json")).map(all).unwrap_or_default()
});

/// The prices of a provider's models, by the provider's names.
struct Provider {
    host: String,
    models: BTreeMap<String, Prices>,
}

#[derive(Deserialize)]
struct Listed {
    host: String,
    currency: String,
    source: String,
    models: BTreeMap<String, ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    as_of: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(flatten)]
    rates: Rates,
    #[serde(default)]
    tiers: Vec<Tier>,
    #[serde(default)]
    per_use: BTreeMap<String, Money>,
}

fn all(listed: Vec<Listed>) -> Vec<Provider> {
    let provider = |Listed { host, currency, source, models }: Listed| {
        let prices = |ListedModel { as_of, source: own, rates, tiers, per_use }: ListedModel| Prices {
            currency: currency.clone(),
            rates,
            tiers,
            service_tiers: BTreeMap::new(),
            per_use,
            as_of: Some(as_of),
            source: Some(own.unwrap_or_else(|| source.clone())),
        };
        Provider { host, models: models.into_iter().map(|(name, listed)| (name, prices(listed))).collect() }
    };
    listed.into_iter().map(provider).collect()
}

/// A name without the date of a snapshot: `-2026-08-07`, or `-20260807`.
fn undated(name: &str) -> &str {
    let is_date = |text: &str, format: &str, length: usize| {
        text.len() == length && chrono::NaiveDate::parse_from_str(text, format).is_ok()
    };
    let cut = |length: usize, format: &str| {
        let (rest, date) = name.split_at_checked(name.len().checked_sub(length)?)?;
        rest.strip_suffix('-').filter(|_| is_date(date, format, length))
    };
    cut(10, "%Y-%m-%d").or_else(|| cut(8, "%Y%m%d")).unwrap_or(name)
}

/// The list price of a model, by the provider's name for it, at an address. `None`: it is not known, or the address is
/// not the provider's own.
pub fn list_price(address: &str, model: &str) -> Option<&'static Prices> {
    let address = url::Url::parse(address).ok().filter(|url| url.scheme() == "https" && url.port().is_none())?;
    let provider = PROVIDERS.iter().find(|provider| Some(provider.host.as_str()) == address.host_str())?;
    // Google's own names begin with this word.
    let name = model.strip_prefix("models/").unwrap_or(model);
    provider.models.get(name).or_else(|| provider.models.get(undated(name)))
}

/// Where prices are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceOrigin {
    /// The service names them.
    Service,
    /// The service names none: they are the provider's list prices.
    List,
}

/// The prices that apply to a model of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedPrices<'a> {
    pub origin: PriceOrigin,
    pub prices: &'a Prices,
}

impl<'a> AppliedPrices<'a> {
    /// Those that the offer names; otherwise list prices, unless the offer says that they do not apply. `upstream` is
    /// the provider's name for the model.
    pub fn of(address: &str, offer: Option<&'a ModelOffer>, upstream: &str) -> Option<Self> {
        if let Some(prices) = offer.and_then(|offer| offer.prices.as_ref()) {
            return Some(Self { origin: PriceOrigin::Service, prices });
        }
        let applies = offer.is_none_or(|offer| offer.list_prices);
        let prices = list_price(address, upstream).filter(|_| applies)?;
        Some(Self { origin: PriceOrigin::List, prices })
    }

    /// The cost of what a call used. List prices are those of the standard service tier: in another, they are an
    /// estimate.
    pub fn cost(&self, used: &Used, service_tier: Option<&str>) -> Cost {
        let cost = self.prices.cost(used, service_tier);
        let is_other = service_tier.is_some_and(|tier| !STANDARD_TIERS.contains(&tier));
        Cost { estimated: cost.estimated || (is_other && self.origin == PriceOrigin::List), ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::super::token_usage::TokenUsage;
    use super::*;

    const OPENAI: &str = "https://api.openai.com/v1";

    fn offer(text: &str) -> ModelOffer {
        serde_json::from_str(text).unwrap()
    }

    fn used() -> Used {
        let tokens = TokenUsage { input_tokens: 1_000_000, output_tokens: 1_000_000, ..TokenUsage::default() };
        Used { tokens, ..Used::default() }
    }

    #[test]
    fn every_price_has_a_date_and_a_source_and_can_be_written_as_a_services_own() {
        let models: Vec<_> = PROVIDERS.iter().flat_map(|provider| &provider.models).collect();
        assert!(models.len() >= 40, "{} models", models.len());
        for (name, prices) in models {
            let whole = format!(r#"{{"prices":{}}}"#, serde_json::to_string(prices).unwrap());
            let mut document = crate::base::json::Object::new(&whole, "#").unwrap();
            assert_eq!(Prices::read(&mut document).as_ref(), Some(prices), "{name}");
            assert_eq!(document.finish(), [], "{name}");
            assert!(
                prices.as_of.as_deref().is_some_and(|date| ("2025-01-01"..="2026-12-01").contains(&date)),
                "{name}"
            );
            assert!(prices.source.as_deref().is_some_and(|source| source.starts_with("https://")), "{name}");
            let Rates { input, cached_input, output, .. } = prices.rates;
            assert!(
                input > Some(Money(0)) && cached_input <= input && output.is_none_or(|output| Some(output) >= input)
            );
        }
    }

    #[test]
    fn a_list_price_is_for_the_providers_own_host_only() {
        let input = |address, model| list_price(address, model).and_then(|prices| prices.rates.input);
        assert_eq!(input(OPENAI, "gpt-5-mini"), Money::parse("0.25"));
        assert_eq!(input(OPENAI, "gpt-5-mini-2026-08-07"), Money::parse("0.25"));
        assert_eq!(input("https://api.anthropic.com", "claude-haiku-4-5-20251001"), Money::parse("1"));
        let google = "https://generativelanguage.googleapis.com/v1beta/openai";
        assert_eq!(input(google, "models/gemini-2.5-flash"), Money::parse("0.3"));
        for (address, model) in [
            ("https://llm.example.com/v1", "gpt-5-mini"),
            ("https://api.openai.com.example.com/v1", "gpt-5-mini"),
            ("https://api.openai.com@example.com/v1", "gpt-5-mini"),
            ("https://api.openai.com:8443/v1", "gpt-5-mini"),
            ("http://api.openai.com/v1", "gpt-5-mini"),
            (OPENAI, "gpt-oss-120b"),
            (OPENAI, "gpt-5-mini-2026-13-07"),
            (OPENAI, "gpt-5-mini-custom"),
            (OPENAI, "claude-opus-5"),
            ("not an address", "gpt-5-mini"),
        ] {
            assert_eq!(list_price(address, model), None, "{address} {model}");
        }
    }

    #[test]
    fn what_a_service_names_takes_precedence() {
        let own = offer(r#"{"id":"gpt-5-mini","prices":{"currency":"EUR","input":"1"}}"#);
        let applied = AppliedPrices::of(OPENAI, Some(&own), "gpt-5-mini").unwrap();
        assert_eq!((applied.origin, applied.prices.currency.as_str()), (PriceOrigin::Service, "EUR"));
        let bare = offer(r#"{"id":"small"}"#);
        let applied = AppliedPrices::of(OPENAI, Some(&bare), "gpt-5-mini").unwrap();
        assert_eq!((applied.origin, applied.prices.currency.as_str()), (PriceOrigin::List, "USD"));
        let off = offer(r#"{"id":"small","list_prices":false}"#);
        assert_eq!(AppliedPrices::of(OPENAI, Some(&off), "gpt-5-mini"), None);
        assert!(AppliedPrices::of(OPENAI, None, "gpt-5-mini").is_some());
    }

    #[test]
    fn the_cost_in_another_service_tier_is_an_estimate() {
        let listed = AppliedPrices::of(OPENAI, None, "gpt-5-mini").unwrap();
        let cost = |tier| listed.cost(&used(), tier);
        assert_eq!((cost(None).amount.to_string(), cost(None).estimated), ("2.25".into(), false));
        assert_eq!((cost(Some("default")).estimated, cost(Some("flex")).estimated), (false, true));
        let own = AppliedPrices { origin: PriceOrigin::Service, ..listed };
        assert!(!own.cost(&used(), Some("flex")).estimated);
    }
}
