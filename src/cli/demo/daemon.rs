//! Programs that the demo starts, and the promise that none outlives it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid, User};

/// Who runs the servers. PostgreSQL refuses root, so that as root it is
/// `postgres` where there is such a user, else `nobody`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// The user for this process.
    pub fn choose() -> anyhow::Result<Owner> {
        if !Uid::effective().is_root() {
            return Ok(Owner(None));
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Owner(Some((user.uid.as_raw(), user.gid.as_raw()))));
            }
        }
        bail!("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")
    }

    /// Gives the directory to the user.
    pub fn take(self, dir: &Path) -> anyhow::Result<()> {
        if let Some((uid, gid)) = self.0 {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// A command run by the user in `dir`.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = clean_command(program, dir);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// A command in its own process group, so that Ctrl-C reaches the demo alone,
/// which then stops its children in the right order. Variables like `PGHOST`
/// or `PGWEIR_LISTEN_PORT` would change what the demo does; a locale other
/// than C would translate the output that it reads.
pub fn clean_command(program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .process_group(0)
        .stdin(Stdio::null())
        .env("LC_ALL", "C");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Starts a command with both outputs piped. Dropping the group before
/// [`Group::ended`] kills the command with everything that it started.
pub fn spawn(mut command: Command) -> anyhow::Result<(tokio::process::Child, Group)> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = tokio::process::Command::from(command)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let pid = child.id().context("a child without an id")?;
    Ok((child, Group(Pid::from_raw(pid.cast_signed()))))
}

/// The process group of a command (see [`clean_command`]): `initdb`, killed
/// alone, would leave a server behind that goes on writing files.
#[derive(Debug)]
pub struct Group(Pid);

impl Group {
    /// The command has ended by itself.
    pub fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(self.0, Signal::SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            // Its own end must be collected before the group can be empty.
            let _ = waitpid(self.0, Some(WaitPidFlag::WNOHANG));
            if killpg(self.0, None).is_err() {
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// Runs a command to its end and returns its standard output. The error has
/// its standard error. Dropping the future kills the command.
pub async fn output(command: Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (child, group) = spawn(command)?;
    let done = child.wait_with_output().await?;
    group.ended();
    if !done.status.success() {
        bail!(
            "{name} failed ({}): {}",
            done.status,
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A running server program. Dropping it stops it and waits for its end.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    farewell: &'static [Signal],
}

impl Daemon {
    /// Starts the program with both outputs going to the file `log`.
    /// `farewell` names the signals that end it, the politest first.
    pub fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
        farewell: &'static [Signal],
    ) -> anyhow::Result<Daemon> {
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Daemon {
            name,
            child,
            log: log.to_owned(),
            farewell,
        })
    }

    /// Repeats `probe` until it succeeds, for at most `patience`. An early end
    /// of the program and a timeout are errors that show its last log lines.
    pub async fn until_ready<T, F>(
        &mut self,
        patience: Duration,
        mut probe: impl FnMut() -> F,
    ) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let deadline = Instant::now() + patience;
        loop {
            self.check()?;
            match probe().await {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context(format!(
                        "{} was not ready after {} s; its log ends with:\n{}",
                        self.name,
                        patience.as_secs(),
                        self.last_lines()
                    )));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// An error if the program has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} ended ({status}); its log ends with:\n{}",
                self.name,
                self.last_lines()
            );
        }
        Ok(())
    }

    /// What the program has written so far.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn last_lines(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(15);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    fn ended_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(10)),
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.ended_within(Duration::ZERO) {
            return;
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        for signal in self.farewell {
            // It is our own child and not yet waited for: the id is still its.
            let _ = kill(pid, *signal);
            if self.ended_within(Duration::from_secs(5)) {
                return;
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
