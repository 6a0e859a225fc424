//! Principals: the identities behind credentials, and their permissions.

use serde::Serialize;

use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::http::problem::{Code, Problem};

use super::permission::{allows, to_scope};
use super::role;

/// The sender of a request, as its credentials identify it.
#[derive(Debug, Clone, Serialize)]
pub struct Principal {
    pub principal: PrincipalId,
    /// The display name: that of an API key or an OAuth client.
    pub name: Option<String>,
    pub tenant: TenantId,
    pub role: String,
    pub permissions: Vec<String>,
    #[serde(skip)]
    pub until: Option<Timestamp>,
    /// For a token: the documents it depends on, as paths below `/v1`, and its roles at the issuer. If one of them is
    /// deleted or changed, the connections opened with the token are closed.
    #[serde(skip)]
    pub from: Vec<String>,
    #[serde(skip)]
    pub roles: Vec<String>,
}

impl Principal {
    /// The holder of the deployment's `ADMIN_KEY`, in the first tenant.
    pub fn admin() -> Self {
        Self {
            principal: PrincipalId::of_key("admin"),
            name: None,
            tenant: TenantId::first(),
            role: "admin".into(),
            permissions: vec!["*".into()],
            until: None,
            from: Vec::new(),
            roles: Vec::new(),
        }
    }

    pub fn may(&self, permission: &str) -> bool {
        allows(&self.permissions, permission)
    }

    /// Rejects a request without the permission, and names it.
    pub fn require(&self, permission: &str) -> Result<(), Problem> {
        if self.may(permission) { Ok(()) } else { Err(denied(permission)) }
    }

    /// Whether the principal may call a capability. Lists and calls use the same decision. `needed`: the permissions
    /// that the capability itself requires.
    pub fn may_call(&self, service: &ServiceId, capability: &str, needed: &[String]) -> bool {
        self.may(&format!("contexts:create:{service}.{capability}")) && needed.iter().all(|needed| self.may(needed))
    }

    /// Whether there can be any capability that the principal may call.
    pub fn may_create_any(&self) -> bool {
        self.permissions.iter().any(|granted| {
            let mut segments = granted.split(':');
            let area = segments.next();
            area == Some("*") && segments.next().is_none()
                || matches!(area, Some("contexts" | "*")) && matches!(granted.split(':').nth(1), Some("create" | "*"))
        })
    }

    pub fn sees_all_contexts(&self) -> bool {
        self.may("contexts:read:*")
    }
}

/// The problem for a missing permission (RFC 6750 §3.1).
pub fn denied(permission: &str) -> Problem {
    let roles = role::built_in_with(permission);
    let held = match roles.as_slice() {
        [one] => format!("the built-in role {one} has it"),
        several => format!("the built-in roles {} have it", listed(several)),
    };
    let detail = format!("This requires the permission {permission}; {held}.");
    let named = [permission].into_iter().chain(roles).map(str::to_string).collect();
    Problem { named, ..Problem::new(Code::PermissionDenied, detail) }.with_header(
        "WWW-Authenticate",
        format!(r#"Bearer error="insufficient_scope", scope="{}""#, to_scope(permission)),
    )
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
