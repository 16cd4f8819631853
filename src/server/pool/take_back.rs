//! Taking connections back: reused, cleaned, or closed.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::Pool;
use super::lend::kind;
use crate::admin::snapshot::ServerState;
use crate::flow::Release;
use crate::pool::Given;
use crate::reactor;
use crate::server::cleanup;
use crate::server::lease::{Server, ServerInfo};
use crate::stats::add;
use crate::wire::build;

impl Pool {
    /// A connection comes back, in whatever state. `session`: it was a client's
    /// for its whole session.
    pub(in crate::server) fn take_back(
        self: &Rc<Self>,
        mut server: Box<Server>,
        let_finish: bool,
        session: bool,
    ) {
        server.backend.leave_place();
        server
            .info
            .prepared_statements
            .set(server.backend.prepared_statements());
        let release = server.backend.release();
        if release == Release::Broken {
            let reason = server.info.close_reason.get();
            return self.discard(server, reason.unwrap_or("connection is unusable"));
        }
        if server.info.doomed.get() {
            let in_use = release == Release::Dirty && self.is_of_ini();
            return self.discard(
                server,
                match in_use {
                    true => "client disconnect while server was not ready",
                    false => "database removed",
                },
            );
        }
        // Half a message in one direction or the other is dirt as well.
        let dirty =
            release == Release::Dirty || !server.input.is_empty() || !server.output.is_empty();
        let config = self.config.borrow();
        let reset =
            !config.server_reset_query.is_empty() && (session || config.server_reset_query_always);
        drop(config);
        let marked = server.backend.is_marked() || server.backend.has_clients_names();
        if dirty || reset || marked || server.info.cancels.get() > 0 {
            self.spawn_cleanup(server, dirty, reset, let_finish);
        } else {
            // A transaction ends with an answer, and that was read just now.
            let now = match session {
                false => server.info.asked_at.get(),
                true => Instant::now(),
            };
            self.reuse(server, now);
        }
    }

    /// A clean connection: to the next client, or idle, or closed for its age.
    pub(super) fn reuse(self: &Rc<Self>, mut server: Box<Server>, now: Instant) {
        if let Some(reason) = self.retirement(&server, now) {
            return self.discard(server, reason);
        }
        if self.book.borrow().is_above_size() && self.book.borrow_mut().close_surplus() {
            self.hang_up(server, "too many servers in the pool");
            return self.after_close();
        }
        if let Some(side) = self.wanted.take() {
            return self.send_over(server, side);
        }
        let waiting = self.book.borrow().waiting_count() > 0;
        // Watch it while it is idle: data or the end of file mean that it is
        // of no more use. Usually nothing is read here: the socket is known to
        // be drained.
        if !waiting && !self.watches(&server) {
            let mut cx = Context::from_waker(Waker::noop());
            if let Err(reason) = cleanup::watch_idle(&mut server, self, &mut cx) {
                return self.discard(server, &reason);
            }
            self.watches(&server);
        }
        server.info.state.set(ServerState::Idle);
        server.info.held.set(0);
        server.info.unsent.set(0);
        server.info.rest.set(0);
        let born = server.info.born;
        // What looked at it in between was no use of it.
        let since = server.info.idle_since.get().unwrap_or(now);
        server.info.idle_since.set(Some(since));
        let kind = kind(server.backend.params());
        let given = self.book.borrow_mut().give_back(server, kind, since, born);
        match given {
            Given::Here(Some(waker)) => waker.wake(),
            Given::Here(None) => {}
            Given::Away(server, passage) => return self.send_away(server, passage),
        }
        if !waiting {
            self.arm(self.book.borrow().deadline_of(since, born));
            self.offer_room();
            self.send_surplus();
        }
    }

    /// From now on the maintenance task hears of what comes from it. False: something
    /// may be there already.
    fn watches(&self, server: &Server) -> bool {
        // Before its first turn, in which it looks at all of them, there is none.
        let task = self.maintenance.get();
        task.is_none_or(|task| server.stream.wake_when_readable(task))
    }

    pub(super) fn retirement(&self, server: &Server, now: Instant) -> Option<&'static str> {
        let config = self.config.borrow();
        let max = config.server_max_queries;
        if self.is_closing() {
            Some(self.closing_reason())
        } else if self.is_paused() {
            Some("pause mode")
        } else if server.info.close_needed.get() {
            let reason = server.info.close_reason.get();
            Some(reason.unwrap_or("close_needed"))
        } else if server.info.was_used()
            && (config.server_lifetime.is_some_and(|max| max.is_zero())
                || self.book.borrow_mut().end_life(server.info.born, now))
        {
            Some("server lifetime over")
        } else if max > 0 && server.backend.queries() >= max {
            Some("server_max_queries reached")
        } else {
            None
        }
    }

    /// Closes a held connection.
    pub(super) fn discard(self: &Rc<Self>, server: Box<Server>, reason: &str) {
        self.hang_up(server, reason);
        self.book.borrow_mut().closed();
        self.after_close();
    }

    /// Says goodbye and closes. The book is not touched.
    pub(super) fn hang_up(&self, mut server: Box<Server>, reason: &str) {
        self.log_close(server.info.id, &server.info.host, reason, server.info.born);
        add(&self.counters.server_close_count, 1);
        self.servers
            .borrow_mut()
            .retain(|_, info| !Rc::ptr_eq(info, &server.info));
        if server.output.is_empty() {
            let mut cx = Context::from_waker(Waker::noop());
            // The kernel takes five bytes, or the connection is dead anyway.
            let _ = server
                .output
                .write(&mut server.stream, &mut cx, build::TERMINATE);
        }
        server.stream.say_goodbye();
    }

    /// There may be room now for somebody who waits, here or (with a shared
    /// bound) in another pool.
    pub(super) fn after_close(self: &Rc<Self>) {
        let now = Instant::now();
        self.open_wanted(now);
        if self.book.borrow().own() == 0 {
            // It may be empty from now on.
            self.wake();
        }
        // The reserve may be open again to somebody who has waited less.
        self.arm(self.book.borrow().next_deadline(now));
        self.offer_room();
        self.spread_room();
    }

    /// A pool that shares a bound with this one may have waiters: an idle
    /// connection here is room for them.
    pub(super) fn offer_room(&self) {
        let config = self.config.borrow();
        let shares = config.max_db_connections > 0 || config.max_user_connections > 0;
        drop(config);
        if shares {
            if let Some(pools) = self.pools.upgrade() {
                pools.room_made();
            }
            self.spread_room();
        }
    }

    pub(super) fn spawn_check(self: &Rc<Self>, server: Box<Server>, query: String) {
        self.housekeeping(server, Pace::Quick, move |pool, server| {
            Box::pin(async move {
                cleanup::run(server, &pool, &query).await?;
                server.info.checked.set(Instant::now());
                Ok(())
            })
        });
    }

    pub(super) fn spawn_cleanup(
        self: &Rc<Self>,
        server: Box<Server>,
        dirty: bool,
        reset: bool,
        let_finish: bool,
    ) {
        if dirty {
            add(&self.counters.cleanup_count, 1);
        }
        let pace = match dirty || server.info.cancels.get() > 0 {
            true => Pace::Slow,
            false => Pace::Quick,
        };
        self.housekeeping(server, pace, move |pool, server| {
            Box::pin(async move {
                if dirty {
                    cleanup::resynchronise(server, &pool, let_finish).await?;
                }
                if server.backend.is_marked() {
                    cleanup::wipe(server, &pool).await?;
                }
                if server.backend.has_clients_names() {
                    cleanup::run(server, &pool, "DEALLOCATE ALL").await?;
                }
                if reset {
                    let query = pool.config().server_reset_query.clone();
                    cleanup::run(server, &pool, &query).await?;
                }
                wait_for_cancels(&server.info).await;
                Ok(())
            })
        });
    }

    /// Works on a held connection in a task of its own, within
    /// `cancel_wait_timeout`; then it is used again, or closed.
    pub(super) fn housekeeping<F>(self: &Rc<Self>, server: Box<Server>, quick: Pace, work: F)
    where
        F: for<'a> FnOnce(
                Rc<Pool>,
                &'a mut Server,
            )
                -> Pin<Box<dyn Future<Output = Result<(), cleanup::CleanupError>> + 'a>>
            + 'static,
    {
        let pool = self.clone();
        if quick == Pace::Quick {
            self.book.borrow_mut().returning();
        }
        server.info.state.set(match server.info.cancels.get() {
            0 => ServerState::Tested,
            _ => ServerState::BeingCanceled,
        });
        reactor::spawn(async move {
            let mut held = Held {
                server: Some(server),
                pool: pool.clone(),
                pace: quick,
            };
            let Some(server) = held.server.as_deref_mut() else {
                return;
            };
            let limit = pool.config().cancel_wait_timeout;
            let limit = limit.unwrap_or(Duration::from_secs(3600));
            let result = reactor::timeout(limit, work(pool.clone(), server)).await;
            let Some(server) = held.take() else {
                return;
            };
            let failure = match result {
                Ok(Ok(())) if server.backend.release() == Release::Ready => {
                    return pool.reuse(server, Instant::now());
                }
                Ok(Ok(())) => "state is unknown after housekeeping".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "housekeeping took longer than cancel_wait_timeout".to_owned(),
            };
            add(&pool.counters.cleanup_failed_count, 1);
            pool.discard(server, &failure);
        });
    }
}

/// A connection under housekeeping; if the task ends early, it is closed.
struct Held {
    server: Option<Box<Server>>,
    pool: Rc<Pool>,
    pace: Pace,
}

/// How long housekeeping takes: whether those who wait should count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// A round trip.
    Quick,
    /// Until something that runs has ended.
    Slow,
}

impl Held {
    fn take(&mut self) -> Option<Box<Server>> {
        let server = self.server.take()?;
        if self.pace == Pace::Quick {
            self.pool.book.borrow_mut().returned();
        }
        Some(server)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(server) = self.take() {
            self.pool.discard(server, "housekeeping was interrupted");
        }
    }
}

async fn wait_for_cancels(info: &ServerInfo) {
    while info.cancels.get() > 0 {
        info.cancels_over.notified().await;
    }
}
