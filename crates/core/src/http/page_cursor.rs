//! Page cursors: what `next_cursor` and `Link: rel="next"` carry (RFC 8288 names the link).
//!
//! A cursor holds the last sort key of a page and a digest of the filters it was made for,
//! under an HMAC-SHA256 (RFC 2104) cut to 16 bytes, as base64url without padding (RFC 4648
//! §5). It is authentic, not secret: whoever holds it has seen the sort key already.
//!
//! The form is `version (1) ‖ digest of filters (16) ‖ last sort key ‖ tag (16)`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::keyed_mac::keyed;

/// Raised with the form, so that cursors of an older deployment are refused and not misread.
const VERSION: u8 = 1;
const DIGEST: usize = 16;
const TAG: usize = 16;
/// Longer texts are turned away undecoded; a sort key is far shorter than this.
const MAX_TEXT: usize = 4096;

/// The key cursors are signed with. Does not show itself in `Debug`.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// A key from any secret of the deployment. The secret is bound to this use by its own
    /// label, so the same one may serve elsewhere.
    pub fn new(secret: &[u8]) -> CursorKey {
        CursorKey(keyed("narthex page cursor\0", secret))
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(payload)
    }
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(…)")
    }
}

/// The cursor after the sort key `last`, good only for the same `filters` (any text that
/// says which they are, in a fixed order).
pub fn write(key: &CursorKey, last: &str, filters: &str) -> String {
    let mut bytes = Vec::with_capacity(1 + DIGEST + last.len() + TAG);
    bytes.push(VERSION);
    bytes.extend(Sha256::digest(filters).into_iter().take(DIGEST));
    bytes.extend(last.as_bytes());
    let tag = key.mac(&bytes).finalize().into_bytes();
    bytes.extend(tag.into_iter().take(TAG));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The sort key `cursor` carries. `None` if it is foreign, altered, or made for other
/// filters: the caller answers 400 and does not say which.
pub fn read(key: &CursorKey, cursor: &str, filters: &str) -> Option<String> {
    if cursor.len() > MAX_TEXT {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (payload, tag) = bytes.split_last_chunk::<TAG>()?;
    key.mac(payload).verify_truncated_left(tag).ok()?;
    let (head, last) = payload.split_at_checked(1 + DIGEST)?;
    let (version, digest) = head.split_first()?;
    let wanted = Sha256::digest(filters);
    let same: bool = wanted.get(..DIGEST)?.ct_eq(digest).into();
    if *version != VERSION || !same {
        return None;
    }
    String::from_utf8(last.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAST: &str = "2026-11-22T10:00:00.000Z|ctx_01";
    const FILTERS: &str = "state=running&service=ocr";

    fn key() -> CursorKey {
        CursorKey::new(b"a secret of the deployment")
    }

    #[test]
    fn a_cursor_gives_back_its_sort_key() {
        let cursor = write(&key(), LAST, FILTERS);
        assert_eq!(read(&key(), &cursor, FILTERS).as_deref(), Some(LAST));
    }

    /// Pinned: a change of form must raise the version, or clients in mid-list break.
    #[test]
    fn the_form_stays_as_it_is() {
        assert_eq!(write(&CursorKey::new(b"k"), "a", ""), "AeOwxEKY_BwUmvv0yJlvuSRhfma_YRs8gLxDHeVglvxltg");
    }

    #[test]
    fn a_cursor_is_good_for_its_own_filters_only() {
        let cursor = write(&key(), LAST, FILTERS);
        assert_eq!(read(&key(), &cursor, ""), None);
        assert_eq!(read(&key(), &cursor, "state=running"), None);
    }

    #[test]
    fn another_deployments_cursor_is_foreign() {
        let cursor = write(&CursorKey::new(b"another"), LAST, FILTERS);
        assert_eq!(read(&key(), &cursor, FILTERS), None);
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let cursor = write(&key(), LAST, FILTERS);
        for at in 0..cursor.len() {
            for put in ["A", "_", "7", "=", "é"] {
                let mut altered = cursor.clone();
                altered.replace_range(at..=at, put);
                if altered != cursor {
                    assert_eq!(read(&key(), &altered, FILTERS), None, "{altered}");
                }
            }
        }
    }

    #[test]
    fn every_shorter_and_longer_text_is_refused() {
        let cursor = write(&key(), LAST, FILTERS);
        for end in 0..cursor.len() {
            assert_eq!(read(&key(), &cursor[..end], FILTERS), None);
        }
        assert_eq!(read(&key(), &format!("{cursor}A"), FILTERS), None);
        assert_eq!(read(&key(), &format!("{cursor}="), FILTERS), None);
        assert_eq!(read(&key(), &"A".repeat(MAX_TEXT + 1), FILTERS), None);
    }

    #[test]
    fn the_key_does_not_show() {
        assert_eq!(format!("{:?}", key()), "CursorKey(…)");
    }

    proptest! {
        #[test]
        fn whatever_is_written_can_be_read(last in ".{0,200}", filters in ".*", secret: Vec<u8>) {
            let key = CursorKey::new(&secret);
            let cursor = write(&key, &last, &filters);
            prop_assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            prop_assert_eq!(read(&key, &cursor, &filters), Some(last));
        }

        #[test]
        fn no_other_text_is_a_cursor(text in ".*", filters in ".*") {
            prop_assert_eq!(read(&key(), &text, &filters), None);
        }

        #[test]
        fn no_other_bytes_are_a_cursor(bytes: Vec<u8>) {
            prop_assert_eq!(read(&key(), &URL_SAFE_NO_PAD.encode(bytes), ""), None);
        }
    }
}
