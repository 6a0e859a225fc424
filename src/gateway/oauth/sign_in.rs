//! Sign-in at an external issuer, for the consent page (OpenID Connect Core §3.1, with PKCE).
//!
//! The gateway stores nothing in between: the pending request is in a signed cookie, and the identity of the person is
//! in the form, as signed state. That state is valid only in the browser with the cookie.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::auth::{own_tokens, tokens};
use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::snapshot;
use crate::platform::calls::{Method, Request, send};
use crate::platform::http::Headers;
use crate::platform::{clock, log_event, random, secret_box};
use narthex_core::access::api_key::equal_secrets;
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::access::issuer::{Issuer, MappedIdentity};
use narthex_core::access::jose::jwt::{self, TokenRequirements, parse};
use narthex_core::access::oauth::form::Form;
use narthex_core::access::oauth::signed_state::{StateKey, Use};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::sign_in::{SignIn, loggable, meaning};
use narthex_core::base::canonical::digest;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::response::CallResult;
use narthex_core::http::problem::Problem;
use narthex_core::registry::secrets::document_secret_data;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::clients::{Realm, ResolvedClient};
use super::origin;
use super::page::failure;

const COOKIE: &str = "__Host-narthex-sign-in";
/// The time a person has to sign in, and then to decide, in milliseconds.
const SIGN_IN_MS: u64 = 600_000;
/// The time-out of a request to the issuer, in milliseconds.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// The delay before the request is repeated, in milliseconds.
const RETRY_DELAY_MS: u64 = 300;

/// A pending sign-in, as the cookie carries it.
#[derive(Serialize, Deserialize)]
struct PendingSignIn {
    /// The client's request, as a form.
    request: String,
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
}

impl PendingSignIn {
    /// The pending sign-in of this browser.
    fn of(call: &Call, key: &StateKey) -> Option<Self> {
        let cookies = call.request.header("cookie")?;
        let state = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        key.verify(Use::SignIn, state, clock::now())
    }

    /// The text that binds an identity to this sign-in.
    fn mark(&self) -> String {
        digest(&self.state)
    }
}

/// The identity of a person who has signed in.
#[derive(Clone, Serialize, Deserialize)]
pub struct PersonIdentity {
    pub tenant: TenantId,
    pub subject: PrincipalId,
    pub roles: Vec<String>,
    /// Permissions that narrow those of the roles, if the issuer sets them.
    #[serde(default)]
    pub scope: Option<Vec<String>>,
    /// The sign-in that it is bound to.
    #[serde(default)]
    pub mark: String,
}

impl PersonIdentity {
    /// The person's own permissions: those of a token of their issuer with the same claims.
    pub fn permissions(&self, realm: &Realm) -> Vec<String> {
        own_tokens::permitted(&realm.snapshot, &self.roles, self.scope.as_deref())
    }
}

/// A person who has signed in, and the signed state that proves it.
#[derive(Clone)]
pub struct SignedInPerson {
    pub identity: PersonIdentity,
    pub state: String,
}

/// The person in a form's signed state, if the gateway issued that state recently and to this browser.
///
/// Browsers name the origin of every form they submit. A request without any header of a browser comes from a program,
/// which no link can lead into the sign-in of another person.
pub fn read(call: &Call, client: &ResolvedClient, state: &str) -> Option<SignedInPerson> {
    let key = &client.deployment.state_key;
    let identity: PersonIdentity = key.verify(Use::Person, state, clock::now())?;
    let is_browser = ["origin", "sec-fetch-site", "cookie"].iter().any(|name| call.request.header(name).is_some());
    let is_same = || PendingSignIn::of(call, key).is_some_and(|pending| equal_secrets(&pending.mark(), &identity.mark));
    (!is_browser || is_same()).then(|| SignedInPerson { identity, state: state.into() })
}

/// Whether people of an issuer may belong to a tenant that the client serves.
fn serves(client: &ResolvedClient, issuer: &Issuer) -> bool {
    issuer.claims.tenant.is_some() || client.serves(issuer.tenant.as_ref().unwrap_or(&TenantId::first()))
}

/// The names of the issuers that offer sign-in to this client.
pub fn issuers_for(client: &ResolvedClient) -> Vec<&str> {
    let issuers = client.deployment.rules.issuers.iter().filter(|issuer| serves(client, issuer));
    issuers.filter(|issuer| issuer.sign_in.is_some()).map(|issuer| issuer.name.as_str()).collect()
}

fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<32>())
}

fn redirect_uri(call: &Call) -> String {
    format!("{}/oauth/signed-in", origin(call))
}

/// Redirects a person to the issuer; nothing if the issuer does not offer sign-in.
pub fn begin(call: &Call, client: &ResolvedClient, name: &str, fields: &[(&'static str, String)]) -> Option<Answer> {
    let issuer = client.deployment.rules.issuers.iter().find(|issuer| issuer.name == name && serves(client, issuer))?;
    let sign_in = issuer.sign_in.as_ref()?;
    let pending = PendingSignIn {
        request: Serializer::new(String::new()).extend_pairs(fields).finish(),
        issuer: name.into(),
        state: random_text(),
        nonce: random_text(),
        verifier: random_text(),
    };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&pending.verifier));
    let mut query = Serializer::new(String::new());
    query.extend_pairs([
        ("response_type", "code"),
        ("client_id", &sign_in.client_id),
        ("redirect_uri", &redirect_uri(call)),
        ("scope", &sign_in.scope()),
        ("state", &pending.state),
        ("nonce", &pending.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    query.extend_pairs(&sign_in.parameters);
    if let Some(claims) = &sign_in.claims {
        query.append_pair("claims", claims);
    }
    let joint = if sign_in.authorization_endpoint.contains('?') { '&' } else { '?' };
    let state = client.deployment.state_key.sign(Use::SignIn, &pending, clock::now().plus_ms(SIGN_IN_MS))?;
    let cookie = format!("{COOKIE}={state}; Path=/; Max-Age={}; HttpOnly; Secure; SameSite=Lax", SIGN_IN_MS / 1000);
    let location = format!("{}{joint}{}", sign_in.authorization_endpoint, query.finish());
    Some(
        Answer::empty(303)
            .with("location", &location)
            .with("set-cookie", &cookie)
            .with("referrer-policy", "no-referrer"),
    )
}

/// The reason why a sign-in failed: an error for the app, and details for the log.
struct SignInError {
    error: OAuthErrorCode,
    detail: String,
}

impl SignInError {
    fn server_error(detail: impl Into<String>) -> Self {
        Self { error: OAuthErrorCode::ServerError, detail: detail.into() }
    }

    fn client_error(&self) -> OAuthError {
        OAuthError::new(
            self.error,
            match self.error {
                OAuthErrorCode::AccessDenied => "the person did not sign in, or has no access here",
                OAuthErrorCode::TemporarilyUnavailable => "sign-in with the external issuer is temporarily unavailable",
                _ => "sign-in with the external issuer failed",
            },
        )
    }
}

/// The outcome of a sign-in, with the client's request.
pub enum SignInOutcome {
    Person {
        request: Form,
        person: SignedInPerson,
    },
    Failed {
        request: Form,
        error: OAuthError,
    },
    /// This browser has no pending sign-in. The answer is an error page.
    Unknown(Answer),
}

/// Handles the redirect from the issuer.
pub async fn callback(call: &Call) -> Result<SignInOutcome, Problem> {
    let unknown = || SignInOutcome::Unknown(failure("Sign-in failed. Start again in the app."));
    let snapshot = snapshot::refreshed(&TenantId::first()).await.map_err(internal)?;
    let Some(pending) = PendingSignIn::of(call, &snapshot.state_key) else { return Ok(unknown()) };
    // Without the state of this browser, no part of the response is trusted.
    if !call.query("state").is_some_and(|state| equal_secrets(&state, &pending.state)) {
        return Ok(unknown());
    }
    let issuer = snapshot.rules.issuers.iter().find(|issuer| issuer.name == pending.issuer);
    if issuer.is_some_and(|issuer| call.query("iss").is_some_and(|iss| iss != issuer.issuer)) {
        return Ok(unknown());
    }
    let Ok(request) = Form::read(pending.request.as_bytes()) else { return Ok(unknown()) };
    let with_sign_in = issuer.and_then(|issuer| Some((issuer, issuer.sign_in.as_ref()?)));
    let identity = match with_sign_in {
        Some((issuer, sign_in)) => identify(call, issuer, sign_in, &pending).await,
        None => Err(SignInError::server_error("the issuer no longer offers sign-in")),
    };
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => {
            log_failure(call, &pending.issuer, &error);
            return Ok(SignInOutcome::Failed { request, error: error.client_error() });
        }
    };
    let state = snapshot.state_key.sign(Use::Person, &identity, clock::now().plus_ms(SIGN_IN_MS));
    let state = state.ok_or_else(|| Problem::internal("the identity cannot be signed"))?;
    Ok(SignInOutcome::Person { request, person: SignedInPerson { identity, state } })
}

/// The identity of the person, from the issuer's response.
async fn identify(
    call: &Call,
    issuer: &Issuer,
    sign_in: &SignIn,
    pending: &PendingSignIn,
) -> Result<PersonIdentity, SignInError> {
    if let Some(error) = call.query("error") {
        let description = call.query("error_description").unwrap_or_default();
        let detail = format!("the issuer answered {}: {}", loggable(&error), loggable(&description));
        return Err(SignInError { error: meaning(&error), detail });
    }
    let code = call.query("code").filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| SignInError::server_error("the issuer's response has no code"))?;
    let mapped = redeem(call, issuer, sign_in, pending, &code).await?;
    let subject = issuer.principal(&mapped.subject);
    Ok(PersonIdentity {
        tenant: mapped.tenant,
        subject,
        roles: mapped.roles,
        scope: mapped.scope,
        mark: pending.mark(),
    })
}

fn log_failure(call: &Call, issuer: &str, error: &SignInError) {
    let SignInError { error, detail } = error;
    log_event!(SignInFailed, request_id = &call.request_id, issuer = issuer, error = error.as_str(), detail = detail,);
}

/// Decrypts the gateway's client secret at an issuer.
async fn decrypt(issuer: &str, secret: &EncryptedSecret) -> Result<String, SignInError> {
    let first = TenantId::first();
    let data = document_secret_data(&first, DocumentKind::Issuer, issuer);
    let decrypted = secret_box::decrypt(data, secret).await;
    decrypted
        .map_err(|failure| SignInError::server_error(format!("its client_secret cannot be decrypted: {}", failure.0)))
}

/// Exchanges the code at the token endpoint; returns the ID token.
async fn exchange_code(
    call: &Call,
    issuer: &Issuer,
    sign_in: &SignIn,
    pending: &PendingSignIn,
    code: &str,
) -> Result<String, SignInError> {
    let mut body = Serializer::new(String::new());
    body.extend_pairs([
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect_uri(call)),
        ("code_verifier", &pending.verifier),
    ]);
    let mut headers = Headers::default();
    headers.set("content-type", "application/x-www-form-urlencoded");
    headers.set("accept", "application/json");
    match &sign_in.client_secret {
        Some(encrypted) => {
            let secret = &decrypt(&issuer.name, encrypted).await?;
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let basic = STANDARD.encode(format!("{}:{}", encoded(&sign_in.client_id), encoded(secret)));
            headers.set("authorization", &format!("Basic {basic}"));
        }
        None => {
            body.append_pair("client_id", &sign_in.client_id);
        }
    }
    let url = call.settings.may_call(&sign_in.token_endpoint, Some(&call.origin));
    let url = &url.map_err(|refusal| SignInError::server_error(format!("its token endpoint: {refusal}")))?;
    let (headers, body) = (&headers, body.finish());
    let body = Some(body.as_str());
    let request = Request::within(REQUEST_TIMEOUT_MS, Method::Post, url, headers, body);
    let mut answer = send(&request).await;
    // A code is valid once: the request is repeated only if it did not arrive.
    if answer.nothing_arrived() {
        clock::pause(RETRY_DELAY_MS).await;
        answer = send(&request).await;
    }
    let body = match answer {
        CallResult::Http { status: 200, is_json: true, body, .. } => body,
        CallResult::Http { status, body, .. } => {
            let body = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
            let error = body.get("error").and_then(|error| error.as_str()).map(loggable).unwrap_or_default();
            return Err(SignInError::server_error(format!("its token endpoint answered {status} {error}")));
        }
        CallResult::TimedOut { .. } => {
            return Err(SignInError::server_error("its token endpoint did not answer in time"));
        }
        _ => return Err(SignInError::server_error("its token endpoint could not be reached")),
    };
    #[derive(Deserialize)]
    struct Tokens {
        id_token: String,
    }
    let tokens: Result<Tokens, _> = serde_json::from_slice(&body);
    tokens
        .map(|tokens| tokens.id_token)
        .map_err(|_| SignInError::server_error("its token endpoint returned no id_token"))
}

/// Redeems the code, and verifies the ID token (OpenID Connect Core §3.1.3.7).
async fn redeem(
    call: &Call,
    issuer: &Issuer,
    sign_in: &SignIn,
    pending: &PendingSignIn,
    code: &str,
) -> Result<MappedIdentity, SignInError> {
    let id_token = exchange_code(call, issuer, sign_in, pending, code).await?;
    let rejected = |why: jwt::TokenError| SignInError::server_error(format!("the ID token was rejected: {why}"));
    let token = parse(&id_token).map_err(rejected)?;
    let expected = TokenRequirements { audience: (&*sign_in.client_id).into(), typ: "JWT", ..issuer.expected() };
    token.check_header(&expected).map_err(rejected)?;
    token.check_claims(&expected, clock::now()).map_err(rejected)?;
    let for_us = token.text("azp").is_none_or(|party| party == sign_in.client_id);
    if !for_us || !token.text("nonce").is_some_and(|nonce| equal_secrets(nonce, &pending.nonce)) {
        return Err(SignInError::server_error("the ID token was rejected: its azp or nonce does not match"));
    }
    tokens::verify(&token, issuer).await.map_err(rejected)?;
    issuer.map(&token, &TenantId::first()).map_err(|why| match why {
        // The issuer knows the person, but the person has no role here.
        jwt::TokenError::Unmapped => SignInError { error: OAuthErrorCode::AccessDenied, detail: format!("{why}") },
        why => rejected(why),
    })
}
