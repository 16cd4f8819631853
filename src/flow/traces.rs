//! What a client's texts may have left in its server session, and how the
//! server is asked about it.
//!
//! The answer of the server decides, not what pgweir makes of the texts: a
//! transaction may have failed or been rolled back, and functions do things
//! that no text shows. Only where nothing of that can be the outcome is known
//! without a question.

use std::collections::{BTreeMap, BTreeSet};

use super::backend::{Finding, Lapse};
use super::params::{Params, ROLE, is_fixed};
use super::values::Values;
use super::watchlist::Asked;
use crate::sql::effects::{Assignment, Effects, Features, SUSPECTS, Suspects};
use crate::sql::{Encoding, quote_literal};
use crate::wire::{FrontendTag, names};

type Names = BTreeSet<Box<[u8]>>;

/// The settings that have a value of the session's own.
const LIST: &[u8] = b"SELECT name, pg_catalog.current_setting(name, true) \
    FROM pg_catalog.pg_settings WHERE source = 'session'";

/// However they are set, for one transaction only.
const OF_TRANSACTIONS: [&[u8]; 3] = [
    b"transaction_deferrable",
    b"transaction_isolation",
    b"transaction_read_only",
];

/// While this is on, identifiers are shown with quotes that need none.
pub(super) const SPELLING: &[u8] = b"quote_all_identifiers";

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
    sets: BTreeMap<Box<[u8]>, Value>,
    resets: Names,
    resets_all: bool,
    opaque: bool,
    /// There may be other suspects now.
    pub alters_code: bool,
    /// New sessions may begin otherwise than this one did.
    pub alters_defaults: bool,
    /// The database that it is about must be left by all.
    pub needs_empty_database: bool,
    /// Not all of it may have run, or the texts do not say what it did to settings.
    uncertain: bool,
    /// The last text was bound to the unnamed portal and is to run next.
    bound: bool,
    /// Some of it has failed.
    failed: bool,
    /// The question is on its way.
    pub asked: bool,
    /// With it that for suspects.
    pub suspects_asked: Asked,
    /// What is at the server's default until then, or the next request.
    pub lapses: Vec<Lapse>,
    /// Settings that the server has reported since, and what they were before.
    reported: Vec<Reported>,
}

/// Its name, and its value before if it had one that is known.
type Reported = (Box<[u8]>, Option<Box<[u8]>>);

impl Traces {
    /// A text with these effects is about to run. `values`: what is known of values,
    /// if nothing has changed their spelling.
    pub fn add(&mut self, effects: &Effects, values: Option<&Values>) {
        self.leaves |= effects.leaves;
        self.releases |= effects.releases;
        if effects.resets_all {
            let before = std::mem::take(&mut self.sets);
            self.resets.extend(before.into_keys());
            self.resets_all = true;
        }
        for name in &effects.resets {
            self.sets.remove(name);
            self.resets.insert(name.clone());
        }
        for set in &effects.sets {
            let Assignment { name, literal } = set.clone();
            // It changes how lists are shown.
            self.uncertain |= *name == *SPELLING;
            self.resets.remove(&name);
            let value = match (values.and_then(|values| values.of(set)), literal) {
                (Some(known), _) => Value::Known(known),
                (None, Some(literal)) if values.is_some() => Value::Literal(literal),
                _ => Value::Unknown,
            };
            self.sets.insert(name, value);
        }
        self.opaque |= effects.opaque;
        self.alters_code |= effects.alters_code;
        self.alters_defaults |= effects.alters_defaults;
        self.needs_empty_database |= effects.needs_empty_database;
        self.uncertain |= !effects.tells_settings();
    }

    /// How the last text is sent: not every one that is bound runs. `portal`: to
    /// which, if it is bound.
    pub fn sent_by(&mut self, tag: FrontendTag, portal: Option<&[u8]>) {
        self.bound = portal.is_some_and(<[u8]>::is_empty);
        self.uncertain |= tag != FrontendTag::Query && !self.bound;
    }

    /// A message is about to be sent. `body`: if it is whole.
    pub fn follow(&mut self, tag: FrontendTag, body: Option<&[u8]>) {
        if !self.bound || tag == FrontendTag::Describe {
            return;
        }
        let runs = tag == FrontendTag::Execute && body.is_some_and(|body| body.first() == Some(&0));
        self.uncertain |= !runs;
        self.bound = false;
    }

    /// What was reset has these values now.
    pub fn restore(&mut self, values: &[(&[u8], &[u8])]) {
        for (name, value) in values {
            self.resets.remove(*name);
            self.sets
                .insert((*name).into(), Value::Known((*value).into()));
        }
    }

    /// Whether this is at its default, for certain.
    pub fn has_reset(&self, name: &[u8]) -> bool {
        let resets = self.resets_all && !name.eq_ignore_ascii_case(ROLE);
        self.is_certain() && !self.sets.contains_key(name) && (resets || self.resets.contains(name))
    }

    /// What has become of settings shows in the server's answer only.
    pub fn doubt(&mut self) {
        self.uncertain = true;
    }

    /// Whether all texts have run, in this order and to their ends, and have done to
    /// settings what they say.
    fn is_certain(&self) -> bool {
        !self.uncertain && !self.failed && !self.bound
    }

    /// The suspects are not known.
    pub fn of_suspects() -> Traces {
        Traces {
            alters_code: true,
            ..Traces::default()
        }
    }

    /// The server has reported a setting, whose value was this.
    pub fn note_report(&mut self, name: &[u8], before: Option<&[u8]>) {
        let name = name.to_ascii_lowercase();
        if self.reported.iter().all(|(known, _)| **known != *name) {
            let before = before.map(Box::from);
            self.reported.push((name.into(), before));
        }
    }

    /// Whether a setting that is reported was left alone, as far as can be told.
    /// `told`: what the client was told last, if there is one.
    fn is_untouched(&self, name: &[u8], value: &[u8], told: Option<&Params>) -> bool {
        let is_reset = self.resets_all || self.resets.contains(name);
        let taken_back = || self.failed && told.is_some_and(|told| told.get(name) == Some(value));
        let mut reported = self.reported.iter();
        let before = reported.find(|(known, _)| **known == *name);
        (!is_reset || taken_back())
            && before.is_none_or(|(_, before)| before.as_deref() == Some(value))
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
        self.failed = true;
    }

    /// Whether the session may have another role than it began with.
    pub fn touches_role(&self) -> bool {
        self.sets.contains_key(ROLE) || self.leaves.contains(Features::AUTHORIZATION)
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

    fn wants_list(&self) -> bool {
        self.opaque
            || self.leaves.contains(Features::SETTING)
            || (!self.is_certain() && (self.resets_all || !self.resets.is_empty()))
            // What could not be set has a value nevertheless.
            || (self.failed && !self.sets.is_empty())
    }

    /// What the server's answer tells of, if it was there before.
    pub fn settles(&self, pins: Features) -> Features {
        match self.resets_all && self.is_certain() {
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
        if self.is_certain() {
            let unknown = self.sets.iter().filter(|(_, value)| !value.is_known());
            settings.extend(unknown.map(|(name, _)| &**name));
            // Their defaults may be anything.
            let own = self.reset_names(known).filter(|name| name.contains(&b'.'));
            settings.extend(own);
        } else {
            let all = self.sets.keys().chain(&self.resets);
            settings.extend(all.map(|name| &**name));
        }
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
        // The server says by itself what has become of the others.
        for name in settings.into_iter().filter(|name| !known.is_reported(name)) {
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
        let mut question = parts.join(&b" UNION ALL "[..]);
        if self.alters_code && !suspects.are_unknown() {
            // To compile it would take longer than to run it. Behind the rest, which
            // must find the client's value.
            let separator = if question.is_empty() { "" } else { "; " };
            let look = format!("{separator}SET LOCAL jit = off; {SUSPECTS}");
            question.extend_from_slice(look.as_bytes());
        }
        (!question.is_empty()).then_some(question)
    }

    /// What is there now. `known` as in [`Traces::question`]; `finding`: the
    /// answer, if there was a question. `told` as in [`Traces::is_untouched`].
    pub fn conclude(
        &self,
        known: &Params,
        told: Option<&Params>,
        finding: Option<&Finding>,
    ) -> Stock {
        let rows = finding.map(|finding| &*finding.rows).unwrap_or_default();
        let rows: Vec<Row<'_>> = rows
            .iter()
            .filter_map(|row| names::two_columns(row))
            .collect();
        let mut found = Features::empty();
        let mut there = known.clone();
        let complete = self.wants_list();
        if self.is_certain() {
            self.follow_texts(known, &mut there);
        }
        let listed = |name: &[u8]| {
            let mut rows = rows.iter();
            rows.any(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        if complete {
            for (name, _) in known.unreported() {
                // RESET ALL leaves the role alone (guc_tables.c, GUC_NO_RESET_ALL).
                if !is_unlisted(name) && !listed(name) {
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
        let at_defaults = match complete || self.resets_all {
            true => AtDefaults::AllBut(self.changed(&rows, known, told, &there)),
            false => AtDefaults::Only(self.resets.clone()),
        };
        Stock {
            at_defaults,
            params: there,
            found,
        }
    }

    /// What the texts have reset, if all of them have run.
    fn reset_names<'a>(&'a self, known: &'a Params) -> impl Iterator<Item = &'a [u8]> {
        // RESET ALL leaves the role alone (guc_tables.c, GUC_NO_RESET_ALL).
        let all = known.unreported().map(|(name, _)| name);
        let all = all.filter(|name| {
            let is_set = self.sets.contains_key(&*name.to_ascii_lowercase());
            self.resets_all && !is_set && !name.eq_ignore_ascii_case(ROLE)
        });
        all.chain(self.resets.iter().map(|name| &**name))
    }

    /// What the texts do to the settings of which they tell.
    fn follow_texts(&self, known: &Params, there: &mut Params) {
        for name in self.reset_names(known) {
            if !known.is_reported(name) && !name.contains(&b'.') {
                there.remove(name);
            }
        }
        for (name, value) in &self.sets {
            match value {
                Value::Known(value) if value.is_empty() && name.contains(&b'.') => {
                    clear(there, name);
                }
                Value::Known(value) => note(there, name, Some(value)),
                Value::Literal(_) | Value::Unknown => {}
            }
        }
    }

    /// Keeps for others what the server has made of literals.
    pub fn teach(&self, finding: &Finding, values: &Values) {
        if !self.is_certain() {
            return;
        }
        for row in &finding.rows {
            if let Some(([b'=', name @ ..], Some(value))) = names::two_columns(row)
                && let Some(Value::Literal(literal)) = self.sets.get(name)
            {
                values.learn(name, literal, value);
            }
        }
    }

    /// Whether the client has had to do with the name of a setting.
    fn concerns(&self, name: &[u8], known: &Params) -> bool {
        self.sets.contains_key(name) || self.resets.contains(name) || known.get(name).is_some()
    }

    /// The settings that have a value of the session's own.
    fn changed(
        &self,
        rows: &[Row<'_>],
        known: &Params,
        told: Option<&Params>,
        there: &Params,
    ) -> Names {
        if self.is_certain() {
            let role = there.get(ROLE).map(|_| ROLE.into());
            return self.sets.keys().cloned().chain(role).collect();
        }
        // An empty one of an application may have been set so or reset.
        let is_set = |name: &[u8]| {
            let was_empty = known.get(name) == Some(b"") && !self.resets_all;
            self.sets.contains_key(name) || (was_empty && !self.resets.contains(name))
        };
        let listed = rows.iter().map(|(name, _)| name.to_ascii_lowercase());
        let unlisted = there.unreported().filter(|(name, _)| is_unlisted(name));
        let unlisted = unlisted.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let unlisted = unlisted.filter(|(name, value)| !value.is_empty() || is_set(name));
        // One that the client has set, and whose default on the server is the same, may
        // be there without having been set.
        let untouched = there.reported().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            self.is_untouched(&name, value, told).then_some(name)
        });
        let names = listed.chain(unlisted.map(|(name, _)| name));
        let names = names.chain(untouched);
        names.map(Vec::into_boxed_slice).collect()
    }
}

/// What a setting was set to.
#[derive(Debug)]
enum Value {
    /// As the server shows it.
    Known(Box<[u8]>),
    /// As the text has it.
    Literal(Box<[u8]>),
    Unknown,
}

impl Value {
    fn is_known(&self) -> bool {
        matches!(self, Value::Known(_))
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
    at_defaults: AtDefaults,
}

/// Which settings have no value of the session's own, as far as that is new.
#[derive(Debug)]
enum AtDefaults {
    AllBut(Names),
    Only(Names),
}

impl AtDefaults {
    fn has(&self, name: &[u8]) -> bool {
        match self {
            AtDefaults::AllBut(names) => !names.contains(name),
            AtDefaults::Only(names) => names.contains(name),
        }
    }
}

impl Stock {
    /// What its client is to have, which may be more: the values that it began with
    /// are its defaults.
    pub fn of_client(&self, start: &Params) -> Params {
        let mut mine = self.params.clone();
        for (name, value) in start.iter().filter(|(name, _)| !is_fixed(name)) {
            if self.at_defaults.has(&name.to_ascii_lowercase()) && mine.get(name) != Some(value) {
                mine.set(name, value, false);
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
    if params.is_reported(name) || OF_TRANSACTIONS.contains(&name) {
        // The server says so itself, or it ends with the transaction.
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

#[cfg(test)]
mod tests;
