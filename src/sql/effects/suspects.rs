//! Functions, tables and views whose use may leave something in the session,
//! though no text that uses them says so.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use crate::sql::chars::{self, IDENT_CONT, IDENT_START};

/// Asks a database for them; the rows are for [`Suspects::add`]. Needs PostgreSQL
/// 14 or newer.
pub const QUERY: &str = include_str!("suspects.sql");

/// The first words of commands that fire event triggers.
const SCHEMA_CHANGES: [&[u8]; 6] = [
    b"create", b"alter", b"drop", b"comment", b"grant", b"revoke",
];

/// Those of one database.
#[derive(Debug, Default)]
pub struct Suspects {
    /// In lower case and without schema: whichever it is.
    names: HashSet<Box<[u8]>, RandomState>,
    /// Settings of applications that they may set, in lower case.
    settings: Vec<Box<[u8]>>,
    /// Commands that change the schema are among them.
    schema_changes: bool,
}

impl Suspects {
    /// Takes a row's first column in. False: it is none of this query.
    pub fn add(&mut self, row: &[u8]) -> bool {
        match row {
            b"!*" => self.schema_changes = true,
            [b'!', name @ ..] => {
                self.names.insert(name.to_ascii_lowercase().into());
            }
            [b'%', setting @ ..] => self.settings.push(setting.to_ascii_lowercase().into()),
            _ => return false,
        }
        true
    }

    /// Whether no text names any.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.schema_changes
    }

    pub fn settings(&self) -> &[Box<[u8]>] {
        &self.settings
    }

    /// Whether a text has a word that is the name of one.
    pub fn are_in(&self, text: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut lower = [0; 64];
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| chars::is(byte, IDENT_START)) {
            rest = rest.get(at..).unwrap_or_default();
            let end = rest.iter().position(|&byte| !chars::is(byte, IDENT_CONT));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            let Some(lower) = lower.get_mut(..word.len()) else {
                // Cut off by the server at 63 bytes.
                return true;
            };
            lower.copy_from_slice(word);
            lower.make_ascii_lowercase();
            let changes = || SCHEMA_CHANGES.iter().any(|word| *lower == **word);
            if self.names.contains(&*lower) || (self.schema_changes && changes()) {
                return true;
            }
        }
        false
    }
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
}
