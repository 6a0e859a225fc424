//! The authorization server (OAuth 2.1, RFC 6749, 7636, 8707, 9700): clients, grants, forms, and its own keys.

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

/// Error codes of OAuth (RFC 6749 §4.1.2.1, §5.2; RFC 7591 §3.2.2; RFC 8707 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthErrorCode {
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
    /// Something required for the decision is unavailable: the same request may succeed later.
    TemporarilyUnavailable,
    InvalidRedirectUri,
    InvalidClientMetadata,
    /// Not an OAuth code: RFC 9110 §15.5.9 in the form of OAuth.
    RequestTimeout,
    /// Not an OAuth code: RFC 9110 §15.5.16 in the form of OAuth.
    UnsupportedMediaType,
}

impl OAuthErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            OAuthErrorCode::InvalidRequest => "invalid_request",
            OAuthErrorCode::InvalidClient => "invalid_client",
            OAuthErrorCode::InvalidGrant => "invalid_grant",
            OAuthErrorCode::InvalidScope => "invalid_scope",
            OAuthErrorCode::InvalidTarget => "invalid_target",
            OAuthErrorCode::UnauthorizedClient => "unauthorized_client",
            OAuthErrorCode::UnsupportedGrantType => "unsupported_grant_type",
            OAuthErrorCode::UnsupportedResponseType => "unsupported_response_type",
            OAuthErrorCode::AccessDenied => "access_denied",
            OAuthErrorCode::ServerError => "server_error",
            OAuthErrorCode::TemporarilyUnavailable => "temporarily_unavailable",
            OAuthErrorCode::InvalidRedirectUri => "invalid_redirect_uri",
            OAuthErrorCode::InvalidClientMetadata => "invalid_client_metadata",
            OAuthErrorCode::RequestTimeout => "request_timeout",
            OAuthErrorCode::UnsupportedMediaType => "unsupported_media_type",
        }
    }

    pub fn status(self) -> u16 {
        match self {
            OAuthErrorCode::InvalidClient => 401,
            OAuthErrorCode::RequestTimeout => 408,
            OAuthErrorCode::UnsupportedMediaType => 415,
            OAuthErrorCode::TemporarilyUnavailable => 503,
            _ => 400,
        }
    }
}

/// A rejected request, with a description for developers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthError {
    pub error: OAuthErrorCode,
    pub description: String,
}

impl OAuthError {
    /// `description` must be printable ASCII without quotes (RFC 6749 §5.2).
    pub fn new(error: OAuthErrorCode, description: impl Into<String>) -> Self {
        Self { error, description: description.into() }
    }
}
