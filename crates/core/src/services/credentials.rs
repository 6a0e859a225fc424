//! The credentials that the gateway presents to a service: headers and query parameters, or tokens of its authorization
//! server.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::transport::{Rules, Transport};
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::json::{Object, child, members};
use crate::http::egress_address;
use crate::http::header_name::may_be_chosen;

/// The maximum number of headers and query parameters of one service.
pub const MAX_FIELDS: usize = 8;
/// The longest name of a header or a query parameter, in bytes.
const MAX_NAME: usize = 100;

/// Where a value is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CredentialPlace {
    Header(String),
    Query(String),
}

impl CredentialPlace {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (CredentialPlace::Header(one), CredentialPlace::Header(other)) => one.eq_ignore_ascii_case(other),
            (CredentialPlace::Query(one), CredentialPlace::Query(other)) => one == other,
            (CredentialPlace::Header(_), CredentialPlace::Query(_))
            | (CredentialPlace::Query(_), CredentialPlace::Header(_)) => false,
        }
    }
}

/// One credential as registered.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub place: CredentialPlace,
    /// `None`: the value that is stored for this place.
    pub value: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?}: …)", self.place)
    }
}

/// All credentials as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// With a client, there is only one: the header for its tokens, with the client's secret as its value.
    pub each: Vec<Credential>,
    pub client: Option<OAuthClient>,
}

/// A client at an authorization server, which issues tokens for its credentials (RFC 6749 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct OAuthClient {
    pub token_url: String,
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// One credential as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedCredential {
    #[serde(flatten)]
    pub place: CredentialPlace,
    pub value: EncryptedSecret,
}

/// All credentials as stored. The first has the form of the only one that earlier versions stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedCredentials {
    header: String,
    value: EncryptedSecret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OAuthClient>,
    /// The first is a query parameter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    query: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more: Vec<EncryptedCredential>,
}

impl EncryptedCredentials {
    /// `None` if there are none. A version that knows only one header uses the first.
    pub fn new(mut each: Vec<EncryptedCredential>, client: Option<OAuthClient>) -> Option<Self> {
        let first = each.iter().position(|one| matches!(one.place, CredentialPlace::Header(_))).unwrap_or(0);
        if first >= each.len() {
            return None;
        }
        let EncryptedCredential { place, value } = each.remove(first);
        let (header, query) = match place {
            CredentialPlace::Header(name) => (name, false),
            CredentialPlace::Query(name) => (name, true),
        };
        Some(Self { header, value, client, query, more: each })
    }

    /// Each credential with its place.
    pub fn each(&self) -> impl Iterator<Item = (CredentialPlace, &EncryptedSecret)> {
        let name = self.header.clone();
        let first = if self.query { CredentialPlace::Query(name) } else { CredentialPlace::Header(name) };
        [(first, &self.value)].into_iter().chain(self.more.iter().map(|one| (one.place.clone(), &one.value)))
    }

    /// The encrypted values.
    pub fn values(&self) -> impl Iterator<Item = &EncryptedSecret> {
        [&self.value].into_iter().chain(self.more.iter().map(|one| &one.value))
    }

    /// The encrypted values, to be replaced.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut EncryptedSecret> {
        [&mut self.value].into_iter().chain(self.more.iter_mut().map(|one| &mut one.value))
    }

    /// The value that is stored for a place.
    pub fn of(&self, place: &CredentialPlace) -> Option<&EncryptedSecret> {
        self.each().find(|(known, _)| known.same(place)).map(|(_, value)| value)
    }

    /// The public view: without the values.
    pub fn names(&self) -> Vec<Name<'_>> {
        match &self.client {
            Some(client) => vec![Name::Client(client)],
            None => self.each().map(|(place, _)| Name::Place(place)).collect(),
        }
    }
}

/// The public view of one credential.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Name<'a> {
    Place(CredentialPlace),
    Client(&'a OAuthClient),
}

/// Values shorter than this occur in any text by chance, in bytes.
const SHORTEST: usize = 8;

/// Whether a value occurs in a text from the service: in full, without its scheme, or URL-encoded.
pub fn shows(value: &str, text: &str) -> bool {
    let Some(secret) = value.rsplit(' ').find(|part| !part.is_empty()).filter(|secret| secret.len() >= SHORTEST) else {
        return false;
    };
    let in_address: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    has(text, secret) || has(text, &in_address) || has(text, &value.replace(' ', "%20"))
}

/// Whether a secret occurs in a text, verbatim or JSON-escaped, or begins where the text was cut off.
fn has(text: &str, secret: &str) -> bool {
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    let escaped = escaped.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(secret);
    let end = text.trim_end_matches(['"', '…']);
    let is_cut = |length: usize| secret.get(..length).is_some_and(|beginning| end.ends_with(beginning));
    text.contains(secret)
        || text.contains(escaped)
        || text.contains(&secret.replace('/', "\\/"))
        || (SHORTEST..secret.len()).any(is_cut)
}

/// Reads the member `credentials`: one credential, or a list.
pub fn read(document: &mut Object<'_>, transport: Option<&Transport>, rules: Rules<'_>) -> Option<Credentials> {
    let raw = document.raw("credentials")?;
    let at = document.pointer_to("credentials");
    if !raw.get().starts_with('[') {
        return match Object::new(raw.get(), &at) {
            Ok(mut one) => {
                let names_all = one.has("headers") || one.has_object("query");
                let read = match names_all {
                    true => Some(read_by_place(&mut one, transport, rules)),
                    false => read_one(&mut one, transport, rules),
                };
                document.absorb(one);
                read
            }
            Err(fault) => {
                document.faults([fault]);
                None
            }
        };
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    if !(1..=MAX_FIELDS).contains(&items.len()) {
        document.fault("credentials", format!("must have 1 to {MAX_FIELDS} items, has {}", items.len()));
        return None;
    }
    let is_single = items.len() == 1;
    let mut all = Credentials { each: Vec::new(), client: None };
    for (index, item) in items.into_iter().enumerate() {
        match Object::new(item.get(), &child(&at, &index.to_string())) {
            Ok(mut one) => {
                if one.has("token_url") && !is_single {
                    one.fault("token_url", "must be the only item: its tokens replace other credentials");
                }
                if let Some(read) = read_one(&mut one, transport, rules) {
                    all.add(read, &mut one);
                }
                document.absorb(one);
            }
            Err(fault) => document.faults([fault]),
        }
    }
    Some(all)
}

/// The values in the member `credentials` of a document or a patch, each once. Nothing is checked, and places are not
/// reported: what [`read`] makes of the member is paired with these by value.
pub fn values(document: &str) -> Vec<String> {
    let member = |text: &str, name: &str| -> Option<String> {
        let members = members(text)?;
        members.into_iter().find(|(known, _)| known == name).map(|(_, raw)| raw.get().to_string())
    };
    let Some(given) = member(document, "credentials") else { return Vec::new() };
    let items: Vec<&RawValue> = serde_json::from_str(&given).unwrap_or_default();
    let items = items.into_iter().map(RawValue::get).chain([given.as_str()]);
    let mut raw: Vec<String> = items
        .flat_map(|item| ["value", "client_secret"].into_iter().filter_map(move |name| member(item, name)))
        .collect();
    for place in ["headers", "query"].into_iter().filter_map(|name| member(&given, name)) {
        raw.extend(members(&place).into_iter().flatten().map(|(_, value)| value.get().to_string()));
    }
    let mut values: Vec<String> = Vec::new();
    for value in raw.iter().filter_map(|raw| serde_json::from_str(raw).ok()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// Reads headers and query parameters with their values, each as an object. A value that is null stays as it is stored.
fn read_by_place(all: &mut Object<'_>, transport: Option<&Transport>, rules: Rules<'_>) -> Credentials {
    let mut read = Credentials { each: Vec::new(), client: None };
    let stored = rules.stored.filter(|stored| stored.client.is_none());
    for (member, is_header) in [("headers", true), ("query", false)] {
        let Some(mut values) = all.object(member) else { continue };
        for name in values.names().map(String::from).collect::<Vec<_>>() {
            if let Err(detail) = if is_header { header_name(&name) } else { query_name(&name, transport) } {
                values.fault(&name, detail);
            }
            let place =
                if is_header { CredentialPlace::Header(name.clone()) } else { CredentialPlace::Query(name.clone()) };
            let is_stored = stored.is_some_and(|stored| stored.of(&place).is_some());
            let value = read_secret(&mut values, &name, is_stored);
            values.raw_or_null(&name);
            if read.each.iter().any(|known| known.place.same(&place)) {
                values.fault(&name, "is named twice");
            }
            read.each.push(Credential { place, value });
        }
        all.absorb(values);
    }
    if !(1..=MAX_FIELDS).contains(&read.each.len()) {
        all.fault(
            "headers",
            format!("and query must have 1 to {MAX_FIELDS} members together, have {}", read.each.len()),
        );
    }
    read
}

impl Credentials {
    fn add(&mut self, more: Credentials, one: &mut Object<'_>) {
        for credential in more.each {
            if self.each.iter().any(|known| known.place.same(&credential.place)) {
                let name = if matches!(credential.place, CredentialPlace::Header(_)) { "header" } else { "query" };
                one.fault(name, "is named twice");
            }
            self.each.push(credential);
        }
        self.client = self.client.take().or(more.client);
    }
}

fn read_one(one: &mut Object<'_>, transport: Option<&Transport>, rules: Rules<'_>) -> Option<Credentials> {
    if one.has("token_url") {
        return read_client(one, transport, rules);
    }
    let place = if one.has("query") { read_query(one, transport) } else { read_header(one) };
    let stored = rules.stored.filter(|stored| stored.client.is_none());
    let is_stored = place.as_ref().zip(stored).is_some_and(|(place, stored)| stored.of(place).is_some());
    let value = read_secret(one, "value", is_stored);
    Some(Credentials { each: vec![Credential { place: place?, value }], client: None })
}

fn header_name(name: &str) -> Result<(), &'static str> {
    let expected = "must be the name of a header that neither the gateway nor the connection sets, such as \
                    Authorization or X-API-Key";
    if may_be_chosen(name) && name.len() <= MAX_NAME { Ok(()) } else { Err(expected) }
}

fn query_name(name: &str, transport: Option<&Transport>) -> Result<(), &'static str> {
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err("must be visible ASCII");
    }
    let url = transport.and_then(Transport::url).and_then(|url| url::Url::parse(url).ok());
    let in_url = url.is_some_and(|url| url.query_pairs().any(|(known, _)| known == name));
    let endpoint = transport.and_then(Transport::model_endpoint);
    let in_query = endpoint.is_some_and(|(_, endpoint)| endpoint.query.contains_key(name));
    match (in_url, in_query) {
        (true, _) => Err("is in transport.url already"),
        (_, true) => Err("is in transport.query already"),
        (false, false) => Ok(()),
    }
}

fn read_header(one: &mut Object<'_>) -> Option<CredentialPlace> {
    let header = one.string("header", 1..=MAX_NAME);
    let header = one.require("header", header);
    if let Some(Err(detail)) = header.as_deref().map(header_name) {
        one.fault("header", detail);
    }
    Some(CredentialPlace::Header(header?))
}

fn read_query(one: &mut Object<'_>, transport: Option<&Transport>) -> Option<CredentialPlace> {
    if one.has("header") {
        one.string("header", 1..=100);
        one.fault("header", "is not allowed together with query: use separate items");
    }
    let name = one.string("query", 1..=MAX_NAME)?;
    if let Err(detail) = query_name(&name, transport) {
        one.fault("query", detail);
    }
    Some(CredentialPlace::Query(name))
}

fn read_client(one: &mut Object<'_>, transport: Option<&Transport>, rules: Rules<'_>) -> Option<Credentials> {
    let url = one.string("token_url", 1..=2048);
    let token_url = url.and_then(|text| match egress_address::check(&text, rules.addresses, rules.own_hosts) {
        Ok(url) => Some(url.to_string()),
        Err(refusal) => {
            one.fault("token_url", refusal.to_string());
            None
        }
    });
    if transport.is_some_and(|transport| transport.upstream().is_none()) {
        one.fault("token_url", "is only allowed with transport.kind mcp");
    }
    let client_id = one.string("client_id", 1..=1024);
    let client_id = one.require("client_id", client_id);
    let scope = one.string("scope", 1..=1024);
    let stored = rules.stored.and_then(|stored| stored.client.as_ref());
    let is_stored = stored.is_some_and(|stored| Some(&stored.token_url) == token_url.as_ref());
    let value = read_secret(one, "client_secret", is_stored);
    let client = OAuthClient { token_url: token_url?, client_id: client_id?, scope };
    Some(Credentials {
        each: vec![Credential { place: CredentialPlace::Header("authorization".into()), value }],
        client: Some(client),
    })
}

/// Reads a value, which may be omitted if one is stored.
fn read_secret(one: &mut Object<'_>, name: &str, is_stored: bool) -> Option<String> {
    let value = one.string(name, 1..=4096);
    if !is_stored {
        one.require(name, value.as_ref());
    }
    if value.as_deref().is_some_and(|value| !value.bytes().all(|b| (0x20..0x7f).contains(&b))) {
        one.fault(name, "must be visible ASCII");
    }
    value
}

#[cfg(test)]
mod tests;
