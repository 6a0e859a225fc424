//! Error responses: problem details (RFC 9457).
//!
//! One enum of codes determines the status, the response and the log line. The `detail` is for clients and never
//! contains a service's own words or internal errors, which go to the log.

use serde::Serialize;

use crate::base::json::Fault;

/// Registered by draft-ietf-httpapi-ratelimit-headers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Defines [`Code`]: each variant with its status, its word and its title.
macro_rules! codes {
    ($($variant:ident: $status:literal $word:literal $title:literal,)*) => {
        /// Every code with which a request can be rejected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
        pub enum Code {
            $(#[cfg_attr(any(test, feature = "schema"), schemars(rename = $word))] $variant,)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $word,)*
                }
            }

            pub fn status(self) -> u16 {
                match self {
                    $(Code::$variant => $status,)*
                }
            }

            pub fn title(self) -> &'static str {
                match self {
                    $(Code::$variant => $title,)*
                }
            }
        }
    };
}

codes! {
    InvalidJson: 400 "invalid_json" "The body is not acceptable JSON",
    InvalidRequest: 400 "invalid_request" "The request is malformed",
    ValidationFailed: 422 "validation_failed" "Validation failed",
    Unauthenticated: 401 "unauthenticated" "Valid credentials are required",
    PermissionDenied: 403 "permission_denied" "The credentials do not permit this",
    NotFound: 404 "not_found" "Not found",
    MethodNotAllowed: 405 "method_not_allowed" "The method is not allowed here",
    RequestTimeout: 408 "request_timeout" "The body did not arrive in time",
    Conflict: 409 "conflict" "The state of the resource does not allow this",
    PreconditionFailed: 412 "precondition_failed" "The resource has changed",
    PreconditionRequired: 428 "precondition_required" "A precondition is required",
    PayloadTooLarge: 413 "payload_too_large" "The body is too large",
    HeaderTooLarge: 431 "header_too_large" "The headers are too large",
    UnsupportedMediaType: 415 "unsupported_media_type" "The body's media type is not supported",
    IdempotencyKeyReused: 422 "idempotency_key_reused" "The idempotency key was used for a different request",
    ContentNotKept: 422 "content_not_kept" "The content is not kept",
    RateLimited: 429 "rate_limited" "Too many requests",
    LaterVersion: 503 "later_version" "The configuration is of a later version of the gateway",
    QueueFull: 503 "queue_full" "The service's queue is full",
    NoServiceAvailable: 503 "no_service_available" "No service is available",
    StorageFull: 503 "storage_full" "The storage is full",
    Stopping: 503 "stopping" "The gateway is stopping",
    UpgradeRequired: 426 "upgrade_required" "This path requires a WebSocket upgrade",
    NotConfigured: 503 "not_configured" "The gateway is not configured",
    Internal: 500 "internal" "The gateway failed",
}

/// The body of a response.
#[derive(Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub(crate) struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[cfg_attr(any(test, feature = "schema"), schemars(with = "Code"))]
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

/// How the platform says that an object cannot store more, wherever the error has been since.
const STORAGE_FULL: &str = "SQLITE_FULL";

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

    /// A problem for what a later version of the gateway has written and this one cannot read; `what` names it.
    pub fn later_version(what: &str) -> Self {
        let detail = format!(
            "{what} was written by a later version of the gateway, which this version cannot read. During a deployment, \
             try again; after a rollback, deploy that version again or replace what it has written."
        );
        Self::new(Code::LaterVersion, detail).with_header("Retry-After", "30")
    }

    /// A problem for a failure of the gateway. `cause` goes to the log, never to the client.
    pub fn internal(cause: impl Into<String>) -> Self {
        let cause = cause.into();
        let problem = if cause.contains(STORAGE_FULL) {
            let detail = "The gateway could not store what the request needs. It serves again by itself once there is \
                          room: on its disk, or in the object that is full.";
            Self::new(Code::StorageFull, detail).with_header("Retry-After", "10")
        } else {
            let detail =
                "The request was not served. Try again. If it persists, send the request id to the gateway's operator.";
            Self::new(Code::Internal, detail)
        };
        Self { cause: Some(cause), ..problem }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The body of the response. `instance`: the path of the request.
    pub fn body(&self, instance: &str, request_id: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_storage_is_said_as_such_wherever_the_error_has_been() {
        let cause = "hub not reached: Error: database or disk is full: SQLITE_FULL";
        let problem = Problem::internal(cause);
        assert_eq!((problem.code, problem.code.status()), (Code::StorageFull, 503));
        assert_eq!(problem.cause.as_deref(), Some(cause));
        assert!(problem.headers.contains(&("Retry-After", "10".into())));
        assert_eq!(Problem::internal("no such table: SQLITE_ERROR").code, Code::Internal);
    }
}
