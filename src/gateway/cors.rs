//! Cross-origin requests: exact origins from `CORS_ORIGINS`, any origin only for what is public.

use crate::platform::http::Headers;

use super::answer::Answer;
use super::call::Call;

const EXPOSED: &str = "Location, Retry-After, RateLimit, RateLimit-Policy, ETag, Link, WWW-Authenticate, \
    Idempotency-Replayed, traceparent, Server-Timing, Preference-Applied, X-Request-Id";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, \
    Last-Event-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Prefer, X-API-Key, X-Request-Id, traceparent, tracestate";

fn allowed(call: &Call) -> Option<&str> {
    let origin = call.request.header("origin")?;
    call.settings.cors_origins.iter().any(|known| known == origin).then_some(origin)
}

/// The answer to a preflight; nothing for other requests.
pub fn preflight(call: &Call) -> Option<Answer> {
    if call.method() != "OPTIONS" || call.request.header("access-control-request-method").is_none() {
        return None;
    }
    let answer = Answer::empty(204);
    Some(match allowed(call) {
        Some(_) => answer
            .with("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE")
            .with("access-control-allow-headers", ALLOWED_HEADERS)
            .with("access-control-max-age", "7200"),
        None => answer,
    })
}

pub fn headers(call: &Call, headers: &mut Headers, public: bool) {
    if public {
        headers.set("access-control-allow-origin", "*");
    } else {
        headers.set("vary", "Origin, Prefer");
        if let Some(origin) = allowed(call) {
            headers.set("access-control-allow-origin", origin);
            headers.set("access-control-expose-headers", EXPOSED);
        }
    }
}
