//! Keys for one use each, made from a secret that serves several.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// HMAC-SHA256 (RFC 2104) under a key that is bound to its use by `label`, which ends in a NUL.
pub fn keyed(label: &str, secret: &[u8]) -> Hmac<Sha256> {
    let digest = Sha256::new().chain_update(label).chain_update(secret).finalize();
    // A key shorter than a block is padded with zeros (RFC 2104 §2); doing it here makes the constructor below one
    // that cannot fail.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(digest) {
        *to = from;
    }
    Hmac::<Sha256>::new(&block.into())
}
