//! Decides a request for consent: shows the page, and grants what a person allows, identified by their own API key or
//! by a sign-in at an external issuer.
//!
//! The form carries the whole request, which is checked again when the form returns: nothing is stored before a person
//! has allowed something. The form needs no token against forgery, as only its person knows the key in it, and a
//! sign-in is bound to the person's browser.

use crate::auth::{self, Age};
use crate::objects::grants::messages::{Begin, Grants};
use crate::objects::protocol;
use crate::platform::{clock, random};
use narthex_core::access::oauth::form::{Form, is_challenge};
use narthex_core::access::oauth::grant::{CODE_MS, GRANT_MS, Grant, GrantToken, GrantedAccess};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::access::permission::meet_all;
use narthex_core::access::principal::Principal;
use narthex_core::base::id::ulid;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::http::problem::Code;

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::credentials;
use super::super::limits::logins::{self, Login};
use super::EndpointError;
use super::clients::{Realm, ResolvedClient};
use super::page::{self, ConsentPage, failure};
use super::redirect::ClientRedirect;
use super::sign_in::{self, SignedInPerson};
use super::token::{mint, requested_scope, resource};

/// A request for consent, and the person who has just signed in for it.
pub struct ConsentRequest {
    pub request: Form,
    /// It comes from the form of the consent page.
    pub posted: bool,
    pub person: Option<SignedInPerson>,
}

/// The members of a request that the form sends back.
const FORM_MEMBERS: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "resource",
];

/// A person who may grant the request.
struct Grantor {
    realm: Realm,
    subject: PrincipalId,
    /// The person's own permissions.
    permissions: Vec<String>,
    /// The person's roles, if the registry does not know the person.
    roles: Vec<String>,
}

/// A valid request, which may be granted.
struct GrantableRequest<'a> {
    call: &'a Call,
    consent_request: &'a ConsentRequest,
    client: &'a ResolvedClient,
    redirect: &'a ClientRedirect<'a>,
    challenge: &'a str,
    resource: String,
    scope: Vec<String>,
}

pub async fn answer(
    call: &Call,
    consent_request: &ConsentRequest,
    client: &ResolvedClient,
    redirect: &ClientRedirect<'_>,
) -> Result<Answer, EndpointError> {
    let request = &consent_request.request;
    if request.require("response_type")? != "code" {
        return Err(OAuthError::new(
            OAuthErrorCode::UnsupportedResponseType,
            "the only supported response_type is code",
        )
        .into());
    }
    let challenge = request.require("code_challenge")?;
    if request.get("code_challenge_method") != Some("S256") || !is_challenge(challenge) {
        return Err(OAuthError::new(
            OAuthErrorCode::InvalidRequest,
            "a code_challenge with the method S256 is required",
        )
        .into());
    }
    let resource = resource(call, request)?;
    let scope = requested_scope(&client.registration.scope, request)?;
    let member = |name: &'static str| request.get(name).map(|value| (name, value.to_string()));
    let fields: Vec<_> = FORM_MEMBERS.into_iter().filter_map(member).collect();
    let person = signed_in_person(call, consent_request, client);
    let (grantor, error) = match &person {
        Some(person) => grantor_by_sign_in(client, person).await?,
        None if consent_request.posted && request.get("person").is_some() => {
            (None, Some("You are not signed in, or your sign-in has expired. Sign in again."))
        }
        None => (None, None),
    };
    // A person who has signed in sees the scope that they can grant.
    let grantable = grantor.as_ref().map(|grantor| meet_all(&grantor.permissions, &scope));
    let shown = grantable.filter(|scope| !scope.is_empty()).unwrap_or_else(|| scope.clone());
    let person = person.as_ref().filter(|_| grantor.is_some());
    let view = PageView { client, redirect, fields: &fields, person, scope: &shown };
    if error.is_some() || !consent_request.posted {
        return Ok(view.page(error));
    }
    let grantable = GrantableRequest { call, consent_request, client, redirect, challenge, resource, scope };
    grantable.decide(&view, grantor).await
}

impl GrantableRequest<'_> {
    /// Acts on the submitted form.
    async fn decide(self, view: &PageView<'_>, grantor: Option<Grantor>) -> Result<Answer, EndpointError> {
        let Self { call, consent_request, client, redirect, challenge, resource, scope } = self;
        // Only the gateway's own page may submit the form.
        if call.request.header("origin").is_some_and(|origin| origin != redirect.issuer && origin != "null")
            || call.request.header("sec-fetch-site").is_some_and(|site| site != "same-origin")
        {
            return Ok(failure("The form was not sent from this page."));
        }
        if let Some(name) = consent_request.request.get("sign_in") {
            return sign_in::begin(call, client, name, view.fields).ok_or_else(|| {
                OAuthError::new(OAuthErrorCode::InvalidRequest, "the issuer does not offer sign-in").into()
            });
        }
        match consent_request.request.get("decision") {
            Some("allow") => {}
            Some("deny") => return Ok(redirect.denied()),
            _ => {
                return Err(
                    OAuthError::new(OAuthErrorCode::AccessDenied, "the person did not allow the request").into()
                );
            }
        }
        let grantor = match grantor {
            Some(grantor) => Ok(grantor),
            None => grantor_by_key(call, consent_request, client).await?,
        };
        let Grantor { realm, subject, permissions, roles } = match grantor {
            Ok(grantor) => grantor,
            Err(error) => return Ok(view.page(Some(error))),
        };
        let scope = meet_all(&permissions, &scope);
        if scope.is_empty() {
            return Ok(view.page(Some("You have none of these permissions yourself.")));
        }
        let allowed = GrantedAccess { client: client.client_id.clone(), subject, scope, resource, roles };
        let code = store_grant(&realm, client, allowed, redirect.uri, challenge).await?;
        Ok(redirect.with(&[("code", &code)]))
    }
}

/// The data of the consent page.
struct PageView<'a> {
    client: &'a ResolvedClient,
    redirect: &'a ClientRedirect<'a>,
    fields: &'a [(&'static str, String)],
    person: Option<&'a SignedInPerson>,
    scope: &'a [String],
}

impl PageView<'_> {
    fn page(&self, error: Option<&str>) -> Answer {
        let Self { client, redirect, fields, person, scope } = self;
        page::consent(&ConsentPage {
            client: &client.registration.name,
            source: client.source(),
            redirect_uri: redirect.uri,
            scope,
            fields,
            person: person.map(|person| (person.identity.subject.as_str(), person.state.as_str())),
            issuers: &sign_in::issuers_for(client),
            error,
        })
    }
}

/// The person who has signed in: in the request before this one, or in this browser before the form was submitted. A
/// link cannot assert a sign-in.
fn signed_in_person(call: &Call, consent_request: &ConsentRequest, client: &ResolvedClient) -> Option<SignedInPerson> {
    match (&consent_request.person, consent_request.posted) {
        (Some(person), _) => Some(person.clone()),
        (None, true) => sign_in::read(call, client, consent_request.request.get("person")?),
        (None, false) => None,
    }
}

/// The grantor for a person who has signed in, or the reason why there is none.
async fn grantor_by_sign_in(
    client: &ResolvedClient,
    person: &SignedInPerson,
) -> Result<(Option<Grantor>, Option<&'static str>), EndpointError> {
    let identity = &person.identity;
    if !client.serves(&identity.tenant) {
        return Ok((None, Some("This app belongs to another tenant.")));
    }
    let Some(realm) = client.within(identity.tenant.as_str()).await? else {
        return Ok((None, Some("Your tenant has been deleted.")));
    };
    let permissions = identity.permissions(&realm);
    let grantor = Grantor { realm, subject: identity.subject.clone(), permissions, roles: identity.roles.clone() };
    Ok((Some(grantor), None))
}

/// The grantor for an API key, or the reason why there is none.
async fn grantor_by_key(
    call: &Call,
    consent_request: &ConsentRequest,
    client: &ResolvedClient,
) -> Result<Result<Grantor, &'static str>, EndpointError> {
    let admin_key = auth::admin_key(&call.settings)?;
    let key = consent_request.request.get("api_key").unwrap_or_default().trim();
    logins::check(call)?;
    match auth::recognize(key, admin_key, None, Age::Current).await {
        // Only API keys: a grant by an access token would outlive the token.
        Ok((Principal { principal, tenant, permissions, .. }, snapshot))
            if principal.key().is_some() && client.serves(&tenant) =>
        {
            let realm = Realm { tenant, snapshot };
            Ok(Ok(Grantor { realm, subject: principal, permissions, roles: Vec::new() }))
        }
        Ok(_) => Ok(Err("Use an API key of a tenant that this app serves.")),
        Err(problem) if problem.code == Code::Unauthenticated => {
            logins::failed(call, Login::Key(key)).await?;
            credentials::note(call, key, None).await;
            Ok(Err("This key is invalid, has expired or was revoked."))
        }
        Err(problem) => Err(problem.into()),
    }
}

/// Stores the grant and returns its code.
async fn store_grant(
    realm: &Realm,
    client: &ResolvedClient,
    allowed: GrantedAccess,
    redirect_uri: &str,
    challenge: &str,
) -> Result<String, EndpointError> {
    let now = clock::now();
    let id = ulid(now, random::bytes());
    let (code, code_hash) = mint(realm, &id, GrantToken::Code);
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
        seen: client.seen.clone(),
    };
    let begin = Begin(Box::new(grant));
    protocol::call(&Grants::grant(&realm.tenant, &id), &begin).await.map_err(internal)?;
    Ok(code)
}
