//! Turns credentials into a principal with its permissions.
//!
//! Credentials are taken from `Authorization: Bearer` (an API key, recognized by its form, or a token), then from
//! `X-API-Key`. A rejection is the same whatever is wrong with the credentials. What a principal may do is checked in
//! `gateway`; the rules for keys and tokens are in `narthex_core::access`.

pub mod credential_watch;
pub mod key_sets;
pub mod own_tokens;
pub mod tokens;

use std::rc::Rc;

use crate::objects::registry::messages::{DocumentKind, Key};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::http::Request;
use crate::platform::settings::Settings;
use crate::platform::{Failure, clock};
use narthex_core::access::api_key::{self, PresentedKey};
use narthex_core::access::jose::jwt::looks_like_token;
use narthex_core::access::oauth::client::split_client_id;
use narthex_core::access::principal::Principal;
use narthex_core::base::names::valid_id;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};

/// The gateway's own origin, which is also its identifier as an issuer.
pub fn origin_of(request: &Request, settings: &Settings) -> String {
    if let Some(url) = &settings.public_url {
        return url.clone();
    }
    let url = request.url();
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| at + after_scheme);
    url.get(..end).unwrap_or_default().to_string()
}

/// The gateway as an issuer, and the requested resource: the API, or the MCP endpoint at this path.
#[derive(Debug, Clone, Copy)]
pub struct OwnIssuer<'o> {
    pub origin: &'o str,
    pub path: &'o str,
}

impl OwnIssuer<'_> {
    /// The audience that a token must have (RFC 8707).
    fn audience(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// The URL of the metadata by which a client obtains a token (RFC 9728 §3.1).
    fn metadata(&self) -> String {
        format!("{}/.well-known/oauth-protected-resource{}", self.origin, self.path)
    }
}

/// The path of the requested MCP endpoint, without a trailing slash; empty for the API.
fn resource_path(request: &Request) -> &str {
    let url = request.url();
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(after_scheme..).unwrap_or_default();
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.strip_prefix("/mcp/") {
        Some(service) if valid_id(service) => path,
        // This endpoint does not exist: refer to the metadata of the existing one.
        Some(_) => "/mcp",
        None if path == "/mcp" => path,
        None => "",
    }
}

/// The URL of the metadata by which a client obtains a token for the requested resource.
pub fn metadata_of(request: &Request, settings: &Settings) -> String {
    OwnIssuer { origin: &origin_of(request, settings), path: resource_path(request) }.metadata()
}

/// `own`: the resource whose metadata the challenge refers to (RFC 9728 §5.1).
fn unauthenticated(presented: bool, own: Option<OwnIssuer<'_>>) -> Problem {
    let (detail, mut challenge) = if presented {
        ("The credentials are invalid, expired or revoked.", r#"Bearer error="invalid_token""#.to_string())
    } else {
        ("Send an API key as Authorization: Bearer <key>.", "Bearer".to_string())
    };
    if let Some(own) = own {
        let comma = if presented { "," } else { "" };
        challenge.push_str(&format!(r#"{comma} resource_metadata="{}""#, own.metadata()));
    }
    Problem::new(Code::Unauthenticated, detail).with_header("WWW-Authenticate", challenge)
}

/// The problem for credentials that ended during a request.
pub fn ended(request: &Request, settings: &Settings) -> Problem {
    let origin = settings.oauth.then(|| origin_of(request, settings));
    unauthenticated(true, origin.as_deref().map(|origin| OwnIssuer { origin, path: resource_path(request) }))
}

/// The credentials in a request.
pub fn presented(request: &Request) -> Option<&str> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearer.or_else(|| request.header("x-api-key")).filter(|text| !text.is_empty())
}

/// The display name of an API key or an OAuth client, as its tenant's registry knows it now.
pub fn name_of(principal: &str, snapshot: &Snapshot) -> Option<String> {
    let name = match principal.split_once(':')? {
        ("key", id) => snapshot.key(id)?.name.clone(),
        ("client", id) => snapshot.client(split_client_id(id)?.1)?.name,
        _ => return None,
    };
    Some(name).filter(|name| !name.is_empty())
}

fn holder(
    tenant: &TenantId,
    snapshot: &Snapshot,
    key: &Key,
    presented: &PresentedKey<'_>,
    now: Timestamp,
) -> Option<Principal> {
    let secret = key
        .secrets
        .iter()
        .filter(|secret| secret.until.is_none_or(|until| until > now))
        .find(|secret| presented.matches(&secret.hash))?;
    if key.expires_at <= now {
        return None;
    }
    let role = snapshot.rules.role(&key.role).into_iter().flatten();
    Some(Principal {
        principal: PrincipalId::of_key(&key.id),
        name: Some(key.name.clone()),
        tenant: tenant.clone(),
        role: key.role.clone(),
        permissions: role.map(str::to_string).chain(key.permissions.iter().cloned()).collect(),
        until: Some(secret.until.map_or(key.expires_at, |until| until.min(key.expires_at))),
        from: Vec::new(),
        roles: Vec::new(),
    })
}

/// The maximum age of the snapshot that authenticates a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Any age: a store checks the revision before the request has an effect.
    Any,
    /// At most `snapshot_max_age_ms` old; no store checks the revision. A refusal is decided again with a current one.
    Recent,
    /// At most this old, in milliseconds; no store checks the revision.
    Within(u64),
    /// Fetched now, so that every completed write is included; no store checks the revision.
    Current,
}

impl Age {
    /// Whether what the snapshot does not know is looked up again.
    fn is_tentative(self) -> bool {
        matches!(self, Self::Any | Self::Recent)
    }
}

async fn snapshot_of(tenant: &TenantId, age: Age) -> Result<Rc<Snapshot>, Problem> {
    let snapshot = match age {
        Age::Any => snapshot::any(tenant).await,
        Age::Recent => snapshot::fresh(tenant).await,
        Age::Within(max_ms) => snapshot::within(tenant, max_ms).await,
        Age::Current => snapshot::refreshed(tenant).await,
    };
    snapshot.map_err(|failure| Problem::internal(failure.0))
}

/// The tenant with this id, if it exists. Asked before any of its objects is called, so that a guessed id creates none.
pub async fn existing_tenant(id: &str) -> Result<Option<TenantId>, Failure> {
    let first = TenantId::first();
    if id == first.as_str() {
        return Ok(Some(first));
    }
    if let Some(tenant) = snapshot::any(&first).await?.rules.tenant(id) {
        return Ok(Some(tenant.clone()));
    }
    // It may have been created elsewhere a moment ago.
    Ok(snapshot::refreshed(&first).await?.rules.tenant(id).cloned())
}

/// The deployment's admin key, without which no credentials are recognized.
pub fn admin_key(settings: &Settings) -> Result<&str, Problem> {
    settings.admin_key.as_deref().ok_or_else(|| {
        Problem::new(
            Code::NotConfigured,
            "The secret ADMIN_KEY is not set or is shorter than 16 characters. Set it with: \
             npx wrangler secret put ADMIN_KEY",
        )
    })
}

/// Authenticates a request; returns the principal and the snapshot that was used.
pub async fn authenticate(
    request: &Request,
    settings: &Settings,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), Problem> {
    settings.check()?;
    let admin_key = admin_key(settings)?;
    let origin = settings.oauth.then(|| origin_of(request, settings));
    let own = origin.as_deref().map(|origin| OwnIssuer { origin, path: resource_path(request) });
    let presented = presented(request).ok_or_else(|| unauthenticated(false, own))?;
    recognize(presented, admin_key, own, age).await
}

/// Authenticates these credentials. `own` is the gateway as an issuer, if it is one.
pub async fn recognize(
    presented: &str,
    admin_key: &str,
    own: Option<OwnIssuer<'_>>,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), Problem> {
    // A single comparison in constant time for every text other than a key.
    let Some(presented) = api_key::parse(presented) else {
        if api_key::equal_secrets(presented, admin_key) {
            return Ok((Principal::admin(), snapshot_of(&TenantId::first(), age).await?));
        }
        if looks_like_token(presented) {
            return by_token(presented, own, age).await;
        }
        return Err(unauthenticated(true, own));
    };
    let Some(tenant) = existing_tenant(presented.tenant).await.map_err(|failure| Problem::internal(failure.0))? else {
        return Err(unauthenticated(true, own));
    };
    let mut snapshot = snapshot_of(&tenant, age).await?;
    let find = |snapshot: &Snapshot| {
        snapshot.key(presented.id).and_then(|key| holder(&tenant, snapshot, key, &presented, clock::now()))
    };
    let mut found = find(&snapshot);
    if found.is_none() && age.is_tentative() {
        // The key may have been created elsewhere a moment ago.
        snapshot = snapshot_of(&tenant, Age::Current).await?;
        found = find(&snapshot);
    }
    if found.is_none() && snapshot.has_unreadable_key(presented.id) {
        return Err(Problem::later_version(&format!("The API key {}", presented.id)));
    }
    let principal = found.ok_or_else(|| unauthenticated(true, own))?;
    check_role(&principal, &snapshot)?;
    Ok((principal, snapshot))
}

/// A role that this version cannot read grants nothing, which the client should not take for a lack of permission.
pub fn check_role(principal: &Principal, snapshot: &Snapshot) -> Result<(), Problem> {
    match snapshot.rules.is_unreadable(DocumentKind::Role.as_str(), &principal.role) {
        true => Err(Problem::later_version(&format!("The role {}", principal.role))),
        false => Ok(()),
    }
}

/// Authenticates a token. Issuers belong to the deployment: its own tenant's registry has them.
async fn by_token(text: &str, own: Option<OwnIssuer<'_>>, age: Age) -> Result<(Principal, Rc<Snapshot>), Problem> {
    let mut issuers = snapshot_of(&TenantId::first(), age).await?;
    let mut found = tokens::principal(text, &issuers, own, age).await;
    // The issuer may have been created elsewhere a moment ago. Also, a tenant's stores check the tenant's revision, not
    // this one.
    let unsure = found.as_ref().map_or(true, |(found, _)| !found.tenant.is_first() && !issuers.is_fresh());
    if unsure && age.is_tentative() {
        let known = issuers.revision;
        issuers = snapshot_of(&TenantId::first(), Age::Current).await?;
        if issuers.revision != known {
            found = tokens::principal(text, &issuers, own, age).await;
        }
    }
    let (principal, snapshot) = found.map_err(|refused| match tokens::later_issuer(text, &issuers) {
        Some(name) => Problem::later_version(&format!("The issuer {name}")),
        None => Problem { cause: Some(refused.to_string()), ..unauthenticated(true, own) },
    })?;
    check_role(&principal, &snapshot)?;
    Ok((principal, snapshot))
}
