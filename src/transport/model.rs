//! Calls of models for clients that speak the provider's own format: bodies pass as they come.

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::calls::{self, Method, Request};
use crate::platform::http::Headers;
use crate::platform::relay::{self, CallBody, CallStart};
use narthex_core::calling::response::CallResult;
use narthex_core::http::egress_address::Address;
use narthex_core::models::endpoint::{ANTHROPIC_VERSION, Endpoint, Format};
use narthex_core::models::listing;
use narthex_core::services::openai_endpoints;
use narthex_core::services::transport::ModelEndpoint;

const VERSION: &str = "anthropic-version";
/// How long a provider may take to list its models, in milliseconds.
const LIST_MS: u64 = 5_000;

/// Where a model is called.
pub struct Destination<'a> {
    pub format: Format,
    pub endpoint: &'a ModelEndpoint,
    pub address: &'a Address,
    pub secrets: &'a DecryptedSecrets,
}

/// Sends a request. `forwarded`: headers of the client's that are passed on.
pub async fn call(
    to: &Destination<'_>,
    endpoint: Endpoint,
    forwarded: &[(&str, &str)],
    body: CallBody<'_>,
    milliseconds: u64,
) -> CallStart {
    let path = openai_endpoints::path(endpoint.capability()).unwrap_or_default();
    let address = to.endpoint.below(to.address, to.format, path);
    let mut headers = headers();
    headers.set("content-type", "application/json");
    for (name, value) in forwarded {
        headers.set(name, value);
    }
    if to.format == Format::Anthropic && !forwarded.iter().any(|(name, _)| *name == VERSION) {
        headers.set(VERSION, ANTHROPIC_VERSION);
    }
    to.secrets.add_credentials(&mut headers);
    relay::call(&to.secrets.addressed(&address), &headers, body, milliseconds).await
}

fn headers() -> Headers {
    let mut headers = Headers::default();
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    headers
}

/// The names that a provider lists as those of its models; `None` if it returns no list.
pub async fn list(to: &Destination<'_>) -> Option<Vec<String>> {
    let path = openai_endpoints::path("models")?;
    let mut address = to.endpoint.below(to.address, to.format, path);
    let mut headers = headers();
    headers.set("accept", "application/json");
    if to.format == Format::Anthropic {
        headers.set(VERSION, ANTHROPIC_VERSION);
        address = address.with_query([("limit", "1000")].into_iter());
    }
    to.secrets.add_credentials(&mut headers);
    let address = to.secrets.addressed(&address);
    match calls::send(&Request::within(LIST_MS, Method::Get, &address, &headers, None)).await {
        CallResult::Http { status: 200, body, .. } => listing::names(&body),
        _ => None,
    }
}
