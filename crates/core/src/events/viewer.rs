//! Readers of event streams, and what ends their streams.

use serde::{Deserialize, Serialize};

use crate::access::principal::Principal;
use crate::access::revocation::Revocation;
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// The reader of a stream, as the gateway authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    /// May see all contexts, not only its own.
    pub sees_all: bool,
    /// When its credentials expire.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// The documents its token depends on, as paths below `/v1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Roles and the required permissions that they alone grant to this viewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<(String, String)>,
    /// Is not shown the events: they only cause the gateway to check again what the viewer may see.
    #[serde(default, rename = "looks_itself", skip_serializing_if = "is_false")]
    pub notify_only: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Viewer {
    pub fn depends_on(&self, revocation: &Revocation) -> bool {
        match revocation {
            Revocation::Document(object) => self.from.contains(object),
            Revocation::Permissions { role, lost } => {
                self.by.iter().any(|(by, permission)| by == role && lost.contains(permission))
            }
            Revocation::Tenant => true,
        }
    }

    /// Whether the principal of its key, as it is now, may still see the stream. `is_bound`: it shows one context.
    pub fn is_allowed(&self, principal: &Principal, is_bound: bool) -> bool {
        let may_look = self.notify_only || principal.may("events:read") || is_bound && principal.may("contexts:read");
        may_look && (!self.sees_all || principal.sees_all_contexts())
    }
}
