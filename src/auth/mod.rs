//! From credentials to a principal, and what that principal may do.
//!
//! The order of looking: `Authorization: Bearer` (an API key by its form, else a token), then `X-API-Key`. A refusal is
//! the same whatever was wrong with the credentials.

pub mod key_sets;
pub mod own;
pub mod tokens;
pub mod watched;

use std::rc::Rc;

use crate::objects::registry::messages::Key;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::http::Request;
use crate::platform::settings::Settings;
use crate::platform::{Failure, clock};
use narthex_core::access::api_key::{self, PresentedKey};
use narthex_core::access::jose::jwt::looks_like_token;
use narthex_core::access::oauth::client::split_client_id;
use narthex_core::access::principal::Principal;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::names::valid_id;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};

/// Where clients find the gateway, which is what it calls itself as an issuer.
pub fn origin_of(request: &Request, settings: &Settings) -> String {
    if let Some(url) = &settings.public_url {
        return url.clone();
    }
    let url = request.url();
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| at + after_scheme);
    url.get(..end).unwrap_or_default().to_string()
}

/// The gateway as an issuer, and the resource that is asked of it: its API, or the MCP endpoint at this path.
#[derive(Debug, Clone, Copy)]
pub struct Own<'o> {
    pub origin: &'o str,
    pub path: &'o str,
}

impl Own<'_> {
    /// What a token has to be for (RFC 8707).
    fn audience(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// Where a client can learn how to get a token (RFC 9728 §3.1).
    fn metadata(&self) -> String {
        format!("{}/.well-known/oauth-protected-resource{}", self.origin, self.path)
    }
}

/// The MCP endpoint that a request is for, without the slash that may stand behind it; nothing for the API.
fn resource_path(request: &Request) -> &str {
    let url = request.url();
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(after_scheme..).unwrap_or_default();
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.strip_prefix("/mcp/") {
        Some(service) if valid_id(service) => path,
        // There is no such endpoint: how to get a token is told of the one that there is.
        Some(_) => "/mcp",
        None if path == "/mcp" => path,
        None => "",
    }
}

/// Where a client can learn how to get a token for what it asks for.
pub fn metadata_of(request: &Request, settings: &Settings) -> String {
    Own { origin: &origin_of(request, settings), path: resource_path(request) }.metadata()
}

/// `own`: where a client can learn how to get a token (RFC 9728 §5.1).
fn unauthenticated(presented: bool, own: Option<Own<'_>>) -> Problem {
    let (detail, mut challenge) = if presented {
        ("The credentials are not valid (any more).", r#"Bearer error="invalid_token""#.to_string())
    } else {
        ("Send an API key as Authorization: Bearer <key>.", "Bearer".to_string())
    };
    if let Some(own) = own {
        let comma = if presented { "," } else { "" };
        challenge.push_str(&format!(r#"{comma} resource_metadata="{}""#, own.metadata()));
    }
    Problem::new(Code::Unauthenticated, detail).with_header("WWW-Authenticate", challenge)
}

/// What was good when a wait began and is not any more.
pub fn ended(request: &Request, settings: &Settings) -> Problem {
    let origin = settings.oauth.then(|| origin_of(request, settings));
    unauthenticated(true, origin.as_deref().map(|origin| Own { origin, path: resource_path(request) }))
}

/// What is presented as credentials.
pub fn presented(request: &Request) -> Option<&str> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    bearer.or_else(|| request.header("x-api-key")).filter(|text| !text.is_empty())
}

/// What people call a principal, by what its tenant's registry says now: an API key or an OAuth client of its own.
pub fn name_of(principal: &str, snapshot: &Snapshot) -> Option<String> {
    let name = match principal.split_once(':')? {
        ("key", id) => snapshot.key(id)?.name.clone(),
        ("client", id) => snapshot.client(split_client_id(id)?.1)?.name,
        _ => return None,
    };
    Some(name).filter(|name| !name.is_empty())
}

fn holder(snapshot: &Snapshot, key: &Key, presented: &PresentedKey<'_>, now: Timestamp) -> Option<Principal> {
    let secret = key
        .secrets
        .iter()
        .filter(|secret| secret.until.is_none_or(|until| until > now))
        .find(|secret| presented.matches(&secret.hash))?;
    if key.expires_at <= now {
        return None;
    }
    let role = snapshot.role(&key.role).into_iter().flatten();
    Some(Principal {
        principal: format!("key:{}", key.id),
        name: Some(key.name.clone()),
        tenant: presented.tenant.into(),
        role: key.role.clone(),
        permissions: role.map(str::to_string).chain(key.permissions.iter().cloned()).collect(),
        until: Some(secret.until.map_or(key.expires_at, |until| until.min(key.expires_at))),
        from: Vec::new(),
        roles: Vec::new(),
    })
}

/// How old the snapshot may be that says who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// A store confirms its revision before anything comes of it.
    Any,
    /// Nobody confirms it, and it may be as old as this, in milliseconds.
    Within(u64),
    /// Nobody confirms it: the registry is asked now, so that a write that has answered is seen.
    Current,
}

async fn taken(tenant: &str, age: Age) -> Result<Rc<Snapshot>, Problem> {
    let snapshot = match age {
        Age::Any => snapshot::any(tenant).await,
        Age::Within(most_ms) => snapshot::within(tenant, most_ms).await,
        Age::Current => snapshot::refreshed(tenant).await,
    };
    snapshot.map_err(|failure| Problem::internal(failure.0))
}

/// Whether there is such a tenant. Asked before anything of its name is, so that nobody makes objects by guessing.
pub async fn is_tenant(id: &str) -> Result<bool, Failure> {
    if id == FIRST_TENANT || snapshot::any(FIRST_TENANT).await?.has_tenant(id) {
        return Ok(true);
    }
    // One made a moment ago elsewhere.
    Ok(snapshot::refreshed(FIRST_TENANT).await?.has_tenant(id))
}

/// Who asks, and the snapshot that says so.
pub async fn authenticate(
    request: &Request,
    settings: &Settings,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), Problem> {
    settings.check()?;
    let Some(admin_key) = &settings.admin_key else {
        return Err(Problem::new(
            Code::NotConfigured,
            "The secret ADMIN_KEY is not set or has less than 16 characters. Set it with: npx wrangler secret put ADMIN_KEY",
        ));
    };
    let origin = settings.oauth.then(|| origin_of(request, settings));
    let own = origin.as_deref().map(|origin| Own { origin, path: resource_path(request) });
    let presented = presented(request).ok_or_else(|| unauthenticated(false, own))?;
    recognize(presented, admin_key, own, age).await
}

/// Who presents this text. `own` is the issuer the gateway is itself, if it is one.
pub async fn recognize(
    presented: &str,
    admin_key: &str,
    own: Option<Own<'_>>,
    age: Age,
) -> Result<(Principal, Rc<Snapshot>), Problem> {
    // One comparison for every text that is no key: what is presented decides nothing else.
    let Some(presented) = api_key::parse(presented) else {
        if api_key::equal_secrets(presented, admin_key) {
            return Ok((Principal::admin(), taken(FIRST_TENANT, age).await?));
        }
        if looks_like_token(presented) {
            return by_token(presented, own, age).await;
        }
        return Err(unauthenticated(true, own));
    };
    if !is_tenant(presented.tenant).await.map_err(|failure| Problem::internal(failure.0))? {
        return Err(unauthenticated(true, own));
    }
    let mut snapshot = taken(presented.tenant, age).await?;
    let mut found = snapshot.key(presented.id).and_then(|key| holder(&snapshot, key, &presented, clock::now()));
    if found.is_none() && age == Age::Any {
        // A key made a moment ago elsewhere is good here too.
        snapshot = taken(presented.tenant, Age::Current).await?;
        found = snapshot.key(presented.id).and_then(|key| holder(&snapshot, key, &presented, clock::now()));
    }
    found.map(|principal| (principal, snapshot)).ok_or_else(|| unauthenticated(true, own))
}

/// Who presents a token. Issuers belong to the deployment: its first tenant's registry has them.
async fn by_token(text: &str, own: Option<Own<'_>>, age: Age) -> Result<(Principal, Rc<Snapshot>), Problem> {
    let mut issuers = taken(FIRST_TENANT, age).await?;
    let mut found = tokens::principal(text, &issuers, own, age).await;
    // One made a moment ago elsewhere is good here too. And a tenant's stores confirm the tenant's revision, not this
    // one.
    let unsure = found.as_ref().map_or(true, |(found, _)| found.tenant != FIRST_TENANT && !issuers.is_fresh());
    if unsure && age == Age::Any {
        let known = issuers.revision;
        issuers = taken(FIRST_TENANT, Age::Current).await?;
        if issuers.revision != known {
            found = tokens::principal(text, &issuers, own, age).await;
        }
    }
    found.map_err(|refused| Problem { cause: Some(refused.to_string()), ..unauthenticated(true, own) })
}
