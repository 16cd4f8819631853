//! What has been found out about texts.

use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::sql::Dialect;

/// Something about each of the texts that were asked for lately. Asking for a
/// text that is remembered allocates nothing.
#[derive(Debug)]
pub struct Remembered<T> {
    texts: LruCache<Box<[u8]>, T, RandomState>,
    longest: usize,
}

impl<T: Copy> Remembered<T> {
    /// Remembers up to `texts` texts of at most `longest` bytes each.
    pub fn new(texts: NonZeroUsize, longest: usize) -> Self {
        Remembered {
            texts: LruCache::with_hasher(texts, RandomState::default()),
            longest,
        }
    }

    /// What is remembered of `sql`, or what `find` says now.
    pub fn of(&mut self, sql: &[u8], dialect: Dialect, find: impl FnOnce() -> T) -> T {
        // Under another dialect the same text may be another statement.
        if dialect != Dialect::default() || sql.len() > self.longest {
            return find();
        }
        if let Some(known) = self.texts.get(sql) {
            return *known;
        }
        let found = find();
        self.texts.put(sql.into(), found);
        found
    }

    /// Changes what is remembered of `sql`, if it still is.
    pub fn change(&mut self, sql: &[u8], change: impl FnOnce(T) -> T) {
        if let Some(known) = self.texts.get_mut(sql) {
            *known = change(*known);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.texts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(texts: usize) -> Remembered<u32> {
        Remembered::new(NonZeroUsize::new(texts).unwrap(), 10)
    }

    fn ask(remembered: &mut Remembered<u32>, sql: &str, found: u32) -> u32 {
        remembered.of(sql.as_bytes(), Dialect::default(), || found)
    }

    #[test]
    fn remembers_until_it_is_cleared_or_changed() {
        let mut all = remembered(2);
        assert_eq!(ask(&mut all, "a", 1), 1);
        assert_eq!(ask(&mut all, "a", 2), 1);
        all.change(b"a", |n| n + 10);
        all.change(b"b", |n| n + 10);
        assert_eq!(ask(&mut all, "a", 2), 11);
        assert_eq!(ask(&mut all, "b", 3), 3);
        all.clear();
        assert_eq!(ask(&mut all, "a", 2), 2);
    }

    #[test]
    fn the_text_used_longest_ago_makes_room() {
        let mut all = remembered(2);
        for text in ["a", "b", "a", "c"] {
            ask(&mut all, text, 1);
        }
        assert_eq!(ask(&mut all, "a", 2), 1);
        assert_eq!(ask(&mut all, "b", 2), 2);
        assert_eq!(all.texts.len(), 2);
    }

    #[test]
    fn long_texts_and_other_dialects_are_not_remembered() {
        let mut all = remembered(2);
        assert_eq!(ask(&mut all, "0123456789", 1), 1);
        assert_eq!(ask(&mut all, "0123456789", 2), 1);
        assert_eq!(ask(&mut all, "0123456789+", 1), 1);
        assert_eq!(ask(&mut all, "0123456789+", 2), 2);
        let other = Dialect {
            standard_conforming_strings: false,
            ..Dialect::default()
        };
        assert_eq!(all.of(b"0123456789", other, || 3), 3);
        assert_eq!(ask(&mut all, "0123456789", 4), 1);
    }
}
