//! What time asks for, and signs of life from idle connections.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Farewell, Pool};
use crate::reactor;
use crate::server::cleanup;
use crate::stats::add;
use crate::wire::build::Refusal;

impl Pool {
    pub(super) fn wake(&self) {
        // A task that has not begun need not be woken.
        if let Some(task) = self.maintenance.get() {
            task.wake();
        }
    }

    /// Makes sure that the maintenance task runs at `deadline`.
    pub(super) fn arm(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            return;
        };
        if self.armed.get().is_none_or(|armed| deadline < armed) {
            self.wake();
        }
    }

    /// Everything that time, or a sign of life from an idle connection, asks
    /// for. Returns when to come again.
    pub(super) fn maintain(self: &Rc<Self>, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut room = self.watch_idle(cx);
        let timeout = |waited| self.wait_timeout_error(waited);
        let wakers = self.book.borrow_mut().expire_waiters(now, timeout);
        add(&self.counters.query_wait_timeout_count, wakers.len() as u64);
        let told = self.book.borrow_mut().notify_waiters(now);
        for waker in wakers.into_iter().chain(told) {
            waker.wake();
        }
        let old = self.book.borrow_mut().expire_idle(now);
        let surplus = self.is_closing()
            || self
                .book
                .borrow()
                .idle()
                .any(|(s, _)| s.info.close_needed.get());
        room |= !old.is_empty();
        for (server, expired) in old {
            self.hang_up(server, expired.as_str());
        }
        if surplus {
            let closing = self.is_closing();
            let gone = self
                .book
                .borrow_mut()
                .retain_idle(|server| !closing && !server.info.close_needed.get());
            room |= !gone.is_empty();
            for server in gone {
                let reason = if closing {
                    self.closing_reason()
                } else {
                    "database configuration changed"
                };
                self.hang_up(server, reason);
            }
        }
        self.open_wanted(now);
        self.ask_others(now);
        if room {
            self.offer_room();
            self.spread_room();
        }
        let failure = self.failure();
        if let Some(failure) = &failure {
            self.try_out(now, failure);
        }
        let retry = failure.map(|failure| failure.retry_at);
        let retry = retry.filter(|&at| at > now);
        let retry = retry.filter(|_| self.lacks_connections() || self.is_ejected());
        let deadline = self.book.borrow().next_deadline(now);
        let oblivion = self.forget_if_idle(now);
        [deadline, retry, oblivion].into_iter().flatten().min()
    }

    /// True: at least one is gone.
    pub(super) fn watch_idle(self: &Rc<Self>, cx: &mut Context<'_>) -> bool {
        let mut reason = Cow::default();
        let gone = self.book.borrow_mut().retain_idle(|server| {
            let result = cleanup::watch_idle(server, self, cx);
            result.map_err(|why| reason = why).is_ok()
        });
        let any = !gone.is_empty();
        for server in gone {
            self.hang_up(server, &reason);
        }
        any
    }

    fn wait_timeout_error(&self, waited: Duration) -> Arc<Farewell> {
        let config = self.config.borrow();
        let setting = match config.query_timeout == Some(waited) {
            true => "query_timeout",
            false => "query_wait_timeout",
        };
        Farewell::refusal(
            &Refusal::fatal("08P01", setting)
                .detail(format!(
                    "No server connection of database \"{}\", user \"{}\" became free within {} s.",
                    config.database,
                    config.user,
                    waited.as_secs_f64()
                ))
                .hint(format!(
                    "Raise pool_size (now {}) or {setting}, or make transactions shorter.",
                    config.pool_size
                )),
        )
    }
}

/// The task that looks after a pool; it sleeps until something is due.
pub(super) struct Maintenance {
    pub pool: Weak<Pool>,
    pub sleep: Option<Pin<Box<reactor::Sleep>>>,
}

impl Future for Maintenance {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pool) = self.pool.upgrade() else {
            return Poll::Ready(());
        };
        if pool.maintenance.get().is_none() {
            pool.maintenance.set(Some(reactor::Wake::current()));
        }
        loop {
            let deadline = pool.maintain(cx);
            pool.armed.set(deadline);
            let Some(deadline) = deadline else {
                self.sleep = None;
                return Poll::Pending;
            };
            let mut sleep = Box::pin(reactor::sleep_until(deadline));
            if sleep.as_mut().poll(cx).is_pending() {
                self.sleep = Some(sleep);
                return Poll::Pending;
            }
        }
    }
}
