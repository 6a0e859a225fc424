//! `/v1/grants`: lists and ends the grants of people to apps. A tenant's list has its own object beside the grants: in
//! the registry, every snapshot would carry it to every isolate.

use serde::Serialize;

use crate::auth::own_tokens;
use crate::objects::grants::messages::{ActiveGrant, End, Find, Grants, List, Listed, ReadList, Unlist};
use crate::objects::protocol;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::{clock, log_event};
use narthex_core::access::oauth::access_token::AccessTokenClaims;
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::access::permission::scope_text;
use narthex_core::base::json::Fault;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::page_cursor;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::lists::{bad_cursor, limit, page};
use super::EndpointError;
use super::clients::{Realm, ResolvedClient};
use super::token::revoke_tokens;

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;
const READ: &str = "grants:read";
const WRITE: &str = "grants:write";

/// Records the use of a grant in the list. If that fails, the use in a later hour repeats it.
pub async fn record_use(client: &ResolvedClient, realm: &Realm, grant: &str, active: &ActiveGrant) {
    let now = clock::now();
    let entry = GrantEntry {
        id: grant.into(),
        allowed: active.allowed.clone(),
        client_name: client.registration.name.clone(),
        created_at: Timestamp(active.until.0.saturating_sub(narthex_core::access::oauth::grant::GRANT_MS)),
        used_at: now,
        until: active.until,
    };
    let list = List(Box::new(entry.used(now)));
    if let Err(failure) = protocol::call(&Grants::index(&realm.tenant), &list).await {
        log_event!(GrantNotListed, tenant = &realm.tenant, grant = grant, detail = &failure);
    }
}

/// Removes an ended grant from the list.
pub async fn unlist(tenant: &TenantId, grant: &str) {
    let unlist = Unlist { grant: grant.into() };
    if let Err(failure) = protocol::call(&Grants::index(tenant), &unlist).await {
        log_event!(GrantNotUnlisted, tenant = tenant, grant = grant, detail = &failure);
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::gateway) struct GrantView<'a> {
    id: &'a str,
    client_id: &'a str,
    client_name: &'a str,
    principal: &'a PrincipalId,
    scope: String,
    resource: &'a str,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    /// Precise to the hour.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    last_used_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    expires_at: Timestamp,
}

fn view(entry: &GrantEntry) -> GrantView<'_> {
    GrantView {
        id: &entry.id,
        client_id: &entry.allowed.client,
        client_name: &entry.client_name,
        principal: &entry.allowed.subject,
        scope: scope_text(&entry.allowed.scope),
        resource: &entry.allowed.resource,
        created_at: entry.created_at,
        last_used_at: entry.used_at,
        expires_at: entry.until,
    }
}

/// Whether the grant still has an effect: the key, the person's issuer or the client may have been deleted.
fn is_effective(deployment: &Snapshot, snapshot: &Snapshot, tenant: &TenantId, entry: &GrantEntry) -> bool {
    let GrantEntry { id, allowed, until, .. } = entry;
    let claims = AccessTokenClaims {
        iss: String::new(),
        sub: allowed.subject.clone(),
        aud: String::new(),
        client_id: allowed.client.clone(),
        scope: scope_text(&allowed.scope),
        exp: 0,
        iat: 0,
        jti: String::new(),
        tenant: tenant.clone(),
        grant: Some(id.clone()),
        roles: allowed.roles.clone(),
    };
    own_tokens::principal(deployment, snapshot, &claims, *until).is_ok()
}

/// Whether the caller acts for itself. An app with a grant acts for a person and needs the permission, except the
/// gateway's own console.
fn acts_for_itself(caller: &Caller) -> bool {
    let from = &caller.principal.from;
    !from.iter().any(|path| path.starts_with("revocations/")) || from.iter().any(|path| path == "clients/console")
}

fn query(call: &Call, caller: &Caller) -> Result<GrantQuery, Problem> {
    call.only_query(&["owner", "client", "limit", "cursor"])?;
    let limit = limit(call, DEFAULT_LIMIT, MAX_LIMIT).ok_or_else(|| {
        Problem::invalid(vec![Fault::new("?limit", format!("must be an integer from 1 to {MAX_LIMIT}"))])
    })?;
    let me = &caller.principal.principal;
    let owner = match call.query("owner").as_deref() {
        None if caller.principal.may(READ) => None,
        None | Some("me") => Some(me.to_string()),
        Some("*") => None,
        Some(other) => Some(other.to_string()),
    };
    if owner.as_deref() != Some(me.as_str()) || !acts_for_itself(caller) {
        caller.principal.require(READ)?;
    }
    Ok(GrantQuery { owner, client: call.query("client"), before: None, limit })
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let mut query = query(call, caller)?;
    let tenant = &caller.principal.tenant;
    // A cursor is bound to the filters and the owner; the page size may change.
    let filters = GrantQuery { limit: DEFAULT_LIMIT, ..query.clone() };
    let digest = format!("grants {tenant} {}", serde_json::to_string(&filters).unwrap_or_default());
    let key = &caller.snapshot.cursor_key;
    if let Some(text) = call.query("cursor") {
        query.before = Some(page_cursor::read(key, &text, &digest).ok_or_else(bad_cursor)?);
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    query.limit += 1;
    let read = protocol::call(&Grants::index(tenant), &ReadList(query)).await;
    let Listed::Entries(mut entries) = read.map_err(internal)?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| page_cursor::write(key, &entry.id, &digest));
    let deployment = snapshot::fresh(&TenantId::first()).await.map_err(internal)?;
    let effective = entries.iter().filter(|entry| is_effective(&deployment, &caller.snapshot, tenant, entry));
    let data: Vec<GrantView<'_>> = effective.map(view).collect();
    page(call, &data, next)
}

pub async fn delete(caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let tenant = &caller.principal.tenant;
    let find = Find { grant: id.into() };
    let Listed::Entries(found) = protocol::call(&Grants::index(tenant), &find).await.map_err(internal)?;
    let entry = found.into_iter().next();
    let me = &caller.principal.principal;
    let own = entry.as_ref().is_some_and(|entry| entry.allowed.subject == *me) && acts_for_itself(caller);
    if !own {
        caller.principal.require(WRITE)?;
    }
    let entry = entry.ok_or_else(|| Problem::not_found("grant"))?;
    let client = entry.allowed.client;
    let realm = Realm { tenant: tenant.clone(), snapshot: caller.snapshot.clone() };
    let end = End { client: client.clone() };
    protocol::call(&Grants::grant(tenant, id), &end).await.map_err(internal)?;
    revoke_tokens(caller.by.clone(), &realm, &client, id).await.map_err(|error| match error {
        EndpointError::Problem(problem) => problem,
        EndpointError::OAuth(error) => Problem::internal(error.description),
    })?;
    unlist(tenant, id).await;
    Ok(Answer::empty(204))
}
