//! Takes the place of a running PgBouncer, in the way in which its own `-R` does:
//! over the console, at its Unix socket, where the same Unix user needs no password.
//!
//! | this process says | PgBouncer |
//! |---|---|
//! | `SUSPEND` | writes what it has, and reads nothing more; not for long if clients wait then |
//! | `SHOW FDS` | sends its sockets, each with what it knows of it |
//! | `RESUME`, if anything fails until then | goes on as before |
//! | `SHUTDOWN` | ends, and leaves the file of its Unix socket |

mod rows;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use thiserror::Error;
use tracing::{info, warn};

pub use self::rows::{Client, Connections, Linked, Taken};
use self::rows::{Columns, Mistake, Row};
use super::identity;
use crate::config::Settings;
use crate::flow::error_fields;
use crate::net::descriptors;
use crate::net::listener;
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a moment is looked for in which everybody can be suspended.
const TRYING: Duration = Duration::from_secs(15);
/// How long a SUSPEND may take, since everybody waits for it; how long it is put off
/// while clients wait for server connections; how long PgBouncer goes on in between.
const ATTEMPT: Duration = Duration::from_millis(500);
const CALM: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(200);
/// How often it is asked whether it is as it should be.
const PERIOD: Duration = Duration::from_millis(10);
/// How long it may take to remove its pidfile.
const PIDFILE: Duration = Duration::from_secs(2);
/// Bytes of a message: a row has a password at most.
const LONGEST: u32 = 1 << 20;
/// Rows of an answer: more than a process can have sockets.
const MOST_ROWS: usize = 1 << 20;

/// Who listens at the Unix socket.
#[derive(Debug)]
pub enum Running {
    Nobody,
    /// With its version.
    Pgweir(String),
    /// Suspended, with what it has.
    PgBouncer(Box<(PgBouncer, Connections<OwnedFd>)>),
}

/// A PgBouncer that is to end. It is resumed if this is dropped before.
#[derive(Debug)]
pub struct PgBouncer {
    /// Of its Unix socket.
    place: String,
    console: Console,
    /// Where it is told to go on: the other one waits for an answer.
    second: Console,
    suspended: bool,
}

impl PgBouncer {
    /// Suspends the one that listens where this process will, and gets what it has.
    ///
    /// # Errors
    /// It cannot be replaced by this process, and goes on as it was.
    pub fn suspend(general: &Settings) -> anyhow::Result<Running> {
        let (dir, port) = (&general.unix_socket_dir, general.listen_port);
        let place = format!("{dir}/.s.PGSQL.{port}");
        let Ok(stream) = listener::connect_unix(&place) else {
            return Ok(Running::Nobody);
        };
        let user = getsockopt(&stream, PeerCredentials)?.uid();
        drop(stream);
        if let Some(name) = general.user.as_deref().filter(|name| !name.is_empty()) {
            // It asks nobody but its own user for no password.
            identity::assume(name)?;
        }
        let ours = geteuid().as_raw();
        ensure!(
            user == ours,
            "the running process is user {user}'s, not {ours}'s"
        );
        let mut console = Console::log_in(&place)?;
        let version = console.version()?;
        if version.contains("pgweir") {
            return Ok(Running::Pgweir(version));
        }
        ensure!(
            version.starts_with("PgBouncer "),
            "{version} runs there, which is no PgBouncer"
        );
        info!(version, "taking over");
        let mut running = PgBouncer {
            console,
            second: Console::log_in(&place)?,
            place,
            suspended: false,
        };
        let connections = running.connections()?;
        Ok(Running::PgBouncer(Box::new((running, connections))))
    }

    fn connections(&mut self) -> anyhow::Result<Connections<OwnedFd>> {
        let limit = self.second.suspend_timeout()?;
        let begun = Instant::now();
        loop {
            self.wait_for_calm()?;
            let obstacle = match self.try_suspend(limit)? {
                true => match self.sockets()? {
                    Ok(connections) if self.are_all_here(&connections)? => {
                        return Ok(connections);
                    }
                    Ok(_) | Err(Mistake::Unpaired) => Mistake::Unpaired.to_string(),
                    Err(mistake) => return Err(mistake.into()),
                },
                false => "clients wait for server connections that others hold in transactions: \
                          give PgBouncer a larger default_pool_size (SET)"
                    .to_owned(),
            };
            self.resume()?;
            ensure!(begun.elapsed() < TRYING, obstacle);
            thread::sleep(BETWEEN);
        }
    }

    /// Who waits for a server connection cannot be suspended before it has one, and
    /// those who are suspended do not release theirs.
    fn wait_for_calm(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < CALM {
            let waiting = self.second.column("SHOW POOLS;", "cl_waiting")?;
            if waiting.iter().all(|count| count == "0") {
                break;
            }
            thread::sleep(PERIOD);
        }
        Ok(())
    }

    /// False: it has not come to rest in time. In the end it would throw out who is in
    /// the way.
    fn try_suspend(&mut self, limit: Duration) -> anyhow::Result<bool> {
        self.suspended = true;
        self.console.set_patience(limit)?;
        let answer = self.console.ask("SUSPEND;");
        match answer {
            Ok(_) => {
                self.console.set_patience(PATIENCE)?;
                Ok(true)
            }
            Err(error) if is_late(&error) => {
                self.resume()?;
                self.console = Console::log_in(&self.place)?;
                Ok(false)
            }
            Err(error) => {
                // It may be paused already, by somebody else; 1.26 knows no SUSPEND.
                self.suspended = !error.is::<Refused>();
                Err(error.context("SUSPEND"))
            }
        }
    }

    fn sockets(&mut self) -> anyhow::Result<Result<Connections<OwnedFd>, Mistake>> {
        let answer = self.console.ask("SHOW FDS;").context("SHOW FDS")?;
        let columns = Columns::read(&answer.description)?;
        let mut rows: Vec<(Row, OwnedFd)> = Vec::new();
        for (row, file) in answer.rows {
            // Too many may be open here.
            let file = file.context("a socket is missing: see ulimit -n")?;
            rows.push((columns.row(&row)?, file));
        }
        Ok(rows::sort(rows))
    }

    /// Newer versions do not tell of clients whose server connections are over TLS.
    fn are_all_here(&mut self, connections: &Connections<OwnedFd>) -> anyhow::Result<bool> {
        let databases = self.second.column("SHOW CLIENTS;", "database")?;
        let tls = self.second.column("SHOW CLIENTS;", "tls")?;
        let others = databases.iter().zip(&tls);
        let others = others.filter(|(database, _)| *database != "pgbouncer");
        let (plain, encrypted): (Vec<_>, Vec<_>) = others.partition(|(_, tls)| tls.is_empty());
        if plain.len() > connections.clients.len() + connections.newcomers {
            return Ok(false);
        }
        if !encrypted.is_empty() {
            let clients = encrypted.len();
            warn!(clients, "clients over TLS lose their connections");
        }
        Ok(true)
    }

    fn resume(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.suspended) {
            self.second.ask("RESUME;").context("RESUME")?;
        }
        Ok(())
    }

    /// Ends it. Returns when it has gone, and everything that it had is ours alone.
    ///
    /// # Errors
    /// It may still be there.
    pub fn shut_down(mut self, pidfile: Option<&Path>) -> io::Result<()> {
        self.console.send("SHUTDOWN;")?;
        // From here on it may have gone.
        self.suspended = false;
        self.console.read_to_end()?;
        let begun = Instant::now();
        let is_there = || pidfile.is_some_and(Path::exists);
        while is_there() && begun.elapsed() < PIDFILE {
            thread::sleep(PERIOD);
        }
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if self.suspended {
            match self.resume() {
                Ok(()) => info!("PgBouncer goes on"),
                Err(error) => {
                    let reason = format!("{error:#}");
                    warn!(reason, "PgBouncer is still suspended: send it SIGUSR2");
                }
            }
        }
    }
}

/// PgBouncer's answer is an error.
#[derive(Debug, Error)]
#[error("{0}")]
struct Refused(String);

/// Whether nothing has come for too long.
fn is_late(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// PgBouncer's console.
#[derive(Debug)]
struct Console {
    stream: UnixStream,
    /// What has come and was not dealt with yet.
    bytes: Vec<u8>,
    files: VecDeque<OwnedFd>,
}

/// To one command.
#[derive(Default)]
struct Answer {
    /// The body of the RowDescription.
    description: Vec<u8>,
    /// Bodies of DataRows, with the descriptors that came with them.
    rows: Vec<(Vec<u8>, Option<OwnedFd>)>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are passwords in it.
        write!(f, "Answer({} rows)", self.rows.len())
    }
}

impl Console {
    fn log_in(place: &str) -> anyhow::Result<Console> {
        let mut console = Console {
            stream: listener::connect_unix(place)?,
            bytes: Vec::new(),
            files: VecDeque::new(),
        };
        console.set_patience(PATIENCE)?;
        let parameters = b"\0\x03\0\0user\0pgbouncer\0database\0pgbouncer\0\0";
        let mut startup = (parameters.len() as u32 + 4).to_be_bytes().to_vec();
        startup.extend_from_slice(parameters);
        console.stream.write_all(&startup)?;
        console.answer().context("cannot log in to its console")?;
        Ok(console)
    }

    fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        self.stream.set_write_timeout(Some(patience))
    }

    fn version(&mut self) -> anyhow::Result<String> {
        let version = self.column("SHOW VERSION;", "version")?;
        let version = version.into_iter().next();
        version.context("it does not tell its version")
    }

    /// How long a SUSPEND may be tried.
    fn suspend_timeout(&mut self) -> anyhow::Result<Duration> {
        let keys = self.column("SHOW CONFIG;", "key")?;
        let values = self.column("SHOW CONFIG;", "value")?;
        let mut settings = keys.into_iter().zip(values);
        let timeout = settings.find(|(key, _)| key == "suspend_timeout");
        let seconds: Option<f64> = timeout.and_then(|(_, value)| value.parse().ok());
        let half = seconds.filter(|seconds| *seconds > 0.0).map(|s| s / 2.0);
        let half = half.and_then(|half| Duration::try_from_secs_f64(half).ok());
        Ok(half.map_or(ATTEMPT, |half| half.min(ATTEMPT)))
    }

    /// A column of a table; NULL as nothing.
    fn column(&mut self, command: &str, name: &'static str) -> anyhow::Result<Vec<String>> {
        let answer = self.ask(command).context(command.to_owned())?;
        let columns = Columns::read(&answer.description)?;
        let mut column = Vec::new();
        for (row, _) in &answer.rows {
            column.push(columns.text(row, name)?.unwrap_or_default());
        }
        Ok(column)
    }

    fn ask(&mut self, command: &str) -> anyhow::Result<Answer> {
        self.send(command)?;
        self.answer()
    }

    fn send(&mut self, command: &str) -> io::Result<()> {
        let mut message = Vec::new();
        build::query(&mut message, command.as_bytes());
        self.stream.write_all(&message)
    }

    /// Up to ReadyForQuery.
    fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        let mut error = None::<String>;
        loop {
            let (tag, body) = match (self.message(), error) {
                // It said why.
                (Err(_), Some(text)) => return Err(Refused(text).into()),
                (message, told) => {
                    error = told;
                    message?
                }
            };
            match tag {
                b'Z' => break,
                b'T' => answer.description = body,
                b'D' => {
                    ensure!(answer.rows.len() < MOST_ROWS, "too many rows");
                    answer.rows.push((body, self.files.pop_front()));
                }
                b'R' if body != [0; 4] => bail!("it asks for a password"),
                b'E' => error = Some(error_fields::summary(&body)),
                _ => {}
            }
        }
        ensure!(self.files.is_empty(), "there are more sockets than rows");
        match error {
            Some(error) => Err(Refused(error).into()),
            None => Ok(answer),
        }
    }

    fn message(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(header) = Header::peek_within(&self.bytes, LONGEST)?
                && header.total <= self.bytes.len()
            {
                let message: Vec<u8> = self.bytes.drain(..header.total).collect();
                let body = message.get(HEADER_LEN..);
                return Ok((header.tag, body.unwrap_or_default().to_vec()));
            }
            if self.read()? == 0 {
                bail!("it has closed the connection");
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        descriptors::read(&self.stream, &mut self.bytes, |file| {
            self.files.push_back(file);
        })
    }

    fn read_to_end(&mut self) -> io::Result<()> {
        loop {
            self.bytes.clear();
            match self.read() {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                read => read?,
            };
        }
    }
}

#[cfg(test)]
mod tests;
