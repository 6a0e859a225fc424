//! `/v1/clients`: OAuth clients. A secret is shown in the answer that makes it, and never again.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use crate::platform::random;
use narthex_core::access::api_key;
use narthex_core::access::issuer::{AddressRules, Keys};
use narthex_core::access::jose::jwk::Jwk;
use narthex_core::access::oauth::client::{self, AuthMethod, Client, GrantType, SELF_REGISTERED, client_id};
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::canonical::digest;
use narthex_core::base::json::Fault;
use narthex_core::base::time::{Timestamp, as_optional_text, as_text};
use narthex_core::http::problem::Problem;

use super::answer::Answer;
use super::call::{Call, Caller};
use super::keys::last_used;
use super::lists::page;
use super::roles::{etag, may_grant};
use super::services::{ask_registry, checked_id, refusal, text, unchanged};

#[derive(Serialize)]
struct View<'a> {
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
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
    /// When it was last given a token, to the hour.
    #[serde(serialize_with = "as_optional_text")]
    last_used_at: Option<Timestamp>,
}

fn view<'a>(
    caller: &Caller,
    stored: &StoredDocument,
    client: &'a Client,
    secret: Option<&'a str>,
    used: &[(String, Timestamp)],
) -> View<'a> {
    let (jwks_url, keys) = match &client.keys {
        Some(Keys::Url(url)) => (Some(url.as_str()), None),
        Some(Keys::Fixed(keys)) => (None, Some(keys.iter().map(Jwk::view).collect())),
        None => (None, None),
    };
    View {
        id: &client.id,
        client_id: client_id(&caller.principal.tenant, &client.id),
        secret,
        name: &client.name,
        grant_types: &client.grant_types,
        auth_method: client.auth_method,
        redirect_uris: &client.redirect_uris,
        scope: client.scope.join(" "),
        jwks_url,
        keys,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
        last_used_at: used
            .iter()
            .find(|(name, _)| name.strip_prefix("clients/") == Some(&client.id))
            .map(|(_, at)| *at),
    }
}

/// A new secret: what follows an API key's id is random enough, and safe in forms and headers.
pub fn new_secret() -> String {
    let minted = api_key::mint("default", random::bytes());
    format!("nxs_{}", minted.secret.rsplit('_').next().unwrap_or_default())
}

fn read(stored: &StoredDocument) -> Option<(&StoredDocument, Client)> {
    Some((stored, serde_json::from_str(stored.document.get()).ok()?))
}

fn find<'c>(caller: &'c Caller, id: &str) -> Result<(&'c StoredDocument, Client), Problem> {
    let stored = caller.snapshot.documents(DocumentKind::Client).find(|stored| stored.id == id);
    stored.and_then(read).ok_or_else(|| Problem::not_found("client"))
}

/// Who changes or deletes a client takes from it what it may do.
fn may_change(caller: &Caller, known: Option<&Client>) -> Result<(), Problem> {
    let scope = known.into_iter().flat_map(|known| known.scope.iter().map(String::as_str));
    may_grant(&caller.principal, scope)
}

/// Ids that clients give themselves are not given by people.
fn may_be_made(caller: &Caller, id: &str, known: Option<&Client>) -> Result<(), Problem> {
    if caller.principal.tenant == FIRST_TENANT && id.starts_with(SELF_REGISTERED) && known.is_none() {
        let detail = "must not begin with dyn-, as the ids of clients do that registered themselves";
        return Err(Problem::invalid(vec![Fault::new("#/id", detail)]));
    }
    Ok(())
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let document = text(call.json_body().await?);
    let rules = call.write_rules();
    let own_hosts = rules.own_hosts();
    let rules = AddressRules { addresses: rules.addresses(), own_hosts: &own_hosts };
    let mut client = client::read(&id, &document, rules).map_err(Problem::invalid)?;
    if client.scope.iter().any(|permission| permission == "offline_access" || permission == "openid") {
        return Err(Problem::invalid(vec![Fault::new("#/scope", "takes permissions only")]));
    }
    may_grant(&caller.principal, client.scope.iter().map(String::as_str))?;
    let known = caller.snapshot.client(&id);
    may_change(caller, known.as_ref())?;
    may_be_made(caller, &id, known.as_ref())?;
    let mut secret = None;
    if client.auth_method.has_secret() {
        let known = known.and_then(|known| known.secret_hash);
        client.secret_hash = known.or_else(|| Some(digest(secret.insert(new_secret()))));
    }
    let document = to_raw_value(&client).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Client, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            // One that was just made was never used.
            let used = if created { Vec::new() } else { last_used(caller).await? };
            let body = view(caller, &stored, &client, secret.as_deref(), &used);
            let answer = Answer::json(if created { 201 } else { 200 }, &body)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/clients/{name}")) } else { answer })
        }
        other => Err(refusal(other, "client")),
    }
}

pub async fn delete(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    may_change(caller, caller.snapshot.client(id).as_ref())?;
    let ask = Ask::Delete { kind: DocumentKind::Client, id: id.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => Ok(Answer::empty(204)),
        other => Err(refusal(other, "client")),
    }
}

pub async fn get(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    let (stored, client) = find(caller, id)?;
    let tag = etag(stored);
    if unchanged(call, &tag) {
        return Ok(Answer::empty(304).with("etag", &tag));
    }
    Ok(Answer::json(200, &view(caller, stored, &client, None, &last_used(caller).await?))?.with("etag", &tag))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let used = last_used(caller).await?;
    let all: Vec<(&StoredDocument, Client)> =
        caller.snapshot.documents(DocumentKind::Client).filter_map(read).collect();
    let data: Vec<View<'_>> = all.iter().map(|(stored, client)| view(caller, stored, client, None, &used)).collect();
    page(call, &data, None)
}
