//! Phases of the process: start, run, drain, stop.

mod handle;

pub use handle::{Command, Handle, ShutdownMode};
