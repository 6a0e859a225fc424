//! The other side of the protocol: a server that is a service here is asked as its client.
//!
//! An upstream is spoken to in the newest revision it knows: the modern one, in which each request says for itself what it
//! is, or one of the legacy revisions, which begin with `initialize` and may have a session. Kept out: sending.

pub mod access_token;
pub mod discovery;
pub mod elicitation;
pub mod link_turns;
pub mod progress;
pub mod request;
pub mod request_meta;
pub mod response;
pub mod result;
pub mod session_loss;
pub mod session_phrases;
pub mod task;
pub mod throttle;
pub mod tool_listing;

use serde::{Deserialize, Serialize};

use super::{LEGACY, MODERN};

/// How an upstream is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spoken {
    Modern,
    /// In this revision, which `initialize` agreed on.
    Legacy(String),
}

impl Spoken {
    /// Nothing when nobody here speaks that.
    pub fn of(version: &str) -> Option<Self> {
        match version {
            MODERN => Some(Self::Modern),
            _ => LEGACY.contains(&version).then(|| Self::Legacy(version.into())),
        }
    }

    pub fn version(&self) -> &str {
        match self {
            Self::Modern => MODERN,
            Self::Legacy(version) => version,
        }
    }

    pub fn is_modern(&self) -> bool {
        *self == Self::Modern
    }
}
