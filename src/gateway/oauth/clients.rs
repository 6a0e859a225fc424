//! Which client asks, and whether it proves that.
//!
//! An unknown client, a wrong secret and a client that should have proven itself in another way are refused in the same
//! words, after the same work.

use std::rc::Rc;

use crate::auth::{FIRST_TENANT, is_tenant, key_sets};
use crate::core::address::{self, Policy};
use crate::core::canonical::digest;
use crate::core::issuer::Keys;
use crate::core::jwk::choose;
use crate::core::jwt::{Algorithm, Expected, parse};
use crate::core::oauth::client::{AuthMethod, Client, SELF_REGISTERED, read_metadata, secret_matches, split_client_id};
use crate::core::oauth::form::{Form, basic};
use crate::core::oauth::{Error, Refused};
use crate::objects::grants::messages::{Ask, Reply};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{calls, clock, crypto};

use super::super::answer::internal;
use super::super::call::Call;
use super::{Failed, origin};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The largest metadata document of a client, in bytes, and how long its server may take, in milliseconds.
const MAX_METADATA_BYTES: usize = 64 * 1024;
const METADATA_MS: u64 = 5_000;
/// An assertion is good for at most this long, in milliseconds.
const MOST_ASSERTED_MS: u64 = 3_600_000;

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
}

impl Known {
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
    let own = || Realm { tenant: FIRST_TENANT.into(), snapshot: deployment.clone() };
    let (client, home, for_all) = if id.starts_with("https://") || id.starts_with("http://") {
        (by_metadata(call, id).await, own(), true)
    } else {
        // Its tenant is in its id, so no look-up comes before the right registry is known.
        let Some((tenant, id)) = split_client_id(id) else { return Ok(None) };
        let home = if tenant == FIRST_TENANT { Some(own()) } else { Realm::of(tenant).await? };
        let Some(home) = home else { return Ok(None) };
        (home.snapshot.client(id), home, tenant == FIRST_TENANT && id.starts_with(SELF_REGISTERED))
    };
    Ok(client.map(|client| Known { client, client_id: id.into(), home, for_all, deployment }))
}

/// A client that publishes a document about itself.
async fn by_metadata(call: &Call, id: &str) -> Option<Client> {
    let rules = call.write_rules();
    let policy = Policy { allow_loopback: rules.allow_loopback };
    let url = address::check(id, policy, &[rules.own_host.as_str()]).ok()?;
    // Its address is its name: it has a path, and is written in one way only.
    if url.as_str() != id || url.path() == "/" {
        return None;
    }
    let document = calls::document(id, METADATA_MS, MAX_METADATA_BYTES).await.ok()?;
    let text = crate::core::json::check(&document.body, 8).ok()?;
    read_metadata(id, text, policy)
}

fn refused() -> Failed {
    Refused::new(Error::InvalidClient, "the client is not known, or did not prove that it is the one").into()
}

/// How a client says who it is.
struct Shown<'f> {
    id: String,
    secret: Option<String>,
    assertion: Option<&'f str>,
    method: AuthMethod,
}

fn shown<'f>(call: &Call, form: &'f Form) -> Result<Shown<'f>, Failed> {
    let several = || Failed::from(Refused::new(Error::InvalidRequest, "authenticate the client in one way"));
    let (secret, assertion) = (form.get("client_secret"), form.get("client_assertion"));
    let named = form.get("client_id");
    if let Some(header) = call.request.header("authorization") {
        let (id, shown) = basic(header).ok_or_else(refused)?;
        if secret.is_some() || assertion.is_some() || named.is_some_and(|named| named != id) {
            return Err(several());
        }
        return Ok(Shown { id, secret: Some(shown), assertion: None, method: AuthMethod::ClientSecretBasic });
    }
    if let Some(assertion) = assertion {
        if secret.is_some() || form.get("client_assertion_type") != Some(ASSERTION) {
            return Err(several());
        }
        // RFC 7523 §3: the subject is the client.
        let token = parse(assertion).map_err(|_| refused())?;
        let id = token.text("sub").unwrap_or_default().to_string();
        if named.is_some_and(|named| named != id) {
            return Err(several());
        }
        return Ok(Shown { id, secret: None, assertion: Some(assertion), method: AuthMethod::PrivateKeyJwt });
    }
    let id = named.ok_or_else(|| Refused::new(Error::InvalidClient, "the client is not named"))?.to_string();
    Ok(match secret {
        Some(secret) => {
            Shown { id, secret: Some(secret.into()), assertion: None, method: AuthMethod::ClientSecretPost }
        }
        None => Shown { id, secret: None, assertion: None, method: AuthMethod::None },
    })
}

pub async fn authenticate(call: &Call, form: &Form) -> Result<Known, Failed> {
    let shown = shown(call, form)?;
    let known = look_up(call, &shown.id).await?;
    let stored = known.as_ref().and_then(|known| known.client.secret_hash.as_deref());
    let proves = match shown.method {
        AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => {
            secret_matches(stored, shown.secret.as_deref().unwrap_or_default())
        }
        AuthMethod::PrivateKeyJwt => asserts(call, known.as_ref(), shown.assertion.unwrap_or_default()).await?,
        AuthMethod::None => true,
    };
    known.filter(|known| proves && known.client.auth_method == shown.method).ok_or_else(refused)
}

/// Whether an assertion is this client's own, for this server, and was not used before (RFC 7523 §3).
async fn asserts(call: &Call, known: Option<&Known>, assertion: &str) -> Result<bool, Failed> {
    let Some(Known { client, client_id, home, .. }) = known else { return Ok(false) };
    let Ok(token) = parse(assertion) else { return Ok(false) };
    let (now, origin) = (clock::now(), origin(call));
    let expected = |audience| Expected { issuer: client_id, audience, typ: "JWT", algorithms: &Algorithm::ALL };
    let endpoint = format!("{origin}/oauth/token");
    let until = [origin.as_str(), &endpoint].into_iter().find_map(|audience| {
        let expected = expected(audience);
        token.check_header(&expected).and_then(|()| token.check_claims(&expected, now)).ok()
    });
    let (Some(until), Some(jti)) = (until, token.text("jti")) else { return Ok(false) };
    if token.text("sub") != Some(client_id) || until.since(now) > MOST_ASSERTED_MS {
        return Ok(false);
    }
    let (kid, algorithm) = (token.kid.as_deref(), token.algorithm);
    let key = match &client.keys {
        Some(Keys::Fixed(keys)) => choose(keys, kid, algorithm).cloned(),
        Some(Keys::Url(url)) => key_sets::key(url, kid, algorithm).await,
        None => None,
    };
    let Some(key) = key else { return Ok(false) };
    if !crypto::verify(algorithm, &key, &token.signature, token.signed).await {
        return Ok(false);
    }
    let object = format!("{}/client/{}", home.tenant, digest(client_id));
    let once = Ask::UseOnce { name: digest(jti), until };
    let reply = objects::send(Kind::Grants, &object, "", &once, PATIENCE_MS).await.map_err(internal)?;
    Ok(matches!(reply, Reply::Ended(true)))
}
