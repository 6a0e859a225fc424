//! The authorization endpoint: where a person is asked whether a client may act for them, and how the answer goes back.
//!
//! Until the client and its address are known to be good, refusals are a page; from then on they go to the client
//! (RFC 6749 §4.1.2.1), if somebody here has registered it. A client that only says who it is gets no one sent to it
//! before a person has decided something (RFC 9700 §4.11.2): its refusals stay pages.

use narthex_core::access::oauth::OAuthError;
use narthex_core::access::oauth::client::{Client, GrantType};
use narthex_core::access::oauth::form::Form;
use narthex_core::http::problem::Problem;

use super::super::answer::Answer;
use super::super::call::Call;
use super::super::limits::logins;
use super::clients::{Known, look_up};
use super::consent::{self, Visit};
use super::documents::is_address;
use super::page::{failed_sign_in, failure, failure_as};
use super::redirect::{Back, refusal};
use super::sign_in::{self, SignedIn};
use super::{Failed, form, origin};

pub async fn serve(call: &Call) -> Result<Answer, Problem> {
    let posted = call.method() == "POST";
    let request = if posted { form(call).await } else { Form::read(call.query_text().as_bytes()).map_err(Into::into) };
    match request {
        Ok(request) => respond(call, Visit { request, posted, signed: None }).await,
        Err(Failed::Refused(refused)) => Ok(failure_as(refused.error.status(), &refused.description)),
        Err(Failed::Problem(problem)) => Err(problem),
    }
}

/// The issuer sends a person back here: the request that they signed in for is taken up again.
pub async fn signed_in(call: &Call) -> Result<Answer, Problem> {
    match sign_in::back(call).await? {
        SignedIn::Person { request, signed } => {
            respond(call, Visit { request, posted: false, signed: Some(signed) }).await
        }
        SignedIn::Failed { request, refused } => give_up(call, &request, &refused).await,
        SignedIn::Unknown(page) => Ok(page),
    }
}

/// Shows the page, or does what the page was answered.
async fn respond(call: &Call, visit: Visit) -> Result<Answer, Problem> {
    let (known, redirect_uri) = match asker(call, &visit.request).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let back = Back { uri: &redirect_uri, state: visit.request.get("state"), issuer: &origin(call) };
    match consent::answer(call, &visit, &known, &back).await {
        Ok(answer) => Ok(answer),
        Err(Failed::Refused(refused)) if known.is_trusted() => Ok(back.refusal(&refused)),
        Err(Failed::Refused(refused)) => {
            let text = format!("The app asks for something that cannot be given: {}.", refused.description);
            Ok(failure(&text))
        }
        Err(Failed::Problem(problem)) => Err(problem),
    }
}

/// Tells the app that nobody has signed in, and why.
async fn give_up(call: &Call, request: &Form, refused: &OAuthError) -> Result<Answer, Problem> {
    let (known, redirect_uri) = match asker(call, request).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let back = Back { uri: &redirect_uri, state: request.get("state"), issuer: &origin(call) };
    if known.is_trusted() {
        return Ok(back.refusal(refused));
    }
    let to = back.location(&refusal(refused));
    Ok(failed_sign_in(&refused.description, &known.client.name, &redirect_uri, &to))
}

/// The client and where its answer goes, or the page that says what is wrong with them.
async fn asker(call: &Call, request: &Form) -> Result<Result<(Known, String), Answer>, Problem> {
    let id = request.get("client_id").unwrap_or_default();
    if is_address(id) {
        logins::check(call)?;
    }
    let known = match look_up(call, id).await {
        Ok(known) => known.filter(|known| known.client.may(GrantType::AuthorizationCode)),
        Err(Failed::Problem(problem)) => return Err(problem),
        Err(Failed::Refused(refused)) => {
            logins::failed(call).await?;
            let page =
                failure_as(refused.error.status(), "What the app says of itself cannot be read now. Try again later.");
            return Ok(Err(page.with("retry-after", super::RETRY_AFTER)));
        }
    };
    let Some(known) = known else {
        // An id that is made up costs a look at somebody's server.
        if is_address(id) {
            logins::failed(call).await?;
        }
        return Ok(Err(failure("The app is not known here.")));
    };
    Ok(match redirect_uri(&known.client, request) {
        Some(redirect_uri) => Ok((known, redirect_uri)),
        None => Err(failure("The app asks to send you to an address that it has not registered.")),
    })
}

/// Where the answer goes. It may be left out where there is only one (OAuth 2.1 §4.1.1).
fn redirect_uri(client: &Client, request: &Form) -> Option<String> {
    match (request.get("redirect_uri"), client.redirect_uris.as_slice()) {
        (Some(uri), _) => client.redirects_to(uri).then(|| uri.to_string()),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}
