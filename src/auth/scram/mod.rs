//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it
//! (src/backend/libpq/auth-scram.c, src/interfaces/libpq/fe-auth-scram.c).
//!
//! [`server`] lets a client prove that it knows a password; [`client`] proves it
//! to a server. Both take nonces and keys as arguments and return messages.
//!
//! Without TLS there is no channel binding. With it, the GS2 header and the
//! `c=` attribute (both in [`message`]) carry the certificate's hash.

pub mod client;
mod keys;
mod message;
pub mod server;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use keys::{Key, ScramKeys, Verifier};

/// The mechanism's name in AuthenticationSASL and SASLInitialResponse.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Most iterations that a server may ask for when keys must be derived from a
/// password: about a second of work. PostgreSQL's default is 4096.
pub const MAX_ITERATIONS: u32 = 1_000_000;

/// Length in bytes of PostgreSQL's salts.
pub const SALT_LEN: usize = 16;

/// Random bytes of a nonce, chosen by the caller; 24 characters in base64.
pub type RawNonce = [u8; 18];

/// Why an exchange failed. The text is for the log: a client that fails to log
/// in is told nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScramError {
    /// The peer does not speak SCRAM.
    #[error("malformed SCRAM message ({0})")]
    Malformed(&'static str),
    /// The client wants a channel binding, an authorization identity or a
    /// mandatory extension.
    #[error("{0}")]
    Unsupported(&'static str),
    #[error("invalid SCRAM response (nonce mismatch)")]
    Nonce,
    /// The client does not know the password.
    #[error("password authentication failed")]
    Proof,
    /// The server does not know the password, or somebody answers in its place.
    #[error("invalid server signature")]
    Signature,
    /// The server reported a failure inside the exchange.
    #[error("error received from server in SCRAM exchange: {0}")]
    Server(String),
    /// A server wants more work than is reasonable.
    #[error("server asks for {0} SCRAM iterations, more than {MAX_ITERATIONS}")]
    Iterations(u32),
    /// The keys were made with another salt or iteration count.
    #[error("the server's SCRAM salt or iteration count is not that of the stored verifier")]
    ForeignKeys,
}
