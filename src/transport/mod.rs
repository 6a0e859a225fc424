//! The transports, by which services are called: one file each. All of them take an [`Order`] and return a
//! `CallResult`. Leases, retries and the choice of a service belong to `execution`; webhooks are sent from here too.

pub mod binding;
pub mod demo;
pub mod http;
pub mod mcp;
pub mod model;
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
use narthex_core::context::lease::LeaseNumber;
use narthex_core::http::egress_address::Address;
use narthex_core::http::trace_context::TraceContext;

/// An attempt to be made, as every transport needs it.
pub struct Order<'a> {
    pub work: &'a Work,
    /// The lease that the attempt is made under.
    pub lease: LeaseNumber,
    /// The callback URL of the attempt.
    pub callback_url: String,
    /// The trace context, with the span of the attempt.
    pub trace: TraceContext,
    pub now: Timestamp,
    /// The time left until the deadline of the context, in milliseconds.
    pub left_ms: u64,
    /// How much of that time the service has until its response begins: all of it, or less if another service could
    /// take over then.
    pub answer_timeout_ms: u64,
}

/// The envelope that a service receives.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Envelope<'a> {
    context_id: &'a str,
    capability: &'a str,
    version: String,
    parameters: &'a RawValue,
    attempt: u64,
    deadline: String,
    callback_url: &'a str,
    /// For transports without headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The answer to the input request of the service.
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
    /// The request of an attempt, with its time-outs: that of the service, and that of the context.
    fn attempt(
        order: &Order<'_>,
        method: Method,
        url: &'a Address,
        headers: &'a Headers,
        body: Option<&'a str>,
    ) -> Self {
        let more_ms = order.left_ms.saturating_sub(order.answer_timeout_ms);
        let max_bytes = MAX_ANSWER_BYTES;
        Self { max_bytes, more_ms, deadline: true, ..Self::within(order.answer_timeout_ms, method, url, headers, body) }
    }
}
