//! Reads the body of a request for a model: its bytes stay with the platform, and only what decides is kept here.

use std::cell::Cell;

use crate::platform::relay::{BodySource, Parts, Piece};
use crate::platform::{Failure, clock};
use narthex_core::base::json::{Fault, child};
use narthex_core::base::time::Timestamp;
use narthex_core::http::media_type;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::request_body::{BodyFault, BodyReader, RequestHead, Span};

use super::super::call::{Call, broken, not_json};

/// A larger body is sent on while it comes, in bytes.
pub const WHOLE_BYTES: u64 = 4 * 1024 * 1024;
/// What all requests of an isolate may hold at once, in bytes.
const MAX_HELD: u64 = 48 * 1024 * 1024;

/// The share of a body that is sent on while it comes, in bytes: the pieces on their way.
const PIECE_BYTES: u64 = 256 * 1024;

thread_local! {
    static HELD: Cell<u64> = const { Cell::new(0) };
}

/// The share of a request in what is held.
struct MemoryShare(u64);

impl MemoryShare {
    fn take(bytes: u64) -> Result<Self, Problem> {
        let mut share = Self(0);
        share.grow_to(bytes)?;
        Ok(share)
    }

    fn grow_to(&mut self, bytes: u64) -> Result<(), Problem> {
        let all = HELD.get() + bytes.saturating_sub(self.0);
        if all > MAX_HELD {
            let detail = "The gateway holds too many large requests at this moment. Try again.";
            return Err(Problem::new(Code::NoServiceAvailable, detail).with_header("Retry-After", "1"));
        }
        HELD.set(all);
        self.0 = self.0.max(bytes);
        Ok(())
    }

    fn shrink_to(&mut self, bytes: u64) {
        HELD.set(HELD.get().saturating_sub(self.0.saturating_sub(bytes)));
        self.0 = self.0.min(bytes);
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(self.0));
    }
}

/// A text that is sent in place of a part of the body.
pub struct Edit {
    pub at: Span,
    pub text: String,
}

/// The body of a request.
pub struct Intake {
    pub pieces: Vec<Piece>,
    pub head: RequestHead,
    /// The model as it was asked for, and where its name is in the body.
    pub model: String,
    pub model_at: Span,
    /// The bytes of the pieces.
    pub bytes: u64,
    /// Where members can be added; unknown while the rest is not read.
    pub closing_at: Option<u64>,
    /// The rest of a large body.
    pub rest: Option<Rest>,
    share: MemoryShare,
}

/// The part of a body that has not been read.
pub struct Rest {
    source: BodySource,
    reader: BodyReader,
    /// The length of the whole body, if the client has declared it.
    pub declared: Option<u64>,
    limit: u64,
    until: Timestamp,
}

fn refused(fault: &BodyFault) -> Problem {
    let code = if matches!(fault, BodyFault::NotJson(_)) { Code::InvalidJson } else { Code::InvalidRequest };
    let errors = fault.member().map(|name| Fault::new(child("#", name), fault.to_string()));
    Problem { errors: errors.into_iter().collect(), ..Problem::new(code, fault.to_string()) }
}

fn too_large(limit: u64) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("The body must not exceed {limit} bytes."))
}

fn unread(failure: Option<Failure>, call: &Call) -> Problem {
    match failure {
        Some(failure) => broken(failure),
        None => {
            let seconds = call.settings.body_timeout_ms as f64 / 1000.0;
            Problem::new(Code::RequestTimeout, format!("The body was not received within {seconds} seconds."))
        }
    }
}

/// Whether a large body can be sent on while it comes: what follows cannot change how it is sent. The Responses API has
/// members that may come last, and for which a request is refused.
fn can_be_sent_on(endpoint: Endpoint, reader: &BodyReader) -> bool {
    match endpoint {
        Endpoint::Embeddings | Endpoint::CountTokens => reader.has(&["model"]),
        Endpoint::Messages => reader.has(&["model", "stream"]),
        Endpoint::Chat => {
            let streams = || reader.head().is_ok_and(|head| head.streams);
            reader.has(&["model", "stream"]) && (reader.has(&["stream_options"]) || !streams())
        }
        Endpoint::Responses => false,
    }
}

/// What is certainly held of a body until it is sent on, in bytes.
fn first_share(endpoint: Endpoint, declared: Option<u64>) -> u64 {
    match declared {
        Some(bytes) if endpoint == Endpoint::Responses => bytes,
        declared => declared.unwrap_or(WHOLE_BYTES).min(WHOLE_BYTES),
    }
}

fn check_type(call: &Call) -> Result<(), Problem> {
    media_type::json_document(call.content_type()).map_err(not_json)?;
    if call.is_plain() {
        return Ok(());
    }
    let detail = "Send the body without Content-Encoding.";
    Err(Problem::new(Code::UnsupportedMediaType, detail).with_header("Accept-Encoding", "identity"))
}

/// Reads the body: all of it, or of a large one as much as is needed to begin.
pub async fn read(call: &Call, endpoint: Endpoint) -> Result<Intake, Problem> {
    check_type(call)?;
    let limit = call.settings.model_body_bytes;
    let declared: Option<u64> = call.request.header("content-length").and_then(|length| length.parse().ok());
    if declared.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit));
    }
    let mut share = MemoryShare::take(first_share(endpoint, declared))?;
    let until = clock::now().plus_ms(call.settings.body_timeout_ms);
    let mut reader = BodyReader::default();
    if declared.is_some_and(|bytes| bytes <= WHOLE_BYTES) {
        let piece = BodySource::whole(&call.request, call.settings.body_timeout_ms).await;
        let piece = piece.map_err(|failure| unread(failure, call))?;
        piece.read(|bytes| reader.push(bytes)).map_err(|fault| refused(&fault))?;
        return whole(vec![piece], reader, share);
    }
    let (mut source, mut pieces) = (BodySource::open(&call.request), Vec::new());
    while reader.read() < WHOLE_BYTES || !can_be_sent_on(endpoint, &reader) {
        let left = until.since(clock::now()).max(1);
        let Some(piece) = source.next(left).await.map_err(|failure| unread(failure, call))? else {
            return whole(pieces, reader, share);
        };
        piece.read(|bytes| reader.push(bytes)).map_err(|fault| refused(&fault))?;
        if reader.read() > limit {
            return Err(too_large(limit));
        }
        share.grow_to(reader.read())?;
        pieces.push(piece);
    }
    let head = reader.head().map_err(|fault| refused(&fault))?;
    let (model, model_at) = model_of(&head)?;
    let bytes = reader.read();
    let rest = Some(Rest { source, reader, declared, limit, until });
    Ok(Intake { pieces, head, model, model_at, bytes, closing_at: None, rest, share })
}

fn whole(pieces: Vec<Piece>, mut reader: BodyReader, mut share: MemoryShare) -> Result<Intake, Problem> {
    reader.finish().map_err(|fault| refused(&fault))?;
    let head = reader.head().map_err(|fault| refused(&fault))?;
    let (model, model_at) = model_of(&head)?;
    let (bytes, closing_at) = (reader.read(), Some(reader.closing_at()));
    share.shrink_to(bytes);
    Ok(Intake { pieces, head, model, model_at, bytes, closing_at, rest: None, share })
}

fn model_of(head: &RequestHead) -> Result<(String, Span), Problem> {
    let named = head.model.clone().filter(|model| !model.is_empty()).zip(head.model_at);
    named.ok_or_else(|| {
        let detail = "The member model is required; GET /v1/models lists the models that you may use.";
        let errors = vec![Fault::new("#/model", "is required")];
        Problem { errors, ..Problem::new(Code::InvalidRequest, detail) }
    })
}

impl Intake {
    /// The body is sent on while it comes: from here on, only pieces of it are held.
    pub fn passes_on(&mut self) {
        self.share.shrink_to(PIECE_BYTES);
    }

    /// The length of a body of which not all has been read, if the client has declared it.
    pub fn declared(&self) -> Option<u64> {
        self.rest.as_ref().and_then(|rest| rest.declared)
    }

    /// Reads the rest of a large body.
    pub async fn complete(&mut self) -> Result<(), Problem> {
        let Some(mut rest) = self.rest.take() else { return Ok(()) };
        while let Some(piece) = rest.next().await? {
            self.share.grow_to(rest.read())?;
            self.pieces.push(piece);
        }
        self.head = rest.reader.head().map_err(|fault| refused(&fault))?;
        self.bytes = rest.read();
        self.closing_at = Some(rest.reader.closing_at());
        Ok(())
    }
}

/// Adds a range of a body, with edits in it, which are in the order of their places. The pieces begin at `base`. An
/// edit that began before the range was added with it.
pub fn add(to: &Parts, pieces: &[Piece], base: u64, (from, end): (u64, u64), edits: &[Edit]) {
    let mut at = from;
    for Edit { at: Span { from, to: behind }, text } in edits {
        if *behind <= at || *from >= end {
            continue;
        }
        if *from >= at {
            to.range(pieces, at - base, from - base);
            to.text(text);
        }
        at = *behind;
    }
    if at < end {
        to.range(pieces, at - base, end - base);
    }
}

impl Rest {
    /// The next piece of the body. `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Piece>, Problem> {
        let left = self.until.since(clock::now()).max(1);
        let piece = self.source.next(left).await.map_err(|failure| {
            failure.map_or_else(|| Problem::new(Code::RequestTimeout, "The body was not received in time."), broken)
        })?;
        match &piece {
            Some(piece) => piece.read(|bytes| self.reader.push(bytes)).map_err(|fault| refused(&fault))?,
            None => self.reader.finish().map_err(|fault| refused(&fault))?,
        }
        if self.reader.read() > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(piece)
    }

    /// The bytes that were read.
    pub fn read(&self) -> u64 {
        self.reader.read()
    }
}
