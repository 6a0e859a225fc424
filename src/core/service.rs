//! A service and the capabilities it offers: the document people register, read into types.
//!
//! Reading names every fault with its pointer. Schemas are compiled here to refuse what cannot be
//! compiled, and once more in each isolate that uses them.

use std::collections::BTreeSet;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::address::{self, Policy};
use super::breaker::BreakerState;
use super::id::valid_name;
use super::json::{Fault, Object, child};
use super::measured::Measured;
use super::openai;
use super::permission;
use super::schema::Schema;
use super::sealed::Sealed;
use super::signature::Secret;
use super::time::Timestamp;

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

/// How the service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transport {
    /// A signed envelope by POST.
    Http { url: String },
    /// An endpoint that speaks OpenAI's API, at the address its paths begin with.
    Openai {
        url: String,
        /// The model that is used when a request names none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// Nothing is called: the gateway itself shows what a service could do.
    Demo {},
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    pub max_attempts: u64,
    pub base_ms: u64,
    pub cap_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 3, base_ms: 200, cap_ms: 30_000 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Capability {
    pub name: String,
    pub version: Version,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Box<RawValue>>,
    pub idempotent: bool,
    pub durable: bool,
    pub timeout_seconds: u64,
    pub permissions: Vec<String>,
}

/// The longest life a context may have, in seconds.
pub const MAX_TIMEOUT_SECONDS: u64 = 86_400;
/// What a capability allows when it says nothing.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

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
    /// Takes no new work.
    #[serde(default)]
    pub draining: bool,
}

/// A header with its value that the gateway sends to the service. Never shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub header: String,
    pub value: String,
}

/// The same as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedCredentials {
    pub header: String,
    pub value: Sealed,
}

/// A signing secret that another has taken the place of: good until its services have the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retiring {
    pub secret: Sealed,
    pub until: Timestamp,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}: …)", self.header)
    }
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
            },
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

    /// Where health is asked for: the path at the origin of the service's own address, so what was checked of the
    /// one holds for the other. Without a configured path, the address itself. Nothing where nothing is called.
    pub fn probe_url(&self) -> Option<String> {
        let own = match &self.transport {
            Transport::Http { url } => url.clone(),
            Transport::Openai { url, .. } => openai::url(url, "models"),
            Transport::Demo {} => return None,
        };
        let Some(health) = &self.health else { return Some(own) };
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
const READ_ONLY: [&str; 6] = ["id", "status_at", "breaker", "latency_ms", "created_at", "updated_at"];

/// What reading depends on besides the document.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub addresses: Policy,
    pub own_hosts: &'a [&'a str],
    /// Whether the built-in demonstration may be registered.
    pub demo: bool,
}

/// Reads a whole service document. `text` has passed `json::check`.
pub fn read(id: &str, text: &str, rules: Rules<'_>) -> Result<Registration, Vec<Fault>> {
    let mut document = Object::new(text, "#").map_err(|fault| vec![fault])?;
    if !valid_name(id) {
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
    let transport = read_transport(&mut document, rules);
    let transport = document.require("transport", transport);
    let credentials = read_credentials(&mut document);
    let signing_secret = read_signing_secret(&mut document);
    let capabilities = match &transport {
        Some(Transport::Openai { .. }) => read_openai_capabilities(&mut document),
        _ => {
            let capabilities = read_capabilities(&mut document);
            document.require("capabilities", capabilities)
        }
    };
    let health = read_health(&mut document);
    let limits = read_limits(&mut document);
    let retry = read_retry(&mut document);
    let weight = document.integer("weight", 1..=1000).unwrap_or(1);
    let tier = document.integer("tier", 0..=9).unwrap_or(0);
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
                draining: status.unwrap_or(false),
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

fn read_transport(document: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let mut transport = document.object("transport")?;
    let kind = transport.parsed("kind", "http, openai or demo", |text| {
        ["http", "openai", "demo"].into_iter().find(|kind| *kind == text)
    });
    let kind = transport.require("kind", kind);
    if kind == Some("demo") {
        if !rules.demo {
            transport.fault("kind", "is switched off here: the variable DEMO is false");
        }
        document.absorb(transport);
        return Some(Transport::Demo {});
    }
    let openai = kind.map(|kind| kind == "openai");
    let url = transport.string("url", 1..=2048);
    let url =
        transport.require("url", url).and_then(|text| match address::check(&text, rules.addresses, rules.own_hosts) {
            Ok(url) => Some(url.to_string()),
            Err(refusal) => {
                transport.fault("url", refusal.to_string());
                None
            }
        });
    let model = if openai == Some(true) { transport.string("model", 1..=200) } else { None };
    if openai == Some(true) && url.as_deref().is_some_and(|url| url.contains('?')) {
        transport.fault("url", "must have no query: paths such as chat/completions are put behind it");
    }
    document.absorb(transport);
    let url = url?;
    Some(if openai? { Transport::Openai { url, model } } else { Transport::Http { url } })
}

/// All that such an endpoint offers, unless some of it is named.
fn read_openai_capabilities(document: &mut Object<'_>) -> Option<Vec<Capability>> {
    if !document.has("capabilities") {
        document.raw_or_null("capabilities");
        return Some(openai::capabilities());
    }
    let mut capabilities = read_capabilities(document)?;
    let at = document.pointer_to("capabilities");
    for (index, capability) in capabilities.iter_mut().enumerate() {
        if openai::path(&capability.name).is_some() {
            openai::fill_in(capability);
        } else {
            let names: Vec<&str> = openai::names().collect();
            let detail = format!("must be one of {} with transport.kind openai", names.join(", "));
            document.faults([Fault::new(format!("{at}/{index}/name"), detail)]);
        }
    }
    Some(capabilities)
}

/// Names a header may not have: they are the gateway's own, or the connection's.
const RESERVED_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "content-type",
    "connection",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "idempotency-key",
    "cookie",
];

fn valid_header_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        && !RESERVED_HEADERS.contains(&lower.as_str())
        && !["webhook-", "cf-", "x-forwarded-"].iter().any(|prefix| lower.starts_with(prefix))
}

fn read_credentials(document: &mut Object<'_>) -> Option<Credentials> {
    let mut credentials = document.object("credentials")?;
    let header = credentials.string("header", 1..=100);
    let header = credentials.require("header", header);
    if header.as_deref().is_some_and(|name| !valid_header_name(name)) {
        credentials.fault("header", "must be a header's name that is not the gateway's own");
    }
    let value = credentials.string("value", 1..=4096);
    let value = credentials.require("value", value);
    if value.as_deref().is_some_and(|value| !value.bytes().all(|b| (0x20..0x7f).contains(&b))) {
        credentials.fault("value", "must be visible ASCII");
    }
    document.absorb(credentials);
    Some(Credentials { header: header?, value: value? })
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

fn read_capabilities(document: &mut Object<'_>) -> Option<Vec<Capability>> {
    let items = document.array("capabilities", 1..=200)?;
    let at = document.pointer_to("capabilities");
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let pointer = format!("{at}/{index}");
        match Object::new(item.get(), &pointer) {
            Err(fault) => document.faults([fault]),
            Ok(mut capability) => {
                let one = read_capability(&mut capability);
                if let Some(one) = &one
                    && !seen.insert((one.name.clone(), one.version.clone()))
                {
                    capability.fault("name", "is offered twice in this version");
                }
                document.absorb(capability);
                read.extend(one);
            }
        }
    }
    Some(read)
}

/// 1 to 64 letters, digits, `_`, `-`, `.`, beginning with a letter or digit.
pub fn valid_capability_name(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

fn read_capability(object: &mut Object<'_>) -> Option<Capability> {
    let name = object.parsed("name", "1 to 64 letters, digits, _, - or ., beginning with a letter or digit", |text| {
        valid_capability_name(text).then(|| text.to_string())
    });
    let name = object.require("name", name);
    let version = object
        .parsed("version", "a semantic version such as 1.2.0", |text| Version::parse(text).ok())
        .unwrap_or(Version::new(1, 0, 0));
    let description = object.string("description", 0..=4000).unwrap_or_default();
    let input_schema = read_schema(object, "input_schema");
    let output_schema = read_schema(object, "output_schema");
    let idempotent = object.boolean("idempotent").unwrap_or(false);
    let durable = object.boolean("durable").unwrap_or(true);
    let timeout_seconds = object.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let permissions = object.strings("permissions", 20, 160).unwrap_or_default();
    for (index, asked) in permissions.iter().enumerate() {
        if !permission::valid(asked) || asked.contains('*') {
            let pointer = format!("{}/{index}", object.pointer_to("permissions"));
            object.faults([Fault::new(pointer, "must be a permission such as reports:read, without *")]);
        }
    }
    Some(Capability {
        name: name?,
        version,
        description,
        input_schema,
        output_schema,
        idempotent,
        durable,
        timeout_seconds,
        permissions,
    })
}

fn read_schema(object: &mut Object<'_>, name: &str) -> Option<Box<RawValue>> {
    let raw = object.raw(name)?;
    if let Err(faults) = Schema::compile(raw.get()) {
        let base = object.pointer_to(name);
        object.faults(faults.into_iter().map(|fault| Fault::new(format!("{base}{}", fault.pointer), fault.detail)));
    }
    Some(raw.to_owned())
}

/// A merge patch (RFC 7396) applied to a document.
pub fn merge_patch(target: &mut serde_json::Value, patch: serde_json::Value) {
    match (target, patch) {
        (serde_json::Value::Object(target), serde_json::Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    target.remove(&name);
                } else {
                    merge_patch(target.entry(name).or_insert(serde_json::Value::Null), value);
                }
            }
        }
        (target, patch @ serde_json::Value::Object(_)) => {
            // What was there and is no object goes; the patch's own nulls then mean nothing.
            *target = serde_json::Value::Object(serde_json::Map::new());
            merge_patch(target, patch);
        }
        (target, patch) => *target = patch,
    }
}

/// The pointer to a member of the parameters, from a fault relative to their root.
pub fn at_parameters(fault: Fault) -> Fault {
    let base = child("#", "parameters");
    Fault::new(format!("{base}{}", fault.pointer), fault.detail)
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
