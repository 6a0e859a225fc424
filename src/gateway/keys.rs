//! `/v1/keys`: API keys. A secret is shown in the response that makes it, and never again.

use serde::Serialize;

use crate::objects::protocol::Done;
use crate::objects::registry::messages::{
    CreateKey, Key, KeyReply, LastUsed, NewKey, ReadLastUsed, RevokeKey, RotateKey,
};
use crate::platform::{clock, random};
use narthex_core::access::api_key;
use narthex_core::access::role;
use narthex_core::base::json::Object;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::http::problem::Problem;

use super::answer::Answer;
use super::call::{Call, Caller};
use super::documents::may_grant;
use super::lists::page;
use super::registry_client::{self, ask_registry};

const DAY_MS: u64 = 86_400_000;
const DEFAULT_DAYS: u64 = 90;
/// The longest a rotated secret stays valid, in seconds.
const MAX_OVERLAP: u64 = 30 * 86_400;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct KeyView<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    name: &'a str,
    role: &'a str,
    permissions: &'a [String],
    /// For people to recognize the secret by.
    last_four: &'a str,
    created_by: &'a PrincipalId,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    expires_at: Timestamp,
    /// To the hour.
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    last_used_at: Option<Timestamp>,
}

fn view<'a>(key: &'a Key, secret: Option<&'a str>, used: &[(String, Timestamp)]) -> KeyView<'a> {
    KeyView {
        id: &key.id,
        secret,
        name: &key.name,
        role: &key.role,
        permissions: &key.permissions,
        last_four: key.secrets.last().map_or("", |secret| &secret.last_four),
        created_by: &key.created_by,
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: used.iter().find(|(id, _)| *id == key.id).map(|(_, at)| *at),
    }
}

struct NewKeyBody {
    name: String,
    role: String,
    permissions: Vec<String>,
    days: u64,
}

fn read(caller: &Caller, body: &mut Object<'_>) -> NewKeyBody {
    let name = body.string("name", 1..=200);
    let name = body.require("name", name).unwrap_or_default();
    let known_role = |role: &str| caller.snapshot.rules.role(role).map(|_| role.to_string());
    let role = body.parsed("role", "the name of a role: GET /v1/roles lists them", known_role);
    let role = body.require("role", role).unwrap_or_default();
    let permissions = role::permissions(body, 50).unwrap_or_default();
    let days = body.integer("expires_in_days", 1..=3650).unwrap_or(DEFAULT_DAYS);
    if role == role::SERVICE && role::service_of(&permissions).is_none() {
        let detail = "must be services:heartbeat:<id>, services:connect:<id> or both, with the id of one service";
        body.fault("permissions", detail);
    }
    NewKeyBody { name, role, permissions, days }
}

pub async fn create(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let NewKeyBody { name, role, permissions, days } = call.read_body(|body| read(caller, body)).await?;
    may_grant(&caller.principal, granted(caller, &role, &permissions))?;
    let minted = api_key::mint(&caller.principal.tenant, random::bytes());
    let new = NewKey {
        id: minted.id,
        name,
        role,
        permissions,
        hash: minted.hash,
        last_four: minted.last_four,
        created_by: caller.principal.principal.clone(),
        expires_at: clock::now().plus_ms(days * DAY_MS),
    };
    let KeyReply::Key(key) = registry_client::write(caller, &CreateKey(new), "key").await?;
    made(&key, &minted.secret, &[])
}

/// All that a key with this role and these permissions may do.
fn granted<'a>(caller: &'a Caller, role: &str, permissions: &'a [String]) -> impl Iterator<Item = &'a str> {
    caller.snapshot.rules.role(role).into_iter().flatten().chain(permissions.iter().map(String::as_str))
}

fn made(key: &Key, secret: &str, used: &[(String, Timestamp)]) -> Result<Answer, Problem> {
    let answer = Answer::json(201, &view(key, Some(secret), used))?;
    Ok(answer.with("location", &format!("/v1/keys/{}", key.id)))
}

/// A key that a request names.
fn known<'c>(caller: &'c Caller, id: &str) -> Result<&'c Key, Problem> {
    caller.snapshot.key(id).ok_or_else(|| match caller.snapshot.has_unreadable_key(id) {
        true => Problem::later_version(&format!("The key {id}")),
        false => Problem::not_found("key"),
    })
}

pub async fn rotate(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let overlap_seconds =
        call.read_optional_body(|body| body.integer("overlap_seconds", 0..=MAX_OVERLAP).unwrap_or(0)).await?;
    // The new secret has all permissions of the key, so the caller needs them too.
    let known = known(caller, id)?;
    may_grant(&caller.principal, granted(caller, &known.role, &known.permissions))?;
    let minted = api_key::mint_again(id.into(), &random::bytes::<32>());
    let rotate = RotateKey { id: id.into(), overlap_seconds, hash: minted.hash, last_four: minted.last_four };
    let KeyReply::Key(key) = registry_client::write(caller, &rotate, "key").await?;
    made(&key, &minted.secret, &last_used(caller).await?)
}

pub async fn revoke(caller: &Caller, id: &str) -> Result<Answer, Problem> {
    // Callers end keys that have no more than they have, and their own.
    if let Some(known) = caller.snapshot.key(id).filter(|_| caller.principal.principal.key() != Some(id)) {
        may_grant(&caller.principal, granted(caller, &known.role, &known.permissions))?;
    } else if caller.snapshot.has_unreadable_key(id) {
        // It may have any.
        may_grant(&caller.principal, ["*"])?;
    }
    let Done::Done = registry_client::write(caller, &RevokeKey { id: id.into() }, "key").await?;
    Ok(Answer::empty(204))
}

/// When keys and clients were last used, which snapshots do not include.
pub async fn last_used(caller: &Caller) -> Result<Vec<(String, Timestamp)>, Problem> {
    let LastUsed::LastUsed(used) = ask_registry(caller, &ReadLastUsed).await?;
    Ok(used)
}

pub async fn get(caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let key = known(caller, id)?;
    Answer::json(200, &view(key, None, &last_used(caller).await?))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let used = last_used(caller).await?;
    let data: Vec<KeyView<'_>> = caller.snapshot.keys.iter().map(|key| view(key, None, &used)).collect();
    page(call, &data, None)
}
