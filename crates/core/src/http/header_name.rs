//! Which header names may be configured for calls to services.

/// Names that belong to the gateway, the connection or the platform: configured values would be replaced, removed on
/// the way, or misleading.
const RESERVED: [&str; 29] = [
    // The platform builds headers from a JavaScript object, in which this is not a property.
    "__proto__",
    // The message and the connection (RFC 9110 §7.6.1, §8, §10.1.1; RFC 9112).
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    // What the gateway accepts, and its identity.
    "accept",
    "accept-encoding",
    "user-agent",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "last-event-id",
    // For browsers.
    "cookie",
    "cookie2",
    "set-cookie",
    // The origin of a request, set by the platform.
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "cdn-loop",
];

/// Prefixes of such names.
const RESERVED_PREFIXES: [&str; 7] = ["webhook-", "cf-", "x-forwarded-", "mcp-", "narthex-", "sec-", "proxy-"];

/// The prefix of headers that carry parameters of an MCP tool.
pub const MCP_PARAMETERS: &str = "mcp-param-";

/// Whether the text is a token (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Whether a header with this name may be configured: a token that is not reserved.
pub fn may_be_chosen(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_token(name)
        && !RESERVED.contains(&lower.as_str())
        && !RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_cannot_be_chosen() {
        for name in [
            "",
            "a b",
            "a:b",
            "ä",
            "a\nb",
            "__proto__",
            "__PROTO__",
            "Host",
            "content-length",
            "Connection",
            "TE",
            "Keep-Alive",
            "Proxy-Authorization",
            "CF-Ray",
            "cf-connecting-ip",
            "X-Forwarded-For",
            "Forwarded",
            "Mcp-Session-Id",
            "MCP-Protocol-Version",
            "mcp-param-region",
            "Webhook-Signature",
            "Set-Cookie",
            "Accept",
            "User-Agent",
            "Sec-Fetch-Mode",
            "Last-Event-ID",
            "Traceparent",
            "Expect",
            "Narthex-Identity",
        ] {
            assert!(!may_be_chosen(name), "{name:?}");
        }
    }

    #[test]
    fn names_that_services_ask_for_are() {
        for name in [
            "Authorization",
            "X-API-Key",
            "api-key",
            "apikey",
            "x-goog-api-key",
            "anthropic-version",
            "OpenAI-Beta",
            "constructor",
            "toString",
            "Ocp-Apim-Subscription-Key",
            "X-Auth-Token",
            "Private-Token",
            "DD-API-KEY",
            "_",
        ] {
            assert!(may_be_chosen(name), "{name:?}");
        }
    }
}
