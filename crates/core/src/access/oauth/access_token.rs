//! Access tokens the gateway issues itself (RFC 9068): signed by its own key, short, for exactly one resource.

use serde::{Deserialize, Serialize};

/// How long one is good for, in seconds.
pub const LIFE_SECONDS: u64 = 300;

/// What one says. `iss`, `iat` and `exp` are RFC 7519's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub sub: String,
    pub aud: String,
    pub client_id: String,
    pub scope: String,
    pub exp: u64,
    pub iat: u64,
    pub jti: String,
    /// Whose registry has the client and the subject.
    pub tenant: String,
    /// The grant it came from; what ends that ends it. Without one it stands alone, and its `jti` is what ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Of a person who signed in elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

impl Claims {
    /// The name under which it can be ended before its time.
    pub fn family(&self) -> &str {
        self.grant.as_deref().unwrap_or(&self.jti)
    }
}

/// The resource of a token: the gateway's own API, or one of its MCP endpoints (RFC 8707).
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
