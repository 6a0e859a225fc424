//! Access tokens of the gateway's own authorization server: what they permit now.
//!
//! A token names a principal, a client, a scope and a grant. Each may end or shrink before the token expires, so each
//! is looked up in the registry: a cached result is dropped when the revision changes.

use crate::objects::registry::snapshot::Snapshot;
use crate::platform::clock;
use narthex_core::access::issuer::{self, ACCESS_TOKEN};
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwt::{Token, TokenError, TokenRequirements};
use narthex_core::access::oauth::access_token::AccessTokenClaims;
use narthex_core::access::oauth::client::{SELF_REGISTERED, client_id, split_client_id};
use narthex_core::access::permission::{meet_all, of_scope};
use narthex_core::access::principal::Principal;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;

use super::key_sets;

/// A token's claims, after verification of its signature and its times. `audience` is the required resource.
pub async fn claims(
    token: &Token<'_>,
    origin: &str,
    audience: &str,
) -> Result<(AccessTokenClaims, Timestamp), TokenError> {
    let audience = audience.into();
    let expected = TokenRequirements { issuer: origin, audience, typ: ACCESS_TOKEN, algorithms: &[Algorithm::Es256] };
    token.check_header(&expected)?;
    let until = token.check_claims(&expected, clock::now())?;
    let claims: AccessTokenClaims = serde_json::from_value(token.claims.clone()).map_err(|_| TokenError::Json)?;
    key_sets::verify_own(token).await?;
    Ok((claims, until))
}

/// The principal of a token, limited to its scope. `deployment` is the registry with the issuers, `snapshot` that of
/// the token's tenant.
pub fn principal(
    deployment: &Snapshot,
    snapshot: &Snapshot,
    claims: &AccessTokenClaims,
    until: Timestamp,
) -> Result<Principal, TokenError> {
    if snapshot.rules.is_revoked(claims.family()) {
        return Err(TokenError::Revoked);
    }
    let mut scope: Vec<String> = claims.scope.split(' ').map(|word| of_scope(word).into_owned()).collect();
    // A client identified by a URL is not registered here.
    if let Some((tenant, id)) = split_client_id(&claims.client_id).filter(|_| !claims.client_id.contains(':')) {
        let registry = match tenant {
            _ if tenant == claims.tenant.as_str() => Some(snapshot),
            TenantId::FIRST if id.starts_with(SELF_REGISTERED) => Some(deployment),
            _ => None,
        };
        let client = registry.and_then(|registry| registry.client(id)).ok_or(TokenError::Client)?;
        scope = meet_all(&client.scope, &scope);
    }
    let (role, permissions) = subject_permissions(deployment, snapshot, claims).ok_or(TokenError::Holder)?;
    let permissions = permissions.map_or(scope.clone(), |permissions| meet_all(&permissions, &scope));
    let mut from = vec![format!("clients/{}", claims.client_id), format!("revocations/{}", claims.family())];
    if let Some(name) = claims.sub.issuer() {
        from.push(format!("issuers/{name}"));
    }
    // The token ends with the API key of the person who consented.
    let key = claims.sub.key().and_then(|id| snapshot.key(id));
    let until = key.map_or(until, |key| until.min(key.expires_at));
    let (principal, tenant, roles) = (claims.sub.clone(), claims.tenant.clone(), claims.roles.clone());
    let name = super::name_of(principal.as_str(), snapshot);
    Ok(Principal { principal, name, tenant, role, permissions, until: Some(until), from, roles })
}

/// The subject's role, and its permissions unless the scope alone decides; `None` if the subject is gone.
fn subject_permissions(
    deployment: &Snapshot,
    snapshot: &Snapshot,
    claims: &AccessTokenClaims,
) -> Option<(String, Option<Vec<String>>)> {
    let (kind, id) = claims.sub.as_str().split_once(':')?;
    match kind {
        "client" if id == claims.client_id => Some(("service".into(), None)),
        "key" if id == "admin" && claims.tenant.is_first() => Some(("admin".into(), None)),
        "key" => {
            let key = snapshot.key(id).filter(|key| key.expires_at > clock::now())?;
            let role = snapshot.rules.role(&key.role).into_iter().flatten().map(str::to_string);
            Some((key.role.clone(), Some(role.chain(key.permissions.iter().cloned()).collect())))
        }
        // A person who signed in with an issuer: what their roles grant now, while the issuer may still be used to sign
        // in.
        "issuer" => {
            let (name, _) = id.split_once(':')?;
            let issuer =
                deployment.rules.issuers.iter().find(|issuer| issuer.name == name && issuer.sign_in.is_some())?;
            // The issuer's tenant may have changed.
            let theirs = issuer.tenant.as_ref().map_or(claims.tenant.is_first(), |tenant| *tenant == claims.tenant);
            (theirs || issuer.claims.tenant.is_some()).then_some(())?;
            // So may its mapping of roles: a role that it no longer maps is dropped.
            let named = |role: &&String| issuer.granted_roles().any(|given| given == *role);
            let roles: Vec<String> = claims.roles.iter().filter(named).cloned().collect();
            Some((roles.first()?.clone(), Some(granted(snapshot, &roles))))
        }
        _ => None,
    }
}

/// The principal name of a client.
pub fn client_principal(tenant: &TenantId, id: &str) -> PrincipalId {
    PrincipalId::of_client(&client_id(tenant, id))
}

/// The permissions that an issuer's roles grant now, limited to the token's scope: the same rule for the issuer's
/// tokens and for the grants of people who signed in with it.
pub fn permitted(snapshot: &Snapshot, roles: &[String], scope: Option<&[String]>) -> Vec<String> {
    issuer::permitted(roles, scope, |role| snapshot.rules.role(role))
}

/// All permissions of these roles.
pub fn granted(snapshot: &Snapshot, roles: &[String]) -> Vec<String> {
    permitted(snapshot, roles, None)
}
