//! Access control: principals, permissions and roles, tenants, keys, tokens, issuers, and the audit log.
//!
//! Credentials are taken from requests, and key sets are fetched, elsewhere (`src/auth`).

pub mod api_key;
pub mod audit;
pub mod encrypted_secret;
pub mod issuer;
pub mod jose;
pub mod oauth;
pub mod permission;
pub mod principal;
pub mod repeat_suppressor;
pub mod revocation;
pub mod role;
pub mod sign_in;
pub mod tenant;
pub mod webhook_signature;
