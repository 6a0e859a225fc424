//! Revocation (RFC 7009) and introspection (RFC 7662) of issued tokens.

use serde_json::{Value, json};

use crate::auth::own_tokens;
use crate::objects::grants::messages::{CheckToken, CheckedToken, End, Ended, Grants};
use crate::objects::protocol;
use crate::platform::clock;
use narthex_core::access::jose::jwt::parse;
use narthex_core::access::oauth::access_token::AccessTokenClaims;
use narthex_core::access::oauth::client::AuthMethod;
use narthex_core::access::oauth::grant::{GrantToken, PresentedToken};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::permission::scope_text;
use narthex_core::base::time::Timestamp;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::clients::{Realm, ResolvedClient, authenticate};
use super::token::{actor, read_presented, revoke_tokens};
use super::{EndpointError, form, grants, origin};

/// An access token of this gateway, for any resource: of the client's tenant, or its own if the client serves all
/// tenants.
async fn access_token(
    call: &Call,
    client: &ResolvedClient,
    text: &str,
) -> Option<(Realm, AccessTokenClaims, Timestamp)> {
    let token = parse(text).ok()?;
    let audience = token.text("aud")?.to_string();
    let (claims, until) = own_tokens::claims(&token, &origin(call), &audience).await.ok()?;
    if client.for_all && claims.client_id != client.client_id {
        return None;
    }
    let realm = client.within(claims.tenant.as_str()).await.ok()??;
    Some((realm, claims, until))
}

/// Revokes a token. The response does not reveal whether it existed.
pub async fn revoke(call: &Call) -> Result<Answer, EndpointError> {
    let form = form(call).await?;
    let client = authenticate(call, &form).await?;
    let text = form.require("token")?;
    if let Some((realm, token)) =
        read_presented(&client, text).await?.filter(|(_, token)| token.used != GrantToken::Code)
    {
        let end = End { client: client.client_id.clone() };
        let grant = Grants::grant(&realm.tenant, &token.grant);
        let Ended::Ended(has_ended) = protocol::call(&grant, &end).await.map_err(internal)?;
        if has_ended {
            revoke_tokens(actor(call, &client), &realm, &client.client_id, &token.grant).await?;
            grants::unlist(&realm.tenant, &token.grant).await;
        }
    } else if let Some((realm, claims, _)) = access_token(call, &client, text).await
        && claims.client_id == client.client_id
    {
        if let Some(grant) = &claims.grant {
            let end = End { client: client.client_id.clone() };
            protocol::call(&Grants::grant(&realm.tenant, grant), &end).await.map_err(internal)?;
        }
        revoke_tokens(actor(call, &client), &realm, &client.client_id, claims.family()).await?;
        if let Some(grant) = &claims.grant {
            grants::unlist(&realm.tenant, grant).await;
        }
    }
    Ok(Answer::empty(200))
}

pub async fn introspect(call: &Call) -> Result<Answer, EndpointError> {
    let form = form(call).await?;
    let client = authenticate(call, &form).await?;
    if client.registration.auth_method == AuthMethod::None {
        return Err(OAuthError::new(OAuthErrorCode::InvalidClient, "a public client must not introspect tokens").into());
    }
    let text = form.require("token")?;
    let description = match read_presented(&client, text).await? {
        Some((realm, token)) => describe_refresh_token(&client, &realm, token).await?,
        None => describe_access_token(call, &client, text).await,
    };
    // An invalid token has no other members (RFC 7662 §2.2).
    Ok(Answer::json(200, &description.unwrap_or_else(|| json!({"active": false})))?)
}

async fn describe_access_token(call: &Call, client: &ResolvedClient, text: &str) -> Option<Value> {
    let (realm, claims, until) = access_token(call, client, text).await?;
    let principal = own_tokens::principal(&client.deployment, &realm.snapshot, &claims, until).ok()?;
    if claims.exp <= clock::now().seconds() {
        return None;
    }
    Some(json!({
        "active": true, "scope": scope_text(&principal.permissions), "client_id": claims.client_id,
        "token_type": "Bearer", "sub": claims.sub, "aud": claims.aud, "iss": claims.iss,
        "exp": claims.exp, "iat": claims.iat, "jti": claims.jti,
    }))
}

/// Describes a refresh token, to its own client only.
async fn describe_refresh_token(
    client: &ResolvedClient,
    realm: &Realm,
    token: PresentedToken,
) -> Result<Option<Value>, EndpointError> {
    let GrantToken::Refresh(place) = token.used else { return Ok(None) };
    let check = CheckToken { place, hash: token.hash };
    let grant = Grants::grant(&realm.tenant, &token.grant);
    let CheckedToken::Access(access) = protocol::call(&grant, &check).await.map_err(internal)?;
    let Some((allowed, until)) = access else { return Ok(None) };
    Ok((allowed.client == client.client_id).then(|| {
        json!({
            "active": true, "scope": scope_text(&allowed.scope), "client_id": allowed.client,
            "sub": allowed.subject, "exp": until.seconds(),
        })
    }))
}
