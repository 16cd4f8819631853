//! Connections that one client has for itself: they are opened for it and
//! closed with it, and count against every bound.

use std::time::Instant;

use super::super::limits::SharedBound;
use super::{Book, Ticket};

impl<S, E: Clone> Book<S, E> {
    /// Counts a connection that only its client will use, if every bound allows
    /// it; ends with [`Book::end_dedicated`]. `Err`: a bound that is shared with
    /// other pools stands in the way.
    pub fn begin_dedicated(&mut self, now: Instant) -> Result<bool, SharedBound> {
        let begun = self.part.take(self.most_for_waiting(now, 0))?;
        self.dedicated += u32::from(begun);
        self.check_invariants();
        Ok(begun)
    }

    /// A held connection was closed, and one that only its client will use takes
    /// its place.
    pub fn dedicate(&mut self) {
        debug_assert!(self.held > 0);
        self.held = self.held.saturating_sub(1);
        self.dedicated += 1;
        self.part.reopening();
        self.check_invariants();
    }

    /// It is closed, or was not opened after all.
    pub fn end_dedicated(&mut self) {
        debug_assert!(self.dedicated > 0);
        self.dedicated = self.dedicated.saturating_sub(1);
        // For others it was never open.
        self.part.open_failed();
        self.check_invariants();
    }

    /// Joins the queue for a place to open a connection in. Nothing is opened for
    /// such a ticket; a connection that it gets is to be closed, for its place.
    pub fn join_for_place(&mut self, now: Instant) -> Ticket {
        let ticket = self.join(now);
        if let Some(waiter) = self.waiter(ticket) {
            waiter.for_place = true;
            self.for_place += 1;
        }
        ticket
    }

    /// Whether the longest waiter waits for a place: it has to look itself whether
    /// there is one.
    pub fn place_is_next(&self) -> bool {
        self.for_place > 0 && {
            let mut live = self.queue.iter().filter_map(|&t| self.live(t));
            live.next().is_some_and(|waiter| waiter.for_place)
        }
    }

    /// Whether there is a place now, and somebody on another worker has waited
    /// longer for it, noticeably.
    pub fn place_is_due_elsewhere(&self, now: Instant) -> bool {
        let since = self.oldest_wait().unwrap_or(now);
        self.total() < self.most_for_waiting(now, 0) && self.part.is_preceded(since)
    }

    /// Those who wait for a connection.
    pub(super) fn waiting_for_connection(&self) -> usize {
        if self.for_place == 0 {
            return self.waiting;
        }
        let live = self.queue.iter().filter_map(|&t| self.live(t));
        live.filter(|waiter| !waiter.for_place).count()
    }
}
