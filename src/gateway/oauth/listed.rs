//! `/v1/grants`: what people have allowed apps, seen and ended. A tenant's list is kept in an object of its own,
//! beside the grants: a registry's snapshot would carry it to every isolate.

use serde::Serialize;

use crate::auth::own_tokens;
use crate::objects::grants::messages::{ActiveGrant, Ask, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log_event};
use narthex_core::access::oauth::access_token::AccessTokenClaims;
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::page_cursor;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::lists::{bad_cursor, limit, page};
use super::Failed;
use super::clients::{Known, Realm};
use super::token::{end, object};

const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;
const READ: &str = "grants:read";
const WRITE: &str = "grants:write";

async fn ask(tenant: &str, ask: &Ask) -> Result<Reply, Failure> {
    objects::send(Kind::Grants, &format!("{tenant}/index"), "", ask, PATIENCE_MS).await
}

/// Writes down that a grant is in use. Should that fail, the next hour's use does it.
pub async fn note(known: &Known, realm: &Realm, grant: &str, held: &ActiveGrant) {
    let now = clock::now();
    let entry = GrantEntry {
        id: grant.into(),
        allowed: held.allowed.clone(),
        client_name: known.client.name.clone(),
        created_at: Timestamp(held.until.0.saturating_sub(narthex_core::access::oauth::grant::GRANT_MS)),
        used_at: now,
        until: held.until,
    };
    if let Err(failure) = ask(&realm.tenant, &Ask::List(Box::new(entry.used(now)))).await {
        log_event!(GrantNotListed, tenant = &realm.tenant, grant = grant, detail = &failure);
    }
}

/// One has ended.
pub async fn forget(tenant: &str, grant: &str) {
    if let Err(failure) = ask(tenant, &Ask::Unlist { grant: grant.into() }).await {
        log_event!(GrantNotUnlisted, tenant = tenant, grant = grant, detail = &failure);
    }
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    client_id: &'a str,
    client_name: &'a str,
    principal: &'a str,
    scope: String,
    resource: &'a str,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    /// To the hour.
    #[serde(serialize_with = "as_text")]
    last_used_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    expires_at: Timestamp,
}

fn view(entry: &GrantEntry) -> View<'_> {
    View {
        id: &entry.id,
        client_id: &entry.allowed.client,
        client_name: &entry.client_name,
        principal: &entry.allowed.subject,
        scope: entry.allowed.scope.join(" "),
        resource: &entry.allowed.resource,
        created_at: entry.created_at,
        last_used_at: entry.used_at,
        expires_at: entry.until,
    }
}

/// Whether anything still comes of it: the key, the person's issuer or the client may have gone.
fn is_alive(deployment: &Snapshot, tenant: &Snapshot, name: &str, entry: &GrantEntry) -> bool {
    let GrantEntry { id, allowed, until, .. } = entry;
    let claims = AccessTokenClaims {
        iss: String::new(),
        sub: allowed.subject.clone(),
        aud: String::new(),
        client_id: allowed.client.clone(),
        scope: allowed.scope.join(" "),
        exp: 0,
        iat: 0,
        jti: String::new(),
        tenant: name.into(),
        grant: Some(id.clone()),
        roles: allowed.roles.clone(),
    };
    own_tokens::principal(deployment, tenant, &claims, *until).is_ok()
}

/// Whether the caller speaks for themselves. An app that was allowed something does not, and needs the permission; the
/// gateway's own console is no such app.
fn speaks_for_themselves(caller: &Caller) -> bool {
    let from = &caller.principal.from;
    !from.iter().any(|one| one.starts_with("revocations/")) || from.iter().any(|one| one == "clients/console")
}

fn query(call: &Call, caller: &Caller) -> Result<GrantQuery, Problem> {
    call.only_query(&["owner", "client", "limit", "cursor"])?;
    let limit = limit(call, DEFAULT_LIMIT, MAX_LIMIT).ok_or_else(|| {
        Problem::invalid(vec![Fault::new("?limit", format!("must be an integer from 1 to {MAX_LIMIT}"))])
    })?;
    let me = &caller.principal.principal;
    let owner = match call.query("owner").as_deref() {
        None if caller.principal.may(READ) => None,
        None | Some("me") => Some(me.clone()),
        Some("*") => None,
        Some(other) => Some(other.to_string()),
    };
    if owner.as_ref() != Some(me) || !speaks_for_themselves(caller) {
        caller.principal.require(READ)?;
    }
    Ok(GrantQuery { owner, client: call.query("client"), before: None, limit })
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    let mut query = query(call, caller)?;
    let tenant = &caller.principal.tenant;
    // A cursor belongs to its filters, and to whoever may see through them; how long its pages are may change.
    let filters = GrantQuery { limit: DEFAULT_LIMIT, ..query.clone() };
    let digest = format!("grants {tenant} {}", serde_json::to_string(&filters).unwrap_or_default());
    let key = &caller.snapshot.cursor_key;
    if let Some(text) = call.query("cursor") {
        query.before = Some(page_cursor::read(key, &text, &digest).ok_or_else(bad_cursor)?);
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    query.limit += 1;
    let Reply::Listed(mut entries) = ask(tenant, &Ask::Listed(query)).await.map_err(internal)? else {
        return Err(Problem::internal("the list's object answered something else"));
    };
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().filter(|_| more).map(|entry| page_cursor::write(key, &entry.id, &digest));
    let deployment = snapshot::fresh(FIRST_TENANT).await.map_err(internal)?;
    let alive = entries.iter().filter(|entry| is_alive(&deployment, &caller.snapshot, tenant, entry));
    let data: Vec<View<'_>> = alive.map(view).collect();
    page(call, &data, next)
}

pub async fn delete(caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let tenant = &caller.principal.tenant;
    let find = Ask::Find { grant: id.into() };
    let Reply::Listed(found) = ask(tenant, &find).await.map_err(internal)? else {
        return Err(Problem::internal("the list's object answered something else"));
    };
    let entry = found.into_iter().next();
    let me = &caller.principal.principal;
    let own = entry.as_ref().is_some_and(|entry| entry.allowed.subject == *me) && speaks_for_themselves(caller);
    if !own {
        caller.principal.require(WRITE)?;
    }
    let entry = entry.ok_or_else(|| Problem::not_found("grant"))?;
    let client = entry.allowed.client;
    let realm = Realm { tenant: tenant.clone(), snapshot: caller.snapshot.clone() };
    let ask = Ask::End { client: client.clone() };
    objects::send::<_, Reply>(Kind::Grants, &object(&realm, id), "", &ask, PATIENCE_MS).await.map_err(internal)?;
    end(caller.by.clone(), &realm, &client, id).await.map_err(|failed| match failed {
        Failed::Problem(problem) => problem,
        Failed::Refused(refused) => Problem::internal(refused.description),
    })?;
    forget(tenant, id).await;
    Ok(Answer::empty(204))
}
