//! Phases of the process: start, run, drain, stop.

mod handle;
mod load;
pub mod logging;
mod pidfile;
mod run;

pub use handle::{Command, Handle, ShutdownMode};
pub use load::Source;
pub use run::run;
