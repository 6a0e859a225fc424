//! The models that a service offers: the member `models` of its document.

use serde::{Deserialize, Serialize};

use super::price::Prices;
use crate::base::json::{Fault, Object, child};
use crate::base::model_name::is_model_name;

/// The most models of one service.
const MAX_MODELS: usize = 500;
/// Offers any other name.
pub const ANY: &str = "*";

/// A model as a service offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ModelOffer {
    /// The name that clients ask for; `*` stands for every name that is not listed.
    pub id: String,
    /// The provider's name for it, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// In tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// In tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// Whether the provider's list prices apply without prices of its own.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub list_prices: bool,
}

fn yes() -> bool {
    true
}

/// Reads the member `models`; `None` without it, or if it has faults.
pub fn read(document: &mut Object<'_>) -> Option<Vec<ModelOffer>> {
    let items = document.array("models", 1..=MAX_MODELS)?;
    let at = document.pointer_to("models");
    let mut models: Vec<ModelOffer> = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let pointer = child(&at, &index.to_string());
        let mut one = match Object::new(item.get(), &pointer) {
            Ok(one) => one,
            Err(fault) => {
                document.faults([fault]);
                continue;
            }
        };
        let read = read_one(&mut one);
        document.absorb(one);
        let Some(offer) = read else { continue };
        if models.iter().any(|known| known.id == offer.id) {
            document.faults([Fault::new(format!("{pointer}/id"), "is listed twice")]);
        }
        models.push(offer);
    }
    Some(models)
}

fn read_one(one: &mut Object<'_>) -> Option<ModelOffer> {
    let name = |text: &str| is_model_name(text).then(|| text.to_string());
    let expected = "1 to 128 printable ASCII characters without blanks and commas";
    let id = one.parsed("id", expected, name);
    let id = one.require("id", id);
    let upstream = one.parsed("upstream", expected, name);
    if id.as_deref().is_some_and(|id| id != ANY && id.ends_with('*')) {
        one.fault("id", "must not end in *, which stands for all names alone");
    }
    if id.as_deref() == Some(ANY) && upstream.is_some() {
        one.fault("upstream", "is not allowed for the id *, which passes names on as they are");
    }
    let context_window = one.integer("context_window", 1..=1_000_000_000);
    let max_output_tokens = one.integer("max_output_tokens", 1..=1_000_000_000);
    let prices = Prices::read(one);
    let list_prices = one.boolean("list_prices").unwrap_or(true);
    Some(ModelOffer { id: id?, upstream, context_window, max_output_tokens, prices, list_prices })
}

/// The offer that serves a name.
pub fn offer_of<'m>(models: &'m [ModelOffer], name: &str) -> Option<&'m ModelOffer> {
    let named = |wanted: &str| models.iter().find(|offer| offer.id == wanted);
    named(name).or_else(|| named(ANY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let whole = format!(r#"{{"models":{text}}}"#);
        let mut document = Object::new(&whole, "#").unwrap();
        read(&mut document);
        document.finish().into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn models_are_read_with_all_their_faults() {
        assert!(faults(r#"[{"id":"gpt-5:latest","upstream":"a/b","context_window":1},{"id":"*"}]"#).is_empty());
        for (text, pointer) in [
            ("[]", "#/models"),
            (r#"[{"id":"a"},{"id":"a"}]"#, "#/models/1/id"),
            (r#"[{"id":"a b"}]"#, "#/models/0/id"),
            (r#"[{"upstream":"a"}]"#, "#/models/0/id"),
            (r#"[{"id":"gpt-*"}]"#, "#/models/0/id"),
            (r#"[{"id":"*","upstream":"a"}]"#, "#/models/0/upstream"),
            (r#"[{"id":"a","context_window":0}]"#, "#/models/0/context_window"),
            (r#"[{"id":"a","prices":{"currency":"USD"}}]"#, "#/models/0/prices/input"),
            (r#"[{"id":"a","more":1}]"#, "#/models/0/more"),
            ("[1]", "#/models/0"),
        ] {
            assert_eq!(faults(text), [pointer], "{text}");
        }
    }

    #[test]
    fn a_listed_name_comes_before_the_offer_of_all_names() {
        let offer = |id: &str| ModelOffer {
            id: id.into(),
            upstream: None,
            context_window: None,
            max_output_tokens: None,
            prices: None,
            list_prices: true,
        };
        let models = [offer(ANY), offer("a")];
        assert_eq!(offer_of(&models, "a").unwrap().id, "a");
        assert_eq!(offer_of(&models, "b").unwrap().id, "*");
        assert_eq!(offer_of(&models[1..], "b"), None);
    }
}
