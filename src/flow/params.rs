//! A session's parameters: those that the server reports (ParameterStatus) and
//! those that the client set in its startup packet.

use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::meaning::{Meaning, Meanings};
use crate::sql::{Encoding, quote_literal};

/// Reported by the server but not to be set by anybody. Manual,
/// "Asynchronous Operations" of the protocol; guc_tables.c, GUC_REPORT.
const FIXED: [&[u8]; 6] = [
    b"in_hot_standby",
    b"integer_datetimes",
    b"is_superuser",
    b"server_encoding",
    b"server_version",
    b"session_authorization",
];

/// The setting that SET ROLE sets.
pub(super) const ROLE: &[u8] = b"role";

/// Whether a reported parameter says something about the server rather than
/// the session.
pub fn is_fixed(name: &[u8]) -> bool {
    FIXED.iter().any(|fixed| name.eq_ignore_ascii_case(fixed))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Param {
    /// Lower case; the list is sorted by it.
    key: Box<[u8]>,
    /// As the server spells it.
    name: Box<[u8]>,
    value: Box<[u8]>,
    /// The server reports it; otherwise it came with a startup packet.
    reported: bool,
}

/// An immutable set of parameters. Equal sets are the same `Rc` (see
/// [`ParamTable`]), so "does this server fit this client?" is one comparison
/// of pointers. Copies for other workers share the list.
#[derive(Clone, Debug, Default)]
pub struct Params {
    list: Arc<Vec<Param>>,
    /// What the list makes of texts; known of sets in a [`ParamTable`].
    meaning: Arc<Meaning>,
}

impl PartialEq for Params {
    fn eq(&self, other: &Params) -> bool {
        self.list == other.list
    }
}

impl Eq for Params {}

impl Hash for Params {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.list.hash(state);
    }
}

impl Params {
    /// Under which a session that has these analyses its statements.
    #[inline]
    pub(super) fn meaning(&self) -> &Arc<Meaning> {
        &self.meaning
    }

    /// The value of a parameter, whatever the case of `name`.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.find(&name.to_ascii_lowercase()).ok()?;
        Some(&self.list.get(at)?.value)
    }

    /// Sets a parameter. One that was ever reported stays so.
    pub fn set(&mut self, name: &[u8], value: &[u8], reported: bool) {
        let key = name.to_ascii_lowercase();
        let at = self.find(&key);
        let list = self.list_mut();
        match at {
            Ok(at) => {
                if let Some(param) = list.get_mut(at) {
                    param.value = value.into();
                    if reported {
                        param.name = name.into();
                        param.reported = true;
                    }
                }
            }
            Err(at) => list.insert(
                at,
                Param {
                    key: key.into(),
                    name: name.into(),
                    value: value.into(),
                    reported,
                },
            ),
        }
    }

    /// These with what a server reports.
    pub fn with_reported_of(&self, server: &Params) -> Params {
        let mut params = self.clone();
        for (name, value) in server.reported() {
            params.set(name, value, true);
        }
        params
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Box<[u8]>> {
        let at = self.find(&name.to_ascii_lowercase()).ok()?;
        Some(self.list_mut().remove(at).value)
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let texts = |p: &Param| p.key.len() + p.name.len() + p.value.len();
        let list = self.list.iter().map(|p| size_of::<Param>() + texts(p));
        size_of::<Params>() + list.sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Name and value of all.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|p| (&*p.name, &*p.value))
    }

    /// Name and value of all, and whether the server reports it.
    pub fn each(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        self.list.iter().map(|p| (&*p.name, &*p.value, p.reported))
    }

    /// What a server reports: name and value, in the order of names.
    pub fn reported(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let reported = self.list.iter().filter(|p| p.reported);
        reported.map(|p| (&*p.name, &*p.value))
    }

    /// What only a client has asked for: name and value.
    pub fn unreported(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let unreported = self.list.iter().filter(|p| !p.reported);
        unreported.map(|p| (&*p.name, &*p.value))
    }

    /// Whether the server reports it.
    pub fn is_reported(&self, name: &[u8]) -> bool {
        let param = self.find(&name.to_ascii_lowercase());
        param.is_ok_and(|at| self.list.get(at).is_some_and(|p| p.reported))
    }

    /// Forgets everything that the server does not report: after `RESET ALL`
    /// and `DISCARD ALL` those have the server's own values.
    pub fn forget_unreported(&mut self) {
        self.list_mut().retain(|p| p.reported);
    }

    /// What to change in a session that has `self` so that it has `wanted`:
    /// name and new value, `None` for the server's default; in this order, as
    /// the role may not be allowed to set the others.
    pub fn changes_to<'a>(&'a self, wanted: &'a Params) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
        let settable = |p: &&Param| !is_fixed(&p.key);
        let mut changes = Vec::new();
        for param in wanted.list.iter().filter(settable) {
            if self.get(&param.key) != Some(&param.value) {
                changes.push((&*param.name, Some(&*param.value)));
            }
        }
        for param in self.list.iter().filter(settable) {
            // What is empty may be so because it was set so.
            if wanted.find(&param.key).is_err() {
                changes.push((&*param.name, None));
            }
        }
        // Others are converted from it.
        changes.sort_by_key(|(name, _)| !name.eq_ignore_ascii_case(b"client_encoding"));
        if !changes.is_empty() && (self.get(ROLE).is_some() || wanted.get(ROLE).is_some()) {
            changes.retain(|(name, _)| !name.eq_ignore_ascii_case(ROLE));
            changes.insert(0, (ROLE, None));
            changes.extend(wanted.get(ROLE).map(|role| (ROLE, Some(role))));
        }
        changes
    }

    /// `self` with the fixed parameters of `server`; and those which differ.
    pub fn with_fixed_of(&self, server: &Params) -> (Params, Vec<NameValue>) {
        let mut params = self.clone();
        let mut news = Vec::new();
        // Whether somebody is a superuser follows from the role.
        let is_news = |p: &&Param| is_fixed(&p.key) && *p.key != *b"is_superuser";
        for param in server.list.iter().filter(is_news) {
            if self.get(&param.key) != Some(&param.value) {
                params.set(&param.name, &param.value, true);
                news.push((param.name.clone(), param.value.clone()));
            }
        }
        (params, news)
    }

    fn list_mut(&mut self) -> &mut Vec<Param> {
        self.meaning = Arc::default();
        Arc::make_mut(&mut self.list)
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.list.binary_search_by(|p| (*p.key).cmp(key))
    }
}

/// Appends the statement that makes `changes`, whose values are in the encoding
/// that the session has with them. `set_config` takes every value as one string, which SET
/// does not for lists such as `search_path`; NULL is RESET (guc_funcs.c,
/// `set_config_by_name`).
///
/// The text is plain ASCII: the server would convert it from the encoding that
/// the session has before the change.
pub fn set_statement(out: &mut Vec<u8>, changes: &[(&[u8], Option<&[u8]>)]) {
    out.extend_from_slice(b"SELECT ");
    for (i, (name, value)) in changes.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"pg_catalog.set_config(");
        text(out, name, None);
        out.extend_from_slice(b", ");
        match value {
            Some(b"") if name.contains(&b'.') => empty(out, name),
            Some(value) => text(out, value, None),
            None => out.extend_from_slice(b"NULL"),
        }
        out.extend_from_slice(b", false)");
    }
}

/// Appends the value of a setting with a dot that was found empty: it was set so, or
/// reset where nobody knows it. If a library here knows it, NULL, which is its
/// default; it may refuse nothing at all.
fn empty(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(b"CASE WHEN pg_catalog.set_config(");
    text(out, name, None);
    out.extend_from_slice(
        b", NULL, false) <> '' AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings s \
        WHERE pg_catalog.lower(s.name) = pg_catalog.lower(",
    );
    text(out, name, None);
    out.extend_from_slice(b")) THEN '' END");
}

/// Appends the statement that gives settings these values again where they are at
/// the server's defaults, in the same way. A setting of an application is so if it
/// is empty. What the present role may not set is left alone.
pub fn restore_statement<'a>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    client_encoding: &[u8],
) {
    out.extend_from_slice(b"SELECT pg_catalog.set_config(own.name, value, false) FROM (VALUES ");
    for (i, (name, value)) in values.enumerate() {
        out.extend_from_slice(if i > 0 { b", (" } else { b"(" });
        text(out, name, Some(client_encoding));
        out.extend_from_slice(b", ");
        text(out, value, Some(client_encoding));
        out.push(b')');
    }
    out.extend_from_slice(
        b") AS own (name, value) LEFT JOIN pg_catalog.pg_settings s \
        ON pg_catalog.lower(s.name) = own.name WHERE CASE WHEN own.name LIKE '%.%' \
        THEN COALESCE(pg_catalog.current_setting(own.name, true), '') = '' \
        ELSE pg_catalog.current_setting(own.name, true) IS DISTINCT FROM value \
        AND source <> 'session' END AND (context IS NULL OR context = 'user' \
        OR pg_catalog.current_setting('is_superuser')::bool)",
    );
}

/// Appends an expression for `value`. `encoding`: that of the session if not given.
fn text(out: &mut Vec<u8>, value: &[u8], encoding: Option<&[u8]>) {
    if value.is_ascii() && quote_literal(value, Encoding::AsciiSafe, out).is_ok() {
        return;
    }
    out.extend_from_slice(b"pg_catalog.convert_from(pg_catalog.decode('");
    for byte in value {
        out.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    out.extend_from_slice(b"', 'hex'), ");
    let Some(encoding) = encoding else {
        out.extend_from_slice(b"pg_catalog.current_setting('client_encoding'))");
        return;
    };
    // The name of an encoding is ASCII; anything else the server refuses.
    let name = String::from_utf8_lossy(encoding).replace(|c: char| !c.is_ascii(), "?");
    if quote_literal(&name, Encoding::AsciiSafe, out).is_err() {
        out.extend_from_slice(b"NULL");
    }
    out.push(b')');
}

/// A parameter's name and its value.
pub type NameValue = (Box<[u8]>, Box<[u8]>);

/// Makes equal sets one. A set that nobody holds is dropped when the table has
/// doubled.
#[derive(Debug, Default)]
pub struct ParamTable {
    sets: HashSet<Rc<Params>, RandomState>,
    /// What logins make of the server's parameters, the last one first: programs ask for
    /// the same each time.
    logins: VecDeque<Login>,
    meanings: Arc<Meanings>,
    sweep_at: usize,
}

/// So many are kept.
const LOGINS: usize = 16;

#[derive(Debug)]
struct Login {
    /// The list itself: what a server reports is copied without copying it.
    server: Arc<Vec<Param>>,
    asked: Params,
    set: Rc<Params>,
}

impl ParamTable {
    /// A worker's table; what sets mean is the whole process's.
    pub fn new(meanings: Arc<Meanings>) -> Self {
        ParamTable {
            meanings,
            ..ParamTable::default()
        }
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Params>> {
        self.sets.iter()
    }

    /// The one `Rc` for what a server reports and what a client has asked for.
    pub fn of_login(&mut self, server: &Params, asked: &Params) -> Rc<Params> {
        let is_known = |login: &Login| {
            Arc::ptr_eq(&login.server, &server.list) && login.asked.list == asked.list
        };
        let known = self.logins.iter().position(is_known);
        if let Some(login) = known.and_then(|at| self.logins.remove(at)) {
            let set = login.set.clone();
            self.logins.push_front(login);
            return set;
        }
        let mut wanted = server.clone();
        for (name, value) in asked.iter() {
            wanted.set(name, value, false);
        }
        let set = self.intern(wanted);
        self.logins.truncate(LOGINS - 1);
        self.logins.push_front(Login {
            server: server.list.clone(),
            asked: asked.clone(),
            set: set.clone(),
        });
        set
    }

    /// The one `Rc` for this set.
    pub fn intern(&mut self, mut params: Params) -> Rc<Params> {
        if let Some(known) = self.sets.get(&params) {
            return known.clone();
        }
        if self.sets.len() >= self.sweep_at {
            self.logins.clear();
            self.sets.retain(|set| Rc::strong_count(set) > 1);
            self.sweep_at = 64.max(2 * self.sets.len());
        }
        let settings = params.list.iter().map(|p| (&*p.key, &*p.value));
        params.meaning = self.meanings.of(settings);
        let params = Rc::new(params);
        self.sets.insert(params.clone());
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(list: &[(&str, &str, bool)]) -> Params {
        let mut params = Params::default();
        for (name, value, reported) in list {
            params.set(name.as_bytes(), value.as_bytes(), *reported);
        }
        params
    }

    #[test]
    fn what_logins_ask_for_again_is_found_again() {
        let mut table = ParamTable::default();
        let server = params(&[("TimeZone", "UTC", true), ("application_name", "", true)]);
        let asked = |name: &str| params(&[("application_name", name, false)]);
        let first = table.of_login(&server, &asked("one"));
        assert_eq!(first.get(b"application_name"), Some(b"one".as_slice()));
        assert_eq!(first.get(b"timezone"), Some(b"UTC".as_slice()));
        for other in 0..3 * LOGINS {
            table.of_login(&server, &asked(&other.to_string()));
            assert!(Rc::ptr_eq(
                &first,
                &table.of_login(&server.clone(), &asked("one"))
            ));
        }
        assert_eq!(table.logins.len(), LOGINS);
        let elsewhere = params(&[("TimeZone", "Asia/Tokyo", true)]);
        let second = table.of_login(&elsewhere, &asked("one"));
        assert_eq!(second.get(b"timezone"), Some(b"Asia/Tokyo".as_slice()));
    }

    #[test]
    fn equal_sets_are_one_and_unused_ones_go() {
        let mut table = ParamTable::default();
        let a = table.intern(params(&[("TimeZone", "UTC", true), ("a", "1", false)]));
        let b = table.intern(params(&[("a", "1", false), ("TimeZone", "UTC", true)]));
        assert!(Rc::ptr_eq(&a, &b));
        for i in 0..1000 {
            table.intern(params(&[("a", &i.to_string(), false)]));
        }
        assert!(table.sets.len() <= 65, "{}", table.sets.len());
        assert!(Rc::ptr_eq(&a, &table.intern((*a).clone())));
    }

    #[test]
    fn only_differences_are_set_and_names_have_no_case() {
        let server = params(&[
            ("TimeZone", "UTC", true),
            ("server_version", "15", true),
            ("work_mem", "1MB", false),
            ("application_name", "", true),
        ]);
        let client = params(&[
            ("timezone", "Asia/Tokyo", false),
            ("server_version", "16", true),
            ("application_name", "", true),
            ("search_path", r#""$user", o'\x"#, false),
        ]);
        let mut sql = Vec::new();
        set_statement(&mut sql, &server.changes_to(&client));
        assert_eq!(
            String::from_utf8(sql).unwrap(),
            r#"SELECT pg_catalog.set_config('search_path',  E'"$user", o''\\x', false), pg_catalog.set_config('timezone', 'Asia/Tokyo', false), pg_catalog.set_config('work_mem', NULL, false)"#
        );
        assert!(server.changes_to(&server).is_empty());
        let named = params(&[("app.a", "", false)]);
        assert_eq!(
            named.changes_to(&Params::default()),
            [(&b"app.a"[..], None)]
        );
        let mut sql = Vec::new();
        set_statement(&mut sql, &Params::default().changes_to(&named));
        assert_eq!(
            String::from_utf8(sql).unwrap().replace("pg_catalog.", ""),
            "SELECT set_config('app.a', CASE WHEN set_config('app.a', NULL, false) <> '' \
             AND NOT EXISTS (SELECT FROM pg_settings s WHERE lower(s.name) = lower('app.a')) \
             THEN '' END, false)"
        );
        let (client, news) = client.with_fixed_of(&server);
        assert_eq!(client.get(b"SERVER_VERSION"), Some(&b"15"[..]));
        assert_eq!(news.len(), 1);
    }

    #[test]
    fn other_settings_are_set_before_the_role() {
        let sql = |from: &Params, to: &Params| {
            let mut sql = Vec::new();
            set_statement(&mut sql, &from.changes_to(to));
            String::from_utf8(sql)
                .unwrap()
                .replace("pg_catalog.set_config", "")
        };
        let bob = params(&[("role", "bob", false), ("work_mem", "1MB", false)]);
        let eve = params(&[("role", "eve", false), ("a", "1", false)]);
        assert_eq!(
            sql(&bob, &eve),
            "SELECT ('role', NULL, false), ('a', '1', false), ('work_mem', NULL, false), \
             ('role', 'eve', false)"
        );
        assert_eq!(sql(&Params::default(), &eve).matches("role").count(), 2);
        assert!(bob.changes_to(&bob).is_empty());
        let none = params(&[("a", "1", false)]);
        assert_eq!(sql(&eve, &none), "SELECT ('role', NULL, false)");
    }

    #[test]
    fn the_statement_is_ascii_whatever_the_encoding() {
        let mut sql = Vec::new();
        let value: &[u8] = b"\x83\\'";
        set_statement(&mut sql, &[(b"search_path", Some(value))]);
        assert_eq!(
            String::from_utf8(sql).unwrap(),
            "SELECT pg_catalog.set_config('search_path', \
             pg_catalog.convert_from(pg_catalog.decode('835c27', 'hex'), \
             pg_catalog.current_setting('client_encoding')), false)"
        );
    }

    #[test]
    fn forgetting_keeps_what_is_reported() {
        let mut set = params(&[("a", "1", false), ("TimeZone", "UTC", true)]);
        set.forget_unreported();
        assert_eq!(set.get(b"a"), None);
        assert_eq!(set.reported().count(), 1);
    }
}
