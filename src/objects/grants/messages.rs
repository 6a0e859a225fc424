//! What is asked of a `GrantStore`, and what it replies.

use serde::{Deserialize, Serialize};

use narthex_core::access::oauth::grant::{Grant, GrantedAccess, SeenClient};
use narthex_core::access::oauth::grant_list::{GrantEntry, GrantQuery};
use narthex_core::base::time::Timestamp;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A person has allowed something; the code is on its way.
    Begin(Box<Grant>),
    Redeem {
        hash: String,
        client: String,
        redirect_uri: Option<String>,
        verifier: String,
        /// The hash of the first refresh token, where there is one.
        next: Option<String>,
    },
    Refresh {
        place: u64,
        hash: String,
        client: String,
        next: String,
        /// What the client says of itself by now, where that is to be kept.
        #[serde(default)]
        seen: Option<Box<SeenClient>>,
    },
    /// What this client may still get of the grant. Changes nothing.
    Read { client: String },
    /// Whether this refresh token would be taken. Changes nothing.
    Look { place: u64, hash: String },
    /// Its client gives it up.
    End { client: String },
    /// Takes a name, once until a time.
    UseOnce { name: String, until: Timestamp },
    /// The public keys there are.
    Keys,
    /// Signs the claims of an access token.
    Sign { claims: String },
    /// Of a tenant's list of grants: one is in force, or was used.
    List(Box<GrantEntry>),
    /// One has ended.
    Unlist { grant: String },
    /// Those that match, the newest first.
    Listed(GrantQuery),
    /// The one of this id.
    Find { grant: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Taken(Taken),
    Looked(Option<(GrantedAccess, Timestamp)>),
    /// Whether there was something to end, or to take.
    Ended(bool),
    Keys(Vec<PublicKey>),
    Signed(String),
    Read(Option<Box<Held>>),
    Listed(Vec<GrantEntry>),
}

/// What a client may still get of a grant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    pub allowed: GrantedAccess,
    pub until: Timestamp,
    /// When it was used last.
    #[serde(default)]
    pub used_at: Option<Timestamp>,
    #[serde(default)]
    pub seen: Option<SeenClient>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    Taken(GrantedAccess),
    /// It was taken a moment ago, and is answered as then.
    Again(GrantedAccess),
    Refused,
    Replayed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    pub kid: String,
    /// As in `Jwk::text`.
    pub public: String,
}
