//! Signed tokens that the gateway issues and takes back: page cursors, callback tokens, OAuth codes and refresh tokens.
//!
//! A token is authentic, not secret. Its tag is an HMAC-SHA256 (RFC 2104) truncated to 16 bytes, under a key that is
//! bound to one purpose.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::keyed_mac::keyed;

const TAG: usize = 16;

/// Signs and verifies the tokens of one purpose. `Debug` does not show the key.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Derives the key from `secret` for the purpose named by `label`, which must end in a NUL.
    pub fn new(label: &str, secret: &[u8]) -> Self {
        Self(keyed(label, secret))
    }

    /// The token `base64url(payload ‖ tag)`, without padding.
    pub fn sign_bytes(&self, mut payload: Vec<u8>) -> String {
        let tag = self.derive(&[&payload]);
        payload.extend(tag.into_iter().take(TAG));
        URL_SAFE_NO_PAD.encode(payload)
    }

    /// The payload of a token made by [`Signer::sign_bytes`]; `None` if it is not authentic.
    pub fn verify_bytes(&self, token: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, tag) = bytes.split_last_chunk::<TAG>()?;
        self.0.clone().chain_update(payload).verify_truncated_left(tag).ok()?;
        bytes.truncate(bytes.len() - TAG);
        Some(bytes)
    }

    /// The token `{payload}.{base64url(tag)}`, for a payload that is text.
    pub fn sign_text(&self, payload: &str) -> String {
        let tag = self.derive(&[payload.as_bytes()]);
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(tag.get(..TAG).unwrap_or_default()))
    }

    /// The payload of a token made by [`Signer::sign_text`]; `None` if it is not authentic.
    pub fn verify_text<'t>(&self, token: &'t str) -> Option<&'t str> {
        let (payload, tag) = token.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok().filter(|tag| tag.len() == TAG)?;
        self.0.clone().chain_update(payload).verify_truncated_left(&tag).ok()?;
        Some(payload)
    }

    /// The full HMAC of the concatenated parts: a secret that follows from them, and cannot be computed without the
    /// key.
    pub fn derive(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mac = parts.iter().fold(self.0.clone(), |mac, part| mac.chain_update(part));
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_key_does_not_show() {
        assert_eq!(format!("{:?}", Signer::new("a\0", b"secret")), "Signer(…)");
    }

    /// Pinned: tokens that were issued must stay valid.
    #[test]
    fn the_form_of_tokens_is_pinned() {
        assert_eq!(Signer::new("a\0", b"k").sign_text("a.b"), "a.b.o3aedd2I1rxFilti2hDBLA");
    }

    #[test]
    fn tokens_are_bound_to_their_purpose_and_secret() {
        let token = Signer::new("a\0", b"one").sign_text("tenant.id");
        assert_eq!(Signer::new("a\0", b"one").verify_text(&token), Some("tenant.id"));
        assert_eq!(Signer::new("b\0", b"one").verify_text(&token), None);
        assert_eq!(Signer::new("a\0", b"two").verify_text(&token), None);
    }

    proptest! {
        #[test]
        fn signed_payloads_verify(bytes: Vec<u8>, text in ".*") {
            let signer = Signer::new("a\0", b"secret");
            let token = signer.sign_text(&text);
            prop_assert_eq!(signer.verify_text(&token), Some(&*text));
            prop_assert_eq!(signer.verify_bytes(&signer.sign_bytes(bytes.clone())), Some(bytes));
        }
    }
}
