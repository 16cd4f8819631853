//! What the server has made of the values of SET. Programs send the same ones again
//! and again: the server is asked for each once.

use std::cell::{Cell, RefCell};

use lru::LruCache;

use crate::sql::effects::Assignment;

/// So much of it is kept for a pool and worker, in bytes.
const MOST: usize = 64 * 1024;

/// What the table needs for an entry beside its texts, roughly.
const ENTRY: usize = 96;

type Bytes = Box<[u8]>;

/// The values that one pool's servers have told of, the latest ones.
#[derive(Debug)]
pub struct Values {
    /// Name and literal, with a NUL between; and what the server then shows.
    known: RefCell<LruCache<Bytes, Bytes>>,
    bytes: Cell<usize>,
}

impl Default for Values {
    fn default() -> Self {
        Values {
            known: RefCell::new(LruCache::unbounded()),
            bytes: Cell::new(0),
        }
    }
}

impl Values {
    /// What the setting has after this, if that is known.
    pub fn of(&self, set: &Assignment) -> Option<Bytes> {
        let key = key(&set.name, set.literal.as_deref()?);
        self.known.borrow_mut().get(&key).cloned()
    }

    /// The server has this value after `SET name = literal`.
    pub fn learn(&self, name: &[u8], literal: &[u8], value: &[u8]) {
        let key = key(name, literal);
        let size = |key: &[u8], value: &[u8]| ENTRY + key.len() + value.len();
        let mut bytes = self.bytes.get() + size(&key, value);
        let mut known = self.known.borrow_mut();
        if let Some((key, before)) = known.push(key, value.into()) {
            bytes -= size(&key, &before);
        }
        while bytes > MOST
            && let Some((key, value)) = known.pop_lru()
        {
            bytes -= size(&key, &value);
        }
        self.bytes.set(bytes);
    }
}

fn key(name: &[u8], literal: &[u8]) -> Bytes {
    [name, b"\0", literal].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &Values, literal: &str) -> Option<Bytes> {
        values.of(&Assignment {
            name: b"work_mem"[..].into(),
            literal: Some(literal.as_bytes().into()),
        })
    }

    #[test]
    fn the_latest_are_kept() {
        let values = Values::default();
        values.learn(b"work_mem", b"0", b"old");
        values.learn(b"work_mem", b"0", b"1MB");
        assert_eq!(of(&values, "0").as_deref(), Some(&b"1MB"[..]));
        for i in 1..2000 {
            values.learn(b"work_mem", i.to_string().as_bytes(), b"1MB");
            assert!(of(&values, "0").is_some(), "{i}");
        }
        assert!(of(&values, "1").is_none());
        assert!(values.bytes.get() <= MOST);
        let known = values.known.borrow();
        let sizes = known
            .iter()
            .map(|(key, value)| ENTRY + key.len() + value.len());
        assert_eq!(sizes.sum::<usize>(), values.bytes.get());
    }
}
