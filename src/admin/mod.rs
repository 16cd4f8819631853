//! The console: commands over snapshots.
//!
//! [`command`] parses what an operator typed, [`show`] turns a
//! [`snapshot::Snapshot`] and a [`view::ConsoleView`] into tables, and
//! [`console`] speaks the protocol.

pub mod command;
pub mod console;
mod reply;
pub mod show;
pub mod snapshot;
pub mod table;
pub mod view;

/// The PgBouncer release whose console this one is compatible with.
pub const PGBOUNCER_VERSION: &str = "1.25.2";

/// The text of SHOW VERSION, and the first line of `--version` when started
/// as PgBouncer would be.
///
/// Monitoring tools take the first word and the first dotted number from it
/// to decide which columns to expect, so it begins as PgBouncer's does; the
/// program that really answers is named behind.
pub fn version() -> String {
    format!(
        "PgBouncer {PGBOUNCER_VERSION} (pgweir {})",
        env!("CARGO_PKG_VERSION")
    )
}
