//! Principals: whom credentials identify, and what that permits.

use serde::Serialize;

use crate::base::time::Timestamp;
use crate::http::problem::{Code, Problem};

use super::permission::allows;
use super::role;
use super::tenant::FIRST_TENANT;

/// The sender of a request, as its credentials identify it.
#[derive(Debug, Clone, Serialize)]
pub struct Principal {
    pub principal: String,
    /// What people call it: the name of an API key or an OAuth client.
    pub name: Option<String>,
    pub tenant: String,
    pub role: String,
    pub permissions: Vec<String>,
    #[serde(skip)]
    pub until: Option<Timestamp>,
    /// Of a token: what it came from, by the paths below `/v1`, and the roles that it has by its issuer. With any of them
    /// what it opened ends.
    #[serde(skip)]
    pub from: Vec<String>,
    #[serde(skip)]
    pub roles: Vec<String>,
}

impl Principal {
    /// The holder of the deployment's own key, in the tenant that the deployment begins with.
    pub fn admin() -> Self {
        Self {
            principal: "key:admin".into(),
            name: None,
            tenant: FIRST_TENANT.into(),
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

    /// A refusal that names what is missing.
    pub fn require(&self, permission: &str) -> Result<(), Problem> {
        if self.may(permission) { Ok(()) } else { Err(denied(permission)) }
    }

    /// The one decision about a capability: lists show what this allows, and calls are made when it does. `needed` are
    /// the permissions that the capability asks for itself.
    pub fn may_call(&self, service: &str, capability: &str, needed: &[String]) -> bool {
        self.may(&format!("contexts:create:{service}.{capability}")) && needed.iter().all(|needed| self.may(needed))
    }

    /// Whether there is any capability at all that it could call.
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

/// RFC 6750 §3.1.
pub fn denied(permission: &str) -> Problem {
    let roles = role::shipped_with(permission);
    let held = match roles.as_slice() {
        [one] => format!("the shipped role {one} has it"),
        several => format!("the shipped roles {} have it", listed(several)),
    };
    let detail = format!("This needs the permission {permission}; {held}.");
    let named = [permission].into_iter().chain(roles).map(str::to_string).collect();
    Problem { named, ..Problem::new(Code::PermissionDenied, detail) }
        .with_header("WWW-Authenticate", format!(r#"Bearer error="insufficient_scope", scope="{permission}""#))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
