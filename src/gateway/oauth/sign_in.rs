//! Signing in with an outside issuer, for the consent page (OpenID Connect Core §3.1, with PKCE).
//!
//! Nothing is kept here meanwhile: the request that was under way travels in a cookie under a seal, and who signed in
//! comes back to the form the same way.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::auth::{FIRST_TENANT, own, tokens};
use crate::core::issuer::{Issuer, Mapped, SignIn};
use crate::core::jwt::{Expected, parse};
use crate::core::key::equal_secrets;
use crate::core::oauth::form::Form;
use crate::core::oauth::seal::Use;
use crate::core::problem::Problem;
use crate::core::sealed::Sealed;
use crate::core::upstream::{Answer as Upstream, MAX_ASIDE_BYTES};
use crate::objects::registry::messages::Kind as Document;
use crate::objects::registry::{document_place, snapshot};
use crate::platform::calls::{Method, Request, send};
use crate::platform::http::Headers;
use crate::platform::{clock, log, random, vault};

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::authorize::respond;
use super::clients::{Known, Realm};
use super::origin;
use super::page::failure;

const COOKIE: &str = "__Host-narthex-sign-in";
/// How long somebody may take to sign in, and to decide then, in milliseconds.
const SIGN_IN_MS: u64 = 600_000;
/// How long the issuer may take to answer, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// A sign-in under way.
#[derive(Serialize, Deserialize)]
struct Begun {
    /// The client's request, as a form.
    request: String,
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
}

/// Who has signed in.
#[derive(Serialize, Deserialize)]
pub struct Person {
    pub tenant: String,
    /// A principal.
    pub subject: String,
    pub roles: Vec<String>,
}

impl Person {
    /// What they may do themselves.
    pub fn permissions(&self, realm: &Realm) -> Vec<String> {
        own::granted(&realm.snapshot, &self.roles)
    }
}

/// Who a form says has signed in, if this gateway said so itself a moment ago.
pub fn person(known: &Known, sealed: &str) -> Option<Person> {
    known.deployment.seal_key.open(Use::Person, sealed, clock::now())
}

/// Whether people of an issuer's may belong to a tenant that the client acts in.
fn serves(known: &Known, issuer: &Issuer) -> bool {
    issuer.claims.tenant.is_some() || known.serves(issuer.tenant.as_deref().unwrap_or(FIRST_TENANT))
}

/// Where people may sign in: by name, with the address they are sent to.
pub fn offered(known: &Known) -> Vec<(&str, &str)> {
    let issuers = known.deployment.issuers.iter().filter(|issuer| serves(known, issuer));
    let offered = issuers.filter_map(|Issuer { name, sign_in, .. }| Some((name, sign_in.as_ref()?)));
    offered.map(|(name, sign_in)| (name.as_str(), sign_in.authorization_endpoint.as_str())).collect()
}

fn text() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<32>())
}

fn address(call: &Call) -> String {
    format!("{}/oauth/signed-in", origin(call))
}

/// Sends a person to sign in; nothing when people do not sign in there.
pub fn begin(call: &Call, known: &Known, name: &str, fields: &[(&'static str, String)]) -> Option<Answer> {
    let issuer = known.deployment.issuers.iter().find(|issuer| issuer.name == name && serves(known, issuer))?;
    let sign_in = issuer.sign_in.as_ref()?;
    let begun = Begun {
        request: Serializer::new(String::new()).extend_pairs(fields).finish(),
        issuer: name.into(),
        state: text(),
        nonce: text(),
        verifier: text(),
    };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&begun.verifier));
    let mut query = Serializer::new(String::new());
    query.extend_pairs([
        ("response_type", "code"),
        ("client_id", &sign_in.client_id),
        ("redirect_uri", &address(call)),
        ("scope", "openid"),
        ("state", &begun.state),
        ("nonce", &begun.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let joint = if sign_in.authorization_endpoint.contains('?') { '&' } else { '?' };
    let sealed = known.deployment.seal_key.seal(Use::SignIn, &begun, clock::now().plus_ms(SIGN_IN_MS))?;
    let cookie = format!("{COOKIE}={sealed}; Path=/; Max-Age={}; HttpOnly; Secure; SameSite=Lax", SIGN_IN_MS / 1000);
    let location = format!("{}{joint}{}", sign_in.authorization_endpoint, query.finish());
    Some(
        Answer::empty(303)
            .with("location", &location)
            .with("set-cookie", &cookie)
            .with("referrer-policy", "no-referrer"),
    )
}

/// A person comes back: shows the consent page with who they are.
pub async fn back(call: &Call) -> Result<Answer, Problem> {
    let wrong = || failure("Signing in did not work. Begin again in the app.");
    let snapshot = snapshot::refreshed(FIRST_TENANT).await.map_err(internal)?;
    let cookie = call.request.header("cookie").and_then(|cookies| {
        cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
    });
    let begun = cookie.and_then(|sealed| snapshot.seal_key.open::<Begun>(Use::SignIn, sealed, clock::now()));
    let Some(begun) = begun else { return Ok(wrong()) };
    let issuer = snapshot.issuers.iter().find(|issuer| issuer.name == begun.issuer);
    let Some((issuer, sign_in)) = issuer.and_then(|issuer| Some((issuer, issuer.sign_in.as_ref()?))) else {
        return Ok(wrong());
    };
    let same_state = call.query("state").is_some_and(|state| equal_secrets(&state, &begun.state));
    let same_issuer = call.query("iss").is_none_or(|said| said == issuer.issuer);
    let code = call.query("code").filter(|code| !code.is_empty() && same_state && same_issuer);
    let Some(code) = code else { return Ok(wrong()) };
    let Some(mapped) = redeemed(call, issuer, sign_in, &begun, &code).await else {
        return Ok(wrong());
    };
    let person = Person {
        tenant: mapped.tenant,
        subject: format!("issuer:{}:{}", issuer.name, mapped.subject),
        roles: mapped.roles,
    };
    let sealed = snapshot.seal_key.seal(Use::Person, &person, clock::now().plus_ms(SIGN_IN_MS));
    let sealed = sealed.ok_or_else(|| Problem::internal("not sealed"))?;
    let request = Serializer::new(begun.request).append_pair("person", &sealed).finish();
    let page = respond(call, Form::read(request.as_bytes()).map_err(Into::into), false).await?;
    Ok(page.with("set-cookie", &format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax")))
}

/// What the gateway proves itself with to an issuer.
async fn opened(issuer: &str, secret: &Sealed) -> Option<String> {
    match vault::open(document_place(FIRST_TENANT, Document::Issuer, issuer), secret).await {
        Ok(secret) => Some(secret),
        Err(failure) => {
            log(&format!(r#"{{"level":"error","message":"secrets not opened","detail":{:?}}}"#, failure.0));
            None
        }
    }
}

/// Redeems the code, and believes the ID token that comes for it (OpenID Connect Core §3.1.3.7).
async fn redeemed(call: &Call, issuer: &Issuer, sign_in: &SignIn, begun: &Begun, code: &str) -> Option<Mapped> {
    let mut body = Serializer::new(String::new());
    body.extend_pairs([
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &address(call)),
        ("code_verifier", &begun.verifier),
    ]);
    let mut headers = Headers::default();
    headers.set("content-type", "application/x-www-form-urlencoded");
    headers.set("accept", "application/json");
    match &sign_in.client_secret {
        Some(sealed) => {
            let secret = &opened(&issuer.name, sealed).await?;
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let basic = STANDARD.encode(format!("{}:{}", encoded(&sign_in.client_id), encoded(secret)));
            headers.set("authorization", &format!("Basic {basic}"));
        }
        None => {
            body.append_pair("client_id", &sign_in.client_id);
        }
    }
    let url = &call.settings.may_call(&sign_in.token_endpoint, Some(&call.origin)).ok()?;
    let (headers, body) = (&headers, body.finish());
    let body = Some(body.as_str());
    let request = Request {
        method: Method::Post,
        url,
        headers,
        body,
        most_bytes: MAX_ASIDE_BYTES,
        milliseconds: PATIENCE_MS,
        deadline: false,
    };
    let answer = send(&request).await;
    let Upstream::Http { status: 200, is_json: true, body, .. } = answer else { return None };
    #[derive(Deserialize)]
    struct Tokens {
        id_token: String,
    }
    let Tokens { id_token } = serde_json::from_slice(&body).ok()?;
    let token = parse(&id_token).ok()?;
    let expected = Expected { audience: &sign_in.client_id, typ: "JWT", ..issuer.expected() };
    token.check_header(&expected).ok()?;
    token.check_claims(&expected, clock::now()).ok()?;
    let for_us = token.text("azp").is_none_or(|party| party == sign_in.client_id);
    if !for_us || !token.text("nonce").is_some_and(|nonce| equal_secrets(nonce, &begun.nonce)) {
        return None;
    }
    tokens::verify(&token, issuer).await.ok()?;
    issuer.map(&token, FIRST_TENANT).ok()
}
