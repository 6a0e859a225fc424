//! `/v1/roles`: named sets of permissions. The built-in ones are listed and never change.

use serde::Serialize;

use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use narthex_core::access::principal::Principal;
use narthex_core::access::role::{self, BuiltInRole, Role};
use narthex_core::base::time::{Timestamp, as_optional_text};
use narthex_core::http::problem::{Code, Problem};

use super::super::call::{Call, Caller};
use super::Document;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    name: &'a str,
    description: &'a str,
    permissions: Vec<&'a str>,
    /// Comes with the gateway and cannot be changed.
    #[serde(rename = "shipped")]
    built_in: bool,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    created_at: Option<Timestamp>,
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    updated_at: Option<Timestamp>,
}

fn built_in_view<'a>(role: &'static BuiltInRole) -> View<'a> {
    View {
        name: role.name,
        description: role.description,
        permissions: role.permissions.to_vec(),
        built_in: true,
        created_at: None,
        updated_at: None,
    }
}

/// Callers grant only what they have.
pub fn may_grant<'p>(principal: &Principal, permissions: impl IntoIterator<Item = &'p str>) -> Result<(), Problem> {
    permissions.into_iter().try_for_each(|permission| principal.require(permission))
}

fn not_built_in(name: &str) -> Result<(), Problem> {
    match role::built_in(name) {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::Conflict, "This role is built in and cannot be changed.")),
    }
}

/// Changing or deleting a role takes from others what it grants.
fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    may_grant(&caller.principal, caller.snapshot.rules.role(name).into_iter().flatten())
}

impl Document for Role {
    const KIND: DocumentKind = DocumentKind::Role;
    type Extras = ();
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, role: &'a Self, (): &()) -> View<'a> {
        View {
            name: &stored.id,
            description: &role.description,
            permissions: role.permissions.iter().map(String::as_str).collect(),
            built_in: false,
            created_at: Some(stored.created_at),
            updated_at: Some(stored.updated_at),
        }
    }

    fn built_in<'a>(id: Option<&str>) -> Vec<View<'a>> {
        match id {
            Some(name) => role::built_in(name).map(built_in_view).into_iter().collect(),
            None => role::BUILT_IN.iter().map(built_in_view).collect(),
        }
    }

    async fn accept(_: &Call, caller: &Caller, name: &str, body: &str) -> Result<(Self, ()), Problem> {
        let role = role::read(body).map_err(Problem::invalid)?;
        not_built_in(name)?;
        may_grant(&caller.principal, role.permissions.iter().map(String::as_str))?;
        may_change(caller, name)?;
        Ok((role, ()))
    }

    async fn may_delete(_: &Call, caller: &Caller, name: &str) -> Result<(), Problem> {
        not_built_in(name)?;
        may_change(caller, name)
    }
}
