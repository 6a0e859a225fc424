//! Registered URLs: services, callbacks, JWKS, issuers, client metadata. The gateway calls them, so they must not lead
//! into internal networks (server-side request forgery).
//!
//! An address is parsed once, by the WHATWG URL standard, and the parsed URL is called; no second parser ever reads the
//! text. Whatever that standard silently repairs (tabs, backslashes, missing slashes, unusual spellings of numbers) is
//! rejected, so that the gateway calls what people read. Host names follow RFC 1123; reserved ones are from RFC 6761,
//! 6762, 7686, 8375 and 9476.
//!
//! A name can still resolve to any address; the platform's `global_fetch_strictly_public` prevents such calls.
//!
//! A deployment can allow exact origins beside public addresses ([`Origin`]). Only what its own principals register may
//! use them; addresses that strangers name, as OAuth clients do, are checked without them.

use url::{Host, Url};

mod origin;

pub use origin::Origin;

/// The longest accepted address, in bytes.
const MAX_BYTES: usize = 2048;
/// The maximum lengths of a host name and of a label (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Names that are not on the public Internet: reserved by RFC, or common in internal networks.
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

/// Public names that resolve to the address written in them, or to loopback.
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
pub struct Policy<'o> {
    /// Development only: http, any port, loopback hosts (localhost, 127.0.0.0/8, ::1).
    pub allow_loopback: bool,
    /// Exact origins with any scheme, host and port.
    pub origins: &'o [Origin],
}

impl Policy<'_> {
    /// Nothing beyond the strict rules.
    pub const STRICT: Policy<'static> = Policy { allow_loopback: false, origins: &[] };

    /// This policy for addresses that strangers name.
    pub fn for_strangers(self) -> Policy<'static> {
        Policy { origins: &[], ..self }
    }
}

/// A checked address. Only such addresses can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    reach: Reach,
}

/// How an address is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    Internet,
    /// Its origin is allowed: through the binding to private networks, if the deployment has it.
    Private,
    /// Through this service binding, which leads to one Worker, whatever the host.
    Binding(String),
}

/// The binding to private networks. Services cannot name it.
const PRIVATE: &str = "PRIVATE";

/// The origin that a Worker sees when it is called through a binding. Never called otherwise.
const BOUND: &str = "https://narthex.internal/";

impl Address {
    /// This address with `path` appended to its path.
    pub fn below(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        Self { url, ..self.clone() }
    }

    /// This address with more query parameters.
    pub fn with_query<'a>(&self, more: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(more);
        Self { url, ..self.clone() }
    }

    /// The address of a path, with an optional query, behind a service binding. `bindings`: the permitted bindings;
    /// `None` if the tenant may not use bindings.
    ///
    /// # Errors
    /// The binding does not exist, or is not permitted.
    pub fn bound(binding: &str, path: &str, bindings: Option<&[String]>) -> Result<Self, AddressError> {
        let known = bindings.ok_or(AddressError::BindingTenant)?;
        if !known.iter().any(|one| one == binding) {
            return Err(AddressError::Binding);
        }
        let mut url = Url::parse(BOUND).map_err(|_| AddressError::Form)?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // Set instead of joined: a path that begins with // would name another host.
        url.set_path(path);
        url.set_query(query);
        Ok(Self { url, reach: Reach::Binding(binding.into()) })
    }

    /// The binding through which it is called; `None` if through the Internet.
    pub fn binding(&self) -> Option<&str> {
        match &self.reach {
            Reach::Internet => None,
            Reach::Private => Some(PRIVATE),
            Reach::Binding(binding) => Some(binding),
        }
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

/// What an operator can do about an address that is not public.
const ALLOW: &str = "add its origin to ALLOWED_ORIGINS (`narthex serve --allow-origin`)";

/// Why an address is rejected. The text is for the person who registers it, and says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "the deployment has no service binding with this name: use one that wrangler.toml lists under [[services]], \
         or add it there and deploy"
    )]
    Binding,
    #[error("service bindings belong to the deployment: only services of the tenant default may use them")]
    BindingTenant,
    #[error("the address is longer than {MAX_BYTES} bytes: use a shorter one")]
    TooLong,
    #[error(
        "the address contains a space, a backslash or an invisible character: \
         percent-encode it, or write an international name as xn--…"
    )]
    Character,
    #[error("the address must begin with https:// and a host name")]
    Form,
    #[error("the address must use https: change it, or {ALLOW}")]
    Scheme,
    #[error("the address contains a user name or password: remove it")]
    UserInfo,
    #[error("the address contains a fragment (#…): remove it")]
    Fragment,
    #[error("the address must use port 443: remove the port, or {ALLOW}")]
    Port,
    #[error("the host of the address is an IP address: use a public host name, or {ALLOW}")]
    IpAddress,
    #[error("the host of the address is not a valid host name")]
    HostName,
    #[error("the host name of the address ends with a dot: remove the dot")]
    TrailingDot,
    #[error("the host name of the address has only one label: use the full public name, or {ALLOW}")]
    SingleLabel,
    #[error("the host name of the address is not public (.{0}): use a public one, or {ALLOW}")]
    Reserved(&'static str),
    #[error(
        "the host name of the address is under {0}, which resolves to any address it is asked for: \
         use the service's own name, or {ALLOW}"
    )]
    Rebinding(&'static str),
    #[error("the address leads to this gateway itself: use the service's own address")]
    Own,
}

/// Checks an address and returns it parsed, to be called exactly as it is.
///
/// `own_hosts` are the hosts of this gateway, with or without a port; the default is the scheme's port. With
/// [`Policy::allow_loopback`] a loopback host may use http and any port, and so may any host at [`Policy::origins`];
/// every other rule applies to them as well.
pub fn check(text: &str, policy: Policy<'_>, own_hosts: &[&str]) -> Result<Address, AddressError> {
    let url = read(text)?;
    let is_allowed = policy.origins.iter().any(|origin| origin.has(&url));
    let is_loopback = policy.allow_loopback && is_loopback(&url);
    if !is_allowed && !is_loopback {
        check_public(&url, text)?;
    }
    if own_hosts.iter().any(|own| leads_to(&url, own)) {
        return Err(AddressError::Own);
    }
    Ok(Address { url, reach: if is_allowed { Reach::Private } else { Reach::Internet } })
}

/// Checks an address that is only an identifier and never called: any host and port, http or https.
pub fn check_name(text: &str, own_hosts: &[&str]) -> Result<(), AddressError> {
    let url = read(text)?;
    if own_hosts.iter().any(|own| leads_to(&url, own)) { Err(AddressError::Own) } else { Ok(()) }
}

/// Parses an address and checks the rules for all addresses.
fn read(text: &str) -> Result<Url, AddressError> {
    if text.len() > MAX_BYTES {
        return Err(AddressError::TooLong);
    }
    if !text.chars().all(acceptable) {
        return Err(AddressError::Character);
    }
    let authority = authority(text)?;
    if text.contains('#') {
        return Err(AddressError::Fragment);
    }
    if authority.contains('@') {
        return Err(AddressError::UserInfo);
    }
    // The standard decodes these before it reads the host.
    if authority.contains('%') {
        return Err(AddressError::HostName);
    }
    Url::parse(text).map_err(refusal)
}

/// The host and port of an origin, as [`check`] takes its own hosts.
pub fn host_of(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.split('/').next().unwrap_or_default()
}

/// Printable ASCII except the backslash, which the standard reads as a slash. Beyond ASCII only letters and digits,
/// because many other characters are dropped or invisible. A host with such letters is checked after parsing, like any
/// other.
fn acceptable(c: char) -> bool {
    match c {
        '\\' => false,
        '!'..='~' => true,
        _ => !c.is_ascii() && c.is_alphanumeric(),
    }
}

/// The text between `://` and the path. The standard would accept any number of slashes; here there must be two.
fn authority(text: &str) -> Result<&str, AddressError> {
    let (scheme, rest) = text.split_once(':').ok_or(AddressError::Form)?;
    if !["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(AddressError::Scheme);
    }
    let rest = rest.strip_prefix("//").ok_or(AddressError::Form)?;
    match rest.split(['/', '?', '#']).next() {
        None | Some("") => Err(AddressError::Form),
        Some(authority) => Ok(authority),
    }
}

fn refusal(error: url::ParseError) -> AddressError {
    match error {
        url::ParseError::InvalidIpv4Address | url::ParseError::InvalidIpv6Address => AddressError::IpAddress,
        url::ParseError::InvalidPort => AddressError::Port,
        url::ParseError::IdnaError | url::ParseError::InvalidDomainCharacter => AddressError::HostName,
        _ => AddressError::Form,
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

/// The strict rules for a URL and its text.
fn check_public(url: &Url, text: &str) -> Result<(), AddressError> {
    if url.scheme() != "https" {
        return Err(AddressError::Scheme);
    }
    check_host(url)?;
    let port = authority(text)?.rsplit_once(':').map(|(_, port)| port);
    if url.port().is_some() || port.is_some_and(|port| port != "443") {
        return Err(AddressError::Port);
    }
    Ok(())
}

/// The strict rules for hosts. The parsed host of an https URL is already lower case and punycode, and a number in any
/// spelling is an `Ipv4`.
fn check_host(url: &Url) -> Result<(), AddressError> {
    let name = match url.host() {
        Some(Host::Domain(name)) => name,
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(AddressError::IpAddress),
        None => return Err(AddressError::Form),
    };
    if name.ends_with('.') {
        return Err(AddressError::TrailingDot);
    }
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(AddressError::HostName);
    }
    let under =
        |suffix: &&&str| name.strip_suffix(**suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    if let Some(suffix) = RESERVED.iter().find(under) {
        return Err(AddressError::Reserved(suffix));
    }
    if let Some(suffix) = REBINDING.iter().find(under) {
        return Err(AddressError::Rebinding(suffix));
    }
    if !name.contains('.') {
        return Err(AddressError::SingleLabel);
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether the URL leads to one of the gateway's own hosts. All loopback hosts are the same machine, so that only the
/// port distinguishes a service from the gateway there.
fn leads_to(url: &Url, own: &str) -> bool {
    let Ok(own) = Url::parse(&format!("{}://{own}/", url.scheme())) else {
        return false;
    };
    let same_host = url.host() == own.host() || (is_loopback(url) && is_loopback(&own));
    same_host && url.port_or_known_default() == own.port_or_known_default()
}

#[cfg(test)]
mod tests;
