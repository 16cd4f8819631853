//! The file that holds the process id. Texts are PgBouncer's (src/main.c).

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tracing::info;

/// Removed when dropped, unless another process has its own there by then.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Whether it may be written. A file of a process that has gone is removed;
    /// one that holds anything else is left alone.
    pub fn check(path: &Path) -> anyhow::Result<()> {
        let place = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => bail!("could not open pidfile '{place}': {error}"),
        };
        let pid: i32 = text.trim().parse().unwrap_or(0);
        let gone = pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH);
        if !gone {
            bail!("pidfile '{place}' exists, another instance running?");
        }
        info!("stale pidfile, removing");
        fs::remove_file(path).context("could not remove stale pidfile")
    }

    /// Writes our process id. The process whose file is there may be `replaced` by us.
    pub fn write(path: &Path, replaced: bool) -> anyhow::Result<Pidfile> {
        match replaced {
            // It may have none.
            true => drop(fs::remove_file(path)),
            false => Pidfile::check(path)?,
        }
        let failed = || format!("could not open pidfile '{}'", path.display());
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(failed)?;
        let pidfile = Pidfile(path.to_owned());
        writeln!(file, "{}", std::process::id())
            .with_context(|| format!("could not write pidfile '{}'", path.display()))?;
        Ok(pidfile)
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if read(&self.0) == Some(std::process::id() as i32) {
            // Somebody may remove it before us.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn read(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
