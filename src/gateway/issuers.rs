//! `/v1/issuers`: outside issuers of tokens. They belong to the deployment: only its first tenant has them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::auth::is_tenant;
use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use crate::objects::registry::snapshot;
use narthex_core::access::issuer::{self, AddressRules, Claims, Issuer, Keys, Reach};
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwk::Jwk;
use narthex_core::access::sign_in::SignIn;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::{Code, Problem};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::lists::page;
use super::roles::{etag, may_grant};
use super::services::{ask_registry, checked_id, refusal, require_key, text, unchanged};

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    issuer: &'a str,
    /// One by itself, several in an array.
    audience: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience_claim: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Value>>,
    algorithms: &'a [Algorithm],
    r#type: &'a str,
    claims: &'a Claims,
    roles: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    scopes: &'a BTreeMap<String, Vec<String>>,
    role: Option<&'a str>,
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<Value>,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
}

fn view<'a>(stored: &StoredDocument, issuer: &'a Issuer) -> View<'a> {
    let (jwks_url, keys) = match &issuer.keys {
        Keys::Url(url) => (Some(url.as_str()), None),
        Keys::Fixed(keys) => (None, Some(keys.iter().map(Jwk::view).collect())),
    };
    View {
        name: &issuer.name,
        issuer: &issuer.issuer,
        audience: if issuer.more_audiences.is_empty() {
            issuer.audience.as_str().into()
        } else {
            issuer.audiences().collect::<Vec<_>>().into()
        },
        audience_claim: issuer.audience_claim.as_deref(),
        jwks_url,
        keys,
        algorithms: &issuer.algorithms,
        r#type: &issuer.typ,
        claims: &issuer.claims,
        roles: &issuer.roles,
        scopes: &issuer.scopes,
        role: issuer.role.as_deref(),
        tenant: issuer.tenant.as_deref(),
        sign_in: issuer.sign_in.as_ref().map(SignIn::shown),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
    }
}

/// In another tenant there are none, whatever its permissions say.
fn of_deployment(caller: &Caller) -> Result<(), Problem> {
    if caller.principal.tenant == FIRST_TENANT { Ok(()) } else { Err(Problem::not_found("issuer")) }
}

/// Issuers as they are kept, with what they say.
fn all(caller: &Caller) -> impl Iterator<Item = (&StoredDocument, &Issuer)> {
    caller.snapshot.documents(DocumentKind::Issuer).filter_map(|stored| {
        let issuer = caller.snapshot.issuers.iter().find(|issuer| issuer.name == stored.id)?;
        Some((stored, issuer))
    })
}

/// Who is trusted to say who somebody is gives all that those may have: whoever writes that needs all of it, where it is
/// given. Names what is not there, once that is allowed to be known.
async fn may_give(caller: &Caller, issuer: &Issuer) -> Result<Vec<Fault>, Problem> {
    let reach = issuer.reach(FIRST_TENANT);
    may_grant(&caller.principal, reach.takes().iter().copied())?;
    let snapshot = match reach {
        Reach::Own => caller.snapshot.clone(),
        Reach::Tenant(tenant) if is_tenant(tenant).await.map_err(internal)? => {
            snapshot::refreshed(tenant).await.map_err(internal)?
        }
        Reach::Tenant(tenant) => {
            return Ok(vec![Fault::new("#/tenant", format!("names the tenant {tenant}, which does not exist"))]);
        }
        // Which roles there are differs from tenant to tenant.
        Reach::Every => return Ok(Vec::new()),
    };
    let mut unknown: Vec<Fault> = Vec::new();
    for role in issuer.granted_roles() {
        let Some(permissions) = snapshot.role(role) else {
            let pointer = if issuer.role.as_deref() == Some(role) { "#/role" } else { "#/roles" };
            let fault = Fault::new(pointer, format!("names the role {role}, which does not exist"));
            if !unknown.contains(&fault) {
                unknown.push(fault);
            }
            continue;
        };
        may_grant(&caller.principal, permissions)?;
    }
    Ok(unknown)
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let document = text(call.json_body().await?);
    let rules = call.write_rules();
    let own_hosts = rules.own_hosts();
    let rules = AddressRules { addresses: rules.addresses(), own_hosts: &own_hosts };
    let issuer = issuer::read(name, &document, rules).map_err(Problem::invalid)?;
    if issuer.sign_in.as_ref().is_some_and(|sign_in| sign_in.client_secret.is_some()) {
        require_key()?;
    }
    if let Some((_, known)) = all(caller).find(|(stored, _)| stored.id == id) {
        may_give(caller, known).await?;
    }
    let unknown = may_give(caller, &issuer).await?;
    if !unknown.is_empty() {
        return Err(Problem::invalid(unknown));
    }
    // A token says its issuer and its audience, and not the name these have here: two alike could not be told apart.
    if let Some((stored, _)) = all(caller).find(|(stored, other)| other.overlaps(&issuer) && stored.id != id) {
        let detail = format!("This issuer is known already for this audience, as {}.", stored.id);
        return Err(Problem::new(Code::Conflict, detail));
    }
    let document = to_raw_value(&issuer).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Issuer, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            let body = view(&stored, &issuer);
            let answer = Answer::json(if created { 201 } else { 200 }, &body)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/issuers/{name}")) } else { answer })
        }
        other => Err(refusal(other, "issuer")),
    }
}

pub async fn delete(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    if let Some((_, known)) = all(caller).find(|(stored, _)| stored.id == name) {
        may_give(caller, known).await?;
    }
    let ask = Ask::Delete { kind: DocumentKind::Issuer, id: name.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => Ok(Answer::empty(204)),
        other => Err(refusal(other, "issuer")),
    }
}

pub async fn get(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    of_deployment(caller)?;
    let (stored, issuer) =
        all(caller).find(|(stored, _)| stored.id == name).ok_or_else(|| Problem::not_found("issuer"))?;
    let tag = etag(stored);
    if unchanged(call, &tag) {
        return Ok(Answer::empty(304).with("etag", &tag));
    }
    Ok(Answer::json(200, &view(stored, issuer))?.with("etag", &tag))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let data: Vec<View<'_>> = all(caller).map(|(stored, issuer)| view(stored, issuer)).collect();
    page(call, &data, None)
}
