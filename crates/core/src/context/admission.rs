//! The data of a new context.

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::retry::Retry;
use super::status::{Priority, Source};
use crate::base::content::Content;
use crate::base::id::ContextId;
use crate::base::object_name::ObjectName;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::models::call_price::CallPrice;
use crate::models::endpoint::Endpoint;

/// What the gateway decided about a new context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Admission {
    pub id: ContextId,
    pub tenant: TenantId,
    pub owner: PrincipalId,
    /// The display name of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    /// The role of the owner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// The model, under the name that usage counts it by: one that is configured, or `*` for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_model: Option<String>,
    /// The context that this one replays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<ContextId>,
    pub capability: String,
    /// What the client requires: a service, a version range, tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_service: Option<ServiceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_tags: Vec<String>,
    /// The router's choice for the first attempt.
    pub service: ServiceId,
    pub version: Version,
    /// The price of a call of that service, or of the one that was called last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<CallPrice>,
    pub idempotent: bool,
    pub retry: Retry,
    pub priority: Priority,
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// The trace context, as a `traceparent`.
    pub trace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// The capabilities of the MCP client that waits for it, which are passed on to a service that is an MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Box<RawValue>>,
    /// The session of that client at the gateway. It has its own session at an MCP server that keeps sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<ObjectName>,
    /// That client cannot be asked for input while this call runs: no stream to it is open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unasked: bool,
    /// The lowest level of log messages that the client wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// The `_meta` object of the client's call, for a service that is an MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Box<RawValue>>,
    /// What is kept of the parameters and the result.
    #[serde(default, skip_serializing_if = "Content::is_full")]
    pub content: Content,
    /// The gateway's own origin for callback URLs: scheme and authority. Calls by the endpoints of models have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

impl Admission {
    /// Whether it is a call by an endpoint of models.
    pub fn is_model_call(&self) -> bool {
        self.origin.is_empty() && Endpoint::uses_model(&self.capability)
    }
}
