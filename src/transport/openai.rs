//! `transport.kind: "openai"` and `"anthropic"`: endpoints of models, called by contexts.
//!
//! The parameters are the body of the request; the body of the response is the result. A chat is streamed if a client
//! receives it as a stream, and also if no client waits for it, as proxies cut off responses that stay silent for long.
//! The chunks are forwarded as they arrive, and joined here for the record.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, BodyStream, CallResponse, Method, Reading, Request};
use crate::platform::http::Headers;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::openai::stream::{Reader, Step, whole};
use narthex_core::calling::openai::{self, RequestModel, StreamRequest};
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;
use narthex_core::models::endpoint::{ANTHROPIC_VERSION, Format};
use narthex_core::services::openai_endpoints;
use narthex_core::services::transport::ModelEndpoint;

use super::Order;
use super::observer::CallObserver;

/// How long to wait for the usage and the end of a stream once the completion is whole, in milliseconds.
const USAGE_TIMEOUT_MS: u64 = 5_000;
/// The maximum number of endpoints whose mode an isolate remembers.
const MAX_KNOWN: usize = 1_000;

thread_local! {
    /// The request modes of endpoints that reject streaming, by service, address and model.
    static MODES: RefCell<BTreeMap<String, StreamRequest>> = const { RefCell::new(BTreeMap::new()) };
}

/// An endpoint, as it is registered.
pub struct Endpoint<'a> {
    pub tenant: &'a TenantId,
    pub service: &'a ServiceId,
    pub address: &'a Address,
    pub format: Format,
    pub registered: &'a ModelEndpoint,
    /// Its own name for the model that is asked for, if it is another.
    pub upstream: Option<&'a str>,
}

impl<'a> Endpoint<'a> {
    fn model(&self) -> RequestModel<'a> {
        RequestModel { default: self.registered.model.as_deref(), upstream: self.upstream }
    }
}

/// Calls the endpoint, within the time of the context.
pub async fn call<O: CallObserver>(
    order: &Order<'_>,
    secrets: &DecryptedSecrets,
    endpoint: &Endpoint<'_>,
    observer: &O,
) -> CallResult {
    let capability = order.work.admission.capability.as_str();
    let Some(path) = openai_endpoints::path(capability) else { return CallResult::Refused };
    let address = endpoint.registered.below(endpoint.address, endpoint.format, path);
    let may_stream = capability == "chat" && endpoint.registered.streams && (observer.streams() || !observer.waits());
    if !may_stream {
        return request(order, secrets, endpoint, &address, StreamRequest::Whole, None::<&O>).await;
    }
    let parameters = order.work.parameters.get();
    let Endpoint { tenant, service, registered, .. } = endpoint;
    let model = openai::model_of(parameters).or_else(|| registered.model.clone()).unwrap_or_default();
    let key = format!("{tenant}/{service} {} {model}", endpoint.address.as_str());
    let mut mode = MODES.with_borrow(|known| known.get(&key).copied()).unwrap_or(StreamRequest::Stream);
    let mut answer = request(order, secrets, endpoint, &address, mode, Some(observer)).await;
    let mut changed = false;
    while let CallResult::Http { status, body, .. } = &answer
        && let Some(other) = mode.after_refusal(*status, body, parameters)
    {
        (mode, changed) = (other, true);
        answer = request(order, secrets, endpoint, &address, mode, Some(observer)).await;
    }
    if changed && answer.status() == Some(200) {
        MODES.with_borrow_mut(|known| {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(key, mode);
        });
    }
    answer
}

async fn request(
    order: &Order<'_>,
    secrets: &DecryptedSecrets,
    endpoint: &Endpoint<'_>,
    address: &Address,
    mode: StreamRequest,
    observer: Option<&impl CallObserver>,
) -> CallResult {
    let admission = &order.work.admission;
    let capability = admission.capability.as_str();
    let body = if openai_endpoints::reads_only(capability) {
        None
    } else {
        // The schema admits only objects.
        let body = openai::body(capability, order.work.parameters.get(), endpoint.model(), mode);
        let Some(body) = body else { return CallResult::Refused };
        Some(body)
    };
    let streams = mode != StreamRequest::Whole;
    let mut headers = Headers::default();
    headers.set("accept", if streams { "text/event-stream, application/json" } else { "application/json" });
    if body.is_some() {
        headers.set("content-type", "application/json");
    }
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
    if endpoint.format == Format::Anthropic {
        headers.set("anthropic-version", ANTHROPIC_VERSION);
    }
    secrets.add_credentials(&mut headers);
    if order.left_ms == 0 {
        return CallResult::TimedOut { deadline: true };
    }
    let method = if body.is_some() { Method::Post } else { Method::Get };
    let url = &*secrets.addressed(address);
    let request = Request::attempt(order, method, url, &headers, body.as_deref());
    let reading = match (streams, capability) {
        (true, _) => Reading::Pieces,
        (false, "chat") => Reading::UnlessJson,
        (false, _) => Reading::Whole,
    };
    match calls::send_reading(&request, reading).await {
        CallResponse::Whole(answer) => whole(answer),
        CallResponse::Stream(pieces) => read_stream(pieces, observer).await,
    }
}

/// Forwards the chunks as they arrive, and returns the joined result.
async fn read_stream(mut pieces: BodyStream, observer: Option<&impl CallObserver>) -> CallResult {
    let mut reader = Reader::default();
    let mut is_whole = false;
    loop {
        let piece = match pieces.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return reader.end(None),
            Err(broke) => return reader.end(Some(broke)),
        };
        let step = reader.push(&piece, |chunk| {
            if let Some(observer) = observer {
                observer.delta(chunk);
            }
        });
        match step {
            Step::More => {}
            Step::Whole => {
                if !std::mem::replace(&mut is_whole, true) {
                    pieces.limit_rest(USAGE_TIMEOUT_MS);
                }
            }
            Step::Over => return reader.end(None),
        }
    }
}
