//! Roles: named sets of permissions. Some are built in and never change; a tenant can define others.

use serde::{Deserialize, Serialize};

use super::permission;
use crate::base::json::{Fault, Object};

/// Maximum number of permissions of a role.
const MAX_PERMISSIONS: usize = 200;
/// The longest permission, in bytes.
const LONGEST: usize = super::permission::MAX_BYTES;

/// A role defined by a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub description: String,
    pub permissions: Vec<String>,
}

/// A built-in role, which every tenant has.
pub struct BuiltInRole {
    pub name: &'static str,
    pub description: &'static str,
    pub permissions: &'static [&'static str],
}

pub const BUILT_IN: [BuiltInRole; 5] = [
    BuiltInRole { name: "admin", description: "May do everything.", permissions: &["*"] },
    BuiltInRole {
        name: "operator",
        description: "Runs services, model routes, limits, webhooks, schedules and grants; uses models; sees, \
                      cancels and replays all contexts; reads events, usage, the audit log and sizes.",
        permissions: &[
            "contexts:create:*",
            "contexts:read:*",
            "contexts:cancel",
            "events:read",
            "models:use:*",
            "models:read",
            "models:write",
            "services:*",
            "limits:*",
            "webhooks:*",
            "schedules:*",
            "usage:*",
            "audit:*",
            "grants:*",
            "registry:read",
        ],
    },
    BuiltInRole {
        name: "caller",
        description: "Uses models; creates, reads and cancels contexts of its own.",
        permissions: &[
            "contexts:create:*",
            "contexts:read",
            "contexts:cancel",
            "models:use:*",
            "services:read",
            "events:read",
        ],
    },
    BuiltInRole { name: "viewer", description: "Reads everything and changes nothing.", permissions: &["*:read:*"] },
    BuiltInRole {
        name: "service",
        description: "For a service: each of its keys is for one service.",
        permissions: &[],
    },
];

/// The role of keys that belong to a single service.
pub const SERVICE: &str = "service";

pub fn built_in(name: &str) -> Option<&'static BuiltInRole> {
    BUILT_IN.iter().find(|role| role.name == name)
}

/// The built-in roles that have a permission.
pub fn built_in_with(permission: &str) -> Vec<&'static str> {
    let having = BUILT_IN.iter().filter(|role| permission::allows(role.permissions, permission));
    having.map(|role| role.name).collect()
}

/// Reads the body of a role. Returns every fault.
pub fn read(text: &str) -> Result<Role, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let description = body.string("description", 0..=1000).unwrap_or_default();
    let permissions = permissions(&mut body, MAX_PERMISSIONS);
    let permissions = body.require("permissions", permissions).unwrap_or_default();
    let faults = body.finish();
    if faults.is_empty() { Ok(Role { description, permissions }) } else { Err(faults) }
}

/// Reads the member `permissions` and adds a fault for each one that cannot be granted.
pub fn permissions(body: &mut Object<'_>, most: usize) -> Option<Vec<String>> {
    let permissions = body.strings("permissions", most, LONGEST)?;
    for (at, wanted) in permissions.iter().enumerate() {
        if !permission::valid(wanted) {
            let pointer = format!("#/permissions/{at}");
            body.faults([Fault::new(pointer, "must be a permission such as contexts:create:llm.*")]);
        }
    }
    Some(permissions)
}

/// The service of a key with the role `service`: the single service in its permissions, which are heartbeat and
/// connect. Callbacks require no permission besides their token.
pub fn service_of<'p>(permissions: &'p [String]) -> Option<&'p str> {
    let named = |permission: &'p String| {
        let rest = permission.strip_prefix("services:heartbeat:").or(permission.strip_prefix("services:connect:"));
        rest.filter(|id| crate::base::names::valid_id(id))
    };
    let first = named(permissions.first()?)?;
    permissions.iter().all(|permission| named(permission) == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_with_all_its_faults() {
        let role = read(r#"{"description":"d","permissions":["contexts:create:llm.*","keys:read"]}"#).unwrap();
        assert_eq!(role.permissions, ["contexts:create:llm.*", "keys:read"]);
        assert_eq!(read(r#"{"permissions":[]}"#).unwrap().description, "");
        let pointers =
            |text| read(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect::<Vec<_>>().join(" ");
        assert_eq!(pointers("{}"), "#/permissions");
        assert_eq!(pointers(r#"{"permissions":["a b","ok:read"],"more":1}"#), "#/permissions/0 #/more");
        assert_eq!(pointers("[]"), "#");
    }

    #[test]
    fn a_key_for_a_service_names_one_service_and_nothing_else() {
        let of = |permissions: &[&str]| {
            service_of(&permissions.iter().map(ToString::to_string).collect::<Vec<_>>()).map(str::to_string)
        };
        assert_eq!(of(&["services:heartbeat:llm"]).as_deref(), Some("llm"));
        assert_eq!(of(&["services:connect:llm", "services:heartbeat:llm"]).as_deref(), Some("llm"));
        for wrong in [
            &[] as &[&str],
            &["services:heartbeat:*"],
            &["services:heartbeat"],
            &["services:heartbeat:llm", "services:connect:other"],
            &["services:heartbeat:llm", "contexts:read"],
            &["services:write:llm"],
            &["*"],
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn shipped_roles_grant_only_what_can_be_granted() {
        for role in &BUILT_IN {
            assert!(crate::base::names::valid_id(role.name));
            assert!(role.permissions.iter().all(|one| permission::valid(one)), "{}", role.name);
        }
        assert!(built_in("root").is_none());
    }

    #[test]
    fn the_operator_sees_cancels_and_replays_the_work_of_all_and_manages_no_keys() {
        let may = |permission| built_in_with(permission).contains(&"operator");
        for permission in [
            "contexts:read",
            "contexts:read:*",
            "contexts:cancel",
            "contexts:create:llm.chat",
            "events:read",
            "usage:read",
            "audit:read",
            "services:write",
        ] {
            assert!(may(permission), "{permission}");
        }
        for permission in ["keys:write", "keys:read", "roles:write", "issuers:write", "tenants:write", "clients:write"]
        {
            assert!(!may(permission), "{permission}");
        }
        assert_eq!(built_in_with("contexts:read"), ["admin", "operator", "caller", "viewer"]);
        assert_eq!(built_in_with("keys:write"), ["admin"]);
    }
}
