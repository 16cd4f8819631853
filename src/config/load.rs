//! From files, environment and command line to a [`Config`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check;
use super::choice::{AuthType, LogFormat};
use super::draft::{Draft, Section};
use super::mistake::{LoadError, Mistake, Place};
use super::objects::{DatabaseConfig, PeerConfig, UserConfig};
use super::settings::Settings;
use super::{env, ini, toml, url};
use crate::auth::Masked;

/// What a configuration was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Toml,
    /// pgbouncer.ini.
    Ini,
    /// No file: databases come from the command line.
    CommandLine,
}

impl Source {
    /// The SQLSTATE of an error of our own about a login or a pool: PgBouncer has
    /// protocol_violation for everything (src/proto.c, `send_pooler_error`).
    pub fn sqlstate(self, postgres: &'static str) -> &'static str {
        match self {
            Source::Ini => "08P01",
            Source::Toml | Source::CommandLine => postgres,
        }
    }
}

/// Where a configuration comes from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The file; `None`: only `databases` and `env`.
    pub file: Option<&'a Path>,
    /// Databases from the command line, each `name=postgres://...`.
    pub databases: &'a [String],
    /// The environment. `PGWEIR_<SETTING>` overrides; other variables are left alone.
    pub env: &'a BTreeMap<String, String>,
    /// Reads a file: the configuration and what it includes.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// A configuration that has been read and found free of mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub source: Source,
    /// The file, `None` without one.
    pub file: Option<PathBuf>,
    pub general: Settings,
    /// Databases by name; `*` is the one for names that are not listed.
    pub databases: BTreeMap<String, DatabaseConfig>,
    pub users: BTreeMap<String, UserConfig>,
    pub peers: BTreeMap<u32, PeerConfig>,
    /// What an operator should know: to be logged once at start and on reload.
    pub notices: Vec<String>,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Every mistake that was found, in the order of the file.
    pub fn load(inputs: &Inputs<'_>) -> Result<Config, LoadError> {
        let mut draft = Draft::default();
        let source = match inputs.file {
            Some(path) => read_file(&mut draft, path, inputs.read)?,
            None => Source::CommandLine,
        };
        for definition in inputs.databases {
            add_database(&mut draft, definition);
        }
        env::apply(&mut draft, inputs.env);
        expand_urls(&mut draft);
        if source == Source::CommandLine {
            without_file(&mut draft);
        }
        let whole = Place::whole(match inputs.file {
            Some(path) => path.to_string_lossy(),
            None => "command line".into(),
        });
        let notices = check::check(&mut draft, source, whole);
        if !draft.report.mistakes.is_empty() {
            let mut mistakes = draft.report.mistakes;
            mistakes.sort();
            mistakes.dedup();
            return Err(LoadError(mistakes));
        }
        Ok(Config {
            source,
            file: inputs.file.map(Path::to_owned),
            general: draft.general,
            databases: draft.databases,
            users: draft.users,
            peers: draft.peers,
            notices,
        })
    }

    /// The form of log lines, with the default for this kind of file.
    pub fn log_format(&self) -> LogFormat {
        self.general.log_format.unwrap_or(match self.source {
            Source::Toml | Source::CommandLine => LogFormat::Text,
            Source::Ini => LogFormat::Pgbouncer,
        })
    }
}

fn read_file(
    draft: &mut Draft,
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Source, LoadError> {
    let file: Arc<str> = path.to_string_lossy().into();
    let mistake = |message: String| {
        LoadError(vec![Mistake {
            place: Place::whole(Arc::clone(&file)),
            message,
        }])
    };
    let text = read(path).map_err(|error| mistake(error.to_string()))?;
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Source::Toml,
        Some("ini") => Source::Ini,
        _ => looks_like(&text).unwrap_or(Source::Ini),
    };
    match format {
        Source::Ini => ini::parse(draft, &file, &text, read),
        _ => toml::parse(draft, &file, &text),
    }
    if !draft.report.mistakes.is_empty() && looks_like(&text).is_some_and(|f| f != format) {
        let message = match format {
            Source::Ini => "this looks like TOML: name it *.toml",
            _ => {
                "this looks like a pgbouncer.ini: name it *.ini, or turn it into TOML with `pgweir convert`"
            }
        };
        return Err(mistake(message.to_owned()));
    }
    Ok(format)
}

/// The format by the section headers that only one of them has.
fn looks_like(text: &str) -> Option<Source> {
    text.lines().find_map(|line| {
        let header = line.trim().strip_prefix('[')?;
        if header.starts_with("pgbouncer]") {
            return Some(Source::Ini);
        }
        let toml = ["pgweir]", "databases.", "users."];
        let found = toml.iter().any(|start| header.starts_with(start));
        found.then_some(Source::Toml)
    })
}

fn add_database(draft: &mut Draft, definition: &str) {
    // The definition itself is not shown: it may hold a password.
    let place = Place::whole("--database");
    let Some((name, url)) = definition.split_once('=') else {
        return draft
            .report
            .mistake(&place, "expected name=postgres://user:password@host/dbname");
    };
    let section = Section::Database(name.to_owned());
    let place = Place::whole(format!("--database {name}"));
    draft.report.found(&section, "", &place);
    let database = DatabaseConfig {
        url: Some(Masked::new(url)),
        ..DatabaseConfig::default()
    };
    draft.databases.insert(name.to_owned(), database);
}

fn expand_urls(draft: &mut Draft) {
    let tls = draft.general.server_tls_sslmode;
    for (name, database) in &mut draft.databases {
        let section = Section::Database(name.clone());
        let place = draft.report.place(&section, "url");
        let place = place.or_else(|| draft.report.place(&section, ""));
        if let Some(place) = place.cloned() {
            url::expand(database, &section, &place, &mut draft.report, tls);
        }
    }
}

/// Defaults for a start without a file. Clients log in as the URLs say, with
/// the same user and password as at the server. Where a URL has no password,
/// nobody is asked for one, and only this machine may connect.
fn without_file(draft: &mut Draft) {
    let set = |key| draft.report.place(&Section::General, key).is_some();
    if !set("listen_addr") {
        draft.general.listen_addr = vec!["127.0.0.1".to_owned()];
    }
    if set("auth_type") || set("auth_file") {
        return;
    }
    draft.general.auth_type = AuthType::Any;
    let logins: Vec<_> = draft
        .databases
        .values()
        .map(|db| (&db.user, &db.password))
        .collect();
    let mut users = BTreeMap::new();
    for (user, password) in logins {
        let (Some(user), Some(password)) = (user, password) else {
            return;
        };
        let config = UserConfig {
            password: Some(password.clone()),
            ..UserConfig::default()
        };
        let before = users.insert(user.clone(), config);
        if before.is_some_and(|before: UserConfig| before.password.as_ref() != Some(password)) {
            let place = Place::whole("--database");
            let message = format!("user `{user}` has two different passwords: give a file");
            return draft.report.mistake(&place, message);
        }
    }
    draft.users.append(&mut users);
    draft.general.auth_type = AuthType::ScramSha256;
}
