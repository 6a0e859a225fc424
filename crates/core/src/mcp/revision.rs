//! Which era a request belongs to. Decided by the request alone, in the order of the list in [`of`].

use serde_json::value::RawValue;

use super::client_capabilities::Able;
use super::error::Error;
use super::message::Request;
use super::request_headers::Headers;
use super::{LEGACY, MODERN};
use crate::base::json::Object;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The longest token that progress is reported under, in bytes as it is written; under a longer one none is.
const MAX_TOKEN_BYTES: usize = 1024;

#[derive(Debug, PartialEq)]
pub enum Era {
    Modern(Envelope),
    /// The revision its header names, if it has one.
    Legacy(Option<&'static str>),
}

/// What a modern request says of its sender.
#[derive(Debug, Default, PartialEq)]
pub struct Envelope {
    pub able: Able,
    /// Its `ClientCapabilities`, as they came.
    pub client: String,
    /// The least severe messages it wants to hear of a call.
    pub log_level: Option<String>,
}

/// A revision of the modern kind, whether it is served or not.
fn is_modern(version: &str) -> bool {
    let bytes = version.as_bytes();
    let is_date = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
    is_date && version >= MODERN
}

/// The request's `_meta`.
pub fn meta(params: Option<&RawValue>) -> Option<&RawValue> {
    Object::new(params?.get(), "#").ok()?.raw_or_null("_meta")
}

/// The text that a request's `_meta` has as its version, if it has any; and whether it claims one at all.
fn claim(params: Option<&RawValue>) -> (Option<String>, bool) {
    let claimed = meta(params).and_then(|meta| Object::new(meta.get(), "#").ok()?.raw_or_null(VERSION));
    (claimed.and_then(|raw| serde_json::from_str(raw.get()).ok()), claimed.is_some())
}

/// Whether a message in a batch claims to be modern, which none there may.
pub fn claims_modern(request: &Request<'_>) -> bool {
    claim(request.params).1
}

/// Decides, and checks what the era asks of a request before its method is looked at.
pub fn of(request: &Request<'_>, headers: Headers<'_>) -> Result<Era, Error> {
    let (version, claims) = claim(request.params);
    if request.method == "initialize" {
        // A modern server has no such method.
        return match version.as_deref().is_some_and(is_modern) {
            true => Err(Error::Method { name: request.method.clone(), legacy: false }),
            false => Ok(Era::Legacy(None)),
        };
    }
    if claims {
        return modern(request, headers, version).map(Era::Modern);
    }
    match headers.version.map(str::trim) {
        Some(said) if is_modern(said) => {
            Err(Error::Envelope(format!("The request needs params._meta with {VERSION} and {CAPABILITIES}.")))
        }
        Some(said) => match LEGACY.iter().find(|known| **known == said) {
            Some(known) => Ok(Era::Legacy(Some(known))),
            None => Err(Error::Invalid(format!("MCP-Protocol-Version must be one of {MODERN}, {}", LEGACY.join(", ")))),
        },
        None => Ok(Era::Legacy(None)),
    }
}

fn modern(request: &Request<'_>, headers: Headers<'_>, version: Option<String>) -> Result<Envelope, Error> {
    let broken = |detail: String| Error::Envelope(detail);
    let Some(version) = version else {
        return Err(broken(format!("params._meta has a {VERSION} that is no string.")));
    };
    let meta = meta(request.params).map_or("{}", RawValue::get);
    let mut meta = Object::new(meta, "#").map_err(|_| broken("params._meta must be an object.".into()))?;
    let is_object = |raw: &RawValue| raw.get().starts_with('{');
    if meta.raw_or_null(CLIENT).is_some_and(|client| !is_object(client)) {
        return Err(broken(format!("params._meta has a {CLIENT} that is no object.")));
    }
    let Some(capabilities) = meta.raw_or_null(CAPABILITIES).filter(|raw| is_object(raw)) else {
        return Err(broken(format!("params._meta needs {CAPABILITIES}, an object.")));
    };
    headers.agree_on_version(&version)?;
    if version != MODERN {
        return Err(Error::Version { requested: version });
    }
    headers.check(&request.method, request.params)?;
    let log_level = meta.string(LOG_LEVEL, 1..=16);
    Ok(Envelope { able: Able::read(capabilities), client: capabilities.get().into(), log_level })
}

/// The revision that `initialize` is answered with.
pub fn negotiated(asked: Option<&str>) -> &'static str {
    let [latest, ..] = LEGACY;
    LEGACY.into_iter().find(|known| Some(*known) == asked).unwrap_or(latest)
}

/// What the client of a modern request can, as it declares it.
pub fn capabilities(params: Option<&RawValue>) -> Option<&RawValue> {
    Object::new(meta(params)?.get(), "#").ok()?.raw(CAPABILITIES)
}

/// What progress is reported under, if it is asked for: a string or an integer, as it was written.
pub fn progress_token(params: Option<&RawValue>) -> Option<&RawValue> {
    let token = Object::new(meta(params)?.get(), "#").ok()?.raw("progressToken")?;
    let is_one = token.get().starts_with('"') || token.get().parse::<i64>().is_ok();
    (is_one && token.get().len() <= MAX_TOKEN_BYTES).then_some(token)
}

#[cfg(test)]
mod tests;
