//! The hash functions of this room, none of which can fail.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Bytes of a SHA-256 digest.
pub const SHA256_LEN: usize = 32;

const SHA256_BLOCK: usize = 64;

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; SHA256_LEN] {
    Sha256::digest(data).into()
}

/// HMAC-SHA-256 over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8; SHA256_LEN], parts: &[&[u8]]) -> [u8; SHA256_LEN] {
    // HMAC pads a short key with zeros to the block size.
    let mut block = zeroize::Zeroizing::new([0; SHA256_BLOCK]);
    block[..SHA256_LEN].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
