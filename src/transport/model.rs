//! Calls of models for clients that speak the provider's own format: bodies pass as they come.

use crate::objects::secrets::DecryptedSecrets;
use crate::platform::http::Headers;
use crate::platform::relay::{self, CallBody, CallStart};
use narthex_core::http::egress_address::Address;
use narthex_core::models::endpoint::{ANTHROPIC_VERSION, Endpoint, Format};
use narthex_core::services::openai_endpoints;
use narthex_core::services::transport::ModelEndpoint;

const VERSION: &str = "anthropic-version";

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
    let mut headers = Headers::default();
    headers.set("content-type", "application/json");
    headers.set("user-agent", concat!("narthex/", env!("CARGO_PKG_VERSION")));
    for (name, value) in forwarded {
        headers.set(name, value);
    }
    if to.format == Format::Anthropic && !forwarded.iter().any(|(name, _)| *name == VERSION) {
        headers.set(VERSION, ANTHROPIC_VERSION);
    }
    to.secrets.add_credentials(&mut headers);
    relay::call(to.secrets.addressed(&address).as_str(), &headers, body, milliseconds).await
}
