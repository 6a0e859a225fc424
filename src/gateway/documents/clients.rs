//! `/v1/clients`: OAuth clients. A secret is shown in the response that makes it, and never again.

use serde::Serialize;
use serde_json::Value;

use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::platform::random;
use narthex_core::access::api_key;
use narthex_core::access::issuer::{AddressRules, Keys};
use narthex_core::access::jose::jwk::Jwk;
use narthex_core::access::oauth::client::{self, AuthMethod, Client, GrantType, SELF_REGISTERED, client_id};
use narthex_core::access::permission::scope_text;
use narthex_core::base::canonical::digest;
use narthex_core::base::json::Fault;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::http::problem::Problem;

use super::super::call::{Call, Caller};
use super::super::keys::last_used;
use super::{Document, may_grant};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    id: &'a str,
    /// What the client calls itself.
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    name: &'a str,
    grant_types: &'a [GrantType],
    auth_method: AuthMethod,
    redirect_uris: &'a [String],
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Value>>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
    /// When it last received a token, to the hour.
    #[serde(serialize_with = "as_optional_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    last_used_at: Option<Timestamp>,
}

/// A new secret: what follows an API key's id is random enough, and safe in forms and headers.
pub fn new_secret() -> String {
    let minted = api_key::mint(&TenantId::first(), random::bytes());
    format!("nxs_{}", minted.secret.rsplit('_').next().unwrap_or_default())
}

/// Changing or deleting a client takes from it what it may do.
fn may_change(caller: &Caller, known: Option<&Client>) -> Result<(), Problem> {
    let scope = known.into_iter().flat_map(|known| known.scope.iter().map(String::as_str));
    may_grant(&caller.principal, scope)
}

/// Whether the id is that of a client which registered itself.
fn is_stranger(caller: &Caller, id: &str) -> bool {
    caller.principal.tenant.is_first() && id.starts_with(SELF_REGISTERED)
}

/// Ids of the form that clients have which registered themselves are not given to others.
fn may_have_id(caller: &Caller, id: &str, known: Option<&Client>) -> Result<(), Problem> {
    if is_stranger(caller, id) && known.is_none() {
        let detail = "must not begin with dyn-, as the ids of clients do that registered themselves";
        return Err(Problem::invalid(vec![Fault::new("#/id", detail)]));
    }
    Ok(())
}

#[derive(Default)]
pub struct Extras {
    secret: Option<String>,
    /// Of keys and clients, which no snapshot has.
    last_used: Vec<(String, Timestamp)>,
}

impl Document for Client {
    const KIND: DocumentKind = DocumentKind::Client;
    const REVALIDATES: bool = true;
    type Extras = Extras;
    type View<'a> = View<'a>;

    fn view<'a>(caller: &Caller, stored: &'a StoredDocument, client: &'a Self, extras: &'a Extras) -> View<'a> {
        let (jwks_url, keys) = match &client.keys {
            Some(Keys::Url(url)) => (Some(url.as_str()), None),
            Some(Keys::Fixed(keys)) => (None, Some(keys.iter().map(Jwk::view).collect())),
            None => (None, None),
        };
        let is_client = |(name, _): &&(String, Timestamp)| name.strip_prefix("clients/") == Some(&client.id);
        View {
            id: &client.id,
            client_id: client_id(&caller.principal.tenant, &client.id),
            secret: extras.secret.as_deref(),
            name: &client.name,
            grant_types: &client.grant_types,
            auth_method: client.auth_method,
            redirect_uris: &client.redirect_uris,
            scope: scope_text(&client.scope),
            jwks_url,
            keys,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            last_used_at: extras.last_used.iter().find(is_client).map(|(_, at)| *at),
        }
    }

    async fn extras(caller: &Caller, _: Option<&str>) -> Result<Extras, Problem> {
        Ok(Extras { secret: None, last_used: last_used(caller).await? })
    }

    async fn accept(call: &Call, caller: &Caller, id: &str, body: &str) -> Result<(Self, Extras), Problem> {
        let rules = call.write_rules();
        let own_hosts = rules.own_hosts();
        let addresses = rules.addresses();
        let addresses = if is_stranger(caller, id) { addresses.for_strangers() } else { addresses };
        let rules = AddressRules { addresses, own_hosts: &own_hosts };
        let mut client = client::read(id, body, rules).map_err(Problem::invalid)?;
        if client.scope.iter().any(|permission| permission == "offline_access" || permission == "openid") {
            return Err(Problem::invalid(vec![Fault::new("#/scope", "takes permissions only")]));
        }
        may_grant(&caller.principal, client.scope.iter().map(String::as_str))?;
        let known = caller.snapshot.client(id);
        may_change(caller, known.as_ref())?;
        may_have_id(caller, id, known.as_ref())?;
        let mut extras = Extras::default();
        if client.auth_method.has_secret() {
            let known = known.and_then(|known| known.secret_hash);
            client.secret_hash = known.or_else(|| Some(digest(extras.secret.insert(new_secret()))));
        }
        Ok((client, extras))
    }

    async fn written(
        caller: &Caller,
        _: &StoredDocument,
        _: &Self,
        created: bool,
        extras: Extras,
    ) -> Result<Extras, Problem> {
        // A client that was just made has never been used.
        let last_used = if created { Vec::new() } else { last_used(caller).await? };
        Ok(Extras { last_used, ..extras })
    }

    async fn may_delete(_: &Call, caller: &Caller, id: &str) -> Result<(), Problem> {
        may_change(caller, caller.snapshot.client(id).as_ref())
    }
}
