//! `/v1/tenants`: tenants that cannot see each other. Only the deployment's own tenant makes them; for all others this
//! path does not exist.

use serde::Serialize;

use crate::objects::protocol::{Done, Request};
use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{
    Close, DocumentKind, Establish, EstablishReply, Holdings, ListHoldings, NewKey, Refusal, Registries,
    StoredDocument, WriteRefusal,
};
use crate::objects::reply::Reply;
use crate::platform::{clock, random};
use narthex_core::access::api_key;
use narthex_core::access::tenant::{self, Tenant};
use narthex_core::base::json::Fault;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::registry_client::refusal;
use super::{Document, Operation};

/// How long a tenant's first key is valid, in milliseconds.
const FIRST_KEY_MS: u64 = 365 * 86_400_000;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    id: &'a str,
    #[serde(flatten)]
    tenant: &'a Tenant,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
    /// Shown in this response, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_key: Option<&'a str>,
}

/// Asks the registry of a tenant that is not the caller's.
async fn ask<R: Request<Object = Registries>>(
    caller: &Caller,
    tenant: &TenantId,
    request: &R,
) -> Result<R::Reply, Problem> {
    ask_as(tenant, &caller.by, request).await.map_err(internal)
}

async fn has_keys(caller: &Caller, id: &TenantId) -> Result<bool, Problem> {
    let Holdings::Holdings { objects } = ask(caller, id, &ListHoldings).await?;
    Ok(objects.iter().any(|object| object.starts_with("keys/")))
}

fn first_key(caller: &Caller, minted: &api_key::NewKey) -> NewKey {
    NewKey {
        id: minted.id.clone(),
        name: "the tenant's first key".into(),
        role: "admin".into(),
        permissions: Vec::new(),
        hash: minted.hash.clone(),
        last_four: minted.last_four.clone(),
        created_by: caller.principal.principal.clone(),
        expires_at: clock::now().plus_ms(FIRST_KEY_MS),
    }
}

/// Whether a tenant is deleted with all that it has.
fn forced(call: &Call) -> Result<bool, Problem> {
    call.only_query(&["force"])?;
    match call.query("force").as_deref() {
        Some("true") => Ok(true),
        None | Some("false") => Ok(false),
        Some(_) => Err(Problem::invalid(vec![Fault::new("?force", "must be true or false")])),
    }
}

impl Document for Tenant {
    const KIND: DocumentKind = DocumentKind::Tenant;
    /// The secret of the first key.
    type Extras = Option<String>;
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, tenant: &'a Self, admin_key: &'a Option<String>) -> View<'a> {
        View {
            id: &stored.id,
            tenant,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            admin_key: admin_key.as_deref(),
        }
    }

    fn allow(caller: &Caller, _: Operation) -> Result<(), Problem> {
        if caller.principal.tenant.is_first() { Ok(()) } else { Err(Problem::not_found("tenant")) }
    }

    fn check_id(id: &str) -> Result<(), Problem> {
        if TenantId::is_valid(id) {
            return Ok(());
        }
        let detail = "must be 1 to 32 lower-case letters, digits or -, not beginning with -";
        Err(Problem::invalid(vec![Fault::new("#/id", detail)]))
    }

    async fn accept(_: &Call, _: &Caller, id: &str, body: &str) -> Result<(Self, Option<String>), Problem> {
        let tenant = tenant::read(body).map_err(Problem::invalid)?;
        if id == TenantId::FIRST {
            let detail = "This tenant belongs to the deployment, whose variables configure it.";
            return Err(Problem::new(Code::Conflict, detail));
        }
        Ok((tenant, None))
    }

    fn refusal(reason: WriteRefusal) -> Problem {
        if matches!(reason, WriteRefusal::Refused(Refusal::Conflict)) {
            let detail = "This id belonged to a deleted tenant and cannot be used again. Choose another id.";
            return Problem::new(Code::Conflict, detail);
        }
        refusal(reason, "tenant")
    }

    async fn written(
        caller: &Caller,
        stored: &StoredDocument,
        tenant: &Self,
        created: bool,
        _: Option<String>,
    ) -> Result<Option<String>, Problem> {
        let id = &TenantId::from_stored(&*stored.id);
        // A tenant without any key gets a first one again: its creation may have been interrupted, or the key lost.
        let needs_key = created || !has_keys(caller, id).await?;
        let minted = needs_key.then(|| api_key::mint(id, random::bytes()));
        let key = minted.as_ref().map(|minted| first_key(caller, minted));
        let Reply(outcome) = ask(caller, id, &Establish { retention: tenant.retention, key }).await?;
        match outcome {
            Ok(EstablishReply::Key(_) | EstablishReply::Done) => Ok(minted.map(|minted| minted.secret)),
            Err(reason) => Err(refusal(reason, "tenant")),
        }
    }

    async fn may_delete(call: &Call, caller: &Caller, id: &str) -> Result<(), Problem> {
        let force = forced(call)?;
        call.condition()?;
        // Whether or not this version can read it.
        let stored = caller.snapshot.documents(Self::KIND).find(|stored| stored.id == id);
        let tenant =
            stored.map(|stored| TenantId::from_stored(&*stored.id)).ok_or_else(|| Problem::not_found("tenant"))?;
        if force {
            return Ok(());
        }
        let Holdings::Holdings { objects } = ask(caller, &tenant, &ListHoldings).await?;
        if objects.is_empty() {
            return Ok(());
        }
        let count = objects.len();
        let detail =
            format!("This tenant has services or keys, {count} in all. Delete them first, or add ?force=true.");
        Err(Problem::new(Code::Conflict, detail))
    }

    /// What is not ended here, the sweep ends.
    async fn deleted(caller: &Caller, id: &str) -> Result<(), Problem> {
        // Its document was there until now.
        let Reply(outcome) = ask(caller, &TenantId::from_stored(id), &Close).await?;
        outcome.map(|Done::Done| ()).map_err(|reason| refusal(reason, "tenant"))
    }
}
