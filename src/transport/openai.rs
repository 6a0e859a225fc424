//! `transport.kind: "openai"`: an endpoint that speaks OpenAI's API.
//!
//! The parameters are the request's body, the answer's body is the result. When somebody listens, the answer is
//! asked for in pieces, handed on as they come, and put together here for the record.

use crate::core::address::Address;
use crate::core::openai::{self, Chat, DONE};
use crate::core::sse::Events;
use crate::core::upstream::{Answer, MAX_ANSWER_BYTES};
use crate::execution::live::Live;
use crate::objects::secrets::Opened;
use crate::platform::calls::{self, Answered, Method, Pieces, Request};
use crate::platform::http::Headers;

use super::Order;

/// Asks the endpoint at `base`, for as long as the context has time. `model`: for who names none.
pub async fn call(
    order: &Order<'_>,
    secrets: &Opened,
    base: &Address,
    model: Option<&str>,
    live: Option<&Live>,
) -> Answer {
    let admission = &order.work.admission;
    let capability = admission.capability.as_str();
    let listener = live.filter(|_| capability == "chat");
    let Some(path) = openai::path(capability) else { return Answer::Refused };
    let body = if openai::reads_only(capability) {
        None
    } else {
        let body = openai::body(capability, order.work.parameters.get(), model, listener.is_some());
        // Parameters that are no object never came past the schema.
        let Some(body) = body else { return Answer::Refused };
        Some(body)
    };
    let mut headers = Headers::default();
    headers.set("accept", if listener.is_some() { "text/event-stream, application/json" } else { "application/json" });
    if body.is_some() {
        headers.set("content-type", "application/json");
    }
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers.set("idempotency-key", admission.id.as_str());
    headers.set("traceparent", &order.trace.header());
    secrets.add_credentials(&mut headers);
    if order.left_ms == 0 {
        return Answer::TimedOut { deadline: true };
    }
    let method = if body.is_some() { Method::Post } else { Method::Get };
    let url = base.below(path);
    let request = Request::attempt(order, method, &url, &headers, body.as_deref());
    let Some(live) = listener else { return calls::send(&request).await };
    match calls::send_streaming(&request).await {
        // It was asked to stream and did not: what it says counts all the same.
        Answered::Whole(answer) => answer,
        Answered::Stream(pieces) => listened(pieces, live).await,
    }
}

/// Hands pieces on as they come, and gives what they are together.
async fn listened(mut pieces: Pieces, live: &Live) -> Answer {
    let (mut events, mut chat, mut bytes) = (Events::default(), Chat::default(), 0);
    loop {
        let piece = match pieces.next().await {
            Ok(Some(piece)) => piece,
            // Some endpoints end without saying so.
            Ok(None) if chat.is_whole() => return whole(chat),
            Ok(None) => return Answer::Broken,
            Err(answer) => return answer,
        };
        bytes += piece.len();
        if bytes > MAX_ANSWER_BYTES {
            return Answer::TooLarge { status: 200 };
        }
        for data in events.push(&piece) {
            if data.trim() == DONE {
                return whole(chat);
            }
            if chat.push(&data).is_err() {
                return whole_text("");
            }
            live.delta(&data);
        }
    }
}

fn whole(chat: Chat) -> Answer {
    whole_text(&chat.text())
}

fn whole_text(text: &str) -> Answer {
    Answer::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body: text.into() }
}
