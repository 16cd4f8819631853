//! Sockets: plain TCP or Unix behind one type.

pub mod message_io;
