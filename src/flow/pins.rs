//! Clients that keep their server connections beyond the transaction.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many connections of a pool may be pinned, on all workers together.
/// Touched when a client is pinned, not by its transactions.
#[derive(Debug, Default)]
pub struct Pins {
    taken: Arc<AtomicU32>,
    most: Cell<u32>,
}

impl Pins {
    /// `taken` is shared by the workers.
    pub fn new(taken: Arc<AtomicU32>, most: u32) -> Self {
        let most = Cell::new(most);
        Pins { taken, most }
    }

    /// The bound; a lower one takes nobody's place away.
    pub fn most(&self) -> u32 {
        self.most.get()
    }

    pub fn set_most(&self, most: u32) {
        self.most.set(most);
    }

    /// A place, if one is free.
    pub(super) fn take(&self) -> Option<Place> {
        let more = |taken: u32| (taken < self.most.get()).then_some(taken + 1);
        let (order, taken) = (Ordering::Relaxed, &self.taken);
        taken.fetch_update(order, order, more).ok()?;
        Some(Place(taken.clone()))
    }

    /// One more than there are: what is in the session cannot be undone.
    pub(super) fn squeeze_in(&self) -> Place {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Place(self.taken.clone())
    }
}

/// The place of a pinned connection, free when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_over_all_workers() {
        let taken = Arc::new(AtomicU32::new(0));
        let here = Pins::new(taken.clone(), 2);
        let there = Pins::new(taken.clone(), 2);
        let first = here.take().unwrap();
        let second = there.take().unwrap();
        assert!(here.take().is_none());
        let third = here.squeeze_in();
        drop(first);
        assert!(there.take().is_none());
        drop(second);
        assert!(there.take().is_some());
        drop(third);
        here.set_most(0);
        assert!(here.take().is_none());
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }
}
