//! The client side of the protocol: calling MCP servers that are registered as services.
//!
//! An upstream is called in the newest revision it supports: the modern one, in which each request describes itself, or
//! a legacy one, which begins with `initialize` and may have a session. Sending is elsewhere.

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

/// The revision in which an upstream is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamRevision {
    Modern,
    /// This legacy revision, negotiated by `initialize`.
    Legacy(String),
}

impl UpstreamRevision {
    /// `None` if the revision is not supported.
    pub fn of(version: &str) -> Option<Self> {
        match version {
            MODERN => Some(Self::Modern),
            _ => LEGACY.contains(&version).then(|| Self::Legacy(version.into())),
        }
    }

    /// The name of the revision.
    pub fn version(&self) -> &str {
        match self {
            Self::Modern => MODERN,
            Self::Legacy(version) => version,
        }
    }

    /// Whether it is the modern revision.
    pub fn is_modern(&self) -> bool {
        *self == Self::Modern
    }
}
