//! Syslog: datagrams to the local daemon (RFC 3164). The daemon adds the time.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::SyslogFacility;

/// Where the daemon listens.
pub const SOCKET: &str = "/dev/log";

/// Under which name and facility to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    pub ident: String,
    pub facility: SyslogFacility,
    pub socket: PathBuf,
}

/// Sends lines while it is told to.
#[derive(Debug, Default)]
pub struct Sender {
    target: Mutex<Option<(Syslog, UnixDatagram)>>,
}

impl Sender {
    /// From now on; `None` sends nothing.
    pub fn set(&self, syslog: Option<&Syslog>) -> io::Result<()> {
        let target = match syslog {
            Some(syslog) => {
                let socket = UnixDatagram::unbound()?;
                // A daemon that hangs must not stop us.
                socket.set_nonblocking(true)?;
                Some((syslog.clone(), socket))
            }
            None => None,
        };
        *self.target() = target;
        Ok(())
    }

    pub fn is_on(&self) -> bool {
        self.target().is_some()
    }

    fn send(&self, level: Level, line: &[u8]) {
        let target = self.target();
        let Some((syslog, socket)) = target.as_ref() else {
            return;
        };
        let priority = syslog.facility.code() * 8 + severity(level);
        let head = format!("<{priority}>{}[{}]: ", syslog.ident, std::process::id());
        let message = [head.as_bytes(), line.trim_ascii_end()].concat();
        // Without a daemon there is nobody to be told.
        let _ = socket.send_to(&message, &syslog.socket);
    }

    fn target(&self) -> MutexGuard<'_, Option<(Syslog, UnixDatagram)>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PgBouncer's choice (lib/usual/logging.c).
fn severity(level: Level) -> u32 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// Gives each event a line to fill.
pub struct Lines(pub Arc<Sender>);

/// Sent when it is complete.
pub struct Line<'a> {
    sender: &'a Sender,
    level: Level,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            sender: &self.0,
            level: Level::INFO,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line {
            sender: &self.0,
            level: *meta.level(),
        }
    }
}

impl Write for Line<'_> {
    /// The subscriber hands over whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sender.send(self.level, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
