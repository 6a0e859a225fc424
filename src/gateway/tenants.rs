//! `/v1/tenants`: tenants that cannot see each other. Only the deployment's own tenant makes them; to all others there
//! is no such path.

use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::objects::registry::messages::{Ask, DocumentKind, Message, NewKey, Refusal, Reply, StoredDocument};
use crate::platform::objects::{self, Kind};
use crate::platform::{clock, random};
use narthex_core::access::api_key::{self, valid_tenant};
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::access::tenant::{self, Tenant};
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::{Code, Problem};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::page;
use super::roles::etag;
use super::services::{WRITE_PATIENCE_MS, ask_registry, refusal};

/// How long a tenant's first key is good, in milliseconds.
const FIRST_KEY_MS: u64 = 365 * 86_400_000;

#[derive(Serialize)]
struct TenantView<'a> {
    id: &'a str,
    #[serde(flatten)]
    tenant: Tenant,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
    /// Shown now and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_key: Option<&'a str>,
}

fn view<'a>(stored: &'a StoredDocument, admin_key: Option<&'a str>) -> Result<TenantView<'a>, Problem> {
    let tenant = serde_json::from_str(stored.document.get()).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(TenantView { id: &stored.id, tenant, created_at: stored.created_at, updated_at: stored.updated_at, admin_key })
}

fn of_deployment(caller: &Caller) -> Result<(), Problem> {
    if caller.principal.tenant == FIRST_TENANT { Ok(()) } else { Err(Problem::not_found("tenant")) }
}

/// Asks the registry of a tenant that is not the caller's.
async fn ask(caller: &Caller, tenant: &str, ask: Ask) -> Result<Reply, Problem> {
    let message = Message { tenant: tenant.into(), ask, by: caller.by.clone() };
    objects::send(Kind::Registry, tenant, "", &message, WRITE_PATIENCE_MS).await.map_err(internal)
}

fn known<'c>(caller: &'c Caller, id: &str) -> Option<&'c StoredDocument> {
    caller.snapshot.documents(DocumentKind::Tenant).find(|stored| stored.id == id)
}

async fn has_keys(caller: &Caller, id: &str) -> Result<bool, Problem> {
    match ask(caller, id, Ask::Holdings).await? {
        Reply::InUse { by } => Ok(by.iter().any(|one| one.starts_with("keys/"))),
        other => Err(refusal(other, "tenant")),
    }
}

pub async fn put(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    if !valid_tenant(id) {
        let detail = "must be 1 to 32 lower-case letters, digits or -, not beginning with -";
        return Err(Problem::invalid(vec![Fault::new("#/id", detail)]));
    }
    let condition = call.condition()?;
    let body = call.json_body().await?;
    let tenant = tenant::read(std::str::from_utf8(&body).unwrap_or_default()).map_err(Problem::invalid)?;
    if id == FIRST_TENANT {
        return Err(Problem::new(Code::Conflict, "This tenant is the deployment's own: its variables configure it."));
    }
    let document = to_raw_value(&tenant).map_err(|error| Problem::internal(error.to_string()))?;
    let put = Ask::Put { kind: DocumentKind::Tenant, id: id.into(), document, condition };
    let (stored, created) = match ask_registry(caller, put).await? {
        Reply::Document { stored, created } => (stored, created),
        Reply::Refused(Refusal::Conflict) => {
            let detail = "A tenant that was deleted had this id, and no other gets it. Choose another id.";
            return Err(Problem::new(Code::Conflict, detail));
        }
        other => return Err(refusal(other, "tenant")),
    };
    // One that has no key at all gets a first one again: it may not have come so far, or lost it.
    let needs_key = created || !has_keys(caller, id).await?;
    let minted = needs_key.then(|| api_key::mint(id, random::bytes()));
    let first = minted.as_ref().map(|minted| NewKey {
        id: minted.id.clone(),
        name: "the tenant's first key".into(),
        role: "admin".into(),
        permissions: Vec::new(),
        hash: minted.hash.clone(),
        last_four: minted.last_four.clone(),
        created_by: caller.principal.principal.clone(),
        expires_at: clock::now().plus_ms(FIRST_KEY_MS),
    });
    match ask(caller, id, Ask::Establish { retention: tenant.retention, key: first }).await? {
        Reply::Key(_) | Reply::Done => {}
        other => return Err(refusal(other, "tenant")),
    }
    let secret = minted.as_ref().map(|minted| minted.secret.as_str());
    let answer = Answer::json(if created { 201 } else { 200 }, &view(&stored, secret)?)?.with("etag", &etag(&stored));
    Ok(if created { answer.with("location", &format!("/v1/tenants/{id}")) } else { answer })
}

pub async fn delete(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    call.only_query(&["force"])?;
    let force = match call.query("force").as_deref() {
        Some("true") => true,
        None | Some("false") => false,
        Some(_) => return Err(Problem::invalid(vec![Fault::new("?force", "must be true or false")])),
    };
    let condition = call.condition()?;
    known(caller, id).ok_or_else(|| Problem::not_found("tenant"))?;
    if !force
        && let Reply::InUse { by } = ask(caller, id, Ask::Holdings).await?
        && !by.is_empty()
    {
        let count = by.len();
        let detail =
            format!("This tenant has services or keys, {count} in all. Delete them first, or add ?force=true.");
        return Err(Problem::new(Code::Conflict, detail));
    }
    // Once this is written, the sweep ends what is not ended here.
    match ask_registry(caller, Ask::Delete { kind: DocumentKind::Tenant, id: id.into(), condition }).await? {
        Reply::Done => {}
        other => return Err(refusal(other, "tenant")),
    }
    match ask(caller, id, Ask::Close).await? {
        Reply::Done => Ok(Answer::empty(204)),
        other => Err(refusal(other, "tenant")),
    }
}

pub async fn get(caller: &Caller, id: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    let stored = known(caller, id).ok_or_else(|| Problem::not_found("tenant"))?;
    Ok(Answer::json(200, &view(stored, None)?)?.with("etag", &etag(stored)))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    call.only_query(&[])?;
    let views = caller.snapshot.documents(DocumentKind::Tenant).map(|stored| view(stored, None));
    page(call, &views.collect::<Result<Vec<_>, _>>()?, None)
}
