//! What a reload changes.

use std::collections::BTreeMap;

use super::key::Table;
use super::load::Config;
use super::settings::Settings;

/// A global setting with another value than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: &'static str,
    /// As SHOW CONFIG has it; `None`: unset.
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Databases or users that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectChanges {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Name, and the keys that differ.
    pub changed: Vec<(String, Vec<&'static str>)>,
}

/// Everything that differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that the reload applies.
    pub settings: Vec<Change>,
    /// Settings that keep their old value until the next start; to be reported.
    pub after_restart: Vec<Change>,
    pub databases: ObjectChanges,
    pub users: ObjectChanges,
}

impl Config {
    /// The configuration that holds after a reload, and how it differs from this
    /// one. Settings that cannot change while running keep their value.
    pub fn reload(&self, mut new: Config) -> (Config, Changes) {
        let mut changes = Changes {
            databases: objects(&self.databases, &new.databases),
            users: objects(&self.users, &new.users),
            ..Changes::default()
        };
        for key in Settings::KEYS {
            if (key.same)(&self.general, &new.general) {
                continue;
            }
            let change = Change {
                key: key.name,
                old: (key.get)(&self.general),
                new: (key.get)(&new.general),
            };
            if key.reloadable {
                changes.settings.push(change);
            } else {
                changes.after_restart.push(change);
                (key.copy)(&mut new.general, &self.general);
            }
        }
        (new, changes)
    }
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

fn objects<T: Table>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> ObjectChanges {
    let mut changes = ObjectChanges::default();
    for (name, object) in old {
        match new.get(name) {
            None => changes.removed.push(name.clone()),
            Some(other) => {
                let keys = T::KEYS.iter().filter(|key| !(key.same)(object, other));
                let keys: Vec<&str> = keys.map(|key| key.name).collect();
                if !keys.is_empty() {
                    changes.changed.push((name.clone(), keys));
                }
            }
        }
    }
    let added = new.keys().filter(|name| !old.contains_key(*name));
    changes.added = added.cloned().collect();
    changes
}
