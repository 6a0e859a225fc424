//! How a service is reached: the member `transport` of its document.

use serde::{Deserialize, Serialize};

use super::capability::{self, Capability};
use super::credentials::EncryptedCredentials;
use crate::base::json::{Fault, Object};
use crate::context::create_request::MAX_TIMEOUT_SECONDS;
use crate::http::egress_address::{self, Address, Policy};
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
    Openai {
        url: String,
        /// The model for requests that name none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Whether it may be asked for a streamed response.
        #[serde(rename = "stream", default = "may_stream", skip_serializing_if = "Clone::clone")]
        streams: bool,
    },
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

fn may_stream() -> bool {
    true
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

/// What the validity of a document depends on.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub addresses: Policy,
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
            Self::Http { url } | Self::Openai { url, .. } => Some(url),
            Self::Mcp(upstream) => Some(&upstream.url),
            Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => None,
        }
    }

    /// The service binding, if it is called through one.
    pub fn binding(&self) -> Option<&str> {
        match self {
            Self::Binding { binding, .. } => Some(binding),
            Self::Http { .. } | Self::Openai { .. } | Self::Mcp(_) | Self::Socket { .. } | Self::Demo {} => None,
        }
    }

    /// The settings of an MCP server, if it is one.
    pub fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Mcp(upstream) => Some(upstream),
            Self::Http { .. } | Self::Openai { .. } | Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => {
                None
            }
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
            Self::Openai { url, .. } => Some(openai_endpoints::url(url, "models")),
            Self::Binding { path, .. } => Some(path.clone()),
            Self::Socket { .. } | Self::Demo {} => None,
        }
    }
}

/// Reads the member `transport`.
pub fn read(document: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let mut transport = document.object("transport")?;
    let kind = transport.parsed("kind", "http, openai, mcp, socket, binding or demo", |text| {
        ["http", "openai", "mcp", "socket", "binding", "demo"].into_iter().find(|kind| *kind == text)
    });
    let kind = transport.require("kind", kind);
    let read = match kind {
        Some("openai") => read_openai(&mut transport, rules),
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

fn read_openai(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    let url = read_url(transport, rules);
    let model = transport.string("model", 1..=200);
    let streams = transport.boolean("stream").unwrap_or(true);
    if url.as_deref().is_some_and(|url| url.contains('?')) {
        transport.fault("url", "must have no query: paths such as chat/completions are appended");
    }
    Some(Transport::Openai { url: url?, model, streams })
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
        Some(Transport::Openai { .. }) => read_openai_capabilities(document),
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
fn read_openai_capabilities(document: &mut Object<'_>) -> Option<Vec<Capability>> {
    if !document.has("capabilities") {
        document.raw_or_null("capabilities");
        return Some(openai_endpoints::capabilities());
    }
    let defaults = openai_endpoints::capabilities();
    let mut capabilities = capability::read_all(document, &defaults)?;
    let at = document.pointer_to("capabilities");
    for (index, capability) in capabilities.iter_mut().enumerate() {
        if openai_endpoints::path(&capability.name).is_none() {
            let names: Vec<&str> = openai_endpoints::names().collect();
            let detail = format!("must be one of {} with transport.kind openai", names.join(", "));
            document.faults([Fault::new(format!("{at}/{index}/name"), detail)]);
        }
    }
    Some(capabilities)
}
