//! How a service is reached: the member `transport` of its document.

use serde::{Deserialize, Serialize};

use super::capability::{self, Capability};
use super::credentials::EncryptedCredentials;
use crate::base::json::{Fault, Object};
use crate::context::create_request::MAX_TIMEOUT_SECONDS;
use crate::http::egress_address::{self, Address, Policy};
use crate::services::openai_endpoints;

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
        /// Whether it may be asked to answer in pieces.
        #[serde(rename = "stream", default = "may_stream", skip_serializing_if = "Clone::clone")]
        streams: bool,
    },
    /// An MCP server by Streamable HTTP: its tools become the capabilities.
    Mcp(Upstream),
    /// The service connects to the gateway and takes its work there.
    Socket {
        /// How long what a dropped connection had is kept until the service is back.
        grace_seconds: u64,
    },
    /// Another Worker, by the name of its service binding: a signed envelope by POST, as with `http`.
    Binding { binding: String, path: String },
    /// Nothing is called: the gateway itself shows what a service could do.
    Demo {},
}

fn may_stream() -> bool {
    true
}

/// How an MCP server is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub url: String,
    /// How long a call of one of its tools may live, in seconds.
    pub timeout_seconds: u64,
    /// How often its tools are read, in seconds.
    pub refresh_seconds: u64,
    pub changed_tools: ChangedTools,
}

/// What becomes of a tool that is new or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedTools {
    #[default]
    Serve,
    /// Held back until somebody accepts it.
    Hold,
}

/// How long a tool's call may live when nothing is said, and how often tools are read, in seconds.
const TOOL_SECONDS: u64 = 300;
const REFRESH_SECONDS: u64 = 300;
/// How long a service that connects may be away when nothing is said.
const GRACE_SECONDS: u64 = 10;
const MAX_GRACE_SECONDS: u64 = 300;

/// What reading depends on besides the document.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub addresses: Policy,
    pub own_hosts: &'a [&'a str],
    /// Whether the built-in demonstration may be registered.
    pub demo: bool,
    /// Service bindings that may be named; nothing where none may be.
    pub bindings: Option<&'a [String]>,
    /// What the service is shown now: values that a document leaves out stay as they are.
    pub stored: Option<&'a EncryptedCredentials>,
}

impl Transport {
    /// The address it is called at; nothing where none is called.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Http { url } | Self::Openai { url, .. } => Some(url),
            Self::Mcp(upstream) => Some(&upstream.url),
            Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => None,
        }
    }

    /// The service binding it is called by.
    pub fn binding(&self) -> Option<&str> {
        match self {
            Self::Binding { binding, .. } => Some(binding),
            Self::Http { .. } | Self::Openai { .. } | Self::Mcp(_) | Self::Socket { .. } | Self::Demo {} => None,
        }
    }

    /// How it is asked, where it is an MCP server.
    pub fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Mcp(upstream) => Some(upstream),
            Self::Http { .. } | Self::Openai { .. } | Self::Socket { .. } | Self::Binding { .. } | Self::Demo {} => {
                None
            }
        }
    }

    /// Whether the service connects to the gateway, and how long it may be away with what it had, in milliseconds.
    pub fn grace_ms(&self) -> Option<u64> {
        match self {
            Self::Socket { grace_seconds } => Some(grace_seconds * 1000),
            Self::Http { .. } | Self::Openai { .. } | Self::Mcp(_) | Self::Binding { .. } | Self::Demo {} => None,
        }
    }

    pub fn connects(&self) -> bool {
        self.grace_ms().is_some()
    }

    /// Whether both are called at one origin, so that the credentials of the one may go to the other.
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

    /// Where health is asked for when no path is configured: an address, or a path behind a binding.
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

/// The member `transport`.
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
        // A kind that is none has its fault; what else is wrong with the address is told with it.
        _ => read_url(&mut transport, rules).filter(|_| kind.is_some()).map(|url| Transport::Http { url }),
    };
    document.absorb(transport);
    read
}

fn read_demo(transport: &mut Object<'_>, rules: Rules<'_>) -> Option<Transport> {
    if !rules.demo {
        transport.fault("kind", "is switched off here: the variable DEMO is false");
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
        transport.fault("url", "must have no query: paths such as chat/completions are put behind it");
    }
    Some(Transport::Openai { url: url?, model, streams })
}

/// The member `url`: an address the gateway may call.
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

/// The member `capabilities`, as a service reached this way may have it. `transport`: when it could be read.
pub fn read_capabilities(transport: Option<&Transport>, document: &mut Object<'_>) -> Option<Vec<Capability>> {
    match transport {
        Some(Transport::Openai { .. }) => read_openai_capabilities(document),
        // They are what the server says they are; a document that was read and is sent back has them.
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

/// All that such an endpoint offers, unless some of it is named.
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
