//! Page cursors, as in `next_cursor` and `Link: rel="next"` (RFC 8288).
//!
//! A cursor is an [`opaque_token`](crate::base::opaque_token) with the last sort key of a page and a digest of the
//! filters it was made for. It is authentic but not secret: its holder has already seen the sort key.
//!
//! Its payload is `version (1) ‖ digest of filters (16) ‖ last sort key`.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::opaque_token::Signer;

/// Incremented with the form, so that cursors of an older deployment are rejected and not misread.
const VERSION: u8 = 1;
const DIGEST: usize = 16;
/// Longer texts are rejected without decoding; a sort key is far shorter.
const MAX_TEXT: usize = 4096;

/// The key that signs cursors. `Debug` does not show it.
#[derive(Clone)]
pub struct CursorKey(Signer);

impl CursorKey {
    /// Derives the key from a secret of the deployment. The secret may serve other purposes as well.
    pub fn new(secret: &[u8]) -> CursorKey {
        CursorKey(Signer::new("narthex page cursor\0", secret))
    }
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(…)")
    }
}

/// The cursor after the sort key `last`, valid only with the same `filters` (any text that identifies them).
pub fn write(key: &CursorKey, last: &str, filters: &str) -> String {
    let mut payload = Vec::with_capacity(1 + DIGEST + last.len() + 16);
    payload.push(VERSION);
    payload.extend(Sha256::digest(filters).into_iter().take(DIGEST));
    payload.extend(last.as_bytes());
    key.0.sign_bytes(payload)
}

/// The sort key in a cursor. `None` if the cursor is foreign, altered, or made for other filters; clients do not learn
/// which.
pub fn read(key: &CursorKey, cursor: &str, filters: &str) -> Option<String> {
    if cursor.len() > MAX_TEXT {
        return None;
    }
    let payload = key.0.verify_bytes(cursor)?;
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
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

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

    /// Pinned: a change of the form must increment the version, or clients break in the middle of a list.
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
