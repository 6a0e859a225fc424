//! One message to a server, and the messages of its response.

use crate::platform::calls::{self, BodyStream, CallResponse, Method, Request};
use crate::platform::clock;
use crate::platform::http::Headers;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::response::CallResult;
use narthex_core::context::http_status;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::mcp::client::request;
use narthex_core::mcp::client::response::{ExpectedResponse, Messages, Response, ResponseError, UpstreamMessage};
use narthex_core::mcp::client::result::RequestOutcome;

use super::tokens;
use super::{NOTIFY_TIMEOUT_MS, Peer};

/// The delay before a stream is resumed if the server names none, and the maximum, in milliseconds.
const RETRY_MS: u64 = 1_000;
const MAX_RETRY_MS: u64 = 10_000;

/// The maximum length of a session id, in bytes.
const MAX_SESSION_BYTES: usize = 1024;

/// The result of sending a message.
pub enum SendResult {
    /// A response of the protocol, whole or streamed.
    Messages { exchange: Exchange, session: Option<String> },
    /// No such response. An error status may still come with a JSON-RPC response.
    Other { answer: CallResult, response: Option<Response> },
}

/// The messages of a response.
pub struct Exchange {
    pieces: Option<BodyStream>,
    messages: Messages,
    /// The message that was read already.
    first: Option<Box<Result<UpstreamMessage, ResponseError>>>,
}

/// Milliseconds until then, at least 1.
pub fn left(until: Timestamp) -> u64 {
    until.since(clock::now()).max(1)
}

impl SendResult {
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Messages { .. } => Some(200),
            Self::Other { answer, .. } => answer.status(),
        }
    }

    /// The session id, if it is valid.
    pub fn session(&self) -> Option<String> {
        let Self::Messages { session, .. } = self else { return None };
        session.clone().filter(|id| id.len() <= MAX_SESSION_BYTES && id.bytes().all(|b| (0x21..0x7f).contains(&b)))
    }

    /// The JSON-RPC response that came with an error status.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Messages { .. } => None,
            Self::Other { response, .. } => response.as_ref(),
        }
    }

    /// Inspects a response: its status, its body, and its JSON-RPC response if that is whole.
    pub fn inspect<T>(&self, read: impl Fn(u16, &[u8], Option<&Response>) -> T) -> T {
        match self {
            Self::Messages { exchange, .. } => read(200, &[], exchange.whole()),
            Self::Other { answer: CallResult::Http { status, body, .. }, response } => {
                read(*status, body, response.as_ref())
            }
            Self::Other { answer, .. } => read(answer.status().unwrap_or_default(), &[], None),
        }
    }

    pub fn exchange(self) -> Result<Exchange, RequestOutcome> {
        match self {
            Self::Messages { exchange, .. } => Ok(exchange),
            // Only these statuses show that the request may be repeated.
            Self::Other { answer, .. } if answer.status().is_some_and(http_status::passes) => {
                Err(RequestOutcome::Transport(answer))
            }
            Self::Other { response: Some(response), .. } => Err(RequestOutcome::Answered(response)),
            Self::Other { answer, .. } => Err(RequestOutcome::Transport(answer)),
        }
    }
}

impl Exchange {
    fn of(pieces: Option<BodyStream>, messages: Messages) -> Self {
        Self { pieces, messages, first: None }
    }

    /// The JSON-RPC response of a response that is not streamed.
    fn whole(&self) -> Option<&Response> {
        match self.first.as_deref() {
            Some(Ok(UpstreamMessage::Response(response))) => Some(response),
            _ => None,
        }
    }

    pub async fn next(&mut self) -> Result<UpstreamMessage, RequestOutcome> {
        if let Some(first) = self.first.take() {
            return first.map_err(RequestOutcome::Invalid);
        }
        loop {
            if let Some(message) = self.messages.take().map_err(RequestOutcome::Invalid)? {
                return Ok(message);
            }
            let piece = match &mut self.pieces {
                Some(pieces) => pieces.next().await.map_err(RequestOutcome::Transport)?,
                None => None,
            };
            match piece {
                Some(piece) => self.messages.push(&piece).map_err(RequestOutcome::Invalid)?,
                None => {
                    return Err(self
                        .messages
                        .ended()
                        .map_or(RequestOutcome::Transport(CallResult::Broken), RequestOutcome::Invalid));
                }
            }
        }
    }
}

/// Opens the stream for the notifications of a legacy server outside requests; with an event id, resumes it after that
/// event.
async fn open_stream(
    peer: &Peer,
    (revision, session): (&UpstreamRevision, Option<&str>),
    last: Option<&str>,
    until: Timestamp,
    deadline: bool,
) -> Option<BodyStream> {
    let token = tokens::authorization(peer).await.ok()?;
    let mut headers = headers_of(peer, &request::about(revision, session), token.as_deref());
    headers.set("accept", "text/event-stream");
    if let Some(last) = last {
        headers.set("last-event-id", last);
    }
    let url = &*peer.secrets.addressed(&peer.address);
    let (headers, milliseconds) = (&headers, left(until));
    let request = Request { deadline, ..Request::within(milliseconds, Method::Get, url, headers, None) };
    match calls::send_streaming(&request).await {
        CallResponse::Stream(pieces) => Some(pieces),
        CallResponse::Whole(_) => None,
    }
}

/// Ends a session of a legacy server, as a courtesy: it is not used again.
pub async fn end_session(peer: &Peer, revision: &UpstreamRevision, session: Option<&str>) {
    if session.is_none() {
        return;
    }
    let Ok(token) = tokens::authorization(peer).await else { return };
    let headers = headers_of(peer, &request::about(revision, session), token.as_deref());
    let url = &*peer.secrets.addressed(&peer.address);
    calls::notify(&Request::within(NOTIFY_TIMEOUT_MS, Method::Delete, url, &headers, None)).await;
}

impl Exchange {
    /// The notifications of a legacy server in its session.
    pub async fn listening(
        peer: &Peer,
        revision: &UpstreamRevision,
        session: Option<&str>,
        until: Timestamp,
    ) -> Option<Self> {
        session?;
        let pieces = open_stream(peer, (revision, session), None, until, false).await?;
        Some(Self::of(Some(pieces), Messages::new(ExpectedResponse::small(0))))
    }

    /// Resumes a legacy server's stream that ended before its response, if the server supports that, by `until` at the
    /// latest.
    pub async fn resume(
        &mut self,
        peer: &Peer,
        (revision, session): (&UpstreamRevision, Option<&str>),
        until: Timestamp,
        deadline: bool,
    ) -> bool {
        let Some((last, retry_ms)) = self.messages.resumption() else { return false };
        if revision.is_modern() || session.is_none() {
            return false;
        }
        clock::pause(retry_ms.unwrap_or(RETRY_MS).min(MAX_RETRY_MS).min(left(until))).await;
        let Some(pieces) = open_stream(peer, (revision, session), Some(&last), until, deadline).await else {
            return false;
        };
        self.pieces = Some(pieces);
        true
    }
}

fn headers_of(peer: &Peer, more: &[(&str, String)], token: Option<&str>) -> Headers {
    let mut headers = Headers::default();
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    for (name, value) in more {
        headers.set(name, value);
    }
    peer.secrets.add_credentials(&mut headers);
    if let Some(token) = token {
        headers.set("authorization", token);
    }
    headers
}

/// Sends a message and waits for the expected response. If the token is rejected, the message is sent once more with a
/// new one.
pub async fn send(
    peer: &Peer,
    more: &[(&str, String)],
    body: &str,
    expected: ExpectedResponse,
    milliseconds: u64,
    deadline: bool,
) -> SendResult {
    let until = clock::now().plus_ms(milliseconds);
    for again in [false, true] {
        let token = match tokens::authorization(peer).await {
            Ok(token) => token,
            Err(answer) => return SendResult::Other { answer, response: None },
        };
        let sent = send_with(peer, more, body, expected, left(until), deadline, token.as_deref()).await;
        if again || token.is_none() || sent.status() != Some(401) {
            return sent;
        }
        tokens::forget(peer);
    }
    SendResult::Other { answer: CallResult::Broken, response: None }
}

async fn send_with(
    peer: &Peer,
    more: &[(&str, String)],
    body: &str,
    expected: ExpectedResponse,
    milliseconds: u64,
    deadline: bool,
    token: Option<&str>,
) -> SendResult {
    let mut headers = headers_of(peer, more, token);
    headers.set("content-type", "application/json");
    headers.set("accept", "application/json, text/event-stream");
    let url = &*peer.secrets.addressed(&peer.address);
    let (headers, body, max_bytes) = (&headers, Some(body), expected.max_bytes);
    let request = Request { deadline, max_bytes, ..Request::within(milliseconds, Method::Post, url, headers, body) };
    let mut messages = Messages::new(expected);
    match calls::send_in_session(&request).await {
        (CallResponse::Stream(pieces), session) => {
            SendResult::Messages { exchange: Exchange::of(Some(pieces), messages), session }
        }
        (CallResponse::Whole(CallResult::Http { status: 200, is_json: true, body, .. }), session) => {
            messages.push_whole(&body);
            let mut exchange = Exchange::of(None, messages);
            exchange.first = exchange.messages.take().transpose().map(Box::new);
            SendResult::Messages { exchange, session }
        }
        (CallResponse::Whole(answer), _) => {
            let response = match &answer {
                CallResult::Http { is_json: true, body, .. } => {
                    messages.push_whole(body);
                    match messages.take() {
                        Ok(Some(UpstreamMessage::Response(response))) => Some(response),
                        _ => None,
                    }
                }
                _ => None,
            };
            SendResult::Other { answer, response }
        }
    }
}
