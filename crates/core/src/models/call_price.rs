//! What a call of a capability costs, whatever it uses: the member `price` of a capability.

use serde::{Deserialize, Serialize};

use super::money::{Money, is_currency};
use super::price::{Cost, read_money};
use crate::base::json::Object;

/// The currency of what a service states without a price of its capability.
pub const DEFAULT_CURRENCY: &str = "USD";

/// The price of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct CallPrice {
    pub per_call: Money,
    pub currency: String,
}

impl CallPrice {
    /// Reads the member `price`; `None` without it, or if it has faults.
    pub fn read(capability: &mut Object<'_>) -> Option<Self> {
        let mut price = capability.object("price")?;
        let per_call = read_money(&mut price, "per_call");
        let per_call = price.require("per_call", per_call);
        let currency = read_currency(&mut price);
        capability.absorb(price);
        Some(Self { per_call: per_call?, currency: currency? })
    }

    /// What one call costs.
    pub fn cost(&self, estimated: bool) -> Cost {
        Cost { amount: self.per_call, currency: self.currency.clone(), estimated }
    }
}

/// Reads the required member `currency`.
pub(super) fn read_currency(from: &mut Object<'_>) -> Option<String> {
    let expected = "a currency (ISO 4217), such as USD";
    let currency = from.parsed("currency", expected, |text| is_currency(text).then(|| text.to_string()));
    from.require("currency", currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(price: &str) -> Result<Option<CallPrice>, Vec<String>> {
        let whole = format!(r#"{{"price":{price}}}"#);
        let mut capability = Object::new(&whole, "#").unwrap();
        let price = CallPrice::read(&mut capability);
        let faults = capability.finish();
        if faults.is_empty() { Ok(price) } else { Err(faults.into_iter().map(|fault| fault.pointer).collect()) }
    }

    #[test]
    fn a_price_is_an_amount_of_a_currency() {
        let price = read(r#"{"per_call":"0.002","currency":"EUR"}"#).unwrap().unwrap();
        assert_eq!(price.cost(true), Cost { amount: Money(2_000_000), currency: "EUR".into(), estimated: true });
        assert_eq!(read("null"), Ok(None));
        for (wrong, pointers) in [
            ("1", "#/price"),
            ("{}", "#/price/per_call #/price/currency"),
            (r#"{"per_call":0.002,"currency":"usd"}"#, "#/price/per_call #/price/currency"),
            (r#"{"per_call":"0.0000000001","currency":"USD"}"#, "#/price/per_call"),
            (r#"{"per_call":"1","currency":"USD","per_token":"1"}"#, "#/price/per_token"),
        ] {
            assert_eq!(read(wrong).unwrap_err(), pointers.split(' ').collect::<Vec<_>>(), "{wrong}");
        }
    }
}
