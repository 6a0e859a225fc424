//! Addresses that people register: services, callbacks, JWKS, issuers, client metadata. The
//! gateway will call them, so they must not lead back inside (server-side request forgery).
//!
//! An address is parsed once, by the WHATWG URL standard, and the parsed URL is what gets
//! called; nothing here or later looks at the text with a second parser. What that standard
//! quietly repairs (tabs, backslashes, missing slashes, odd spellings of numbers) is refused,
//! so that what people read is what is called. Names are RFC 1123, reserved ones RFC 6761,
//! 6762, 7686, 8375 and 9476.
//!
//! A name can still resolve to anything: that is for the platform's
//! `global_fetch_strictly_public` to stop.

use url::{Host, Url};

/// The longest address taken, in bytes.
const MAX_BYTES: usize = 2048;
/// The longest host name there is (RFC 1035 §2.3.4), and the longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Names that are not on the public Internet: reserved by RFC, or common inside networks.
const RESERVED: [&str; 14] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "onion",
    "alt",
    "test",
    "invalid",
];

/// Public names that resolve to whatever address is written in them, or to loopback.
const REBINDING: [&str; 17] = [
    "nip.io",
    "sslip.io",
    "xip.io",
    "ip6.name",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
    "localho.st",
    "local.gd",
    "lcl.host",
    "traefik.me",
    "rbndr.us",
    "rebind.network",
    "rebind.it",
    "1u.ms",
    "yoogle.com",
];

/// What a deployment allows beyond the strict rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Development only: http, any port, loopback hosts (localhost, 127.0.0.0/8, ::1).
    pub allow_loopback: bool,
}

/// An address that was checked: the only kind that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    /// The service binding it is called by, which leads to one Worker whatever the host says.
    binding: Option<String>,
}

/// The host that a Worker called by a binding finds in its requests. Nothing else is ever called by it.
const BOUND: &str = "https://narthex.internal/";

impl Address {
    /// One at the same place, with more behind the path.
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        Self { url, ..self.clone() }
    }

    /// The same with more in its query.
    pub fn with_query<'a>(&self, more: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(more);
        Self { url, ..self.clone() }
    }

    /// A path, with a query if there is one, behind a service binding. `bindings`: those that may be named here; nothing
    /// where none may be.
    ///
    /// # Errors
    /// There is no such binding, or it may not be named.
    pub fn bound(binding: &str, path: &str, bindings: Option<&[String]>) -> Result<Self, Refusal> {
        let known = bindings.ok_or(Refusal::BindingTenant)?;
        if !known.iter().any(|one| one == binding) {
            return Err(Refusal::Binding);
        }
        let mut url = Url::parse(BOUND).map_err(|_| Refusal::Form)?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // Set, not joined: a path that begins with // would name another host.
        url.set_path(path);
        url.set_query(query);
        Ok(Self { url, binding: Some(binding.into()) })
    }

    pub fn binding(&self) -> Option<&str> {
        self.binding.as_deref()
    }
}

impl std::ops::Deref for Address {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.url
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.url.into()
    }
}

/// Why an address is refused. The text is for the person who registered it and says what to
/// do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the deployment has no service binding of this name: name one that wrangler.toml has under [[services]], \
         or set it there and deploy"
    )]
    Binding,
    #[error("service bindings belong to the deployment: only services of the tenant default are called by them")]
    BindingTenant,
    #[error("the address is longer than {MAX_BYTES} bytes: use a shorter one")]
    TooLong,
    #[error(
        "the address has a space, a backslash or a character that cannot be seen: \
         percent-encode it, or write an international name as xn--…"
    )]
    Character,
    #[error("the address has to begin with https:// and a host name")]
    Form,
    #[error("the address has to use https")]
    Scheme,
    #[error("the address has a user name or password in it: leave it out")]
    UserInfo,
    #[error("the address has a fragment (#…): leave it out")]
    Fragment,
    #[error("the address has to use port 443: leave the port out")]
    Port,
    #[error("the address has an IP address as its host: use a public host name")]
    IpAddress,
    #[error("the address has a host that is not a well-formed host name")]
    HostName,
    #[error("the address ends its host name with a dot: leave the dot out")]
    TrailingDot,
    #[error("the address has a host name of one part only: use the full public name")]
    SingleLabel,
    #[error("the address has a host name that is not public (.{0}): use a public one")]
    Reserved(&'static str),
    #[error(
        "the address has a host name under {0}, which resolves to whatever is asked for: \
         use the service's own name"
    )]
    Rebinding(&'static str),
    #[error("the address leads to this gateway itself: use the service's own address")]
    Own,
}

/// Checks an address and gives it parsed, to be called exactly as it is.
///
/// `own_hosts` are the hosts this gateway answers on, with or without a port; without one,
/// the scheme's own port is meant. With [`Policy::allow_loopback`] a loopback host may use
/// http and any port; every other rule holds for it as well, and all rules hold for other
/// hosts.
pub fn check(text: &str, policy: Policy, own_hosts: &[&str]) -> Result<Address, Refusal> {
    let url = read(text)?;
    let loopback = policy.allow_loopback && is_loopback(&url);
    if !loopback {
        if url.scheme() != "https" {
            return Err(Refusal::Scheme);
        }
        check_host(&url)?;
        let port = authority(text)?.rsplit_once(':').map(|(_, port)| port);
        if url.port().is_some() || port.is_some_and(|port| port != "443") {
            return Err(Refusal::Port);
        }
    }
    if own_hosts.iter().any(|own| leads_to(&url, own)) {
        return Err(Refusal::Own);
    }
    Ok(Address { url, binding: None })
}

/// Checks an address that only names somebody and is never called: any host and any port, by http or https.
pub fn check_name(text: &str, own_hosts: &[&str]) -> Result<(), Refusal> {
    let url = read(text)?;
    if own_hosts.iter().any(|own| leads_to(&url, own)) { Err(Refusal::Own) } else { Ok(()) }
}

/// What every address has to be, parsed.
fn read(text: &str) -> Result<Url, Refusal> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::TooLong);
    }
    if !text.chars().all(acceptable) {
        return Err(Refusal::Character);
    }
    let authority = authority(text)?;
    if text.contains('#') {
        return Err(Refusal::Fragment);
    }
    if authority.contains('@') {
        return Err(Refusal::UserInfo);
    }
    // The standard decodes these before it looks at the host.
    if authority.contains('%') {
        return Err(Refusal::HostName);
    }
    Url::parse(text).map_err(refusal)
}

/// The host and port of an origin, as [`check`] takes its own hosts.
pub fn host_of(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.split('/').next().unwrap_or_default()
}

/// Printable ASCII but for the backslash, which the standard reads as a slash; beyond ASCII
/// letters and digits only, because much of the rest is dropped or cannot be seen. What such
/// letters become as a host is checked after parsing, like every other host.
fn acceptable(c: char) -> bool {
    match c {
        '\\' => false,
        '!'..='~' => true,
        _ => !c.is_ascii() && c.is_alphanumeric(),
    }
}

/// What stands between `://` and the path. The standard would also take no slash, one, or
/// five: here it is two.
fn authority(text: &str) -> Result<&str, Refusal> {
    let (scheme, rest) = text.split_once(':').ok_or(Refusal::Form)?;
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Refusal::Scheme);
    }
    let rest = rest.strip_prefix("//").ok_or(Refusal::Form)?;
    match rest.split(['/', '?', '#']).next() {
        None | Some("") => Err(Refusal::Form),
        Some(authority) => Ok(authority),
    }
}

fn refusal(error: url::ParseError) -> Refusal {
    match error {
        url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => Refusal::IpAddress,
        url::ParseError::InvalidPort => Refusal::Port,
        url::ParseError::IdnaError | url::ParseError::InvalidDomainCharacter => Refusal::HostName,
        _ => Refusal::Form,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The strict rules. The parsed host of an https URL is lower case and punycode already, and
/// every number in any spelling is an `Ipv4`.
fn check_host(url: &Url) -> Result<(), Refusal> {
    let name = match url.host() {
        Some(Host::Domain(name)) => name,
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(Refusal::IpAddress),
        None => return Err(Refusal::Form),
    };
    if name.ends_with('.') {
        return Err(Refusal::TrailingDot);
    }
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(Refusal::HostName);
    }
    let under =
        |suffix: &&&str| name.strip_suffix(**suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    if let Some(suffix) = RESERVED.iter().find(under) {
        return Err(Refusal::Reserved(suffix));
    }
    if let Some(suffix) = REBINDING.iter().find(under) {
        return Err(Refusal::Rebinding(suffix));
    }
    if !name.contains('.') {
        return Err(Refusal::SingleLabel);
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether `url` is one of the gateway's own hosts. Every loopback host is the same machine,
/// so there only the port tells a service from the gateway.
fn leads_to(url: &Url, own: &str) -> bool {
    let Ok(own) = Url::parse(&format!("{}://{own}/", url.scheme())) else {
        return false;
    };
    let same_host = url.host() == own.host() || (is_loopback(url) && is_loopback(&own));
    same_host && url.port_or_known_default() == own.port_or_known_default()
}

#[cfg(test)]
mod tests;
