//! What a text may leave behind in the session that runs it.
//!
//! The text alone is read: what a function or a trigger does shows only by what
//! is found in the session afterwards. Where the text may mean either of two
//! things, the one that leaves more is assumed.

mod glance;
mod literal;
mod read;
mod suspects;
#[cfg(test)]
mod tests;

pub use glance::{may_advance_a_sequence, may_matter};
pub use suspects::{MOST_NAMES, MOST_SETTINGS, OLDEST, QUERY as SUSPECTS, Suspects};

use super::lexer::Dialect;

bitflags::bitflags! {
    /// Kinds of state that outlives its transaction and belongs to one session,
    /// other than settings.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u16 {
        /// Tables, views, types and functions in `pg_temp`.
        const TEMPORARY = 1;
        /// `DECLARE ... WITH HOLD`.
        const CURSOR = 1 << 1;
        /// `pg_advisory_lock` and the like.
        const ADVISORY_LOCK = 1 << 2;
        /// `PREPARE`, in SQL.
        const PREPARE = 1 << 3;
        /// `LISTEN`.
        const LISTEN = 1 << 4;
        /// `SET SESSION AUTHORIZATION`.
        const AUTHORIZATION = 1 << 5;
        /// What `currval` and `lastval` refer to.
        const SEQUENCE = 1 << 6;
        /// `setseed`.
        const SEED = 1 << 7;
        /// It knows the number of the server's process.
        const BACKEND_PID = 1 << 8;
        /// A setting whose name the text does not tell.
        const SETTING = 1 << 9;
        /// `LOAD`.
        const LIBRARY = 1 << 10;

        /// What the server can be asked about.
        const KNOWN_TO_SERVER = Self::TEMPORARY.bits()
            | Self::CURSOR.bits()
            | Self::ADVISORY_LOCK.bits()
            | Self::PREPARE.bits()
            | Self::LISTEN.bits()
            | Self::AUTHORIZATION.bits();
    }
}

impl Features {
    /// What people call one of them.
    pub fn label(self) -> &'static str {
        match self {
            Features::TEMPORARY => "temporary object",
            Features::CURSOR => "cursor with hold",
            Features::ADVISORY_LOCK => "advisory lock",
            Features::PREPARE => "prepare",
            Features::LISTEN => "listen",
            Features::AUTHORIZATION => "session authorization",
            Features::SEQUENCE => "currval",
            Features::SEED => "setseed",
            Features::BACKEND_PID => "pg_backend_pid",
            Features::SETTING => "set_config",
            Features::LIBRARY => "load",
            _ => "several",
        }
    }
}

/// A setting gets a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// In lower case.
    pub name: Box<[u8]>,
    /// The value as the text has it, if that always means the same.
    pub literal: Option<Box<[u8]>>,
}

/// What the statements of a text may leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub leaves: Features,
    /// It may take back something that an earlier text has left.
    pub releases: bool,
    /// Settings that get a value for the session; of the statements about one, the
    /// last counts.
    pub sets: Vec<Assignment>,
    /// Settings that go back to their defaults, in lower case.
    pub resets: Vec<Box<[u8]>>,
    /// All settings do, but for those above: `RESET ALL`, `DISCARD ALL`.
    pub resets_all: bool,
    /// After one of them has gone back, something is rolled back, or set otherwise.
    pub unsettled: bool,
    /// It may do anything: `DO`, `CALL`, or a text that cannot be read.
    pub opaque: bool,
    /// It begins or ends a transaction, or a part of one.
    pub transaction: bool,
    /// It creates what may have effects without saying so if what it uses has:
    /// a function, a trigger, a view.
    pub makes_code: bool,
    /// That may have effects of its own.
    pub alters_code: bool,
    /// It changes what new sessions begin with: `ALTER ROLE ... SET`.
    pub alters_defaults: bool,
    /// It needs a database in which nobody is: `DROP DATABASE`.
    pub needs_empty_database: bool,
    /// It goes by the names of prepared statements: `PREPARE`, `EXECUTE`,
    /// `pg_prepared_statements`.
    pub names_statements: bool,
}

impl Effects {
    /// The effects of `text`, which holds no NUL; `None`: it has none.
    pub fn of(text: &[u8], dialect: Dialect) -> Option<Box<Effects>> {
        if !may_matter(text) {
            return None;
        }
        let effects = read::effects(text, dialect);
        let counts =
            effects.matters() || effects.releases || effects.makes_code || effects.names_statements;
        counts.then(|| Box::new(effects))
    }

    /// Whether its words tell all that it does to settings.
    pub fn tells_settings(&self) -> bool {
        let hidden = Features::SETTING | Features::AUTHORIZATION;
        !self.opaque && !self.leaves.intersects(hidden)
    }

    /// Whether a setting goes back to its default.
    pub fn goes_back(&self) -> bool {
        self.resets_all || !self.resets.is_empty()
    }

    fn set(&mut self, name: Box<[u8]>, literal: Option<Box<[u8]>>) {
        self.resets.retain(|other| *other != name);
        self.sets.push(Assignment { name, literal });
    }

    fn reset(&mut self, name: Box<[u8]>) {
        self.sets.retain(|set| set.name != name);
        self.resets.push(name);
    }

    /// All but the role (guc_tables.c, GUC_NO_RESET_ALL).
    fn reset_all(&mut self) {
        self.sets.retain(|set| *set.name == *b"role");
        self.resets.retain(|name| **name == *b"role");
        self.resets_all = true;
    }

    /// Those of a text of which only a part is known.
    pub fn unknown() -> Effects {
        Effects {
            opaque: true,
            ..Effects::default()
        }
    }

    /// Whether a text that prepares or runs a statement says that it does more.
    pub fn beyond_prepare(&self) -> bool {
        let mut others = self.clone();
        others.leaves -= Features::PREPARE;
        others.matters()
    }

    /// Whether it leaves or changes anything: what it takes back, what it does to
    /// its transaction, and what it goes by aside.
    pub fn matters(&self) -> bool {
        let nothing = Effects {
            transaction: self.transaction,
            unsettled: self.unsettled,
            releases: self.releases,
            makes_code: self.makes_code,
            names_statements: self.names_statements,
            ..Effects::default()
        };
        *self != nothing
    }
}
