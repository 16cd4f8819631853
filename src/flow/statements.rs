//! Prepared statements, shared by text among all clients and servers.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::{FixedState, RandomState};
use hashbrown::HashTable;

use super::meaning::{Meaning, Meanings, unsettles};
use super::params::Params;
use super::schema::Schema;
use crate::sql::effects::Effects;
use crate::wire::names;

/// A statement: its query text, the types that the client declared, the settings
/// that it is analysed under, and the schema.
#[derive(Debug)]
pub struct Text {
    /// Unique in this process, never 0.
    pub id: u64,
    /// Its name on servers: `pgweir_<id>`, or a client's own ([`Statements::called`]).
    pub server_name: Box<[u8]>,
    /// Body of a Parse message after the name.
    pub definition: Arc<[u8]>,
    /// What it may leave in the session that runs it.
    pub effects: Option<Box<Effects>>,
    meaning: Arc<Meaning>,
    /// Of the schema when a client asked for it. Who asks later may be told of
    /// other columns; those who know these must not be given others.
    edition: u64,
    /// A digest of the columns that clients were told of; 0 if none was yet.
    columns: AtomicU64,
    /// What is sent after it may mean something else than before.
    pub unsettles: bool,
    hash: u64,
}

impl Text {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Text>() + self.server_name.len() + self.definition.len()
    }

    /// Whether its bytes below 128 are the ASCII that they look like, and its
    /// backslashes are nothing else.
    pub fn is_plain(&self) -> bool {
        self.meaning.is_plain(&self.definition)
    }

    /// Whether it means the same to a session that has `params`.
    #[inline]
    pub(super) fn suits(&self, params: &Params) -> bool {
        self.meaning.id() == params.meaning().id()
    }

    /// Whether clients may go by what they were told of its columns.
    pub(super) fn has_known_columns(&self) -> bool {
        self.columns.load(Ordering::Relaxed) != 0
    }

    /// Whether they are the columns of this RowDescription or NoData; those that
    /// come first are.
    pub(super) fn has_columns(&self, description: &[u8]) -> bool {
        let (now, order) = (digest_of_columns(description), Ordering::Relaxed);
        let known = self.columns.compare_exchange(0, now, order, order);
        known.unwrap_or_else(|known| if known == now { 0 } else { known }) == 0
    }

    /// Whether a client has asked for it since the schema was last changed.
    pub(super) fn is_of(&self, schema: &Schema) -> bool {
        self.edition == schema.edition()
    }

    fn key(&self) -> Key<'_> {
        Key {
            definition: &self.definition,
            meaning: &self.meaning,
            edition: self.edition,
        }
    }
}

/// Of a RowDescription or NoData: of all that a plan may not change, which is
/// names, types and their modifiers.
fn digest_of_columns(description: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    let mut rest = description.get(2..).unwrap_or_default();
    while let Some((name, column)) = names::split_nul(rest)
        && let Some((column, after)) = column.split_at_checked(18)
    {
        // Between the column's place in a table and its format.
        (name, column.get(6..16)).hash(&mut hasher);
        rest = after;
    }
    hasher.finish().max(1)
}

/// What makes two statements the same.
#[derive(Clone, Copy)]
struct Key<'a> {
    definition: &'a [u8],
    meaning: &'a Arc<Meaning>,
    edition: u64,
}

impl Key<'_> {
    fn is_of(self, hash: u64, text: &Text) -> bool {
        text.hash == hash && text.key() == self
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.meaning.id() == other.meaning.id()
            && self.edition == other.edition
            && self.definition == other.definition
    }
}

/// The texts that some worker has. All workers give a statement the same name,
/// so a server connection that moves from one to another is still good for it.
#[derive(Debug, Default)]
pub struct Texts {
    table: Mutex<TextTable>,
    hasher: RandomState,
    meanings: Arc<Meanings>,
    schemas: Mutex<HashMap<Box<str>, Arc<Schema>, RandomState>>,
}

#[derive(Debug, Default)]
struct TextTable {
    texts: HashTable<Arc<Text>>,
    last_id: u64,
    sweep_at: usize,
}

impl Texts {
    /// For a process that takes the place of another, which has given numbers up to
    /// this one: no name on a server means two statements.
    pub fn beginning_after(last_id: u64) -> Texts {
        let texts = Texts::default();
        texts.lock().last_id = last_id;
        texts
    }

    /// The number that was given last.
    pub fn last_id(&self) -> u64 {
        self.lock().last_id
    }

    /// What sets of parameters make of texts, for [`ParamTable`](super::ParamTable).
    pub fn meanings(&self) -> &Arc<Meanings> {
        &self.meanings
    }

    /// The schema of the databases that servers know by this name.
    pub fn schema(&self, dbname: &str) -> Arc<Schema> {
        let mut all = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(dbname) {
            return known.clone();
        }
        all.retain(|_, schema| Arc::strong_count(schema) > 1);
        all.entry(dbname.into()).or_default().clone()
    }

    fn hash(&self, key: Key<'_>) -> u64 {
        let parts = (key.definition, key.meaning.id(), key.edition);
        self.hasher.hash_one(parts)
    }

    fn intern(&self, hash: u64, key: Key<'_>) -> Arc<Text> {
        let mut table = self.lock();
        let same = |text: &Arc<Text>| key.is_of(hash, text);
        if let Some(known) = table.texts.find(hash, same) {
            return known.clone();
        }
        if table.texts.len() >= table.sweep_at {
            table.texts.retain(|text| Arc::strong_count(text) > 1);
            table.sweep_at = 256.max(2 * table.texts.len());
        }
        table.last_id += 1;
        let (query, _) = names::split_nul(key.definition).unwrap_or_default();
        let text = Arc::new(Text {
            id: table.last_id,
            server_name: format!("pgweir_{}", table.last_id).into_bytes().into(),
            definition: key.definition.into(),
            meaning: key.meaning.clone(),
            edition: key.edition,
            columns: AtomicU64::new(0),
            effects: Effects::of(query, key.meaning.dialect()),
            unsettles: unsettles(query),
            hash,
        });
        table
            .texts
            .insert_unique(hash, text.clone(), |text| text.hash);
        text
    }

    fn called(&self, name: &[u8], statement: &Text) -> Arc<Text> {
        let meaning = Meaning::unknown();
        let hash = self.hash(Key {
            meaning: &meaning,
            ..statement.key()
        });
        let mut table = self.lock();
        table.last_id += 1;
        Arc::new(Text {
            id: table.last_id,
            server_name: name.into(),
            definition: statement.definition.clone(),
            effects: statement.effects.clone(),
            meaning,
            edition: statement.edition,
            columns: AtomicU64::new(statement.columns.load(Ordering::Relaxed)),
            unsettles: statement.unsettles,
            hash,
        })
    }

    fn lock(&self) -> MutexGuard<'_, TextTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text as one worker has it: cloned without an atomic operation.
#[derive(Debug)]
pub struct Statement(Arc<Text>);

impl Statement {
    /// For another worker.
    pub fn text(&self) -> &Arc<Text> {
        &self.0
    }
}

impl Deref for Statement {
    type Target = Text;

    fn deref(&self) -> &Text {
        &self.0
    }
}

/// The table of all statements that some client or server of this worker
/// holds. The text is kept once however many hold it, and goes when nobody
/// does.
#[derive(Debug, Default)]
pub struct Statements {
    table: HashTable<Rc<Statement>>,
    texts: Arc<Texts>,
    sweep_at: usize,
}

impl Statements {
    /// A worker's table; the process's `texts` are asked about what is new
    /// here.
    pub fn new(texts: Arc<Texts>) -> Self {
        Statements {
            texts,
            ..Statements::default()
        }
    }

    /// The one statement with this definition for all sessions to which it means
    /// what it means to one that has `params` and asks for it now that the schema
    /// is of this `edition`.
    pub fn intern(&mut self, definition: &[u8], params: &Params, edition: u64) -> Rc<Statement> {
        self.with(Key {
            definition,
            meaning: params.meaning(),
            edition,
        })
    }

    /// A statement that is shared with nobody: what it means is not known.
    pub fn unshared(&mut self, definition: &[u8]) -> Rc<Statement> {
        self.with(Key {
            definition,
            meaning: &Meaning::unknown(),
            edition: 0,
        })
    }

    /// The statement under a name of its client's, shared with nobody.
    pub fn called(&mut self, name: &[u8], statement: &Text) -> Rc<Statement> {
        let text = self.texts.called(name, statement);
        self.insert(text)
    }

    /// What the statement is to a session that has `params`; its client has not
    /// asked for it again.
    pub fn under(&mut self, statement: &Text, params: &Params, schema: &Schema) -> Rc<Statement> {
        let edition = match statement.edition {
            0 => schema.edition(),
            edition => edition,
        };
        self.intern(&statement.definition, params, edition)
    }

    fn with(&mut self, key: Key<'_>) -> Rc<Statement> {
        let hash = self.texts.hash(key);
        let same = |s: &Rc<Statement>| key.is_of(hash, s);
        if let Some(known) = self.table.find(hash, same) {
            return known.clone();
        }
        let text = self.texts.intern(hash, key);
        self.insert(text)
    }

    /// The schema of the databases that servers know by this name.
    pub fn schema(&self, dbname: &str) -> Arc<Schema> {
        self.texts.schema(dbname)
    }

    /// The statement that another worker knows by this text.
    pub fn adopt(&mut self, text: Arc<Text>) -> Rc<Statement> {
        let same = |s: &Rc<Statement>| s.id == text.id;
        match self.table.find(text.hash, same) {
            Some(known) => known.clone(),
            None => self.insert(text),
        }
    }

    fn insert(&mut self, text: Arc<Text>) -> Rc<Statement> {
        if self.table.len() >= self.sweep_at {
            self.table.retain(|s| Rc::strong_count(s) > 1);
            self.sweep_at = 256.max(2 * self.table.len());
        }
        let hash = text.hash;
        let statement = Rc::new(Statement(text));
        self.table
            .insert_unique(hash, statement.clone(), |s| s.hash);
        statement
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Statement>> {
        self.table.iter()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::ParamTable;

    #[test]
    fn the_same_text_is_kept_once() {
        let mut all = Statements::default();
        let a = all.intern(b"select 1\0\0\0", &Params::default(), 1);
        let b = all.intern(b"select 1\0\0\0", &Params::default(), 1);
        let c = all.intern(b"select 2\0\0\0", &Params::default(), 1);
        assert!(Rc::ptr_eq(&a, &b));
        assert_ne!(a.id, c.id);
        assert_eq!(&*a.server_name, b"pgweir_1");
    }

    #[test]
    fn workers_agree_on_names() {
        let texts = Arc::new(Texts::default());
        let mut here = Statements::new(texts.clone());
        let mut there = Statements::new(texts.clone());
        let a = here.intern(b"select 1\0\0\0", &Params::default(), 1);
        there.intern(b"select 2\0\0\0", &Params::default(), 1);
        assert_eq!(
            there.intern(b"select 1\0\0\0", &Params::default(), 1).id,
            a.id
        );
        let mut params = Params::default();
        params.set(b"TimeZone", b"UTC", true);
        let params = ParamTable::new(texts.meanings().clone()).intern(params);
        assert_ne!(there.intern(b"select 1\0\0\0", &params, 1).id, a.id);
        assert_ne!(
            there.intern(b"select 1\0\0\0", &Params::default(), 2).id,
            a.id
        );
        let b = here.intern(b"select 3\0\0\0", &Params::default(), 1);
        let moved = there.adopt(b.text().clone());
        assert!(Rc::ptr_eq(
            &moved,
            &there.intern(b"select 3\0\0\0", &Params::default(), 1)
        ));
        assert_eq!(moved.server_name, b.server_name);
    }

    #[test]
    fn numbers_go_on() {
        let texts = Texts::beginning_after(7);
        assert_eq!(texts.last_id(), 7);
        let mut all = Statements::new(Arc::new(texts));
        let next = all.intern(b"select 1\0\0\0", &Params::default(), 1);
        assert_eq!((next.id, all.texts.last_id()), (8, 8));
    }

    #[test]
    fn what_is_unshared_stays_so() {
        let mut all = Statements::default();
        let a = all.unshared(b"select 1\0\0\0");
        assert_ne!(all.unshared(b"select 1\0\0\0").id, a.id);
        assert_ne!(
            all.intern(b"select 1\0\0\0", &Params::default(), 1).id,
            a.id
        );
        assert!(!a.suits(&Params::default()));
    }

    #[test]
    fn columns_are_told_apart() {
        let column = |name: &str, table: u8, kind: u8, format: u8| {
            let mut column = name.as_bytes().to_vec();
            column.extend([0, 0, 0, 0, table, 0, 1, 0, 0, 0, kind]);
            column.extend([0, 4, 255, 255, 255, 255, 0, format]);
            column
        };
        let all = |columns: &[Vec<u8>]| [vec![0, columns.len() as u8], columns.concat()].concat();
        let mut statements = Statements::default();
        let statement = statements.intern(b"select 1\0\0\0", &Params::default(), 1);
        assert!(!statement.has_known_columns());
        let known = all(&[column("a", 1, 23, 0), column("b", 1, 25, 0)]);
        assert!(statement.has_columns(&known));
        assert!(statement.has_known_columns() && statement.has_columns(&known));
        // Another table with the same columns, in another format.
        assert!(statement.has_columns(&all(&[column("a", 2, 23, 1), column("b", 2, 25, 1)])));
        for others in [
            all(&[]),
            all(&[column("a", 1, 23, 0)]),
            all(&[column("a", 1, 20, 0), column("b", 1, 25, 0)]),
            all(&[column("b", 1, 23, 0), column("a", 1, 25, 0)]),
        ] {
            assert!(!statement.has_columns(&others));
        }
    }

    #[test]
    fn a_database_has_one_schema() {
        let texts = Texts::default();
        let before = texts.schema("a").edition();
        let kept = texts.schema("a");
        kept.change();
        assert_ne!(texts.schema("a").edition(), before);
        assert_eq!(texts.schema("b").edition(), before);
    }

    #[test]
    fn what_nobody_holds_goes() {
        let mut all = Statements::default();
        let kept = all.intern(b"kept\0\0\0", &Params::default(), 1);
        for i in 0..10_000 {
            all.intern(
                format!("select {i}\0\0\0").as_bytes(),
                &Params::default(),
                1,
            );
        }
        assert!(all.len() <= 257, "{}", all.len());
        let texts = all.texts.table.lock().unwrap().texts.len();
        assert!(texts <= 3 * 257, "{texts}");
        assert!(Rc::ptr_eq(
            &kept,
            &all.intern(b"kept\0\0\0", &Params::default(), 1)
        ));
    }
}
