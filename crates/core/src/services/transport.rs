//! How a service is reached: the member `transport` of its document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capability::{self, Capability};
use super::credentials::EncryptedCredentials;
use crate::base::json::{Fault, Object};
use crate::context::create_request::MAX_TIMEOUT_SECONDS;
use crate::http::egress_address::{self, Address, Policy};
use crate::models::endpoint::Format;
use crate::models::route::CallSettings;
use crate::services::openai_endpoints;
use crate::services::outline::TransportOutline;

/// The member `transport`: how the service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transport {
    /// A signed envelope by POST.
    Http { url: String },
    /// An OpenAI-compatible endpoint; `url` is the base of its paths.
    Openai(ModelEndpoint),
    /// An endpoint with Anthropic's API; `url` is its address without `/v1`.
    Anthropic(ModelEndpoint),
    /// An MCP server by Streamable HTTP: its tools are the capabilities.
    Mcp(Upstream),
    /// The service connects to the gateway and receives its work there.
    Socket {
        /// How long the deliveries of a dropped connection are kept for it.
        grace_seconds: u64,
    },
    /// Another Worker by its service binding: a signed envelope by POST, as with `http`.
    Binding { binding: String, path: String },
    /// Nothing is called: the gateway itself demonstrates what a service can do.
    Demo {},
}

fn yes() -> bool {
    true
}

/// An endpoint of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ModelEndpoint {
    pub url: String,
    /// The model for requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it may be asked for a streamed response.
    #[serde(rename = "stream", default = "yes", skip_serializing_if = "Clone::clone")]
    pub streams: bool,
    /// Query parameters of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Whether it has the Responses API.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub responses: bool,
    /// Whether it may be asked for usage in streams (`stream_options`).
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub stream_usage: bool,
    #[serde(flatten)]
    pub settings: CallSettings,
}

impl ModelEndpoint {
    /// An address with the query parameters of every request.
    fn with_query(&self, url: String) -> String {
        match url::Url::parse(&url) {
            Ok(mut parsed) if !self.query.is_empty() => {
                parsed.query_pairs_mut().extend_pairs(&self.query);
                parsed.into()
            }
            _ => url,
        }
    }

    /// The name or address of its host.
    pub fn host(&self) -> String {
        let url = url::Url::parse(&self.url).ok();
        url.and_then(|url| url.host_str().map(Into::into)).unwrap_or_default()
    }

    /// The address below its own, with its query parameters. `path` is relative to the version of the API.
    pub fn below(&self, address: &Address, format: Format, path: &str) -> Address {
        let below = match format {
            Format::OpenAi => address.below(path),
            // People name it with and without the version.
            Format::Anthropic if address.as_str().trim_end_matches('/').ends_with("/v1") => address.below(path),
            Format::Anthropic => address.below(&format!("v1/{path}")),
        };
        if self.query.is_empty() {
            return below;
        }
        below.with_query(&mut self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

/// How an MCP server is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Upstream {
    pub url: String,
    /// The timeout of a tool call, in seconds.
    pub timeout_seconds: u64,
    /// The interval at which its tools are read, in seconds.
    pub refresh_seconds: u64,
    pub changed_tools: ChangedTools,
}

/// What happens to new and changed tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChangedTools {
    #[default]
    Serve,
    /// They are held until an operator accepts them.
    Hold,
}

/// The defaults of the timeout of a tool call and of the interval at which tools are read, in seconds.
const TOOL_SECONDS: u64 = 300;
const REFRESH_SECONDS: u64 = 300;
/// The default and the maximum of a connected service's grace period, in seconds.
const GRACE_SECONDS: u64 = 10;
const MAX_GRACE_SECONDS: u64 = 300;

/// The most query parameters that a transport names.
const MAX_QUERY: usize = 8;

/// What the validity of a document depends on.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub addresses: Policy<'a>,
    pub own_hosts: &'a [&'a str],
    /// Whether the built-in demonstration may be registered.
    pub demo: bool,
    /// The service bindings that may be named; `None` if none may.
    pub bindings: Option<&'a [String]>,
    /// The stored credentials: values that a document omits stay as they are.
    pub stored: Option<&'a EncryptedCredentials>,
}

impl Transport {
    /// The address of the service; `None` if it has none.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Http { url } => Some(url),
            Self::Openai(endpoint) | Self::Anthropic(endpoint) => Some(&endpoint.url),
            Self::Mcp(upstream) => Some(&upstream.url),
            Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => None,
        }
    }

    /// The service binding, if it is called through one.
    pub fn binding(&self) -> Option<&str> {
        match self {
            Self::Binding { binding, .. } => Some(binding),
            Self::Http { .. }
            | Self::Openai(_)
            | Self::Anthropic(_)
            | Self::Mcp(_)
            | Self::Socket { .. }
            | Self::Demo {} => None,
        }
    }

    /// The format and the settings of an endpoint of models, if it is one.
    pub fn model_endpoint(&self) -> Option<(Format, &ModelEndpoint)> {
        match self {
            Self::Openai(endpoint) => Some((Format::OpenAi, endpoint)),
            Self::Anthropic(endpoint) => Some((Format::Anthropic, endpoint)),
            Self::Http { .. } | Self::Mcp(_) | Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => None,
        }
    }

    /// Whether something outside the gateway is called.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Demo {})
    }

    /// Whether its services can have models.
    pub fn has_models(&self) -> bool {
        self.model_endpoint().is_some() || matches!(self, Self::Demo {})
    }

    /// The settings of an MCP server, if it is one.
    pub fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Mcp(upstream) => Some(upstream),
            Self::Http { .. }
            | Self::Openai(_)
            | Self::Anthropic(_)
            | Self::Socket { .. }
            | Self::Binding { .. }
            | Self::Demo {} => None,
        }
    }

    /// The grace period in milliseconds of a service that connects to the gateway; `None` for other services.
    pub fn grace_ms(&self) -> Option<u64> {
        TransportOutline::from(self).grace_ms()
    }

    /// Whether the service connects to the gateway.
    pub fn connects(&self) -> bool {
        self.grace_ms().is_some()
    }

    /// Whether both have the same origin, so that the credentials of one may be sent to the other.
    pub fn same_origin(&self, other: &Self) -> bool {
        if let (Self::Binding { binding: one, .. }, Self::Binding { binding: other, .. }) = (self, other) {
            return one == other;
        }
        let bound = |transport: &Self| matches!(transport, Self::Binding { .. });
        if bound(self) || bound(other) {
            return false;
        }
        let origin =
            |transport: &Self| transport.url().and_then(|url| url::Url::parse(url).ok()).map(|url| url.origin());
        origin(self) == origin(other)
    }

    /// The URL of health probes without a configured path: an address, or a path behind a binding.
    pub fn probe_url(&self) -> Option<String> {
        match self {
            Self::Http { url } => Some(url.clone()),
            Self::Mcp(upstream) => Some(upstream.url.clone()),
            Self::Openai(endpoint) => Some(endpoint.with_query(openai_endpoints::url(&endpoint.url, "models"))),
            Self::Anthropic(endpoint) => {
                let url = endpoint.url.trim_end_matches('/');
                let url = openai_endpoints::url(url.strip_suffix("/v1").unwrap_or(url), "v1/models");
                Some(endpoint.with_query(url))
            }
            Self::Binding { path, .. } => Some(path.clone()),
            Self::Socket { .. } | Self::Demo {} => None,
        }
    }
}

/// Reads the member `transport`.
pub fn read(document: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let mut transport = document.object("transport")?;
    let kind = transport.parsed("kind", "http, openai, anthropic, mcp, socket, binding or demo", |text| {
        ["http", "openai", "anthropic", "mcp", "socket", "binding", "demo"].into_iter().find(|kind| *kind == text)
    });
    let kind = transport.require("kind", kind);
    let read = match kind {
        Some("openai") => read_model_endpoint(&mut transport, Format::OpenAi, rules).map(Transport::Openai),
        Some("anthropic") => read_model_endpoint(&mut transport, Format::Anthropic, rules).map(Transport::Anthropic),
        Some("mcp") => read_mcp(&mut transport, rules),
        Some("socket") => {
            let grace_seconds = transport.integer("grace_seconds", 0..=MAX_GRACE_SECONDS);
            Some(Transport::Socket { grace_seconds: grace_seconds.unwrap_or(GRACE_SECONDS) })
        }
        Some("binding") => read_binding(&mut transport, rules),
        Some("demo") => read_demo(&mut transport, rules),
        // An unknown kind has its fault already; faults of the address are reported with it.
        _ => read_url(&mut transport, rules).filter(|_| kind.is_some()).map(|url| Transport::Http { url }),
    };
    document.absorb(transport);
    read
}

fn read_demo(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    if !rules.demo {
        transport.fault("kind", "is disabled here: the variable DEMO is false");
    }
    Some(Transport::Demo {})
}

fn read_binding(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let binding = transport.string("binding", 1..=100);
    let binding = transport.require("binding", binding);
    let path = transport.string("path", 1..=500).unwrap_or("/".into());
    if !path.starts_with('/') || path.contains('#') || path.bytes().any(|b| b <= b' ' || b >= 0x7f) {
        transport.fault("path", "must begin with / and be visible ASCII without #");
    }
    let binding = binding?;
    if let Err(refusal) = Address::bound(&binding, &path, rules.bindings) {
        transport.fault("binding", refusal.to_string());
    }
    Some(Transport::Binding { binding, path })
}

fn read_mcp(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let url = read_url(transport, rules);
    let timeout_seconds = transport.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).unwrap_or(TOOL_SECONDS);
    let refresh_seconds = transport.integer("refresh_seconds", 60..=86_400).unwrap_or(REFRESH_SECONDS);
    let changed_tools = transport.parsed("changed_tools", "serve or hold", |text| match text {
        "serve" => Some(ChangedTools::Serve),
        "hold" => Some(ChangedTools::Hold),
        _ => None,
    });
    let changed_tools = changed_tools.unwrap_or_default();
    Some(Transport::Mcp(Upstream { url: url?, timeout_seconds, refresh_seconds, changed_tools }))
}

fn read_model_endpoint(transport: &mut Object<'_>, format: Format, rules: Rules<'_>) -> Option<ModelEndpoint> {
    let url = read_url(transport, rules);
    if url.as_deref().is_some_and(|url| url.contains('?')) {
        transport.fault("url", "must have no query: paths are appended; name query parameters in transport.query");
    }
    let model = transport.string("model", 1..=200);
    let is_openai = format == Format::OpenAi;
    let mut option = |name, default| if is_openai { transport.boolean(name).unwrap_or(default) } else { default };
    let (streams, responses) = (option("stream", true), option("responses", false));
    let stream_usage = option("stream_usage", true);
    let query = read_query(transport);
    let settings = CallSettings::read(transport);
    Some(ModelEndpoint { url: url?, model, streams, query, responses, stream_usage, settings })
}

/// Reads the member `query`: parameters that every request has. Secret ones belong into the credentials.
fn read_query(transport: &mut Object<'_>) -> BTreeMap<String, String> {
    let mut query = BTreeMap::new();
    let Some(mut given) = transport.object("query") else { return query };
    let names: Vec<String> = given.names().map(Into::into).collect();
    if names.len() > MAX_QUERY {
        transport.fault("query", format!("must have at most {MAX_QUERY} members"));
    }
    for name in names.into_iter().take(MAX_QUERY) {
        let value = given.string(&name, 0..=500);
        if let Some(value) = value {
            query.insert(name, value);
        }
    }
    transport.absorb(given);
    query
}

/// Reads the member `url`: an address that the gateway may call.
fn read_url(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<String> {
    let url = transport.string("url", 1..=2048);
    let text = transport.require("url", url)?;
    match egress_address::check(&text, rules.addresses, rules.own_hosts) {
        Ok(url) => Some(url.to_string()),
        Err(refusal) => {
            transport.fault("url", refusal.to_string());
            None
        }
    }
}

/// Reads the member `capabilities`, as this transport allows. `transport` is `None` if it has faults.
pub fn read_capabilities(transport: Option<&Transport>, document: &mut Object<'_>) -> Option<Vec<Capability>> {
    match transport {
        Some(Transport::Openai(endpoint)) => {
            read_model_capabilities(document, openai_endpoints::capabilities(endpoint.responses), "openai")
        }
        Some(Transport::Anthropic(_)) => {
            read_model_capabilities(document, openai_endpoints::anthropic_capabilities(), "anthropic")
        }
        // The server defines them; a document that was read and is sent back has them.
        Some(Transport::Mcp(_)) => {
            document.raw_or_null("capabilities");
            Some(Vec::new())
        }
        Some(Transport::Http { .. } | Transport::Socket { .. } | Transport::Binding { .. } | Transport::Demo {})
        | None => {
            let capabilities = capability::read_all(document, &[]);
            document.require("capabilities", capabilities)
        }
    }
}

/// All capabilities of such an endpoint, unless some are named.
fn read_model_capabilities(
    document: &mut Object<'_>,
    defaults: Vec<Capability>,
    kind: &str,
) -> Option<Vec<Capability>> {
    if !document.has("capabilities") {
        document.raw_or_null("capabilities");
        return Some(defaults);
    }
    let mut capabilities = capability::read_all(document, &defaults)?;
    let at = document.pointer_to("capabilities");
    for (index, capability) in capabilities.iter_mut().enumerate() {
        if !defaults.iter().any(|known| known.name == capability.name) {
            let names: Vec<&str> = defaults.iter().map(|known| known.name.as_str()).collect();
            let detail = format!("must be one of {} with transport.kind {kind}", names.join(", "));
            document.faults([Fault::new(format!("{at}/{index}/name"), detail)]);
        }
    }
    Some(capabilities)
}
