//! The token endpoint: client credentials, authorization codes, refresh tokens.

use futures_util::future::join;
use serde::Serialize;

use crate::auth::own_tokens;
use crate::objects::grants::messages::{
    ActiveGrant, FoundGrant, Grants, ReadGrant, Redeem, RefreshGrant, Sign, Signed, TokenOutcome, TokenUse,
};
use crate::objects::protocol::{self, Request};
use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{Condition, DocumentKind, DocumentReply, PutDocument, Refusal, WriteRefusal};
use crate::objects::reply;
use crate::platform::{clock, random};
use narthex_core::access::audit::Actor;
use narthex_core::access::oauth::access_token::{AccessTokenClaims, LIFETIME_SECONDS, known_resource};
use narthex_core::access::oauth::client::{GrantType, split_client_id};
use narthex_core::access::oauth::form::{Form, scope};
use narthex_core::access::oauth::grant::{GrantToken, GrantedAccess, PresentedToken, tenant_of};
use narthex_core::access::oauth::grant_list::is_due;
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::permission::{self, meet_all, scope_text};
use narthex_core::base::canonical::digest;
use narthex_core::base::id::ulid;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::credentials;
use super::clients::{Realm, ResolvedClient, authenticate};
use super::{EndpointError, form, grants, origin};

/// RFC 6749 §5.1.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::gateway) struct Tokens<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    scope: String,
}

pub async fn serve(call: &Call) -> Result<Answer, EndpointError> {
    let form = form(call).await?;
    let client = authenticate(call, &form).await?;
    let grant_type = GrantType::parse(form.require("grant_type")?).ok_or_else(|| {
        OAuthError::new(OAuthErrorCode::UnsupportedGrantType, "this server does not support the grant type")
    })?;
    if !client.registration.may(grant_type) {
        return Err(OAuthError::new(
            OAuthErrorCode::UnauthorizedClient,
            "the client is not registered for this grant type",
        )
        .into());
    }
    let answer = match grant_type {
        GrantType::ClientCredentials => by_credentials(call, &form, &client).await,
        GrantType::AuthorizationCode => by_code(call, &form, &client).await,
        GrantType::RefreshToken => by_refresh(call, &form, &client).await,
    }?;
    // The registry records the use of its own clients, not of the console or of clients with metadata documents.
    let parts = split_client_id(&client.client_id);
    if parts.is_some_and(|(tenant, id)| tenant == client.home.tenant.as_str() && id == client.registration.id) {
        credentials::used_client(call, &client.home.tenant, &client.registration.id);
    }
    Ok(answer)
}

/// The resource of a token; the API itself if the request names none (RFC 8707 §2).
pub fn resource(call: &Call, form: &Form) -> Result<String, OAuthError> {
    let origin = origin(call);
    match form.get("resource") {
        None => Ok(origin),
        Some(resource) if known_resource(resource, &origin) => Ok(resource.trim_end_matches('/').into()),
        Some(_) => Err(OAuthError::new(OAuthErrorCode::InvalidTarget, "the resource does not belong to this gateway")),
    }
}

/// The requested part of the scope `max`; all of it if the request names no scope.
pub fn requested_scope(max: &[String], form: &Form) -> Result<Vec<String>, OAuthError> {
    let requested = form.get("scope").map(scope).transpose()?.unwrap_or_default();
    let max: Vec<&String> = max.iter().filter(|word| permission::is_named(word)).collect();
    let granted = if requested.is_empty() { max.into_iter().cloned().collect() } else { meet_all(&max, &requested) };
    if granted.is_empty() {
        return Err(OAuthError::new(OAuthErrorCode::InvalidScope, "no part of the scope can be granted"));
    }
    Ok(granted)
}

async fn by_credentials(call: &Call, form: &Form, client: &ResolvedClient) -> Result<Answer, EndpointError> {
    let allowed = GrantedAccess {
        client: client.client_id.clone(),
        subject: own_tokens::client_principal(&client.home.tenant, &client.registration.id),
        scope: requested_scope(&client.registration.scope, form)?,
        resource: resource(call, form)?,
        roles: Vec::new(),
    };
    let claims = claims(call, client, &client.home, &allowed, None)?;
    answer(&claims, None).await
}

fn invalid_grant() -> EndpointError {
    OAuthError::new(
        OAuthErrorCode::InvalidGrant,
        "the code or refresh token is invalid or expired, or belongs to another client",
    )
    .into()
}

/// Reads a presented token, if the gateway issued it in a tenant that the client serves.
pub async fn read_presented(
    client: &ResolvedClient,
    text: &str,
) -> Result<Option<(Realm, PresentedToken)>, EndpointError> {
    // The token names its tenant.
    let Some(tenant) = tenant_of(text) else { return Ok(None) };
    let realm = client.within(tenant).await?;
    Ok(realm.and_then(|realm| realm.snapshot.grant_key.read(text).map(|presented| (realm, presented))))
}

/// A new token of a grant, and its hash.
pub fn mint(realm: &Realm, grant: &str, used: GrantToken) -> (String, String) {
    let text = realm.snapshot.grant_key.write(&realm.tenant, grant, used, &random::bytes());
    let hash = digest(&text);
    (text, hash)
}

/// The grant, if it is active and belongs to this client.
pub async fn read_grant(realm: &Realm, grant: &str, client: &str) -> Result<Option<ActiveGrant>, EndpointError> {
    let read = ReadGrant { client: client.into() };
    let found = protocol::call(&Grants::grant(&realm.tenant, grant), &read).await;
    let FoundGrant::Grant(grant) = found.map_err(internal)?;
    Ok(grant.map(|grant| *grant))
}

/// The token that succeeds `text` in its grant, and its hash. The same input gives the same token.
fn next_token(realm: &Realm, grant: &str, used: GrantToken, text: &str) -> (String, String) {
    let next = realm.snapshot.grant_key.write_next(&realm.tenant, grant, used, text);
    let hash = digest(&next);
    (next, hash)
}

/// All checks come before the redemption, which uses up the code.
async fn by_code(call: &Call, form: &Form, client: &ResolvedClient) -> Result<Answer, EndpointError> {
    let (text, verifier) = (form.require("code")?, form.require("code_verifier")?);
    let (realm, code) = read_presented(client, text)
        .await?
        .filter(|(_, code)| code.used == GrantToken::Code)
        .ok_or_else(invalid_grant)?;
    let grant = read_grant(&realm, &code.grant, &client.client_id).await?.ok_or_else(invalid_grant)?;
    check_resource(call, form, &grant.allowed)?;
    let claims = claims(call, client, &realm, &grant.allowed, Some(&code.grant))?;
    let refreshes = client.registration.may(GrantType::RefreshToken);
    let next = refreshes.then(|| next_token(&realm, &code.grant, GrantToken::Refresh(1), text));
    let redeem = Redeem {
        hash: code.hash.clone(),
        client: client.client_id.clone(),
        redirect_uri: form.get("redirect_uri").map(Into::into),
        verifier: verifier.into(),
        next: next.as_ref().map(|(_, hash)| hash.clone()),
    };
    let is_first = use_token(call, client, &realm, &code.grant, &redeem).await?;
    let recording = async {
        if is_first {
            grants::record_use(client, &realm, &code.grant, &grant).await;
        }
    };
    join(answer(&claims, next.map(|(text, _)| text)), recording).await.0
}

/// All checks come before the refresh, which uses up the token: an error leaves the grant unchanged.
async fn by_refresh(call: &Call, form: &Form, client: &ResolvedClient) -> Result<Answer, EndpointError> {
    let text = form.require("refresh_token")?;
    let (realm, token) = read_presented(client, text).await?.ok_or_else(invalid_grant)?;
    let GrantToken::Refresh(place) = token.used else { return Err(invalid_grant()) };
    let mut grant = read_grant(&realm, &token.grant, &client.client_id).await?.ok_or_else(invalid_grant)?;
    check_resource(call, form, &grant.allowed)?;
    let whole = grant.allowed.scope.clone();
    grant.allowed.scope = requested_scope(&whole, form)?;
    let claims = claims(call, client, &realm, &grant.allowed, Some(&token.grant))?;
    grant.allowed.scope = whole;
    let (next, hash) = next_token(&realm, &token.grant, GrantToken::Refresh(place + 1), text);
    let now = clock::now();
    let seen = client.seen.clone().filter(|seen| {
        grant
            .seen
            .as_ref()
            .is_none_or(|stored| stored.at < seen.at && (stored.is_due(now) || stored.client != seen.client))
    });
    let client_id = client.client_id.clone();
    let seen = seen.map(Box::new);
    let refresh = RefreshGrant { place, hash: token.hash.clone(), client: client_id, next: hash, seen };
    let is_first = use_token(call, client, &realm, &token.grant, &refresh).await?;
    let recording = async {
        if is_first && is_due(grant.used_at, now) {
            grants::record_use(client, &realm, &token.grant, &grant).await;
        }
    };
    join(answer(&claims, Some(next)), recording).await.0
}

/// A token is for the resource of its grant; a request for another resource is an error.
fn check_resource(call: &Call, form: &Form, allowed: &GrantedAccess) -> Result<(), OAuthError> {
    if form.get("resource").is_none() || resource(call, form)? == allowed.resource {
        return Ok(());
    }
    Err(OAuthError::new(OAuthErrorCode::InvalidTarget, "the grant is for another resource"))
}

/// Uses a code or refresh token at the grant's object; whether it was the first use. A replay ends the grant and its
/// access tokens.
async fn use_token(
    call: &Call,
    client: &ResolvedClient,
    realm: &Realm,
    grant: &str,
    request: &impl Request<Object = Grants, Reply = TokenUse>,
) -> Result<bool, EndpointError> {
    let used = protocol::call(&Grants::grant(&realm.tenant, grant), request).await;
    let TokenUse::Token(outcome) = used.map_err(internal)?;
    match outcome {
        TokenOutcome::Accepted(_) => Ok(true),
        TokenOutcome::Repeated(_) => Ok(false),
        TokenOutcome::Replayed => {
            revoke_tokens(actor(call, client), realm, &client.client_id, grant).await?;
            grants::unlist(&realm.tenant, grant).await;
            Err(invalid_grant())
        }
        TokenOutcome::Rejected => Err(invalid_grant()),
    }
}

/// The client as the actor of an audit entry.
pub fn actor(call: &Call, client: &ResolvedClient) -> Actor {
    Actor {
        actor: format!("client:{}", client.client_id),
        name: Some(client.registration.name.clone()).filter(|name| !name.is_empty()),
        request_id: call.request_id.clone(),
        address: call.address().to_string(),
    }
}

/// Revokes the access tokens of a grant, or a single one: no isolate accepts them after the reply.
pub async fn revoke_tokens(actor: Actor, realm: &Realm, client: &str, family: &str) -> Result<(), EndpointError> {
    let document = serde_json::value::to_raw_value(&serde_json::json!({"client": client}));
    let put = PutDocument {
        kind: DocumentKind::Revocation,
        id: family.into(),
        document: document.map_err(|error| Problem::internal(error.to_string()))?,
        // A second revocation has no effect.
        condition: Condition::Absent,
    };
    let reply::Reply(outcome) = ask_as(&realm.tenant, &actor, &put).await.map_err(internal)?;
    match outcome {
        Ok(DocumentReply::Document(_)) => Ok(()),
        // RFC 7009 §2.2.1: the token is still valid.
        Err(WriteRefusal::TooLarge(_)) => {
            Err(OAuthError::new(OAuthErrorCode::TemporarilyUnavailable, "try again in a minute").into())
        }
        // It was revoked before, or the tenant was deleted.
        Err(WriteRefusal::Refused(Refusal::PreconditionFailed) | WriteRefusal::Absent) => Ok(()),
        Err(refusal @ (WriteRefusal::Refused(_) | WriteRefusal::Faults(_) | WriteRefusal::InUse { .. })) => {
            Err(Problem::internal(format!("the revocation was refused: {refusal:?}")).into())
        }
    }
}

/// The claims of a new access token. An error if they would permit nothing: the person may have been deleted, or may
/// have lost permissions.
fn claims(
    call: &Call,
    client: &ResolvedClient,
    realm: &Realm,
    allowed: &GrantedAccess,
    grant: Option<&str>,
) -> Result<AccessTokenClaims, EndpointError> {
    let now = clock::now();
    let claims = AccessTokenClaims {
        iss: origin(call),
        sub: allowed.subject.clone(),
        aud: allowed.resource.clone(),
        client_id: allowed.client.clone(),
        scope: scope_text(&allowed.scope),
        exp: now.seconds() + LIFETIME_SECONDS,
        iat: now.seconds(),
        jti: ulid(now, random::bytes()),
        tenant: realm.tenant.clone(),
        grant: grant.map(Into::into),
        roles: allowed.roles.clone(),
    };
    let principal =
        own_tokens::principal(&client.deployment, &realm.snapshot, &claims, now).map_err(|_| invalid_grant())?;
    if principal.permissions.is_empty() {
        return Err(OAuthError::new(OAuthErrorCode::InvalidScope, "no part of the scope can be granted").into());
    }
    Ok(claims)
}

async fn answer(claims: &AccessTokenClaims, refresh: Option<String>) -> Result<Answer, EndpointError> {
    let scope = claims.scope.clone();
    let claims = serde_json::to_string(claims).map_err(|error| Problem::internal(error.to_string()))?;
    let Signed::Token(token) = protocol::call(&Grants::own_keys(), &Sign { claims }).await.map_err(internal)?;
    let body = Tokens {
        access_token: &token,
        token_type: "Bearer",
        expires_in: LIFETIME_SECONDS,
        refresh_token: refresh.as_deref(),
        scope,
    };
    Ok(Answer::json(200, &body)?)
}
