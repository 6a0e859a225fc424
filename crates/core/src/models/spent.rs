//! What a call of a model used and cost, as it stays with its context.

use serde::{Deserialize, Serialize};

use super::price::Cost;
use super::token_usage::TokenUsage;

/// What a context used of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The model as it was asked for.
    pub model: String,
    pub usage: TokenUsage,
    /// `None`: there is no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Why the model stopped, in the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
}

impl Spent {
    /// Of a call that reached no model. `model`: as it was asked for.
    pub fn nothing(model: &str) -> Self {
        Self { model: model.into(), usage: TokenUsage::default(), cost: None, finish_reason: None }
    }
}
