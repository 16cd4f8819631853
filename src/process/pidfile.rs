//! The file that holds the process id.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Removed when dropped.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes our process id, unless a living process has its own there.
    pub fn write(path: &Path) -> anyhow::Result<Pidfile> {
        let own = std::process::id();
        if let Ok(text) = fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<i32>()
            && pid != own as i32
            && pid > 0
            && !matches!(
                kill(Pid::from_raw(pid), None),
                Err(nix::errno::Errno::ESRCH)
            )
        {
            bail!(
                "pidfile {} belongs to process {pid}, which is alive: stop it, or choose \
                 another pidfile",
                path.display()
            );
        }
        fs::write(path, format!("{own}\n"))
            .with_context(|| format!("cannot write pidfile {}", path.display()))?;
        Ok(Pidfile(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Somebody may have removed it before us.
        let _ = fs::remove_file(&self.0);
    }
}
