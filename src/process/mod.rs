//! Phases of the process: start, run, drain, stop.

mod handle;
pub mod logging;

pub use handle::{Command, Handle, ShutdownMode};
