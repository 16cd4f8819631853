//! Handing connections out.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::{Farewell, Pool};
use crate::flow::Params;
use crate::pool::{Kind, Ticket};
use crate::reactor;
use crate::server::lease::Lease;
use crate::wire::build::Refusal;

/// Equal parameters are one set, in a worker.
pub(super) fn kind(params: &Rc<Params>) -> Kind {
    Rc::as_ptr(params).addr()
}

impl Pool {
    /// An idle connection, if there is one: one that already has the client's
    /// parameters is preferred.
    pub fn try_lease(self: &Rc<Self>, params: &Rc<Params>) -> Option<Lease> {
        loop {
            let taken = self
                .book
                .borrow_mut()
                .take_idle(|server| Rc::ptr_eq(server.backend.params(), params));
            let (server, since) = taken?;
            let now = reactor::now();
            if server.info.close_needed.get() {
                self.discard(server, "obsolete connection");
                continue;
            }
            let config = self.config.borrow();
            if let Some(query) = &config.server_check_query
                && now >= since.max(server.info.checked.get()) + config.server_check_delay
            {
                let query = query.clone();
                drop(config);
                self.spawn_check(server, query);
                continue;
            }
            return Some(Lease::new(server, self.clone(), now));
        }
    }

    /// Joins the queue; connections are opened as needed, and those that have the
    /// client's parameters preferred. An error: there is no use in waiting. While the
    /// server cannot be reached, a `newcomer` (who is logging in) is turned away; who
    /// was let in waits for it.
    pub fn join(
        self: &Rc<Self>,
        params: &Rc<Params>,
        now: Instant,
        newcomer: bool,
    ) -> Result<Ticket, Arc<Farewell>> {
        self.may_wait(now, newcomer)?;
        let mut book = self.book.borrow_mut();
        let ticket = book.join(now);
        book.prefer(ticket, kind(params));
        drop(book);
        self.open_wanted(now);
        self.ask_others(now);
        self.arm(self.book.borrow().deadline_of_wait(now));
        Ok(ticket)
    }

    /// With another `query_wait_timeout` than the pool's.
    pub fn limit_wait(&self, ticket: Ticket, wait: Option<Duration>) {
        let limit = self.config.borrow().longest_wait(wait);
        self.book.borrow_mut().limit_wait(ticket, limit);
        self.arm(self.book.borrow().next_deadline(Instant::now()));
    }

    /// Whether there is any use in waiting, as [`Pool::join`] has it.
    pub(super) fn may_wait(&self, now: Instant, newcomer: bool) -> Result<(), Arc<Farewell>> {
        if let Some(farewell) = &*self.closing.borrow() {
            return Err(farewell.clone());
        }
        if let Some(failure) = self.failure()
            && now < failure.retry_at
            && (newcomer || failure.refused)
            && !self.has_usable()
        {
            return Err(failure.cached.clone());
        }
        Ok(())
    }

    /// Has the wait ended?
    pub fn poll_wait(
        self: &Rc<Self>,
        ticket: Ticket,
        waker: &Waker,
    ) -> Poll<Result<Lease, Arc<Farewell>>> {
        match self.book.borrow_mut().poll(ticket, waker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(server))) => {
                Poll::Ready(Ok(Lease::new(server, self.clone(), reactor::now())))
            }
            Poll::Ready(Some(Err(farewell))) => Poll::Ready(Err(farewell)),
            Poll::Ready(None) => Poll::Ready(Err(Farewell::refusal(&Refusal::fatal(
                "XX000",
                "BUG: waited with a ticket that is no longer valid",
            )))),
        }
    }

    /// Whether a client that waits is to be told so now.
    pub fn take_notice(&self, ticket: Ticket) -> bool {
        self.book.borrow_mut().take_notice(ticket)
    }

    /// Gives up waiting.
    pub fn leave(self: &Rc<Self>, ticket: Ticket) {
        let given = self.book.borrow_mut().leave(ticket);
        if let Some(server) = given {
            self.take_back(server, false, false);
        }
    }

    /// Waits for a connection for somebody who logs in. Cancel safe: a place in the queue is given up
    /// when the future is dropped.
    pub async fn lease(self: &Rc<Self>, params: &Rc<Params>) -> Result<Lease, Arc<Farewell>> {
        if let Some(lease) = self.try_lease(params) {
            return Ok(lease);
        }
        let mut place = Place::new(self, self.join(params, Instant::now(), true)?);
        std::future::poll_fn(|cx| {
            let poll = place.poll(cx.waker());
            if let Poll::Ready(Err(farewell)) = &poll
                && farewell.reroute
            {
                // What a login needs any server can tell.
                if let Some(lease) = self.try_lease(params) {
                    return Poll::Ready(Ok(lease));
                }
                place = Place::new(self, self.join(params, Instant::now(), true)?);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            poll
        })
        .await
    }
}

/// A place in the queue that is given up when dropped.
pub(super) struct Place<'a> {
    ticket: Option<Ticket>,
    pool: &'a Rc<Pool>,
}

impl Place<'_> {
    pub fn new(pool: &Rc<Pool>, ticket: Ticket) -> Place<'_> {
        Place {
            ticket: Some(ticket),
            pool,
        }
    }

    /// Has the wait ended?
    pub fn poll(&mut self, waker: &Waker) -> Poll<Result<Lease, Arc<Farewell>>> {
        let Some(ticket) = self.ticket else {
            return Poll::Pending;
        };
        let poll = self.pool.poll_wait(ticket, waker);
        if poll.is_ready() {
            self.ticket = None;
        }
        poll
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.pool.leave(ticket);
        }
    }
}
