//! State machines of the protocol, without sockets.
