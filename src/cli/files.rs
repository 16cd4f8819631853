//! Configuration from this machine's files and environment.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Config, Inputs, LoadError};

/// Reads the configuration that a command line names: a file, databases as
/// `name=postgres://...`, and `PGWEIR_*` variables.
///
/// # Errors
/// Every mistake in them.
pub fn load(file: Option<&Path>, databases: &[String]) -> Result<Config, LoadError> {
    Config::load(&Inputs {
        file,
        databases,
        env: &environment(),
        read: &|path| std::fs::read_to_string(path),
    })
}

/// The variables that are text.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
