//! The log: who writes it, in which of three formats, and where to.
//!
//! # How to log
//! An event is a constant message and fields, never a formatted sentence:
//! `tracing::info!(%conn, db, user, %addr, reason, age, "closing because")`.
//! These fields mean the same everywhere:
//!
//! | field | meaning |
//! |---|---|
//! | `conn` | the connection: `C-7` a client, `S-8` a server connection, by id |
//! | `db`, `user` | its database and user; left out while they are not known |
//! | `addr` | its peer, `host:port`; for a server connection the server |
//! | `reason` | why, as a text without line breaks |
//! | `age` | how old the connection is, in whole seconds |
//! | `fatal` | `true` on the last ERROR before the process ends |
//!
//! # Formats
//! - [`LogFormat::Text`]: time, level, message, then `key=value` for each field.
//! - [`LogFormat::Json`]: one object per line, each field a member.
//! - [`LogFormat::Pgbouncer`]: PgBouncer's line. The four fields of the
//!   connection make its prefix, and the messages that log parsers know are
//!   worded as PgBouncer words them ([`wording`] has the table); of any other
//!   message the remaining fields follow it. Levels are INFO as LOG, DEBUG,
//!   and TRACE as NOISE.
//!
//! Text from outside cannot break out of its line: control characters are
//! escaped in every format. Times are UTC.
//!
//! Lines are written at once, by the thread that logs, to stderr, the log file
//! and syslog, which gets them as PgBouncer words them, without the time. A line that the file does not take goes to stderr.

mod line;
mod sink;
mod syslog;
pub mod wording;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Choice, Config, LogFormat, LogLevel, Settings};
use crate::stats::Average;
use line::{LineFormat, Style};
use sink::{Sink, Writer};
use syslog::{Lines, Sender};

pub use syslog::Syslog;

/// What to log and where to.
#[derive(Clone, Debug)]
pub struct Options {
    pub format: LogFormat,
    /// Filter directives as in `info` or `info,pgweir::pool=debug`; see
    /// [`directives`].
    pub level: String,
    pub stderr: bool,
    /// Appended to, and created where it is missing.
    pub logfile: Option<PathBuf>,
    pub syslog: Option<Syslog>,
}

impl Options {
    /// What the configuration says, with the log on stderr as well.
    pub fn new(config: &Config) -> Self {
        Options {
            format: config.log_format(),
            level: directives(&config.general),
            stderr: true,
            logfile: config.general.logfile.clone(),
            syslog: config.general.syslog.then(|| Syslog {
                ident: config.general.syslog_ident.clone(),
                facility: config.general.syslog_facility,
                socket: syslog::SOCKET.into(),
            }),
        }
    }
}

/// Why there is no log as asked for.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("cannot open logfile {}: {error}", path.display())]
    Open { path: PathBuf, error: io::Error },
    #[error("cannot log to syslog: {0}")]
    Syslog(io::Error),
    #[error("cannot understand log level \"{level}\": {error}")]
    Level { level: String, error: String },
    #[error("the process has a log already")]
    Twice,
}

/// Changes the log while it is in use; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogHandle {
    sink: Arc<Sink>,
    syslog: Arc<Sender>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts the process's log. To be called once, before the first event.
pub fn init(options: &Options) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = subscriber(options, SystemTime::now)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(handle)
}

/// The filter for `log_level`, or for `verbose` (`-v` given so many times) if
/// that asks for more. Libraries say no more than INFO.
pub fn directives(settings: &Settings) -> String {
    let level = match (settings.verbose, settings.log_level) {
        (0, level) => level,
        (1, LogLevel::Trace) | (2.., _) => LogLevel::Trace,
        (1, _) => LogLevel::Debug,
    };
    let libraries = match level {
        LogLevel::Error | LogLevel::Warn => level,
        _ => LogLevel::Info,
    };
    format!("{},pgweir={}", libraries.word(), level.word())
}

/// Logs the averages of a `stats_period`.
pub fn stats(average: &Average) {
    tracing::info!(
        xacts = average.xact_count,
        queries = average.query_count,
        client_parses = average.client_parse_count,
        server_parses = average.server_parse_count,
        binds = average.bind_count,
        bytes_in = average.bytes_received,
        bytes_out = average.bytes_sent,
        xact_us = average.xact_time,
        query_us = average.query_time,
        wait_us = average.wait_time,
        "stats"
    );
}

impl LogHandle {
    /// Opens the log file anew, after it was moved away. When it cannot be
    /// opened the old one stays in use.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.sink.reopen()
    }

    /// Takes on the level, the file and syslog of these options; the file is
    /// opened anew even if it is the same. Format and stderr stay as they were at the
    /// start. On an error nothing has changed.
    pub fn apply(&self, options: &Options) -> Result<(), LogError> {
        let filter = filter(&options.level)?;
        self.sink.set_logfile(options.logfile.as_deref())?;
        let syslog = self.syslog.set(options.syslog.as_ref());
        syslog.map_err(LogError::Syslog)?;
        let refused = |error: reload::Error| LogError::Level {
            level: options.level.clone(),
            error: error.to_string(),
        };
        self.filter.reload(filter).map_err(refused)
    }
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refused = |error: String| LogError::Level {
        level: level.to_owned(),
        error,
    };
    // A misspelt level would be taken for the name of a module and silence
    // everything else.
    for word in level.split(',') {
        let word = word.trim();
        // An empty one would parse as ERROR.
        let level = !word.is_empty() && word.parse::<LevelFilter>().is_ok();
        if !level && !word.contains(['=', '[']) {
            return Err(refused(format!("there is no level \"{word}\"")));
        }
    }
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| refused(error.to_string()))
}

/// The log without the process: a test brings its own clock.
fn subscriber(
    options: &Options,
    now: fn() -> SystemTime,
) -> Result<(impl Subscriber + Send + Sync + use<>, LogHandle), LogError> {
    let sink = Arc::new(Sink::new(options.stderr, options.logfile.as_deref())?);
    let (filter, filter_handle) = reload::Layer::new(filter(&options.level)?);
    let layer = fmt::layer()
        .with_writer(Writer(sink.clone()))
        .with_ansi(false)
        .log_internal_errors(false);
    let line = |style| LineFormat {
        style,
        now,
        pid: std::process::id(),
    };
    let layer = match options.format {
        LogFormat::Text => layer.event_format(line(Style::Text)).boxed(),
        LogFormat::Pgbouncer => layer.event_format(line(Style::Pgbouncer)).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    let sender = Arc::new(Sender::default());
    let started = sender.set(options.syslog.as_ref());
    started.map_err(LogError::Syslog)?;
    let wanted = sender.clone();
    let syslog = fmt::layer()
        .with_writer(Lines(sender.clone()))
        .with_ansi(false)
        .log_internal_errors(false)
        .event_format(line(Style::Syslog))
        .with_filter(dynamic_filter_fn(move |_, _| wanted.is_on()));
    let subscriber = Registry::default().with(filter).with(layer).with(syslog);
    let handle = LogHandle {
        sink,
        syslog: sender,
        filter: filter_handle,
    };
    Ok((subscriber, handle))
}

#[cfg(test)]
mod tests;
