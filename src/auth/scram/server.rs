//! The server's side: a client proves that it knows a password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::Key;
use super::message::{self, Attributes};
use super::{Binding, RawNonce, ScramError, ScramKeys, Verifier};

/// A server that has sent its first message.
#[derive(Debug)]
pub struct AwaitProof {
    /// base64 of the client's GS2 header, which it must repeat, and of the hash
    /// that it is bound to.
    channel_binding: String,
    is_bound: bool,
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
        binding: Binding<'_>,
    ) -> Result<(String, AwaitProof), ScramError> {
        let nonce = message::nonce(nonce);
        AwaitProof::start_with(client_first, salt, iterations, &nonce, binding)
    }

    pub(super) fn start_with(
        client_first: &[u8],
        salt: &[u8],
        iterations: u32,
        server_nonce: &str,
        binding: Binding<'_>,
    ) -> Result<(String, AwaitProof), ScramError> {
        let client_first = message::utf8(client_first)?;
        let (gs2_header, bare) = split_gs2_header(client_first, binding)?;
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
            channel_binding: message::channel_binding(gs2_header, binding),
            is_bound: matches!(binding, Binding::Bound(_)),
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
            return Err(match self.is_bound {
                true => ScramError::OtherCertificate,
                false => ScramError::Malformed(
                    "unexpected channel-binding attribute in client-final-message",
                ),
            });
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

/// Parts the GS2 header from the rest. It must fit what was offered and chosen,
/// as in PostgreSQL's `read_client_first_message` (src/backend/libpq/auth-scram.c).
fn split_gs2_header<'a>(
    client_first: &'a str,
    binding: Binding<'_>,
) -> Result<(&'a str, &'a str), ScramError> {
    let flag = match (client_first.as_bytes().first(), binding) {
        (Some(b'n'), Binding::Unsupported | Binding::Declined) => "n",
        (Some(b'y'), Binding::Unsupported) => "y",
        (Some(b'y'), Binding::Declined) => return Err(ScramError::Downgrade),
        (Some(b'n' | b'y'), Binding::Bound(_)) => {
            return Err(ScramError::Malformed(
                "channel binding was chosen, but is not there",
            ));
        }
        (Some(b'p'), Binding::Unsupported) => {
            return Err(ScramError::Unsupported(
                "client requires SCRAM channel binding, but it is not supported",
            ));
        }
        (Some(b'p'), Binding::Declined) => {
            return Err(ScramError::Malformed(
                "channel binding was not chosen, but is there",
            ));
        }
        (Some(b'p'), Binding::Bound(_)) => {
            let (flag, _) = client_first.split_once(',').unwrap_or((client_first, ""));
            if flag != "p=tls-server-end-point" {
                return Err(ScramError::Unsupported(
                    "unsupported SCRAM channel-binding type",
                ));
            }
            flag
        }
        _ => return Err(ScramError::Malformed("unexpected channel-binding flag")),
    };
    match client_first.as_bytes().get(flag.len()..flag.len() + 2) {
        Some(b",,") => Ok(client_first.split_at(flag.len() + 2)),
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
