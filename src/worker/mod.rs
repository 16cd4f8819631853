//! A thread with its runtime, clients and server connections.

pub mod derived_keys;
pub mod hashing;
