//! The server's side: a client proves that it knows a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::Key;
use super::message::{self, Attributes};
use super::{RawNonce, ScramError, ScramKeys, Verifier};

/// A server that has sent its first message.
#[derive(Debug)]
pub struct AwaitProof {
    /// base64 of the client's GS2 header, which it must repeat.
    channel_binding: String,
    client_first_bare: String,
    nonce: String,
    server_first: String,
}

/// The outcome of a good proof.
#[derive(Debug)]
pub struct Proven {
    /// The server-final-message.
    pub server_final: String,
    /// What the client proved with; logs in to any server that has the same
    /// verifier.
    pub keys: ScramKeys,
}

impl AwaitProof {
    /// Reads the client-first-message and makes the server-first-message.
    ///
    /// The user name inside the message is ignored: the startup packet's counts
    /// (manual, "SCRAM-SHA-256 Authentication"). The nonce must be fresh and
    /// unpredictable.
    pub fn start(
        client_first: &[u8],
        salt: &[u8],
        iterations: u32,
        nonce: RawNonce,
    ) -> Result<(String, AwaitProof), ScramError> {
        AwaitProof::start_with(client_first, salt, iterations, &message::nonce(nonce))
    }

    pub(super) fn start_with(
        client_first: &[u8],
        salt: &[u8],
        iterations: u32,
        server_nonce: &str,
    ) -> Result<(String, AwaitProof), ScramError> {
        let client_first = message::utf8(client_first)?;
        let (gs2_header, bare) = split_gs2_header(client_first)?;
        if bare.starts_with('m') {
            return Err(ScramError::Unsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        let mut attributes = Attributes::new(bare);
        attributes.expect('n', "user name expected")?;
        let client_nonce = attributes.expect('r', "nonce expected")?;
        if !is_printable(client_nonce) {
            return Err(ScramError::Malformed("non-printable characters in nonce"));
        }
        attributes.skip_extensions()?;

        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let state = AwaitProof {
            channel_binding: message::channel_binding(gs2_header),
            client_first_bare: bare.to_owned(),
            nonce,
            server_first: server_first.clone(),
        };
        Ok((server_first, state))
    }

    /// Checks the client-final-message. The verifier must be the one whose salt
    /// and iteration count the first message named.
    pub fn finish(self, client_final: &[u8], verifier: &Verifier) -> Result<Proven, ScramError> {
        let client_final = message::utf8(client_final)?;
        let mut attributes = Attributes::new(client_final);
        if attributes.expect('c', "channel binding expected")? != self.channel_binding {
            return Err(ScramError::Malformed(
                "unexpected channel-binding attribute in client-final-message",
            ));
        }
        if attributes.expect('r', "nonce expected")? != self.nonce {
            return Err(ScramError::Nonce);
        }
        // Optional extensions may stand between; the proof is last.
        let mut proof = None;
        for attribute in attributes {
            if proof.is_some() {
                return Err(ScramError::Malformed(
                    "garbage at the end of client-final-message",
                ));
            }
            proof = attribute.map(|(name, value)| (name == 'p').then_some(value))?;
        }
        let proof = proof.ok_or(ScramError::Malformed("proof expected"))?;
        let without_proof = client_final
            .strip_suffix(proof)
            .and_then(|rest| rest.strip_suffix(",p="))
            .ok_or(ScramError::Malformed("proof expected"))?;
        let proof = Key::decode(proof).ok_or(ScramError::Malformed("malformed proof"))?;

        let auth_message =
            message::auth_message(&self.client_first_bare, &self.server_first, without_proof);
        let client_key = verifier
            .stored_key
            .sign(auth_message.as_bytes())
            .xor(&proof);
        let signature = verifier.server_key.sign(auth_message.as_bytes());
        if client_key.hash() != verifier.stored_key {
            return Err(ScramError::Proof);
        }
        Ok(Proven {
            server_final: format!("v={}", signature.encode()),
            keys: ScramKeys {
                client_key,
                server_key: verifier.server_key.clone(),
                salt: verifier.salt.clone(),
                iterations: verifier.iterations,
            },
        })
    }
}

/// Parts the GS2 header (`n,,` or `y,,`) from the rest.
fn split_gs2_header(client_first: &str) -> Result<(&str, &str), ScramError> {
    match client_first.as_bytes().first() {
        Some(b'n' | b'y') => {}
        Some(b'p') => {
            return Err(ScramError::Unsupported(
                "client requires SCRAM channel binding, but it is not supported",
            ));
        }
        _ => return Err(ScramError::Malformed("unexpected channel-binding flag")),
    }
    match client_first.as_bytes().get(1..3) {
        Some(b",,") => Ok(client_first.split_at(3)),
        Some(b",a") => Err(ScramError::Unsupported(
            "client uses authorization identity, but it is not supported",
        )),
        _ => Err(ScramError::Malformed(
            "unexpected attribute in client-first-message",
        )),
    }
}

/// RFC 5802's `printable`; a comma cannot occur in an attribute's value.
fn is_printable(nonce: &str) -> bool {
    nonce.bytes().all(|c| (0x21..=0x7e).contains(&c))
}
