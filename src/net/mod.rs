//! Sockets: plain TCP or Unix behind one type.
