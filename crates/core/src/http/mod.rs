//! HTTP standards for requests and responses, independent of the platform.
//!
//! What a path means belongs to the gateway (`src/gateway`), and what a service's response means to `calling`.

pub mod client_address;
pub mod egress_address;
pub mod etag;
pub mod header_name;
pub mod media_type;
pub mod merge_patch;
pub mod one_line;
pub mod page_cursor;
pub mod paging;
pub mod prefer;
pub mod problem;
pub mod query;
pub mod retry_after;
pub mod sse;
pub mod trace_context;
