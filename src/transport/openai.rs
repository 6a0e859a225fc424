//! `transport.kind: "openai"`: an endpoint that speaks OpenAI's API.
//!
//! The parameters are the request's body, the answer's body is the result. A chat is asked for in pieces when somebody
//! listens, and when no client waits for it: proxies in between cut off an answer that is silent for long. The pieces
//! are handed on as they come and put together here for the record.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, Answered, Method, Pieces, Reading, Request};
use crate::platform::http::Headers;
use narthex_core::calling::openai::stream::{Reader, Step, whole};
use narthex_core::calling::openai::{self, StreamRequest};
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;
use narthex_core::services::openai_endpoints;

use super::Order;
use super::observer::CallObserver;

/// How long the usage and the end of a stream are waited for when the completion is whole.
const USAGE_MS: u64 = 5_000;
/// Endpoints of which it is remembered how they have to be asked.
const MAX_KNOWN: usize = 1_000;

thread_local! {
    /// How endpoints that refuse to stream are asked, by service, address and model.
    static KNOWN: RefCell<BTreeMap<String, StreamRequest>> = const { RefCell::new(BTreeMap::new()) };
}

/// An endpoint, as it is registered.
pub struct Endpoint<'a> {
    pub tenant: &'a str,
    pub service: &'a str,
    pub address: &'a Address,
    /// The model for requests that name none.
    pub model: Option<&'a str>,
    /// Whether it may be asked to stream.
    pub streams: bool,
}

/// StreamRequest the endpoint, for as long as the context has time.
pub async fn call<O: CallObserver>(
    order: &Order<'_>,
    secrets: &DecryptedSecrets,
    endpoint: &Endpoint<'_>,
    observer: &O,
) -> CallResult {
    let capability = order.work.admission.capability.as_str();
    let Some(path) = openai_endpoints::path(capability) else { return CallResult::Refused };
    let address = endpoint.address.below(path);
    let may_stream = capability == "chat" && endpoint.streams && (observer.streams() || !observer.waits());
    if !may_stream {
        return ask(order, secrets, endpoint, &address, StreamRequest::Whole, None::<&O>).await;
    }
    let parameters = order.work.parameters.get();
    let Endpoint { tenant, service, model, .. } = endpoint;
    let model = openai::model_of(parameters).or_else(|| model.map(Into::into)).unwrap_or_default();
    let key = format!("{tenant}/{service} {} {model}", endpoint.address.as_str());
    let mut asks = KNOWN.with_borrow(|known| known.get(&key).copied()).unwrap_or(StreamRequest::Stream);
    let mut answer = ask(order, secrets, endpoint, &address, asks, Some(observer)).await;
    let mut is_news = false;
    while let CallResult::Http { status, body, .. } = &answer
        && let Some(other) = asks.after_refusal(*status, body, parameters)
    {
        (asks, is_news) = (other, true);
        answer = ask(order, secrets, endpoint, &address, asks, Some(observer)).await;
    }
    if is_news && answer.status() == Some(200) {
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(key, asks);
        });
    }
    answer
}

async fn ask(
    order: &Order<'_>,
    secrets: &DecryptedSecrets,
    endpoint: &Endpoint<'_>,
    address: &Address,
    asks: StreamRequest,
    observer: Option<&impl CallObserver>,
) -> CallResult {
    let admission = &order.work.admission;
    let capability = admission.capability.as_str();
    let body = if openai_endpoints::reads_only(capability) {
        None
    } else {
        // Parameters that are no object never came past the schema.
        let body = openai::body(capability, order.work.parameters.get(), endpoint.model, asks);
        let Some(body) = body else { return CallResult::Refused };
        Some(body)
    };
    let streams = asks != StreamRequest::Whole;
    let mut headers = Headers::default();
    headers.set("accept", if streams { "text/event-stream, application/json" } else { "application/json" });
    if body.is_some() {
        headers.set("content-type", "application/json");
    }
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
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
        Answered::Whole(answer) => whole(answer),
        Answered::Stream(pieces) => listened(pieces, observer).await,
    }
}

/// Hands pieces on as they come, and gives what they are together.
async fn listened(mut pieces: Pieces, observer: Option<&impl CallObserver>) -> CallResult {
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
                    pieces.hurry(USAGE_MS);
                }
            }
            Step::Over => return reader.end(None),
        }
    }
}
