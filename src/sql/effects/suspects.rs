//! Functions, tables and views whose use may leave something in the session,
//! though no text that uses them says so.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::sql::chars::{self, IDENT_CONT, IDENT_START};

/// Asks a database for them; the rows are for [`Suspects::add`]. Needs PostgreSQL
/// [`OLDEST`] or newer.
pub const QUERY: &str = include_str!("suspects.sql");
/// The first major version that can be asked.
pub const OLDEST: u32 = 14;

/// How many functions and relations of one database are told apart. The query
/// returns no more than one above.
pub const MOST_NAMES: usize = 10_000;
/// How many settings of applications are asked about.
pub const MOST_SETTINGS: usize = 1000;

/// Some words of each command that fires event triggers.
const SCHEMA_CHANGES: [&[u8]; 11] = [
    b"create",
    b"alter",
    b"drop",
    b"comment",
    b"grant",
    b"revoke",
    b"security",
    b"import",
    b"refresh",
    b"reindex",
    b"into",
];

/// Words without which the body of a function leaves nothing.
const TELLING: [&[u8]; 15] = [
    b"set",
    b"reset",
    b"set_config",
    b"setseed",
    b"temp",
    b"temporary",
    b"hold",
    b"execute",
    b"listen",
    b"unlisten",
    b"prepare",
    b"deallocate",
    b"load",
    b"discard",
    b"advisory",
];

/// Those of one database.
#[derive(Debug, Default)]
pub struct Suspects {
    /// In lower case and without schema: whichever it is. Of a name that is no plain
    /// identifier its first word.
    names: HashSet<Box<[u8]>, RandomState>,
    /// The lengths of all words that are looked for, as bits, by their first letters:
    /// most words of a text need no further look.
    lengths: [u64; 32],
    /// One has other letters than those of ASCII: in which encoding it stands in a
    /// text, the client decides.
    foreign: bool,
    /// Settings of applications that they may set, in lower case.
    settings: Vec<Box<[u8]>>,
    /// Commands that change the schema are among them.
    schema_changes: bool,
    /// There are more than are told apart, or one whose name has no word.
    everything: bool,
    /// The database cannot be asked.
    unknown: bool,
}

impl Suspects {
    /// Of a server that is too old to be asked.
    pub fn unknown() -> Suspects {
        Suspects {
            unknown: true,
            ..Suspects::default()
        }
    }

    pub fn are_unknown(&self) -> bool {
        self.unknown
    }

    /// Whether every text counts as one that uses them, because they are too many.
    pub fn are_everything(&self) -> bool {
        self.everything
    }

    /// Takes a row's first column in. False: it is none of this query.
    pub fn add(&mut self, row: &[u8]) -> bool {
        match row {
            b"!*" => {
                self.schema_changes = true;
                SCHEMA_CHANGES.iter().for_each(|word| self.look_for(word));
            }
            [b'!', name @ ..] => self.add_name(name),
            [b'%', setting @ ..] if self.settings.len() < MOST_SETTINGS => {
                self.settings.push(setting.to_ascii_lowercase().into());
            }
            [b'%', ..] => self.everything = true,
            _ => return false,
        }
        true
    }

    /// Whether no text uses any.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.schema_changes && !self.everything
    }

    fn add_name(&mut self, name: &[u8]) {
        if self.everything {
            return;
        }
        let word = words(name).next();
        self.foreign |= !name.is_ascii();
        match word {
            Some(word) if self.names.len() < MOST_NAMES => {
                self.look_for(word);
                self.look_for(b"u&");
                self.names.insert(word.to_ascii_lowercase().into());
            }
            _ => {
                self.everything = true;
                self.names = HashSet::default();
            }
        }
    }

    fn look_for(&mut self, word: &[u8]) {
        let (letter, length) = place(word);
        if let Some(lengths) = self.lengths.get_mut(letter) {
            *lengths |= 1 << length;
        }
    }

    fn looks_for(&self, word: &[u8]) -> bool {
        let (letter, length) = place(word);
        let lengths = self.lengths.get(letter);
        lengths.is_some_and(|lengths| lengths >> length & 1 == 1)
    }

    pub fn settings(&self) -> &[Box<[u8]>] {
        &self.settings
    }

    /// Whether a text has a word that is the name of one.
    pub fn are_in(&self, text: &[u8]) -> bool {
        if self.everything {
            return true;
        }
        if self.is_empty() {
            return false;
        }
        let mut lower = [0; 64];
        words(text).any(|word| {
            if self.foreign && !word.is_ascii() {
                return true;
            }
            let Some(lower) = lower.get_mut(..word.len()) else {
                // Cut off by the server at 63 bytes.
                return true;
            };
            if !self.looks_for(word) {
                return false;
            }
            lower.copy_from_slice(word);
            lower.make_ascii_lowercase();
            let changes = || SCHEMA_CHANGES.iter().any(|word| *lower == **word);
            // `U&"..."`: an identifier that is written in code points.
            *lower == *b"u&" || self.names.contains(&*lower) || (self.schema_changes && changes())
        })
    }
}

/// The first letter of a word, of either case, and its length.
fn place(word: &[u8]) -> (usize, usize) {
    let first = word.first().copied().unwrap_or_default();
    (usize::from(first & 31), word.len().min(63))
}

/// Whether what a CREATE makes may leave something in the session of whoever uses it,
/// even if it uses no suspects. `EXECUTE` of a trigger does not count.
pub(super) fn may_hide(create: &[u8]) -> bool {
    let is_trigger = words(create)
        .take(4)
        .any(|word| word.eq_ignore_ascii_case(b"trigger"));
    !is_trigger
        && words(create).any(|word| {
            let says = |telling: &&[u8]| word.eq_ignore_ascii_case(telling);
            let begins = |start: &[u8]| {
                let head = word.get(..start.len());
                head.is_some_and(|head| head.eq_ignore_ascii_case(start))
            };
            TELLING.iter().any(says)
                || begins(b"pg_temp")
                || begins(b"pg_advisory")
                || begins(b"pg_try")
        })
}

/// What could be an identifier; `u&` stands for one that is written in code points.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = rest.iter().position(|&byte| chars::is(byte, IDENT_START))?;
        rest = rest.get(at..)?;
        let end = rest.iter().position(|&byte| !chars::is(byte, IDENT_CONT));
        let mut end = end.unwrap_or(rest.len());
        if end == 1 && matches!(rest, [b'u' | b'U', b'&', b'"', ..]) {
            end = 2;
        }
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whatever_their_case() {
        let mut suspects = Suspects::default();
        assert!(!suspects.are_in(b"select hidden(1)"));
        assert!(suspects.add(b"!Hidden") && suspects.add(b"%App.x"));
        assert!(!suspects.add(b"=work_mem"));
        assert_eq!(suspects.settings(), [b"app.x".as_slice().into()]);
        for text in [
            "select HIDDEN(1)",
            "insert into s.\"Hidden\" values (1)",
            "select 1 from a,hidden",
        ] {
            assert!(suspects.are_in(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "1 2",
            "select hidden2()",
            "select hidde(n)",
            "drop table t",
        ] {
            assert!(!suspects.are_in(text.as_bytes()), "{text}");
        }
        suspects.add(b"!*");
        assert!(suspects.are_in(b"drop table t"));
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        let mut suspects = Suspects::default();
        suspects.add(b"!Odd name");
        suspects.add(b"!1st");
        for text in [
            "select \"Odd name\"()",
            "select \"1st\"()",
            "select U&\"\\006fdd\"()",
        ] {
            assert!(suspects.are_in(text.as_bytes()), "{text}");
        }
        // Another encoding than the server's.
        assert!(!suspects.are_in(b"select f\xfcr()"));
        suspects.add("!f\u{fc}r".as_bytes());
        assert!(suspects.are_in(b"select f\xfcr()"));
        assert!(!suspects.are_in(b"select first()"));
        // No word can be looked for.
        suspects.add(b"!42");
        assert!(suspects.are_everything() && suspects.are_in(b"select 1"));
    }

    #[test]
    fn too_many_are_everything() {
        let mut suspects = Suspects::default();
        for n in 0..MOST_NAMES {
            suspects.add(format!("!f{n}").as_bytes());
        }
        assert!(!suspects.are_everything() && !suspects.are_in(b"select 1"));
        suspects.add(b"!another");
        assert!(suspects.are_everything() && suspects.are_in(b"select 1"));
        assert_eq!(suspects.names.capacity(), 0);
        for n in 0..2 * MOST_SETTINGS {
            suspects.add(format!("%app.s{n}").as_bytes());
        }
        assert_eq!(suspects.settings().len(), MOST_SETTINGS);
    }
}
