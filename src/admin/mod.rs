//! The console: commands over snapshots.

pub mod snapshot;
