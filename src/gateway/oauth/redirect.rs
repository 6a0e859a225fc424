//! Redirects to the client with the result of its request.

use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};

use super::super::answer::Answer;

pub fn error_members(error: &OAuthError) -> [(&str, &str); 2] {
    [("error", error.error.as_str()), ("error_description", &error.description)]
}

/// The redirect of one authorization request.
pub struct ClientRedirect<'a> {
    pub uri: &'a str,
    pub state: Option<&'a str>,
    pub issuer: &'a str,
}

impl ClientRedirect<'_> {
    /// The redirect URI with response members. `iss` is one of them in every response (RFC 9207).
    pub fn location(&self, members: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(members);
        if let Some(state) = self.state {
            query.append_pair("state", state);
        }
        let query = query.append_pair("iss", self.issuer).finish();
        let joint = if self.uri.contains('?') { '&' } else { '?' };
        format!("{}{joint}{query}", self.uri)
    }

    /// Redirects with 303, so that the browser does not forward the form, which contains the key.
    pub fn with(&self, members: &[(&str, &str)]) -> Answer {
        Answer::empty(303).with("location", &self.location(members)).with("referrer-policy", "no-referrer")
    }

    pub fn error(&self, error: &OAuthError) -> Answer {
        self.with(&error_members(error))
    }

    /// The person denied the request on the gateway's own page, so even an untrusted client is notified.
    pub fn denied(&self) -> Answer {
        self.error(&OAuthError::new(OAuthErrorCode::AccessDenied, "the person denied the request"))
    }
}
