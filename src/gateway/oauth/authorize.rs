//! The authorization endpoint: asks a person whether a client may act for them, and redirects to the client.
//!
//! Until the client and its redirect URI are verified, errors are pages. After that they go to the client (RFC 6749
//! §4.1.2.1), if an administrator has registered it. A client known only by its own statement gets no redirect before a
//! person has decided (RFC 9700 §4.11.2): its errors stay pages.

use narthex_core::access::oauth::OAuthError;
use narthex_core::access::oauth::client::{Client, GrantType};
use narthex_core::access::oauth::form::Form;
use narthex_core::http::problem::Problem;

use super::super::answer::Answer;
use super::super::call::Call;
use super::super::limits::logins::{self, Login};
use super::clients::{ResolvedClient, resolve};
use super::consent::{self, ConsentRequest};
use super::documents::is_address;
use super::page::{failed_sign_in, failure, failure_as};
use super::redirect::{ClientRedirect, error_members};
use super::sign_in::{self, SignInOutcome};
use super::{EndpointError, form, origin};

pub async fn serve(call: &Call) -> Result<Answer, Problem> {
    let posted = call.method() == "POST";
    let request = if posted { form(call).await } else { Form::read(call.query_text().as_bytes()).map_err(Into::into) };
    match request {
        Ok(request) => respond(call, ConsentRequest { request, posted, person: None }).await,
        Err(EndpointError::OAuth(error)) => Ok(failure_as(error.error.status(), &error.description)),
        Err(EndpointError::Problem(problem)) => Err(problem),
    }
}

/// The redirect target of external issuers: continues the request that the person signed in for.
pub async fn signed_in(call: &Call) -> Result<Answer, Problem> {
    match sign_in::callback(call).await? {
        SignInOutcome::Person { request, person } => {
            respond(call, ConsentRequest { request, posted: false, person: Some(person) }).await
        }
        SignInOutcome::Failed { request, error } => report_failure(call, &request, &error).await,
        SignInOutcome::Unknown(page) => Ok(page),
    }
}

/// Shows the consent page, or acts on the person's decision.
async fn respond(call: &Call, consent_request: ConsentRequest) -> Result<Answer, Problem> {
    let (client, redirect_uri) = match client_of(call, &consent_request.request).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let redirect =
        ClientRedirect { uri: &redirect_uri, state: consent_request.request.get("state"), issuer: &origin(call) };
    match consent::answer(call, &consent_request, &client, &redirect).await {
        Ok(answer) => Ok(answer),
        Err(EndpointError::OAuth(error)) if client.is_trusted() => Ok(redirect.error(&error)),
        Err(EndpointError::OAuth(error)) => {
            let text = format!("The app's request cannot be granted: {}.", error.description);
            Ok(failure(&text))
        }
        Err(EndpointError::Problem(problem)) => Err(problem),
    }
}

/// Reports a failed sign-in to the app.
async fn report_failure(call: &Call, request: &Form, error: &OAuthError) -> Result<Answer, Problem> {
    let (client, redirect_uri) = match client_of(call, request).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let redirect = ClientRedirect { uri: &redirect_uri, state: request.get("state"), issuer: &origin(call) };
    if client.is_trusted() {
        return Ok(redirect.error(error));
    }
    let location = redirect.location(&error_members(error));
    Ok(failed_sign_in(&error.description, &client.registration.name, &redirect_uri, &location))
}

/// The client and its redirect URI, or a page with their error.
async fn client_of(call: &Call, request: &Form) -> Result<Result<(ResolvedClient, String), Answer>, Problem> {
    let id = request.get("client_id").unwrap_or_default();
    if is_address(id) {
        logins::check(call)?;
    }
    let client = match resolve(call, id).await {
        Ok(client) => client.filter(|client| client.registration.may(GrantType::AuthorizationCode)),
        Err(EndpointError::Problem(problem)) => return Err(problem),
        Err(EndpointError::OAuth(error)) => {
            logins::failed(call, Login::Client(id)).await?;
            let text = "The app's metadata document cannot be read now. Try again later.";
            let page = failure_as(error.error.status(), text);
            return Ok(Err(page.with("retry-after", super::RETRY_AFTER)));
        }
    };
    let Some(client) = client else {
        // A forged id costs a request to another server.
        if is_address(id) {
            logins::failed(call, Login::Client(id)).await?;
        }
        return Ok(Err(failure("This gateway does not know the app.")));
    };
    Ok(match redirect_uri(&client.registration, request) {
        Some(redirect_uri) => Ok((client, redirect_uri)),
        None => Err(failure("The app asked to send you to an address that it has not registered.")),
    })
}

/// The redirect URI of a request. It may be omitted if the client has only one (OAuth 2.1 §4.1.1).
fn redirect_uri(client: &Client, request: &Form) -> Option<String> {
    match (request.get("redirect_uri"), client.redirect_uris.as_slice()) {
        (Some(uri), _) => client.redirects_to(uri).then(|| uri.to_string()),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}
