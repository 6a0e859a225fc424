//! The model of the built-in demonstration.

use serde_json::Value;

use crate::platform::relay::{Piece, PiecedResponse, ResponseHead};
use crate::platform::{clock, settings};
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::models::demo::{self, DemoAnswer};
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::failure::FailureKind;
use narthex_core::models::response_body::ResponseReader;

use super::super::answer::JSON;
use super::beginning::{CallFailure, ResponseStart, failed};
use super::intake::Intake;

/// The pause between two words, in milliseconds.
const PAUSE_MS: u64 = 25;
/// The largest request that it reads, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// The body of a request, if it is small.
pub fn body(intake: &Intake) -> Value {
    let is_small = intake.rest.is_none() && intake.bytes <= MAX_BYTES;
    let bytes: Vec<u8> = if is_small { intake.pieces.iter().flat_map(Piece::to_vec).collect() } else { Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_default()
}

pub fn call(endpoint: Endpoint, body: &Value, streams: bool, id: &str) -> Result<ResponseStart, CallFailure> {
    if !settings::demo() {
        return Err(failed(FailureKind::NotCalled, "the demonstration is disabled"));
    }
    let Some(DemoAnswer { document, events }) = demo::answer(endpoint, body, id, clock::now().seconds()) else {
        return Err(failed(FailureKind::NotFound, "the demonstration does not have this endpoint"));
    };
    if streams {
        let from = PiecedResponse::made(EVENT_STREAM, &events, PAUSE_MS);
        return Ok(ResponseStart::Events { from, pieces: Vec::new() });
    }
    let text = document.to_string();
    let mut reader = ResponseReader::new(endpoint.format());
    reader.push(text.as_bytes());
    Ok(ResponseStart::Whole { head: ResponseHead::made(JSON), pieces: vec![Piece::of_text(&text)], reader })
}
