//! The beginning of a target's response: until its first piece, another target may take over.

use crate::platform::clock;
use crate::platform::relay::{CallStart, Piece, PiecedResponse, ResponseHead, WholeResponse};
use narthex_core::base::time::Timestamp;
use narthex_core::http::retry_after;
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::failure::{FailureKind, status_of_error};
use narthex_core::models::request_body::Mark;
use narthex_core::models::response_body::{ResponseReader, value_of};
use narthex_core::models::stream::StreamReader;

/// A response in one piece is read up to this size before it is passed on, in bytes.
const WHOLE_BYTES: usize = 256 * 1024;
/// The largest response that is converted, in bytes.
const MAX_CONVERTED: usize = 8 * 1024 * 1024;

/// A failed call.
pub struct CallFailure {
    pub kind: FailureKind,
    /// The provider's response, if there was one.
    pub response: Option<Box<FailureResponse>>,
    pub retry_after_ms: Option<u64>,
    /// For the log.
    pub detail: String,
}

/// The response of a failed call.
pub struct FailureResponse {
    pub status: u16,
    /// The status with which the client learns of it: a stream reports errors with status 200.
    pub shown: u16,
    /// It shows the gateway's credentials, so that the client does not see it.
    pub is_secret: bool,
    pub head: ResponseHead,
    pub body: Vec<u8>,
}

/// A response that has begun.
pub enum ResponseStart {
    /// All of it.
    Whole { head: ResponseHead, pieces: Vec<Piece>, reader: ResponseReader },
    /// A document that continues.
    Document { from: PiecedResponse, pieces: Vec<Piece>, reader: ResponseReader },
    /// Events. The pieces were not read.
    Events { from: PiecedResponse, pieces: Vec<Piece> },
}

impl ResponseStart {
    pub fn head(&self) -> &ResponseHead {
        match self {
            Self::Whole { head, .. } => head,
            Self::Document { from, .. } | Self::Events { from, .. } => &from.head,
        }
    }
}

pub fn failed(kind: FailureKind, detail: impl Into<String>) -> CallFailure {
    CallFailure { kind, response: None, retry_after_ms: None, detail: detail.into() }
}

/// Waits for the first piece of a response.
pub async fn first_piece(
    start: CallStart,
    (endpoint, streams, converts): (Endpoint, bool, bool),
    until: Timestamp,
    deadline: Timestamp,
) -> Result<ResponseStart, CallFailure> {
    let late = || if clock::now() >= deadline { FailureKind::Deadline } else { FailureKind::Late };
    match start {
        CallStart::Refused(detail) => Err(failed(FailureKind::Unreachable, detail)),
        CallStart::Broken(detail) => Err(failed(FailureKind::Broken, detail)),
        CallStart::TimedOut => Err(failed(late(), "no response in time")),
        CallStart::Whole(response) => whole(response, endpoint, streams),
        CallStart::Pieces(response) => pieces(response, (endpoint, streams, converts), until, &late).await,
    }
}

fn refused(head: ResponseHead, body: Vec<u8>, shown: u16, kind: FailureKind) -> CallFailure {
    let retry_after_ms = retry_after::read(&head.retry_after, &head.retry_after_ms, clock::now());
    let detail = format!("status {}", head.status);
    let status = head.status;
    CallFailure {
        kind,
        response: Some(Box::new(FailureResponse { status, shown, is_secret: false, head, body })),
        retry_after_ms,
        detail,
    }
}

/// A response that is there as a whole.
fn whole(response: WholeResponse, endpoint: Endpoint, streams: bool) -> Result<ResponseStart, CallFailure> {
    let WholeResponse { head, body } = response;
    if !matches!(head.status, 200 | 400..=599) {
        return Err(failed(FailureKind::Format, format!("status {}", head.status)));
    }
    if head.status != 200 {
        let bytes = body.to_vec();
        let value = value_of(&bytes).unwrap_or_default();
        let kind = FailureKind::of_response(head.status, &value);
        let shown = head.status;
        return Err(refused(head, bytes, shown, kind));
    }
    let mut reader = ResponseReader::new(endpoint.format());
    body.each(|bytes| reader.push(bytes));
    whole_document(head, vec![body], reader, streams)
}

/// A whole document: a result, or an error that came with status 200.
fn document(head: ResponseHead, pieces: Vec<Piece>, reader: ResponseReader) -> Result<ResponseStart, CallFailure> {
    if !reader.is_whole() {
        return Err(failed(FailureKind::Format, "the response is not a whole JSON object"));
    }
    let report = reader.report();
    if report.error.is_none() && !report.is_error {
        return Ok(ResponseStart::Whole { head, pieces, reader });
    }
    let body: Vec<u8> = pieces.iter().flat_map(Piece::to_vec).collect();
    let error = report.error.or_else(|| value_of(&body)).unwrap_or_default();
    let (shown, kind) = (status_of_error(&error), FailureKind::of_error(&error));
    Err(refused(head, body, shown, kind))
}

/// Reads the first pieces of a response, until it is clear what it is.
async fn pieces(
    response: PiecedResponse,
    (endpoint, streams, converts): (Endpoint, bool, bool),
    until: Timestamp,
    late: &impl Fn() -> FailureKind,
) -> Result<ResponseStart, CallFailure> {
    let (mut pieces, mut bytes): (Vec<Piece>, usize) = (Vec::new(), 0);
    let mut reader = ResponseReader::new(endpoint.format());
    let mut events = StreamReader::new(endpoint, false);
    let (mut mark, mut is_document) = (Mark::default(), None);
    loop {
        let left = until.since(clock::now()).max(1);
        let piece = match response.next(left).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(None) => return Err(failed(late(), "no piece in time")),
            Err(Some(failure)) => return Err(failed(FailureKind::Broken, failure.0)),
        };
        piece.each(|window| {
            let begins = mark.skip(window).unwrap_or(window).trim_ascii_start().first();
            is_document = is_document.or_else(|| begins.map(|first| matches!(first, b'{' | b'[' | b'<')));
            match is_document {
                Some(false) => drop(events.push(window)),
                _ => reader.push(window),
            }
        });
        bytes += piece.bytes();
        pieces.push(piece);
        match (is_document, streams) {
            (Some(false), false) => {
                return Err(failed(FailureKind::Format, "a stream, though none was asked for"));
            }
            (Some(false), true) => {
                if let Some(error) = &events.error {
                    let (shown, kind) = (status_of_error(&error.value), FailureKind::of_error(&error.value));
                    let body = error.data.clone().into_bytes();
                    return Err(refused(response.abandon(), body, shown, kind));
                }
                if events.has_begun || bytes > WHOLE_BYTES {
                    return Ok(ResponseStart::Events { from: response, pieces });
                }
            }
            (Some(true), false) if converts && bytes > MAX_CONVERTED => {
                return Err(failed(FailureKind::Format, "too large to be converted"));
            }
            (Some(true), false) if bytes > WHOLE_BYTES && !converts => {
                return Ok(ResponseStart::Document { from: response, pieces, reader });
            }
            (None, _) if bytes > WHOLE_BYTES => {
                return Err(failed(FailureKind::Format, "nothing but blanks"));
            }
            (Some(true), true) if bytes > WHOLE_BYTES => {
                return Err(failed(FailureKind::Format, "a document, though a stream was asked for"));
            }
            (Some(true) | None, _) => {}
        }
    }
    let head = response.into_head();
    if is_document == Some(true) {
        return whole_document(head, pieces, reader, streams);
    }
    Err(failed(FailureKind::Format, "the response ended before its first piece"))
}

/// A document that has come as a whole. It cannot answer a request for a stream.
fn whole_document(
    head: ResponseHead,
    pieces: Vec<Piece>,
    reader: ResponseReader,
    streams: bool,
) -> Result<ResponseStart, CallFailure> {
    let start = document(head, pieces, reader)?;
    if streams {
        return Err(failed(FailureKind::Format, "a document, though a stream was asked for"));
    }
    Ok(start)
}
