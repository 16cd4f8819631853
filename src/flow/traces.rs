//! What a client's texts may have left in its server session, and how the
//! server is asked about it.
//!
//! The answer of the server decides, not what pgweir makes of the texts: a
//! transaction may have failed or been rolled back, and functions do things
//! that no text shows. Only where nothing of that can be the outcome is known
//! without a question.

use std::collections::BTreeSet;

use super::backend::{Finding, Lapse};
use super::params::{Params, ROLE, is_fixed};
use crate::sql::effects::{Effects, Features, SUSPECTS, Suspects};
use crate::sql::{Encoding, quote_literal};
use crate::wire::names;

type Names = BTreeSet<Box<[u8]>>;

/// The settings that have a value of the session's own.
const LIST: &[u8] = b"SELECT name, pg_catalog.current_setting(name, true) \
    FROM pg_catalog.pg_settings WHERE source = 'session'";

/// So many settings of applications are remembered for a client because of their
/// names alone: PostgreSQL never forgets one.
const EMPTY_KEPT: usize = 32;

/// The client's statements, where they have its names.
const STATEMENTS: &[u8] = b"SELECT '&' || name, NULL \
    FROM pg_catalog.pg_prepared_statements WHERE NOT from_sql";

/// What the texts since the last answer may have left.
#[derive(Debug, Default)]
pub(super) struct Traces {
    leaves: Features,
    releases: bool,
    sets: Names,
    resets: Names,
    resets_all: bool,
    opaque: bool,
    /// There may be other suspects now.
    pub alters_code: bool,
    /// New sessions may begin otherwise than this one did.
    pub alters_defaults: bool,
    /// The database that it is about must be left by all.
    pub needs_empty_database: bool,
    /// What has come of it is more than the texts say.
    pub uncertain: bool,
    /// Some of it has failed.
    failed: bool,
    /// The question is on its way.
    pub asked: bool,
    /// What is at the server's default until then, or the next request.
    pub lapses: Vec<Lapse>,
}

impl Traces {
    /// A text with these effects is about to run; `alone`: in no transaction that
    /// was begun before, and nothing is under way.
    pub fn add(&mut self, effects: &Effects, alone: bool) {
        self.leaves |= effects.leaves;
        self.releases |= effects.releases;
        if effects.resets_all {
            self.resets.append(&mut self.sets);
            self.resets_all = true;
        }
        for name in &effects.resets {
            self.sets.remove(name);
            self.resets.insert(name.clone());
        }
        for name in &effects.sets {
            self.resets.remove(name);
            self.sets.insert(name.clone());
        }
        self.opaque |= effects.opaque;
        self.alters_code |= effects.alters_code;
        self.alters_defaults |= effects.alters_defaults;
        self.needs_empty_database |= effects.needs_empty_database;
        self.uncertain |= !alone || effects.transaction;
    }

    /// The suspects are not known.
    pub fn of_suspects() -> Traces {
        Traces {
            alters_code: true,
            ..Traces::default()
        }
    }

    /// Whether there may be one of these, or other settings than before.
    pub fn touch(&self, features: Features) -> bool {
        self.changes_settings() || self.opaque || self.leave(features)
    }

    /// Whether the texts say that there is one of these.
    pub fn leave(&self, features: Features) -> bool {
        self.leaves.intersects(features)
    }

    fn changes_settings(&self) -> bool {
        self.resets_all || !self.sets.is_empty() || !self.resets.is_empty()
    }

    /// Something failed or was rolled back, so that other texts may not have run.
    pub fn fail(&mut self) {
        self.uncertain = true;
        self.failed = true;
    }

    /// Whether the session may have another role than it began with.
    pub fn touches_role(&self) -> bool {
        self.sets.contains(ROLE) || self.leaves.contains(Features::AUTHORIZATION)
    }

    /// What may be there beside what the server can be asked about.
    pub fn unasked(&self) -> Features {
        self.leaves - Features::KNOWN_TO_SERVER
    }

    /// What may be there if the server does not answer.
    pub fn feared(&self) -> Features {
        let mut feared = self.leaves;
        if self.opaque {
            feared |= Features::KNOWN_TO_SERVER;
        }
        if self.opaque || self.changes_settings() {
            feared |= Features::SETTING;
        }
        feared
    }

    /// Whether all settings are back at their defaults, without a question.
    pub fn is_plain_reset(&self) -> bool {
        self.resets_all
            && !self.uncertain
            && !self.opaque
            && self.sets.is_empty()
            && !self.leaves.contains(Features::SETTING)
    }

    fn wants_list(&self) -> bool {
        self.opaque
            || self.leaves.contains(Features::SETTING)
            || !self.resets.is_empty()
            // What could not be set has a value nevertheless.
            || (self.failed && !self.sets.is_empty())
            || (self.resets_all && !self.is_plain_reset())
    }

    /// What the server's answer tells of, if it was there before.
    pub fn settles(&self, pins: Features) -> Features {
        match self.is_plain_reset() {
            true => self.asks(pins) | Features::SETTING,
            false => self.asks(pins),
        }
    }

    /// The features to ask about; `pins`: those that were found before.
    fn asks(&self, pins: Features) -> Features {
        let mut asks = self.leaves;
        if self.opaque {
            asks = Features::all();
        }
        if self.releases {
            asks |= pins;
        }
        asks & Features::KNOWN_TO_SERVER
    }

    /// Whether the question is also which statements there are; `names`: they have
    /// the client's names, so that texts may have taken them away.
    pub fn lists(&self, names: bool) -> bool {
        names && (self.releases || self.opaque)
    }

    /// The query that finds out, `None` if nothing needs to be found out. `known`:
    /// the parameters of the server session as far as they are known; `names` as in
    /// [`Traces::lists`].
    pub fn question(
        &self,
        known: &Params,
        pins: Features,
        names: bool,
        suspects: &Suspects,
    ) -> Option<Vec<u8>> {
        let mut rows: Vec<Vec<u8>> = Vec::new();
        let mut settings: BTreeSet<&[u8]> = BTreeSet::new();
        settings.extend(self.sets.iter().chain(&self.resets).map(|name| &**name));
        if self.opaque {
            settings.extend(suspects.settings().iter().map(|name| &**name));
        }
        if self.opaque || self.leaves.contains(Features::SETTING) {
            settings.insert(ROLE);
        }
        if self.wants_list() {
            let unlisted = known.unreported().map(|(name, _)| name);
            settings.extend(unlisted.filter(|name| is_unlisted(name)));
        }
        for name in settings {
            rows.extend(setting_row(name));
        }
        for feature in self.asks(pins).iter() {
            rows.push(feature_row(feature, names));
        }
        let mut parts = Vec::new();
        if !rows.is_empty() {
            parts.push([b"VALUES ", &*rows.join(&b", "[..])].concat());
        }
        if self.wants_list() {
            parts.push(LIST.to_vec());
        }
        if self.lists(names) {
            parts.push(STATEMENTS.to_vec());
        }
        let mut question = Vec::new();
        if self.alters_code && !suspects.are_unknown() {
            parts.push(format!("SELECT * FROM ({SUSPECTS}) suspects").into_bytes());
            // It would take longer than the query.
            question.extend_from_slice(b"SET LOCAL jit = off; ");
        }
        question.extend_from_slice(&parts.join(&b" UNION ALL "[..]));
        (!parts.is_empty()).then_some(question)
    }

    /// What is there now. `known` as in [`Traces::question`]; `finding`: the
    /// answer, if there was a question.
    pub fn conclude(&self, known: &Params, finding: Option<&Finding>) -> Stock {
        let rows = finding.map(|finding| &*finding.rows).unwrap_or_default();
        let rows: Vec<Row<'_>> = rows
            .iter()
            .filter_map(|row| names::two_columns(row))
            .collect();
        let mut found = Features::empty();
        let mut there = known.clone();
        let complete = self.wants_list() || self.is_plain_reset();
        let listed = |name: &[u8]| {
            let mut rows = rows.iter();
            rows.any(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        if complete {
            for (name, _) in known.unreported() {
                // RESET ALL leaves the role alone (guc_tables.c, GUC_NO_RESET_ALL).
                let is_told = match self.is_plain_reset() {
                    true => !name.eq_ignore_ascii_case(ROLE),
                    false => !is_unlisted(name),
                };
                if is_told && !listed(name) {
                    clear(&mut there, name);
                }
            }
        }
        for (key, value) in &rows {
            match *key {
                [b'!' | b'%' | b'&', ..] => {}
                [b'#', bit @ ..] => {
                    let bit = std::str::from_utf8(bit)
                        .ok()
                        .and_then(|bit| bit.parse().ok());
                    if *value == Some(b"true") {
                        found |= Features::from_bits_truncate(bit.unwrap_or(0));
                    }
                }
                [b'=', name @ ..] if complete && !is_unlisted(name) => {}
                // For others this is a value.
                [b'=', name @ ..]
                    if name.contains(&b'.')
                        && *value == Some(b"")
                        && self.concerns(name, known) =>
                {
                    clear(&mut there, name);
                }
                [b'=', name @ ..] | name => note(&mut there, name, *value),
            }
        }
        Stock {
            changed: complete.then(|| self.changed(&rows, known, &there)),
            params: there,
            found,
        }
    }

    /// Whether the client has had to do with the name of a setting.
    fn concerns(&self, name: &[u8], known: &Params) -> bool {
        self.sets.contains(name) || self.resets.contains(name) || known.get(name).is_some()
    }

    /// The settings that have a value of the session's own.
    fn changed(&self, rows: &[Row<'_>], known: &Params, there: &Params) -> Names {
        // An empty one of an application may have been set so or reset.
        let is_set = |name: &[u8]| {
            let was_empty = known.get(name) == Some(b"") && !self.resets_all;
            self.sets.contains(name) || (was_empty && !self.resets.contains(name))
        };
        let listed = rows.iter().map(|(name, _)| name.to_ascii_lowercase());
        let unlisted = there.unreported().filter(|(name, _)| is_unlisted(name));
        let unlisted = unlisted.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let unlisted = unlisted.filter(|(name, value)| !value.is_empty() || is_set(name));
        let names = listed.chain(unlisted.map(|(name, _)| name));
        names.map(Vec::into_boxed_slice).collect()
    }
}

/// A row of the answer.
type Row<'a> = (&'a [u8], Option<&'a [u8]>);

/// What was found out about a server session.
#[derive(Debug)]
pub(super) struct Stock {
    /// The parameters that it has.
    pub params: Params,
    pub found: Features,
    /// All settings that have a value of the session's own, if that is known: the
    /// others have their defaults.
    changed: Option<Names>,
}

impl Stock {
    /// What its client is to have, which may be more: the values that it began with
    /// are its defaults.
    pub fn of_client(&self, start: &Params) -> Params {
        let mut mine = self.params.clone();
        if let Some(changed) = &self.changed {
            for (name, value) in start.iter().filter(|(name, _)| !is_fixed(name)) {
                if !changed.contains(&*name.to_ascii_lowercase()) && mine.get(name) != Some(value) {
                    mine.set(name, value, false);
                }
            }
        }
        mine
    }
}

/// A setting has no value of the session's own any more. One of an application
/// exists from now on, with nothing in it.
fn clear(params: &mut Params, name: &[u8]) {
    let empty = params.unreported().filter(|(_, value)| value.is_empty());
    let many = empty.count() >= EMPTY_KEPT;
    if name.contains(&b'.') && !many {
        params.set(name, b"", false);
    } else {
        params.remove(name);
    }
}

/// A value of the session; what is no value of its own is left out.
fn note(params: &mut Params, name: &[u8], value: Option<&[u8]>) {
    let none = match value {
        None => true,
        // What is left of an application's setting that has been reset.
        Some(b"") => name.contains(&b'.'),
        Some(value) => name.eq_ignore_ascii_case(ROLE) && value == b"none",
    };
    if params.is_reported(name) {
        // The server says so itself.
    } else if none {
        params.remove(name);
    } else {
        params.set(name, value.unwrap_or_default(), false);
    }
}

/// Whether no list of the server shows it: the role, and settings of applications.
fn is_unlisted(name: &[u8]) -> bool {
    name.contains(&b'.') || name.eq_ignore_ascii_case(ROLE)
}

/// `('=name', its value)`; `None` for a name that no setting has.
fn setting_row(name: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| name.is_ascii())?;
    let mut row = b"('=".to_vec();
    let mut literal = Vec::new();
    quote_literal(name, Encoding::AsciiSafe, &mut literal).ok()?;
    // What needs more than quotes is no setting's name.
    let inside = literal.strip_prefix(b"'")?;
    row.extend_from_slice(inside);
    row.extend_from_slice(b", pg_catalog.current_setting(");
    row.extend_from_slice(&literal);
    row.extend_from_slice(b", true))");
    Some(row)
}

/// `('#bit', whether it is there)`
fn feature_row(feature: Features, names: bool) -> Vec<u8> {
    let there = match feature {
        Features::TEMPORARY => {
            "EXISTS (SELECT FROM pg_catalog.pg_depend \
             WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
             AND refobjid = pg_catalog.pg_my_temp_schema())"
        }
        Features::CURSOR => "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
        Features::ADVISORY_LOCK => {
            "EXISTS (SELECT FROM pg_catalog.pg_locks \
             WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())"
        }
        // What else there is are those that the client has given by Parse.
        Features::PREPARE if names => {
            "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"
        }
        Features::PREPARE => {
            "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
             WHERE from_sql OR name !~ '^pgweir_[0-9]+$')"
        }
        Features::LISTEN => "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())",
        Features::AUTHORIZATION => {
            "(SELECT usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())) \
             <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user)"
        }
        _ => "true",
    };
    format!("('#{}', ({there})::pg_catalog.text)", feature.bits()).into_bytes()
}
