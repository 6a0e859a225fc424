//! The token endpoint: client credentials, codes, refresh tokens.

use futures_util::future::join;
use serde::Serialize;

use crate::auth::key_sets::OWN_KEYS;
use crate::auth::own_tokens;
use crate::objects::grants::messages::{ActiveGrant, Ask, Reply, TokenOutcome};
use crate::objects::registry::messages::{self as registry, Condition};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, random};
use narthex_core::access::audit::Actor;
use narthex_core::access::oauth::access_token::{AccessTokenClaims, LIFETIME_SECONDS, known_resource};
use narthex_core::access::oauth::client::{GrantType, split_client_id};
use narthex_core::access::oauth::form::{Form, scope};
use narthex_core::access::oauth::grant::{GrantToken, GrantedAccess, PresentedToken, tenant_of};
use narthex_core::access::oauth::grant_list::is_due;
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::permission::{self, meet_all};
use narthex_core::base::canonical::digest;
use narthex_core::base::id::ulid;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::credentials;
use super::clients::{Known, Realm, authenticate};
use super::{Failed, form, listed, origin};

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct Tokens<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    scope: String,
}

pub async fn serve(call: &Call) -> Result<Answer, Failed> {
    let form = form(call).await?;
    let known = authenticate(call, &form).await?;
    let grant_type = GrantType::parse(form.require("grant_type")?).ok_or_else(|| {
        OAuthError::new(OAuthErrorCode::UnsupportedGrantType, "the grant type is not one of this server's")
    })?;
    if !known.client.may(grant_type) {
        return Err(OAuthError::new(
            OAuthErrorCode::UnauthorizedClient,
            "the client is not registered for this grant type",
        )
        .into());
    }
    let answer = match grant_type {
        GrantType::ClientCredentials => by_credentials(call, &form, &known).await,
        GrantType::AuthorizationCode => by_code(call, &form, &known).await,
        GrantType::RefreshToken => by_refresh(call, &form, &known).await,
    }?;
    // What is not in the registry is not noted there: the console, and clients with a document at their own address.
    let named = split_client_id(&known.client_id);
    if named.is_some_and(|(tenant, id)| tenant == known.home.tenant && id == known.client.id) {
        credentials::used_client(call, &known.home.tenant, &known.client.id);
    }
    Ok(answer)
}

/// The resource a token is to be for; the API itself when none is named (RFC 8707 §2).
pub fn resource(call: &Call, form: &Form) -> Result<String, OAuthError> {
    let origin = origin(call);
    match form.get("resource") {
        None => Ok(origin),
        Some(resource) if known_resource(resource, &origin) => Ok(resource.trim_end_matches('/').into()),
        Some(_) => Err(OAuthError::new(OAuthErrorCode::InvalidTarget, "the resource is not one of this gateway's")),
    }
}

/// What of `most` is asked for; all of it when nothing is.
pub fn narrowed(most: &[String], form: &Form) -> Result<Vec<String>, OAuthError> {
    let asked = form.get("scope").map(scope).transpose()?.unwrap_or_default();
    let most: Vec<&String> = most.iter().filter(|word| permission::is_named(word)).collect();
    let granted = if asked.is_empty() { most.into_iter().cloned().collect() } else { meet_all(&most, &asked) };
    if granted.is_empty() {
        return Err(OAuthError::new(OAuthErrorCode::InvalidScope, "nothing of the scope may be given"));
    }
    Ok(granted)
}

async fn by_credentials(call: &Call, form: &Form, known: &Known) -> Result<Answer, Failed> {
    let allowed = GrantedAccess {
        client: known.client_id.clone(),
        subject: own_tokens::client_principal(&known.home.tenant, &known.client.id),
        scope: narrowed(&known.client.scope, form)?,
        resource: resource(call, form)?,
        roles: Vec::new(),
    };
    let claims = claims(call, known, &known.home, &allowed, None)?;
    answer(&claims, None).await
}

fn invalid_grant() -> Failed {
    OAuthError::new(
        OAuthErrorCode::InvalidGrant,
        "the code or refresh token is not good (any more), or not this client's",
    )
    .into()
}

/// What is presented, if it was given out in a tenant that the client may act in.
pub async fn presented(known: &Known, text: &str) -> Result<Option<(Realm, PresentedToken)>, Failed> {
    // Whose it is stands in it.
    let Some(tenant) = tenant_of(text) else { return Ok(None) };
    let realm = known.within(tenant).await?;
    Ok(realm.and_then(|realm| realm.snapshot.grant_key.read(text).map(|presented| (realm, presented))))
}

/// The object that keeps a grant.
pub fn object(realm: &Realm, grant: &str) -> String {
    format!("{}/{grant}", realm.tenant)
}

/// A text for a grant, and its hash.
pub fn minted(realm: &Realm, grant: &str, used: GrantToken) -> (String, String) {
    let text = realm.snapshot.grant_key.write(&realm.tenant, grant, used, &random::bytes());
    let hash = digest(&text);
    (text, hash)
}

/// What this client may still get of a grant.
pub async fn read(realm: &Realm, grant: &str, client: &str) -> Result<Option<ActiveGrant>, Failed> {
    let ask = Ask::Read { client: client.into() };
    let reply = objects::send(Kind::Grants, &object(realm, grant), "", &ask, PATIENCE_MS).await.map_err(internal)?;
    match reply {
        Reply::Read(held) => Ok(held.map(|held| *held)),
        _ => Err(Problem::internal("the grant's object answered something else").into()),
    }
}

/// The text that comes after `text` in its grant, and its hash. It is the same each time.
fn following(realm: &Realm, grant: &str, used: GrantToken, text: &str) -> (String, String) {
    let next = realm.snapshot.grant_key.write_next(&realm.tenant, grant, used, text);
    let hash = digest(&next);
    (next, hash)
}

/// Everything is checked before the code is used up.
async fn by_code(call: &Call, form: &Form, known: &Known) -> Result<Answer, Failed> {
    let (text, verifier) = (form.require("code")?, form.require("code_verifier")?);
    let (realm, code) =
        presented(known, text).await?.filter(|(_, code)| code.used == GrantToken::Code).ok_or_else(invalid_grant)?;
    let held = read(&realm, &code.grant, &known.client_id).await?.ok_or_else(invalid_grant)?;
    same_resource(call, form, &held.allowed)?;
    let claims = claims(call, known, &realm, &held.allowed, Some(&code.grant))?;
    let refreshes = known.client.may(GrantType::RefreshToken);
    let next = refreshes.then(|| following(&realm, &code.grant, GrantToken::Refresh(1), text));
    let ask = Ask::Redeem {
        hash: code.hash.clone(),
        client: known.client_id.clone(),
        redirect_uri: form.get("redirect_uri").map(Into::into),
        verifier: verifier.into(),
        next: next.as_ref().map(|(_, hash)| hash.clone()),
    };
    let first = taken(call, known, &realm, &code.grant, &ask).await?;
    let listing = async {
        if first {
            listed::note(known, &realm, &code.grant, &held).await;
        }
    };
    join(answer(&claims, next.map(|(text, _)| text)), listing).await.0
}

/// Everything is checked before the refresh token is used up: a refusal leaves the grant as it was.
async fn by_refresh(call: &Call, form: &Form, known: &Known) -> Result<Answer, Failed> {
    let text = form.require("refresh_token")?;
    let (realm, token) = presented(known, text).await?.ok_or_else(invalid_grant)?;
    let GrantToken::Refresh(place) = token.used else { return Err(invalid_grant()) };
    let mut held = read(&realm, &token.grant, &known.client_id).await?.ok_or_else(invalid_grant)?;
    same_resource(call, form, &held.allowed)?;
    let whole = held.allowed.scope.clone();
    held.allowed.scope = narrowed(&whole, form)?;
    let claims = claims(call, known, &realm, &held.allowed, Some(&token.grant))?;
    held.allowed.scope = whole;
    let (next, hash) = following(&realm, &token.grant, GrantToken::Refresh(place + 1), text);
    let now = clock::now();
    let seen = known.seen.clone().filter(|seen| {
        held.seen.as_ref().is_none_or(|kept| kept.at < seen.at && (kept.is_due(now) || kept.client != seen.client))
    });
    let client = known.client_id.clone();
    let ask = Ask::Refresh { place, hash: token.hash.clone(), client, next: hash, seen: seen.map(Box::new) };
    let first = taken(call, known, &realm, &token.grant, &ask).await?;
    let listing = async {
        if first && is_due(held.used_at, now) {
            listed::note(known, &realm, &token.grant, &held).await;
        }
    };
    join(answer(&claims, Some(next)), listing).await.0
}

/// A token is for the resource that was agreed on, whatever is asked for later.
fn same_resource(call: &Call, form: &Form, allowed: &GrantedAccess) -> Result<(), OAuthError> {
    if form.get("resource").is_none() || resource(call, form)? == allowed.resource {
        return Ok(());
    }
    Err(OAuthError::new(OAuthErrorCode::InvalidTarget, "this grant is for another resource"))
}

/// Lets the grant's object decide; whether it was for the first time. A replay ends what came of the grant, access
/// tokens too.
async fn taken(call: &Call, known: &Known, realm: &Realm, grant: &str, ask: &Ask) -> Result<bool, Failed> {
    let reply = objects::send(Kind::Grants, &object(realm, grant), "", ask, PATIENCE_MS).await.map_err(internal)?;
    match reply {
        Reply::Token(TokenOutcome::Accepted(_)) => Ok(true),
        Reply::Token(TokenOutcome::Repeated(_)) => Ok(false),
        Reply::Token(TokenOutcome::Replayed) => {
            end(by(call, known), realm, &known.client_id, grant).await?;
            listed::forget(&realm.tenant, grant).await;
            Err(invalid_grant())
        }
        _ => Err(invalid_grant()),
    }
}

/// The client itself, for the audit log.
pub fn by(call: &Call, known: &Known) -> Actor {
    Actor {
        actor: format!("client:{}", known.client_id),
        name: Some(known.client.name.clone()).filter(|name| !name.is_empty()),
        request_id: call.request_id.clone(),
        address: call.address().to_string(),
    }
}

/// Ends a grant's access tokens, or one that stands alone: with the answer they are good nowhere.
pub async fn end(by: Actor, realm: &Realm, client: &str, family: &str) -> Result<(), Failed> {
    let document = serde_json::value::to_raw_value(&serde_json::json!({"client": client}));
    let ask = registry::Ask::Put {
        kind: registry::DocumentKind::Revocation,
        id: family.into(),
        document: document.map_err(|error| Problem::internal(error.to_string()))?,
        // One that is there already does not need another.
        condition: Condition::Absent,
    };
    let message = registry::Message { tenant: realm.tenant.clone(), ask, by };
    let reply = objects::send::<_, registry::Reply>(Kind::Registry, &realm.tenant, "", &message, PATIENCE_MS);
    match reply.await.map_err(internal)? {
        // RFC 7009 §2.2.1: the token is good still.
        registry::Reply::TooLarge(_) => {
            Err(OAuthError::new(OAuthErrorCode::TemporarilyUnavailable, "try again in a minute").into())
        }
        _ => Ok(()),
    }
}

/// What an access token will say. Rejected while it would be worth nothing: who allowed it may be gone by now, or may do
/// less.
fn claims(
    call: &Call,
    known: &Known,
    realm: &Realm,
    allowed: &GrantedAccess,
    grant: Option<&str>,
) -> Result<AccessTokenClaims, Failed> {
    let now = clock::now();
    let claims = AccessTokenClaims {
        iss: origin(call),
        sub: allowed.subject.clone(),
        aud: allowed.resource.clone(),
        client_id: allowed.client.clone(),
        scope: allowed.scope.join(" "),
        exp: now.seconds() + LIFETIME_SECONDS,
        iat: now.seconds(),
        jti: ulid(now, random::bytes()),
        tenant: realm.tenant.clone(),
        grant: grant.map(Into::into),
        roles: allowed.roles.clone(),
    };
    let worth = own_tokens::principal(&known.deployment, &realm.snapshot, &claims, now).map_err(|_| invalid_grant())?;
    if worth.permissions.is_empty() {
        return Err(OAuthError::new(OAuthErrorCode::InvalidScope, "nothing of the scope may be given").into());
    }
    Ok(claims)
}

async fn answer(claims: &AccessTokenClaims, refresh: Option<String>) -> Result<Answer, Failed> {
    let scope = claims.scope.clone();
    let claims = serde_json::to_string(claims).map_err(|error| Problem::internal(error.to_string()))?;
    let reply =
        objects::send(Kind::Grants, OWN_KEYS, "", &Ask::Sign { claims }, PATIENCE_MS).await.map_err(internal)?;
    let Reply::Signed(token) = reply else {
        return Err(Problem::internal("the keys' object answered something else").into());
    };
    let body = Tokens {
        access_token: &token,
        token_type: "Bearer",
        expires_in: LIFETIME_SECONDS,
        refresh_token: refresh.as_deref(),
        scope,
    };
    Ok(Answer::json(200, &body)?)
}
