//! Cross-origin requests: exact origins from `CORS_ORIGINS`, any origin only for what is public.

use crate::platform::http::Headers;
use narthex_core::http::header_name::{MCP_PARAMETERS, is_token};

use super::answer::Answer;
use super::call::Call;
use super::routes;

const EXPOSED: &str = "Location, Retry-After, RateLimit, RateLimit-Policy, ETag, Link, Allow, Accept-Patch, \
    Accept-Encoding, WWW-Authenticate, Idempotency-Replayed, traceparent, Server-Timing, Preference-Applied, \
    X-Request-Id, Mcp-Session-Id, MCP-Protocol-Version, X-Narthex-Context, X-Narthex-Service, X-Narthex-Model, \
    X-Narthex-Upstream-Request-Id, X-Narthex-Estimated, Request-Id, X-Should-Retry";
/// The beginnings of headers that browser builds of model clients send.
const MODEL_HEADERS: [&str; 6] =
    ["x-stainless-", "anthropic-", "openai-", "x-narthex-", "x-session-id", "x-claude-code-"];
const ALLOWED_HEADERS: &str = "Accept, Authorization, Cache-Control, Content-Type, Idempotency-Key, If-Match, \
    If-None-Match, Last-Event-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Mcp-Session-Id, Prefer, X-API-Key, \
    X-Request-Id, traceparent, tracestate";
const ALLOWED_METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// Names of parameters that a preflight may ask for: a tool has few.
const MAX_PARAMETERS: usize = 100;

fn allowed(call: &Call) -> Option<&str> {
    let origin = call.request.header("origin")?;
    call.settings.cors_origins.iter().any(|known| known == origin).then_some(origin)
}

/// The headers that may be sent. Those that mirror a tool's parameters are named by its schema, those of clients of
/// models by their libraries, and CORS cannot name a family of headers: those that the preflight asks for are allowed.
fn allowed_headers(call: &Call) -> String {
    let asked = call.request.header("access-control-request-headers").unwrap_or_default();
    let is_parameter = |name: &&str| {
        let begins = |start: &str| name.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start));
        (begins(MCP_PARAMETERS) || MODEL_HEADERS.into_iter().any(begins)) && is_token(name)
    };
    let parameters = asked.split(',').map(str::trim).filter(is_parameter).take(MAX_PARAMETERS);
    parameters.fold(ALLOWED_HEADERS.to_string(), |all, name| format!("{all}, {name}"))
}

/// The answer to a preflight; nothing for other requests.
pub fn preflight(call: &Call) -> Option<Answer> {
    if call.method() != "OPTIONS" || call.request.header("access-control-request-method").is_none() {
        return None;
    }
    let answer = Answer::empty(204);
    if routes::is_public(call) {
        // Without credentials `*` stands for every header; browsers want to see `Authorization` by its name.
        let answer = answer
            .with("access-control-allow-methods", "GET, HEAD")
            .with("access-control-allow-headers", &format!("{}, *", allowed_headers(call)))
            .with("access-control-max-age", "7200");
        return Some(Answer { public: true, ..answer }.with("cache-control", "no-store"));
    }
    Some(match allowed(call) {
        Some(_) => answer
            .with("access-control-allow-methods", ALLOWED_METHODS)
            .with("access-control-allow-headers", &allowed_headers(call))
            .with("access-control-max-age", "7200"),
        None => answer,
    })
}

pub fn headers(call: &Call, headers: &mut Headers, public: bool) {
    if public {
        headers.set("access-control-allow-origin", "*");
        headers.set("access-control-expose-headers", EXPOSED);
    } else {
        headers.set("vary", "Origin, Prefer");
        if let Some(origin) = allowed(call) {
            headers.set("access-control-allow-origin", origin);
            headers.set("access-control-expose-headers", EXPOSED);
        }
    }
}
