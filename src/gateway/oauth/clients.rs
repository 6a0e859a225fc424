//! Identifies the client of a request, and authenticates it.
//!
//! An unknown client, a wrong secret and a wrong authentication method get the same error after the same work.

use std::rc::Rc;

use crate::auth::existing_tenant;
use crate::auth::key_sets::{self, Owner};
use crate::objects::grants::messages::{FirstUse, Grants, UseOnce};
use crate::objects::protocol;
use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::clock;
use narthex_core::access::issuer::{DocumentVersion, Keys};
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwt::{self, SKEW_SECONDS, TokenRequirements, parse};
use narthex_core::access::oauth::client::{
    AuthMethod, Client, GrantType, SELF_REGISTERED, secret_matches, split_client_id,
};
use narthex_core::access::oauth::form::{Form, basic};
use narthex_core::access::oauth::grant::{SeenClient, tenant_of};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::base::canonical::digest;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::http::egress_address::host_of;

use super::super::answer::internal;
use super::super::call::Call;
use super::super::credentials;
use super::super::limits::logins::{self, Login};
use super::documents::{self, is_address};
use super::page::ClientSource;
use super::{EndpointError, origin};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest lifetime of an assertion, in milliseconds: an hour by its client's clock, which may be ahead of ours,
/// and the tolerance after its end.
const MAX_ASSERTION_MS: u64 = 3_600_000 + 2 * SKEW_SECONDS * 1000;

/// The client id of the gateway's own console. Ids of registered clients contain a dot.
const CONSOLE: &str = "console";

/// The tenant in which a client acts, and its registry.
#[derive(Clone)]
pub struct Realm {
    pub tenant: TenantId,
    pub snapshot: Rc<Snapshot>,
}

impl Realm {
    /// Nothing if the tenant does not exist.
    async fn of(tenant: &str) -> Result<Option<Self>, EndpointError> {
        let Some(tenant) = existing_tenant(tenant).await.map_err(internal)? else { return Ok(None) };
        let snapshot = snapshot::refreshed(&tenant).await.map_err(internal)?;
        Ok(Some(Self { tenant, snapshot }))
    }
}

/// A client, found by its id.
pub struct ResolvedClient {
    pub registration: Client,
    /// The id by which the client identifies itself.
    pub client_id: String,
    /// The tenant that it belongs to.
    pub home: Realm,
    /// It belongs to no tenant, so people of any tenant may grant it access: the console, a client with a metadata
    /// document, or one that registered itself.
    pub for_all: bool,
    /// The registry that has the issuers.
    pub deployment: Rc<Snapshot>,
    /// The metadata document that it was read from, and when.
    pub seen: Option<SeenClient>,
}

impl ResolvedClient {
    /// Whether an administrator has registered it. Any other client is known only by its own statement.
    pub fn is_trusted(&self) -> bool {
        !self.for_all || self.client_id == CONSOLE
    }

    /// The source of its registration, for the consent page.
    pub fn source(&self) -> ClientSource<'_> {
        match (&self.seen, self.is_trusted()) {
            (Some(_), _) => ClientSource::Document(host_of(&self.client_id)),
            (None, true) => ClientSource::Administrator,
            (None, false) => ClientSource::Itself,
        }
    }

    fn from_document(seen: SeenClient, client_id: &str, deployment: Rc<Snapshot>) -> Self {
        let home = Realm { tenant: TenantId::first(), snapshot: deployment.clone() };
        let (registration, seen) = (seen.client.clone(), Some(seen));
        Self { registration, client_id: client_id.into(), home, for_all: true, deployment, seen }
    }

    pub fn serves(&self, tenant: &TenantId) -> bool {
        self.for_all || self.home.tenant == *tenant
    }

    /// A tenant that it may act in; nothing if it may not, or the tenant does not exist.
    pub async fn within(&self, tenant: &str) -> Result<Option<Realm>, EndpointError> {
        if self.home.tenant.as_str() == tenant {
            return Ok(Some(self.home.clone()));
        }
        if self.for_all { Realm::of(tenant).await } else { Ok(None) }
    }
}

/// The client with this id; nothing if it is unknown.
pub async fn resolve(call: &Call, id: &str) -> Result<Option<ResolvedClient>, EndpointError> {
    let deployment = snapshot::refreshed(&TenantId::first()).await.map_err(internal)?;
    if is_address(id) {
        let seen = documents::client(call, id).await?;
        return Ok(seen.map(|seen| ResolvedClient::from_document(seen, id, deployment)));
    }
    let own = || Realm { tenant: TenantId::first(), snapshot: deployment.clone() };
    let (registration, home, for_all) = if id == CONSOLE {
        (Some(console(call)), own(), true)
    } else {
        // The id names the tenant, and so the registry to look in.
        let Some((tenant, id)) = split_client_id(id) else { return Ok(None) };
        let is_first = tenant == TenantId::FIRST;
        let home = if is_first { Some(own()) } else { Realm::of(tenant).await? };
        let Some(home) = home else { return Ok(None) };
        (home.snapshot.client(id), home, is_first && id.starts_with(SELF_REGISTERED))
    };
    Ok(registration.map(|registration| ResolvedClient {
        registration,
        client_id: id.into(),
        home,
        for_all,
        deployment,
        seen: None,
    }))
}

/// A client whose document cannot be read now, as stored with the grant whose token it presents.
async fn resolve_by_grant(form: &Form, id: &str) -> Result<Option<ResolvedClient>, EndpointError> {
    let presented = ["refresh_token", "code", "token"].into_iter().find_map(|name| form.get(name));
    let Some((text, tenant)) = presented.and_then(|text| Some((text, tenant_of(text)?))) else { return Ok(None) };
    let Some(realm) = Realm::of(tenant).await? else { return Ok(None) };
    let Some(presented) = realm.snapshot.grant_key.read(text) else { return Ok(None) };
    let grant = super::token::read_grant(&realm, &presented.grant, id).await?;
    let Some(seen) = grant.and_then(|grant| grant.seen).filter(|seen| seen.serves(clock::now())) else {
        return Ok(None);
    };
    let deployment = snapshot::refreshed(&TenantId::first()).await.map_err(internal)?;
    Ok(Some(ResolvedClient::from_document(seen, id, deployment)))
}

/// The console's registration: built in, with the console's own page as its only redirect URI.
fn console(call: &Call) -> Client {
    Client {
        id: CONSOLE.into(),
        name: "The console of this gateway".into(),
        grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        auth_method: AuthMethod::None,
        redirect_uris: vec![format!("{}/", origin(call))],
        scope: vec!["*".into()],
        keys: None,
        secret_hash: None,
    }
}

/// The error of a failed authentication. Only the audit log has the reason.
async fn rejected(call: &Call, client_id: &str, reason: Option<String>) -> EndpointError {
    credentials::note_client(call, client_id, reason).await;
    OAuthError::new(OAuthErrorCode::InvalidClient, "unknown client, or client authentication failed").into()
}

/// The credentials of a client in a request.
struct ClientCredentials<'f> {
    id: String,
    secret: Option<String>,
    assertion: Option<&'f str>,
    method: AuthMethod,
}

/// The credentials of a request; nothing if they are malformed.
fn credentials_of<'f>(call: &Call, form: &'f Form) -> Result<Option<ClientCredentials<'f>>, EndpointError> {
    let several_methods = || {
        EndpointError::from(OAuthError::new(
            OAuthErrorCode::InvalidRequest,
            "use exactly one method of client authentication",
        ))
    };
    let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let named = form.get("client_id");
    if let Some(header) = call.request.header("authorization") {
        let Some((id, password)) = basic(header) else { return Ok(None) };
        if secret.is_some() || assertion.is_some() || named.is_some_and(|named| named != id) {
            return Err(several_methods());
        }
        let method = AuthMethod::ClientSecretBasic;
        return Ok(Some(ClientCredentials { id, secret: Some(password), assertion: None, method }));
    }
    if let Some(assertion) = assertion {
        if secret.is_some() || form.get("client_assertion_type") != Some(ASSERTION) {
            return Err(several_methods());
        }
        // RFC 7523 §3: the subject is the client.
        let Ok(token) = parse(assertion) else { return Ok(None) };
        let id = token.text("sub").unwrap_or_default().to_string();
        if named.is_some_and(|named| named != id) {
            return Err(several_methods());
        }
        return Ok(Some(ClientCredentials {
            id,
            secret: None,
            assertion: Some(assertion),
            method: AuthMethod::PrivateKeyJwt,
        }));
    }
    let id = named.ok_or_else(|| OAuthError::new(OAuthErrorCode::InvalidClient, "client_id is missing"))?.to_string();
    let method = if secret.is_some() { AuthMethod::ClientSecretPost } else { AuthMethod::None };
    Ok(Some(ClientCredentials { id, secret: secret.map(Into::into), assertion: None, method }))
}

/// The authenticated client of a request. A failed authentication counts as a failed login.
pub async fn authenticate(call: &Call, form: &Form) -> Result<ResolvedClient, EndpointError> {
    logins::check(call)?;
    let client = check_credentials(call, form).await;
    if let Err(EndpointError::OAuth(OAuthError { error: OAuthErrorCode::InvalidClient, .. })) = &client {
        let presented = credentials_of(call, form).ok().flatten();
        let id = presented.as_ref().map_or("", |presented| &presented.id);
        logins::failed(call, Login::Client(id)).await?;
    }
    client
}

async fn check_credentials(call: &Call, form: &Form) -> Result<ResolvedClient, EndpointError> {
    let Some(presented) = credentials_of(call, form)? else {
        return Err(rejected(call, "", Some("malformed".into())).await);
    };
    // A client with a metadata document has no secret at the gateway, so the document need not be read.
    if is_address(&presented.id) && presented.method.has_secret() {
        return Err(rejected(call, &presented.id, None).await);
    }
    let client = match resolve(call, &presented.id).await {
        Err(EndpointError::OAuth(unreachable)) => {
            Some(resolve_by_grant(form, &presented.id).await?.ok_or(unreachable)?)
        }
        client => client?,
    };
    let stored = client.as_ref().and_then(|client| client.registration.secret_hash.as_deref());
    let authenticated = match presented.method {
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => {
            let matches = secret_matches(stored, presented.secret.as_deref().unwrap_or_default());
            if matches { Ok(()) } else { Err("wrong".to_string()) }
        }
        AuthMethod::PrivateKeyJwt => match &client {
            Some(client) => check_assertion(call, client, presented.assertion.unwrap_or_default()).await?,
            None => Ok(()),
        },
        AuthMethod::None => Ok(()),
    };
    let reason = match (client, authenticated) {
        (None, _) => None,
        (Some(client), _) if client.registration.auth_method != presented.method => {
            Some("wrong authentication method".into())
        }
        (Some(client), Ok(())) => return Ok(client),
        (Some(_), Err(reason)) => Some(reason),
    };
    Err(rejected(call, &presented.id, reason).await)
}

/// Checks that an assertion is the client's own, is for this server, and has not been used before (RFC 7523 §3); the
/// inner error is the reason.
async fn check_assertion(
    call: &Call,
    client: &ResolvedClient,
    assertion: &str,
) -> Result<Result<(), String>, EndpointError> {
    let ResolvedClient { registration, client_id, home, .. } = client;
    let token = match parse(assertion) {
        Ok(token) => token,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let (now, origin) = (clock::now(), origin(call));
    let endpoint = format!("{origin}/oauth/token");
    let check = |audience: &str| {
        let audience = audience.into();
        let expected = TokenRequirements { issuer: client_id, audience, typ: "JWT", algorithms: &Algorithm::ALL };
        token.check_header(&expected).and_then(|()| token.check_claims(&expected, now))
    };
    let until = match check(&origin).or_else(|_| check(&endpoint)) {
        Ok(until) => until,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let Some(jti) = token.text("jti") else { return Ok(Err("the token has no jti".into())) };
    if token.text("sub") != Some(client_id) || until.since(now) > MAX_ASSERTION_MS {
        return Ok(Err("the token belongs to another client, or its lifetime is too long".into()));
    }
    let Some(keys) = &registration.keys else { return Ok(Err(jwt::TokenError::Key.to_string())) };
    // Clients that belong to no tenant share a cache entry per URL, as their number has no bound.
    let (path, written) = match keys {
        Keys::Url(url) if client.for_all => (format!("clients/{url}"), DocumentVersion::default()),
        _ => (format!("clients/{client_id}"), home.snapshot.written(DocumentKind::Client, &registration.id)),
    };
    let owner = Owner { path: &path, written, is_stranger: client.for_all };
    if let Err(error) = key_sets::verify(&token, keys, owner).await {
        return Ok(Err(error.to_string()));
    }
    let used = Grants::used_once(&home.tenant, client_id);
    let once = UseOnce { name: digest(jti), until };
    let FirstUse::IsFirst(is_first) = protocol::call(&used, &once).await.map_err(internal)?;
    Ok(if is_first { Ok(()) } else { Err("the token was used before".into()) })
}
