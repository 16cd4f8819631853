//! A database's suspects as all workers know them.

use std::cell::{Cell, Ref, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::sql::effects::Suspects;

/// The answer to the last question, for all workers.
#[derive(Debug, Default)]
pub struct LatestSuspects {
    version: AtomicU32,
    questions: AtomicU64,
    /// Somebody was told that they are not known one by one.
    warned: AtomicBool,
    suspects: Mutex<(Asked, Arc<Suspects>)>,
}

/// Which question an answer is to: what a later one was asked for, an earlier one may
/// not have found yet, whichever is answered first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked(u64);

/// One worker's view of it: nothing is locked unless there is a new answer.
#[derive(Debug, Default)]
pub struct Watchlist {
    latest: Arc<LatestSuspects>,
    seen: Cell<u32>,
    suspects: RefCell<Arc<Suspects>>,
    /// There are suspects.
    any: Cell<bool>,
}

impl Watchlist {
    pub fn new(latest: Arc<LatestSuspects>) -> Watchlist {
        Watchlist {
            latest,
            ..Watchlist::default()
        }
    }

    /// What the database has answered last.
    pub fn suspects(&self) -> Ref<'_, Arc<Suspects>> {
        self.look();
        self.suspects.borrow()
    }

    /// Whether a text names one.
    #[inline]
    pub fn are_in(&self, text: &[u8]) -> bool {
        self.look();
        self.any.get() && self.suspects.borrow().are_in(text)
    }

    #[inline]
    fn look(&self) {
        let version = self.latest.version.load(Ordering::Acquire);
        if self.seen.replace(version) != version {
            let suspects = self.latest.suspects.lock();
            let suspects = suspects.unwrap_or_else(PoisonError::into_inner);
            self.any.set(!suspects.1.is_empty());
            self.suspects.replace(suspects.1.clone());
        }
    }

    /// The database is about to be asked.
    pub fn ask(&self) -> Asked {
        Asked(self.latest.questions.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// It has answered that.
    pub fn replace(&self, asked: Asked, suspects: Suspects) {
        let latest = self.latest.suspects.lock();
        let mut latest = latest.unwrap_or_else(PoisonError::into_inner);
        if latest.0 <= asked {
            *latest = (asked, Arc::new(suspects));
            self.latest.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Whether this is the first time that anybody asks.
    pub fn is_first_warning(&self) -> bool {
        !self.latest.warned.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_to_all_workers() {
        let latest = Arc::new(LatestSuspects::default());
        let here = Watchlist::new(latest.clone());
        let there = Watchlist::new(latest);
        assert!(!there.are_in(b"f()"));
        let mut suspects = Suspects::default();
        suspects.add(b"!f");
        here.replace(here.ask(), suspects);
        assert!(there.are_in(b"f()") && here.are_in(b"f()"));
        here.replace(here.ask(), Suspects::default());
        assert!(!there.are_in(b"f()"));
    }

    /// As when one worker opens a connection while a client of another creates a function.
    #[test]
    fn a_late_answer_does_not_undo_a_later_question() {
        let latest = Arc::new(LatestSuspects::default());
        let here = Watchlist::new(latest.clone());
        let there = Watchlist::new(latest);
        let (before, after) = (there.ask(), here.ask());
        let mut suspects = Suspects::default();
        suspects.add(b"!f");
        here.replace(after, suspects);
        there.replace(before, Suspects::default());
        assert!(there.are_in(b"f()") && here.are_in(b"f()"));
    }
}
