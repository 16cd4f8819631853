//! `pgweir run`: serves clients until it is told to stop.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tracing::{error, warn};

use super::background;
use crate::net::listener;
use crate::process::{self, Pidfile, Source, identity, logging};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// pgweir.toml or pgbouncer.ini
    #[arg(required_unless_present = "database")]
    file: Option<PathBuf>,
    /// Take over the sockets of the running process, which leaves then
    #[arg(short = 'R', long)]
    reboot: bool,
    /// A database as name=postgres://user:password@host:port/dbname
    #[arg(long, value_name = "NAME=URL")]
    database: Vec<String>,
}

/// How a process is to be run.
#[derive(Debug)]
pub struct Manner {
    /// Nothing goes to standard error.
    pub quiet: bool,
    /// It is in the background.
    pub in_background: bool,
    /// It goes to the background: the words to start it there.
    pub daemon: Option<Vec<OsString>>,
    /// It may be root's.
    pub as_root: bool,
    /// It takes the place of the running one.
    pub reboot: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let manner = Manner {
        quiet: false,
        in_background: false,
        daemon: None,
        as_root: true,
        reboot: args.reboot,
    };
    start(Source::new(args.file, args.database), &manner)
}

/// Serves clients with this configuration; returns at the end, or when another
/// process does in the background.
pub fn start(source: Source, manner: &Manner) -> anyhow::Result<ExitCode> {
    // Before there are threads.
    let passed = listener::inherited()?;
    let config = match source.load() {
        Ok(config) => config,
        Err(mistakes) => bail!("the configuration has mistakes\n{mistakes}"),
    };
    let general = &config.general;
    let user = general.user.as_deref().filter(|user| !user.is_empty());
    if let (Some(user), Some(logfile)) = (user, &general.logfile) {
        identity::create_for(user, logfile)?;
    }
    let mut options = logging::Options::new(&config);
    options.stderr = !manner.quiet && !manner.in_background;
    let log = logging::init(&options).context("cannot start the log")?;
    if nix::unistd::geteuid().is_root() && user.is_none() {
        if !manner.as_root {
            error!(fatal = true, "PgBouncer should not run as root");
            return Ok(ExitCode::FAILURE);
        }
        warn!("running as root: nothing needs it; run pgweir as a user of its own");
    }
    for notice in &config.notices {
        warn!("{notice}");
    }
    if let Some(words) = &manner.daemon {
        let Some(pidfile) = &general.pidfile else {
            error!(fatal = true, "daemon needs pidfile configured");
            return Ok(ExitCode::FAILURE);
        };
        if general.logfile.is_none() && !general.syslog {
            warn!("neither logfile nor syslog is set: nothing will be logged in the background");
        }
        if let Err(error) = Pidfile::check(pidfile)
            && !manner.reboot
        {
            error!(fatal = true, "{error}");
            return Ok(ExitCode::FAILURE);
        }
        return background::start(words, pidfile);
    }
    if manner.in_background {
        // No terminal sends it signals.
        nix::unistd::setsid().context("setsid failed")?;
    }
    let reboot = manner.reboot;
    process::run(config, source, log, process::Origin { passed, reboot })
}
