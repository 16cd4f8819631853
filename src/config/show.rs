//! The settings as SHOW CONFIG has them.

use super::key::Table;
use super::load::Config;
use super::settings::Settings;

/// A row of SHOW CONFIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub key: &'static str,
    /// `None`: unset.
    pub value: Option<String>,
    pub default: Option<String>,
    /// Whether it can be changed without a restart.
    pub changeable: bool,
}

impl Config {
    /// All global settings by name.
    pub fn rows(&self) -> Vec<SettingRow> {
        let default = Settings::default();
        let mut rows: Vec<SettingRow> = Settings::KEYS
            .iter()
            .map(|key| SettingRow {
                key: key.name,
                value: match key.name {
                    "conffile" => self.file.as_ref().map(|f| f.display().to_string()),
                    _ => (key.get)(&self.general),
                },
                default: (key.get)(&default),
                changeable: key.reloadable,
            })
            .collect();
        rows.sort_by_key(|row| row.key);
        rows
    }
}
