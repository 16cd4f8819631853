//! pgweir's own format: `[pgweir]`, `[databases.NAME]`, `[users.NAME]`,
//! `[peers.NUMBER]`.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::{Draft, Section, set, unknown};
use super::key::Table;
use super::mistake::Place;
use super::objects::{DatabaseConfig, PeerConfig, UserConfig};
use super::settings::Settings;
use super::value::{Raw, unlike};

const SECTIONS: [&str; 4] = ["pgweir", "databases", "users", "peers"];

/// Reads `text` into `draft`.
pub(super) fn parse(draft: &mut Draft, file: &Arc<str>, text: &str) {
    let lines = Lines { file, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let start = error.span().map_or(0, |span| span.start);
        draft.report.mistake(&lines.place(start), error.message());
    }
    if !errors.is_empty() {
        return;
    }
    for (name, value) in document.get_ref() {
        let place = lines.place(name.span().start);
        match name.get_ref().as_ref() {
            "pgweir" => general(draft, &lines, &place, value),
            "databases" => {
                for (name, place, table) in objects(draft, &lines, &place, value) {
                    let section = Section::Database(name.clone());
                    draft.report.found(&section, "", &place);
                    let database: DatabaseConfig = object(draft, &lines, &section, table);
                    draft.databases.insert(name, database);
                }
            }
            "users" => {
                for (name, place, table) in objects(draft, &lines, &place, value) {
                    let section = Section::User(name.clone());
                    draft.report.found(&section, "", &place);
                    let user: UserConfig = object(draft, &lines, &section, table);
                    draft.users.insert(name, user);
                }
            }
            "peers" => {
                for (name, place, table) in objects(draft, &lines, &place, value) {
                    let Ok(id) = name.parse() else {
                        let message = format!("a peer's name is its number, not `{name}`");
                        draft.report.mistake(&place, message);
                        continue;
                    };
                    let section = Section::Peer(id);
                    draft.report.found(&section, "", &place);
                    let peer: PeerConfig = object(draft, &lines, &section, table);
                    draft.peers.insert(id, peer);
                }
            }
            other => {
                let message = match Settings::key(other) {
                    Some(_) => format!("`{other}` belongs under [pgweir]"),
                    None => unknown("section", other, SECTIONS),
                };
                draft.report.mistake(&place, message);
            }
        }
    }
}

/// Finds the line of a byte.
struct Lines<'a> {
    file: &'a Arc<str>,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().iter().take(offset);
        Place::line(self.file, 1 + before.filter(|byte| **byte == b'\n').count())
    }
}

fn general(draft: &mut Draft, lines: &Lines<'_>, place: &Place, value: &Spanned<DeValue<'_>>) {
    let Some(table) = value.get_ref().as_table() else {
        let message = unlike(value.get_ref(), "write [pgweir]");
        return draft.report.mistake(place, message);
    };
    draft.report.found(&Section::General, "", place);
    for (name, value) in table {
        set(
            &mut draft.general,
            &Section::General,
            name.get_ref(),
            Raw::Toml(value.get_ref()),
            &lines.place(name.span().start),
            &mut draft.report,
        );
    }
}

/// The tables in a table of tables.
fn objects<'a>(
    draft: &mut Draft,
    lines: &Lines<'_>,
    place: &Place,
    value: &'a Spanned<DeValue<'a>>,
) -> Vec<(String, Place, &'a DeTable<'a>)> {
    let Some(table) = value.get_ref().as_table() else {
        let message = unlike(
            value.get_ref(),
            "write [databases.NAME], [users.NAME] or [peers.NUMBER]",
        );
        draft.report.mistake(place, message);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (name, value) in table {
        let place = lines.place(name.span().start);
        match value.get_ref().as_table() {
            Some(table) => found.push((name.get_ref().to_string(), place, table)),
            None => {
                let message = unlike(value.get_ref(), "write a table of settings");
                draft
                    .report
                    .mistake(&place, format!("`{}`: {message}", name.get_ref()));
            }
        }
    }
    found
}

fn object<T: Table>(
    draft: &mut Draft,
    lines: &Lines<'_>,
    section: &Section,
    table: &DeTable<'_>,
) -> T {
    let mut object = T::default();
    for (name, value) in table {
        set(
            &mut object,
            section,
            name.get_ref(),
            Raw::Toml(value.get_ref()),
            &lines.place(name.span().start),
            &mut draft.report,
        );
    }
    object
}
