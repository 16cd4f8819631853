//! A configuration while it is being read: values, where each stands, and the
//! mistakes so far.

use std::collections::{BTreeMap, HashMap};

use super::key::{Status, Table};
use super::mistake::{Mistake, Place};
use super::nearest::nearest;
use super::objects::{DatabaseConfig, PeerConfig, UserConfig};
use super::settings::Settings;
use super::value::Raw;

#[derive(Default)]
pub(super) struct Draft {
    pub general: Settings,
    pub databases: BTreeMap<String, DatabaseConfig>,
    pub users: BTreeMap<String, UserConfig>,
    pub peers: BTreeMap<u32, PeerConfig>,
    pub report: Report,
}

#[derive(Default)]
pub(super) struct Report {
    pub mistakes: Vec<Mistake>,
    places: HashMap<(Section, String), Place>,
}

/// What a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Section {
    General,
    Database(String),
    User(String),
    Peer(u32),
}

impl Report {
    pub fn mistake(&mut self, place: &Place, message: impl Into<String>) {
        self.mistakes.push(Mistake {
            place: place.clone(),
            message: message.into(),
        });
    }

    /// Remembers where `key` stands; an empty key is the section itself.
    pub fn found(&mut self, section: &Section, key: &str, place: &Place) {
        self.places
            .insert((section.clone(), key.to_owned()), place.clone());
    }

    /// Where `key` was set last; `None` if it was not.
    pub fn place(&self, section: &Section, key: &str) -> Option<&Place> {
        self.places.get(&(section.clone(), key.to_owned()))
    }
}

/// Sets `name` to what a file says, or reports why not.
pub(super) fn set<T: Table>(
    table: &mut T,
    section: &Section,
    name: &str,
    raw: Raw<'_>,
    place: &Place,
    report: &mut Report,
) {
    let Some(key) = T::key(name) else {
        return report.mistake(place, unknown("key", name, T::KEYS.iter().map(|k| k.name)));
    };
    if matches!(raw, Raw::Toml(_)) {
        match key.status {
            Status::Built => {}
            Status::NotBuilt => {
                return report.mistake(place, format!("`{name}` is known, but not built yet"));
            }
            Status::Obsolete => {
                return report.mistake(place, format!("`{name}` has no meaning in pgweir"));
            }
        }
    }
    match (key.set)(table, raw) {
        Ok(()) => report.found(section, name, place),
        Err(error) => report.mistake(place, format!("`{name}`: {error}")),
    }
}

/// "unknown key `x`, did you mean `y`?".
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    match nearest(name, known) {
        Some(known) => format!("unknown {what} `{name}`, did you mean `{known}`?"),
        None => format!("unknown {what} `{name}`"),
    }
}
