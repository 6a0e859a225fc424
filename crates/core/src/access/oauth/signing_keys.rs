//! The rotation of the authorization server's signing keys: one signs, the next is published before its first use, and
//! the previous one stays published as long as its tokens live.

use serde::{Deserialize, Serialize};

use super::super::encrypted_secret::EncryptedSecret;
use super::access_token::LIFETIME_SECONDS;
use crate::base::time::Timestamp;

/// The default time that a key signs, in milliseconds: 30 days.
pub const LIFE_MS: u64 = 30 * 86_400_000;
/// The longest time between the publication of a key and its first signature, in milliseconds: others may cache the
/// published set for that long.
const KNOWN_BEFORE_MS: u64 = 3_600_000;
/// The lifetime of a token plus the accepted difference of clocks, in milliseconds.
const KNOWN_AFTER_MS: u64 = (LIFETIME_SECONDS + 120) * 1000;

/// A key pair as the platform exports it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SigningKeyPair {
    pub kid: String,
    /// The public key, as in `Jwk::text`.
    pub public: String,
    pub private: EncryptedSecret,
    pub made_at: Timestamp,
}

fn known_before(life_ms: u64) -> u64 {
    KNOWN_BEFORE_MS.min(life_ms / 4)
}

/// Whether a new pair is due.
pub fn wants_another(pairs: &[SigningKeyPair], life_ms: u64, now: Timestamp) -> bool {
    // Created early enough to be published before it signs.
    let newest = pairs.iter().map(|pair| pair.made_at).max();
    newest.is_none_or(|made_at| now.since(made_at) >= life_ms.saturating_sub(known_before(life_ms)))
}

/// The pair that signs: the newest one that was published long enough, otherwise the oldest.
pub fn signer(pairs: &[SigningKeyPair], life_ms: u64, now: Timestamp) -> Option<&SigningKeyPair> {
    let known = pairs.iter().filter(|pair| now.since(pair.made_at) >= known_before(life_ms));
    known.max_by_key(|pair| pair.made_at).or_else(|| pairs.iter().min_by_key(|pair| pair.made_at))
}

/// Removes pairs whose last token has expired.
pub fn forget(pairs: &mut Vec<SigningKeyPair>, life_ms: u64, now: Timestamp) {
    let Some(made_at) = signer(pairs, life_ms, now).map(|pair| pair.made_at) else { return };
    let took_over = made_at.plus_ms(known_before(life_ms));
    if now.since(took_over) >= KNOWN_AFTER_MS && now >= took_over {
        pairs.retain(|pair| pair.made_at >= made_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000_000;

    fn pair(at: u64) -> SigningKeyPair {
        SigningKeyPair {
            kid: at.to_string(),
            public: String::new(),
            private: EncryptedSecret::plaintext(String::new()),
            made_at: Timestamp(T + at),
        }
    }

    #[test]
    fn keys_take_turns_and_every_token_can_be_verified_to_its_end() {
        let mut pairs: Vec<SigningKeyPair> = Vec::new();
        let mut made = Vec::new();
        let mut signed: Vec<(u64, String)> = Vec::new();
        for minute in 0..100 * 24 * 60 {
            let now = minute * 60_000;
            let at = Timestamp(T + now);
            if wants_another(&pairs, LIFE_MS, at) {
                pairs.push(pair(now));
                made.push(now);
            }
            forget(&mut pairs, LIFE_MS, at);
            let signer = signer(&pairs, LIFE_MS, at).unwrap();
            let first = made[0] == signer.made_at.0 - T;
            assert!(first || now - (signer.made_at.0 - T) >= KNOWN_BEFORE_MS, "known before it signs");
            signed.push((now, signer.kid.clone()));
            signed.retain(|(then, _)| now - then < LIFETIME_SECONDS * 1000 + 60_000);
            assert!(signed.iter().all(|(_, kid)| pairs.iter().any(|pair| pair.kid == *kid)), "minute {minute}");
            assert!(pairs.len() <= 2);
        }
        assert_eq!(made.len(), 4, "one a month");
    }

    #[test]
    fn the_very_first_key_signs_at_once() {
        assert!(wants_another(&[], LIFE_MS, Timestamp(T)));
        assert_eq!(signer(&[pair(0)], LIFE_MS, Timestamp(T)).map(|pair| pair.made_at), Some(Timestamp(T)));
        assert!(signer(&[], LIFE_MS, Timestamp(T)).is_none());
    }
}
