//! `pgweir convert`: a pgbouncer.ini as TOML.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{Config, Inputs, LoadError};

/// Print a pgbouncer.ini as pgweir.toml. Passwords are written in full.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file to convert.
    file: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let read = |path: &Path| std::fs::read_to_string(path);
    let config = match load(&args.file, &read) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let text = config.to_toml();
    std::io::stdout().write_all(text.as_bytes())?;
    // TOML is read more strictly than an ini.
    let name = Path::new("converted.toml");
    match load(name, &|_| Ok(text.clone())) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(mistakes) => {
            eprintln!("pgweir will not start with this file until it is corrected:\n{mistakes}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The file alone: what is in the environment must not get into another file.
fn load(file: &Path, read: &dyn Fn(&Path) -> std::io::Result<String>) -> Result<Config, LoadError> {
    Config::load(&Inputs {
        file: Some(file),
        databases: &[],
        env: &BTreeMap::new(),
        read,
    })
}
