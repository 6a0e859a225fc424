//! Secrets as they are stored: under a data key each, which is wrapped by a key that only the Worker has (`KEK_1`, …).
//!
//! Both are AES-256-GCM, bound to the place they are for: who can write to a database cannot make one tenant's or one
//! service's secret into another's. What is in here is the form; the platform encrypts and decrypts.
//!
//! The text is `sealed.1.{key}.{version}.{fingerprint}.{base64url}`. What was stored before there was a key is in
//! plain text, and stays readable until it is encrypted.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::base::order;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// How an encrypted secret begins in any form, and in this one. The number rises with the form, so that no other is
/// misread.
const ENCRYPTED: &str = "sealed.";
const PREFIX: &str = "sealed.1.";
/// What the names of the Worker's secrets begin with; a number follows.
pub const KEK: &str = "KEK_";

/// What a secret belongs to. None of the parts has a `|` in it.
#[derive(Debug, Clone, Copy)]
pub struct AssociatedData<'a> {
    pub tenant: &'a TenantId,
    pub kind: &'a str,
    pub id: &'a str,
    pub field: &'a str,
}

impl AssociatedData<'_> {
    /// What is authenticated along with a secret, and must be the same when it is decrypted. `version` is the secret's
    /// own: when it was given.
    pub fn bound(&self, version: Timestamp) -> String {
        let Self { tenant, kind, id, field } = self;
        format!("{tenant}|{kind}|{id}|{field}|{}", version.0)
    }
}

/// A secret as it is stored. Does not show itself in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncryptedSecret(String);

/// The parts of an encrypted secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Parts<'s> {
    /// The number of the key it is under.
    pub key: u32,
    pub version: Timestamp,
    /// For the audit log; empty where it has nothing to tell.
    pub fingerprint: &'s str,
    /// Data key and secret, as the platform encrypted them.
    pub bytes: Vec<u8>,
}

impl EncryptedSecret {
    pub fn new(key: u32, version: Timestamp, fingerprint: &str, bytes: &[u8]) -> Self {
        Self(format!("{PREFIX}{key}.{}.{fingerprint}.{}", version.0, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// A secret for which there is no key yet.
    pub fn plaintext(secret: String) -> Self {
        Self(secret)
    }

    pub fn parts(&self) -> Option<Parts<'_>> {
        let mut parts = self.0.strip_prefix(PREFIX)?.splitn(4, '.');
        let (key, version, fingerprint, bytes) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Parts {
            key: key.parse().ok()?,
            version: Timestamp(version.parse().ok()?),
            fingerprint,
            bytes: URL_SAFE_NO_PAD.decode(bytes).ok()?,
        })
    }

    /// The secret itself, when it is not encrypted. What begins like an encrypted one is never taken for the secret.
    pub fn as_plaintext(&self) -> Option<&str> {
        (!self.0.starts_with(ENCRYPTED)).then_some(self.0.as_str())
    }

    pub fn is_under(&self, key: u32) -> bool {
        self.parts().is_some_and(|parts| parts.key == key)
    }
}

impl std::fmt::Debug for EncryptedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EncryptedSecret(…)")
    }
}

/// The Worker's keys: the newest encrypts, all of them decrypt.
#[derive(Default)]
pub struct KeyRing(Vec<(u32, [u8; 32])>);

impl KeyRing {
    /// Takes the names and values of the Worker's secrets. Values other than 32 bytes in base64 are skipped.
    pub fn read<'s>(secrets: impl Iterator<Item = (&'s str, &'s str)>) -> Self {
        // People make keys with many tools.
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engines = [&alphabet::STANDARD, &alphabet::URL_SAFE].map(|known| GeneralPurpose::new(known, lenient));
        let key = |(name, text): (&str, &str)| {
            let number = name.strip_prefix(KEK)?.parse().ok().filter(|number| *number > 0)?;
            let bytes = engines.iter().find_map(|engine| engine.decode(text.trim()).ok())?;
            Some((number, bytes.try_into().ok()?))
        };
        let mut keys: Vec<(u32, [u8; 32])> = secrets.filter_map(key).collect();
        order::sort_by_key(&mut keys, |(number, _)| *number);
        Self(keys)
    }

    pub fn newest(&self) -> Option<(u32, &[u8; 32])> {
        self.0.last().map(|(number, key)| (*number, key))
    }

    pub fn get(&self, number: u32) -> Option<&[u8; 32]> {
        self.0.iter().find(|(known, _)| *known == number).map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_stays_as_it_is() {
        let encrypted = EncryptedSecret::new(2, Timestamp(1_800), "0123456789ab", &[1, 2, 255]);
        assert_eq!(serde_json::to_string(&encrypted).unwrap(), r#""sealed.1.2.1800.0123456789ab.AQL_""#);
        let tenant = &TenantId::first();
        let data = AssociatedData { tenant, kind: "service", id: "words", field: "signing_secret" };
        assert_eq!(data.bound(Timestamp(1_800)), "default|service|words|signing_secret|1800");
    }

    #[test]
    fn what_was_stored_before_there_was_a_key_is_plain_text() {
        for open in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", "Bearer sealed"] {
            let stored: EncryptedSecret = serde_json::from_value(open.into()).unwrap();
            assert_eq!((stored.as_plaintext(), stored.parts()), (Some(open), None));
        }
    }

    #[test]
    fn what_cannot_be_read_as_encrypted_is_no_secret() {
        for broken in ["sealed.", "sealed.1.x.1..AQ", "sealed.2.1.1..AQ", "sealed.1.1.1.AQ", "sealed.1.1.1..A!"] {
            let stored: EncryptedSecret = serde_json::from_value(broken.into()).unwrap();
            assert_eq!((stored.as_plaintext(), stored.parts()), (None, None), "{broken}");
            assert!(!stored.is_under(1));
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", EncryptedSecret::plaintext("a secret".into())), "EncryptedSecret(…)");
    }

    #[test]
    fn the_newest_key_encrypts_and_what_is_no_key_is_passed_over() {
        let (one, ten) = (STANDARD.encode([1; 32]), URL_SAFE_NO_PAD.encode([250; 32]));
        let short = STANDARD.encode([1; 16]);
        let named = [
            ("KEK_10", ten.as_str()),
            ("KEK_1", &one),
            ("KEK_0", &one),
            ("KEK_11", &short),
            ("KEK_12", "not base64!"),
            ("KEK_", &one),
            ("KEK_x", &one),
            ("ADMIN_KEY", &one),
        ];
        let ring = KeyRing::read(named.into_iter());
        assert_eq!(ring.newest(), Some((10, &[250; 32])));
        assert_eq!(ring.get(1), Some(&[1; 32]));
        assert_eq!([0, 2, 11, 12].map(|number| ring.get(number)), [None; 4]);
        assert!(KeyRing::default().newest().is_none());
    }

    proptest! {
        #[test]
        fn an_encrypted_secret_names_its_key(key: u32, version: u64, fingerprint in "[0-9a-f]{0,12}", bytes: Vec<u8>) {
            let encrypted = EncryptedSecret::new(key, Timestamp(version), &fingerprint, &bytes);
            let parts = Parts { key, version: Timestamp(version), fingerprint: &fingerprint, bytes };
            prop_assert_eq!(encrypted.parts(), Some(parts));
            prop_assert!(encrypted.is_under(key) && encrypted.as_plaintext().is_none());
        }

        #[test]
        fn any_text_may_be_stored(text in ".*") {
            let _ = EncryptedSecret::plaintext(text).parts();
        }
    }
}
