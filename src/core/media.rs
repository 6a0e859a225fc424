//! Media types (RFC 9110 §8.3.1) of what services answer.

/// Whether an answer is JSON: by its media type, or by how it begins where its type leaves that open. Many servers send
/// JSON as plain text, or say nothing.
pub fn is_json(media_type: &str, body: &[u8]) -> bool {
    // A header that came twice is joined with commas.
    let essence = media_type.split([';', ',']).next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split_once('/') {
        Some((_, subtype)) if subtype == "json" || subtype.ends_with("+json") => true,
        Some(("text", "plain")) | Some(("application", "octet-stream")) | None => begins_as_json(body),
        Some(_) => false,
    }
}

/// Answers are objects, and lists of models arrays.
fn begins_as_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    matches!(body.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

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
