//! The authorization server's decisions (OAuth 2.1, RFC 6749, 7636, 8707, 9700): clients, grants, forms, its own keys.

pub mod access_token;
pub mod client;
pub mod client_metadata;
pub mod form;
pub mod grant;
pub mod grant_list;
pub mod metadata_document;
pub mod redirect_uri;
pub mod registrations;
pub mod signed_state;
pub mod signing_keys;

/// Why an OAuth request is refused (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2; RFC 8707 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    InvalidTarget,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    AccessDenied,
    ServerError,
    /// What is needed to decide cannot be had now: the same request may be good later.
    TemporarilyUnavailable,
    InvalidRedirectUri,
    InvalidClientMetadata,
    /// None of theirs: RFC 9110 §15.5.9, in their form.
    RequestTimeout,
    /// RFC 9110 §15.5.16, in their form.
    UnsupportedMediaType,
}

impl Error {
    pub fn as_str(self) -> &'static str {
        match self {
            Error::InvalidRequest => "invalid_request",
            Error::InvalidClient => "invalid_client",
            Error::InvalidGrant => "invalid_grant",
            Error::InvalidScope => "invalid_scope",
            Error::InvalidTarget => "invalid_target",
            Error::UnauthorizedClient => "unauthorized_client",
            Error::UnsupportedGrantType => "unsupported_grant_type",
            Error::UnsupportedResponseType => "unsupported_response_type",
            Error::AccessDenied => "access_denied",
            Error::ServerError => "server_error",
            Error::TemporarilyUnavailable => "temporarily_unavailable",
            Error::InvalidRedirectUri => "invalid_redirect_uri",
            Error::InvalidClientMetadata => "invalid_client_metadata",
            Error::RequestTimeout => "request_timeout",
            Error::UnsupportedMediaType => "unsupported_media_type",
        }
    }

    pub fn status(self) -> u16 {
        match self {
            Error::InvalidClient => 401,
            Error::RequestTimeout => 408,
            Error::UnsupportedMediaType => 415,
            Error::TemporarilyUnavailable => 503,
            _ => 400,
        }
    }
}

/// A refusal, with what a developer should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub error: Error,
    pub description: String,
}

impl Refused {
    /// RFC 6749 allows printable ASCII without quotes in a description; every caller's text is such.
    pub fn new(error: Error, description: impl Into<String>) -> Self {
        Self { error, description: description.into() }
    }
}
