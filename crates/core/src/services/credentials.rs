//! What a service is shown by the gateway to be let in: headers and query parameters, or tokens of its authorization
//! server.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::transport::{Rules, Transport};
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::json::{Object, child};
use crate::http::egress_address;
use crate::http::header_name::may_be_chosen;

/// The most headers and query parameters of one service.
pub const MAX_FIELDS: usize = 8;
/// The longest name of a query parameter.
const MAX_NAME: usize = 100;

/// Where a value is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Header(String),
    Query(String),
}

impl Place {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Place::Header(one), Place::Header(other)) => one.eq_ignore_ascii_case(other),
            (Place::Query(one), Place::Query(other)) => one == other,
            (Place::Header(_), Place::Query(_)) | (Place::Query(_), Place::Header(_)) => false,
        }
    }
}

/// What a document says of one of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub place: Place,
    /// Nothing: the value that is stored for this place.
    pub value: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?}: …)", self.place)
    }
}

/// What a document says of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// With a client the only one: the header that has its tokens, with its secret for a value.
    pub each: Vec<Credential>,
    pub client: Option<OAuthClient>,
}

/// A client of an authorization server's, for which tokens are had by its credentials (RFC 6749 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthClient {
    pub token_url: String,
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// One of them as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedCredential {
    #[serde(flatten)]
    pub place: Place,
    pub value: EncryptedSecret,
}

/// All of them as they are stored. The first stands as the only one there was before there could be several.
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
    /// Nothing where there are none. A version that knows one header only uses the first.
    pub fn new(mut each: Vec<EncryptedCredential>, client: Option<OAuthClient>) -> Option<Self> {
        let first = each.iter().position(|one| matches!(one.place, Place::Header(_))).unwrap_or(0);
        if first >= each.len() {
            return None;
        }
        let EncryptedCredential { place, value } = each.remove(first);
        let (header, query) = match place {
            Place::Header(name) => (name, false),
            Place::Query(name) => (name, true),
        };
        Some(Self { header, value, client, query, more: each })
    }

    pub fn each(&self) -> impl Iterator<Item = (Place, &EncryptedSecret)> {
        let name = self.header.clone();
        let first = if self.query { Place::Query(name) } else { Place::Header(name) };
        [(first, &self.value)].into_iter().chain(self.more.iter().map(|one| (one.place.clone(), &one.value)))
    }

    pub fn values(&self) -> impl Iterator<Item = &EncryptedSecret> {
        [&self.value].into_iter().chain(self.more.iter().map(|one| &one.value))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut EncryptedSecret> {
        [&mut self.value].into_iter().chain(self.more.iter_mut().map(|one| &mut one.value))
    }

    /// The value that is stored for a place.
    pub fn of(&self, place: &Place) -> Option<&EncryptedSecret> {
        self.each().find(|(known, _)| known.same(place)).map(|(_, value)| value)
    }

    /// As they are shown: without their values.
    pub fn names(&self) -> Vec<Name<'_>> {
        match &self.client {
            Some(client) => vec![Name::Client(client)],
            None => self.each().map(|(place, _)| Name::Place(place)).collect(),
        }
    }
}

/// What is shown of one of them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Name<'a> {
    Place(Place),
    Client(&'a OAuthClient),
}

/// Values shorter than this are found in any text by chance.
const SHORTEST: usize = 8;

/// Whether a value is in a text of the service's: in whole, without the word before it, or as it stands in an address.
pub fn shows(value: &str, text: &str) -> bool {
    let Some(secret) = value.rsplit(' ').find(|part| !part.is_empty()).filter(|secret| secret.len() >= SHORTEST) else {
        return false;
    };
    let in_address: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    has(text, secret) || has(text, &in_address) || has(text, &value.replace(' ', "%20"))
}

/// Whether a secret is in a text, as it is or escaped as JSON escapes it; or begins where the text was cut off.
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

/// The member `credentials`: one of them, or a list.
pub fn read(document: &mut Object<'_>, transport: Option<&Transport>, rules: Rules<'_>) -> Option<Credentials> {
    let raw = document.raw("credentials")?;
    let at = document.pointer_to("credentials");
    if !raw.get().starts_with('[') {
        return match Object::new(raw.get(), &at) {
            Ok(mut one) => {
                let read = read_one(&mut one, transport, rules);
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
                    one.fault("token_url", "must be alone: its tokens take the place of other credentials");
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

impl Credentials {
    fn add(&mut self, more: Credentials, one: &mut Object<'_>) {
        for credential in more.each {
            if self.each.iter().any(|known| known.place.same(&credential.place)) {
                let name = if matches!(credential.place, Place::Header(_)) { "header" } else { "query" };
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

fn read_header(one: &mut Object<'_>) -> Option<Place> {
    let header = one.string("header", 1..=100);
    let header = one.require("header", header);
    if header.as_deref().is_some_and(|name| !may_be_chosen(name)) {
        one.fault(
            "header",
            "must be the name of a header that neither the gateway nor the connection sets, such as Authorization or X-API-Key",
        );
    }
    Some(Place::Header(header?))
}

fn read_query(one: &mut Object<'_>, transport: Option<&Transport>) -> Option<Place> {
    if one.has("header") {
        one.string("header", 1..=100);
        one.fault("header", "has no place beside query: each is an item of its own");
    }
    let name = one.string("query", 1..=MAX_NAME)?;
    if !name.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        one.fault("query", "must be visible ASCII");
    }
    let url = transport.and_then(Transport::url).and_then(|url| url::Url::parse(url).ok());
    if url.is_some_and(|url| url.query_pairs().any(|(known, _)| known == name)) {
        one.fault("query", "is in transport.url already");
    }
    Some(Place::Query(name))
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
        one.fault("token_url", "is for services with transport.kind mcp");
    }
    let client_id = one.string("client_id", 1..=1024);
    let client_id = one.require("client_id", client_id);
    let scope = one.string("scope", 1..=1024);
    let stored = rules.stored.and_then(|stored| stored.client.as_ref());
    let is_stored = stored.is_some_and(|stored| Some(&stored.token_url) == token_url.as_ref());
    let value = read_secret(one, "client_secret", is_stored);
    let client = OAuthClient { token_url: token_url?, client_id: client_id?, scope };
    Some(Credentials {
        each: vec![Credential { place: Place::Header("authorization".into()), value }],
        client: Some(client),
    })
}

/// A value. It may be left out where one is stored.
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
