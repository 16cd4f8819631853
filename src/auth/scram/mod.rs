//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it
//! (src/backend/libpq/auth-scram.c, src/interfaces/libpq/fe-auth-scram.c).
//!
//! [`server`] lets a client prove that it knows a password; [`client`] proves it
//! to a server. Both take nonces and keys as arguments and return messages.
//!
//! Over TLS the exchange can be bound to the connection ([`Binding`]): the proof
//! then covers the hash of the server's certificate, so that nobody who sits in
//! between with a certificate of his own can pass it on.

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
/// Its name with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Whether an exchange is bound to the TLS connection below it, by the only type
/// that PostgreSQL has: `tls-server-end-point` (RFC 5929, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// We cannot: there is no TLS, or a certificate whose hash is not defined.
    Unsupported,
    /// We could, but the other side has not offered it, or not chosen it.
    Declined,
    /// By this hash of the server's certificate.
    Bound(&'a [u8]),
}

impl Binding<'_> {
    /// What we can do (`hash`) and whether the other side wants it.
    pub fn new(hash: Option<&[u8]>, wanted: bool) -> Binding<'_> {
        match hash {
            None => Binding::Unsupported,
            Some(_) if !wanted => Binding::Declined,
            Some(hash) => Binding::Bound(hash),
        }
    }
}

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
    /// The client believes that we cannot bind, although we have offered it:
    /// somebody in between has changed the offer.
    #[error("the client believes that channel binding was not offered")]
    Downgrade,
    /// The client is bound to another certificate than ours: somebody in between
    /// has shown it his own.
    #[error("the client is bound to another certificate")]
    OtherCertificate,
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
