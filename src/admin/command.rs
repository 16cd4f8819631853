//! What an operator types at the console.
//!
//! PgBouncer takes one command per Query message: a word and at most one
//! argument, an optional `;`, any case, words bare (`[0-9a-z_]+`) or in double
//! quotes. What does not have this shape is invalid, several commands in one
//! message among it (doc/usage.md, src/admin.c of PgBouncer 1.25).

mod scan;

use thiserror::Error;

use crate::admin::show::Show;
use crate::admin::table::{Column, Type};
use crate::process::{Control, ShutdownMode};
use scan::{Scanner, Word};

/// A command that PgBouncer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `SHOW HELP`.
    Help,
    /// `SHOW x`, or its alias `SELECT x`.
    Show(Show),
    /// `SHOW` of a PostgreSQL parameter that drivers ask for.
    ShowParameter(&'static Parameter),
    /// `SET` of such a parameter: answered, and without effect.
    SetParameter(&'static Parameter),
    /// `SET` of a setting.
    Set { key: String, value: String },
    /// `RELOAD`.
    Reload,
    /// `SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]`.
    Shutdown(ShutdownMode),
    /// What stops something, or lets it go on.
    Control(Control),
}

impl Command {
    /// Whether only a member of `admin_users` may use it.
    pub fn admin_only(&self) -> bool {
        match self {
            Command::Show(show) => show.admin_only(),
            Command::Help | Command::ShowParameter(_) | Command::SetParameter(_) => false,
            Command::Set { .. } | Command::Reload | Command::Shutdown(_) | Command::Control(_) => {
                true
            }
        }
    }
}

/// Why a text is no command. The text of the error is what the client sees.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    #[error("invalid command '{0}', use SHOW HELP;")]
    Invalid(String),
    /// A word that is longer than any command, argument or value may be.
    #[error("bad arguments")]
    BadArguments,
}

/// A PostgreSQL parameter with the value that the console claims to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    pub column: Column,
    pub value: &'static str,
}

const fn parameter(name: &'static str, value: &'static str) -> Parameter {
    Parameter {
        column: (name, Type::Text),
        value,
    }
}

/// Some drivers ask for or set these whatever they are connected to.
static PARAMETERS: [Parameter; 6] = [
    parameter("client_encoding", "UTF-8"),
    parameter("default_transaction_isolation", "read committed"),
    parameter("standard_conforming_strings", "on"),
    parameter("datestyle", "ISO"),
    parameter("timezone", "GMT"),
    parameter("extra_float_digits", "2"),
];

type OfDatabase = fn(Option<String>) -> Control;

/// Those that have a database for an argument, or none.
const CONTROLS: [(&str, OfDatabase); 7] = [
    ("DISABLE", Control::Disable),
    ("ENABLE", Control::Enable),
    ("KILL", Control::Kill),
    ("PAUSE", Control::Pause),
    ("RECONNECT", Control::Reconnect),
    ("RESUME", Control::Resume),
    ("WAIT_CLOSE", Control::WaitClose),
];

// PgBouncer's limits in bytes, quotes included.
const MAX_COMMAND: usize = 15;
const MAX_ARGUMENT: usize = 63;
const MAX_VALUE: usize = 255;

/// Parses the text of one Query message.
pub fn parse(text: &str) -> Result<Command, CommandError> {
    let invalid = || CommandError::Invalid(text.to_owned());
    if let Some((command, argument)) = Scanner::new(text).command() {
        let command = command.at_most(MAX_COMMAND)?;
        let argument = argument.map_or(Ok(String::new()), |word| word.at_most(MAX_ARGUMENT))?;
        return simple(&command, &argument).ok_or_else(invalid);
    }
    let (key, value) = Scanner::new(text).set().ok_or_else(invalid)?;
    let key = key.at_most(MAX_ARGUMENT)?;
    let value = value.at_most(MAX_VALUE)?;
    if key.is_empty() {
        return Err(CommandError::BadArguments);
    }
    Ok(match fake(&key) {
        Some(parameter) => Command::SetParameter(parameter),
        None => Command::Set { key, value },
    })
}

fn simple(command: &str, argument: &str) -> Option<Command> {
    let is = |word: &str| command.eq_ignore_ascii_case(word);
    if is("SHOW") || is("SELECT") {
        return show(argument);
    }
    if is("RELOAD") {
        return argument.is_empty().then_some(Command::Reload);
    }
    if is("SHUTDOWN") {
        return shutdown_mode(argument).map(Command::Shutdown);
    }
    if is("KILL_CLIENT") {
        return Some(Command::Control(Control::KillClient(number(argument))));
    }
    if is("SUSPEND") {
        let suspend = Command::Control(Control::Suspend);
        return argument.is_empty().then_some(suspend);
    }
    let (_, control) = CONTROLS.iter().find(|(name, _)| is(name))?;
    let database = Some(argument.to_owned()).filter(|name| !name.is_empty());
    Some(Command::Control(control(database)))
}

fn show(what: &str) -> Option<Command> {
    if let Some(parameter) = fake(what) {
        return Some(Command::ShowParameter(parameter));
    }
    if what.eq_ignore_ascii_case("HELP") {
        return Some(Command::Help);
    }
    Show::from_word(what).map(Command::Show)
}

/// What C's `sscanf` takes for a number without sign: blanks, one sign after all, and
/// the digits up to anything else. One that is too large is the largest.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit());
    let digits = text.get(..end.unwrap_or(text.len()))?;
    if digits.is_empty() {
        return None;
    }
    let Ok(number) = digits.parse::<u64>() else {
        return Some(u64::MAX);
    };
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

fn shutdown_mode(argument: &str) -> Option<ShutdownMode> {
    match argument.to_ascii_uppercase().as_str() {
        "" => Some(ShutdownMode::Immediate),
        "WAIT_FOR_SERVERS" => Some(ShutdownMode::WaitForServers),
        "WAIT_FOR_CLIENTS" => Some(ShutdownMode::WaitForClients),
        _ => None,
    }
}

fn fake(name: &str) -> Option<&'static Parameter> {
    PARAMETERS
        .iter()
        .find(|parameter| name.eq_ignore_ascii_case(parameter.column.0))
}

impl Word {
    fn at_most(self, bytes: usize) -> Result<String, CommandError> {
        if self.raw_len > bytes {
            return Err(CommandError::BadArguments);
        }
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests;
