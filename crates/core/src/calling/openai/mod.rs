//! Requests to OpenAI-compatible endpoints, and the assembly of streamed responses.

mod calls;
pub mod completion;
pub mod fault;
mod node;
pub mod stream;
mod surrogates;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// How to request a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRequest {
    /// As a stream that ends with the usage.
    Stream,
    /// As a stream without `stream_options`, which some endpoints reject.
    StreamAlone,
    Whole,
}

impl StreamRequest {
    /// How to ask instead, after a response that rejects streaming; `None` if it rejects something else.
    pub fn after_refusal(self, status: u16, body: &[u8], parameters: &str) -> Option<Self> {
        if self == StreamRequest::Whole || !matches!(status, 400 | 404 | 405 | 415 | 422 | 501) {
            return None;
        }
        let text = String::from_utf8_lossy(body.get(..REFUSAL_BYTES).unwrap_or(body)).to_ascii_lowercase();
        if self == StreamRequest::Stream && text.contains("stream_options") {
            // If the caller set stream options, only the caller can change them.
            return (!members(parameters)?.contains_key("stream_options")).then_some(StreamRequest::StreamAlone);
        }
        mentions_streams(&text).then_some(StreamRequest::Whole)
    }
}

/// How much of a rejection is examined, in bytes.
const REFUSAL_BYTES: usize = 8 * 1024;

/// Whether a text has a word that begins with "stream"; "upstream" does not count.
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

/// The model named in the parameters.
pub fn model_of(parameters: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct ModelField {
        model: Option<String>,
    }
    serde_json::from_str::<ModelField>(parameters).ok()?.model
}

/// The model of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestModel<'a> {
    /// For requests that name none.
    pub default: Option<&'a str>,
    /// The endpoint's own name for the model that is asked for, if it is another.
    pub upstream: Option<&'a str>,
}

/// The request's body: the parameters, with the model as the endpoint knows it. The gateway decides whether it streams.
pub fn body(capability: &str, parameters: &str, model: RequestModel<'_>, asks: StreamRequest) -> Option<String> {
    let mut members = members(parameters)?;
    members.remove("stream");
    if asks == StreamRequest::Whole {
        members.remove("stream_options");
    }
    if let Some(model) = model.upstream.or_else(|| model.default.filter(|_| !members.contains_key("model"))) {
        members.insert("model".into(), raw(&serde_json::to_string(model).ok()?)?);
    }
    if capability == "chat" && asks != StreamRequest::Whole {
        members.insert("stream".into(), raw("true")?);
        if asks == StreamRequest::Stream {
            members.entry("stream_options".into()).or_insert(raw(r#"{"include_usage":true}"#)?);
        }
    }
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests;
