//! What is kept of the content of calls: their parameters and their results.

use serde::{Deserialize, Serialize};

/// What is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// All, until retention ends.
    #[default]
    Full,
    /// Nothing.
    None,
}

impl Content {
    /// Reads the API's value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "full" => Some(Self::Full),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// Whether it has the default value.
    pub fn is_full(&self) -> bool {
        *self == Self::Full
    }
}
