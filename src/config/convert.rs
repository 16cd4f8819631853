//! A configuration as a `pgweir.toml`.

use std::fmt::Write;

use super::choice::{LogFormat, SessionFeatures};
use super::key::{Status, Table};
use super::load::{Config, Source};
use super::settings::Settings;
use super::value::toml_text;

impl Config {
    /// A TOML file that means the same, passwords in full. What is not built is
    /// left out and named in a comment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for notice in &self.notices {
            push_line(&mut text, &format!("# {notice}"));
        }
        if !self.notices.is_empty() {
            text.push('\n');
        }
        push_line(&mut text, "[pgweir]");
        if self.source == Source::Ini && self.general.log_format.is_none() {
            // The default depends on the kind of file.
            let format = toml_text(super::Choice::word(LogFormat::Pgbouncer));
            push_line(&mut text, &format!("log_format = {format}"));
        }
        if self.source == Source::Ini && self.general.session_features.is_none() {
            let features = toml_text(super::Choice::word(SessionFeatures::Ignore));
            push_line(&mut text, &format!("session_features = {features}"));
        }
        text += &keys(&self.general, &Settings::default());
        for (name, database) in &self.databases {
            text += &section("databases", name, database);
        }
        for (name, user) in &self.users {
            text += &section("users", name, user);
        }
        for (id, peer) in &self.peers {
            text += &section("peers", &id.to_string(), peer);
        }
        text
    }
}

fn section<T: Table>(kind: &str, name: &str, table: &T) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n[{kind}.{}]", toml_key(name));
    text += &keys(table, &T::default());
    text
}

/// The built keys that differ from the default.
fn keys<T: Table>(table: &T, default: &T) -> String {
    let mut text = String::new();
    let keys = T::KEYS.iter().filter(|key| key.status == Status::Built);
    for key in keys.filter(|key| !(key.same)(table, default)) {
        let value = (key.toml)(table).unwrap_or_else(|| toml_text(""));
        push_line(&mut text, &format!("{} = {value}", key.name));
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A name as a TOML key, quoted where it must be.
pub(super) fn toml_key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        // TOML has JSON's escapes; a TOML text could span lines, which a key must not.
        false => serde_json::Value::from(name).to_string(),
    }
}
