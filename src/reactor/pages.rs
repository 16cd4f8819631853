//! A table whose entries stay where they are. It grows by a page, where a vector doubles:
//! with tens of thousands of idle clients that would be a good part of what each costs.

const PAGE: usize = 128;

/// Entries by number. Numbers of those that have gone are used again.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Box<[Entry<T>]>>,
    /// The first of those that are free, each of which knows the next.
    free: usize,
}

#[derive(Debug)]
enum Entry<T> {
    Taken(T),
    Free { next: usize },
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages {
            pages: Vec::new(),
            free: 0,
        }
    }
}

impl<T> Pages<T> {
    #[inline]
    fn entry(&mut self, at: usize) -> Option<&mut Entry<T>> {
        self.pages.get_mut(at / PAGE)?.get_mut(at % PAGE)
    }

    pub fn insert(&mut self, value: T) -> usize {
        let at = self.free;
        if at == self.pages.len() * PAGE {
            let free = |at| Entry::Free { next: at + 1 };
            self.pages.push((at..at + PAGE).map(free).collect());
        }
        if let Some(entry) = self.entry(at)
            && let Entry::Free { next } = std::mem::replace(entry, Entry::Taken(value))
        {
            self.free = next;
        }
        at
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        match self.pages.get(at / PAGE)?.get(at % PAGE)? {
            Entry::Taken(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match self.entry(at)? {
            Entry::Taken(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    pub fn remove(&mut self, at: usize) -> Option<T> {
        let next = self.free;
        let entry = self.entry(at)?;
        if matches!(entry, Entry::Free { .. }) {
            return None;
        }
        match std::mem::replace(entry, Entry::Free { next }) {
            Entry::Taken(value) => {
                self.free = at;
                Some(value)
            }
            Entry::Free { .. } => None,
        }
    }

    /// Takes any one out.
    pub fn pop(&mut self) -> Option<T> {
        let mut all = self.pages.iter().flatten();
        let at = all.position(|entry| matches!(entry, Entry::Taken(_)))?;
        self.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in(steps in prop::collection::vec(0u16..600, 1..2000)) {
            let (mut pages, mut expected) = (Pages::default(), HashMap::new());
            for (number, step) in steps.into_iter().enumerate() {
                if step < 350 {
                    let at = pages.insert(number);
                    prop_assert!(expected.insert(at, number).is_none());
                } else {
                    let at = usize::from(step - 350);
                    prop_assert_eq!(pages.remove(at), expected.remove(&at));
                }
            }
            for at in 0..2000 {
                prop_assert_eq!(pages.get(at), expected.get(&at));
                prop_assert_eq!(pages.get_mut(at).map(|n| *n), expected.get(&at).copied());
            }
            let mut rest: Vec<usize> = std::iter::from_fn(|| pages.pop()).collect();
            let mut expected: Vec<usize> = expected.into_values().collect();
            rest.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(rest, expected);
        }

        #[test]
        fn it_takes_no_more_than_was_there_at_once(many in 1usize..1000, rounds in 1usize..4) {
            let mut pages = Pages::default();
            for _ in 0..rounds {
                let all: Vec<usize> = (0..many).map(|n| pages.insert(n)).collect();
                for at in all {
                    pages.remove(at);
                }
            }
            prop_assert_eq!(pages.pages.len(), many.div_ceil(PAGE));
        }
    }
}
