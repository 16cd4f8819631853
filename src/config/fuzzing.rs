//! Bodies of the fuzz targets for configuration files.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Config, Inputs};

/// A pgbouncer.ini.
pub fn fuzz_ini(data: &[u8]) {
    load("pgbouncer.ini", data);
}

/// A pgweir.toml.
pub fn fuzz_toml(data: &[u8]) {
    load("pgweir.toml", data);
}

/// Definitions of databases on the command line, one on a line.
pub fn fuzz_database(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let databases: Vec<String> = text.lines().map(str::to_owned).collect();
    check(&Inputs {
        file: None,
        databases: &databases,
        env: &BTreeMap::new(),
        read: &|_| Err(io::ErrorKind::NotFound.into()),
    });
}

fn load(name: &str, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check(&Inputs {
        file: Some(Path::new(name)),
        databases: &[],
        env: &BTreeMap::new(),
        read: &|path| match path == Path::new(name) {
            true => Ok(text.to_string()),
            false => Err(io::ErrorKind::NotFound.into()),
        },
    });
}

/// Reading gives the same result each time; a refusal names a mistake, and
/// what is accepted can be asked for every pool.
fn check(inputs: &Inputs<'_>) {
    let result = Config::load(inputs);
    assert_eq!(result, Config::load(inputs));
    match result {
        Ok(config) => {
            let users = config.users.keys().map(String::as_str).chain(["somebody"]);
            let databases = config.databases.keys().map(String::as_str).chain(["some"]);
            for (database, user) in databases.flat_map(|d| users.clone().map(move |u| (d, u))) {
                let _ = config.pool(database, user);
            }
        }
        Err(error) => {
            assert!(!error.0.is_empty());
            assert!(!error.to_string().is_empty());
        }
    }
}
