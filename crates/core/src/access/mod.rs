//! Access control: principals, permissions and roles, tenants, keys, tokens, issuers, and the audit log.

pub mod api_key;
pub mod audit;
pub mod encrypted_secret;
pub mod issuer;
pub mod jose;
pub mod oauth;
pub mod permission;
pub mod principal;
pub mod repeat_suppressor;
pub mod role;
pub mod sign_in;
pub mod tenant;
pub mod webhook_signature;
