//! The endpoints that model clients know: what decides about their requests, which target serves them, what came
//! of it and what it cost.
//!
//! Bodies are not kept: they are read in pieces ([`scanner`], [`request_body`], [`response_body`], [`stream`]). How
//! services are called belongs to `src/gateway/models`.

pub mod affinity;
pub mod assembly;
pub mod call_price;
mod conversation;
pub mod convert;
pub mod demo;
pub mod dialect;
pub mod endpoint;
pub mod failure;
pub mod list_prices;
pub mod listing;
pub mod long_strings;
pub mod money;
pub mod offer;
pub mod price;
pub mod refusal;
pub mod request_body;
pub mod response_body;
pub mod restream;
pub mod route;
pub mod scanner;
pub mod spent;
pub mod stated_usage;
pub mod stream;
pub mod token_usage;
