//! The protocol revision of a request. It is decided by the request alone, in the order of [`of`].

use serde_json::value::RawValue;

use super::client_capabilities::ClientCapabilities;
use super::error::Error;
use super::message::Request;
use super::request_headers::Headers;
use super::{LEGACY, MODERN};
use crate::base::json::Object;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The longest progress token, in bytes as written; longer ones are ignored.
const MAX_TOKEN_BYTES: usize = 1024;

/// The revision of a request.
#[derive(Debug, PartialEq)]
pub enum Revision {
    Modern(Envelope),
    /// The revision in its header, if there is one.
    Legacy(Option<&'static str>),
}

/// The metadata of a modern request.
#[derive(Debug, Default, PartialEq)]
pub struct Envelope {
    pub able: ClientCapabilities,
    /// Its `ClientCapabilities`, verbatim.
    pub client: String,
    /// The minimum severity of log messages it wants for a call.
    pub log_level: Option<String>,
}

/// A modern revision, supported or not.
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

/// The version string in a request's `_meta`, if any; and whether there is any version.
fn claim(params: Option<&RawValue>) -> (Option<String>, bool) {
    let claimed = meta(params).and_then(|meta| Object::new(meta.get(), "#").ok()?.raw_or_null(VERSION));
    (claimed.and_then(|raw| serde_json::from_str(raw.get()).ok()), claimed.is_some())
}

/// Whether a message in a batch claims to be modern, which is not allowed there.
pub fn claims_modern(request: &Request<'_>) -> bool {
    claim(request.params).1
}

/// Decides the revision, and checks what it requires of a request before its method is examined.
pub fn of(request: &Request<'_>, headers: Headers<'_>) -> Result<Revision, Error> {
    let (version, claims) = claim(request.params);
    if request.method == "initialize" {
        // A modern server does not have this method.
        return match version.as_deref().is_some_and(is_modern) {
            true => Err(Error::Method { name: request.method.clone(), legacy: false }),
            false => Ok(Revision::Legacy(None)),
        };
    }
    if claims {
        return modern(request, headers, version).map(Revision::Modern);
    }
    match headers.version.map(str::trim) {
        Some(said) if is_modern(said) => {
            Err(Error::Envelope(format!("The request needs params._meta with {VERSION} and {CAPABILITIES}.")))
        }
        Some(said) => match LEGACY.iter().find(|known| **known == said) {
            Some(known) => Ok(Revision::Legacy(Some(known))),
            None => Err(Error::Invalid(format!("MCP-Protocol-Version must be one of {MODERN}, {}", LEGACY.join(", ")))),
        },
        None => Ok(Revision::Legacy(None)),
    }
}

fn modern(request: &Request<'_>, headers: Headers<'_>, version: Option<String>) -> Result<Envelope, Error> {
    let broken = |detail: String| Error::Envelope(detail);
    let Some(version) = version else {
        return Err(broken(format!("params._meta has a {VERSION} that is not a string.")));
    };
    let meta = meta(request.params).map_or("{}", RawValue::get);
    let mut meta = Object::new(meta, "#").map_err(|_| broken("params._meta must be an object.".into()))?;
    let is_object = |raw: &RawValue| raw.get().starts_with('{');
    if meta.raw_or_null(CLIENT).is_some_and(|client| !is_object(client)) {
        return Err(broken(format!("params._meta has a {CLIENT} that is not an object.")));
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
    Ok(Envelope { able: ClientCapabilities::read(capabilities), client: capabilities.get().into(), log_level })
}

/// The revision in the response to `initialize`.
pub fn negotiated(asked: Option<&str>) -> &'static str {
    let [latest, ..] = LEGACY;
    LEGACY.into_iter().find(|known| Some(*known) == asked).unwrap_or(latest)
}

/// The client capabilities of a modern request.
pub fn capabilities(params: Option<&RawValue>) -> Option<&RawValue> {
    Object::new(meta(params)?.get(), "#").ok()?.raw(CAPABILITIES)
}

/// The progress token, if there is one: a string or an integer, as it was written.
pub fn progress_token(params: Option<&RawValue>) -> Option<&RawValue> {
    let token = Object::new(meta(params)?.get(), "#").ok()?.raw("progressToken")?;
    let is_one = token.get().starts_with('"') || token.get().parse::<i64>().is_ok();
    (is_one && token.get().len() <= MAX_TOKEN_BYTES).then_some(token)
}

#[cfg(test)]
mod tests;
