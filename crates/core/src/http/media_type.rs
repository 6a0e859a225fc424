//! Media types (RFC 9110 §8.3.1) of responses, requests and `Accept` headers.

use crate::base::json::MARK;

/// Whether a response is JSON: by its media type or, if that is inconclusive, by its first character. Many servers send
/// JSON as plain text or without a type.
pub fn is_json(media_type: &str, body: &[u8]) -> bool {
    // Repeated headers are joined with commas.
    let essence = media_type.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split_once('/') {
        Some((_, subtype)) if subtype == "json" || subtype.ends_with("+json") => true,
        Some(("text", "plain")) | Some(("application", "octet-stream")) | None => begins_as_json(body),
        Some(_) => false,
    }
}

/// Responses are objects; lists of models may be arrays.
fn begins_as_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(MARK).unwrap_or(body);
    matches!(body.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['))
}

/// Why a body is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsupportedBody {
    /// Another media type.
    Type,
    /// A character set other than UTF-8.
    Charset,
}

/// JSON types that describe changes to a document.
const PATCHES: [&str; 2] = ["json-patch+json", "merge-patch+json"];

/// Splits a media type into the type in lower case and the parameters, whose values may be quoted.
fn parts(content_type: &str) -> (String, Vec<(String, String)>) {
    let mut is_quoted = false;
    let mut pieces = content_type.split(|c: char| {
        is_quoted ^= c == '"';
        c == ';' && !is_quoted
    });
    let essence = pieces.next().unwrap_or_default().trim().to_ascii_lowercase();
    let parameters = pieces.filter_map(|piece| piece.split_once('='));
    let clean = |text: &str| text.trim().trim_matches('"').to_ascii_lowercase();
    (essence, parameters.map(|(name, value)| (clean(name), clean(value))).collect())
}

/// Whether the character set is UTF-8 or its subset ASCII.
fn is_utf8(parameters: &[(String, String)]) -> bool {
    let mut charsets = parameters.iter().filter(|(name, _)| name == "charset");
    charsets.all(|(_, charset)| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"))
}

/// Accepts a body whose type, in lower case, `fits` and whose character set is UTF-8.
fn readable(content_type: &str, fits: impl Fn(&str) -> bool) -> Result<(), UnsupportedBody> {
    let (essence, parameters) = parts(content_type);
    if !fits(&essence) {
        return Err(UnsupportedBody::Type);
    }
    if is_utf8(&parameters) { Ok(()) } else { Err(UnsupportedBody::Charset) }
}

/// Accepts a body with this `Content-Type` as a JSON document.
pub fn json_document(content_type: &str) -> Result<(), UnsupportedBody> {
    readable(content_type, |essence| {
        let subtype = essence.strip_prefix("application/");
        subtype.is_some_and(|kind| kind == "json" || kind.ends_with("+json") && !PATCHES.contains(&kind))
    })
}

/// Accepts a body with this `Content-Type` as a merge patch (RFC 7396).
pub fn merge_patch(content_type: &str) -> Result<(), UnsupportedBody> {
    readable(content_type, |essence| matches!(essence, "application/merge-patch+json" | "application/json"))
}

/// Accepts a body with this `Content-Type` as a form.
pub fn form(content_type: &str) -> Result<(), UnsupportedBody> {
    readable(content_type, |essence| essence == "application/x-www-form-urlencoded")
}

/// Whether a body with this `Content-Encoding` is not encoded.
pub fn is_plain(content_encoding: &str) -> bool {
    let mut codings = content_encoding.split(',').map(str::trim);
    codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
}

pub const EVENT_STREAM: &str = "text/event-stream";

/// The quality of a media type in an `Accept` header, of 1000, and how specifically it is named: 3 exactly, 2 by
/// `type/*`, 1 by `*/*`, 0 not at all (RFC 9110 §12.5.1).
fn wanted(accept: &str, media: &str) -> (u16, u8) {
    let kind = media.split('/').next().unwrap_or_default();
    let mut best = (0, 0);
    for range in accept.split(',') {
        let (essence, parameters) = parts(range);
        let exactness = match essence.split_once('/') {
            _ if essence == media => 3,
            Some((own, "*")) if own == kind => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let quality = parameters.iter().find(|(name, _)| name == "q").map_or(Some(1.0), |(_, q)| q.parse::<f64>().ok());
        let quality = quality.filter(|q| (0.0..=1.0).contains(q)).map_or(0, |q| (q * 1000.0) as u16);
        if exactness > best.1 {
            best = (quality, exactness);
        }
    }
    best
}

/// Whether a client prefers Server-Sent Events to JSON; `otherwise` if its `Accept` does not decide.
pub fn prefers_stream(accept: &str, otherwise: bool) -> bool {
    if accept.trim().is_empty() {
        return otherwise;
    }
    let ((stream, exactly), (json, exactly_json)) = (wanted(accept, EVENT_STREAM), wanted(accept, "application/json"));
    match (stream, json) {
        (0, _) if exactly == 3 => false,
        (0, 0) => otherwise,
        _ if stream != json => stream > json,
        // A client that names the stream type can read it.
        _ if exactly == 3 => true,
        _ if exactly_json > exactly => false,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_patches_and_forms_are_distinguished() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/vnd.api+json",
            "application/json; profile=\"a;charset=utf-16\"",
            "application/json; charset=us-ascii",
        ] {
            assert_eq!(json_document(json), Ok(()), "{json}");
        }
        for other in [
            "",
            "text/plain",
            "text/json",
            "application/xml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/jsonp",
            "application/json, application/json",
            "json",
        ] {
            assert_eq!(json_document(other), Err(UnsupportedBody::Type), "{other}");
        }
        for other in [
            "application/json; charset=utf-16",
            "application/json;charset=\"ISO-8859-1\"",
            "application/json; Charset=UTF-16LE",
            "application/json; charset=utf-8; charset=utf-16",
        ] {
            assert_eq!(json_document(other), Err(UnsupportedBody::Charset), "{other}");
            assert_eq!(merge_patch(other), Err(UnsupportedBody::Charset), "{other}");
        }
        assert_eq!(merge_patch("application/merge-patch+json"), Ok(()));
        assert_eq!(merge_patch("application/json"), Ok(()));
        for other in ["application/json-patch+json", "application/vnd.api+json", "text/plain", ""] {
            assert_eq!(merge_patch(other), Err(UnsupportedBody::Type), "{other}");
        }
        assert_eq!(form("application/x-www-form-urlencoded; charset=UTF-8"), Ok(()));
        assert_eq!(form("application/x-www-form-urlencoded; charset=latin1"), Err(UnsupportedBody::Charset));
        assert_eq!(form("multipart/form-data; boundary=a"), Err(UnsupportedBody::Type));
    }

    #[test]
    fn only_what_is_sent_as_it_is_is_plain() {
        for plain in ["", "identity", "Identity", "identity, identity", " "] {
            assert!(is_plain(plain), "{plain}");
        }
        for coded in ["gzip", "GZIP", "br", "identity, gzip", "deflate", "zstd", "x", "gzip;q=1"] {
            assert!(!is_plain(coded), "{coded}");
        }
    }

    #[test]
    fn a_stream_is_preferred_according_to_accept() {
        for (accept, by_itself, listed) in [
            ("", true, false),
            ("*/*", true, false),
            ("text/event-stream", true, true),
            ("Text/Event-Stream", true, true),
            ("text/*", true, true),
            ("application/json", false, false),
            ("application/*", false, false),
            ("application/json, text/event-stream", true, true),
            ("application/json, text/plain, */*", false, false),
            ("text/event-stream, */*", true, true),
            ("application/json;q=0.9, text/event-stream;q=0.5", false, false),
            ("application/json;q=0.5, text/event-stream", true, true),
            ("text/event-stream;q=0", false, false),
            ("text/event-stream;q=0, */*", false, false),
            ("text/event-stream; q=0.000, application/json", false, false),
            ("text/html", true, false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true, false),
            ("application/problem+json", true, false),
        ] {
            assert_eq!((prefers_stream(accept, true), prefers_stream(accept, false)), (by_itself, listed), "{accept}");
        }
    }

    #[test]
    fn json_is_known_by_its_type_or_by_how_it_begins() {
        for media_type in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;v=1",
            "application/problem+json",
            "application/vnd.api+json",
            "text/json",
            "application/json, application/json",
        ] {
            assert!(is_json(media_type, b"<html>"), "{media_type}");
        }
        for media_type in ["", "text/plain", "text/plain; charset=latin1", "application/octet-stream", "json"] {
            assert!(is_json(media_type, b" {\"a\":1}"), "{media_type}");
            assert!(is_json(media_type, b"\xef\xbb\xbf[1]"), "{media_type}");
            assert!(!is_json(media_type, b"busy"), "{media_type}");
            assert!(!is_json(media_type, b""), "{media_type}");
        }
        for media_type in
            ["text/html", "application/xml", "text/event-stream", "application/jsonp", "application/x-json-no"]
        {
            assert!(!is_json(media_type, b"{}"), "{media_type}");
        }
    }
}
