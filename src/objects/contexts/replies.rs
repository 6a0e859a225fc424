//! The replies of a context store that are not the core's.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::reply::Variants;
use narthex_core::base::id::ContextId;
use narthex_core::registry::revision::Revision;

/// The sender's revision is older than this one: it must decide again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    Stale { revision: Revision },
}

impl Variants for Stale {
    const NAMES: &'static [&'static str] = &["stale"];
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListReply {
    Page {
        items: Vec<ContextSummary>,
        /// More contexts may follow. Earlier versions take it for a page that ends early.
        #[serde(default)]
        cut: bool,
        /// The page has all contexts down to this sort key. An earlier version ends a page that is cut with its last
        /// item.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        complete_to: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepReply {
    Done,
    /// A context has been ready for some time and no Worker has taken it.
    Waits,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ContextSummary {
    pub id: ContextId,
    pub view: Box<RawValue>,
}
