//! The outline of a service: what routing and permissions need of its document, without what makes documents large.
//!
//! Every isolate keeps the outlines of all services, and the documents of the few that it calls. So an outline holds no
//! schemas, descriptions, addresses or secrets, and its stored form omits defaults: settings that capabilities share
//! are written once.

use std::ops::Deref;
use std::rc::Rc;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::capability::{Capability, DEFAULT_TIMEOUT_SECONDS, TaskSupport};
use super::transport::{Transport, Upstream};
use super::{Service, ServiceKind, ServiceLimits, tool_apps};
use crate::base::canonical;
use crate::base::content::Content;
use crate::base::service_id::ServiceId;
use crate::context::retry::Retry;
use crate::lane::observed::ObservedStatus;
use crate::models::call_price::CallPrice;
use crate::models::endpoint::Format;

/// The features of an MCP server, besides tools, that clients may use.
pub const FEATURES: [&str; 4] = ["prompts", "resources", "completions", "logging"];

/// The characters of a short digest: 64 bits, which tell the states of one service apart.
const DIGEST_LENGTH: usize = 16;

/// A short digest of a text.
pub fn short_digest(text: &str) -> String {
    canonical::short_digest(text, DIGEST_LENGTH)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOutline {
    pub id: ServiceId,
    #[serde(rename = "type")]
    pub kind: ServiceKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    pub transport: TransportOutline,
    pub capabilities: Capabilities,
    /// A digest of everything that clients see of its capabilities.
    pub tools: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ServiceLimits,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tier: u64,
    /// The service gets no new work.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: bool,
    /// Its lane sends it health probes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub probed: bool,
    /// The names of its models.
    #[serde(default, skip_serializing_if = "ModelNames::is_none")]
    pub models: ModelNames,
    /// What is kept of the calls of clients of models, as its transport says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What an MCP server offers besides tools; `None` until its tools were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerOutline>,
}

/// The kind of a transport, with what its lane or its schedule needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportOutline {
    Http,
    Openai,
    Anthropic,
    Mcp {
        refresh_seconds: u64,
    },
    Socket {
        grace_seconds: u64,
    },
    Binding,
    Demo,
    /// Of a service that this version cannot read.
    Unknown,
}

/// The models that a service offers, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelNames {
    /// It has none, or does not list them; in the latter case any can be asked for together with the service.
    #[default]
    None,
    /// It does not list them, and has this one for requests that name none.
    Default(String),
    /// These, and no others unless `*` is among them.
    Listed(Vec<String>),
}

impl ModelNames {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// Those that can be asked for without naming the service.
    pub fn names(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Default(name) => std::slice::from_ref(name),
            Self::Listed(names) => names,
        }
    }

    fn of(service: &Service) -> Self {
        let default = service.transport.model_endpoint().and_then(|(_, endpoint)| endpoint.model.clone());
        match (&service.models, default) {
            (Some(models), _) => Self::Listed(models.iter().map(|offer| offer.id.clone()).collect()),
            (None, Some(default)) => Self::Default(default),
            (None, None) => Self::None,
        }
    }
}

/// The known part of an MCP server's description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerOutline {
    /// Its [`FEATURES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// It uses sessions (2025 revisions).
    #[serde(default, skip_serializing_if = "is_default")]
    pub sessions: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub instructions: bool,
    /// That of the last successful read of its tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// The URIs of the apps that its tools name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
}

/// What applies to the calls of a capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySettings {
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: Version,
    #[serde(default, skip_serializing_if = "is_default")]
    pub idempotent: bool,
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub durable: bool,
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout")]
    pub timeout_seconds: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "TaskSupport::is_optional")]
    pub task_support: TaskSupport,
    /// Whether its registration says that it is a tool, or that it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<bool>,
    /// What is kept of its calls, as it or its service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<CallPrice>,
}

/// A capability, with the settings that it may share with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityOutline {
    pub name: String,
    settings: Rc<CapabilitySettings>,
}

/// The capabilities of a service, in the order of its document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredCapabilities", into = "StoredCapabilities")]
pub struct Capabilities(pub Vec<CapabilityOutline>);

#[derive(Serialize, Deserialize)]
struct StoredCapabilities {
    settings: Vec<CapabilitySettings>,
    names: Vec<StoredName>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredName {
    /// With the first settings.
    Usual(String),
    /// With the settings at this index.
    Other(String, usize),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

fn one() -> u64 {
    1
}

fn is_one(value: &u64) -> bool {
    *value == 1
}

fn first_version() -> Version {
    Version::new(1, 0, 0)
}

fn is_first_version(version: &Version) -> bool {
    *version == first_version()
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_SECONDS
}

fn is_default_timeout(seconds: &u64) -> bool {
    *seconds == DEFAULT_TIMEOUT_SECONDS
}

impl Deref for CapabilityOutline {
    type Target = CapabilitySettings;

    fn deref(&self) -> &CapabilitySettings {
        &self.settings
    }
}

impl Deref for Capabilities {
    type Target = [CapabilityOutline];

    fn deref(&self) -> &[CapabilityOutline] {
        &self.0
    }
}

impl<'c> IntoIterator for &'c Capabilities {
    type Item = &'c CapabilityOutline;
    type IntoIter = std::slice::Iter<'c, CapabilityOutline>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Default for CapabilitySettings {
    fn default() -> Self {
        Self {
            version: first_version(),
            idempotent: false,
            durable: yes(),
            timeout_seconds: default_timeout(),
            permissions: Vec::new(),
            task_support: TaskSupport::default(),
            tool: None,
            content: None,
            price: None,
        }
    }
}

impl CapabilitySettings {
    fn of(capability: &Capability, service: Option<Content>) -> Self {
        let Capability { version, idempotent, durable, timeout_seconds, permissions, price, .. } = capability;
        Self {
            version: version.clone(),
            idempotent: *idempotent,
            durable: *durable,
            timeout_seconds: *timeout_seconds,
            permissions: permissions.clone(),
            task_support: capability.supported_tasks(service),
            tool: capability.is_tool(),
            content: capability.content.or(service),
            price: price.clone(),
        }
    }
}

/// The index of these settings, which are added if they are new.
fn index_of(all: &mut Vec<Rc<CapabilitySettings>>, settings: &CapabilitySettings) -> usize {
    all.iter().position(|known| **known == *settings).unwrap_or_else(|| {
        all.push(Rc::new(settings.clone()));
        all.len() - 1
    })
}

impl Capabilities {
    fn of(capabilities: &[Capability], content: Option<Content>) -> Self {
        let mut all = Vec::new();
        let outline = |capability: &Capability| {
            let at = index_of(&mut all, &CapabilitySettings::of(capability, content));
            Some(CapabilityOutline { name: capability.name.clone(), settings: all.get(at)?.clone() })
        };
        Self(capabilities.iter().filter_map(outline).collect())
    }
}

impl From<Capabilities> for StoredCapabilities {
    fn from(Capabilities(capabilities): Capabilities) -> Self {
        let mut all = Vec::new();
        let name = |capability: CapabilityOutline| match index_of(&mut all, &capability.settings) {
            0 => StoredName::Usual(capability.name),
            at => StoredName::Other(capability.name, at),
        };
        let names = capabilities.into_iter().map(name).collect();
        Self { settings: all.into_iter().map(Rc::unwrap_or_clone).collect(), names }
    }
}

impl TryFrom<StoredCapabilities> for Capabilities {
    type Error = &'static str;

    fn try_from(StoredCapabilities { settings, names }: StoredCapabilities) -> Result<Self, Self::Error> {
        let settings: Vec<Rc<CapabilitySettings>> = settings.into_iter().map(Rc::new).collect();
        let outline = |stored| {
            let (name, at) = match stored {
                StoredName::Usual(name) => (name, 0),
                StoredName::Other(name, at) => (name, at),
            };
            let settings = settings.get(at).ok_or("a capability has unknown settings")?.clone();
            Ok(CapabilityOutline { name, settings })
        };
        names.into_iter().map(outline).collect::<Result<_, _>>().map(Self)
    }
}

/// The names of capabilities, as far as they can be read: those of a document, or those of an outline.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Value")]
pub struct CapabilityNames(pub Vec<String>);

impl From<Value> for CapabilityNames {
    fn from(value: Value) -> Self {
        let items = value.as_array().or_else(|| value.get("names")?.as_array());
        let name = |item: &Value| item.get("name").or_else(|| item.get(0)).unwrap_or(item).as_str().map(Into::into);
        Self(items.into_iter().flatten().filter_map(name).collect())
    }
}

impl From<&Transport> for TransportOutline {
    fn from(transport: &Transport) -> Self {
        match transport {
            Transport::Http { .. } => Self::Http,
            Transport::Openai(_) => Self::Openai,
            Transport::Anthropic(_) => Self::Anthropic,
            Transport::Mcp(Upstream { refresh_seconds, .. }) => Self::Mcp { refresh_seconds: *refresh_seconds },
            Transport::Socket { grace_seconds } => Self::Socket { grace_seconds: *grace_seconds },
            Transport::Binding { .. } => Self::Binding,
            Transport::Demo {} => Self::Demo,
        }
    }
}

impl TransportOutline {
    /// The grace period in milliseconds of a service that connects to the gateway; `None` for other services.
    pub fn grace_ms(&self) -> Option<u64> {
        match self {
            Self::Socket { grace_seconds } => Some(grace_seconds * 1000),
            Self::Http
            | Self::Openai
            | Self::Anthropic
            | Self::Mcp { .. }
            | Self::Binding
            | Self::Demo
            | Self::Unknown => None,
        }
    }

    /// Whether the service connects to the gateway.
    pub fn connects(&self) -> bool {
        self.grace_ms().is_some()
    }

    /// The format of an endpoint of models.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Openai => Some(Format::OpenAi),
            Self::Anthropic => Some(Format::Anthropic),
            Self::Http | Self::Mcp { .. } | Self::Socket { .. } | Self::Binding | Self::Demo | Self::Unknown => None,
        }
    }

    /// Whether it is an MCP server.
    pub fn is_mcp(&self) -> bool {
        matches!(self, Self::Mcp { .. })
    }
}

impl ServiceOutline {
    /// Stands for a service that this version cannot read: it offers these capabilities, and is unavailable.
    pub fn unreadable(id: ServiceId, names: Vec<String>) -> Self {
        let settings = Rc::new(CapabilitySettings::default());
        let outline = |name| CapabilityOutline { name, settings: settings.clone() };
        Self {
            id,
            kind: ServiceKind::Custom,
            tags: Vec::new(),
            transport: TransportOutline::Unknown,
            capabilities: Capabilities(names.into_iter().map(outline).collect()),
            tools: String::new(),
            limits: ServiceLimits::default(),
            retry: Retry::default(),
            weight: one(),
            tier: 0,
            draining: false,
            probed: false,
            models: ModelNames::None,
            content: None,
            server: None,
        }
    }

    /// Whether it is of a later version, which this one cannot read.
    pub fn is_unreadable(&self) -> bool {
        self.transport == TransportOutline::Unknown
    }

    /// The public status: `draining` if configured, otherwise the observed one.
    pub fn status(&self, observed: &ObservedStatus) -> &'static str {
        if self.draining { "draining" } else { observed.status.as_str() }
    }

    /// Whether an MCP server declares this feature.
    pub fn declares(&self, feature: &str) -> bool {
        self.server.as_ref().is_some_and(|server| server.features.iter().any(|declared| declared == feature))
    }

    /// Whether it is an MCP server that uses sessions.
    pub fn has_sessions(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.sessions)
    }
}

impl Service {
    /// A digest of everything that clients see of its capabilities.
    fn tools_digest(&self) -> String {
        let mut seen = serde_json::to_string(&self.capabilities).unwrap_or_default();
        if self.content == Some(Content::None) {
            // It forbids tasks.
            seen.push_str("none");
        }
        short_digest(&seen)
    }

    pub fn outline(&self) -> ServiceOutline {
        let server = self.catalogue.as_ref().map(|catalogue| {
            let definitions = self.capabilities.iter().filter_map(|capability| capability.tool_definition());
            let features = FEATURES.into_iter().filter(|feature| catalogue.server.declares(feature));
            ServerOutline {
                features: features.map(Into::into).collect(),
                sessions: catalogue.server.sessions,
                instructions: catalogue.server.instructions.is_some(),
                protocol_version: catalogue.protocol_version.clone(),
                apps: definitions.flat_map(tool_apps::named).collect(),
            }
        });
        ServiceOutline {
            id: self.id.clone(),
            kind: self.kind,
            tags: self.tags.clone(),
            transport: TransportOutline::from(&self.transport),
            capabilities: Capabilities::of(&self.capabilities, self.content),
            tools: self.tools_digest(),
            limits: self.limits.clone(),
            retry: self.retry,
            weight: self.weight,
            tier: self.tier,
            draining: self.draining,
            probed: self.health.is_some(),
            models: ModelNames::of(self),
            content: self.transport.model_endpoint().and_then(|(_, endpoint)| endpoint.settings.content),
            server,
        }
    }
}

#[cfg(test)]
mod tests;
