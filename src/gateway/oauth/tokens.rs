//! Revocation (RFC 7009) and introspection (RFC 7662).

use serde_json::{Value, json};

use crate::auth::own_tokens;
use crate::objects::grants::messages::{Ask, Reply};
use crate::platform::clock;
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use narthex_core::access::jose::jwt::parse;
use narthex_core::access::oauth::access_token::AccessTokenClaims;
use narthex_core::access::oauth::client::AuthMethod;
use narthex_core::access::oauth::grant::{GrantToken, PresentedToken};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::base::time::Timestamp;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::clients::{Known, Realm, authenticate};
use super::token::{by, end, object, presented};
use super::{Failed, form, listed, origin};

/// An access token of this gateway, whatever its resource: of the client's tenant, or its own where it belongs to none.
async fn access_token(call: &Call, known: &Known, text: &str) -> Option<(Realm, AccessTokenClaims, Timestamp)> {
    let token = parse(text).ok()?;
    let audience = token.text("aud")?.to_string();
    let (claims, until) = own_tokens::claims(&token, &origin(call), &audience).await.ok()?;
    if known.for_all && claims.client_id != known.client_id {
        return None;
    }
    let realm = known.within(&claims.tenant).await.ok()??;
    Some((realm, claims, until))
}

/// Answers the same whether there was something to revoke or not.
pub async fn revoke(call: &Call) -> Result<Answer, Failed> {
    let form = form(call).await?;
    let known = authenticate(call, &form).await?;
    let text = form.require("token")?;
    if let Some((realm, token)) = presented(&known, text).await?.filter(|(_, token)| token.used != GrantToken::Code) {
        let ask = Ask::End { client: known.client_id.clone() };
        let object = object(&realm, &token.grant);
        let reply = objects::send(Kind::Grants, &object, "", &ask, PATIENCE_MS).await.map_err(internal)?;
        if matches!(reply, Reply::Ended(true)) {
            end(by(call, &known), &realm, &known.client_id, &token.grant).await?;
            listed::forget(&realm.tenant, &token.grant).await;
        }
    } else if let Some((realm, claims, _)) = access_token(call, &known, text).await
        && claims.client_id == known.client_id
    {
        if let Some(grant) = &claims.grant {
            let ask = Ask::End { client: known.client_id.clone() };
            let object = object(&realm, grant);
            objects::send::<_, Reply>(Kind::Grants, &object, "", &ask, PATIENCE_MS).await.map_err(internal)?;
        }
        end(by(call, &known), &realm, &known.client_id, claims.family()).await?;
        if let Some(grant) = &claims.grant {
            listed::forget(&realm.tenant, grant).await;
        }
    }
    Ok(Answer::empty(200))
}

pub async fn introspect(call: &Call) -> Result<Answer, Failed> {
    let form = form(call).await?;
    let known = authenticate(call, &form).await?;
    if known.client.auth_method == AuthMethod::None {
        return Err(OAuthError::new(OAuthErrorCode::InvalidClient, "a public client may not ask about tokens").into());
    }
    let text = form.require("token")?;
    let told = match presented(&known, text).await? {
        Some((realm, token)) => of_refresh_token(&known, &realm, token).await?,
        None => of_access_token(call, &known, text).await,
    };
    // Nothing is said of what is not good.
    Ok(Answer::json(200, &told.unwrap_or_else(|| json!({"active": false})))?)
}

async fn of_access_token(call: &Call, known: &Known, text: &str) -> Option<Value> {
    let (realm, claims, until) = access_token(call, known, text).await?;
    let principal = own_tokens::principal(&known.deployment, &realm.snapshot, &claims, until).ok()?;
    if claims.exp <= clock::now().seconds() {
        return None;
    }
    Some(json!({
        "active": true, "scope": principal.permissions.join(" "), "client_id": claims.client_id,
        "token_type": "Bearer", "sub": claims.sub, "aud": claims.aud, "iss": claims.iss,
        "exp": claims.exp, "iat": claims.iat, "jti": claims.jti,
    }))
}

/// Only its own client learns of a refresh token.
async fn of_refresh_token(known: &Known, realm: &Realm, token: PresentedToken) -> Result<Option<Value>, Failed> {
    let GrantToken::Refresh(place) = token.used else { return Ok(None) };
    let ask = Ask::Look { place, hash: token.hash };
    let object = object(realm, &token.grant);
    let reply = objects::send(Kind::Grants, &object, "", &ask, PATIENCE_MS).await.map_err(internal)?;
    let Reply::Looked(Some((allowed, until))) = reply else { return Ok(None) };
    Ok((allowed.client == known.client_id).then(|| {
        json!({
            "active": true, "scope": allowed.scope.join(" "), "client_id": allowed.client,
            "sub": allowed.subject, "exp": until.seconds(),
        })
    }))
}
