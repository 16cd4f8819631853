//! What time asks of a book.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::{Book, Ticket};

/// Why an idle connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    Lifetime,
    IdleTimeout,
    Surplus,
}

impl Expired {
    /// PgBouncer's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Expired::Lifetime => "server lifetime over",
            Expired::IdleTimeout => "server idle timeout",
            Expired::Surplus => "too many servers in the pool",
        }
    }
}

impl<S, E: Clone> Book<S, E> {
    /// This one may wait for as long, `None`: without end, whatever
    /// `query_wait_timeout` is.
    pub fn limit_wait(&mut self, ticket: Ticket, limit: Option<Duration>) {
        if let Some(waiter) = self.waiter(ticket) {
            let had_one = waiter.own_limit.replace(limit).is_some();
            self.particular += usize::from(!had_one);
        }
    }

    /// Those who have waited for `query_wait_timeout`, or for as long as they
    /// themselves may, go away with the `error` for so long a wait.
    pub fn expire_waiters(&mut self, now: Instant, error: impl Fn(Duration) -> E) -> Vec<Waker> {
        if self.particular > 0 {
            return self.expire_each(now, error);
        }
        let Some(timeout) = self.limits.query_wait_timeout else {
            return Vec::new();
        };
        let expired = |since| now >= since + timeout;
        match self.oldest_wait().is_some_and(expired) {
            true => self.fail_while(&error(timeout), expired),
            false => Vec::new(),
        }
    }

    fn expire_each(&mut self, now: Instant, error: impl Fn(Duration) -> E) -> Vec<Waker> {
        let limits = self.queue.iter().map(|&t| (t, self.end_of_wait(t)));
        let over = limits.filter_map(|(ticket, end)| {
            let (at, limit) = end?;
            (now >= at).then_some((ticket, limit))
        });
        let mut wakers = Vec::new();
        for (ticket, limit) in over.collect::<Vec<_>>() {
            if let Some(waiter) = self.waiter(ticket) {
                waiter.outcome = Some(Err(error(limit)));
                wakers.extend(waiter.waker.take());
                self.waiting -= 1;
            }
        }
        self.trim_queue();
        self.publish();
        self.check_invariants();
        wakers
    }

    /// When this one has waited for as long as it may, and how long that is.
    fn end_of_wait(&self, ticket: Ticket) -> Option<(Instant, Duration)> {
        let waiter = self.live(ticket)?;
        let limit = waiter.own_limit.unwrap_or(self.limits.query_wait_timeout)?;
        Some((waiter.since + limit, limit))
    }

    /// Takes out the idle connections that are to be closed: too old
    /// (`server_lifetime`; with 0 whoever has used one does not give it back,
    /// so those in here are new), idle for too long (`server_idle_timeout`, down to
    /// `min_pool_size`), or more than `pool_size`.
    pub fn expire_idle(&mut self, now: Instant) -> Vec<(S, Expired)> {
        let mut gone = Vec::new();
        let (min, most) = (self.limits.min_pool_size, self.most());
        let mut kept = VecDeque::with_capacity(self.idle.len());
        for idle in std::mem::take(&mut self.idle) {
            let unused = self
                .limits
                .server_idle_timeout
                .is_some_and(|max| now >= idle.since + max);
            let expired = if self.end_life(idle.born, now) {
                self.part.free();
                Some(Expired::Lifetime)
            } else if unused && self.part.free_above(min) {
                Some(Expired::IdleTimeout)
            } else if self.part.total() > most && self.part.free_above(most) {
                Some(Expired::Surplus)
            } else {
                None
            };
            match expired {
                Some(expired) => gone.push((idle.server, expired)),
                None => kept.push_back(idle),
            }
        }
        self.idle = kept;
        self.check_invariants();
        gone
    }

    /// Whether a connection that was `born` then is to be closed for its age. If
    /// so, the next one is not before a while: those that were opened together
    /// are closed one after the other, all within another `server_lifetime` (as
    /// in PgBouncer's janitor.c, `life_over`).
    pub fn end_life(&mut self, born: Instant, now: Instant) -> bool {
        let life = self.limits.server_lifetime;
        // Nearly always it is younger.
        let over = life.is_some_and(|life| now >= born + life)
            && self.end_of_life(born).is_some_and(|end| now >= end);
        if over {
            self.last_aged = Some(now);
        }
        over
    }

    fn end_of_life(&self, born: Instant) -> Option<Instant> {
        let life = self.limits.server_lifetime.filter(|t| !t.is_zero())?;
        let gap = life.checked_div(self.limits.pool_size).unwrap_or_default();
        let next = self.last_aged.map(|at| at + gap);
        Some(next.map_or(born + life, |next| next.max(born + life)))
    }

    /// Who has now waited for `query_wait_notify`, once for each wait: they are to
    /// be woken, and [`Book::take_notice`] says so.
    pub fn notify_waiters(&mut self, now: Instant) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.next_notice().is_some_and(|at| now >= at)
            && let Some(&ticket) = self.queue.get(self.noticed)
        {
            self.noticed += 1;
            if let Some(waiter) = self.waiter(ticket) {
                waiter.notice = waiter.outcome.is_none();
                wakers.extend(waiter.waker.clone());
            }
        }
        wakers
    }

    /// Whether the client is to be told that it waits; once.
    pub fn take_notice(&mut self, ticket: Ticket) -> bool {
        let waiter = self.waiter(ticket);
        waiter.is_some_and(|waiter| std::mem::take(&mut waiter.notice))
    }

    /// When the first who has not had the notice is to get it.
    fn next_notice(&self) -> Option<Instant> {
        let patience = self.limits.query_wait_notify?;
        let mut others = self.queue.iter().skip(self.noticed);
        let first = others.find_map(|&ticket| self.live(ticket))?;
        Some(first.since + patience)
    }

    /// When, after `now`, time alone will next change something. What is due
    /// already and has not happened waits for an event.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let limits = &self.limits;
        // Without limits of their own, whoever waits longest is the first.
        let waits = self.queue.iter().filter_map(|&t| self.end_of_wait(t));
        let wait = match self.particular {
            0 => waits.map(|(end, _)| end).next(),
            _ => waits.map(|(end, _)| end).min(),
        };
        let reserve = self.next_for_reserve(now);
        // Without round robin the front is the one idle for longest; with it
        // as well, since reuse takes the front and returns to the back.
        let above_min = self.total() > limits.min_pool_size;
        let idle = self.idle.front().filter(|_| above_min);
        let idle = idle
            .zip(limits.server_idle_timeout)
            .map(|(i, t)| i.since + t);
        let oldest_born = self.idle.iter().map(|i| i.born).min();
        let life = oldest_born.and_then(|born| self.end_of_life(born));
        let deadlines = [wait, self.next_notice(), reserve, idle, life, self.ask_at]
            .into_iter()
            .flatten();
        deadlines.filter(|&at| at > now).min()
    }

    /// When one who waits `since` then is to be looked after. Only those deadlines come
    /// with him, so the others need not be looked at.
    pub fn deadline_of_wait(&self, since: Instant) -> Option<Instant> {
        let limits = &self.limits;
        let reserve = limits.reserve_pool_timeout;
        let reserve = reserve.filter(|_| limits.reserve_pool_size > 0);
        let waits = [limits.query_wait_timeout, limits.query_wait_notify, reserve];
        let first = waits.into_iter().flatten().min().map(|wait| since + wait);
        first.into_iter().chain(self.ask_at).min()
    }

    /// When a connection that is idle `since` and was `born` then is to be
    /// closed. That of one which has just become idle is the only deadline that
    /// comes with it, so the others need not be looked at.
    pub fn deadline_of(&self, since: Instant, born: Instant) -> Option<Instant> {
        let limits = &self.limits;
        let above_min = self.total() > limits.min_pool_size;
        let unused = limits.server_idle_timeout.filter(|_| above_min);
        let deadlines = [unused.map(|t| since + t), self.end_of_life(born)];
        deadlines.into_iter().flatten().min()
    }

    /// When the next waiter will have waited for `reserve_pool_timeout`, if
    /// the reserve is all that is left.
    fn next_for_reserve(&self, now: Instant) -> Option<Instant> {
        let limits = &self.limits;
        let pool_full = limits.pool_size > 0 && self.total() >= limits.pool_size;
        let reserve_full = self.total() >= limits.pool_size + limits.reserve_pool_size;
        if !pool_full || reserve_full {
            return None;
        }
        let patience = limits.reserve_pool_timeout?;
        let live = self.queue.iter().filter_map(|&t| self.live(t));
        let mut due = live.map(|waiter| waiter.since + patience);
        due.find(|&at| at > now)
    }

    /// Whether more clients than `coming` connections will be for have waited
    /// for `reserve_pool_timeout`.
    pub(super) fn reserve_is_due(&self, now: Instant, coming: usize) -> bool {
        let limits = &self.limits;
        let Some(patience) = limits
            .reserve_pool_timeout
            .filter(|_| limits.reserve_pool_size > 0)
        else {
            return false;
        };
        let live = self.queue.iter().filter_map(|&t| self.live(t));
        let mut due = live.take_while(|waiter| now >= waiter.since + patience);
        due.nth(coming).is_some()
    }
}
