//! Foundations: time, ids, names, JSON texts and numbers, keyed MACs, repeated calls. Imports no other room.
//!
//! What a standard of HTTP defines belongs to `http`.

pub mod alarm;
pub mod canonical;
pub(crate) mod close_codes;
pub mod content;
pub mod decimal;
pub mod done;
pub mod exact_json;
pub mod id;
pub mod json;
pub mod json_parts;
pub mod json_repair;
pub mod json_writer;
pub mod keyed_mac;
pub mod later_states;
pub mod lru;
pub mod model_name;
pub mod names;
pub mod object_name;
pub mod opaque_token;
pub mod order;
pub mod principal_id;
pub mod retries;
pub mod service_id;
pub mod sliding_window;
pub mod storage_error;
pub mod tenant_id;
pub(crate) mod text_id;
pub mod time;
pub mod timing;
pub mod tree_size;
pub mod unknown_members;
pub mod version;
#[cfg(any(test, feature = "test-support"))]
pub mod write_fault;

#[cfg(test)]
pub mod any_json;
#[cfg(test)]
pub mod pieces;
