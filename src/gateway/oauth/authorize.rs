//! The authorization endpoint: a person allows a client something, by their own API key.
//!
//! Until the client and its address are known to be good, refusals are a page; from then on they go to the client
//! (RFC 6749 §4.1.2.1). The form carries the whole request, which is checked again when it comes back: nothing is kept
//! before somebody has allowed something. It needs no token against forgery, as nobody else knows the key in it.

use crate::auth::{self, Age, Principal};
use crate::core::id::ulid;
use crate::core::oauth::client::{Client, GrantType};
use crate::core::oauth::form::{Form, is_challenge};
use crate::core::oauth::grant::{Allowed, CODE_MS, GRANT_MS, Grant, Use};
use crate::core::oauth::{Error, Refused};
use crate::core::permission::meet_all;
use crate::core::problem::{Code, Problem};
use crate::objects::grants::messages::{Ask, Reply};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, random};

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::credentials;
use super::super::limits::logins;
use super::clients::{Known, Realm, look_up};
use super::page::{Asked, consent, failure, failure_as};
use super::sign_in;
use super::token::{minted, narrowed, object, resource};
use super::{Failed, form, origin};

/// What of a request comes back with the form.
const CARRIED: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
];

pub async fn serve(call: &Call) -> Result<Answer, Problem> {
    let posted = call.method() == "POST";
    let request = if posted { form(call).await } else { Form::read(call.query_text().as_bytes()).map_err(Into::into) };
    respond(call, request, posted).await
}

/// Answers a request that came in whatever way.
pub async fn respond(call: &Call, request: Result<Form, Failed>, posted: bool) -> Result<Answer, Problem> {
    let request = match request {
        Ok(request) => request,
        Err(Failed::Refused(refused)) => return Ok(failure_as(refused.error.status(), &refused.description)),
        Err(Failed::Problem(problem)) => return Err(problem),
    };
    let known = match look_up(call, request.get("client_id").unwrap_or_default()).await {
        Ok(known) => known.filter(|known| known.client.may(GrantType::AuthorizationCode)),
        Err(Failed::Problem(problem)) => return Err(problem),
        Err(Failed::Refused(_)) => None,
    };
    let Some(known) = known else {
        return Ok(failure("The app is not known here."));
    };
    let Some(redirect_uri) = redirect_uri(&known.client, &request) else {
        return Ok(failure("The app asks to send you to an address that it has not registered."));
    };
    let back = Back { uri: &redirect_uri, state: request.get("state"), issuer: &origin(call) };
    match answer(call, &request, &known, &back, posted).await {
        Ok(answer) => Ok(answer),
        Err(Failed::Refused(refused)) => Ok(back.refusal(&refused)),
        Err(Failed::Problem(problem)) => Err(problem),
    }
}

/// Where the answer goes. It may be left out where there is only one (OAuth 2.1 §4.1.1).
fn redirect_uri(client: &Client, request: &Form) -> Option<String> {
    match (request.get("redirect_uri"), client.redirect_uris.as_slice()) {
        (Some(uri), _) => client.redirects_to(uri).then(|| uri.to_string()),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}

/// The way back to the client.
struct Back<'a> {
    uri: &'a str,
    state: Option<&'a str>,
    issuer: &'a str,
}

impl Back<'_> {
    /// 303, so that the form with the key in it is not sent on. `iss` is in every answer (RFC 9207).
    fn with(&self, members: &[(&str, &str)]) -> Answer {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(members);
        if let Some(state) = self.state {
            query.append_pair("state", state);
        }
        let query = query.append_pair("iss", self.issuer).finish();
        let joint = if self.uri.contains('?') { '&' } else { '?' };
        Answer::empty(303)
            .with("location", &format!("{}{joint}{query}", self.uri))
            .with("referrer-policy", "no-referrer")
    }

    fn refusal(&self, refused: &Refused) -> Answer {
        self.with(&[("error", refused.error.as_str()), ("error_description", &refused.description)])
    }
}

async fn answer(call: &Call, request: &Form, known: &Known, back: &Back<'_>, posted: bool) -> Result<Answer, Failed> {
    if request.require("response_type")? != "code" {
        return Err(Refused::new(Error::UnsupportedResponseType, "only code is given").into());
    }
    let challenge = request.require("code_challenge")?;
    if request.get("code_challenge_method") != Some("S256") || !is_challenge(challenge) {
        return Err(Refused::new(Error::InvalidRequest, "a code_challenge of the method S256 is needed").into());
    }
    let resource = resource(call, request)?;
    let scope = narrowed(&known.client.scope, request)?;
    let carried = |name: &'static str| request.get(name).map(|value| (name, value.to_string()));
    let fields: Vec<_> = CARRIED.into_iter().filter_map(carried).collect();
    let person = request.get("person").and_then(|sealed| sign_in::person(known, sealed).map(|found| (found, sealed)));
    let (person, stranger) = match person {
        Some((found, _)) if !known.serves(&found.tenant) => (None, true),
        person => (person, false),
    };
    let issuers = sign_in::offered(known);
    let page = |wrong: Option<&str>| {
        let client = known.client.name.as_str();
        let person = person.as_ref().map(|(person, sealed)| (person.subject.as_str(), *sealed));
        let (fields, issuers) = (fields.as_slice(), issuers.as_slice());
        consent(&Asked { client, redirect_uri: back.uri, scope: &scope, fields, person, issuers, wrong })
    };
    if stranger {
        return Ok(page(Some("This app is for people of another tenant than yours.")));
    }
    if !posted {
        return Ok(page(None));
    }
    // The form is this page's own.
    if call.request.header("origin").is_some_and(|origin| origin != back.issuer && origin != "null")
        || call.request.header("sec-fetch-site").is_some_and(|site| site != "same-origin")
    {
        return Ok(failure("The form was not sent from this page."));
    }
    if let Some(name) = request.get("sign_in") {
        return sign_in::begin(call, known, name, &fields)
            .ok_or_else(|| Refused::new(Error::InvalidRequest, "people do not sign in there").into());
    }
    match request.get("decision") {
        Some("allow") => {}
        _ => return Err(Refused::new(Error::AccessDenied, "the person did not allow it").into()),
    }
    let allows = match &person {
        Some((person, _)) => {
            let realm = known.within(&person.tenant).await?;
            realm.ok_or("Your tenant is no more.").map(|realm| {
                let permissions = person.permissions(&realm);
                Allows { realm, subject: person.subject.clone(), permissions, roles: person.roles.clone() }
            })
        }
        None => by_key(call, request, known).await?,
    };
    let Allows { realm, subject, permissions, roles } = match allows {
        Ok(allows) => allows,
        Err(wrong) => return Ok(page(Some(wrong))),
    };
    let scope = meet_all(&permissions, &scope);
    if scope.is_empty() {
        return Ok(page(Some("You may do nothing of this yourself.")));
    }
    let allowed = Allowed { client: known.client_id.clone(), subject, scope, resource, roles };
    let code = begin(&realm, allowed, back.uri, challenge).await?;
    Ok(back.with(&[("code", &code)]))
}

/// Who allows it.
struct Allows {
    realm: Realm,
    subject: String,
    /// What they may do themselves.
    permissions: Vec<String>,
    /// By these, where the registry does not know.
    roles: Vec<String>,
}

/// Who allows it by a key, or what is wrong.
async fn by_key(call: &Call, request: &Form, known: &Known) -> Result<Result<Allows, &'static str>, Failed> {
    let Some(admin_key) = &call.settings.admin_key else {
        return Err(Problem::new(Code::NotConfigured, "The secret ADMIN_KEY is not set.").into());
    };
    let key = request.get("api_key").unwrap_or_default().trim();
    logins::check(call)?;
    match auth::recognize(key, admin_key, None, Age::Current).await {
        // Only a key: what another token allows ends with it, and a grant would go on.
        Ok((Principal { principal, tenant, permissions, .. }, snapshot))
            if principal.starts_with("key:") && known.serves(&tenant) =>
        {
            let realm = Realm { tenant, snapshot };
            Ok(Ok(Allows { realm, subject: principal, permissions, roles: Vec::new() }))
        }
        Ok(_) => Ok(Err("Use an API key of your own.")),
        Err(problem) if problem.code == Code::Unauthenticated => {
            logins::failed(call).await?;
            credentials::note(call, key, None).await;
            Ok(Err("This key is not valid (any more)."))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Keeps what was allowed, and gives the code for it.
async fn begin(realm: &Realm, allowed: Allowed, redirect_uri: &str, challenge: &str) -> Result<String, Failed> {
    let now = clock::now();
    let id = ulid(now, random::bytes());
    let (code, code_hash) = minted(realm, &id, Use::Code);
    let grant = Grant {
        allowed,
        redirect_uri: redirect_uri.into(),
        challenge: challenge.into(),
        code_hash,
        code_until: now.plus_ms(CODE_MS),
        until: now.plus_ms(GRANT_MS),
        current: None,
        redeemed: false,
        ended: false,
    };
    let ask = Ask::Begin(Box::new(grant));
    let begun = objects::send::<_, Reply>(Kind::Grants, &object(realm, &id), "", &ask, PATIENCE_MS).await;
    begun.map_err(internal)?;
    Ok(code)
}
