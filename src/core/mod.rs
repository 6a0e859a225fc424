//! The deciding core: plain Rust that knows neither HTTP, nor SQL, nor the platform.
//!
//! Clock and randomness come in as arguments, so every decision can be replayed in a test.
//! Nothing in here may name `worker`, `wasm_bindgen` or `js_sys`.

pub mod address;
pub mod audit;
pub mod breaker;
pub mod bucket;
pub mod budget;
pub mod callback;
pub mod canonical;
pub mod capability;
pub mod client_address;
pub mod context;
pub mod credentials;
pub mod cursor;
pub mod decimal;
pub mod etag;
pub mod event;
pub mod exact;
pub mod fanout;
pub mod filter;
pub mod gathering;
pub mod header;
pub mod health;
pub mod id;
pub mod idempotency;
pub mod issuer;
pub mod json;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod key;
pub mod lane;
pub mod ledger;
pub mod lifecycle;
pub mod limit;
pub mod line;
pub mod mac;
pub mod mcp;
pub mod measured;
pub mod media;
pub mod merge_patch;
pub mod oauth;
pub mod one_line;
pub mod openai;
pub mod pace;
pub mod page;
pub mod parts;
pub mod patience;
pub mod permission;
pub mod permits;
pub mod prefer;
pub mod problem;
pub mod purse;
pub mod query;
pub mod refusals;
pub mod repair;
pub mod request;
pub mod retry_after;
pub mod role;
pub mod room;
pub mod route;
pub mod sample;
pub mod schedule;
pub mod schema;
pub mod sealed;
pub mod service;
pub mod sign_in;
pub mod signature;
pub mod socket;
pub mod sse;
pub mod tally;
pub mod tenant;
pub mod time;
pub mod trace;
pub mod transport;
pub mod tree;
pub mod upstream;
pub mod usage;
pub mod webhook;
pub mod window;
pub mod written;

#[cfg(test)]
mod any_json;
#[cfg(test)]
mod simulation;
