//! How a service is called. One file a kind; all of them take an [`Order`] and give an `upstream::Answer`.

pub mod http;

use crate::core::context::Admission;
use crate::core::time::Timestamp;
use crate::core::trace::Trace;

/// One attempt to be made, as every transport needs it.
pub struct Order<'a> {
    pub admission: &'a Admission,
    /// As the client sent them.
    pub parameters: &'a str,
    /// From 1.
    pub attempt: u64,
    /// What the attempt's own span is called.
    pub trace: Trace,
    pub now: Timestamp,
}
