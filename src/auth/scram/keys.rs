//! Keys and stored verifiers.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{MECHANISM, SALT_LEN};
use crate::auth::digest::{SHA256_LEN, hmac_sha256, sha256};

/// A 32-byte key: wiped when dropped, printed as `***`, compared in constant
/// time.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; SHA256_LEN]>);

impl Key {
    pub fn new(bytes: [u8; SHA256_LEN]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    /// The key itself; name the reason where this is called.
    pub fn reveal(&self) -> &[u8; SHA256_LEN] {
        &self.0
    }

    pub(super) fn decode(base64: &str) -> Option<Key> {
        let bytes = Zeroizing::new(STANDARD.decode(base64).ok()?);
        Some(Key::new(bytes.as_slice().try_into().ok()?))
    }

    /// HMAC with this key.
    pub(super) fn sign(&self, message: &[u8]) -> Key {
        Key::new(hmac_sha256(&self.0, &[message]))
    }

    pub(super) fn hash(&self) -> Key {
        Key::new(sha256(&*self.0))
    }

    pub(super) fn xor(&self, other: &Key) -> Key {
        let mut out = self.clone();
        for (byte, other) in out.0.iter_mut().zip(other.0.iter()) {
            *byte ^= other;
        }
        out
    }

    pub(super) fn encode(&self) -> String {
        STANDARD.encode(*self.0)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves to a server that one knows a password, without the password:
/// good for every server whose verifier has this salt and iteration count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramKeys {
    pub client_key: Key,
    pub server_key: Key,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl ScramKeys {
    /// Derives the keys from a password. Takes about a millisecond per 4096
    /// iterations: not for an I/O thread.
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> ScramKeys {
        let password = normalize(password);
        let salted = Key::new(pbkdf2::pbkdf2_hmac_array::<Sha256, SHA256_LEN>(
            &password, salt, iterations,
        ));
        ScramKeys {
            client_key: salted.sign(b"Client Key"),
            server_key: salted.sign(b"Server Key"),
            salt: salt.to_vec(),
            iterations,
        }
    }

    /// What a server stores to check these keys.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: self.client_key.hash(),
            server_key: self.server_key.clone(),
        }
    }
}

/// The stored form of a password,
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (manual,
/// `pg_authid.rolpassword`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: Key,
    pub server_key: Key,
}

impl Verifier {
    /// Reads the stored form; `None` if it is none.
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix(MECHANISM)?.strip_prefix('$')?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = STANDARD.decode(salt).ok()?;
        Some(Verifier {
            iterations: parse_iterations(iterations)?,
            salt: (!salt.is_empty()).then_some(salt)?,
            stored_key: Key::decode(stored_key)?,
            server_key: Key::decode(server_key)?,
        })
    }

    /// A verifier that no password fulfils, always the same for a `seed` and a
    /// user. Its salt is [`Verifier::salt_for`], so that neither
    /// repeated logins nor the creation of the user show.
    pub fn mock(seed: &[u8; 32], user: &str, iterations: u32) -> Verifier {
        let part = |label: &[u8]| Key::new(hmac_sha256(seed, &[label, user.as_bytes()]));
        Verifier {
            iterations,
            salt: Verifier::salt_for(seed, user),
            stored_key: part(b"stored key:"),
            server_key: part(b"server key:"),
        }
    }

    /// The salt for a user who has no verifier, be it that the password is
    /// stored in clear text or that there is no such user.
    pub fn salt_for(seed: &[u8; 32], user: &str) -> Vec<u8> {
        let mut salt = hmac_sha256(seed, &[b"salt:", user.as_bytes()]).to_vec();
        salt.truncate(SALT_LEN);
        salt
    }

    /// Whether the password is the verifier's. Takes as long as
    /// [`ScramKeys::derive`].
    pub fn verify_plain(&self, password: &[u8]) -> bool {
        let keys = ScramKeys::derive(password, &self.salt, self.iterations);
        keys.server_key == self.server_key
    }
}

/// An iteration count of 1 or more, in decimal digits.
pub(super) fn parse_iterations(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let count = digits.then(|| text.parse().ok()).flatten()?;
    (count > 0).then_some(count)
}

/// SASLprep where it applies, else the bytes themselves: PostgreSQL's passwords
/// need neither be UTF-8 nor free of prohibited characters (`pg_saslprep` in
/// src/common/saslprep.c).
fn normalize(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .and_then(|password| stringprep::saslprep(password).ok())
        .filter(|prepared| !prepared.is_empty());
    Zeroizing::new(match prepared {
        Some(Cow::Owned(prepared)) => prepared.into_bytes(),
        _ => password.to_vec(),
    })
}
