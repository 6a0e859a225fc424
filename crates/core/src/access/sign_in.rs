//! Sign-in at an external issuer on the consent page (OpenID Connect Core §3.1): the configuration, and what a failed
//! sign-in means for the client that waits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::encrypted_secret::EncryptedSecret;
use super::issuer::AddressRules;
use super::oauth::OAuthErrorCode;
use crate::base::json::{Fault, Object};
use crate::http::egress_address;

const OPENID: &str = "openid";
const MAX_SCOPES: usize = 50;
const LONGEST_SCOPE: usize = 200;
const MAX_PARAMETERS: usize = 20;
const LONGEST_PARAMETER: usize = 1_000;
/// The largest `claims` parameter, in bytes.
const MAX_CLAIMS: usize = 4_096;
/// Parameters that the gateway sets itself.
const OWN: [&str; 13] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "claims",
    "request",
    "request_uri",
];

/// How the gateway sends people to an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    /// The gateway's client id at the issuer.
    pub client_id: String,
    /// Never shown again.
    pub client_secret: Option<EncryptedSecret>,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    /// Requested in addition to `openid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The `claims` parameter (OpenID Connect Core §5.5), as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
    /// Further parameters of the request, such as `prompt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl SignIn {
    /// The requested scope.
    pub fn scope(&self) -> String {
        let others = self.scopes.iter().map(String::as_str).filter(|scope| *scope != OPENID);
        std::iter::once(OPENID).chain(others).collect::<Vec<_>>().join(" ")
    }

    /// The document without the secret.
    pub fn shown(&self) -> Value {
        let Self { client_id, authorization_endpoint, token_endpoint, scopes, claims, parameters, .. } = self;
        let mut shown = Map::new();
        shown.insert("client_id".into(), json!(client_id));
        shown.insert("authorization_endpoint".into(), json!(authorization_endpoint));
        shown.insert("token_endpoint".into(), json!(token_endpoint));
        if !scopes.is_empty() {
            shown.insert("scopes".into(), json!(scopes));
        }
        if let Some(claims) = claims.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            shown.insert("claims".into(), claims);
        }
        if !parameters.is_empty() {
            shown.insert("parameters".into(), json!(parameters));
        }
        Value::Object(shown)
    }
}

/// Reads the member `sign_in` of an issuer's document.
pub fn read(body: &mut Object<'_>, rules: AddressRules<'_>) -> Option<SignIn> {
    let mut sign_in = body.object("sign_in")?;
    let mut address = |name: &str| {
        let text = sign_in.string(name, 1..=2048);
        let text = sign_in.require(name, text).unwrap_or_default();
        if !text.is_empty()
            && let Err(refusal) = egress_address::check(&text, rules.addresses, rules.own_hosts)
        {
            sign_in.fault(name, refusal.to_string());
        }
        text
    };
    let (authorization_endpoint, token_endpoint) = (address("authorization_endpoint"), address("token_endpoint"));
    let client_id = sign_in.string("client_id", 1..=512);
    let client_id = sign_in.require("client_id", client_id).unwrap_or_default();
    let client_secret = sign_in.string("client_secret", 1..=512).map(EncryptedSecret::plaintext);
    let scopes = read_scopes(&mut sign_in);
    let claims = read_claims(&mut sign_in);
    let parameters = read_parameters(&mut sign_in);
    body.absorb(sign_in);
    Some(SignIn { client_id, client_secret, authorization_endpoint, token_endpoint, scopes, claims, parameters })
}

/// Whether the word is a scope token (RFC 6749 §3.3).
fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

fn read_scopes(sign_in: &mut Object<'_>) -> Vec<String> {
    let scopes = sign_in.strings("scopes", MAX_SCOPES, LONGEST_SCOPE).unwrap_or_default();
    for (at, scope) in scopes.iter().enumerate() {
        if !is_scope(scope) {
            let pointer = format!("{}/{at}", sign_in.pointer_to("scopes"));
            sign_in.faults([Fault::new(pointer, "must be one word of printable ASCII, such as profile")]);
        }
    }
    scopes
}

fn read_claims(sign_in: &mut Object<'_>) -> Option<String> {
    let raw = sign_in.raw("claims")?;
    let claims = serde_json::from_str::<Map<String, Value>>(raw.get()).ok();
    let text = claims.and_then(|claims| serde_json::to_string(&claims).ok()).filter(|text| text.len() <= MAX_CLAIMS);
    if text.is_none() {
        let detail = format!("must be an object (OpenID Connect Core 5.5) of at most {MAX_CLAIMS} bytes");
        sign_in.fault("claims", detail);
    }
    text
}

fn read_parameters(sign_in: &mut Object<'_>) -> BTreeMap<String, String> {
    let Some(raw) = sign_in.raw("parameters") else { return BTreeMap::new() };
    let short = |text: &String| (1..=LONGEST_PARAMETER).contains(&text.len());
    match serde_json::from_str::<BTreeMap<String, String>>(raw.get()) {
        Ok(parameters)
            if parameters.len() <= MAX_PARAMETERS
                && parameters.iter().all(|(name, value)| short(name) && short(value)) =>
        {
            for name in parameters.keys().filter(|name| OWN.contains(&name.as_str())) {
                let pointer = format!("{}/{name}", sign_in.pointer_to("parameters"));
                sign_in.faults([Fault::new(pointer, "is set by the gateway itself")]);
            }
            parameters
        }
        _ => {
            let detail =
                format!("must be an object of at most {MAX_PARAMETERS} strings of 1 to {LONGEST_PARAMETER} bytes");
            sign_in.fault("parameters", detail);
            BTreeMap::new()
        }
    }
}

/// What an issuer's error means for the client (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6): the person did not
/// sign in, a later try may succeed, or something is wrong between the gateway and the issuer.
pub fn meaning(error: &str) -> OAuthErrorCode {
    match error {
        "access_denied"
        | "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => OAuthErrorCode::AccessDenied,
        "temporarily_unavailable" => OAuthErrorCode::TemporarilyUnavailable,
        _ => OAuthErrorCode::ServerError,
    }
}

/// Makes a text from an issuer safe for the log: short, printable ASCII.
pub fn loggable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::egress_address::Policy;

    const RULES: AddressRules<'static> = AddressRules { addresses: Policy::STRICT, own_hosts: &[] };

    fn read_from(more: Value) -> Result<SignIn, Vec<String>> {
        let mut sign_in = json!({"client_id": "narthex", "authorization_endpoint": "https://id.example.com/authorize",
            "token_endpoint": "https://id.example.com/token"});
        for (name, value) in more.as_object().unwrap() {
            sign_in[name] = value.clone();
        }
        let text = json!({"sign_in": sign_in}).to_string();
        let mut body = Object::new(&text, "#").unwrap();
        let read = read(&mut body, RULES);
        let faults: Vec<String> = body.finish().into_iter().map(|fault| fault.pointer).collect();
        if faults.is_empty() { Ok(read.unwrap()) } else { Err(faults) }
    }

    #[test]
    fn what_is_asked_for_is_configured() {
        let plain = read_from(json!({})).unwrap();
        assert_eq!((plain.scope().as_str(), plain.claims), ("openid", None));
        let more = json!({"scopes": ["profile", "openid", "https://id.example.com/groups"],
            "claims": {"id_token": {"groups": {"essential": true}}}, "parameters": {"prompt": "select_account"}});
        let full = read_from(more.clone()).unwrap();
        assert_eq!(full.scope(), "openid profile https://id.example.com/groups");
        let shown = full.shown();
        for name in ["scopes", "claims", "parameters"] {
            assert_eq!(shown[name], more[name], "{name}");
        }
        assert_eq!(serde_json::from_str::<SignIn>(&serde_json::to_string(&full).unwrap()).unwrap(), full);
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        for (more, pointer) in [
            (json!({"scopes": ["a b"]}), "#/sign_in/scopes/0"),
            (json!({"scopes": ["ok", "a\"b"]}), "#/sign_in/scopes/1"),
            (json!({"scopes": "profile"}), "#/sign_in/scopes"),
            (json!({"claims": "groups"}), "#/sign_in/claims"),
            (json!({"claims": {"a": "x".repeat(5_000)}}), "#/sign_in/claims"),
            (json!({"parameters": {"state": "x"}}), "#/sign_in/parameters/state"),
            (json!({"parameters": {"redirect_uri": "https://evil.example"}}), "#/sign_in/parameters/redirect_uri"),
            (json!({"parameters": {"prompt": 1}}), "#/sign_in/parameters"),
            (json!({"parameters": {"prompt": ""}}), "#/sign_in/parameters"),
        ] {
            assert_eq!(read_from(more.clone()).unwrap_err(), [pointer], "{more}");
        }
    }

    #[test]
    fn an_issuer_of_an_older_version_is_read() {
        let old = r#"{"client_id":"n","client_secret":null,"authorization_endpoint":"https://a",
            "token_endpoint":"https://t"}"#;
        assert_eq!(serde_json::from_str::<SignIn>(old).unwrap().scope(), "openid");
    }

    #[test]
    fn a_refusal_means_one_of_three_things() {
        assert_eq!(meaning("access_denied"), OAuthErrorCode::AccessDenied);
        assert_eq!(meaning("login_required"), OAuthErrorCode::AccessDenied);
        assert_eq!(meaning("temporarily_unavailable"), OAuthErrorCode::TemporarilyUnavailable);
        for other in ["invalid_request", "unauthorized_client", "<script>", ""] {
            assert_eq!(meaning(other), OAuthErrorCode::ServerError);
        }
        assert_eq!(loggable("a\nb\u{202e}c"), "a?b?c");
    }
}
