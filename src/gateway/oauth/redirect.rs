//! The way back to the client, with what came of its request.

use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};

use super::super::answer::Answer;

pub fn refusal(refused: &OAuthError) -> [(&str, &str); 2] {
    [("error", refused.error.as_str()), ("error_description", &refused.description)]
}

/// The way back to the client.
pub struct Back<'a> {
    pub uri: &'a str,
    pub state: Option<&'a str>,
    pub issuer: &'a str,
}

impl Back<'_> {
    /// `iss` is in every answer (RFC 9207).
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

    /// 303, so that the form with the key in it is not sent on.
    pub fn with(&self, members: &[(&str, &str)]) -> Answer {
        Answer::empty(303).with("location", &self.location(members)).with("referrer-policy", "no-referrer")
    }

    pub fn refusal(&self, refused: &OAuthError) -> Answer {
        self.with(&refusal(refused))
    }

    /// The person said no on the gateway's own page, so any client is told.
    pub fn denied(&self) -> Answer {
        self.refusal(&OAuthError::new(OAuthErrorCode::AccessDenied, "the person did not allow it"))
    }
}
