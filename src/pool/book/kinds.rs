//! Whom a connection suits: clients with the same settings are of one kind.
//!
//! One of another kind has to be set up first, which costs about as much as a short query.
//! So a connection may go past the longest waiter, and stay on a worker when it is due on
//! another one, but only so often.

use std::time::Instant;

use super::super::ledger::precedes;
use super::{Book, Ticket, Waiter};

/// Among so many at the front of the queue one is looked for whom a connection suits:
/// for others it has to be set up first.
const LOOK_AT: usize = 64;
/// So often the longest waiter is passed over for that.
const MOST_PASSED: u8 = 16;
/// So often a connection that is due on another worker stays where it suits some who
/// wait; then one goes, whomever it suits.
const MOST_KEPT: u8 = 4;

/// What a client and a connection that suits it have in common; 0: nothing.
pub type Kind = usize;

impl<S, E: Clone> Book<S, E> {
    /// Connections of this kind suit it best.
    pub fn prefer(&mut self, ticket: Ticket, kind: Kind) {
        if let Some(waiter) = self.waiter(ticket) {
            waiter.kind = kind;
        }
    }

    /// Puts the first waiter of this kind to the front of the queue, unless the longest
    /// waiter has been passed over often enough. Those in between move up a rank.
    pub(super) fn bring_forward(&mut self, kind: Kind) {
        let front = self.queue.iter().take(LOOK_AT).enumerate();
        let mut live = front.filter_map(|(at, ticket)| Some((at, self.live(*ticket)?)));
        let Some((first, oldest)) = live.next() else {
            return;
        };
        // Who waits for a place gets that of whatever connection comes back.
        if oldest.kind == kind || oldest.for_place || oldest.passed >= MOST_PASSED {
            return;
        }
        let Some((at, fitting)) = live.find(|(_, waiter)| waiter.kind == kind) else {
            return;
        };
        let mut rank = fitting.rank;
        for between in (first..at).rev() {
            if let Some(waiter) = self.waiting_at(between) {
                std::mem::swap(&mut waiter.rank, &mut rank);
            }
        }
        if let Some(oldest) = self.waiting_at(first) {
            oldest.passed += 1;
        }
        if let Some(ticket) = self.queue.remove(at) {
            // It goes at once: whether those behind it had the notice stays as it was.
            self.noticed += usize::from(at >= self.noticed);
            self.queue.push_front(ticket);
        }
    }

    /// Whether a connection of this kind is to go to another worker, where somebody waits
    /// `since` then.
    pub(super) fn lets_go(&self, kind: Kind, since: Instant) -> bool {
        let Some(own) = self.first_rank() else {
            return true;
        };
        if !precedes(since, own) {
            return false;
        }
        let kept = self.kept.get();
        let keeps = kept < MOST_KEPT && self.suits_some(kind);
        self.kept.set(if keeps { kept + 1 } else { 0 });
        !keeps
    }

    /// What the others compare, so that a worker which passes somebody over does not seem
    /// to have too few connections.
    pub(super) fn first_rank(&self) -> Option<Instant> {
        let mut live = self.queue.iter().filter_map(|&t| self.live(t));
        live.next().map(|waiter| waiter.rank)
    }

    /// Whether connections of this kind suit some of those who wait, but not all: another
    /// one would do as well for another worker.
    fn suits_some(&self, kind: Kind) -> bool {
        let front = self.queue.iter().take(LOOK_AT);
        let mut suits = front.filter_map(|&t| Some(self.live(t)?.kind == kind));
        let first = suits.next();
        first.is_some_and(|first| suits.any(|other| other != first))
    }

    /// Who waits at this place of the queue.
    fn waiting_at(&mut self, at: usize) -> Option<&mut Waiter<S, E>> {
        let ticket = *self.queue.get(at)?;
        self.waiter(ticket).filter(|w| w.outcome.is_none())
    }
}
