//! Anthropic's thinking as reasoning items of Responses.
//!
//! A client of Responses without storage gets the reasoning as `encrypted_content`, and sends it back with the next
//! request. That is where the signature of thinking goes, behind a prefix that tells it from the reasoning of other
//! providers, which Anthropic would refuse.

use serde_json::{Value, json};

/// What precedes the signature of a thinking block, and the data of a redacted one.
const SIGNATURE: &str = "anthropic.thinking.";
const REDACTED: &str = "anthropic.redacted.";

/// The `encrypted_content` for a signature.
pub fn signature(signature: &str) -> String {
    format!("{SIGNATURE}{signature}")
}

/// The `encrypted_content` for the data of a redacted block.
pub fn redacted(data: &str) -> String {
    format!("{REDACTED}{data}")
}

/// The block that a reasoning item came from; `None` if it did not come from Anthropic.
pub fn opened(encrypted: Value, thinking: String) -> Option<Value> {
    let Value::String(encrypted) = encrypted else { return None };
    if let Some(data) = encrypted.strip_prefix(REDACTED) {
        return Some(json!({"type": "redacted_thinking", "data": data}));
    }
    let signature = encrypted.strip_prefix(SIGNATURE)?;
    Some(json!({"type": "thinking", "thinking": thinking, "signature": signature}))
}
