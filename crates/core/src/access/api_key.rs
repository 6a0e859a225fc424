//! API keys: their creation, syntax and verification.
//!
//! The text is `nx_<key id>_<secret><checksum>`. The key id is `<tenant>-<12 characters of Crockford's base32>`, the
//! secret is 32 random bytes in 43 characters of base62, and the checksum is the CRC-32 (ISO 3309, as in zlib) of
//! everything before it in 6 characters. The checksum rejects typing errors without a lookup and helps scanners to find
//! leaked keys; it has no security function. Only the SHA-256 of the whole text is stored, which suffices for a secret
//! of 256 bits.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::canonical::digest;
use crate::base::tenant_id::TenantId;

const PREFIX: &str = "nx_";
const ID_DIGITS: usize = 12;
/// 62^43 is slightly more than 2^256.
const SECRET_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Crockford's base32 in lower case: without i, l, o and u.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new key. `secret` is shown once and never stored.
pub struct NewKey {
    /// `<tenant>-<12 characters>`.
    pub id: String,
    /// The whole text of the key.
    pub secret: String,
    /// SHA-256 of the whole text, in lower hex.
    pub hash: String,
    /// The last four characters of the text, which identify the key for people.
    pub last_four: String,
}

/// Creates a key of `tenant`. `random` must come from a secure source: 32 bytes are the secret, and 8 more are used for
/// the id.
pub fn mint(tenant: &TenantId, random: [u8; 48]) -> NewKey {
    let (secret, rest) = random.split_at(32);
    let number = rest.iter().take(8).fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
    mint_again(format!("{tenant}-{}", base32(number)), secret)
}

/// Creates a key with an existing id from a new secret of 32 bytes.
pub fn mint_again(id: String, secret: &[u8]) -> NewKey {
    let mut text = format!("{PREFIX}{id}_{}", base62::<SECRET_DIGITS>(secret));
    let checksum = checksum(&text);
    text.push_str(&checksum);
    NewKey { hash: digest(&text), last_four: checksum.chars().skip(CHECKSUM_DIGITS - 4).collect(), id, secret: text }
}

/// A text with the form of a key and a correct checksum. Whether the key exists is up to the registry.
pub struct PresentedKey<'a> {
    /// The key id.
    pub id: &'a str,
    /// The tenant whose registry may have the key.
    pub tenant: &'a str,
    text: &'a str,
}

/// Parses a key. `None` if the form or the checksum is wrong; such a text is rejected without a lookup.
pub fn parse(text: &str) -> Option<PresentedKey<'_>> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let (tenant, number) = id.rsplit_once('-')?;
    let well_formed = TenantId::is_valid(tenant)
        && number.len() == ID_DIGITS
        && number.bytes().all(|b| BASE32.contains(&b))
        && secret.len() == SECRET_DIGITS + CHECKSUM_DIGITS
        && secret.bytes().all(|b| b.is_ascii_alphanumeric());
    if !well_formed {
        return None;
    }
    let (before, sum) = text.split_at_checked(text.len() - CHECKSUM_DIGITS)?;
    (checksum(before) == sum).then_some(PresentedKey { id, tenant, text })
}

/// Whether a credential is meant as an API key rather than, for example, a JWT.
pub fn looks_like_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl PresentedKey<'_> {
    /// Whether `hash` is the SHA-256 of this key in lower hex. Takes constant time: for an unknown id, compare with any
    /// hash.
    pub fn matches(&self, hash: &str) -> bool {
        digest(self.text).as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

/// Does not show the credential, so that it cannot reach a log.
impl std::fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Compares two secrets by their digests, in a time that reveals nothing about the difference. Two empty texts are
/// equal: the caller must ensure that the secret is set.
pub fn equal_secrets(a: &str, b: &str) -> bool {
    Sha256::digest(a).as_slice().ct_eq(Sha256::digest(b).as_slice()).into()
}

/// The lowest 60 bits, five per character.
fn base32(number: u64) -> String {
    (0..ID_DIGITS)
        .rev()
        .filter_map(|at| BASE32.get((number >> (5 * at) & 31) as usize))
        .map(|b| char::from(*b))
        .collect()
}

/// The big-endian number in `bytes` in exactly `N` characters, padded with zeros.
fn base62<const N: usize>(bytes: &[u8]) -> String {
    let mut number = bytes.to_vec();
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        let mut left = 0;
        for byte in &mut number {
            let value = left << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            left = value % 62;
        }
        *digit = BASE62.get(left as usize).copied().unwrap_or(b'0');
    }
    digits.into_iter().map(char::from).collect()
}

fn checksum(text: &str) -> String {
    base62::<CHECKSUM_DIGITS>(&crc32(text.as_bytes()).to_be_bytes())
}

/// Computed bit by bit: a hundred bytes per request do not justify a table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn random(seed: u8) -> [u8; 48] {
        std::array::from_fn(|at| (at as u8).wrapping_mul(37).wrapping_add(seed))
    }

    #[test]
    fn the_checksum_is_the_crc_32_everyone_has() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414F_A339);
    }

    #[test]
    fn digits_are_of_fixed_width() {
        assert_eq!(base62::<6>(&[0, 0, 0, 0]), "000000");
        assert_eq!(base62::<6>(&u32::MAX.to_be_bytes()), "4gfFC3");
        assert_eq!(base62::<6>(&61u32.to_be_bytes()), "00000z");
        assert_eq!(base62::<6>(&62u32.to_be_bytes()), "000010");
        assert_eq!(base62::<43>(&[0; 32]), "0".repeat(43));
        assert_eq!(base62::<43>(&[255; 32]).len(), 43);
        assert_ne!(base62::<43>(&[255; 32]).chars().next(), Some('0'));
        assert_eq!(base32(0), "000000000000");
        assert_eq!(base32(u64::MAX), "zzzzzzzzzzzz");
        assert_eq!(base32(33), "000000000011");
    }

    /// Pinned: existing keys must stay valid.
    #[test]
    fn the_form_stays_as_it_is() {
        let minted = mint(&TenantId::first(), [0; 48]);
        assert_eq!(minted.id, "default-000000000000");
        assert_eq!(minted.secret, format!("nx_default-000000000000_{}", "0".repeat(43)) + "1B5UJ0");
    }

    #[test]
    fn a_new_key_can_be_parsed() {
        let minted = mint(&TenantId::parse("acme-eu").unwrap(), random(3));
        let key = parse(&minted.secret).unwrap();
        assert_eq!((key.id, key.tenant), (minted.id.as_str(), "acme-eu"));
        assert!(key.matches(&minted.hash));
        assert!(minted.secret.ends_with(&minted.last_four));
        assert_eq!(minted.last_four.len(), 4);
        assert!(looks_like_key(&minted.secret));
    }

    #[test]
    fn a_key_matches_its_own_hash_only() {
        let minted = mint(&TenantId::first(), random(1));
        let key = parse(&minted.secret).unwrap();
        assert!(!key.matches(&mint(&TenantId::first(), random(2)).hash));
        assert!(!key.matches(&minted.hash.to_uppercase()));
        assert!(!key.matches(""));
        assert!(!key.matches(&minted.hash[1..]));
        assert_eq!(minted.hash.len(), 64);
    }

    #[test]
    fn every_wrong_character_is_rejected_without_a_lookup() {
        let text = mint(&TenantId::first(), random(7)).secret;
        for at in 0..text.len() {
            for put in ["0", "Q", "z", "-", "_", "é", ""] {
                let mut wrong = text.clone();
                wrong.replace_range(at..=at, put);
                assert!(wrong == text || parse(&wrong).is_none(), "{wrong}");
            }
        }
        for end in 0..text.len() {
            assert!(parse(&text[..end]).is_none());
        }
        assert!(parse(&format!("{text} ")).is_none());
        assert!(parse(&format!("{text}0")).is_none());
    }

    /// A correct checksum does not compensate for a wrong form.
    #[test]
    fn the_form_is_held_to_even_with_a_right_checksum() {
        let secret = "0".repeat(43);
        for before in [
            format!("nx_-000000000000_{secret}"),
            format!("nx_000000000000_{secret}"),
            format!("nx_Default-000000000000_{secret}"),
            format!("nx_-a-000000000000_{secret}"),
            format!("nx_a.b-000000000000_{secret}"),
            format!("nx_{}-000000000000_{secret}", "a".repeat(33)),
            format!("nx_a-00000000000_{secret}"),
            format!("nx_a-00000000000i_{secret}"),
            format!("nx_a-00000000000A_{secret}"),
            format!("nx_a-000000000000__{}", "0".repeat(42)),
            format!("nx_a-000000000000_{}", "0".repeat(42)),
            format!("nx_a-000000000000_{}", "0".repeat(44)),
            format!("nx_a-000000000000_{}-", "0".repeat(42)),
            format!("nx_a-000000000000_{}é", "0".repeat(41)),
            format!("NX_a-000000000000_{secret}"),
        ] {
            let text = format!("{before}{}", checksum(&before));
            assert!(parse(&text).is_none(), "{text}");
        }
        let before = format!("nx_{}-000000000000_{secret}", "a".repeat(32));
        assert!(parse(&format!("{before}{}", checksum(&before))).is_some());
    }

    #[test]
    fn secrets_are_equal_or_not() {
        assert!(equal_secrets("correct horse", "correct horse"));
        assert!(!equal_secrets("correct horse", "correct horsf"));
        assert!(!equal_secrets("correct horse", "correct hors"));
        assert!(!equal_secrets("", "x"));
        assert!(equal_secrets("", ""));
    }

    #[test]
    fn keys_do_not_show() {
        let minted = mint(&TenantId::first(), random(9));
        let shown = format!("{minted:?} {:?}", parse(&minted.secret).unwrap());
        assert!(shown.contains(&minted.id));
        assert!(!shown.contains(&minted.secret[25..]) && !shown.contains(&minted.hash));
    }

    proptest! {
        #[test]
        fn every_minted_key_is_read(
            tenant in "[a-z0-9][a-z0-9-]{0,31}",
            one in any::<[u8; 32]>(),
            two in any::<[u8; 16]>(),
        ) {
            let mut random = [0; 48];
            random[..32].copy_from_slice(&one);
            random[32..].copy_from_slice(&two);
            let minted = mint(&TenantId::parse(&tenant).unwrap(), random);
            let key = parse(&minted.secret).unwrap();
            prop_assert_eq!(key.id, &minted.id);
            prop_assert_eq!(key.tenant, tenant);
            prop_assert!(key.matches(&minted.hash));
        }

        #[test]
        fn any_text_may_be_tried(text in ".*", tail in "[a-z0-9-]{0,20}_[0-9A-Za-zé]{48,50}") {
            prop_assert!(parse(&text).is_none());
            let prefixed = format!("nx_{tail}");
            prop_assert!(parse(&prefixed).is_none());
        }
    }
}
