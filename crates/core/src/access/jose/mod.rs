//! JSON Web Keys and JSON Web Tokens (RFC 7515 to 7519), and when published key sets are fetched.

pub mod jwk;
pub mod jwt;
pub mod key_set_cache;
