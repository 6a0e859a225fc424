//! The gateway itself: health, contracts, console, costs.

use serde_json::json;
use serde_json::value::RawValue;

use crate::platform::objects;
use narthex_core::http::problem::Problem;

use super::answer::{Answer, JSON, internal};
use super::call::{Call, Caller};

/// That the gateway runs, its version, and the commit that it was built from.
pub fn health(call: &Call) -> Result<Answer, Problem> {
    const BEGINNING: &str = concat!(r#"{"status":"ok","version":""#, env!("CARGO_PKG_VERSION"), r#"","commit":"#);
    let text = match &call.settings.commit {
        Some(commit) => format!(r#"{BEGINNING}"{commit}"}}"#),
        None => format!("{BEGINNING}null}}"),
    };
    Ok(Answer::text(200, JSON, text))
}

/// `openapi.json` and `asyncapi.json`, which lie among the console's files.
pub async fn contract(call: &Call) -> Result<Answer, Problem> {
    let mut answer = console(call).await?;
    answer.public = true;
    Ok(answer.with("cache-control", "public, max-age=300"))
}

/// The features that the console must know before sign-in.
pub fn console_features(call: &Call) -> Result<Answer, Problem> {
    Answer::json(200, &json!({"oauth": call.settings.oauth, "demo": call.settings.demo}))
}

/// The console's files; other paths are not found.
pub async fn console(call: &Call) -> Result<Answer, Problem> {
    let response = call.request.asset().await.map_err(internal)?;
    let status = js_sys::Reflect::get(&response, &"status".into()).ok().and_then(|status| status.as_f64());
    match status.map(|status| status as u16) {
        Some(404) | None => Err(Problem::not_found("path")),
        Some(status) => Ok(Answer::made(status, response)
            .with("content-security-policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
            .with("referrer-policy", "no-referrer")),
    }
}

/// The caller, as their credentials identify them.
pub fn who_am_i(caller: &Caller) -> Result<Answer, Problem> {
    Answer::json(200, &caller.principal)
}

/// The costs of this isolate's calls to objects since it started.
pub fn costs() -> Result<Answer, Problem> {
    let costs = RawValue::from_string(objects::costs()).map_err(|error| Problem::internal(error.to_string()))?;
    Answer::json(200, &costs)
}
