//! Requests for models of the other format: what is small is converted here, long strings stay with the platform.

use serde_json::Value;

use crate::platform::random;
use crate::platform::relay::{Parts, Piece};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::convert::{self, Echo, Limits};
use narthex_core::models::dialect;
use narthex_core::models::endpoint::Endpoint;
use narthex_core::models::long_strings::{LongStrings, Part, Taken, mark, parts};
use narthex_core::models::request_body::{BYTE_ORDER_MARK, Span};

use super::attempt::Target;
use super::intake::Intake;

/// The largest body that is converted, and the most of it without its long strings, in bytes.
pub const MAX_BYTES: u64 = 8 * 1024 * 1024;
const MAX_INLINE: u64 = 4 * 1024 * 1024;

/// A converted request.
pub struct Converted {
    pub parts: Parts,
    /// As a value, with marks in place of long strings.
    pub body: Value,
    pub echo: Echo,
}

/// The body without what is taken out.
fn shortened(pieces: &[Piece], taken: &[(usize, Taken)], nonce: u64) -> Vec<u8> {
    let (mut text, mut at, mut passed) = (Vec::new(), 0, 0);
    for piece in pieces {
        piece.each(|bytes| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let next = taken.get(passed);
                let place = next.map_or(Span { from: u64::MAX, to: u64::MAX }, |(_, taken)| taken.at);
                let (end, is_taken) = if at < place.from { (place.from, false) } else { (place.to, true) };
                let length = (end - at).min(rest.len() as u64) as usize;
                let (part, behind) = rest.split_at(length);
                if !is_taken {
                    text.extend_from_slice(part);
                }
                at += length as u64;
                if let Some((number, taken)) = next.filter(|_| !is_taken && at == place.from) {
                    let quote = if taken.is_schema { "\"" } else { "" };
                    text.extend_from_slice(format!("{quote}{}{quote}", mark(nonce, *number)).as_bytes());
                }
                if is_taken && at == place.to {
                    passed += 1;
                }
                rest = behind;
            }
        });
    }
    text
}

fn parsed(text: &[u8]) -> Result<Value, Problem> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let malformed = |error| Problem::new(Code::InvalidJson, format!("The body is not acceptable JSON: {error}."));
    serde_json::from_slice(text).map_err(malformed)
}

/// Converts a request for the endpoint of a target.
pub async fn request(intake: &mut Intake, from: Endpoint, to: Endpoint, target: &Target) -> Result<Converted, Problem> {
    intake.complete().await?;
    let too_large = |most: u64| {
        let detail = format!("A request for a model of another format must not exceed {most} bytes.");
        Problem::new(Code::PayloadTooLarge, detail)
    };
    if intake.bytes > MAX_BYTES {
        return Err(too_large(MAX_BYTES));
    }
    let mut long = LongStrings::default();
    for piece in &intake.pieces {
        piece.each(|bytes| long.push(bytes));
    }
    let taken: Vec<(usize, Taken)> = long.found().iter().copied().enumerate().collect();
    let strings: Vec<(usize, Taken)> = taken.iter().filter(|(_, taken)| !taken.is_schema).copied().collect();
    let removed: u64 = strings.iter().map(|(_, taken)| taken.at.to - taken.at.from).sum();
    if intake.bytes - removed > MAX_INLINE {
        return Err(too_large(MAX_INLINE));
    }
    let nonce = random::number();
    let body = parsed(&shortened(&intake.pieces, &taken, nonce))?;
    // Only responses of the Responses API repeat the schemas of their request.
    let echo = match from {
        Endpoint::Responses => Echo::of(from, &parsed(&shortened(&intake.pieces, &strings, nonce))?),
        _ => Echo::of(from, &body),
    };
    let limits = Limits { max_output_tokens: target.offer.as_ref().and_then(|offer| offer.max_output_tokens) };
    let mut body = convert::request(from, to, body, &target.upstream, &limits).map_err(refused)?;
    if let (Endpoint::Chat, Some((_, endpoint))) = (to, target.endpoint()) {
        dialect::adapt(&mut body, &endpoint.host(), &target.upstream, endpoint.stream_usage);
    }
    let parts = put_back(&body.to_string(), &intake.pieces, long.found(), nonce);
    Ok(Converted { parts, body, echo })
}

fn put_back(text: &str, pieces: &[Piece], taken: &[Taken], nonce: u64) -> Parts {
    let all = Parts::default();
    for part in parts(text, nonce, taken) {
        match part {
            Part::Text(text) => all.text(text),
            Part::Taken(number) => {
                if let Some(Taken { at: Span { from, to }, .. }) = taken.get(number) {
                    all.range(pieces, *from, *to);
                }
            }
        }
    }
    all
}

fn refused(errors: Vec<narthex_core::base::json::Fault>) -> Problem {
    let named: Vec<String> = errors
        .iter()
        .map(|fault| format!("{} {}", fault.pointer.trim_start_matches("#/").replace('/', "."), fault.detail))
        .collect();
    let detail = format!("This cannot be expressed in the format of the model's provider: {}.", named.join("; "));
    Problem { errors, ..Problem::new(Code::InvalidRequest, detail) }
}
