//! How many files the process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use super::load;
use crate::auth::UserList;
use crate::config::Config;

/// As many file descriptors as the system lets us have: each client takes one.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(reason = %error, soft, hard, "cannot raise the number of open files");
    }
}

/// Warns, or refuses, if that is not enough for the configuration.
pub fn check_limit(config: &Config, users: &UserList, workers: usize) -> Result<(), String> {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if let Some(reason) = load::check_descriptors(config, users, workers, soft)? {
        warn!("{reason}");
    }
    Ok(())
}
