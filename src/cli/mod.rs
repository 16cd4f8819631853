//! The command line: one file per command.

pub mod check;
pub mod config;
pub mod convert;
pub mod demo;
pub mod files;

/// Entry point of the binary.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
