//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-07).
//!
//! A key belongs to the principal that sent it and to the route it was sent to. The store keeps the fingerprint of the
//! body's canonical form, to distinguish a repeated request from a different one with the same key.

use serde::{Deserialize, Serialize};

use crate::base::canonical::digest;
use crate::base::id::{Region, StoreId};
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;

/// How long a key is kept, in milliseconds.
pub const WINDOW_MS: u64 = 24 * 3_600_000;
/// The number of stores that keys are distributed over. Must never change: a repeated request must find the store of
/// the first.
const STORES: u16 = 8;

/// Reads the key: a structured-field string (RFC 8941 §3.3.3) or the bare text, 1 to 255 visible ASCII characters.
pub fn parse(header: &str) -> Option<String> {
    let header = header.trim();
    let key = match header.strip_prefix('"') {
        None => header.to_string(),
        Some(rest) => {
            let mut key = String::with_capacity(rest.len());
            let mut letters = rest.chars();
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => key.push(letters.next().filter(|letter| matches!(letter, '"' | '\\'))?),
                    letter => key.push(letter),
                }
            }
            if letters.next().is_some() {
                return None;
            }
            key
        }
    };
    ((1..=255).contains(&key.len()) && key.bytes().all(|byte| (0x21..=0x7e).contains(&byte))).then_some(key)
}

/// A key as its store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// SHA-256 of tenant, principal, route and key.
    pub scope: String,
    /// The fingerprint of the body, see [`crate::base::canonical::fingerprint`].
    pub fingerprint: String,
}

impl Claim {
    pub fn new(tenant: &TenantId, principal: &PrincipalId, route: &str, key: &str, fingerprint: String) -> Self {
        // None of the parts contains a line break.
        Self { scope: digest(&format!("{tenant}\n{principal}\n{route}\n{key}")), fingerprint }
    }

    /// The store that keeps this key, whatever region a request comes from.
    pub fn store(&self, home: Region) -> StoreId {
        let number = self.scope.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
        StoreId { region: home, shard: (number % u32::from(STORES)) as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_bare_are_the_same_key() {
        assert_eq!(parse(r#""8e03-11""#), parse("8e03-11"));
        assert_eq!(parse(r#" "a\"b\\c" "#).as_deref(), Some(r#"a"b\c"#));
        for bad in ["", "\"\"", "\"a", "\"a\"b", "a b", "\"a b\"", "\"\\n\"", "ä", &"a".repeat(256)] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse(&"a".repeat(255)).is_some());
    }

    #[test]
    fn a_key_belongs_to_its_principal_and_route() {
        let claim = |tenant, key, route| {
            Claim::new(&TenantId::parse(tenant).unwrap(), &PrincipalId::of_key(key), route, "k", String::new()).scope
        };
        let one = claim("default", "a", "/v1/contexts");
        assert_ne!(one, claim("default", "b", "/v1/contexts"));
        assert_ne!(one, claim("other", "a", "/v1/contexts"));
        assert_ne!(one, claim("default", "a", "/v1/other"));
        assert_eq!(one, claim("default", "a", "/v1/contexts"));
    }

    #[test]
    fn keys_spread_over_all_stores() {
        let stores: std::collections::BTreeSet<StoreId> = (0..200)
            .map(|n| {
                Claim::new(&TenantId::first(), &PrincipalId::of_key("a"), "/", &n.to_string(), String::new())
                    .store(Region::Eu)
            })
            .collect();
        assert_eq!(stores.len(), usize::from(STORES));
    }
}
