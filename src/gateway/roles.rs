//! `/v1/roles`: named sets of permissions. Those that ship are listed and never change.

use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use narthex_core::access::principal::Principal;
use narthex_core::access::role::{self, BuiltInRole, Role};
use narthex_core::base::time::{Timestamp, as_optional_text};
use narthex_core::http::problem::{Code, Problem};

use super::answer::Answer;
use super::call::{Call, Caller};
use super::lists::page;
use super::services::{ask_registry, checked_id, refusal};

#[derive(Serialize)]
struct RoleView {
    name: String,
    description: String,
    permissions: Vec<String>,
    /// It comes with the gateway and cannot be changed.
    shipped: bool,
    #[serde(serialize_with = "as_optional_text")]
    created_at: Option<Timestamp>,
    #[serde(serialize_with = "as_optional_text")]
    updated_at: Option<Timestamp>,
}

fn shipped_view(role: &BuiltInRole) -> RoleView {
    RoleView {
        name: role.name.into(),
        description: role.description.into(),
        permissions: role.permissions.iter().map(ToString::to_string).collect(),
        shipped: true,
        created_at: None,
        updated_at: None,
    }
}

fn view(stored: &StoredDocument) -> Result<RoleView, Problem> {
    let role: Role =
        serde_json::from_str(stored.document.get()).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(RoleView {
        name: stored.id.clone(),
        description: role.description,
        permissions: role.permissions,
        shipped: false,
        created_at: Some(stored.created_at),
        updated_at: Some(stored.updated_at),
    })
}

pub fn etag(stored: &StoredDocument) -> String {
    format!("\"{}\"", stored.version)
}

/// Nobody gives what they do not have.
pub fn may_grant<'p>(principal: &Principal, permissions: impl IntoIterator<Item = &'p str>) -> Result<(), Problem> {
    permissions.into_iter().try_for_each(|permission| principal.require(permission))
}

fn not_shipped(name: &str) -> Result<(), Problem> {
    match role::built_in(name) {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::Conflict, "This role comes with the gateway and cannot be changed.")),
    }
}

/// Who changes or deletes a role takes from others what it grants.
fn may_change(caller: &Caller, name: &str) -> Result<(), Problem> {
    may_grant(&caller.principal, caller.snapshot.role(name).into_iter().flatten())
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let body = call.json_body().await?;
    let role = role::read(std::str::from_utf8(&body).unwrap_or_default()).map_err(Problem::invalid)?;
    not_shipped(name)?;
    may_grant(&caller.principal, role.permissions.iter().map(String::as_str))?;
    may_change(caller, name)?;
    let document = to_raw_value(&role).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Role, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            let answer = Answer::json(if created { 201 } else { 200 }, &view(&stored)?)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/roles/{name}")) } else { answer })
        }
        other => Err(refusal(other, "role")),
    }
}

pub async fn delete(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    not_shipped(name)?;
    may_change(caller, name)?;
    let ask = Ask::Delete { kind: DocumentKind::Role, id: name.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => Ok(Answer::empty(204)),
        other => Err(refusal(other, "role")),
    }
}

pub async fn get(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    if let Some(role) = role::built_in(name) {
        return Answer::json(200, &shipped_view(role));
    }
    let stored = caller.snapshot.documents(DocumentKind::Role).find(|stored| stored.id == name);
    let stored = stored.ok_or_else(|| Problem::not_found("role"))?;
    Ok(Answer::json(200, &view(stored)?)?.with("etag", &etag(stored)))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let shipped = role::BUILT_IN.iter().map(|role| Ok(shipped_view(role)));
    let data = shipped.chain(caller.snapshot.documents(DocumentKind::Role).map(view)).collect::<Result<Vec<_>, _>>()?;
    page(call, &data, None)
}
