//! Verdicts remembered by the text of the statement.

use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::sql::Dialect;
use crate::sql::classify::{Catalog, Kind, classify};

/// What texts are, as far as they have been asked for lately. Asking for a
/// text that is remembered allocates nothing.
///
/// Everything remembered follows from one catalog.
#[derive(Debug)]
pub struct Verdicts {
    kinds: LruCache<Box<[u8]>, Kind, RandomState>,
    longest: usize,
}

impl Verdicts {
    /// Remembers up to `texts` texts of at most `longest` bytes each.
    pub fn new(texts: NonZeroUsize, longest: usize) -> Self {
        Verdicts {
            kinds: LruCache::with_hasher(texts, RandomState::default()),
            longest,
        }
    }

    /// What `sql` is by `catalog`, which is the same until [`clear`](Self::clear).
    pub fn kind(&mut self, sql: &[u8], dialect: Dialect, catalog: &Catalog) -> Kind {
        // Under another dialect the same text may be another statement.
        if dialect != Dialect::default() || sql.len() > self.longest {
            return classify(sql, dialect, catalog).kind;
        }
        if let Some(kind) = self.kinds.get(sql) {
            return *kind;
        }
        let kind = classify(sql, dialect, catalog).kind;
        self.kinds.put(sql.into(), kind);
        kind
    }

    /// Calls `sql` unknown from now on: a replica has refused it.
    pub fn refused(&mut self, sql: &[u8]) {
        if sql.len() <= self.longest {
            self.kinds.put(sql.into(), Kind::Unknown);
        }
    }

    /// Forgets everything, because there is a new catalog.
    pub fn clear(&mut self) {
        self.kinds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(texts: usize) -> Verdicts {
        Verdicts::new(NonZeroUsize::new(texts).unwrap(), 20)
    }

    #[test]
    fn remembers_until_there_is_a_new_catalog() {
        let (strict, lax) = (Catalog::of_postgresql(), Catalog::assuming_plain_tables());
        let dialect = Dialect::default();
        let mut verdicts = verdicts(2);
        assert_eq!(verdicts.kind(b"table t", dialect, &strict), Kind::Unknown);
        assert_eq!(verdicts.kind(b"table t", dialect, &lax), Kind::Unknown);
        verdicts.clear();
        assert_eq!(verdicts.kind(b"table t", dialect, &lax), Kind::Read);
    }

    #[test]
    fn the_text_used_longest_ago_makes_room() {
        let (strict, lax) = (Catalog::of_postgresql(), Catalog::assuming_plain_tables());
        let dialect = Dialect::default();
        let mut verdicts = verdicts(2);
        for text in ["table a", "table b", "table a", "table c"] {
            verdicts.kind(text.as_bytes(), dialect, &strict);
        }
        assert_eq!(verdicts.kind(b"table a", dialect, &lax), Kind::Unknown);
        assert_eq!(verdicts.kind(b"table b", dialect, &lax), Kind::Read);
        assert_eq!(verdicts.kinds.len(), 2);
    }

    #[test]
    fn long_texts_and_other_dialects_are_not_remembered() {
        let catalog = Catalog::assuming_plain_tables();
        let mut verdicts = verdicts(2);
        let long = b"select 1 /* a long comment */";
        assert_eq!(
            verdicts.kind(long, Dialect::default(), &catalog),
            Kind::Read
        );
        verdicts.refused(long);
        assert_eq!(
            verdicts.kind(long, Dialect::default(), &catalog),
            Kind::Read
        );
        let dialect = Dialect {
            standard_conforming_strings: false,
            ..Dialect::default()
        };
        let text = b"select '\\';delete--'";
        assert_eq!(verdicts.kind(text, dialect, &catalog), Kind::Read);
        assert_eq!(
            verdicts.kind(text, Dialect::default(), &catalog),
            Kind::Write
        );
        assert_eq!(verdicts.kind(text, dialect, &catalog), Kind::Read);
    }

    #[test]
    fn what_a_replica_refused_is_no_read() {
        let catalog = Catalog::of_postgresql();
        let mut verdicts = verdicts(2);
        assert_eq!(
            verdicts.kind(b"select 1", Dialect::default(), &catalog),
            Kind::Read
        );
        verdicts.refused(b"select 1");
        assert_eq!(
            verdicts.kind(b"select 1", Dialect::default(), &catalog),
            Kind::Unknown
        );
    }
}
