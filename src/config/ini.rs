//! PgBouncer's ini format, exactly: comments only at the start of a line, keys
//! bare or in single quotes, values to the end of the line, `%include`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::draft::{Draft, Section, set, unknown};
use super::key::Table;
use super::mistake::Place;
use super::objects::{DatabaseConfig, PeerConfig, UserConfig};
use super::settings::Settings;
use super::value::Raw;

const SECTIONS: [&str; 4] = ["pgbouncer", "databases", "users", "peers"];
const MAX_INCLUDE_DEPTH: usize = 10;

/// Keys without a default: they survive a second `[pgbouncer]` header.
const KEPT: [&str; 8] = [
    "auth_file",
    "auth_user",
    "auth_dbname",
    "auth_ident_file",
    "auth_ldap_options",
    "verbose",
    "client_tls13_ciphers",
    "server_tls13_ciphers",
];

/// Reads `text`, and the files it includes through `read`, into `draft`.
pub(super) fn parse(
    draft: &mut Draft,
    file: &Arc<str>,
    text: &str,
    read: &dyn Fn(&Path) -> io::Result<String>,
) {
    let mut parser = Parser {
        draft,
        read,
        files: Vec::new(),
        section: None,
        is_pgbouncers: false,
    };
    parser.file(file, text);
    // Who has other mistakes may have meant another format.
    if !parser.is_pgbouncers && draft.report.mistakes.is_empty() {
        let message = "there is no section [pgbouncer]".to_owned();
        draft
            .report
            .mistake(&Place::whole(Arc::clone(file)), message);
    }
}

struct Parser<'a> {
    draft: &'a mut Draft,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The file being read, and those that have included it.
    files: Vec<Arc<str>>,
    /// Included files go on in the section of their parent, and it in theirs.
    section: Option<Current>,
    /// Whether there is the section that has to be.
    is_pgbouncers: bool,
}

/// The section that keys belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Current {
    Pgbouncer,
    Databases,
    Users,
    Peers,
    /// Reported already; its keys are skipped.
    Unknown,
}

impl Parser<'_> {
    fn file(&mut self, file: &Arc<str>, text: &str) {
        self.files.push(Arc::clone(file));
        for (index, line) in text.lines().enumerate() {
            let place = Place::line(file, index + 1);
            if let Err(message) = self.line(line, &place) {
                self.draft.report.mistake(&place, message);
            }
        }
        self.files.pop();
    }

    fn line(&mut self, line: &str, place: &Place) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            return Ok(());
        }
        if let Some(name) = line.strip_prefix("%include")
            && name.starts_with([' ', '\t'])
        {
            return self.include(name.trim());
        }
        if let Some(header) = line.strip_prefix('[') {
            let (name, rest) = header
                .split_once(']')
                .ok_or("a section header without `]`")?;
            self.header(name)?;
            // PgBouncer goes on reading behind the header.
            return self.line(rest, place);
        }
        let (key, rest) = split_key(line)?;
        let value = rest
            .trim_start()
            .strip_prefix('=')
            .ok_or_else(|| format!("expected `=` after `{key}`"))?
            .trim();
        self.key(&key, value, place)
    }

    fn include(&mut self, name: &str) -> Result<(), String> {
        if self.files.iter().any(|file| **file == *name) {
            return Err(format!("{name} includes itself"));
        }
        if self.files.len() > MAX_INCLUDE_DEPTH {
            return Err(format!(
                "%include goes deeper than {MAX_INCLUDE_DEPTH} files"
            ));
        }
        let text = (self.read)(Path::new(name)).map_err(|error| format!("{name}: {error}"))?;
        self.file(&Arc::from(name), &text);
        Ok(())
    }

    fn header(&mut self, name: &str) -> Result<(), String> {
        self.section = Some(Current::Unknown);
        self.section = Some(match name {
            "pgbouncer" => {
                self.is_pgbouncers = true;
                reset(&mut self.draft.general);
                Current::Pgbouncer
            }
            "databases" => Current::Databases,
            "users" => Current::Users,
            "peers" => Current::Peers,
            _ => return Err(unknown("section", name, SECTIONS)),
        });
        Ok(())
    }

    fn key(&mut self, key: &str, value: &str, place: &Place) -> Result<(), String> {
        let draft = &mut *self.draft;
        match self.section {
            None => return Err(format!("`{key}` stands before the first section")),
            Some(Current::Unknown) => {}
            Some(Current::Pgbouncer) => set(
                &mut draft.general,
                &Section::General,
                key,
                Raw::Ini(value),
                place,
                &mut draft.report,
            ),
            Some(Current::Databases) => {
                let section = Section::Database(key.to_owned());
                let database: DatabaseConfig = object(draft, &section, value, place)?;
                draft.databases.insert(key.to_owned(), database);
            }
            Some(Current::Users) => {
                let section = Section::User(key.to_owned());
                let user: UserConfig = object(draft, &section, value, place)?;
                draft.users.insert(key.to_owned(), user);
            }
            Some(Current::Peers) => {
                let id: u32 = key
                    .parse()
                    .map_err(|_| format!("a peer's name is its number, not `{key}`"))?;
                let peer: PeerConfig = object(draft, &Section::Peer(id), value, place)?;
                draft.peers.insert(id, peer);
            }
        }
        Ok(())
    }
}

/// Sets all keys that have a default back to it.
fn reset(general: &mut Settings) {
    let old = std::mem::take(general);
    let keys = KEPT.iter().filter_map(|name| Settings::key(name));
    for key in keys {
        if let Some(value) = (key.get)(&old) {
            // What a key has printed it also reads.
            let _ = (key.set)(general, Raw::Ini(&value));
        }
    }
}

/// Reads a connection string into a table.
fn object<T: Table>(
    draft: &mut Draft,
    section: &Section,
    text: &str,
    place: &Place,
) -> Result<T, String> {
    let mut table = T::default();
    draft.report.found(section, "", place);
    for (key, value) in connection_string(text)? {
        let (key, value) = match (section, key.as_str(), value.as_str()) {
            (Section::Database(_), "reserve_pool", _) => ("reserve_pool_size", value.as_str()),
            // PgBouncer falls back to the global value.
            (Section::Database(_), "server_lifetime", "0") => continue,
            // PgBouncer's "unset" wraps around to a wait without an end.
            (_, "query_wait_timeout", "-1") => ("query_wait_timeout", "0"),
            _ => (key.as_str(), value.as_str()),
        };
        set(
            &mut table,
            section,
            key,
            Raw::Ini(value),
            place,
            &mut draft.report,
        );
    }
    Ok(table)
}

/// `key=value` pairs separated by blanks; a value may stand in single quotes,
/// where `''` is one quote. Empty values are errors.
fn connection_string(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("expected key=value, found `{rest}`"))?;
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("expected key=value, found `{key}`"));
        }
        let after = after.trim_start();
        let (value, after) = if after.starts_with('\'') {
            let (value, after) =
                quoted(after).ok_or_else(|| format!("`{key}`: the quote is not closed"))?;
            if !after.is_empty() && !after.starts_with(char::is_whitespace) {
                return Err(format!("`{key}`: expected a blank after the closing quote"));
            }
            (value, after)
        } else {
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            (value.to_owned(), after)
        };
        if value.is_empty() {
            return Err(format!("`{key}` has an empty value"));
        }
        pairs.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// The key at the start of a line, and what follows it.
fn split_key(line: &str) -> Result<(String, &str), String> {
    if line.starts_with('\'') {
        return quoted(line).ok_or_else(|| "the quote is not closed".to_owned());
    }
    if line.starts_with('"') {
        return Err("a key is quoted with ', not with \"".to_owned());
    }
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || "_.-*".contains(c)))
        .unwrap_or(line.len());
    match line.split_at(end) {
        ("", _) => Err(format!("expected `key = value`, found `{line}`")),
        (key, rest) => Ok((key.to_owned(), rest)),
    }
}

/// What stands in single quotes at the start of `text`, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix('\'')?;
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}
