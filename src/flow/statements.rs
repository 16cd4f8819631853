//! Prepared statements, shared by text among all clients and servers.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::sql::effects::Effects;
use crate::sql::{Dialect, Encoding};
use crate::wire::names;

/// A statement: its query text and the types that the client declared.
#[derive(Debug)]
pub struct Text {
    /// Unique in this process, never 0.
    pub id: u64,
    /// Its name on servers: `pgweir_<id>`.
    pub server_name: Box<[u8]>,
    /// Body of a Parse message after the name.
    pub definition: Box<[u8]>,
    /// What it may leave in the session that runs it.
    pub effects: Option<Box<Effects>>,
    /// What else its meaning depends on, see [`Statements::intern`].
    manner: Box<[u8]>,
    hash: u64,
}

impl Text {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Text>() + self.server_name.len() + self.definition.len() + self.manner.len()
    }

    /// Whether its bytes below 128 are the ASCII that they look like, and its
    /// backslashes are nothing else.
    pub fn is_plain(&self) -> bool {
        let safe = || Encoding::of_client_encoding(&self.manner) == Encoding::AsciiSafe;
        self.manner.is_empty() || (!self.manner.contains(&b'\\') && safe())
    }

    fn is(&self, hash: u64, definition: &[u8], manner: &[u8]) -> bool {
        self.hash == hash && *self.definition == *definition && *self.manner == *manner
    }
}

/// The texts that some worker has. All workers give a statement the same name,
/// so a server connection that moves from one to another is still good for it.
#[derive(Debug, Default)]
pub struct Texts {
    table: Mutex<TextTable>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct TextTable {
    texts: HashTable<Arc<Text>>,
    last_id: u64,
    sweep_at: usize,
}

impl Texts {
    fn intern(&self, hash: u64, definition: &[u8], manner: &[u8]) -> Arc<Text> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |text: &Arc<Text>| text.is(hash, definition, manner);
        if let Some(known) = table.texts.find(hash, same) {
            return known.clone();
        }
        if table.texts.len() >= table.sweep_at {
            table.texts.retain(|text| Arc::strong_count(text) > 1);
            table.sweep_at = 256.max(2 * table.texts.len());
        }
        table.last_id += 1;
        let text = Arc::new(Text {
            id: table.last_id,
            server_name: format!("pgweir_{}", table.last_id).into_bytes().into(),
            definition: definition.into(),
            effects: effects(definition, manner),
            manner: manner.into(),
            hash,
        });
        table
            .texts
            .insert_unique(hash, text.clone(), |text| text.hash);
        text
    }
}

fn effects(definition: &[u8], manner: &[u8]) -> Option<Box<Effects>> {
    let (text, _) = names::split_nul(definition)?;
    let escapes = manner.contains(&b'\\');
    let encoding: Vec<u8> = manner.iter().copied().filter(|&b| b != b'\\').collect();
    let encoding = match encoding.is_empty() {
        true => Encoding::AsciiSafe,
        false => Encoding::of_client_encoding(&encoding),
    };
    let dialect = Dialect {
        standard_conforming_strings: !escapes,
        encoding,
    };
    Effects::of(text, dialect)
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

    /// The one statement with this definition. `manner`: what its meaning depends on
    /// besides its bytes. That is the `client_encoding` unless it is plain ASCII, and
    /// a backslash if backslashes escape in its strings; mostly it is empty.
    pub fn intern(&mut self, definition: &[u8], manner: &[u8]) -> Rc<Statement> {
        let hash = self.texts.hasher.hash_one(definition);
        let same = |s: &Rc<Statement>| s.is(hash, definition, manner);
        if let Some(known) = self.table.find(hash, same) {
            return known.clone();
        }
        let text = self.texts.intern(hash, definition, manner);
        self.insert(text)
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

    #[test]
    fn the_same_text_is_kept_once() {
        let mut all = Statements::default();
        let a = all.intern(b"select 1\0\0\0", b"");
        let b = all.intern(b"select 1\0\0\0", b"");
        let c = all.intern(b"select 2\0\0\0", b"");
        assert!(Rc::ptr_eq(&a, &b));
        assert_ne!(a.id, c.id);
        assert_eq!(&*a.server_name, b"pgweir_1");
    }

    #[test]
    fn workers_agree_on_names() {
        let texts = Arc::new(Texts::default());
        let mut here = Statements::new(texts.clone());
        let mut there = Statements::new(texts);
        let a = here.intern(b"select 1\0\0\0", b"");
        there.intern(b"select 2\0\0\0", b"");
        assert_eq!(there.intern(b"select 1\0\0\0", b"").id, a.id);
        assert_ne!(there.intern(b"select 1\0\0\0", b"LATIN1").id, a.id);
        let b = here.intern(b"select 3\0\0\0", b"");
        let moved = there.adopt(b.text().clone());
        assert!(Rc::ptr_eq(&moved, &there.intern(b"select 3\0\0\0", b"")));
        assert_eq!(moved.server_name, b.server_name);
    }

    #[test]
    fn what_nobody_holds_goes() {
        let mut all = Statements::default();
        let kept = all.intern(b"kept\0\0\0", b"");
        for i in 0..10_000 {
            all.intern(format!("select {i}\0\0\0").as_bytes(), b"");
        }
        assert!(all.len() <= 257, "{}", all.len());
        let texts = all.texts.table.lock().unwrap().texts.len();
        assert!(texts <= 3 * 257, "{texts}");
        assert!(Rc::ptr_eq(&kept, &all.intern(b"kept\0\0\0", b"")));
    }
}
