//! How an OpenAI-compatible endpoint is asked, and how an answer that comes in pieces is put together.

mod calls;
pub mod completion;
pub mod fault;
mod node;
pub mod stream;
mod surrogates;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// How an endpoint is asked for a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// In pieces, with the usage at their end.
    Stream,
    /// In pieces. Some endpoints refuse `stream_options`.
    StreamAlone,
    Whole,
}

impl Asks {
    /// How to ask instead, after an answer that refuses to stream. Nothing: that is not what it refuses.
    pub fn after_refusal(self, status: u16, body: &[u8], parameters: &str) -> Option<Self> {
        if self == Asks::Whole || !matches!(status, 400 | 404 | 405 | 415 | 422 | 501) {
            return None;
        }
        let text = String::from_utf8_lossy(body.get(..REFUSAL_BYTES).unwrap_or(body)).to_ascii_lowercase();
        if self == Asks::Stream && text.contains("stream_options") {
            // What the caller wants of the stream is the caller's to change.
            return (!members(parameters)?.contains_key("stream_options")).then_some(Asks::StreamAlone);
        }
        mentions_streams(&text).then_some(Asks::Whole)
    }
}

/// As much of a refusal is looked at.
const REFUSAL_BYTES: usize = 8 * 1024;

/// Whether a text has a word that begins with "stream", as "upstream" does not.
fn mentions_streams(text: &str) -> bool {
    text.match_indices("stream").any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(char::is_alphanumeric)
    })
}

fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.into()).ok()
}

fn members(parameters: &str) -> Option<BTreeMap<String, Box<RawValue>>> {
    serde_json::from_str(parameters).ok()
}

/// The model that parameters name.
pub fn model_of(parameters: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        model: Option<String>,
    }
    serde_json::from_str::<Named>(parameters).ok()?.model
}

/// The request's body: the parameters with the model that is used when none is named. Whether it streams is the
/// gateway's to say.
pub fn body(capability: &str, parameters: &str, model: Option<&str>, asks: Asks) -> Option<String> {
    let mut members = members(parameters)?;
    members.remove("stream");
    if asks == Asks::Whole {
        members.remove("stream_options");
    }
    if let Some(model) = model {
        let text = serde_json::to_string(model).ok()?;
        members.entry("model".into()).or_insert(raw(&text)?);
    }
    if capability == "chat" && asks != Asks::Whole {
        members.insert("stream".into(), raw("true")?);
        if asks == Asks::Stream {
            members.entry("stream_options".into()).or_insert(raw(r#"{"include_usage":true}"#)?);
        }
    }
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests;
