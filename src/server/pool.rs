//! One pool at work: opens connections, hands them out, takes them back,
//! watches the idle ones. Who gets what is decided by [`Book`].

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;
use slab::Slab;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::lease::{Lease, Server, ServerInfo};
use super::login::{self, Credential, LoggedIn};
use super::login_error::ServerLoginError;
use super::{cleanup, dial};
use crate::admin::snapshot::ServerState;
use crate::config::{Host, PoolConfig, PoolMode};
use crate::flow::{Backend, Params, Release};
use crate::net::{Outgoing, Stream};
use crate::pool::{Book, Limits, SharedBound, SharedLimit, Ticket};
use crate::stats::{Counters, add};
use crate::wire::build::{self, Refusal};
use crate::worker::{Local, Pools};

/// What a client is told that gets no server connection: a whole
/// ErrorResponse, and the same for the log.
#[derive(Debug)]
pub struct Farewell {
    pub message: Vec<u8>,
    pub reason: String,
}

impl Farewell {
    pub fn refusal(refusal: &Refusal) -> Rc<Farewell> {
        let mut message = Vec::new();
        refusal.encode(&mut message);
        Rc::new(Farewell {
            message,
            reason: refusal.message.clone(),
        })
    }
}

/// How many different sets of startup parameters a pool remembers.
const KNOWN_PARAMETERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// Opening a connection has failed; no new attempt before `retry_at`.
struct Failure {
    retry_at: Instant,
    /// For clients that come in the meantime.
    cached: Rc<Farewell>,
    /// The server has answered, and refused.
    refused: bool,
}

/// The pool of one database and user, on one worker.
pub struct Pool {
    pub counters: Counters,
    local: Rc<Local>,
    pools: Weak<Pools>,
    config: RefCell<Rc<PoolConfig>>,
    book: RefCell<Book<Box<Server>, Rc<Farewell>>>,
    credential: RefCell<Credential>,
    /// What the server reported at the last login.
    welcome: RefCell<Option<Rc<Params>>>,
    known: RefCell<LruCache<Rc<Params>, Rc<Params>>>,
    failure: RefCell<Option<Failure>>,
    next_host: Cell<usize>,
    servers: RefCell<Slab<Rc<ServerInfo>>>,
    clients: Cell<usize>,
    /// Wakes the maintenance task, and when that wakes by itself.
    maintenance: RefCell<Waker>,
    armed: Cell<Option<Instant>>,
    /// Why nothing is opened any more.
    closing: RefCell<Option<Rc<Farewell>>>,
}

impl Pool {
    /// A pool without connections. Must be called inside a `LocalSet` or local
    /// runtime: it starts its maintenance task.
    pub fn start(
        config: PoolConfig,
        credential: Credential,
        (db_limit, user_limit): (Rc<SharedLimit>, Rc<SharedLimit>),
        local: Rc<Local>,
        pools: Weak<Pools>,
    ) -> Rc<Pool> {
        let book = Book::new(limits(&config), db_limit, user_limit);
        let pool = Rc::new(Pool {
            counters: Counters::default(),
            local,
            pools,
            config: RefCell::new(Rc::new(config)),
            book: RefCell::new(book),
            credential: RefCell::new(credential),
            welcome: RefCell::new(None),
            known: RefCell::new(LruCache::new(KNOWN_PARAMETERS)),
            failure: RefCell::new(None),
            next_host: Cell::new(0),
            servers: RefCell::new(Slab::new()),
            clients: Cell::new(0),
            maintenance: RefCell::new(Waker::noop().clone()),
            armed: Cell::new(None),
            closing: RefCell::new(None),
        });
        tokio::task::spawn_local(Maintenance {
            pool: Rc::downgrade(&pool),
            sleep: None,
        });
        pool
    }

    pub fn config(&self) -> Rc<PoolConfig> {
        self.config.borrow().clone()
    }

    pub fn local(&self) -> &Local {
        &self.local
    }

    pub fn welcome(&self) -> Option<Rc<Params>> {
        self.welcome.borrow().clone()
    }

    pub fn book(&self) -> Ref<'_, Book<Box<Server>, Rc<Farewell>>> {
        self.book.borrow()
    }

    pub fn servers(&self) -> Ref<'_, Slab<Rc<ServerInfo>>> {
        self.servers.borrow()
    }

    pub fn clients(&self) -> usize {
        self.clients.get()
    }

    /// A client has come (+1) or gone (-1): `min_pool_size` is kept while there
    /// are some.
    pub fn count_client(&self, change: isize) {
        self.clients
            .set(self.clients.get().saturating_add_signed(change));
        self.wake();
    }

    /// How a connection to the server is to be proved; newer proofs replace
    /// older ones (SCRAM pass-through).
    pub fn set_credential(&self, credential: Credential) {
        *self.credential.borrow_mut() = credential;
    }

    /// What the configuration says now; what a client has proved to us stays.
    pub fn renew_credential(&self, credential: Credential) {
        let mut current = self.credential.borrow_mut();
        let scram_keys = current.scram_keys.take();
        *current = Credential {
            scram_keys,
            ..credential
        };
    }

    /// A new configuration. Connections that were opened under other terms are
    /// closed as they are released.
    pub fn reconfigure(&self, config: PoolConfig) {
        let old = self.config.replace(Rc::new(config));
        let new = self.config.borrow().clone();
        self.book.borrow_mut().set_limits(limits(&new));
        if !same_server(&old, &new) {
            for (_, info) in self.servers.borrow().iter() {
                info.close_needed.set(true);
            }
            *self.welcome.borrow_mut() = None;
        }
        *self.failure.borrow_mut() = None;
        self.wake();
    }

    /// No new connections; idle ones go now, others when released; who waits,
    /// or would, is told.
    pub fn close(&self, farewell: &Rc<Farewell>) {
        *self.closing.borrow_mut() = Some(farewell.clone());
        let wakers = self.book.borrow_mut().fail_all(farewell);
        for waker in wakers {
            waker.wake();
        }
        let idle = self.book.borrow_mut().retain_idle(|_| false);
        for server in idle {
            self.hang_up(server, "server shutting down");
        }
        self.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Parameters that a login asked for and the server has accepted, as the
    /// server reports them.
    pub fn known_parameters(&self, asked: &Params) -> Option<Rc<Params>> {
        self.known.borrow_mut().get(asked).cloned()
    }

    /// Remembers what [`Pool::known_parameters`] returns.
    pub fn learn_parameters(&self, asked: Rc<Params>, reported: Rc<Params>) {
        self.known.borrow_mut().put(asked, reported);
    }

    // ---- handing out ----

    /// An idle connection, if there is one: one that already has the client's
    /// parameters is preferred.
    pub fn try_lease(self: &Rc<Self>, params: &Rc<Params>) -> Option<Lease> {
        loop {
            let taken = self
                .book
                .borrow_mut()
                .take_idle(|server| Rc::ptr_eq(server.backend.params(), params));
            let (server, since) = taken?;
            let now = Instant::now();
            if server.info.close_needed.get() {
                self.discard(server, "obsolete connection");
                continue;
            }
            let config = self.config.borrow();
            if let Some(query) = &config.server_check_query
                && now >= since + config.server_check_delay
            {
                let query = query.clone();
                drop(config);
                self.spawn_check(server, query);
                continue;
            }
            return Some(Lease::new(server, self.clone(), now));
        }
    }

    /// Joins the queue; connections are opened as needed. An error: there is
    /// no use in waiting. While the server cannot be reached, a `newcomer` (who
    /// is logging in) is turned away; who was let in waits for it.
    pub fn join(self: &Rc<Self>, now: Instant, newcomer: bool) -> Result<Ticket, Rc<Farewell>> {
        if let Some(farewell) = &*self.closing.borrow() {
            return Err(farewell.clone());
        }
        if let Some(failure) = &*self.failure.borrow()
            && now < failure.retry_at
            && (newcomer || failure.refused)
            && !self.has_usable()
        {
            return Err(failure.cached.clone());
        }
        let ticket = self.book.borrow_mut().join(now);
        self.open_wanted(now);
        self.arm(self.book.borrow().next_deadline(now));
        Ok(ticket)
    }

    /// Has the wait ended?
    pub fn poll_wait(
        self: &Rc<Self>,
        ticket: Ticket,
        waker: &Waker,
    ) -> Poll<Result<Lease, Rc<Farewell>>> {
        match self.book.borrow_mut().poll(ticket, waker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(server))) => {
                Poll::Ready(Ok(Lease::new(server, self.clone(), Instant::now())))
            }
            Poll::Ready(Some(Err(farewell))) => Poll::Ready(Err(farewell)),
            Poll::Ready(None) => Poll::Ready(Err(Farewell::refusal(&Refusal::fatal(
                "XX000",
                "BUG: waited with a ticket that is no longer valid",
            )))),
        }
    }

    /// Gives up waiting.
    pub fn leave(self: &Rc<Self>, ticket: Ticket) {
        let given = self.book.borrow_mut().leave(ticket);
        if let Some(server) = given {
            self.take_back(server, false);
        }
    }

    /// Waits for a connection for somebody who logs in. Cancel safe: a place in the queue is given up
    /// when the future is dropped.
    pub async fn lease(self: &Rc<Self>, params: &Rc<Params>) -> Result<Lease, Rc<Farewell>> {
        if let Some(lease) = self.try_lease(params) {
            return Ok(lease);
        }
        let mut place = Place {
            ticket: Some(self.join(Instant::now(), true)?),
            pool: self,
        };
        std::future::poll_fn(|cx| {
            let Some(ticket) = place.ticket else {
                return Poll::Pending;
            };
            let poll = self.poll_wait(ticket, cx.waker());
            if poll.is_ready() {
                place.ticket = None;
            }
            poll
        })
        .await
    }

    // ---- taking back ----

    /// A connection comes back, in whatever state.
    pub(super) fn take_back(self: &Rc<Self>, server: Box<Server>, let_finish: bool) {
        server
            .info
            .prepared_statements
            .set(server.backend.prepared_statements());
        let release = server.backend.release();
        if release == Release::Broken {
            return self.discard(server, "connection is unusable");
        }
        // Half a message in one direction or the other is dirt as well.
        let dirty =
            release == Release::Dirty || !server.input.is_empty() || !server.output.is_empty();
        let config = self.config.borrow();
        let reset = !config.server_reset_query.is_empty()
            && (config.pool_mode == PoolMode::Session || config.server_reset_query_always);
        drop(config);
        if dirty || reset || server.info.cancels.get() > 0 {
            self.spawn_cleanup(server, dirty, reset, let_finish);
        } else {
            self.reuse(server);
        }
    }

    /// A clean connection: to the next client, or idle, or closed for its age.
    fn reuse(self: &Rc<Self>, mut server: Box<Server>) {
        let now = Instant::now();
        if let Some(reason) = self.retirement(&server, now) {
            return self.discard(server, reason);
        }
        let waiting = self.book.borrow().waiting_count() > 0;
        // Watch it while it is idle: data or the end of file mean that it is
        // of no more use. Usually nothing is read here: the socket is known to
        // be drained.
        if !waiting {
            let waker = self.maintenance.borrow();
            let mut cx = Context::from_waker(&waker);
            while let Poll::Ready(read) = cleanup::poll_discard(&mut server, self, &mut cx) {
                match read {
                    Ok(()) if server.backend.release() == Release::Ready => {}
                    Ok(()) => return self.discard(server, "unexpected message while idle"),
                    Err(error) => return self.discard(server, &error.to_string()),
                }
            }
        }
        server.info.state.set(ServerState::Idle);
        let born = server.info.born;
        let waker = self.book.borrow_mut().give_back(server, now, born);
        if let Some(waker) = waker {
            waker.wake();
        }
        if !waiting {
            self.arm(self.book.borrow().deadline_of(now, born));
            self.offer_room();
        }
    }

    fn retirement(&self, server: &Server, now: Instant) -> Option<&'static str> {
        let config = self.config.borrow();
        let max = config.server_max_queries;
        if self.is_closing() {
            Some("server shutting down")
        } else if server.info.close_needed.get() {
            Some("obsolete connection")
        } else if config
            .server_lifetime
            .is_some_and(|max| server.info.was_used() && now >= server.info.born + max)
        {
            Some("server lifetime over")
        } else if max > 0 && server.backend.queries() >= max {
            Some("server_max_queries reached")
        } else if self.book.borrow().is_above_size() {
            Some("too many servers in the pool")
        } else {
            None
        }
    }

    /// Closes a held connection.
    fn discard(self: &Rc<Self>, server: Box<Server>, reason: &str) {
        self.hang_up(server, reason);
        self.book.borrow_mut().closed();
        self.after_close();
    }

    /// Says goodbye and closes. The book is not touched.
    fn hang_up(&self, mut server: Box<Server>, reason: &str) {
        let age = server.info.born.elapsed().as_secs();
        let conn = self.log_server(&server.info);
        let config = self.config();
        let (db, user) = (&config.database, &config.user);
        let addr = dial::place(&server.info.host);
        info!(%conn, %db, %user, %addr, reason, age, "closing because");
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
    }

    /// There may be room now for somebody who waits, here or (with a shared
    /// bound) in another pool.
    fn after_close(self: &Rc<Self>) {
        let now = Instant::now();
        self.open_wanted(now);
        // The reserve may be open again to somebody who has waited less.
        self.arm(self.book.borrow().next_deadline(now));
        self.offer_room();
    }

    /// A pool that shares a bound with this one may have waiters: an idle
    /// connection here is room for them.
    fn offer_room(&self) {
        let config = self.config.borrow();
        let shares = config.max_db_connections > 0 || config.max_user_connections > 0;
        drop(config);
        if shares && let Some(pools) = self.pools.upgrade() {
            pools.room_made();
        }
    }

    fn spawn_check(self: &Rc<Self>, server: Box<Server>, query: String) {
        self.housekeeping(server, Pace::Quick, move |pool, server| {
            Box::pin(async move { cleanup::run(server, &pool, &query).await })
        });
    }

    fn spawn_cleanup(
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
    fn housekeeping<F>(self: &Rc<Self>, server: Box<Server>, quick: Pace, work: F)
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
        tokio::task::spawn_local(async move {
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
            let result = tokio::time::timeout(limit, work(pool.clone(), server)).await;
            let Some(server) = held.take() else {
                return;
            };
            let failure = match result {
                Ok(Ok(())) if server.backend.release() == Release::Ready => {
                    return pool.reuse(server);
                }
                Ok(Ok(())) => "state is unknown after housekeeping".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "housekeeping took longer than cancel_wait_timeout".to_owned(),
            };
            add(&pool.counters.cleanup_failed_count, 1);
            pool.discard(server, &failure);
        });
    }

    // ---- opening ----

    fn keeps_minimum(&self) -> bool {
        self.config.borrow().forced_user || self.clients.get() > 0
    }

    /// Whether there is a connection that has been opened, whoever has it.
    fn has_usable(&self) -> bool {
        let book = self.book.borrow();
        book.total() > book.opening_count()
    }

    /// Opens as many connections as are needed and allowed, all at once; one
    /// at a time while it is not known that the server lets us in.
    pub fn open_wanted(self: &Rc<Self>, now: Instant) {
        let unproved = self.failure.borrow().is_some() || self.welcome.borrow().is_none();
        if let Some(failure) = &*self.failure.borrow()
            && now < failure.retry_at
        {
            return;
        }
        if self.is_closing() {
            return;
        }
        let mut evicted = 0;
        loop {
            let wanted = self.book.borrow().wanted(now, self.keeps_minimum());
            let opening = self.book.borrow().opening_count();
            match wanted {
                Ok(0) => return,
                Ok(_) if unproved && opening > 0 => return,
                Ok(_) => {
                    self.book.borrow_mut().begin_open();
                    tokio::task::spawn_local(open(self.clone()));
                }
                // `min_pool_size` alone takes nothing away from others.
                Err(_) if !self.has_waiters() => return,
                Err(bound) => {
                    // Somebody else's idle connection makes room.
                    let pools = self.pools.upgrade();
                    evicted += 1;
                    if evicted > 1000 || !pools.is_some_and(|p| p.evict_idle(self, bound)) {
                        return;
                    }
                }
            }
        }
    }

    /// Closes the connection that was idle longest, for the good of another
    /// pool. False: none is idle.
    pub fn evict_one(&self) -> bool {
        let server = self.book.borrow_mut().evict_idle();
        let Some(server) = server else {
            return false;
        };
        self.hang_up(server, "evicted");
        true
    }

    pub fn has_waiters(&self) -> bool {
        self.book.borrow().waiting_count() > 0
    }

    pub fn is_idle_evictable(&self) -> Option<Instant> {
        let book = self.book.borrow();
        let mut idle = book.idle();
        idle.next().map(|(_, since)| since)
    }

    pub fn shares_bound(&self, other: &PoolConfig, bound: SharedBound) -> bool {
        let config = self.config.borrow();
        match bound {
            SharedBound::Database => config.database == other.database,
            SharedBound::User => config.user == other.user,
        }
    }

    fn admit(self: &Rc<Self>, stream: Stream, host: Host, logged_in: LoggedIn) -> Box<Server> {
        let mut params = Params::default();
        for (name, value) in &logged_in.parameters {
            params.set(name.as_bytes(), value, true);
        }
        let params = self.local.params.borrow_mut().intern(params);
        let now = Instant::now();
        let info = Rc::new(ServerInfo {
            id: self.local.next_id(),
            host,
            peer: stream.peer_addr(),
            local: stream.local_addr(),
            key: logged_in.backend_key,
            born: now,
            connect_time: SystemTime::now(),
            request_time: Cell::new(now),
            state: Cell::new(ServerState::New),
            close_needed: Cell::new(false),
            link: Cell::new(None),
            application_name: RefCell::default(),
            prepared_statements: Cell::new(0),
            cancels: Cell::new(0),
            cancels_over: Notify::new(),
        });
        self.servers.borrow_mut().insert(info.clone());
        *self.welcome.borrow_mut() = Some(params.clone());
        *self.failure.borrow_mut() = None;
        add(&self.counters.server_connect_count, 1);
        let max_prepared = self.config.borrow().max_prepared_statements;
        Box::new(Server {
            stream,
            backend: Backend::new(params, max_prepared),
            info,
            input: Vec::new(),
            output: Outgoing::default(),
        })
    }

    fn open_failed(self: &Rc<Self>, host: &Host, error: &OpenError) {
        let config = self.config();
        let place = dial::place(host);
        let db = &config.database;
        let user = &config.user;
        warn!(%db, %user, addr = %place, reason = %error, "cannot open a server connection");
        add(&self.counters.server_connect_failed_count, 1);
        let cached = Farewell::refusal(
            &Refusal::fatal(
                error.sqlstate(),
                format!(
                    "server login has been failing, cached error: {} (server_login_retry)",
                    error.text()
                ),
            )
            .detail(format!("The last attempt went to {place}."))
            .hint(error.hint().unwrap_or_else(|| {
                format!(
                    "Tried again after server_login_retry ({} s).",
                    config.server_login_retry.as_secs_f64()
                )
            })),
        );
        *self.failure.borrow_mut() = Some(Failure {
            retry_at: Instant::now() + config.server_login_retry,
            cached,
            refused: error.farewell().is_some(),
        });
        self.book.borrow_mut().open_failed();
        // A refused login fails everybody who waits, unless there are
        // connections to wait for (the server may have no room for more); a
        // server that cannot be reached, or is starting, is waited for.
        if let Some(farewell) = error.farewell().filter(|_| !self.has_usable()) {
            let wakers = self.book.borrow_mut().fail_all(&farewell);
            for waker in wakers {
                waker.wake();
            }
        }
        self.after_close();
        self.wake();
    }

    // ---- time ----

    fn wake(&self) {
        self.maintenance.borrow().wake_by_ref();
    }

    /// Makes sure that the maintenance task runs at `deadline`.
    fn arm(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            return;
        };
        if self.armed.get().is_none_or(|armed| deadline < armed) {
            self.wake();
        }
    }

    /// Everything that time, or a sign of life from an idle connection, asks
    /// for. Returns when to come again.
    fn maintain(self: &Rc<Self>, cx: &mut Context<'_>) -> Option<Instant> {
        let now = Instant::now();
        let mut room = self.watch_idle(cx);
        let config = self.config();
        let timeout = self.query_wait_timeout_error(&config);
        let wakers = self.book.borrow_mut().expire_waiters(now, &timeout);
        add(&self.counters.query_wait_timeout_count, wakers.len() as u64);
        for waker in wakers {
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
        for server in old {
            self.hang_up(server, "idle or older than allowed");
        }
        if surplus {
            let closing = self.is_closing();
            let gone = self
                .book
                .borrow_mut()
                .retain_idle(|server| !closing && !server.info.close_needed.get());
            room |= !gone.is_empty();
            for server in gone {
                self.hang_up(
                    server,
                    if closing {
                        "server shutting down"
                    } else {
                        "obsolete connection"
                    },
                );
            }
        }
        self.open_wanted(now);
        if room {
            self.offer_room();
        }
        let retry = self
            .failure
            .borrow()
            .as_ref()
            .map(|failure| failure.retry_at);
        let lacking = self.has_waiters()
            || (self.keeps_minimum() && self.book.borrow().total() < config.min_pool_size);
        let retry = retry.filter(|&at| lacking && at > now);
        let deadline = self.book.borrow().next_deadline(now);
        [deadline, retry].into_iter().flatten().min()
    }

    /// True: at least one is gone.
    fn watch_idle(self: &Rc<Self>, cx: &mut Context<'_>) -> bool {
        let mut reason = String::new();
        let gone = self.book.borrow_mut().retain_idle(|server| {
            // Whatever comes is walked (a ParameterStatus may), until nothing
            // more is there.
            loop {
                match cleanup::poll_discard(server, self, cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(())) if server.backend.release() == Release::Ready => {}
                    Poll::Ready(Ok(())) => {
                        reason = "unexpected message while idle".to_owned();
                        return false;
                    }
                    Poll::Ready(Err(error)) => {
                        reason = error.to_string();
                        return false;
                    }
                }
            }
        });
        let any = !gone.is_empty();
        for server in gone {
            self.hang_up(server, &reason);
        }
        any
    }

    fn query_wait_timeout_error(&self, config: &PoolConfig) -> Rc<Farewell> {
        let waited = config.query_wait_timeout.unwrap_or_default();
        Farewell::refusal(
            &Refusal::fatal("08P01", "query_wait_timeout")
                .detail(format!(
                    "No server connection of database \"{}\", user \"{}\" became free within {} s.",
                    config.database,
                    config.user,
                    waited.as_secs_f64()
                ))
                .hint(format!(
                    "Raise pool_size (now {}) or query_wait_timeout, or make transactions shorter.",
                    config.pool_size
                )),
        )
    }

    /// How log lines name a server connection.
    pub fn log_server(&self, info: &ServerInfo) -> String {
        format!("S-{}", info.id)
    }
}

/// A place in the queue that is given up when dropped.
struct Place<'a> {
    ticket: Option<Ticket>,
    pool: &'a Rc<Pool>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.pool.leave(ticket);
        }
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
enum Pace {
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

/// The attempt to open one connection.
async fn open(pool: Rc<Pool>) {
    let config = pool.config();
    let at = if config.load_balance_hosts {
        pool.next_host.replace(pool.next_host.get().wrapping_add(1))
    } else {
        pool.next_host.get()
    };
    let Some(host) = config.hosts.get(at % config.hosts.len().max(1)) else {
        return pool.book.borrow_mut().open_failed();
    };
    let credential = pool.credential.borrow().clone();
    let attempt = open_stream(&pool, &config, host, &credential);
    let result = match config.server_connect_timeout {
        Some(limit) => match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(OpenError::Timeout(limit)),
        },
        None => attempt.await,
    };
    let (stream, logged_in) = match result {
        Ok(opened) => opened,
        Err(error) => {
            if !config.load_balance_hosts {
                pool.next_host.set(at.wrapping_add(1));
            }
            return pool.open_failed(host, &error);
        }
    };
    let server = pool.admit(stream, host.clone(), logged_in);
    if !same_server(&config, &pool.config()) {
        // A reload came meanwhile.
        server.info.close_needed.set(true);
        *pool.welcome.borrow_mut() = None;
    }
    let conn = pool.log_server(&server.info);
    let (db, user) = (&config.database, &config.user);
    let addr = dial::place(host);
    let local_addr = server.info.local;
    info!(%conn, %db, %user, %addr, %local_addr, "new connection to server");
    pool.book.borrow_mut().opened();
    match &config.connect_query {
        None => pool.reuse(server),
        // An error in it is logged, and the connection used all the same, as
        // in PgBouncer.
        Some(query) => {
            let query = query.clone();
            pool.housekeeping(server, Pace::Quick, move |pool, server| {
                Box::pin(async move {
                    match cleanup::run(server, &pool, &query).await {
                        Err(error @ cleanup::CleanupError::Query { .. }) => {
                            let conn = pool.log_server(&server.info);
                            warn!(%conn, reason = %error, "connect_query failed");
                            Ok(())
                        }
                        other => other,
                    }
                })
            });
        }
    }
    // The server lets us in: the others that are wanted need not come one by
    // one. And more than min_pool_size may now be idle for too long.
    let now = Instant::now();
    pool.open_wanted(now);
    pool.arm(pool.book.borrow().next_deadline(now));
}

async fn open_stream(
    pool: &Pool,
    config: &PoolConfig,
    host: &Host,
    credential: &Credential,
) -> Result<(Stream, LoggedIn), OpenError> {
    let mut stream = dial::connect(host, &config.tcp)
        .await
        .map_err(OpenError::Connect)?;
    let mut startup = vec![
        ("user", credential.user.as_str()),
        ("database", config.dbname.as_str()),
    ];
    startup.extend(config.startup.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let logged_in =
        login::login(&mut stream, &startup, credential, &pool.local.derived_keys).await?;
    Ok((stream, logged_in))
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("connect failed: {0}")]
    Connect(std::io::Error),
    #[error("connect timeout (server_connect_timeout, {} s)", .0.as_secs_f64())]
    Timeout(Duration),
    #[error(transparent)]
    Login(#[from] ServerLoginError),
}

impl OpenError {
    fn text(&self) -> String {
        match self {
            OpenError::Login(ServerLoginError::Server(error)) => error.message().into_owned(),
            other => other.to_string(),
        }
    }

    fn sqlstate(&self) -> &'static str {
        "08P01"
    }

    fn hint(&self) -> Option<String> {
        match self {
            OpenError::Login(error) => error.hint().map(|hint| hint.into_owned()),
            _ => None,
        }
    }

    /// What those who wait are told; `None`: they go on waiting.
    fn farewell(&self) -> Option<Rc<Farewell>> {
        let OpenError::Login(error) = self else {
            return None;
        };
        match error {
            ServerLoginError::Io(_) => None,
            // cannot_connect_now: the server is starting or stopping.
            ServerLoginError::Server(server) if server.sqlstate() == "57P03" => None,
            ServerLoginError::Server(server) => {
                let mut message = Vec::new();
                crate::wire::frame::put_header(&mut message, b'E', server.body().len());
                message.extend_from_slice(server.body());
                Some(Rc::new(Farewell {
                    message,
                    reason: server.message().into_owned(),
                }))
            }
            other => {
                let mut refusal = Refusal::fatal("08P01", other.to_string());
                refusal.hint = other.hint().map(|hint| hint.into_owned());
                Some(Farewell::refusal(&refusal))
            }
        }
    }
}

/// Whether connections that were opened under one configuration fit the other.
fn same_server(old: &PoolConfig, new: &PoolConfig) -> bool {
    old.hosts == new.hosts
        && old.dbname == new.dbname
        && old.user == new.user
        && old.password == new.password
        && old.startup == new.startup
        && old.connect_query == new.connect_query
}

fn limits(config: &PoolConfig) -> Limits {
    Limits {
        pool_size: config.pool_size,
        min_pool_size: config.min_pool_size,
        reserve_pool_size: config.reserve_pool_size,
        reserve_pool_timeout: config.reserve_pool_timeout,
        query_wait_timeout: config.query_wait_timeout,
        server_idle_timeout: config.server_idle_timeout,
        // Zero is not an age but "serve one client only".
        server_lifetime: config.server_lifetime.filter(|age| !age.is_zero()),
        round_robin: config.server_round_robin,
    }
}

/// The task that looks after a pool; it sleeps until something is due.
struct Maintenance {
    pool: Weak<Pool>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Maintenance {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pool) = self.pool.upgrade() else {
            return Poll::Ready(());
        };
        if !pool.maintenance.borrow().will_wake(cx.waker()) {
            *pool.maintenance.borrow_mut() = cx.waker().clone();
        }
        loop {
            let deadline = pool.maintain(cx);
            pool.armed.set(deadline);
            let Some(deadline) = deadline else {
                self.sleep = None;
                return Poll::Pending;
            };
            let mut sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
            if sleep.as_mut().poll(cx).is_pending() {
                self.sleep = Some(sleep);
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.borrow();
        write!(f, "Pool({}/{})", config.database, config.user)
    }
}
