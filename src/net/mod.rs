//! Sockets: TCP, Unix or TLS behind one type.

pub mod descriptors;
pub mod dns;
pub mod listener;
pub mod message_io;
mod options;
mod outgoing;
pub mod peer;
mod stream;
pub mod tls;

pub use options::apply as apply_tcp_options;
pub use outgoing::Outgoing;
pub use stream::{Addresses, Detached, PeerAddr, Stream};
