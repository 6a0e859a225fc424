//! A key set gives public keys only, each in its canonical form, which is read as the same key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::access::jose::jwk::{MAX_KEYS, MAX_SET_BYTES, read_set};
use narthex_fuzz::tree;

fuzz_target!(|input: &[u8]| {
    let Ok(keys) = read_set(input) else { return };
    assert!(input.len() <= MAX_SET_BYTES && keys.len() <= MAX_KEYS);
    for key in keys {
        let members = tree(&key.text);
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(members.get(private).is_none(), "{}", key.text);
        }
        assert_eq!(key.thumbprint().len(), 43);
        let again = read_set(format!(r#"{{"keys":[{}]}}"#, key.text).as_bytes()).unwrap_or_default();
        let [again] = again.as_slice() else { panic!("{} is not read again", key.text) };
        assert_eq!((&again.text, again.kind), (&key.text, key.kind));
        assert_eq!(again.thumbprint(), key.thumbprint());
    }
});
