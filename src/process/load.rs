//! From the configuration to what workers need of it, at start and at reload.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use tracing::error;

use crate::auth::{Hba, UserList};
use crate::cli::files;
use crate::config::{self, Changes, Config, LoadError};
use crate::net::tls::Tls;
use crate::worker::Terms;

/// What a reload or SET would put in force.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub users: UserList,
    pub hba: Hba,
    pub tls: Tls,
    pub changes: Changes,
}

/// What the configuration is read from, again at each reload.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<PathBuf>,
    databases: Vec<String>,
    overrides: Overrides,
}

/// What a command line says beside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Added to `verbose`.
    pub verbose: u32,
    /// Instead of `user`.
    pub user: Option<String>,
}

impl Source {
    pub fn new(file: Option<PathBuf>, databases: Vec<String>) -> Source {
        Source {
            file,
            databases,
            overrides: Overrides::default(),
        }
    }

    /// The same with what the command line says.
    pub fn with(self, overrides: Overrides) -> Source {
        Source { overrides, ..self }
    }

    /// The configuration at start.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(&self) -> Result<Config, LoadError> {
        self.load_file(self.file.as_deref())
    }

    /// With `conffile` as the file that the next reload reads.
    fn load_file(&self, file: Option<&Path>) -> Result<Config, LoadError> {
        let mut config = files::load(file, &self.databases)?;
        let general = &mut config.general;
        general.verbose = general.verbose.saturating_add(self.overrides.verbose);
        if let Some(user) = &self.overrides.user {
            general.user = Some(user.clone());
        }
        let file = || file.map(Path::to_owned);
        general.conffile = general.conffile.take().or_else(file);
        Ok(config)
    }

    /// The configuration that a reload would put in force, with its users, rules
    /// and certificates; the error has one line per mistake, and nothing has
    /// changed.
    pub fn reload(&self, old: &Terms) -> Result<Loaded, String> {
        let file = old.config.general.conffile.as_deref();
        let file = file.filter(|file| !file.as_os_str().is_empty());
        let read = self.load_file(file.or(self.file.as_deref()));
        let (config, changes) = old
            .config
            .reload(read.map_err(|mistakes| mistakes.to_string())?);
        Ok(Loaded {
            users: users(&config)?.0,
            hba: hba(&config)?,
            tls: tls(&config, Some(&old.tls))?,
            config,
            changes,
        })
    }
}

/// What [`Source::reload`] gives, as if the file gave one setting another value;
/// nothing else is read again but what this setting names.
pub fn set(old: &Terms, key: &str, value: &str) -> Result<Loaded, String> {
    // `client_tls13_ciphers`, too.
    let is_tls = key.contains("_tls");
    let new = old.config.with_setting(key, value).map_err(|mistakes| {
        if is_tls {
            log_tls(&old.config, &mistakes);
        }
        mistakes.to_string()
    });
    let (config, changes) = old.config.reload(new?);
    let users = match key {
        "auth_file" => users(&config)?.0,
        _ => old.users.clone(),
    };
    let hba = match key {
        "auth_type" | "auth_hba_file" | "auth_ident_file" => hba(&config)?,
        _ => old.hba.clone(),
    };
    let tls = match is_tls {
        true => tls(&config, Some(&old.tls))?,
        false => old.tls.clone(),
    };
    Ok(Loaded {
        config,
        users,
        hba,
        tls,
        changes,
    })
}

/// The rules for clients.
pub fn hba(config: &Config) -> Result<Hba, String> {
    let rules = config.hba(&|path| std::fs::read_to_string(path));
    rules.map_err(|mistakes| LoadError(mistakes).to_string())
}

/// Certificates and keys; those that are as before keep their sessions.
pub fn tls(config: &Config, old: Option<&Tls>) -> Result<Tls, String> {
    let tls = Tls::of(config, old, &|path| std::fs::read(path));
    tls.inspect_err(|reason| log_tls(config, reason))
}

/// PgBouncer's line, before what is said of the start, RELOAD or SET that failed for it.
fn log_tls(config: &Config, reason: &impl fmt::Display) {
    if config.source == config::Source::Ini {
        error!(%reason, "TLS setup failed");
    }
}

/// Whether the process may open as many files as the configuration needs.
/// PgBouncer starts regardless, so for an ini what is wrong is only to be logged.
pub fn check_descriptors(
    config: &Config,
    users: &UserList,
    workers: usize,
    limit: u64,
) -> Result<Option<String>, String> {
    let logins: BTreeSet<String> = users.iter().map(|(name, _)| name.to_owned()).collect();
    match config.descriptors(&logins, workers).fit(limit) {
        Ok(()) => Ok(None),
        Err(few) if config.source == config::Source::Ini => Ok(Some(few.to_string())),
        Err(few) => Err(few.to_string()),
    }
}

/// The user list. PgBouncer reads over a line that it does not understand, so
/// for an ini the mistakes are only to be logged.
pub fn users(config: &Config) -> Result<(UserList, Vec<String>), String> {
    let (users, mistakes) = config.userlist(&|path| std::fs::read_to_string(path));
    let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    if !mistakes.is_empty() && config.source != config::Source::Ini {
        return Err(mistakes.join("\n"));
    }
    Ok((users, mistakes))
}
