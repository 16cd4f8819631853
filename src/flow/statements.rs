//! Prepared statements, shared by text among all clients and servers.

use std::hash::BuildHasher;
use std::rc::Rc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// A statement: its query text and the types that the client declared.
#[derive(Debug)]
pub struct Statement {
    /// Unique on this worker, never 0.
    pub id: u64,
    /// Its name on servers: `pgweir_<id>`.
    pub server_name: Box<[u8]>,
    /// Body of a Parse message after the name.
    pub definition: Box<[u8]>,
    /// The `client_encoding` that the text is in; empty if it is plain ASCII.
    encoding: Box<[u8]>,
    hash: u64,
}

/// The table of all statements that some client or server of this worker
/// holds. The text is kept once however many hold it, and goes when nobody
/// does.
#[derive(Debug, Default)]
pub struct Statements {
    table: HashTable<Rc<Statement>>,
    hasher: RandomState,
    last_id: u64,
    sweep_at: usize,
}

impl Statements {
    /// The one statement with this definition. `encoding`: the text's, empty if
    /// it is plain ASCII.
    pub fn intern(&mut self, definition: &[u8], encoding: &[u8]) -> Rc<Statement> {
        let hash = self.hasher.hash_one(definition);
        let same = |s: &Rc<Statement>| {
            s.hash == hash && *s.definition == *definition && *s.encoding == *encoding
        };
        if let Some(known) = self.table.find(hash, same) {
            return known.clone();
        }
        if self.table.len() >= self.sweep_at {
            self.table.retain(|s| Rc::strong_count(s) > 1);
            self.sweep_at = 256.max(2 * self.table.len());
        }
        self.last_id += 1;
        let statement = Rc::new(Statement {
            id: self.last_id,
            server_name: format!("pgweir_{}", self.last_id).into_bytes().into(),
            definition: definition.into(),
            encoding: encoding.into(),
            hash,
        });
        self.table
            .insert_unique(hash, statement.clone(), |s| s.hash);
        statement
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
    fn what_nobody_holds_goes() {
        let mut all = Statements::default();
        let kept = all.intern(b"kept\0\0\0", b"");
        for i in 0..10_000 {
            all.intern(format!("select {i}\0\0\0").as_bytes(), b"");
        }
        assert!(all.len() <= 257, "{}", all.len());
        assert!(Rc::ptr_eq(&kept, &all.intern(b"kept\0\0\0", b"")));
    }
}
