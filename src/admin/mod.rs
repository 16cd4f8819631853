//! The console: commands over snapshots.
//!
//! [`command`] parses what an operator typed, [`show`] turns a
//! [`snapshot::Snapshot`] and a [`view::ConsoleView`] into tables, and
//! [`console`] speaks the protocol.

pub mod command;
pub mod console;
mod extended;
mod reply;
pub mod show;
pub mod snapshot;
pub mod table;
pub mod view;

use crate::config::{AuthType, Settings};

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

/// What somebody who has logged in to the console may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every command.
    Admin,
    /// Only commands that show something.
    Stats,
    /// Nothing: FATAL `not allowed`.
    Denied,
}

/// The rights of a user name. With `auth_type=any` names mean nothing, and
/// everybody may look, as with PgBouncer.
pub fn access(settings: &Settings, user: &str) -> Access {
    let listed = |users: &[String]| users.iter().any(|listed| listed == user);
    if listed(&settings.admin_users) {
        Access::Admin
    } else if listed(&settings.stats_users) || settings.auth_type == AuthType::Any {
        Access::Stats
    } else {
        Access::Denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_what() {
        let mut settings = Settings {
            admin_users: vec!["root".to_owned(), "both".to_owned()],
            stats_users: vec!["both".to_owned(), "grafana".to_owned()],
            ..Settings::default()
        };
        assert_eq!(access(&settings, "root"), Access::Admin);
        assert_eq!(access(&settings, "both"), Access::Admin);
        assert_eq!(access(&settings, "grafana"), Access::Stats);
        assert_eq!(access(&settings, "Root"), Access::Denied);
        settings.auth_type = AuthType::Any;
        assert_eq!(access(&settings, "anybody"), Access::Stats);
        assert_eq!(access(&settings, "root"), Access::Admin);
    }
}
