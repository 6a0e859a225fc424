//! How a service is called. One file a kind; all of them take an [`Order`] and give an `upstream::Answer`.

pub mod binding;
pub mod demo;
pub mod http;
pub mod mcp;
pub mod openai;
pub mod socket;
pub mod webhook;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::core::time::Timestamp;
use crate::core::trace::Trace;
use crate::objects::contexts::messages::Work;

/// One attempt to be made, as every transport needs it.
pub struct Order<'a> {
    pub work: &'a Work,
    /// Where the service may end its work later.
    pub callback_url: String,
    /// What the attempt's own span is called.
    pub trace: Trace,
    pub now: Timestamp,
}

/// What a service is told of the work, however it is reached.
#[derive(Serialize)]
struct Envelope<'a> {
    context_id: &'a str,
    capability: &'a str,
    version: String,
    parameters: &'a RawValue,
    attempt: u64,
    deadline: String,
    callback_url: &'a str,
    /// Where there are no headers to say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The answer to what the service asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    fn of(order: &'a Order<'_>) -> Self {
        let admission = &order.work.admission;
        Self {
            context_id: admission.id.as_str(),
            capability: &admission.capability,
            version: admission.version.to_string(),
            parameters: &order.work.parameters,
            attempt: order.work.attempt,
            deadline: admission.expires_at.text(),
            callback_url: &order.callback_url,
            traceparent: None,
            input: order.work.input.as_deref(),
        }
    }
}
