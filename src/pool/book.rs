//! The book of one pool.

mod dedicated;
mod kinds;
mod time;

pub use kinds::Kind;
pub use time::Expired;

use std::cell::Cell;
use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::ledger::{Part, Passage};
use super::limits::{Limits, SharedBound};

/// How long nobody else is asked for a connection after somebody was who had
/// none.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// A place in the queue. It must be given up with [`Book::leave`] unless
/// [`Book::poll`] has returned ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    serial: u32,
}

/// What becomes of a connection that was given back.
#[derive(Debug)]
#[must_use]
pub enum Given<S> {
    /// It is idle, or for a client that waits: that one is to be woken.
    Here(Option<Waker>),
    /// It is to go to another worker, where it is to [`Book::arrive`].
    Away(S, Passage),
}

/// One worker's part of a pool: who has which connection, who waits, how many
/// are being opened. `S` is a server connection, `E` the reason why a waiter
/// goes away empty-handed.
///
/// A connection is in one of these places, and each counts against the bounds,
/// which hold over all workers: idle (in here), held (by a client or by
/// housekeeping), opening; or the same on another worker; or on its way.
#[derive(Debug)]
pub struct Book<S, E> {
    limits: Limits,
    part: Part,
    /// Back = used last.
    idle: VecDeque<Idle<S>>,
    held: u32,
    /// Of those held, how many are only looked at (checked, reset) and will be
    /// free in a moment.
    returning: u32,
    opening: u32,
    /// Those that one client has for itself, being opened or open.
    dedicated: u32,
    waiters: Slab<Waiter<S, E>>,
    /// Oldest first. Tickets that were given up or served stay until they come
    /// to the front; their serial fits no waiter.
    queue: VecDeque<Ticket>,
    /// So many at its front have had the notice that they wait, or are dead.
    noticed: usize,
    waiting: usize,
    /// Of all tickets, how many are for a place, and how many have a limit of
    /// their own.
    for_place: usize,
    particular: usize,
    last_serial: u32,
    /// When another worker was asked for a connection, until one arrives.
    asked: Option<Instant>,
    /// When another one is to be asked.
    ask_at: Option<Instant>,
    /// When one was last closed for its age.
    last_aged: Option<Instant>,
    /// How many have stayed that were due on another worker, since one went.
    kept: Cell<u8>,
}

#[derive(Debug)]
struct Idle<S> {
    server: S,
    since: Instant,
    born: Instant,
}

#[derive(Debug)]
struct Waiter<S, E> {
    serial: u32,
    since: Instant,
    /// Since when whoever is at this place of the queue would wait if nobody were ever
    /// passed over.
    rank: Instant,
    kind: Kind,
    passed: u8,
    /// It wants a place to open a connection in.
    for_place: bool,
    outcome: Option<Result<S, E>>,
    waker: Option<Waker>,
    /// It is to be told that it waits.
    notice: bool,
    /// In place of `query_wait_timeout`; `Some(None)`: none.
    own_limit: Option<Option<Duration>>,
}

impl<S, E: Clone> Book<S, E> {
    pub fn new(limits: Limits, part: Part) -> Self {
        Book {
            limits,
            part,
            idle: VecDeque::new(),
            held: 0,
            returning: 0,
            opening: 0,
            dedicated: 0,
            waiters: Slab::new(),
            queue: VecDeque::new(),
            noticed: 0,
            waiting: 0,
            for_place: 0,
            particular: 0,
            last_serial: 0,
            asked: None,
            ask_at: None,
            last_aged: None,
            kept: Cell::new(0),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the bounds; connections above them go as they become idle.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// The idle connections and since when they are idle.
    pub fn idle(&self) -> impl Iterator<Item = (&S, Instant)> {
        self.idle.iter().map(|idle| (&idle.server, idle.since))
    }

    pub fn opening_count(&self) -> u32 {
        self.opening
    }

    /// Connections that somebody has.
    pub fn held_count(&self) -> u32 {
        self.held
    }

    /// Clients that wait and were not served yet.
    pub fn waiting_count(&self) -> usize {
        self.waiting
    }

    /// The connections of this worker, those being opened included.
    pub fn own(&self) -> u32 {
        self.idle.len() as u32 + self.held + self.opening + self.dedicated
    }

    /// Those of all workers.
    pub fn total(&self) -> u32 {
        self.part.total()
    }

    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Whether there are more connections than `pool_size` and the reserve
    /// allow, after they were lowered.
    pub fn is_above_size(&self) -> bool {
        self.total() > self.most()
    }

    /// Whether there are more connections than `pool_size`.
    pub fn uses_reserve(&self) -> bool {
        self.limits.pool_size > 0 && self.total() > self.limits.pool_size
    }

    /// Whether there are fewer than `min_pool_size`.
    pub fn is_below_minimum(&self) -> bool {
        self.total() < self.limits.min_pool_size
    }

    /// How many there may be, the reserve included.
    fn most(&self) -> u32 {
        match self.limits.pool_size {
            0 => u32::MAX,
            size => size.saturating_add(self.limits.reserve_pool_size),
        }
    }

    /// Since when the client that waits longest waits.
    pub fn oldest_wait(&self) -> Option<Instant> {
        let mut live = self.queue.iter().filter_map(|&t| self.live(t));
        live.next().map(|waiter| waiter.since)
    }

    // ---- clients ----

    /// An idle connection at once, if there is one and nobody waits. Among the
    /// few that were used last, one that `fits` is preferred.
    pub fn take_idle(&mut self, fits: impl Fn(&S) -> bool) -> Option<(S, Instant)> {
        const LOOK_AT: usize = 8;
        if self.waiting > 0 || self.idle.is_empty() {
            return None;
        }
        let at = if self.limits.round_robin {
            0
        } else {
            let newest = self.idle.len() - 1;
            let mut best = self.idle.iter().enumerate().rev().take(LOOK_AT);
            let best = best.find(|(_, idle)| fits(&idle.server));
            best.map_or(newest, |(at, _)| at)
        };
        let idle = self.idle.remove(at)?;
        self.held += 1;
        self.check_invariants();
        Some((idle.server, idle.since))
    }

    /// Joins the queue.
    pub fn join(&mut self, now: Instant) -> Ticket {
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = self.last_serial;
        let slot = self.waiters.insert(Waiter {
            serial,
            since: now,
            rank: now,
            kind: 0,
            passed: 0,
            for_place: false,
            outcome: None,
            waker: None,
            notice: false,
            own_limit: None,
        });
        let slot = slot as u32;
        let ticket = Ticket { slot, serial };
        self.queue.push_back(ticket);
        self.waiting += 1;
        self.publish();
        self.check_invariants();
        ticket
    }

    /// Has the wait ended? Ready ends the ticket; otherwise `waker` is woken
    /// when it does.
    pub fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Option<Result<S, E>>> {
        let Some(waiter) = self.waiter(ticket) else {
            return Poll::Ready(None);
        };
        match waiter.outcome.take() {
            Some(outcome) => {
                let waiter = self.waiters.remove(ticket.slot as usize);
                self.for_place -= usize::from(waiter.for_place);
                self.particular -= usize::from(waiter.own_limit.is_some());
                Poll::Ready(Some(outcome))
            }
            None => {
                match &mut waiter.waker {
                    Some(known) => known.clone_from(waker),
                    none => *none = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Gives a place up. A connection that was already handed over comes back
    /// and must be returned with [`Book::give_back`] or [`Book::closed`].
    pub fn leave(&mut self, ticket: Ticket) -> Option<S> {
        self.waiter(ticket)?;
        let waiter = self.waiters.remove(ticket.slot as usize);
        self.for_place -= usize::from(waiter.for_place);
        self.particular -= usize::from(waiter.own_limit.is_some());
        let given = match waiter.outcome {
            None => {
                self.waiting -= 1;
                None
            }
            Some(outcome) => outcome.ok(),
        };
        self.trim_queue();
        self.publish();
        self.check_invariants();
        given
    }

    /// Takes a held connection back: it goes to whoever waits longest, here or
    /// on another worker, or to one of the next whom it suits; or becomes idle. No
    /// client has had it `since` then.
    pub fn give_back(&mut self, server: S, kind: Kind, since: Instant, born: Instant) -> Given<S> {
        debug_assert!(self.held > 0);
        let given = self.give(server, kind, since, born);
        self.publish();
        self.check_invariants();
        given
    }

    fn give(&mut self, server: S, kind: Kind, since: Instant, born: Instant) -> Given<S> {
        if let Some(passage) = self.part.send_elsewhere(|since| self.lets_go(kind, since)) {
            self.held -= 1;
            return Given::Away(server, passage);
        }
        self.bring_forward(kind);
        if let Some(waiter) = self.next_waiter() {
            waiter.outcome = Some(Ok(server));
            let waker = waiter.waker.take();
            self.waiting -= 1;
            return Given::Here(waker);
        }
        self.held -= 1;
        // Somebody may have begun to wait elsewhere who did not know of it.
        if self.part.offer_idle()
            && let Some(passage) = self.part.send_elsewhere(|_| true)
        {
            return Given::Away(server, passage);
        }
        let idle = Idle {
            server,
            since,
            born,
        };
        // Behind all others, unless it was only looked at in the meantime.
        let before = self.idle.iter().rposition(|other| other.since <= since);
        self.idle.insert(before.map_or(0, |at| at + 1), idle);
        Given::Here(None)
    }

    /// A held connection was closed.
    pub fn closed(&mut self) {
        debug_assert!(self.held > 0);
        self.held = self.held.saturating_sub(1);
        self.part.free();
        self.check_invariants();
    }

    /// A held connection is to be closed if there are more than `pool_size` and
    /// the reserve allow. False: it stays.
    pub fn close_surplus(&mut self) -> bool {
        debug_assert!(self.held > 0);
        let surplus = self.part.free_above(self.most());
        if surplus {
            self.held = self.held.saturating_sub(1);
        }
        self.check_invariants();
        surplus
    }

    // ---- other workers ----

    /// Whom to ask for an idle connection: another worker that may have one
    /// while clients wait here.
    pub fn ask(&mut self, now: Instant) -> Option<usize> {
        self.ask_at = None;
        if self.waiting == 0 {
            return None;
        }
        let worker = self.part.idle_elsewhere(usize::MAX)?;
        match self.asked.map(|asked| asked + ASK_AGAIN) {
            Some(at) if now < at => {
                self.ask_at = Some(at);
                None
            }
            _ => {
                self.asked = Some(now);
                Some(worker)
            }
        }
    }

    /// When [`Book::ask`] is to be called again.
    pub fn ask_deadline(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Another worker asks for as many idle connections. If it does not get all
    /// of them, whom it may ask next.
    pub fn answer(&mut self, from: usize, wanted: usize) -> (Vec<(S, Passage)>, Option<usize>) {
        let mut given = Vec::new();
        while given.len() < wanted
            && let Some(idle) = self.idle.pop_front()
        {
            given.push((idle.server, self.part.send_to(from)));
        }
        let mut next = None;
        if given.len() < wanted {
            self.part.nothing_idle();
            next = self.part.idle_elsewhere(from);
        }
        self.check_invariants();
        (given, next)
    }

    /// A connection has come from another worker: the caller holds it now and
    /// gives it back at once.
    pub fn arrive(&mut self, passage: Passage) {
        passage.arrive();
        self.asked = None;
        self.held += 1;
        self.check_invariants();
    }

    fn publish(&self) {
        if self.part.is_alone() {
            return;
        }
        self.part.publish(self.first_rank());
    }

    /// A held connection has gone to another process.
    pub fn departed(&mut self) {
        debug_assert!(self.held > 0);
        self.held = self.held.saturating_sub(1);
        self.part.hand_over();
        self.check_invariants();
    }

    /// Whether clients wait who get no connection before another process lets one go.
    pub fn starves(&self) -> bool {
        let full = self.limits.pool_size > 0 && self.total() >= self.limits.pool_size;
        let coming = (self.opening + self.returning) as usize;
        full && self.waiting > coming && self.part.total_here() < self.total()
    }

    // ---- opening ----

    /// A held connection is only looked at before the next client gets it;
    /// ends with [`Book::returned`].
    pub fn returning(&mut self) {
        self.returning += 1;
        self.check_invariants();
    }

    /// It has been looked at; it is still held.
    pub fn returned(&mut self) {
        debug_assert!(self.returning > 0);
        self.returning = self.returning.saturating_sub(1);
    }

    /// Whether a connection is to be opened now, which is counted then and
    /// ends with [`Book::opened`] or [`Book::open_failed`]: there are as many as
    /// clients wait for whom none is being opened or about to be free, and as
    /// `min_pool_size` lacks (`keep_min`), within every bound. `Err`: a bound
    /// that is shared with other pools stands in the way.
    pub fn begin_open(&mut self, now: Instant, keep_min: bool) -> Result<bool, SharedBound> {
        let coming = (self.opening + self.returning) as usize;
        let most = if self.place_is_next() {
            return Ok(false);
        } else if self.waiting_for_connection() > coming {
            self.most_for_waiting(now, coming)
        } else if keep_min {
            match self.limits.pool_size {
                0 => self.limits.min_pool_size,
                size => size.min(self.limits.min_pool_size),
            }
        } else {
            return Ok(false);
        };
        // Without the lock first: usually the pool is full.
        let begun = self.total() < most && self.part.take(most)?;
        self.opening += u32::from(begun);
        self.check_invariants();
        Ok(begun)
    }

    /// How many connections there may be for the good of those who wait, when
    /// `coming` of them will get one anyway.
    fn most_for_waiting(&self, now: Instant, coming: usize) -> u32 {
        match self.limits.pool_size {
            0 => u32::MAX,
            _ if self.reserve_is_due(now, coming) => self.most(),
            size => size,
        }
    }

    /// Opens one that nobody asked for.
    #[cfg(test)]
    pub(super) fn begin_open_anyway(&mut self) {
        assert_eq!(self.part.take(u32::MAX), Ok(true));
        self.opening += 1;
    }

    /// It is open: the caller holds it now and usually gives it back at once.
    pub fn opened(&mut self) {
        debug_assert!(self.opening > 0);
        self.opening = self.opening.saturating_sub(1);
        self.part.opened();
        self.held += 1;
        self.check_invariants();
    }

    pub fn open_failed(&mut self) {
        debug_assert!(self.opening > 0);
        self.opening = self.opening.saturating_sub(1);
        self.part.open_failed();
        self.check_invariants();
    }

    /// Everybody who waits goes away with this error.
    pub fn fail_all(&mut self, error: &E) -> Vec<Waker> {
        self.fail_while(error, |_| true)
    }

    fn fail_while(&mut self, error: &E, fails: impl Fn(Instant) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.oldest_wait().is_some_and(&fails)
            && let Some(waiter) = self.next_waiter()
        {
            waiter.outcome = Some(Err(error.clone()));
            wakers.extend(waiter.waker.take());
            self.waiting -= 1;
        }
        self.publish();
        self.check_invariants();
        wakers
    }

    // ---- idle ones ----

    /// Takes out idle connections for which `keep` says no.
    pub fn retain_idle(&mut self, mut keep: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let mut gone = Vec::new();
        for _ in 0..self.idle.len() {
            if let Some(mut idle) = self.idle.pop_front() {
                if keep(&mut idle.server) {
                    self.idle.push_back(idle);
                } else {
                    gone.push(idle.server);
                    self.part.free();
                }
            }
        }
        self.check_invariants();
        gone
    }

    /// Takes out the connection that was idle longest, to make room for
    /// another pool.
    pub fn evict_idle(&mut self) -> Option<S> {
        let idle = self.idle.pop_front()?;
        self.part.free();
        self.check_invariants();
        Some(idle.server)
    }

    // ---- helpers ----

    fn waiter(&mut self, ticket: Ticket) -> Option<&mut Waiter<S, E>> {
        let waiter = self.waiters.get_mut(ticket.slot as usize)?;
        (waiter.serial == ticket.serial).then_some(waiter)
    }

    /// The waiter of a ticket, if it still waits.
    fn live(&self, ticket: Ticket) -> Option<&Waiter<S, E>> {
        let waiter = self.waiters.get(ticket.slot as usize)?;
        (waiter.serial == ticket.serial && waiter.outcome.is_none()).then_some(waiter)
    }

    /// Takes the longest waiter off the queue.
    fn next_waiter(&mut self) -> Option<&mut Waiter<S, E>> {
        let ticket = loop {
            let ticket = self.pop_ticket()?;
            if self.live(ticket).is_some() {
                break ticket;
            }
        };
        self.waiters.get_mut(ticket.slot as usize)
    }

    fn pop_ticket(&mut self) -> Option<Ticket> {
        self.noticed = self.noticed.saturating_sub(1);
        self.queue.pop_front()
    }

    /// Dead tickets at the front are dropped, so that a queue that only sees
    /// people leave does not grow.
    fn trim_queue(&mut self) {
        while self.queue.front().is_some_and(|&t| self.live(t).is_none()) {
            self.pop_ticket();
        }
        if self.queue.len() > 2 * self.waiting + 64 {
            let (waiters, noticed) = (&self.waiters, self.noticed);
            let mut at = 0;
            self.queue.retain(|t| {
                let waiter = waiters.get(t.slot as usize);
                let lives = waiter.is_some_and(|w| w.serial == t.serial && w.outcome.is_none());
                self.noticed -= usize::from(!lives && at < noticed);
                at += 1;
                lives
            });
        }
    }

    /// What must always hold. Only in debug builds.
    pub fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            let live = self
                .queue
                .iter()
                .filter(|&&t| self.live(t).is_some())
                .count();
            debug_assert_eq!(live, self.waiting, "queue and count of waiters differ");
            let unserved = self.waiters.iter().filter(|(_, w)| w.outcome.is_none());
            debug_assert_eq!(
                unserved.count(),
                self.waiting,
                "a waiter is not in the queue"
            );
            let given = self.waiters.iter();
            let given = given
                .filter(|(_, w)| matches!(w.outcome, Some(Ok(_))))
                .count();
            debug_assert!(given as u32 <= self.held, "handed over more than is held");
            debug_assert!(self.returning <= self.held, "more return than are held");
            debug_assert!(
                self.waiting == 0 || self.idle.is_empty(),
                "somebody waits while a connection is idle"
            );
            let (database, user) = self.part.shared_totals();
            let all = self.total();
            debug_assert!(
                database.min(user).min(all) >= self.own(),
                "a connection does not count against a bound"
            );
        }
    }
}
