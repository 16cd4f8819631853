//! SET of one setting while running.

use super::check;
use super::draft::{Draft, Section, set, unknown};
use super::key::{Status, Table};
use super::load::Config;
use super::mistake::{LoadError, Place};
use super::settings::Settings;
use super::value::Raw;

impl Settings {
    /// Whether there is one of this name.
    pub fn has(name: &str) -> bool {
        Self::key(name).is_some()
    }
}

impl Config {
    /// This configuration as if its file gave a global setting another value, in
    /// PgBouncer's syntax.
    ///
    /// # Errors
    /// Every mistake that the configuration would have then.
    pub fn with_setting(&self, name: &str, value: &str) -> Result<Config, LoadError> {
        let mut draft = Draft {
            general: self.general.clone(),
            databases: self.databases.clone(),
            users: self.users.clone(),
            peers: self.peers.clone(),
            ..Draft::default()
        };
        let place = Place::whole("SET");
        let report = &mut draft.report;
        match Settings::key(name) {
            None => {
                let names = Settings::KEYS.iter().map(|key| key.name);
                report.mistake(&place, unknown("setting", name, names));
            }
            Some(key) if key.status == Status::NotBuilt => {
                report.mistake(&place, format!("`{name}` is known, but not built yet"));
            }
            Some(_) => {
                let raw = Raw::Ini(value);
                let (general, section) = (&mut draft.general, &Section::General);
                set(general, section, name, raw, &place, report);
            }
        }
        check::check(&mut draft, self.source, place);
        let mut mistakes = draft.report.mistakes;
        if !mistakes.is_empty() {
            mistakes.sort();
            mistakes.dedup();
            return Err(LoadError(mistakes));
        }
        Ok(Config {
            general: draft.general,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Inputs;

    fn config(name: &str, text: &str) -> Config {
        let loaded = Config::load(&Inputs {
            file: Some(Path::new(name)),
            databases: &[],
            env: &Default::default(),
            read: &|_| Ok(text.to_owned()),
        });
        loaded.unwrap()
    }

    #[test]
    fn nothing_else_changes() {
        let ini = "[databases]\napp = host=a,b port=7000 user=x\n* =\n[pgbouncer]\n";
        let toml =
            "[databases.app]\nurl = \"postgres://x:y@db1,db2/app\"\n[users.x]\npassword = \"p\"\n";
        for old in [config("a.ini", ini), config("a.toml", toml)] {
            let new = old.with_setting("default_pool_size", "7").unwrap();
            let mut expected = old.clone();
            expected.general.default_pool_size = 7;
            assert_eq!(new, expected);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let config = config("a.ini", "[databases]\n[pgbouncer]\n");
        for (key, value, text) in [
            ("default_pool_size", "x", "default_pool_size"),
            ("default_pool_sise", "1", "default_pool_size"),
            ("auth_ldap_options", "x", "expected option=value"),
            ("auth_type", "hba", "auth_type=hba needs auth_hba_file"),
            ("workers", "100000", "workers"),
        ] {
            let error = config.with_setting(key, value).unwrap_err().to_string();
            assert!(
                error.starts_with("SET: ") && error.contains(text),
                "{error}"
            );
        }
    }
}
