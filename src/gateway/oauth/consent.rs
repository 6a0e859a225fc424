//! What becomes of a request for consent: the page, and what a person decides on it, by their own API key or as who
//! they have signed in elsewhere.
//!
//! The form carries the whole request, which is checked again when it comes back: nothing is kept before somebody has
//! allowed something. It needs no token against forgery, as nobody else knows the key in it, and who has signed in is
//! bound to their browser.

use crate::auth::{self, Age};
use crate::objects::grants::messages::{Ask, Reply};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, random};
use narthex_core::access::oauth::form::{Form, is_challenge};
use narthex_core::access::oauth::grant::{CODE_MS, GRANT_MS, Grant, GrantToken, GrantedAccess};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::permission::meet_all;
use narthex_core::access::principal::Principal;
use narthex_core::base::id::ulid;
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::credentials;
use super::super::limits::logins;
use super::Failed;
use super::clients::{Known, Realm};
use super::page::{self, Asked, failure};
use super::redirect::Back;
use super::sign_in::{self, Signed};
use super::token::{minted, narrowed, object, resource};

/// A request for consent as it came, and who is known to have signed in for it.
pub struct Visit {
    pub request: Form,
    /// It is the page's form that comes back.
    pub posted: bool,
    pub signed: Option<Signed>,
}

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

/// Who allows it.
struct Allows {
    realm: Realm,
    subject: String,
    /// What they may do themselves.
    permissions: Vec<String>,
    /// By these, where the registry does not know.
    roles: Vec<String>,
}

/// A request that could be granted, and who has signed in for it.
struct Asking<'a> {
    call: &'a Call,
    visit: &'a Visit,
    known: &'a Known,
    back: &'a Back<'a>,
    challenge: &'a str,
    resource: String,
    scope: Vec<String>,
}

pub async fn answer(call: &Call, visit: &Visit, known: &Known, back: &Back<'_>) -> Result<Answer, Failed> {
    let request = &visit.request;
    if request.require("response_type")? != "code" {
        return Err(OAuthError::new(OAuthErrorCode::UnsupportedResponseType, "only code is given").into());
    }
    let challenge = request.require("code_challenge")?;
    if request.get("code_challenge_method") != Some("S256") || !is_challenge(challenge) {
        return Err(
            OAuthError::new(OAuthErrorCode::InvalidRequest, "a code_challenge of the method S256 is needed").into()
        );
    }
    let resource = resource(call, request)?;
    let scope = narrowed(&known.client.scope, request)?;
    let carried = |name: &'static str| request.get(name).map(|value| (name, value.to_string()));
    let fields: Vec<_> = CARRIED.into_iter().filter_map(carried).collect();
    let signed = signed(call, visit, known);
    let (theirs, wrong) = match &signed {
        Some(signed) => theirs(known, signed).await?,
        None if visit.posted && request.get("person").is_some() => {
            (None, Some("You are not signed in here (any more). Sign in again."))
        }
        None => (None, None),
    };
    // Who has signed in is shown what it comes to for them.
    let shown = theirs.as_ref().map(|allows| meet_all(&allows.permissions, &scope)).filter(|scope| !scope.is_empty());
    let shown = shown.unwrap_or_else(|| scope.clone());
    let signed = signed.as_ref().filter(|_| theirs.is_some());
    let view = View { known, back, fields: &fields, signed, scope: &shown };
    if wrong.is_some() || !visit.posted {
        return Ok(view.page(wrong));
    }
    Asking { call, visit, known, back, challenge, resource, scope }.decide(&view, theirs).await
}

impl Asking<'_> {
    /// Does what the page was answered.
    async fn decide(self, view: &View<'_>, theirs: Option<Allows>) -> Result<Answer, Failed> {
        let Self { call, visit, known, back, challenge, resource, scope } = self;
        // The form is this page's own.
        if call.request.header("origin").is_some_and(|origin| origin != back.issuer && origin != "null")
            || call.request.header("sec-fetch-site").is_some_and(|site| site != "same-origin")
        {
            return Ok(failure("The form was not sent from this page."));
        }
        if let Some(name) = visit.request.get("sign_in") {
            return sign_in::begin(call, known, name, view.fields)
                .ok_or_else(|| OAuthError::new(OAuthErrorCode::InvalidRequest, "people do not sign in there").into());
        }
        match visit.request.get("decision") {
            Some("allow") => {}
            Some("deny") => return Ok(back.denied()),
            _ => return Err(OAuthError::new(OAuthErrorCode::AccessDenied, "the person did not allow it").into()),
        }
        let allows = match theirs {
            Some(theirs) => Ok(theirs),
            None => by_key(call, visit, known).await?,
        };
        let Allows { realm, subject, permissions, roles } = match allows {
            Ok(allows) => allows,
            Err(wrong) => return Ok(view.page(Some(wrong))),
        };
        let scope = meet_all(&permissions, &scope);
        if scope.is_empty() {
            return Ok(view.page(Some("You may do nothing of this yourself.")));
        }
        let allowed = GrantedAccess { client: known.client_id.clone(), subject, scope, resource, roles };
        let code = begin(&realm, known, allowed, back.uri, challenge).await?;
        Ok(back.with(&[("code", &code)]))
    }
}

/// What the page shows.
struct View<'a> {
    known: &'a Known,
    back: &'a Back<'a>,
    fields: &'a [(&'static str, String)],
    signed: Option<&'a Signed>,
    scope: &'a [String],
}

impl View<'_> {
    fn page(&self, wrong: Option<&str>) -> Answer {
        let Self { known, back, fields, signed, scope } = self;
        page::consent(&Asked {
            client: &known.client.name,
            known: known.as_shown(),
            redirect_uri: back.uri,
            scope,
            fields,
            person: signed.map(|signed| (signed.person.subject.as_str(), signed.state.as_str())),
            issuers: &sign_in::offered(known),
            wrong,
        })
    }
}

/// Who has signed in: a moment ago, or in this browser before the page was answered. A link says nothing of it.
fn signed(call: &Call, visit: &Visit, known: &Known) -> Option<Signed> {
    match (&visit.signed, visit.posted) {
        (Some(signed), _) => Some(signed.clone()),
        (None, true) => sign_in::read(call, known, visit.request.get("person")?),
        (None, false) => None,
    }
}

/// What who has signed in may allow, or why they may not.
async fn theirs(known: &Known, signed: &Signed) -> Result<(Option<Allows>, Option<&'static str>), Failed> {
    let person = &signed.person;
    if !known.serves(&person.tenant) {
        return Ok((None, Some("This app is for people of another tenant than yours.")));
    }
    let Some(realm) = known.within(&person.tenant).await? else {
        return Ok((None, Some("Your tenant is no more.")));
    };
    let permissions = person.permissions(&realm);
    let allows = Allows { realm, subject: person.subject.clone(), permissions, roles: person.roles.clone() };
    Ok((Some(allows), None))
}

/// Who allows it by a key, or what is wrong.
async fn by_key(call: &Call, visit: &Visit, known: &Known) -> Result<Result<Allows, &'static str>, Failed> {
    let Some(admin_key) = &call.settings.admin_key else {
        return Err(Problem::new(Code::NotConfigured, "The secret ADMIN_KEY is not set.").into());
    };
    let key = visit.request.get("api_key").unwrap_or_default().trim();
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
async fn begin(
    realm: &Realm,
    known: &Known,
    allowed: GrantedAccess,
    redirect_uri: &str,
    challenge: &str,
) -> Result<String, Failed> {
    let now = clock::now();
    let id = ulid(now, random::bytes());
    let (code, code_hash) = minted(realm, &id, GrantToken::Code);
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
        redeemed_at: None,
        tries: 0,
        last: None,
        seen: known.seen.clone(),
    };
    let ask = Ask::Begin(Box::new(grant));
    let begun = objects::send::<_, Reply>(Kind::Grants, &object(realm, &id), "", &ask, PATIENCE_MS).await;
    begun.map_err(internal)?;
    Ok(code)
}
