//! What an operator has stopped at the console. All workers have the same.

use std::collections::BTreeSet;

/// Databases are named as clients name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// PAUSE without a database.
    pub all_paused: bool,
    /// SUSPEND: nothing is read from clients or servers.
    pub suspended: bool,
    /// PAUSE or KILL of these.
    pub paused: BTreeSet<String>,
    /// Those of them that were killed.
    pub killed: BTreeSet<String>,
    /// They let nobody in (DISABLE).
    pub disabled: BTreeSet<String>,
}

impl Gates {
    /// Whether PAUSE or SUSPEND of everything holds.
    pub fn stop_everything(&self) -> bool {
        self.all_paused || self.suspended
    }

    /// Whether the database's clients get no server connections.
    pub fn stops(&self, database: &str) -> bool {
        self.all_paused || self.paused.contains(database)
    }

    /// Forgets databases that there are no more.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.paused.retain(|name| exists(name));
        self.killed.retain(|name| exists(name));
        self.disabled.retain(|name| exists(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_database_or_all() {
        let mut gates = Gates::default();
        assert!(!gates.stops("app"));
        gates.paused.insert("app".to_owned());
        gates.disabled.insert("web".to_owned());
        assert!(gates.stops("app") && !gates.stops("web"));
        gates.all_paused = true;
        assert!(gates.stops("web"));
        gates.all_paused = false;
        gates.retain(|name| name == "web");
        assert!(!gates.stops("app"));
        assert!(gates.disabled.contains("web"));
    }
}
