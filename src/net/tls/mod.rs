//! TLS by rustls, driven over buffers of our own: a connection that is idle
//! owns neither plaintext nor ciphertext.
//!
//! - `settings`: from certificates and keys to an [`Acceptor`] and a
//!   [`Connector`]; `verify`: which servers are trusted;
//! - `session`: bytes in, bytes out; `handshake` and `stream` move them.

mod certificate;
mod encryption;
mod handshake;
mod session;
mod settings;
mod stream;
mod terms;
mod verify;

pub use encryption::Encryption;
pub use handshake::HandshakeError;
pub use settings::{Acceptor, Connector, Tls};
pub use stream::{DetachedTls, TlsStream};

#[cfg(test)]
mod tests;
