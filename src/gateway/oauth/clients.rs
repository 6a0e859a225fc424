//! Which client asks, and whether it proves that.
//!
//! An unknown client, a wrong secret and a client that should have proven itself in another way are refused in the same
//! words, after the same work.

use std::rc::Rc;

use crate::auth::is_tenant;
use crate::auth::key_sets::{self, Owner};
use crate::objects::grants::messages::{Ask, Reply};
use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::clock;
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use narthex_core::access::issuer::{DocumentVersion, Keys};
use narthex_core::access::jose::algorithm::Algorithm;
use narthex_core::access::jose::jwt::{self, SKEW_SECONDS, TokenRequirements, parse};
use narthex_core::access::oauth::client::{
    AuthMethod, Client, GrantType, SELF_REGISTERED, secret_matches, split_client_id,
};
use narthex_core::access::oauth::form::{Form, basic};
use narthex_core::access::oauth::grant::{SeenClient, tenant_of};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::canonical::digest;
use narthex_core::http::egress_address::host_of;

use super::super::answer::internal;
use super::super::call::Call;
use super::super::credentials;
use super::super::limits::logins;
use super::documents::{self, is_address};
use super::page::Known as Shown;
use super::{Failed, origin};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion is good for at most an hour by its client's clock, which may go before ours, and is taken for as long
/// after its end, in milliseconds.
const MAX_ASSERTED_MS: u64 = 3_600_000 + 2 * SKEW_SECONDS * 1000;

/// What the gateway's own console calls itself. Without a dot in it, it is nobody's registered client.
const CONSOLE: &str = "console";

/// The tenant in which a client acts, and its registry.
#[derive(Clone)]
pub struct Realm {
    pub tenant: String,
    pub snapshot: Rc<Snapshot>,
}

impl Realm {
    /// Nothing when there is no such tenant.
    async fn of(tenant: &str) -> Result<Option<Self>, Failed> {
        if !is_tenant(tenant).await.map_err(internal)? {
            return Ok(None);
        }
        let snapshot = snapshot::refreshed(tenant).await.map_err(internal)?;
        Ok(Some(Self { tenant: tenant.into(), snapshot }))
    }
}

pub struct Known {
    pub client: Client,
    /// As it calls itself.
    pub client_id: String,
    /// Whose it is.
    pub home: Realm,
    /// It spoke for itself, and belongs to nobody: people of any tenant may allow it something.
    pub for_all: bool,
    /// The registry that has the issuers.
    pub deployment: Rc<Snapshot>,
    /// Of one that publishes a document: what it said, and when.
    pub seen: Option<SeenClient>,
}

impl Known {
    /// Whether somebody here has registered it. Any other has only said who it is.
    pub fn is_trusted(&self) -> bool {
        !self.for_all || self.client_id == CONSOLE
    }

    /// How the consent page tells of it.
    pub fn as_shown(&self) -> Shown<'_> {
        match (&self.seen, self.is_trusted()) {
            (Some(_), _) => Shown::Document(host_of(&self.client_id)),
            (None, true) => Shown::Registered,
            (None, false) => Shown::Itself,
        }
    }

    fn documented(seen: SeenClient, client_id: &str, deployment: Rc<Snapshot>) -> Self {
        let home = Realm { tenant: FIRST_TENANT.into(), snapshot: deployment.clone() };
        let (client, seen) = (seen.client.clone(), Some(seen));
        Self { client, client_id: client_id.into(), home, for_all: true, deployment, seen }
    }

    pub fn serves(&self, tenant: &str) -> bool {
        self.for_all || self.home.tenant == tenant
    }

    /// A tenant that it may act in; nothing when it may not, or there is none.
    pub async fn within(&self, tenant: &str) -> Result<Option<Realm>, Failed> {
        if self.home.tenant == tenant {
            return Ok(Some(self.home.clone()));
        }
        if self.for_all { Realm::of(tenant).await } else { Ok(None) }
    }
}

/// The client of this id; nothing when there is none.
pub async fn look_up(call: &Call, id: &str) -> Result<Option<Known>, Failed> {
    let deployment = snapshot::refreshed(FIRST_TENANT).await.map_err(internal)?;
    if is_address(id) {
        let seen = documents::client(call, id).await?;
        return Ok(seen.map(|seen| Known::documented(seen, id, deployment)));
    }
    let own = || Realm { tenant: FIRST_TENANT.into(), snapshot: deployment.clone() };
    let (client, home, for_all) = if id == CONSOLE {
        (Some(console(call)), own(), true)
    } else {
        // Its tenant is in its id, so no look-up comes before the right registry is known.
        let Some((tenant, id)) = split_client_id(id) else { return Ok(None) };
        let home = if tenant == FIRST_TENANT { Some(own()) } else { Realm::of(tenant).await? };
        let Some(home) = home else { return Ok(None) };
        (home.snapshot.client(id), home, tenant == FIRST_TENANT && id.starts_with(SELF_REGISTERED))
    };
    Ok(client.map(|client| Known { client, client_id: id.into(), home, for_all, deployment, seen: None }))
}

/// A client whose document cannot be read, as the grant knows it that it presents something of.
async fn of_grant(form: &Form, id: &str) -> Result<Option<Known>, Failed> {
    let presented = ["refresh_token", "code", "token"].into_iter().find_map(|name| form.get(name));
    let Some((text, tenant)) = presented.and_then(|text| Some((text, tenant_of(text)?))) else { return Ok(None) };
    let Some(realm) = Realm::of(tenant).await? else { return Ok(None) };
    let Some(presented) = realm.snapshot.grant_key.read(text) else { return Ok(None) };
    let held = super::token::read(&realm, &presented.grant, id).await?;
    let Some(seen) = held.and_then(|held| held.seen).filter(|seen| seen.serves(clock::now())) else {
        return Ok(None);
    };
    let deployment = snapshot::refreshed(FIRST_TENANT).await.map_err(internal)?;
    Ok(Some(Known::documented(seen, id, deployment)))
}

/// The console is always there, and only its own page gets its answers.
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

/// Says nothing of why; the audit log does.
async fn refused(call: &Call, client_id: &str, reason: Option<String>) -> Failed {
    credentials::note_client(call, client_id, reason).await;
    OAuthError::new(OAuthErrorCode::InvalidClient, "the client is not known, or did not prove that it is the one")
        .into()
}

/// How a client says who it is.
struct Claim<'f> {
    id: String,
    secret: Option<String>,
    assertion: Option<&'f str>,
    method: AuthMethod,
}

/// Nothing when it cannot be read.
fn shown<'f>(call: &Call, form: &'f Form) -> Result<Option<Claim<'f>>, Failed> {
    let several =
        || Failed::from(OAuthError::new(OAuthErrorCode::InvalidRequest, "authenticate the client in one way"));
    let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let named = form.get("client_id");
    if let Some(header) = call.request.header("authorization") {
        let Some((id, shown)) = basic(header) else { return Ok(None) };
        if secret.is_some() || assertion.is_some() || named.is_some_and(|named| named != id) {
            return Err(several());
        }
        let method = AuthMethod::ClientSecretBasic;
        return Ok(Some(Claim { id, secret: Some(shown), assertion: None, method }));
    }
    if let Some(assertion) = assertion {
        if secret.is_some() || form.get("client_assertion_type") != Some(ASSERTION) {
            return Err(several());
        }
        // RFC 7523 §3: the subject is the client.
        let Ok(token) = parse(assertion) else { return Ok(None) };
        let id = token.text("sub").unwrap_or_default().to_string();
        if named.is_some_and(|named| named != id) {
            return Err(several());
        }
        return Ok(Some(Claim { id, secret: None, assertion: Some(assertion), method: AuthMethod::PrivateKeyJwt }));
    }
    let id =
        named.ok_or_else(|| OAuthError::new(OAuthErrorCode::InvalidClient, "the client is not named"))?.to_string();
    let method = if secret.is_some() { AuthMethod::ClientSecretPost } else { AuthMethod::None };
    Ok(Some(Claim { id, secret: secret.map(Into::into), assertion: None, method }))
}

/// The client that asks; one that does not prove who it is counts as a failed login.
pub async fn authenticate(call: &Call, form: &Form) -> Result<Known, Failed> {
    logins::check(call)?;
    let known = proven(call, form).await;
    if let Err(Failed::Refused(OAuthError { error: OAuthErrorCode::InvalidClient, .. })) = &known {
        logins::failed(call).await?;
    }
    known
}

async fn proven(call: &Call, form: &Form) -> Result<Known, Failed> {
    let Some(shown) = shown(call, form)? else {
        return Err(refused(call, "", Some("malformed".into())).await);
    };
    // Who publishes a document keeps no secret with the gateway: nothing has to be read to know that.
    if is_address(&shown.id) && shown.method.has_secret() {
        return Err(refused(call, &shown.id, None).await);
    }
    let known = match look_up(call, &shown.id).await {
        Err(Failed::Refused(away)) => Some(of_grant(form, &shown.id).await?.ok_or(away)?),
        known => known?,
    };
    let stored = known.as_ref().and_then(|known| known.client.secret_hash.as_deref());
    let proven = match shown.method {
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => {
            let good = secret_matches(stored, shown.secret.as_deref().unwrap_or_default());
            if good { Ok(()) } else { Err("wrong".to_string()) }
        }
        AuthMethod::PrivateKeyJwt => match &known {
            Some(known) => asserts(call, known, shown.assertion.unwrap_or_default()).await?,
            None => Ok(()),
        },
        AuthMethod::None => Ok(()),
    };
    let reason = match (known, proven) {
        (None, _) => None,
        (Some(known), _) if known.client.auth_method != shown.method => Some("not its way to authenticate".into()),
        (Some(known), Ok(())) => return Ok(known),
        (Some(_), Err(reason)) => Some(reason),
    };
    Err(refused(call, &shown.id, reason).await)
}

/// Whether an assertion is this client's own, for this server, and was not used before (RFC 7523 §3); or why it is not.
async fn asserts(call: &Call, known: &Known, assertion: &str) -> Result<Result<(), String>, Failed> {
    let Known { client, client_id, home, .. } = known;
    let token = match parse(assertion) {
        Ok(token) => token,
        Err(refused) => return Ok(Err(refused.to_string())),
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
        Err(refused) => return Ok(Err(refused.to_string())),
    };
    let Some(jti) = token.text("jti") else { return Ok(Err("the token has no jti".into())) };
    if token.text("sub") != Some(client_id) || until.since(now) > MAX_ASSERTED_MS {
        return Ok(Err("the token is somebody else's, or good for too long".into()));
    }
    let Some(keys) = &client.keys else { return Ok(Err(jwt::TokenError::Key.to_string())) };
    // Whoever speaks for itself may be many: what they name is fetched as if it were one's.
    let (path, written) = match keys {
        Keys::Url(url) if known.for_all => (format!("clients/{url}"), DocumentVersion::default()),
        _ => (format!("clients/{client_id}"), home.snapshot.written(DocumentKind::Client, &client.id)),
    };
    if let Err(refused) = key_sets::verify(&token, keys, Owner { path: &path, written }).await {
        return Ok(Err(refused.to_string()));
    }
    let object = format!("{}/client/{}", home.tenant, digest(client_id));
    let once = Ask::UseOnce { name: digest(jti), until };
    let reply = objects::send(Kind::Grants, &object, "", &once, PATIENCE_MS).await.map_err(internal)?;
    let first = matches!(reply, Reply::Ended(true));
    Ok(if first { Ok(()) } else { Err("the token was used before".into()) })
}
