//! One event as one line, in the two formats that are not JSON.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::wording;

pub enum Style {
    Text,
    Pgbouncer,
    /// PgBouncer's without what syslog knows itself.
    Syslog,
}

pub struct LineFormat {
    pub style: Style,
    pub now: fn() -> SystemTime,
    pub pid: u32,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = humantime::format_rfc3339_millis((self.now)()).to_string();
        let level = *event.metadata().level();
        match self.style {
            Style::Text => text(&mut line, &time, level, &fields)?,
            Style::Pgbouncer => {
                let time = time.replacen('T', " ", 1).replacen('Z', " UTC", 1);
                let word = level_word(level, fields.fatal);
                write!(line, "{time} [{}] {word} ", self.pid)?;
                pgbouncer(&mut line, &fields)?;
            }
            Style::Syslog => pgbouncer(&mut line, &fields)?,
        }
        line.write_char('\n')
    }
}

/// The fields of an event, safe to print on one line.
#[derive(Default)]
struct Fields {
    message: String,
    fatal: bool,
    /// In the order of the event.
    others: Vec<(&'static str, String)>,
}

/// These make the prefix of PgBouncer's line.
const CONNECTION: [&str; 4] = ["conn", "db", "user", "addr"];

fn text(line: &mut Writer<'_>, time: &str, level: Level, fields: &Fields) -> fmt::Result {
    let level = if fields.fatal {
        "FATAL"
    } else {
        level.as_str()
    };
    write!(line, "{time} {level:<5} {}", fields.message)?;
    for (name, value) in &fields.others {
        write!(line, " {name}={}", quoted(value))?;
    }
    Ok(())
}

/// `C-7: db/user@host:port text`; the log file has `TIMESTAMP TZ [PID] LEVEL`
/// before it.
fn pgbouncer(line: &mut Writer<'_>, fields: &Fields) -> fmt::Result {
    let conn = fields.value("conn");
    if let Some(conn) = conn {
        let db = fields.value("db").unwrap_or("(nodb)");
        let user = fields.value("user").unwrap_or("(nouser)");
        let addr = fields.value("addr").unwrap_or("(noaddr)");
        write!(line, "{}: {db}/{user}@{addr} ", pointed(conn))?;
    }
    if let Some(worded) = wording::worded(&fields.message, |name| fields.value(name)) {
        return line.write_str(&worded);
    }
    line.write_str(&fields.message)?;
    let in_prefix = |name| conn.is_some() && CONNECTION.contains(&name);
    for (name, value) in &fields.others {
        if !in_prefix(*name) {
            write!(line, " {name}={}", quoted(value))?;
        }
    }
    Ok(())
}

/// PgBouncer names connections by their address in memory, and log parsers look
/// for that: `C-0x1f` for `C-31`, as the column `ptr` of SHOW CLIENTS has it.
fn pointed(conn: &str) -> String {
    let number = conn
        .split_once('-')
        .map(|(side, id)| (side, id.parse::<u64>()));
    match number {
        Some((side, Ok(id))) => format!("{side}-{id:#x}"),
        _ => conn.to_owned(),
    }
}

fn level_word(level: Level, fatal: bool) -> &'static str {
    match level {
        _ if fatal => "FATAL",
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "LOG",
        Level::DEBUG => "DEBUG",
        _ => "NOISE",
    }
}

impl Fields {
    fn value(&self, name: &str) -> Option<&str> {
        let mut others = self.others.iter();
        others.find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    fn put(&mut self, field: &Field, value: &str) {
        let value = one_line(value);
        match field.name() {
            "message" => self.message = value,
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    // Without this a text would come in quotes.
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.fatal = value;
        } else {
            self.put(field, &value.to_string());
        }
    }
}

/// Control characters escaped, so that nobody's name can forge a line.
fn one_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// In quotes where it would not be one word.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('"', "\\\""))
}
