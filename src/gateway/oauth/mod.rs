//! `/oauth/…` and `/.well-known/…`: the authorization server (OAuth 2.1), served only while it is on.
//!
//! Errors have OAuth's own form, not that of problem details. The rules for clients, grants and keys are in
//! `narthex_core::access::oauth`; a `GrantStore` decides about everything that may be used only once.

mod authorize;
mod clients;
mod consent;
mod documents;
pub mod grants;
mod issued_tokens;
mod metadata;
mod page;
mod redirect;
mod register;
mod sign_in;
pub(super) mod token;

use serde_json::json;

use crate::auth::origin_of;
use crate::platform::http::BodyError;
use narthex_core::access::oauth::form::Form;
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::http::media_type::{self, UnsupportedBody};
use narthex_core::http::problem::Problem;

use super::answer::Answer;
use super::call::{Call, broken};
use super::services::require_key;

/// The largest form, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// `Retry-After` of a temporary failure, in seconds.
const RETRY_AFTER: &str = "30";

/// An endpoint of the authorization server.
pub enum Endpoint<'p> {
    /// RFC 8414.
    Server,
    /// RFC 9728: of the API, or of the resource at this path.
    Resource(&'p str),
    Keys,
    Authorize,
    /// The redirect target after a sign-in at an external issuer.
    SignedIn,
    Token,
    Revoke,
    Introspect,
    /// RFC 7591, if it is switched on.
    Register,
}

pub async fn serve(call: &Call, endpoint: &Endpoint<'_>) -> Result<Answer, Problem> {
    // The signing keys are stored encrypted.
    require_key()?;
    let answer = match endpoint {
        Endpoint::Server => return metadata::server(call),
        Endpoint::Resource(path) => return metadata::resource(call, path),
        Endpoint::Keys => return metadata::keys().await,
        Endpoint::Authorize => return authorize::serve(call).await,
        // HEAD must not use up a sign-in.
        // It uses nothing up. Its length is that of the page that a GET without a sign-in gets (RFC 9110 §8.6).
        Endpoint::SignedIn if call.is_head() => return Ok(page::failure("Sign-in failed. Start again in the app.")),
        Endpoint::SignedIn => return authorize::signed_in(call).await,
        Endpoint::Token => token::serve(call).await,
        Endpoint::Revoke => issued_tokens::revoke(call).await,
        Endpoint::Introspect => issued_tokens::introspect(call).await,
        Endpoint::Register => register::serve(call).await,
    };
    answer.or_else(|error| match error {
        EndpointError::OAuth(error) => error_answer(call, &error),
        EndpointError::Problem(problem) => Err(problem),
    })
}

/// The metadata of the resource at a path.
pub async fn resource(call: &Call, path: &str) -> Result<Answer, Problem> {
    serve(call, &Endpoint::Resource(path)).await
}

/// The error of an endpoint: OAuth's own, or a problem of the gateway.
pub enum EndpointError {
    OAuth(OAuthError),
    Problem(Problem),
}

impl From<OAuthError> for EndpointError {
    fn from(error: OAuthError) -> Self {
        EndpointError::OAuth(error)
    }
}

impl From<Problem> for EndpointError {
    fn from(problem: Problem) -> Self {
        EndpointError::Problem(problem)
    }
}

/// RFC 6749 §5.2.
fn error_answer(call: &Call, error: &OAuthError) -> Result<Answer, Problem> {
    let is_unknown_client = error.error == OAuthErrorCode::InvalidClient;
    let body = json!({"error": error.error.as_str(), "error_description": error.description});
    let mut answer = Answer::json(error.error.status(), &body)?;
    answer.code = Some(error.error.as_str());
    if error.error == OAuthErrorCode::TemporarilyUnavailable {
        answer = answer.with("retry-after", RETRY_AFTER);
    }
    if error.error == OAuthErrorCode::UnsupportedMediaType {
        answer = answer.with("accept-encoding", "identity").with("accept", "application/x-www-form-urlencoded");
    }
    if is_unknown_client && call.request.header("authorization").is_some() {
        return Ok(answer.with("www-authenticate", r#"Basic realm="narthex""#));
    }
    Ok(answer)
}

/// The gateway's issuer URL.
fn origin(call: &Call) -> String {
    origin_of(&call.request, &call.settings)
}

/// The form in the body of a request.
async fn form(call: &Call) -> Result<Form, EndpointError> {
    let error = match media_type::form(call.content_type()) {
        Ok(()) if call.is_plain() => None,
        Ok(()) => Some(OAuthError::new(OAuthErrorCode::UnsupportedMediaType, "send the form without Content-Encoding")),
        Err(UnsupportedBody::Charset) => {
            Some(OAuthError::new(OAuthErrorCode::UnsupportedMediaType, "send the form in UTF-8"))
        }
        Err(UnsupportedBody::Type) => {
            Some(OAuthError::new(OAuthErrorCode::InvalidRequest, "send application/x-www-form-urlencoded"))
        }
    };
    if let Some(error) = error {
        return Err(error.into());
    }
    let body = call.request.body(MAX_FORM_BYTES, call.settings.body_timeout_ms).await;
    let body = body.map_err(|unread| match unread {
        BodyError::TooLarge => {
            EndpointError::from(OAuthError::new(OAuthErrorCode::InvalidRequest, "the form is too large"))
        }
        BodyError::TooSlow => OAuthError::new(OAuthErrorCode::RequestTimeout, "the form did not arrive in time").into(),
        BodyError::Broken(failure) => broken(failure).into(),
    })?;
    Ok(Form::read(&body)?)
}
