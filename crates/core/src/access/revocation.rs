//! What ends credentials that are not themselves revoked.

use serde::{Deserialize, Serialize};

/// A revocation that ends the credentials which depend on what was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// An issuer, a client or a grant that was deleted or replaced, as a path below `/v1`.
    #[serde(rename = "from")]
    Document(String),
    /// Permissions that a role has lost.
    Permissions {
        role: String,
        lost: Vec<String>,
    },
    Tenant,
}
