//! What has been found out about texts.

use std::hash::BuildHasher;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::sql::Dialect;
use crate::sql::shape::shape;

/// Something about each of the texts that were asked for lately, more than once, and
/// about all that have its [`shape`]. Where each text is another, because other values
/// stand in it, none is kept and nothing allocated.
#[derive(Debug)]
pub struct Remembered<T> {
    texts: LruCache<Box<[u8]>, T, RandomState>,
    longest: usize,
    /// Hashes of texts that were asked for, each in the place that its low bits
    /// say.
    seen: Box<[u32; SEEN]>,
    hasher: RandomState,
    buffer: Vec<u8>,
}

const SEEN: usize = 4096;

impl<T: Copy> Remembered<T> {
    /// Remembers up to `texts` texts of at most `longest` bytes each.
    pub fn new(texts: NonZeroUsize, longest: usize) -> Self {
        let hasher = RandomState::default();
        Remembered {
            texts: LruCache::with_hasher(texts, hasher.clone()),
            longest,
            seen: Box::new([0; SEEN]),
            hasher,
            buffer: Vec::new(),
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
        let shape = shape(sql, &mut self.buffer);
        let alike = match shape == sql {
            true => None,
            false => self.texts.get(shape),
        };
        let (text, found) = match alike {
            Some(known) => (sql, *known),
            None => (shape, find()),
        };
        if was_seen(&mut self.seen, self.hasher.hash_one(text)) {
            self.texts.put(text.into(), found);
        }
        found
    }

    /// Remembers this of all texts with the shape of `sql`.
    pub fn insert(&mut self, sql: &[u8], known: T) {
        if sql.len() > self.longest {
            return;
        }
        let common: Box<[u8]> = shape(sql, &mut self.buffer).into();
        let texts = self.texts.iter().map(|(text, _)| text);
        let alike = texts.filter(|text| *shape(text, &mut self.buffer) == *common);
        for text in alike.cloned().collect::<Vec<_>>() {
            self.texts.pop(&text);
        }
        self.texts.put(common, known);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.texts.clear();
    }
}

/// Whether a text with this hash was asked for before, as far as known.
fn was_seen(seen: &mut [u32; SEEN], hash: u64) -> bool {
    let mark = (hash >> 32) as u32 | 1;
    let place = seen.get_mut(hash as usize % SEEN);
    place.is_some_and(|place| std::mem::replace(place, mark) == mark)
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
    fn remembers_what_was_asked_for_twice_until_it_is_cleared() {
        let mut all = remembered(2);
        assert_eq!(ask(&mut all, "a", 1), 1);
        assert_eq!(ask(&mut all, "a", 2), 2);
        assert_eq!(ask(&mut all, "a", 3), 2);
        all.insert(b"a", 11);
        all.insert(b"b", 12);
        all.insert(b"0123456789+", 13);
        assert_eq!(ask(&mut all, "a", 2), 11);
        assert_eq!(ask(&mut all, "b", 2), 12);
        assert_eq!(ask(&mut all, "0123456789+", 2), 2);
        all.clear();
        assert_eq!(ask(&mut all, "a", 2), 2);
    }

    #[test]
    fn texts_that_do_not_come_again_are_not_kept() {
        let mut all = remembered(2);
        for n in 0..1000 {
            ask(&mut all, &n.to_string(), n);
        }
        assert_eq!(all.texts.len(), 0);
    }

    #[test]
    fn texts_that_differ_in_integers_are_one() {
        let mut all = remembered(2);
        assert_eq!(ask(&mut all, "a = 1", 1), 1);
        assert_eq!(ask(&mut all, "a = 22", 2), 2);
        assert_eq!(ask(&mut all, "a = 333", 3), 2);
        assert_eq!(ask(&mut all, "a = 333", 4), 2);
        all.insert(b"a = 4444", 4);
        for text in ["a = 1", "a = 333", "a = 4444"] {
            assert_eq!(ask(&mut all, text, 5), 4);
        }
        assert_eq!(ask(&mut all, "a1 = 1", 6), 6);
    }

    #[test]
    fn the_text_used_longest_ago_makes_room() {
        let mut all = remembered(2);
        for text in ["a", "b", "a", "b", "a", "c", "c"] {
            ask(&mut all, text, 1);
        }
        assert_eq!(ask(&mut all, "a", 2), 1);
        assert_eq!(ask(&mut all, "b", 2), 2);
        assert_eq!(all.texts.len(), 2);
    }

    #[test]
    fn long_texts_and_other_dialects_are_not_remembered() {
        let mut all = remembered(2);
        for text in ["0123456789", "0123456789+"] {
            ask(&mut all, text, 1);
            ask(&mut all, text, 1);
        }
        assert_eq!(ask(&mut all, "0123456789", 2), 1);
        assert_eq!(ask(&mut all, "0123456789+", 2), 2);
        let other = Dialect {
            standard_conforming_strings: false,
            ..Dialect::default()
        };
        assert_eq!(all.of(b"0123456789", other, || 3), 3);
        assert_eq!(ask(&mut all, "0123456789", 4), 1);
    }
}
