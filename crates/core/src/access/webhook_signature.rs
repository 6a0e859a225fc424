//! Signatures of requests to and from services: Standard Webhooks 1.0, symmetric (`v1`). `id.timestamp.body` is signed
//! with HMAC-SHA256. The secret is written as `whsec_` and base64 of 24 to 64 bytes; the decoded bytes are the key.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The prefix of every secret.
pub const PREFIX: &str = "whsec_";

/// How far a timestamp may differ from now, in seconds.
const TOLERANCE_SECONDS: u64 = 300;
/// Maximum number of signatures that are checked, to limit the cost of a long header. A rotation needs two.
const MAX_SIGNATURES: usize = 16;
const MIN_BYTES: usize = 24;
/// The block size of SHA-256, which is also the standard's upper bound.
const MAX_BYTES: usize = 64;

/// Accepts secrets without padding, as some tools write them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing secret. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Parses `whsec_` and base64 of 24 to 64 bytes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Secret> {
        let bytes = LENIENT.decode(text.strip_prefix(PREFIX)?).ok()?;
        (MIN_BYTES..=MAX_BYTES).contains(&bytes.len()).then_some(Secret(bytes))
    }

    /// A new secret of 32 bytes, which must come from a secure source.
    pub fn from_random(bytes: [u8; 32]) -> Secret {
        Secret(bytes.to_vec())
    }

    /// The secret as text, `whsec_…`.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The value of `webhook-signature`, `v1,<base64>`, for the message `id` with exactly this body, sent at
    /// `timestamp_seconds` since 1970.
    pub fn sign(&self, id: &str, timestamp_seconds: u64, body: &[u8]) -> String {
        let tag = self.mac(id, timestamp_seconds, body).finalize();
        format!("v1,{}", STANDARD.encode(tag.into_bytes()))
    }

    /// Whether one of the signatures in `header`, separated by spaces, is valid, and the timestamp is within five
    /// minutes of `now_seconds`. Signatures of other versions are ignored, as the standard requires. The comparison
    /// takes constant time.
    pub fn verify(&self, header: &str, id: &str, timestamp_seconds: u64, body: &[u8], now_seconds: u64) -> bool {
        if now_seconds.abs_diff(timestamp_seconds) > TOLERANCE_SECONDS {
            return false;
        }
        let mac = self.mac(id, timestamp_seconds, body);
        header
            .split_ascii_whitespace()
            .take(MAX_SIGNATURES)
            .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .fold(false, |found, tag| {
                // `|` instead of `||`: a match must not shorten the work.
                found | mac.clone().verify_slice(&tag).is_ok()
            })
    }

    fn mac(&self, id: &str, timestamp_seconds: u64, body: &[u8]) -> Hmac<Sha256> {
        // A key shorter than a block is padded with zeros (RFC 2104 §2). Doing it here makes the constructor
        // infallible.
        let mut block = [0; MAX_BYTES];
        for (to, from) in block.iter_mut().zip(&self.0) {
            *to = *from;
        }
        Hmac::<Sha256>::new(&block.into())
            .chain_update(id)
            .chain_update(format!(".{timestamp_seconds}."))
            .chain_update(body)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The test vector of the standard.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret() -> Secret {
        Secret::parse(SECRET).unwrap()
    }

    fn verifies(header: &str) -> bool {
        secret().verify(header, ID, TIME, BODY, TIME)
    }

    #[test]
    fn the_standards_vector_holds() {
        assert_eq!(secret().sign(ID, TIME, BODY), SIGNATURE);
        assert!(verifies(SIGNATURE));
        assert_eq!(secret().text(), SECRET);
    }

    /// The manual padding of the key must give the same result as the crate's constructor.
    #[test]
    fn a_secret_of_a_whole_block_is_used_as_it_is() {
        let bytes = [7u8; 64];
        let secret = Secret::parse(&format!("whsec_{}", STANDARD.encode(bytes))).unwrap();
        let by_slice = Hmac::<Sha256>::new_from_slice(&bytes).unwrap().chain_update(b"a.1.b").finalize().into_bytes();
        assert_eq!(secret.sign("a", 1, b"b"), format!("v1,{}", STANDARD.encode(by_slice)));
    }

    #[test]
    fn one_good_signature_among_several_is_enough() {
        let other = Secret::from_random([1; 32]).sign(ID, TIME, BODY);
        assert!(verifies(&format!("{other} {SIGNATURE}")));
        assert!(verifies(&format!("{SIGNATURE} {other}")));
        assert!(verifies(&format!("v1a,AAAA v2,xyz {SIGNATURE} junk")));
        assert!(!verifies(&other));
    }

    #[test]
    fn the_time_is_held_to_five_minutes_either_way() {
        let at = |now| secret().verify(SIGNATURE, ID, TIME, BODY, now);
        assert!(at(TIME + 300) && at(TIME - 300));
        assert!(!at(TIME + 301) && !at(TIME - 301) && !at(0) && !at(u64::MAX));
    }

    #[test]
    fn whatever_is_altered_is_noticed() {
        assert!(!secret().verify(SIGNATURE, "msg_other", TIME, BODY, TIME));
        assert!(!secret().verify(SIGNATURE, ID, TIME + 1, BODY, TIME));
        assert!(!secret().verify(SIGNATURE, ID, TIME, b"{}", TIME));
        for broken in [
            "",
            "v1",
            "v1,",
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "V1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",
            "v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1,g0hM9SsE+OTPJTGt/tmIKg==",
            "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1, g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ] {
            assert!(!verifies(broken), "{broken}");
        }
    }

    #[test]
    fn only_secrets_of_24_to_64_bytes_are_read() {
        let of = |n: usize| Secret::parse(&format!("whsec_{}", STANDARD.encode(vec![5; n])));
        assert!(of(23).is_none() && of(65).is_none() && of(0).is_none());
        assert!(of(24).is_some() && of(25).is_some() && of(64).is_some());
        for broken in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La-aSw",
        ] {
            assert!(Secret::parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn padding_may_be_left_off() {
        let text = Secret::from_random([9; 32]).text();
        let bare = text.trim_end_matches('=');
        assert_ne!(bare, text);
        assert_eq!(Secret::parse(bare).unwrap().text(), text);
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", secret()), "Secret(…)");
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies(bytes: [u8; 32], id in ".*", time: u64, body: Vec<u8>) {
            let secret = Secret::from_random(bytes);
            let signature = secret.sign(&id, time, &body);
            let again = Secret::parse(&secret.text()).unwrap();
            prop_assert!(again.verify(&signature, &id, time, &body, time));
        }

        #[test]
        fn no_other_header_verifies(header in ".*") {
            prop_assert!(!verifies(&header));
        }

        #[test]
        fn any_text_may_be_tried_as_a_secret(text in ".*") {
            let _ = Secret::parse(&text);
            let _ = Secret::parse(&format!("{PREFIX}{text}"));
        }
    }
}
