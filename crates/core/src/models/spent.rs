//! What a call used and cost, as it stays with its context.

use serde::{Deserialize, Serialize};

use super::price::Cost;
use super::token_usage::TokenUsage;

/// What a context used and cost, in all its attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The model as it was asked for; empty if it used none.
    pub model: String,
    pub usage: TokenUsage,
    /// `None`: there is no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What attempts cost in further currencies, once each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_costs: Vec<Cost>,
    /// Why the model stopped, in the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
}

impl Spent {
    /// Of a call that reached no model. `model`: as it was asked for.
    pub fn nothing(model: &str) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Adds what another attempt used and cost.
    pub fn add(&mut self, other: Self) {
        let Self { model, usage, cost, other_costs, finish_reason } = other;
        if !model.is_empty() {
            self.model = model;
        }
        self.usage.add(&usage);
        cost.into_iter().chain(other_costs).for_each(|cost| self.add_cost(cost));
        self.finish_reason = finish_reason.or(self.finish_reason.take());
    }

    /// Adds a cost. A sum is estimated if a part of it is.
    pub fn add_cost(&mut self, cost: Cost) {
        let Some(first) = &mut self.cost else {
            self.cost = Some(cost);
            return;
        };
        let mut all = std::iter::once(first).chain(&mut self.other_costs);
        match all.find(|known| known.currency == cost.currency) {
            Some(known) => {
                known.amount = known.amount.plus(cost.amount);
                known.estimated |= cost.estimated;
            }
            None => self.other_costs.push(cost),
        }
    }

    /// All costs, one for each currency.
    pub fn costs(&self) -> impl Iterator<Item = &Cost> {
        self.cost.iter().chain(&self.other_costs)
    }

    /// As clients see it.
    pub fn view(&self) -> SpentView<'_> {
        let is_of_model = !self.model.is_empty();
        SpentView {
            model: is_of_model.then_some(&self.model),
            usage: (is_of_model || self.usage != TokenUsage::default()).then_some(&self.usage),
            cost: self.cost.as_ref(),
            other_costs: &self.other_costs,
            finish_reason: is_of_model.then_some(self.finish_reason.as_deref()),
        }
    }
}

/// What a context used and cost, as clients see it.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct SpentView<'a> {
    /// The model as it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a TokenUsage>,
    /// `null`: there is no price.
    cost: Option<&'a Cost>,
    #[serde(skip_serializing_if = "<[Cost]>::is_empty")]
    other_costs: &'a [Cost],
    /// Why the model stopped, in the provider's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<Option<&'a str>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::money::Money;
    use super::*;

    fn cost(amount: u64, currency: &str, estimated: bool) -> Cost {
        Cost { amount: Money(amount), currency: currency.into(), estimated }
    }

    #[test]
    fn attempts_add_up_by_currency() {
        let mut sum = Spent::default();
        for (amount, currency, estimated) in [(5, "USD", false), (7, "EUR", false), (1, "USD", true)] {
            sum.add(Spent { cost: Some(cost(amount, currency, estimated)), ..Spent::default() });
        }
        assert_eq!(sum.costs().cloned().collect::<Vec<_>>(), [cost(6, "USD", true), cost(7, "EUR", false)]);
        let read: Spent = serde_json::from_str(&serde_json::to_string(&sum).unwrap()).unwrap();
        assert_eq!(read, sum);
    }

    #[test]
    fn only_calls_of_models_have_a_model() {
        let per_call = Spent { cost: Some(cost(2_000_000, "USD", false)), ..Spent::default() };
        let shown = json!({"cost": {"amount": "0.002", "currency": "USD", "estimated": false}});
        assert_eq!(serde_json::to_value(per_call.view()).unwrap(), shown);
        let of_model = Spent { model: "gpt".into(), ..Spent::default() };
        let shown = serde_json::to_value(of_model.view()).unwrap();
        assert_eq!(
            (&shown["model"], &shown["cost"], &shown["finish_reason"]),
            (&json!("gpt"), &json!(null), &json!(null))
        );
        assert!(shown["usage"].is_object() && shown.get("finish_reason").is_some());
    }

    proptest! {
        #[test]
        fn no_amount_is_lost(costs in prop::collection::vec((0u64..1 << 40, 0usize..3), 0..30)) {
            let currencies = ["USD", "EUR", "GBP"];
            let mut sum = Spent::default();
            for (amount, currency) in &costs {
                sum.add_cost(cost(*amount, currencies[*currency], false));
            }
            for (at, currency) in currencies.iter().enumerate() {
                let expected: u64 = costs.iter().filter(|(_, one)| *one == at).map(|(amount, _)| amount).sum();
                let found: u64 = sum.costs().filter(|one| one.currency == *currency).map(|one| one.amount.0).sum();
                prop_assert_eq!(found, expected);
            }
            prop_assert!(sum.costs().count() <= currencies.len());
        }
    }
}
