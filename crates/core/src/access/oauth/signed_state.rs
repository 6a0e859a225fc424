//! State that travels through a browser or a client and comes back unchanged, for its use and in its time, or not at
//! all: JWTs by HS256 (RFC 7519, RFC 7518 §3.2) under a key of the gateway. It is signed, not encrypted: its
//! carrier can read it, so it must not contain secrets.

use chrono::{DateTime, TimeDelta, Utc};
use hmac::Mac;
use jwt_compact::alg::{Hs256, Hs256Key};
use jwt_compact::{AlgorithmExt, Claims, Header, TimeOptions, UntrustedToken};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::keyed_mac::keyed;
use crate::base::time::Timestamp;

/// What it is for, as its type (RFC 8725 §3.11): one is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A sign-in under way, in the browser's cookie.
    SignIn,
    /// Who has signed in, in the consent page.
    Person,
    /// What a service asked of a client for MCP, in the client's hands until it answers.
    Question,
}

impl Use {
    fn typ(self) -> &'static str {
        match self {
            Use::SignIn => "narthex-sign-in+jwt",
            Use::Person => "narthex-person+jwt",
            Use::Question => "narthex-question+jwt",
        }
    }
}

#[derive(Clone)]
pub struct StateKey(Hs256Key);

impl std::fmt::Debug for StateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateKey(…)")
    }
}

fn time(at: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(at.0).ok()?)
}

impl StateKey {
    pub fn new(secret: &[u8]) -> Self {
        let key: [u8; 32] = keyed("narthex seal\0", secret).finalize().into_bytes().into();
        Self(Hs256Key::new(key))
    }

    /// Good before `until`, to the second.
    pub fn sign<T: Serialize>(&self, used: Use, content: &T, until: Timestamp) -> Option<String> {
        let mut claims = Claims::new(content);
        claims.expiration = Some(time(until)?);
        Hs256.token(&Header::empty().with_token_type(used.typ()), &claims, &self.0).ok()
    }

    pub fn verify<T: DeserializeOwned>(&self, used: Use, signed: &str, now: Timestamp) -> Option<T> {
        let token = UntrustedToken::new(signed).ok()?;
        let (header, claims) = Hs256.validator::<T>(&self.0).validate(&token).ok()?.into_parts();
        let now = time(now)?;
        claims.validate_expiration(&TimeOptions::new(TimeDelta::zero(), || now)).ok()?;
        (header.token_type.as_deref() == Some(used.typ())).then_some(claims.custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Person {
        name: String,
    }

    const T: Timestamp = Timestamp(1_800_000_000_000);

    fn signed(key: &StateKey) -> String {
        key.sign(Use::Person, &Person { name: "ada".into() }, T.plus_ms(60_000)).unwrap()
    }

    #[test]
    fn it_is_good_for_its_own_use_key_and_time() {
        let key = StateKey::new(b"secret");
        let signed = signed(&key);
        let verified = |key: &StateKey, used, at| key.verify::<Person>(used, &signed, at);
        assert_eq!(verified(&key, Use::Person, T).unwrap().name, "ada");
        assert_eq!(verified(&key, Use::Person, T.plus_ms(59_000)).unwrap().name, "ada");
        assert_eq!(verified(&key, Use::Person, T.plus_ms(60_001)), None);
        assert_eq!(verified(&key, Use::SignIn, T), None);
        assert_eq!(verified(&StateKey::new(b"other"), Use::Person, T), None);
    }

    #[test]
    fn what_is_not_signed_by_this_algorithm_is_nothing() {
        let key = StateKey::new(b"secret");
        let whole = signed(&key);
        let claims = whole.split('.').nth(1).unwrap();
        // {"alg":"none"} and {"alg":"HS384"}
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzM4NCJ9"] {
            for signature in ["", whole.rsplit('.').next().unwrap()] {
                let text = format!("{header}.{claims}.{signature}");
                assert_eq!(key.verify::<Person>(Use::Person, &text, T), None, "{text}");
            }
        }
        let without_end = Hs256.token(
            &Header::empty().with_token_type("narthex-person+jwt"),
            &Claims::new(Person { name: "ada".into() }),
            &key.0,
        );
        assert_eq!(key.verify::<Person>(Use::Person, &without_end.unwrap(), T), None);
    }

    proptest! {
        #[test]
        fn a_changed_character_is_found(at in 0usize..200, to in "[A-Za-z0-9._=-]") {
            let key = StateKey::new(b"secret");
            let mut text = signed(&key);
            let at = at % text.len();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(key.verify::<Person>(Use::Person, &text, T), None);
        }

        #[test]
        fn any_text_may_be_verified(text in "(ey[A-Za-z0-9_-]{0,40}[.]){0,3}[ -~]{0,60}") {
            prop_assert_eq!(StateKey::new(b"secret").verify::<Person>(Use::Person, &text, T), None);
        }
    }
}
