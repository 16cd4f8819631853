//! A thread with its runtime, clients and server connections.

pub mod derived_keys;
pub mod hashing;
mod local;
mod pools;

pub use local::Local;
pub use pools::Pools;
