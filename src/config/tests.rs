//! Tests of the room as a whole: a text goes in, a configuration or mistakes
//! come out.

mod any_input;
mod changes;
mod errors;
mod formats;
mod generated;
mod precedence;
mod rules;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Config, Inputs, LoadError};

/// Loads `files`, of which the first is the configuration.
fn load_files(
    files: &[(&str, &str)],
    databases: &[String],
    env: &[(&str, &str)],
) -> Result<Config, LoadError> {
    let env: BTreeMap<String, String> = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found
            .map(|(_, text)| text.to_string())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    Config::load(&Inputs {
        file: files.first().map(|(name, _)| Path::new(*name)),
        databases,
        env: &env,
        read: &read,
    })
}

fn ini(text: &str) -> Config {
    load_files(&[("p.ini", text)], &[], &[]).unwrap()
}

fn toml(text: &str) -> Config {
    load_files(&[("p.toml", text)], &[], &[]).unwrap()
}

/// The mistakes in a file, one per line.
fn mistakes(file: &str, text: &str) -> String {
    load_files(&[(file, text)], &[], &[])
        .unwrap_err()
        .to_string()
}
