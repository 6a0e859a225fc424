//! Access tokens that the gateway issues (RFC 9068): signed with its own key, short-lived, for exactly one resource.

use serde::{Deserialize, Serialize};

use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;

/// How long a token is valid, in seconds.
pub const LIFETIME_SECONDS: u64 = 300;

/// The claims of a token (RFC 7519, RFC 9068).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenClaims {
    pub iss: String,
    /// The principal that the token acts as.
    pub sub: PrincipalId,
    pub aud: String,
    pub client_id: String,
    pub scope: String,
    pub exp: u64,
    pub iat: u64,
    pub jti: String,
    /// The tenant whose registry has the client and the subject.
    pub tenant: TenantId,
    /// The grant of the token; revoking the grant revokes the token. A token without a grant is revoked by its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The roles of a person who signed in at an external issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

impl AccessTokenClaims {
    /// The id under which the token can be revoked.
    pub fn family(&self) -> &str {
        self.grant.as_deref().unwrap_or(&self.jti)
    }
}

/// Whether `resource` (RFC 8707) is the gateway's API or one of its MCP endpoints.
pub fn known_resource(resource: &str, origin: &str) -> bool {
    let Some(path) = resource.strip_prefix(origin) else { return false };
    match path {
        "" | "/" | "/mcp" => true,
        path => path.strip_prefix("/mcp/").is_some_and(crate::base::names::valid_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_one_of_the_gateways_own() {
        let origin = "https://gateway.example.com";
        for good in ["", "/", "/mcp", "/mcp/words"] {
            assert!(known_resource(&format!("{origin}{good}"), origin), "{good}");
        }
        for bad in ["/v1", ".evil.example", "/mcp/", "/mcp/a/b", "/mcp?x", "#x"] {
            assert!(!known_resource(&format!("{origin}{bad}"), origin), "{bad}");
        }
    }
}
