//! The client's side: prove to a server that one knows the password, or its
//! keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::{Key, parse_iterations};
use super::message::{self, Attributes};
use super::{Binding, RawNonce, ScramError, ScramKeys};

/// A client that has sent its first message.
#[derive(Debug)]
pub struct AwaitServerFirst {
    nonce: String,
    channel_binding: String,
}

/// What the server wants to be proved; to be answered with keys that were made
/// with this salt and iteration count.
#[derive(Debug)]
pub struct Challenge {
    client_first_bare: String,
    server_first: String,
    nonce: String,
    channel_binding: String,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

/// A client that has sent its proof. The server is not to be believed before
/// [`finish`](AwaitServerFinal::finish).
#[derive(Debug)]
pub struct AwaitServerFinal {
    signature: Key,
}

impl AwaitServerFirst {
    /// The client-first-message. The nonce must be fresh and unpredictable.
    ///
    /// The user name is left empty, as libpq does: servers take the startup
    /// packet's.
    pub fn start(nonce: RawNonce, binding: Binding<'_>) -> (String, AwaitServerFirst) {
        let gs2_header = match binding {
            Binding::Unsupported => "n,,",
            Binding::Declined => "y,,",
            Binding::Bound(_) => message::BOUND,
        };
        let state = AwaitServerFirst {
            nonce: message::nonce(nonce),
            channel_binding: message::channel_binding(gs2_header, binding),
        };
        (format!("{gs2_header}{}", state.bare()), state)
    }

    /// Reads the server-first-message.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenge, ScramError> {
        let server_first = message::utf8(server_first)?;
        let mut attributes = Attributes::new(server_first);
        let nonce = attributes.expect('r', "nonce expected")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let salt = attributes.expect('s', "salt expected")?;
        let salt = STANDARD
            .decode(salt)
            .map_err(|_| ScramError::Malformed("invalid salt"))?;
        let iterations = attributes.expect('i', "iteration count expected")?;
        let iterations =
            parse_iterations(iterations).ok_or(ScramError::Malformed("invalid iteration count"))?;
        attributes.skip_extensions()?;
        Ok(Challenge {
            client_first_bare: self.bare(),
            server_first: server_first.to_owned(),
            nonce: nonce.to_owned(),
            channel_binding: self.channel_binding,
            salt,
            iterations,
        })
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }
}

impl Challenge {
    /// The client-final-message. Keys of another salt or iteration count are
    /// [`ScramError::ForeignKeys`]: their proof could not be right.
    pub fn answer(self, keys: &ScramKeys) -> Result<(String, AwaitServerFinal), ScramError> {
        if keys.salt != self.salt || keys.iterations != self.iterations {
            return Err(ScramError::ForeignKeys);
        }
        let without_proof = format!("c={},r={}", self.channel_binding, self.nonce);
        let auth_message =
            message::auth_message(&self.client_first_bare, &self.server_first, &without_proof);
        let signature = keys.client_key.hash().sign(auth_message.as_bytes());
        let proof = keys.client_key.xor(&signature);
        let state = AwaitServerFinal {
            signature: keys.server_key.sign(auth_message.as_bytes()),
        };
        Ok((format!("{without_proof},p={}", proof.encode()), state))
    }
}

impl AwaitServerFinal {
    /// Checks that the server knows the password too.
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let server_final = message::utf8(server_final)?;
        let mut attributes = Attributes::new(server_final);
        if server_final.starts_with('e') {
            let error = attributes.expect('e', "error expected")?;
            return Err(ScramError::Server(error.to_owned()));
        }
        let signature = attributes.expect('v', "server signature expected")?;
        attributes.skip_extensions()?;
        match Key::decode(signature) {
            Some(signature) if signature == self.signature => Ok(()),
            Some(_) => Err(ScramError::Signature),
            None => Err(ScramError::Malformed("malformed server signature")),
        }
    }
}
