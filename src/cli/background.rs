//! A process that goes on in the background. It is the same program, started anew:
//! a fork would be safe only before everything else.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// How often it is looked whether the process is up.
const LOOK: Duration = Duration::from_millis(10);

/// Starts the program with these words (the first is how it is called), without
/// terminal or input, and returns when it listens and has written its pidfile.
pub fn start(words: &[OsString], pidfile: &Path) -> anyhow::Result<ExitCode> {
    let [program, arguments @ ..] = words else {
        bail!("BUG: a program without a name");
    };
    let mut child = Command::new(own_path(program)?)
        .arg0(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start in the background")?;
    while !is_up(&child, pidfile) {
        if let Some(status) = child.try_wait()? {
            bail!("the process in the background has ended ({status}): the logfile says why");
        }
        std::thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

fn is_up(child: &Child, pidfile: &Path) -> bool {
    let text = std::fs::read_to_string(pidfile).unwrap_or_default();
    text.trim() == child.id().to_string()
}

/// The path by which we were called, so that the process is named alike; any other
/// program of this name is not meant.
fn own_path(program: &OsString) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let called = Path::new(program);
    let same = called.components().count() > 1 && called.canonicalize().is_ok_and(|p| p == own);
    Ok(if same { called.to_owned() } else { own })
}
