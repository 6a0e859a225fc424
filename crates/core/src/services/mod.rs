//! Services: registered documents as types, the choice among them (`routing`), their schemas, and the tools of MCP
//! servers. See `transport` for how a service is reached and `capability` for what it offers.
//!
//! Every fault of a document is reported with its pointer. The meaning of responses belongs to `calling`, the measured
//! state of a service to `lane`.

pub mod attempt_timeout;
pub mod capability;
mod content;
pub mod credentials;
pub mod model_routing;
pub mod openai_endpoints;
pub mod outline;
pub mod routing;
pub mod schema;
pub mod tool_apps;
pub mod tool_catalogue;
pub mod transport;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::encrypted_secret::EncryptedSecret;
use crate::access::webhook_signature::Secret;
use crate::base::content::Content;
use crate::base::json::{Fault, Object, child};
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::retry::Retry;
use crate::lane::breaker::BreakerState;
use crate::lane::observed::{HealthStatus, ObservedStatus};
use crate::models::endpoint::Endpoint;
use crate::models::offer::{self, ModelOffer};
use crate::services::capability::Capability;
use crate::services::credentials::{Credentials, Name};
use crate::services::tool_catalogue::{Catalogue, CatalogueView};
use crate::services::transport::{Rules, Transport};

/// The member `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    Llm,
    Tool,
    Database,
    ExternalApi,
    FileStorage,
    Custom,
}

impl ServiceKind {
    /// Reads the API's value.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::from(text)).ok()
    }
}

/// The status of a service, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceStatus {
    Online,
    Degraded,
    Offline,
    /// The service gets no new work.
    Draining,
    /// No measurement, or the last one is stale.
    Unknown,
}

impl From<HealthStatus> for ServiceStatus {
    fn from(status: HealthStatus) -> Self {
        match status {
            HealthStatus::Online => Self::Online,
            HealthStatus::Degraded => Self::Degraded,
            HealthStatus::Offline => Self::Offline,
            HealthStatus::Unknown => Self::Unknown,
        }
    }
}

/// Where and how often health is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct HealthCheck {
    pub path: String,
    pub interval_seconds: u64,
}

/// The concurrency limits of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ServiceLimits {
    pub max_concurrency: Option<u64>,
    pub max_queue: u64,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self { max_concurrency: None, max_queue: 1000 }
    }
}

/// The configuration of a service. Observations (status, latency) are kept separately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ServiceKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    pub transport: Transport,
    pub capabilities: Vec<Capability>,
    /// The models of an endpoint of models, if it lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelOffer>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    pub limits: ServiceLimits,
    pub retry: Retry,
    pub weight: u64,
    pub tier: u64,
    /// Arguments are validated against the input schema before the service gets them.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub check_arguments: bool,
    /// What is kept of the calls of its capabilities, unless they say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// The service gets no new work.
    #[serde(default)]
    pub draining: bool,
    /// The tools of an MCP server, as last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<Box<Catalogue>>,
}

fn yes() -> bool {
    true
}

/// A replaced signing secret, valid until its services have the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiringSecret {
    pub secret: EncryptedSecret,
    pub until: Timestamp,
}

/// A written document: the service, and its secrets.
#[derive(Debug)]
pub struct Registration {
    pub service: Service,
    pub credentials: Option<Credentials>,
    pub signing_secret: Option<String>,
}

/// The public view of a service.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ServiceView<'a> {
    #[serde(flatten)]
    pub service: ConfigurationView<'a>,
    /// The credentials that the service is sent, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Name<'a>>,
    /// `draining` if configured, otherwise the observed status; `unknown` without observations.
    pub status: ServiceStatus,
    /// When this status was first observed.
    pub status_at: Option<String>,
    pub breaker: BreakerView,
    /// The median of recent calls, if any, in milliseconds.
    pub latency_ms: Option<u64>,
    pub created_at: String,
    pub updated_at: String,
}

/// The public view of a breaker.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct BreakerView {
    pub state: BreakerState,
    /// When an open breaker may be tried again.
    pub until: Option<String>,
}

/// The public view of the configuration: everything but the `draining` flag, which `status` shows.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ConfigurationView<'a> {
    pub id: &'a ServiceId,
    pub name: &'a str,
    #[serde(rename = "type")]
    pub kind: ServiceKind,
    pub description: &'a str,
    pub tags: &'a [String],
    pub metadata: Option<&'a RawValue>,
    pub transport: &'a Transport,
    pub capabilities: &'a [Capability],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<&'a [ModelOffer]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<&'a HealthCheck>,
    pub limits: &'a ServiceLimits,
    pub retry: Retry,
    pub weight: u64,
    pub tier: u64,
    #[serde(skip_serializing_if = "Clone::clone")]
    pub check_arguments: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<CatalogueView<'a>>,
}

impl Service {
    /// The public view with the observed status.
    pub fn view(&self, observed: &ObservedStatus, created: Timestamp, updated: Timestamp) -> ServiceView<'_> {
        ServiceView {
            service: ConfigurationView {
                id: &self.id,
                name: &self.name,
                kind: self.kind,
                description: &self.description,
                tags: &self.tags,
                metadata: self.metadata.as_deref(),
                transport: &self.transport,
                capabilities: &self.capabilities,
                models: self.models.as_deref(),
                health: self.health.as_ref(),
                limits: &self.limits,
                retry: self.retry,
                weight: self.weight,
                tier: self.tier,
                check_arguments: self.check_arguments,
                content: self.content,
                catalogue: self.catalogue.as_deref().map(Catalogue::view),
            },
            credentials: Vec::new(),
            status: if self.draining { ServiceStatus::Draining } else { observed.status.into() },
            status_at: (observed.version > 0 && observed.status_at.0 > 0).then(|| observed.status_at.text()),
            breaker: BreakerView { state: observed.breaker, until: observed.breaker_until.map(Timestamp::text) },
            latency_ms: observed.latency_ms,
            created_at: created.text(),
            updated_at: updated.text(),
        }
    }

    /// The public status: `draining` if configured, otherwise the observed one.
    pub fn status(&self, observed: &ObservedStatus) -> &'static str {
        if self.draining { "draining" } else { observed.status.as_str() }
    }

    /// The URL of health probes: the configured path at the origin of the service's own address, so that the checks of
    /// that address apply, or behind its service binding. Without a configured path, the address itself; `None` for
    /// services that are not called.
    pub fn probe_url(&self) -> Option<String> {
        let own = self.transport.probe_url()?;
        let Some(health) = &self.health else { return Some(own) };
        if self.transport.binding().is_some() {
            return Some(health.path.clone());
        }
        let mut probed = url::Url::parse(&own).ok()?;
        let (path, query) = health.path.split_once('?').map_or((health.path.as_str(), None), |(p, q)| (p, Some(q)));
        // Set, not joined: a path that begins with `//` would name another host.
        probed.set_path(path);
        probed.set_query(query);
        probed.set_fragment(None);
        Some(probed.to_string())
    }
}

/// Reads the member `models`. A call of a listed model has the price of its model: a price of its capability as well
/// would leave open which one counts.
fn read_models(
    document: &mut Object<'_>,
    transport: Option<&Transport>,
    capabilities: Option<&[Capability]>,
) -> Option<Vec<ModelOffer>> {
    let models = offer::read(document)?;
    if transport.is_some_and(|transport| !transport.has_models()) {
        document.fault("models", "is only allowed with transport.kind openai, anthropic or demo");
    }
    let at = document.pointer_to("capabilities");
    for (index, capability) in capabilities.unwrap_or_default().iter().enumerate() {
        if capability.price.is_some() && Endpoint::uses_model(&capability.name) {
            let detail = "is not allowed where the service lists models: their calls have the prices of models";
            document.faults([Fault::new(format!("{at}/{index}/price"), detail)]);
        }
    }
    Some(models)
}

/// Members of responses that a document may repeat; they are not configuration.
const READ_ONLY: [&str; 7] = ["id", "status_at", "breaker", "latency_ms", "created_at", "updated_at", "catalogue"];

/// Reads a service document. `text` has passed `json::check`.
pub fn read(id: &ServiceId, text: &str, rules: Rules<'_>) -> Result<Registration, Vec<Fault>> {
    let mut document = Object::new(text, "#").map_err(|fault| vec![fault])?;
    read_fixed(&mut document, id);
    let name = document.string("name", 1..=200);
    let name = document.require("name", name);
    let kind = document.parsed("type", "llm, tool, database, external_api, file_storage or custom", ServiceKind::parse);
    let kind = document.require("type", kind);
    let description = document.string("description", 0..=4000).unwrap_or_default();
    let tags = document.strings("tags", 50, 100).unwrap_or_default();
    let metadata = bounded_raw(&mut document, "metadata", 8 * 1024);
    if metadata.as_ref().is_some_and(|raw| !raw.get().starts_with('{')) {
        document.fault("metadata", "must be an object");
    }
    let transport = transport::read(&mut document, rules);
    let transport = document.require("transport", transport);
    let credentials = credentials::read(&mut document, transport.as_ref(), rules);
    let signing_secret = read_signing_secret(&mut document);
    let capabilities = transport::read_capabilities(transport.as_ref(), &mut document);
    let models = read_models(&mut document, transport.as_ref(), capabilities.as_deref());
    let health = read_health(&mut document);
    if transport.as_ref().is_some_and(Transport::connects) {
        refuse_for_socket(&mut document, credentials.is_some(), health.is_some());
    }
    let limits = read_limits(&mut document);
    let retry = read_retry(&mut document);
    let weight = document.integer("weight", 1..=1000).unwrap_or(1);
    let tier = document.integer("tier", 0..=9).unwrap_or(0);
    let check_arguments = document.boolean("check_arguments").unwrap_or(true);
    let content = content::read(&mut document, transport.as_ref(), capabilities.as_deref().unwrap_or_default());
    let status = document.parsed("status", "draining, or a status observed by the gateway", |text| {
        matches!(text, "draining" | "online" | "degraded" | "offline" | "unknown").then(|| text == "draining")
    });

    let faults = document.finish();
    match (name, kind, transport, capabilities) {
        (Some(name), Some(kind), Some(transport), Some(capabilities)) if faults.is_empty() => Ok(Registration {
            service: Service {
                id: id.clone(),
                name,
                kind,
                description,
                tags,
                metadata,
                transport,
                capabilities,
                models,
                health,
                limits,
                retry,
                weight,
                tier,
                check_arguments,
                content,
                draining: status.unwrap_or(false),
                catalogue: None,
            },
            credentials,
            signing_secret,
        }),
        _ => Err(faults),
    }
}

/// Checks the members that cannot be chosen: the id, and those that only responses have.
fn read_fixed(document: &mut Object<'_>, id: &ServiceId) {
    if !ServiceId::is_valid(id.as_str()) {
        document.fault("id", "must be 1 to 64 lower-case letters, digits, - or _, beginning with a letter or digit");
    }
    if document.raw("id").is_some_and(|given| given.get() != format!("\"{id}\"")) {
        document.fault("id", "must be the id in the path");
    }
    for name in READ_ONLY {
        document.raw_or_null(name);
    }
}

/// Members without a meaning for a service that is not called.
fn refuse_for_socket(document: &mut Object<'_>, has_credentials: bool, has_health: bool) {
    for (given, name) in [(has_credentials, "credentials"), (has_health, "health")] {
        if given {
            document.fault(name, "is not allowed with transport.kind socket: the service connects to the gateway");
        }
    }
}

/// Reads the member `signing_secret`.
pub fn read_signing_secret(document: &mut Object<'_>) -> Option<String> {
    document.parsed("signing_secret", "whsec_ and base64 of 24 to 64 bytes", |text| {
        Secret::parse(text).map(|_| text.to_string())
    })
}

fn bounded_raw(document: &mut Object<'_>, name: &str, limit: usize) -> Option<Box<RawValue>> {
    let raw = document.raw(name)?;
    if raw.get().len() > limit {
        document.fault(name, format!("must have at most {limit} bytes, has {}", raw.get().len()));
        return None;
    }
    Some(raw.to_owned())
}

fn read_health(document: &mut Object<'_>) -> Option<HealthCheck> {
    let mut health = document.object("health")?;
    let path = health.string("path", 1..=500);
    let path = health.require("path", path);
    if path.as_deref().is_some_and(|path| !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b >= 0x7f)) {
        health.fault("path", "must begin with / and be visible ASCII");
    }
    let interval_seconds = health.integer("interval_seconds", 5..=3600).unwrap_or(30);
    document.absorb(health);
    Some(HealthCheck { path: path?, interval_seconds })
}

fn read_limits(document: &mut Object<'_>) -> ServiceLimits {
    let mut read = ServiceLimits::default();
    if let Some(mut limits) = document.object("limits") {
        read.max_concurrency = limits.integer("max_concurrency", 1..=10_000);
        read.max_queue = limits.integer("max_queue", 0..=100_000).unwrap_or(read.max_queue);
        document.absorb(limits);
    }
    read
}

fn read_retry(document: &mut Object<'_>) -> Retry {
    let mut read = Retry::default();
    if let Some(mut retry) = document.object("retry") {
        read.max_attempts = retry.integer("max_attempts", 1..=10).unwrap_or(read.max_attempts);
        read.base_ms = retry.integer("base_ms", 1..=60_000).unwrap_or(read.base_ms);
        read.cap_ms = retry.integer("cap_ms", 1..=3_600_000).unwrap_or(read.cap_ms);
        if read.cap_ms < read.base_ms {
            retry.fault("cap_ms", "must not be less than base_ms");
        }
        document.absorb(retry);
    }
    read
}

/// Turns a fault relative to the parameters into one relative to the request.
pub fn at_parameters(fault: Fault) -> Fault {
    let base = child("#", "parameters");
    Fault::new(format!("{base}{}", fault.pointer), fault.detail)
}

#[cfg(test)]
mod tests;
