//! The authorization server's own keys: one signs, the next is known before it does, the last is known for as long as
//! its tokens live.

use serde::{Deserialize, Serialize};

use super::super::encrypted_secret::EncryptedSecret;
use super::access_token::LIFE_SECONDS;
use crate::base::time::Timestamp;

/// How long a key signs when nothing else is configured, in milliseconds: 30 days.
pub const LIFE_MS: u64 = 30 * 86_400_000;
/// The longest time between a key's publication and its first signature, in milliseconds: whoever holds the published
/// set may hold it for that long.
const KNOWN_BEFORE_MS: u64 = 3_600_000;
/// A token's life and what clocks may differ, in milliseconds.
const KNOWN_AFTER_MS: u64 = (LIFE_SECONDS + 120) * 1000;

/// A pair of keys, as the platform exports them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    pub kid: String,
    /// The public part, as in `Jwk::text`.
    pub public: String,
    pub private: EncryptedSecret,
    pub made_at: Timestamp,
}

fn known_before(life_ms: u64) -> u64 {
    KNOWN_BEFORE_MS.min(life_ms / 4)
}

/// Whether another pair is due.
pub fn wants_another(pairs: &[Pair], life_ms: u64, now: Timestamp) -> bool {
    // It is made early enough to be known before it signs.
    let newest = pairs.iter().map(|pair| pair.made_at).max();
    newest.is_none_or(|made_at| now.since(made_at) >= life_ms.saturating_sub(known_before(life_ms)))
}

/// The pair that signs: the newest that is known long enough, else the oldest there is.
pub fn signer(pairs: &[Pair], life_ms: u64, now: Timestamp) -> Option<&Pair> {
    let known = pairs.iter().filter(|pair| now.since(pair.made_at) >= known_before(life_ms));
    known.max_by_key(|pair| pair.made_at).or_else(|| pairs.iter().min_by_key(|pair| pair.made_at))
}

/// Forgets pairs whose last token has ended.
pub fn forget(pairs: &mut Vec<Pair>, life_ms: u64, now: Timestamp) {
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

    fn pair(at: u64) -> Pair {
        Pair {
            kid: at.to_string(),
            public: String::new(),
            private: EncryptedSecret::plaintext(String::new()),
            made_at: Timestamp(T + at),
        }
    }

    #[test]
    fn keys_take_turns_and_every_token_can_be_verified_to_its_end() {
        let mut pairs: Vec<Pair> = Vec::new();
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
            signed.retain(|(then, _)| now - then < LIFE_SECONDS * 1000 + 60_000);
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
