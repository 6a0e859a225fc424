//! How a service is called. One file a kind; all of them take an [`Order`] and give an `upstream::Answer`.

pub mod binding;
pub mod demo;
pub mod http;
pub mod mcp;
pub mod openai;
pub mod socket;
pub mod webhook;

use crate::core::time::Timestamp;
use crate::core::trace::Trace;
use crate::objects::contexts::messages::Work;

/// One attempt to be made, as every transport needs it.
pub struct Order<'a> {
    pub work: &'a Work,
    /// Where the service may end its work later.
    pub callback_url: String,
    /// What the attempt's own span is called.
    pub trace: Trace,
    pub now: Timestamp,
}
