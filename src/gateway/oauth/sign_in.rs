//! Signing in with an outside issuer, for the consent page (OpenID Connect Core §3.1, with PKCE).
//!
//! Nothing is kept here in between: the request under way travels in a signed cookie, and who signed in comes back to the
//! form as signed state too. The two belong together: in another browser, the second is not valid.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::auth::{own_tokens, tokens};
use crate::objects::registry::messages::DocumentKind;
use crate::objects::registry::{document_secret_data, snapshot};
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
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::canonical::digest;
use narthex_core::calling::response::CallResult;
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::clients::{Known, Realm};
use super::origin;
use super::page::failure;

const COOKIE: &str = "__Host-narthex-sign-in";
/// How long somebody may take to sign in, and to decide then, in milliseconds.
const SIGN_IN_MS: u64 = 600_000;
/// How long the issuer may take to answer, in milliseconds.
const PATIENCE_MS: u64 = 10_000;
/// Before it is asked once more, in milliseconds.
const PAUSE_MS: u64 = 300;

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

impl Begun {
    /// The one of this browser.
    fn of(call: &Call, key: &StateKey) -> Option<Self> {
        let cookies = call.request.header("cookie")?;
        let state = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))?;
        key.verify(Use::SignIn, state, clock::now())
    }

    /// What says that somebody signed in by it.
    fn mark(&self) -> String {
        digest(&self.state)
    }
}

/// Who has signed in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Person {
    pub tenant: String,
    /// A principal.
    pub subject: String,
    pub roles: Vec<String>,
    /// Permissions that narrow those of the roles, where their issuer says it.
    #[serde(default)]
    pub scope: Option<Vec<String>>,
    /// By which sign-in.
    #[serde(default)]
    pub mark: String,
}

impl Person {
    /// What they may do themselves: what a token of their issuer with the same claims may.
    pub fn permissions(&self, realm: &Realm) -> Vec<String> {
        own_tokens::permitted(&realm.snapshot, &self.roles, self.scope.as_deref())
    }
}

/// Who has signed in, and the signed state that says so.
#[derive(Clone)]
pub struct Signed {
    pub person: Person,
    pub state: String,
}

/// Who a form says has signed in, if this gateway said so itself a moment ago, to this browser.
///
/// Browsers name the origin of every form they send. A request without any of their marks comes from a program, which
/// nobody can lead into another's sign-in by a link.
pub fn read(call: &Call, known: &Known, state: &str) -> Option<Signed> {
    let key = &known.deployment.state_key;
    let person: Person = key.verify(Use::Person, state, clock::now())?;
    let is_browser = ["origin", "sec-fetch-site", "cookie"].iter().any(|name| call.request.header(name).is_some());
    let same = || Begun::of(call, key).is_some_and(|begun| equal_secrets(&begun.mark(), &person.mark));
    (!is_browser || same()).then(|| Signed { person, state: state.into() })
}

/// Whether people of an issuer's may belong to a tenant that the client acts in.
fn serves(known: &Known, issuer: &Issuer) -> bool {
    issuer.claims.tenant.is_some() || known.serves(issuer.tenant.as_deref().unwrap_or(FIRST_TENANT))
}

/// Where people may sign in, by name.
pub fn offered(known: &Known) -> Vec<&str> {
    let issuers = known.deployment.issuers.iter().filter(|issuer| serves(known, issuer));
    issuers.filter(|issuer| issuer.sign_in.is_some()).map(|issuer| issuer.name.as_str()).collect()
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
        ("scope", &sign_in.scope()),
        ("state", &begun.state),
        ("nonce", &begun.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    query.extend_pairs(&sign_in.parameters);
    if let Some(claims) = &sign_in.claims {
        query.append_pair("claims", claims);
    }
    let joint = if sign_in.authorization_endpoint.contains('?') { '&' } else { '?' };
    let state = known.deployment.state_key.sign(Use::SignIn, &begun, clock::now().plus_ms(SIGN_IN_MS))?;
    let cookie = format!("{COOKIE}={state}; Path=/; Max-Age={}; HttpOnly; Secure; SameSite=Lax", SIGN_IN_MS / 1000);
    let location = format!("{}{joint}{}", sign_in.authorization_endpoint, query.finish());
    Some(
        Answer::empty(303)
            .with("location", &location)
            .with("set-cookie", &cookie)
            .with("referrer-policy", "no-referrer"),
    )
}

/// Why a sign-in came to nothing: what the app is told, and what the log is.
struct Fault {
    error: OAuthErrorCode,
    detail: String,
}

impl Fault {
    fn ours(detail: impl Into<String>) -> Self {
        Self { error: OAuthErrorCode::ServerError, detail: detail.into() }
    }

    fn told(&self) -> OAuthError {
        OAuthError::new(
            self.error,
            match self.error {
                OAuthErrorCode::AccessDenied => "the person did not sign in, or has no access here",
                OAuthErrorCode::TemporarilyUnavailable => "people cannot sign in there now",
                _ => "signing in with the outside issuer failed",
            },
        )
    }
}

/// What came of a sign-in, with the client's request that it was begun for.
pub enum SignedIn {
    Person {
        request: Form,
        signed: Signed,
    },
    Failed {
        request: Form,
        refused: OAuthError,
    },
    /// No sign-in of this browser; a page says so.
    Unknown(Answer),
}

/// A person comes back: shows the consent page with who they are.
pub async fn back(call: &Call) -> Result<SignedIn, Problem> {
    let wrong = || SignedIn::Unknown(failure("Signing in did not work. Begin again in the app."));
    let snapshot = snapshot::refreshed(FIRST_TENANT).await.map_err(internal)?;
    let Some(begun) = Begun::of(call, &snapshot.state_key) else { return Ok(wrong()) };
    // Before it is known that the issuer answers this browser, nothing of the answer is believed.
    if !call.query("state").is_some_and(|state| equal_secrets(&state, &begun.state)) {
        return Ok(wrong());
    }
    let issuer = snapshot.issuers.iter().find(|issuer| issuer.name == begun.issuer);
    if issuer.is_some_and(|issuer| call.query("iss").is_some_and(|said| said != issuer.issuer)) {
        return Ok(wrong());
    }
    let Ok(request) = Form::read(begun.request.as_bytes()) else { return Ok(wrong()) };
    let found = issuer.and_then(|issuer| Some((issuer, issuer.sign_in.as_ref()?)));
    let mapped = match found {
        Some((issuer, sign_in)) => person_of(call, issuer, sign_in, &begun).await,
        None => Err(Fault::ours("people do not sign in there any more")),
    };
    let person = match mapped {
        Ok(person) => person,
        Err(fault) => {
            note(call, &begun.issuer, &fault);
            return Ok(SignedIn::Failed { request, refused: fault.told() });
        }
    };
    let state = snapshot.state_key.sign(Use::Person, &person, clock::now().plus_ms(SIGN_IN_MS));
    let state = state.ok_or_else(|| Problem::internal("not signed"))?;
    Ok(SignedIn::Person { request, signed: Signed { person, state } })
}

/// Who has signed in, by what the issuer answers.
async fn person_of(call: &Call, issuer: &Issuer, sign_in: &SignIn, begun: &Begun) -> Result<Person, Fault> {
    if let Some(error) = call.query("error") {
        let description = call.query("error_description").unwrap_or_default();
        let detail = format!("the issuer answered {}: {}", loggable(&error), loggable(&description));
        return Err(Fault { error: meaning(&error), detail });
    }
    let code = call.query("code").filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| Fault::ours("the issuer's answer has no code"))?;
    let mapped = redeemed(call, issuer, sign_in, begun, &code).await?;
    let subject = issuer.principal(&mapped.subject);
    Ok(Person { tenant: mapped.tenant, subject, roles: mapped.roles, scope: mapped.scope, mark: begun.mark() })
}

fn note(call: &Call, issuer: &str, fault: &Fault) {
    let Fault { error, detail } = fault;
    log_event!(SignInFailed, request_id = &call.request_id, issuer = issuer, error = error.as_str(), detail = detail,);
}

/// What the gateway proves itself with to an issuer.
async fn decrypted(issuer: &str, secret: &EncryptedSecret) -> Result<String, Fault> {
    let decrypted = secret_box::decrypt(document_secret_data(FIRST_TENANT, DocumentKind::Issuer, issuer), secret).await;
    decrypted.map_err(|failure| Fault::ours(format!("its client_secret cannot be decrypted: {}", failure.0)))
}

/// Asks the token endpoint for what the code is worth; gives the ID token.
async fn exchanged(call: &Call, issuer: &Issuer, sign_in: &SignIn, begun: &Begun, code: &str) -> Result<String, Fault> {
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
        Some(encrypted) => {
            let secret = &decrypted(&issuer.name, encrypted).await?;
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let basic = STANDARD.encode(format!("{}:{}", encoded(&sign_in.client_id), encoded(secret)));
            headers.set("authorization", &format!("Basic {basic}"));
        }
        None => {
            body.append_pair("client_id", &sign_in.client_id);
        }
    }
    let url = call.settings.may_call(&sign_in.token_endpoint, Some(&call.origin));
    let url = &url.map_err(|refusal| Fault::ours(format!("its token endpoint: {refusal}")))?;
    let (headers, body) = (&headers, body.finish());
    let body = Some(body.as_str());
    let request = Request::within(PATIENCE_MS, Method::Post, url, headers, body);
    let mut answer = send(&request).await;
    // A code is good for once: it is shown again only where it has not been seen.
    if answer.nothing_arrived() {
        clock::pause(PAUSE_MS).await;
        answer = send(&request).await;
    }
    let body = match answer {
        CallResult::Http { status: 200, is_json: true, body, .. } => body,
        CallResult::Http { status, body, .. } => {
            let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
            let said = said.get("error").and_then(|error| error.as_str()).map(loggable).unwrap_or_default();
            return Err(Fault::ours(format!("its token endpoint answered {status} {said}")));
        }
        CallResult::TimedOut { .. } => return Err(Fault::ours("its token endpoint does not answer in time")),
        _ => return Err(Fault::ours("its token endpoint cannot be reached")),
    };
    #[derive(Deserialize)]
    struct Tokens {
        id_token: String,
    }
    let tokens: Result<Tokens, _> = serde_json::from_slice(&body);
    tokens.map(|tokens| tokens.id_token).map_err(|_| Fault::ours("its token endpoint gave no id_token"))
}

/// Redeems the code, and believes the ID token that comes for it (OpenID Connect Core §3.1.3.7).
async fn redeemed(
    call: &Call,
    issuer: &Issuer,
    sign_in: &SignIn,
    begun: &Begun,
    code: &str,
) -> Result<MappedIdentity, Fault> {
    let id_token = exchanged(call, issuer, sign_in, begun, code).await?;
    let refused = |why: jwt::TokenError| Fault::ours(format!("the ID token is refused: {why}"));
    let token = parse(&id_token).map_err(refused)?;
    let expected = TokenRequirements { audience: (&*sign_in.client_id).into(), typ: "JWT", ..issuer.expected() };
    token.check_header(&expected).map_err(refused)?;
    token.check_claims(&expected, clock::now()).map_err(refused)?;
    let for_us = token.text("azp").is_none_or(|party| party == sign_in.client_id);
    if !for_us || !token.text("nonce").is_some_and(|nonce| equal_secrets(nonce, &begun.nonce)) {
        return Err(Fault::ours("the ID token is refused: its azp or its nonce is another's"));
    }
    tokens::verify(&token, issuer).await.map_err(refused)?;
    issuer.map(&token, FIRST_TENANT).map_err(|why| match why {
        // The issuer knows who it is; here they have nothing.
        jwt::TokenError::Unmapped => Fault { error: OAuthErrorCode::AccessDenied, detail: format!("{why}") },
        why => refused(why),
    })
}
