//! The messages of a `GrantStore`: its requests and replies.
//!
//! Its objects serve four purposes: each grant has one, the signing keys have one, a client's used names have one, and
//! each tenant has an index of its grants. [`Grants`] makes the addresses.

use serde::{Deserialize, Serialize};

use crate::objects::protocol::{Address, BareObject, Done, Object, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::access::oauth::grant::{Grant, GrantedAccess, SeenClient};
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::base::canonical::digest;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;

/// How long the reading of the public signing keys may take, in milliseconds. Requests wait for it.
pub const READ_KEYS_TIMEOUT_MS: u64 = 5_000;

pub struct Grants;

impl Object for Grants {
    const KIND: Kind = Kind::Grants;
}

impl BareObject for Grants {}

impl Grants {
    /// The object of a grant.
    pub fn grant(tenant: &TenantId, grant: &str) -> Address<Self> {
        Address::new(tenant.object_for(grant))
    }

    /// The object with the keys that sign access tokens.
    pub fn own_keys() -> Address<Self> {
        Address::new(TenantId::first().object_for("keys"))
    }

    /// The object with the names that a client has used.
    pub fn used_once(tenant: &TenantId, client_id: &str) -> Address<Self> {
        Address::new(tenant.object_for(format_args!("client/{}", digest(client_id))))
    }

    /// The object with the list of a tenant's grants.
    pub fn index(tenant: &TenantId) -> Address<Self> {
        Address::new(tenant.object_for("index"))
    }
}

requests! {
    pub enum Ask of Grants {
        "begin": Begin => Done, Handle, |_| CALL_TIMEOUT_MS;
        "redeem": Redeem => TokenUse, Handle, |_| CALL_TIMEOUT_MS;
        "refresh": RefreshGrant => TokenUse, Handle, |_| CALL_TIMEOUT_MS;
        "read": ReadGrant => FoundGrant, Handle, |_| CALL_TIMEOUT_MS;
        "look": CheckToken => CheckedToken, Handle, |_| CALL_TIMEOUT_MS;
        "end": End => Ended, Handle, |_| CALL_TIMEOUT_MS;
        "use_once": UseOnce => FirstUse, Handle, |_| CALL_TIMEOUT_MS;
        "sign": Sign => Signed, HandleLater, |_| CALL_TIMEOUT_MS;
        "list": List => Done, Handle, |_| CALL_TIMEOUT_MS;
        "unlist": Unlist => Done, Handle, |_| CALL_TIMEOUT_MS;
        "listed": ReadList => Listed, Handle, |_| CALL_TIMEOUT_MS;
        "find": Find => Listed, Handle, |_| CALL_TIMEOUT_MS;
    }
    units {
        "keys": ReadKeys => Keys, HandleLater, |_| READ_KEYS_TIMEOUT_MS;
    }
}

/// A person has consented; the authorization code is about to be sent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begin(pub Box<Grant>);

#[derive(Debug, Serialize, Deserialize)]
pub struct Redeem {
    pub hash: String,
    pub client: String,
    pub redirect_uri: Option<String>,
    pub verifier: String,
    /// The hash of the first refresh token, if there is one.
    pub next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct RefreshGrant {
    pub place: u64,
    pub hash: String,
    pub client: String,
    pub next: String,
    /// The client's present metadata, if it should be stored.
    #[serde(default)]
    pub seen: Option<Box<SeenClient>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum TokenUse {
    #[serde(rename = "taken")]
    Token(TokenOutcome),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOutcome {
    #[serde(rename = "taken")]
    Accepted(GrantedAccess),
    /// It was redeemed a moment ago, and gets the same response.
    #[serde(rename = "again")]
    Repeated(GrantedAccess),
    #[serde(rename = "refused")]
    Rejected,
    Replayed,
}

/// Reads what the grant still allows this client. Changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadGrant {
    pub client: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FoundGrant {
    #[serde(rename = "read")]
    Grant(Option<Box<ActiveGrant>>),
}

/// A grant as far as its client may still use it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActiveGrant {
    pub allowed: GrantedAccess,
    pub until: Timestamp,
    /// When it was last used.
    #[serde(default)]
    pub used_at: Option<Timestamp>,
    #[serde(default)]
    pub seen: Option<SeenClient>,
}

/// Whether this refresh token would be accepted. Changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckToken {
    pub place: u64,
    pub hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum CheckedToken {
    /// The access of the grant, and when it ends; `None` if the token would not be accepted.
    #[serde(rename = "looked")]
    Access(Option<(GrantedAccess, Timestamp)>),
}

/// The client revokes the grant.
#[derive(Debug, Serialize, Deserialize)]
pub struct End {
    pub client: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Whether there was something to end.
    Ended(bool),
}

/// Claims a name until a time; only the first claim succeeds.
#[derive(Debug, Serialize, Deserialize)]
pub struct UseOnce {
    pub name: String,
    pub until: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FirstUse {
    /// Whether the name was free.
    #[serde(rename = "ended")]
    IsFirst(bool),
}

/// Reads the public signing keys.
#[derive(Debug, Serialize)]
pub struct ReadKeys;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    Keys(Vec<PublicKey>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    pub kid: String,
    /// As in `Jwk::text`.
    pub public: String,
}

/// Signs the claims of an access token.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sign {
    pub claims: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Signed {
    #[serde(rename = "signed")]
    Token(String),
}

/// In a tenant's list of grants: adds a grant, or records its use.
#[derive(Debug, Serialize, Deserialize)]
pub struct List(pub Box<GrantEntry>);

/// Removes an ended grant from the list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unlist {
    pub grant: String,
}

/// Reads the matching grants of the list, newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadList(pub GrantQuery);

/// Reads the grant with this id from the list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Find {
    pub grant: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Listed {
    #[serde(rename = "listed")]
    Entries(Vec<GrantEntry>),
}

#[cfg(test)]
mod tests {
    use super::Ask;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }
}
