//! JSON Web Keys and JSON Web Tokens (RFC 7515 to 7519), and the cache of published key sets.

pub mod algorithm;
pub mod jwk;
pub mod jwt;
pub mod key_set_cache;
