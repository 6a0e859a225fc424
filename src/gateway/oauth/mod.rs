//! `/oauth/…` and `/.well-known/…`: the authorization server (OAuth 2.1), served only while it is on.
//!
//! It answers in OAuth's own form, not in problem details. What is decided about clients, grants and keys is in
//! `core/oauth`; what is used once is decided in a `GrantStore`.

mod authorize;
mod clients;
mod consent;
mod documents;
pub mod listed;
mod metadata;
mod page;
mod redirect;
mod register;
mod sign_in;
mod token;
mod tokens;

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

/// When what cannot be had now may be asked for again, in seconds.
const RETRY_AFTER: &str = "30";

/// What is served, by path.
pub enum Endpoint<'p> {
    /// RFC 8414.
    Server,
    /// RFC 9728: of the API, or of the resource at this path.
    Resource(&'p str),
    Keys,
    Authorize,
    /// Where people come back to who have signed in elsewhere.
    SignedIn,
    Token,
    Revoke,
    Introspect,
    /// RFC 7591, where it is switched on.
    Register,
}

pub async fn serve(call: &Call, endpoint: &Endpoint<'_>) -> Result<Answer, Problem> {
    // Its own keys are stored encrypted.
    require_key()?;
    let answered = match endpoint {
        Endpoint::Server => return metadata::server(call),
        Endpoint::Resource(path) => return metadata::resource(call, path),
        Endpoint::Keys => return metadata::keys().await,
        Endpoint::Authorize => return authorize::serve(call).await,
        // A look at the page must not use up a sign-in.
        Endpoint::SignedIn if call.is_head() => return Ok(page::failure("Signing in is a matter of GET.")),
        Endpoint::SignedIn => return authorize::signed_in(call).await,
        Endpoint::Token => token::serve(call).await,
        Endpoint::Revoke => tokens::revoke(call).await,
        Endpoint::Introspect => tokens::introspect(call).await,
        Endpoint::Register => register::serve(call).await,
    };
    answered.or_else(|failed| match failed {
        Failed::Refused(refused) => refusal(call, &refused),
        Failed::Problem(problem) => Err(problem),
    })
}

/// The metadata of the resource at a path.
pub async fn resource(call: &Call, path: &str) -> Result<Answer, Problem> {
    serve(call, &Endpoint::Resource(path)).await
}

/// Why a request has no answer of its own: OAuth's refusals, and failures of the gateway.
pub enum Failed {
    Refused(OAuthError),
    Problem(Problem),
}

impl From<OAuthError> for Failed {
    fn from(refused: OAuthError) -> Self {
        Failed::Refused(refused)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Failed::Problem(problem)
    }
}

/// RFC 6749 §5.2.
fn refusal(call: &Call, refused: &OAuthError) -> Result<Answer, Problem> {
    let unknown = refused.error == OAuthErrorCode::InvalidClient;
    let body = json!({"error": refused.error.as_str(), "error_description": refused.description});
    let mut answer = Answer::json(refused.error.status(), &body)?;
    answer.code = Some(refused.error.as_str());
    if refused.error == OAuthErrorCode::TemporarilyUnavailable {
        answer = answer.with("retry-after", RETRY_AFTER);
    }
    if refused.error == OAuthErrorCode::UnsupportedMediaType {
        answer = answer.with("accept-encoding", "identity").with("accept", "application/x-www-form-urlencoded");
    }
    if unknown && call.request.header("authorization").is_some() {
        return Ok(answer.with("www-authenticate", r#"Basic realm="narthex""#));
    }
    Ok(answer)
}

/// What the gateway calls itself.
fn origin(call: &Call) -> String {
    origin_of(&call.request, &call.settings)
}

/// The form a request carries.
async fn form(call: &Call) -> Result<Form, Failed> {
    let refused = match media_type::form(call.content_type()) {
        Ok(()) if call.is_plain() => None,
        Ok(()) => Some(OAuthError::new(
            OAuthErrorCode::UnsupportedMediaType,
            "send the form as it is, without Content-Encoding",
        )),
        Err(UnsupportedBody::Charset) => {
            Some(OAuthError::new(OAuthErrorCode::UnsupportedMediaType, "send the form in UTF-8"))
        }
        Err(UnsupportedBody::Type) => {
            Some(OAuthError::new(OAuthErrorCode::InvalidRequest, "send application/x-www-form-urlencoded"))
        }
    };
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    let body = call.request.body(MAX_FORM_BYTES, call.settings.body_timeout_ms).await;
    let body = body.map_err(|unread| match unread {
        BodyError::TooLarge => Failed::from(OAuthError::new(OAuthErrorCode::InvalidRequest, "the form is too large")),
        BodyError::TooSlow => OAuthError::new(OAuthErrorCode::RequestTimeout, "the form did not arrive in time").into(),
        BodyError::Broken(failure) => broken(failure).into(),
    })?;
    Ok(Form::read(&body)?)
}
