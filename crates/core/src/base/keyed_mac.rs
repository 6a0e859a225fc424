//! Keys for a single purpose, derived from a secret that serves several.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// HMAC-SHA256 (RFC 2104) with a key derived from `secret` for the purpose named by `label`, which must end in a NUL.
pub fn keyed(label: &str, secret: &[u8]) -> Hmac<Sha256> {
    let digest = Sha256::new().chain_update(label).chain_update(secret).finalize();
    // A key shorter than a block is padded with zeros (RFC 2104 §2). Doing it here makes the constructor infallible.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(digest) {
        *to = from;
    }
    Hmac::<Sha256>::new(&block.into())
}
