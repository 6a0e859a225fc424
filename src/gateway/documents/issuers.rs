//! `/v1/issuers`: outside issuers of tokens. They belong to the deployment: only its first tenant has them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::auth::existing_tenant;
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot;
use narthex_core::access::issuer::{self, AddressRules, Claims, Issuer, Keys, Reach};
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwk::Jwk;
use narthex_core::access::sign_in::SignIn;
use narthex_core::base::json::Fault;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::services::require_key;
use super::{Document, Operation, all, find, may_grant};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
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
    tenant: Option<&'a TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<Value>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
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
        tenant: issuer.tenant.as_ref(),
        sign_in: issuer.sign_in.as_ref().map(SignIn::shown),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
    }
}

/// An issuer gives the people whom it identifies all that its roles and scopes grant, so its writer needs all of it, in
/// the tenants where it is given. Names roles and tenants that do not exist, once the caller may know of them.
async fn may_give(caller: &Caller, issuer: &Issuer) -> Result<Vec<Fault>, Problem> {
    let first = TenantId::first();
    let reach = issuer.reach(&first);
    may_grant(&caller.principal, reach.takes().iter().copied())?;
    let snapshot = match reach {
        Reach::Own => caller.snapshot.clone(),
        Reach::Tenant(tenant) => match existing_tenant(tenant.as_str()).await.map_err(internal)? {
            Some(tenant) => snapshot::refreshed(&tenant).await.map_err(internal)?,
            None => {
                return Ok(vec![Fault::new("#/tenant", format!("names the tenant {tenant}, which does not exist"))]);
            }
        },
        // Which roles there are differs from tenant to tenant.
        Reach::Every => return Ok(Vec::new()),
    };
    let mut unknown: Vec<Fault> = Vec::new();
    for role in issuer.granted_roles() {
        let Some(permissions) = snapshot.rules.role(role) else {
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

impl Document for Issuer {
    const KIND: DocumentKind = DocumentKind::Issuer;
    const REVALIDATES: bool = true;
    type Extras = ();
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, issuer: &'a Self, (): &()) -> View<'a> {
        view(stored, issuer)
    }

    /// In another tenant there are none, whatever its permissions are.
    fn allow(caller: &Caller, operation: Operation) -> Result<(), Problem> {
        let may_be_there = operation == Operation::List || caller.principal.tenant.is_first();
        if may_be_there { Ok(()) } else { Err(Problem::not_found("issuer")) }
    }

    async fn accept(call: &Call, caller: &Caller, name: &str, body: &str) -> Result<(Self, ()), Problem> {
        let rules = call.write_rules();
        let own_hosts = rules.own_hosts();
        let rules = AddressRules { addresses: rules.addresses(), own_hosts: &own_hosts };
        let issuer = issuer::read(name, body, rules).map_err(Problem::invalid)?;
        if issuer.sign_in.as_ref().is_some_and(|sign_in| sign_in.client_secret.is_some()) {
            require_key()?;
        }
        if let Some((_, known)) = find::<Issuer>(&caller.snapshot, name) {
            may_give(caller, &known).await?;
        }
        let unknown = may_give(caller, &issuer).await?;
        if !unknown.is_empty() {
            return Err(Problem::invalid(unknown));
        }
        // A token names its issuer and its audience, and not the document: the two could not be distinguished.
        let mut others = all::<Issuer>(&caller.snapshot).filter(|(stored, _)| stored.id != name);
        if let Some((stored, _)) = others.find(|(_, other)| other.overlaps(&issuer)) {
            let detail = format!("This issuer is already registered for this audience, as {}.", stored.id);
            return Err(Problem::new(Code::Conflict, detail));
        }
        Ok((issuer, ()))
    }

    async fn may_delete(_: &Call, caller: &Caller, name: &str) -> Result<(), Problem> {
        if let Some((_, known)) = find::<Issuer>(&caller.snapshot, name) {
            may_give(caller, &known).await?;
        }
        Ok(())
    }
}
