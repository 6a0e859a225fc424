//! Error responses: problem details (RFC 9457).
//!
//! One enum of codes determines the status, the response and the log line. The `detail` is for clients and never
//! contains a service's own words or internal errors, which go to the log.

use serde::Serialize;

use crate::base::json::Fault;

/// Registered by draft-ietf-httpapi-ratelimit-headers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Every code with which a request can be rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidJson,
    InvalidRequest,
    ValidationFailed,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    PreconditionFailed,
    PreconditionRequired,
    PayloadTooLarge,
    HeaderTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    RateLimited,
    QueueFull,
    NoServiceAvailable,
    UpgradeRequired,
    NotConfigured,
    Internal,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidJson => "invalid_json",
            Code::InvalidRequest => "invalid_request",
            Code::ValidationFailed => "validation_failed",
            Code::Unauthenticated => "unauthenticated",
            Code::PermissionDenied => "permission_denied",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::RequestTimeout => "request_timeout",
            Code::Conflict => "conflict",
            Code::PreconditionFailed => "precondition_failed",
            Code::PreconditionRequired => "precondition_required",
            Code::PayloadTooLarge => "payload_too_large",
            Code::HeaderTooLarge => "header_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::IdempotencyKeyReused => "idempotency_key_reused",
            Code::RateLimited => "rate_limited",
            Code::QueueFull => "queue_full",
            Code::NoServiceAvailable => "no_service_available",
            Code::UpgradeRequired => "upgrade_required",
            Code::NotConfigured => "not_configured",
            Code::Internal => "internal",
        }
    }

    pub fn status(self) -> u16 {
        match self {
            Code::InvalidJson | Code::InvalidRequest => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::RequestTimeout => 408,
            Code::Conflict => 409,
            Code::PreconditionFailed => 412,
            Code::PayloadTooLarge => 413,
            Code::UnsupportedMediaType => 415,
            Code::ValidationFailed | Code::IdempotencyKeyReused => 422,
            Code::UpgradeRequired => 426,
            Code::PreconditionRequired => 428,
            Code::RateLimited => 429,
            Code::HeaderTooLarge => 431,
            Code::Internal => 500,
            Code::QueueFull | Code::NoServiceAvailable | Code::NotConfigured => 503,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Code::InvalidJson => "The body is not acceptable JSON",
            Code::InvalidRequest => "The request is malformed",
            Code::ValidationFailed => "Validation failed",
            Code::Unauthenticated => "Valid credentials are required",
            Code::PermissionDenied => "The credentials do not permit this",
            Code::NotFound => "Not found",
            Code::MethodNotAllowed => "The method is not allowed here",
            Code::RequestTimeout => "The body did not arrive in time",
            Code::Conflict => "The state of the resource does not allow this",
            Code::PreconditionFailed => "The resource has changed",
            Code::PreconditionRequired => "A precondition is required",
            Code::PayloadTooLarge => "The body is too large",
            Code::HeaderTooLarge => "The headers are too large",
            Code::UnsupportedMediaType => "The body's media type is not supported",
            Code::IdempotencyKeyReused => "The idempotency key was used for a different request",
            Code::RateLimited => "Too many requests",
            Code::QueueFull => "The service's queue is full",
            Code::NoServiceAvailable => "No service is available",
            Code::UpgradeRequired => "This path requires a WebSocket upgrade",
            Code::NotConfigured => "The gateway is not configured",
            Code::Internal => "The gateway failed",
        }
    }
}

/// A rejected request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    pub detail: String,
    pub errors: Vec<Fault>,
    /// Further headers, such as `Allow` or `Retry-After`.
    pub headers: Vec<(&'static str, String)>,
    /// The exceeded limits; or the missing permission, followed by the built-in roles that have it.
    pub named: Box<[String]>,
    /// For the log only.
    pub cause: Option<String>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            named: Box::default(),
            cause: None,
        }
    }

    /// The exceeded limits.
    pub fn violated(&self) -> &[String] {
        if self.code == Code::RateLimited { &self.named } else { &[] }
    }

    /// The permission that is missing.
    pub fn missing(&self) -> Option<&str> {
        self.named.first().filter(|_| self.code == Code::PermissionDenied).map(String::as_str)
    }

    /// The built-in roles that have the missing permission.
    fn roles(&self) -> &[String] {
        if self.code == Code::PermissionDenied { self.named.get(1..).unwrap_or_default() } else { &[] }
    }

    /// A problem for a resource that does not exist or is not visible; `what` is its kind.
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("No such {what}, or you do not have access to it."))
    }

    /// A problem for a document with faults.
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is invalid; see `errors`.".to_string(),
            n => format!("{n} fields are invalid; see `errors`."),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// A problem for a failure of the gateway. `cause` goes to the log, never to the client.
    pub fn internal(cause: impl Into<String>) -> Self {
        let detail =
            "The request was not served. Try again. If it persists, send the request id to the gateway's operator.";
        Self { cause: Some(cause.into()), ..Self::new(Code::Internal, detail) }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The body of the response. `instance`: the path of the request.
    pub fn body(&self, instance: &str, request_id: &str) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            instance: &'a str,
            code: &'a str,
            request_id: &'a str,
            #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
            errors: &'a [Fault],
            #[serde(rename = "violated-policies", skip_serializing_if = "<[String]>::is_empty")]
            violated: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            permission: Option<&'a str>,
            /// The built-in roles that have it.
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            roles: &'a [String],
        }
        serde_json::to_string(&Body {
            r#type: match self.code {
                Code::RateLimited => QUOTA_EXCEEDED.into(),
                code => format!("urn:narthex:problem:{}", code.as_str()),
            },
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            instance,
            code: self.code.as_str(),
            request_id,
            errors: &self.errors,
            violated: self.violated(),
            permission: self.missing(),
            roles: self.roles(),
        })
        .unwrap_or_default()
    }
}
