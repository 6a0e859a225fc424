//! The endpoints that model clients know: `/v1/chat/completions`, `/v1/responses`, `/v1/embeddings`,
//! `/v1/messages`, `/v1/models`.
//!
//! A request passes these phases: intake (what decides, while the body stays with the platform) → selection (the
//! targets of the model, in order) → attempts, one per target → delivery (the response, and the record of the context).
//! What a failure means is decided in the core.

mod attempt;
mod beginning;
mod conversion;
mod count;
mod delivery;
mod demo;
mod intake;
mod kept_result;
mod list;
mod permit;
mod record;
pub mod refusal;
pub mod replay;
mod replayed;
mod run;
mod selection;
mod serve;
mod stored;

pub use count::count_tokens;
pub use list::{get, list};
pub use serve::serve;

/// A name in a path, which may be percent-encoded.
pub fn decoded(name: &str) -> String {
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}
