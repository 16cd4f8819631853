//! SCRAM-SHA-256 (RFC 5802) as cheap as it can be for this side: the salted
//! password of one user is worked out once.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

pub type Key = [u8; 32];

/// What is known of the one user.
pub struct Secret {
    password: String,
    /// For this salt and so many iterations.
    salted: RefCell<Option<(String, u32, Key)>>,
}

/// A login between the client's two messages.
pub struct Exchange {
    nonce: String,
}

impl Secret {
    pub fn new(password: String) -> Secret {
        Secret {
            password,
            salted: RefCell::default(),
        }
    }

    fn salted(&self, salt: &str, iterations: u32) -> Result<Key> {
        if let Some((known, times, key)) = &*self.salted.borrow()
            && (known.as_str(), *times) == (salt, iterations)
        {
            return Ok(*key);
        }
        let password = self.password.as_bytes();
        let mut block = hmac(password, &[&BASE64.decode(salt)?, &1u32.to_be_bytes()]);
        let mut key = block;
        for _ in 1..iterations {
            block = hmac(password, &[&block]);
            key.iter_mut().zip(block).for_each(|(k, b)| *k ^= b);
        }
        *self.salted.borrow_mut() = Some((salt.to_owned(), iterations, key));
        Ok(key)
    }
}

impl Exchange {
    pub fn begin() -> Exchange {
        let nonce = (0..24).map(|_| fastrand::alphanumeric()).collect();
        Exchange { nonce }
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    pub fn first(&self) -> String {
        format!("n,,{}", self.bare())
    }

    /// The answer to the server's first message.
    pub fn last(&self, secret: &Secret, server: &str) -> Result<String> {
        let part = |name: &str| {
            let parts = server.split(',').find_map(|part| part.strip_prefix(name));
            parts.with_context(|| format!("no {name} in {server:?}"))
        };
        let nonce = part("r=")?;
        if !nonce.starts_with(&self.nonce) {
            bail!("not our nonce: {server:?}");
        }
        let salted = secret.salted(part("s=")?, part("i=")?.parse()?)?;
        let client_key = hmac(&salted, &[b"Client Key"]);
        let stored: Key = Sha256::digest(client_key).into();
        let unproved = format!("c=biws,r={nonce}");
        let signature = hmac(
            &stored,
            &[format!("{},{server},{unproved}", self.bare()).as_bytes()],
        );
        let mut proof = client_key;
        proof.iter_mut().zip(signature).for_each(|(p, s)| *p ^= s);
        Ok(format!("{unproved},p={}", BASE64.encode(proof)))
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}
