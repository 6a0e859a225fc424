//! How a service is called. One file a kind; all of them take an [`Order`] and give an `upstream::Answer`.

pub mod binding;
pub mod demo;
pub mod http;
pub mod mcp;
pub mod observer;
pub mod openai;
pub mod socket;
pub mod webhook;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::objects::contexts::messages::Work;
use crate::platform::calls::{Method, Request};
use crate::platform::http::Headers;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::MAX_ANSWER_BYTES;
use narthex_core::http::egress_address::Address;
use narthex_core::http::trace_context::TraceContext;

/// One attempt to be made, as every transport needs it.
pub struct Order<'a> {
    pub work: &'a Work,
    /// Where the service may end its work later.
    pub callback_url: String,
    /// What the attempt's own span is called.
    pub trace: TraceContext,
    pub now: Timestamp,
    /// What is left of the context's time, in milliseconds.
    pub left_ms: u64,
    /// How much of it the service has until its answer begins: all of it, or less where another could do it then.
    pub answer_timeout_ms: u64,
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

impl<'a> Request<'a> {
    /// The request of an attempt: waited for as long as the service has for it, within the time of its context.
    fn attempt(
        order: &Order<'_>,
        method: Method,
        url: &'a Address,
        headers: &'a Headers,
        body: Option<&'a str>,
    ) -> Self {
        let more_ms = order.left_ms.saturating_sub(order.answer_timeout_ms);
        let most_bytes = MAX_ANSWER_BYTES;
        Self {
            most_bytes,
            more_ms,
            deadline: true,
            ..Self::within(order.answer_timeout_ms, method, url, headers, body)
        }
    }
}
