//! Metadata for clients and resource servers: RFC 8414, RFC 9728, RFC 7517.

use serde_json::json;

use crate::auth::key_sets;
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwk::Jwk;
use narthex_core::base::names::valid_id;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::origin;

/// Permissions that a client without knowledge of the gateway can ask for.
const SCOPES: [&str; 6] =
    ["contexts:create:*", "contexts:read", "contexts:cancel", "services:read", "events:read", "usage:read"];

fn public(value: &serde_json::Value) -> Result<Answer, Problem> {
    let mut answer = Answer::json(200, value)?;
    answer.public = true;
    Ok(answer.with("cache-control", "public, max-age=300"))
}

pub fn server(call: &Call) -> Result<Answer, Problem> {
    let origin = origin(call);
    let at = |path: &str| format!("{origin}/oauth/{path}");
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let algorithms = Algorithm::ALL.map(Algorithm::name);
    let mut metadata = json!({
        "issuer": origin,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "revocation_endpoint": at("revoke"),
        "introspection_endpoint": at("introspect"),
        "jwks_uri": at("jwks"),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint_auth_methods_supported": methods.get(..3),
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "client_id_metadata_document_supported": true,
    });
    if let Some(members) = metadata.as_object_mut().filter(|_| call.settings.oauth_registration) {
        members.insert("registration_endpoint".into(), at("register").into());
    }
    public(&metadata)
}

pub fn resource(call: &Call, path: &str) -> Result<Answer, Problem> {
    if path.strip_prefix("/mcp/").is_some_and(|service| !valid_id(service)) {
        return Err(Problem::not_found("path"));
    }
    let origin = origin(call);
    public(&json!({
        "resource": format!("{origin}{path}"),
        "authorization_servers": [origin],
        "scopes_supported": SCOPES,
        "bearer_methods_supported": ["header"],
        "resource_name": "Narthex",
    }))
}

pub async fn keys() -> Result<Answer, Problem> {
    let keys = key_sets::own_keys().await.map_err(internal)?;
    public(&json!({"keys": keys.iter().map(Jwk::view).collect::<Vec<_>>()}))
}
