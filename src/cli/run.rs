//! `pgweir run`: serves clients until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tracing::warn;

use super::files;
use crate::process::{self, logging};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// pgweir.toml or pgbouncer.ini
    #[arg(required_unless_present = "database")]
    file: Option<PathBuf>,
    /// A database as name=postgres://user:password@host:port/dbname
    #[arg(long, value_name = "NAME=URL")]
    database: Vec<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = process::Source::new(args.file, args.database);
    let config = match files::load(source.file(), source.databases()) {
        Ok(config) => config,
        Err(mistakes) => bail!("the configuration has mistakes\n{mistakes}"),
    };
    let options = logging::Options::new(&config);
    let log = logging::init(&options).context("cannot start the log")?;
    if nix::unistd::geteuid().is_root() {
        warn!("running as root: nothing needs it; run pgweir as a user of its own");
    }
    for notice in &config.notices {
        warn!("{notice}");
    }
    process::run(config, source, log)
}
