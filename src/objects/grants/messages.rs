//! What is asked of a `GrantStore`, and what it replies.

use serde::{Deserialize, Serialize};

use crate::core::oauth::grant::{Allowed, Grant};
use crate::core::time::Timestamp;

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
    },
    /// Whether this refresh token would be taken. Changes nothing.
    Look {
        place: u64,
        hash: String,
    },
    /// Its client gives it up.
    End {
        client: String,
    },
    /// Takes a name, once until a time.
    UseOnce {
        name: String,
        until: Timestamp,
    },
    /// The public keys there are.
    Keys,
    /// Signs the claims of an access token.
    Sign {
        claims: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Taken(Taken),
    Looked(Option<(Allowed, Timestamp)>),
    /// Whether there was something to end, or to take.
    Ended(bool),
    Keys(Vec<PublicKey>),
    Signed(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    Taken(Allowed),
    Refused,
    Replayed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublicKey {
    pub kid: String,
    /// As in `Jwk::text`.
    pub public: String,
}
