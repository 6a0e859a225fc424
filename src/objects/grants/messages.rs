//! The messages of a `GrantStore`: its requests and replies.

use serde::{Deserialize, Serialize};

use narthex_core::access::oauth::grant::{Grant, GrantedAccess, SeenClient};
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::base::time::Timestamp;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A person has consented; the authorization code is about to be sent.
    Begin(Box<Grant>),
    Redeem {
        hash: String,
        client: String,
        redirect_uri: Option<String>,
        verifier: String,
        /// The hash of the first refresh token, if there is one.
        next: Option<String>,
    },
    Refresh {
        place: u64,
        hash: String,
        client: String,
        next: String,
        /// The client's present metadata, if it should be stored.
        #[serde(default)]
        seen: Option<Box<SeenClient>>,
    },
    /// Reads what the grant still allows this client. Changes nothing.
    Read { client: String },
    /// Whether this refresh token would be accepted. Changes nothing.
    Look { place: u64, hash: String },
    /// The client revokes the grant.
    End { client: String },
    /// Claims a name until a time; only the first claim succeeds.
    UseOnce { name: String, until: Timestamp },
    /// The public signing keys.
    Keys,
    /// Signs the claims of an access token.
    Sign { claims: String },
    /// In a tenant's list of grants: adds a grant, or records its use.
    List(Box<GrantEntry>),
    /// Removes an ended grant from the list.
    Unlist { grant: String },
    /// Matching grants, newest first.
    Listed(GrantQuery),
    /// The grant with this id.
    Find { grant: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    #[serde(rename = "taken")]
    Token(TokenOutcome),
    Looked(Option<(GrantedAccess, Timestamp)>),
    /// Whether there was something to end, or the name was free.
    Ended(bool),
    Keys(Vec<PublicKey>),
    Signed(String),
    Read(Option<Box<ActiveGrant>>),
    Listed(Vec<GrantEntry>),
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    pub kid: String,
    /// As in `Jwk::text`.
    pub public: String,
}
