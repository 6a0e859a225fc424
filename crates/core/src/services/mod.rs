//! A service: the document people register, read into types. How it is reached is read in `transport`, what it
//! offers in `capability`.
//!
//! Reading names every fault with its pointer.

pub mod attempt_timeout;
pub mod capability;
pub mod credentials;
pub mod openai_endpoints;
pub mod routing;
pub mod schema;
pub mod tool_catalogue;
pub mod transport;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::access::encrypted_secret::EncryptedSecret;
use crate::access::webhook_signature::Secret;
use crate::base::json::{Fault, Object, child};
use crate::base::names::valid_id;
use crate::base::time::Timestamp;
use crate::context::retry::Retry;
use crate::lane::breaker::BreakerState;
use crate::lane::observed::Measured;
use crate::services::capability::Capability;
use crate::services::credentials::{Credentials, Name};
use crate::services::tool_catalogue::{Catalogue, View as CatalogueView};
use crate::services::transport::{Rules, Transport};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Llm,
    Tool,
    Database,
    ExternalApi,
    FileStorage,
    Custom,
}

impl Kind {
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::from(text)).ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub path: String,
    pub interval_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub max_concurrency: Option<u64>,
    pub max_queue: u64,
}

/// What is configured of a service. What is measured (status, latency) is kept apart from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
    pub transport: Transport,
    pub capabilities: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    pub limits: Limits,
    pub retry: Retry,
    pub weight: u64,
    pub tier: u64,
    /// Arguments are held against the input schema before the service gets them.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub check_arguments: bool,
    /// Takes no new work.
    #[serde(default)]
    pub draining: bool,
    /// Of an MCP server: what was read of its tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<Box<Catalogue>>,
}

fn yes() -> bool {
    true
}

/// A signing secret that another has taken the place of: good until its services have the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    pub secret: EncryptedSecret,
    pub until: Timestamp,
}

/// What a write brings: the service and what is kept secret of it.
#[derive(Debug)]
pub struct Registration {
    pub service: Service,
    pub credentials: Option<Credentials>,
    pub signing_secret: Option<String>,
}

/// A service as it is shown.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    #[serde(flatten)]
    pub service: Shown<'a>,
    /// What it is shown, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Name<'a>>,
    /// `draining` as configured, else what was measured; `unknown` when nobody measured.
    pub status: &'a str,
    /// When it was first measured to be so.
    pub status_at: Option<String>,
    pub breaker: BreakerView,
    /// The median of the latest calls, when some are known.
    pub latency_ms: Option<u64>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Debug, Serialize)]
pub struct BreakerView {
    pub state: BreakerState,
    /// Open: when it may be tried again.
    pub until: Option<String>,
}

/// The configured part as it is shown: all but the `draining` flag, which `status` tells.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    pub id: &'a str,
    pub name: &'a str,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub description: &'a str,
    pub tags: &'a [String],
    pub metadata: Option<&'a RawValue>,
    pub transport: &'a Transport,
    pub capabilities: &'a [Capability],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<&'a Health>,
    pub limits: &'a Limits,
    pub retry: Retry,
    pub weight: u64,
    pub tier: u64,
    #[serde(skip_serializing_if = "Clone::clone")]
    pub check_arguments: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<CatalogueView<'a>>,
}

impl Service {
    pub fn view(&self, measured: &Measured, created: Timestamp, updated: Timestamp) -> View<'_> {
        View {
            service: Shown {
                id: &self.id,
                name: &self.name,
                kind: self.kind,
                description: &self.description,
                tags: &self.tags,
                metadata: self.metadata.as_deref(),
                transport: &self.transport,
                capabilities: &self.capabilities,
                health: self.health.as_ref(),
                limits: &self.limits,
                retry: self.retry,
                weight: self.weight,
                tier: self.tier,
                check_arguments: self.check_arguments,
                catalogue: self.catalogue.as_deref().map(Catalogue::view),
            },
            credentials: Vec::new(),
            status: self.status(measured),
            status_at: (measured.version > 0 && measured.status_at.0 > 0).then(|| measured.status_at.text()),
            breaker: BreakerView { state: measured.breaker, until: measured.breaker_until.map(Timestamp::text) },
            latency_ms: measured.latency_ms,
            created_at: created.text(),
            updated_at: updated.text(),
        }
    }

    pub fn status(&self, measured: &Measured) -> &'static str {
        if self.draining { "draining" } else { measured.status.as_str() }
    }

    /// Where health is asked for: the path behind a service binding, or at the origin of the service's own address, so
    /// what was checked of the one holds for the other. Without a configured path, the address itself. Nothing where
    /// nothing is called.
    pub fn probe_url(&self) -> Option<String> {
        let own = self.transport.probe_url()?;
        let Some(health) = &self.health else { return Some(own) };
        if self.transport.binding().is_some() {
            return Some(health.path.clone());
        }
        let mut probed = url::Url::parse(&own).ok()?;
        let (path, query) = health.path.split_once('?').map_or((health.path.as_str(), None), |(p, q)| (p, Some(q)));
        // Set, not joined: a path that begins with // would name another host.
        probed.set_path(path);
        probed.set_query(query);
        probed.set_fragment(None);
        Some(probed.to_string())
    }
}

/// Members that answers carry and a document sent back may carry too; they are not configuration.
const READ_ONLY: [&str; 7] = ["id", "status_at", "breaker", "latency_ms", "created_at", "updated_at", "catalogue"];

/// Reads a whole service document. `text` has passed `json::check`.
#[expect(clippy::too_many_lines, reason = "one member of a service after the other")]
pub fn read(id: &str, text: &str, rules: Rules<'_>) -> Result<Registration, Vec<Fault>> {
    let mut document = Object::new(text, "#").map_err(|fault| vec![fault])?;
    if !valid_id(id) {
        document.fault("id", "must be 1 to 64 lower-case letters, digits, - or _, beginning with a letter or digit");
    }
    if document.raw("id").is_some_and(|given| given.get() != format!("\"{id}\"")) {
        document.fault("id", "must be the id in the path");
    }
    for name in READ_ONLY {
        document.raw_or_null(name);
    }
    let name = document.string("name", 1..=200);
    let name = document.require("name", name);
    let kind = document.parsed("type", "llm, tool, database, external_api, file_storage or custom", Kind::parse);
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
    let health = read_health(&mut document);
    if transport.as_ref().is_some_and(Transport::connects) {
        for (given, name) in [(credentials.is_some(), "credentials"), (health.is_some(), "health")] {
            if given {
                document.fault(name, "has no use with transport.kind socket: the service connects, and is not called");
            }
        }
    }
    let limits = read_limits(&mut document);
    let retry = read_retry(&mut document);
    let weight = document.integer("weight", 1..=1000).unwrap_or(1);
    let tier = document.integer("tier", 0..=9).unwrap_or(0);
    let check_arguments = document.boolean("check_arguments").unwrap_or(true);
    let status = document.parsed("status", "draining, or a status the gateway measured", |text| {
        matches!(text, "draining" | "online" | "degraded" | "offline" | "unknown").then(|| text == "draining")
    });

    let faults = document.finish();
    match (name, kind, transport, capabilities) {
        (Some(name), Some(kind), Some(transport), Some(capabilities)) if faults.is_empty() => Ok(Registration {
            service: Service {
                id: id.into(),
                name,
                kind,
                description,
                tags,
                metadata,
                transport,
                capabilities,
                health,
                limits,
                retry,
                weight,
                tier,
                check_arguments,
                draining: status.unwrap_or(false),
                catalogue: None,
            },
            credentials,
            signing_secret,
        }),
        _ => Err(faults),
    }
}

/// The member `signing_secret`.
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

fn read_health(document: &mut Object<'_>) -> Option<Health> {
    let mut health = document.object("health")?;
    let path = health.string("path", 1..=500);
    let path = health.require("path", path);
    if path.as_deref().is_some_and(|path| !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b >= 0x7f)) {
        health.fault("path", "must begin with / and be visible ASCII");
    }
    let interval_seconds = health.integer("interval_seconds", 5..=3600).unwrap_or(30);
    document.absorb(health);
    Some(Health { path: path?, interval_seconds })
}

fn read_limits(document: &mut Object<'_>) -> Limits {
    let mut read = Limits { max_concurrency: None, max_queue: 1000 };
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

/// The pointer to a member of the parameters, from a fault relative to their root.
pub fn at_parameters(fault: Fault) -> Fault {
    let base = child("#", "parameters");
    Fault::new(format!("{base}{}", fault.pointer), fault.detail)
}

#[cfg(test)]
mod tests;
