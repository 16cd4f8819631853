//! One pool at work: opens connections, hands them out, takes them back,
//! watches the idle ones. Who gets what is decided by [`Book`].
//!
//! - `lend`: to clients; `take_back`: from them, and housekeeping;
//! - `open`: new connections; `opening`: a list of them meanwhile;
//! - `maintain`: what time asks for;
//! - `dedicated`: those that one client has for itself;
//! - `handover`: to other workers and from them;
//! - `eject`: what becomes of reads while a replica lets nobody in;
//! - `succession`: to another process and from it;
//! - `stop`: PAUSE, KILL and RECONNECT;
//! - `oblivion`: what is forgotten when nobody has used it for long;
//! - `greeting`: what clients are told at login.

mod dedicated;
mod eject;
mod greeting;
mod handover;
mod lend;
mod log;
mod maintain;
mod oblivion;
mod open;
mod opening;
mod stop;
mod succession;
mod take_back;

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;
use tokio::sync::Notify;

use crate::config::{PoolConfig, Source};
use crate::flow::{Params, Pins, Shared, Values, Watchlist};
use crate::net::tls::Connector;
use crate::pool::{Book, Limits, Part};
use crate::process::Side;
use crate::reactor;
use crate::route::Role;
use crate::server::family::Family;
use crate::server::lease::{Server, ServerInfo};
use crate::server::login::Credential;
use crate::server::login_error::ErrorResponse;
use crate::stats::Counters;
use crate::wire::build::Refusal;
use crate::wire::frame::put_header;
use crate::worker::{Crew, Local, Pools};
pub use dedicated::Dedicated;
pub use greeting::Greetings;
use greeting::{Failure, Greeting};
pub use handover::{Mail, Parcel};
use maintain::Maintenance;
pub use oblivion::Past;
use oblivion::{AutoDatabases, Registered};
pub(in crate::server) use open::{OpenError, Opened};
pub use opening::Opening;
pub use succession::hang_up;

/// What a client is told that gets no server connection: a whole
/// ErrorResponse, and the same for the log.
#[derive(Debug)]
pub struct Farewell {
    pub message: Vec<u8>,
    pub reason: String,
    /// Instead: its request is to be sent to another server.
    pub reroute: bool,
}

impl Farewell {
    pub fn refusal(refusal: &Refusal) -> Arc<Farewell> {
        let mut message = Vec::new();
        refusal.encode(&mut message);
        Arc::new(Farewell {
            message,
            reason: refusal.message.clone(),
            reroute: false,
        })
    }

    /// The server's own words.
    fn of_server(error: &ErrorResponse) -> Arc<Farewell> {
        let mut message = Vec::new();
        put_header(&mut message, b'E', error.body().len());
        message.extend_from_slice(error.body());
        Arc::new(Farewell {
            message,
            reason: error.message().into_owned(),
            reroute: false,
        })
    }
}

/// The pool of one database and user, on one worker.
pub struct Pool {
    pub counters: Counters,
    pub pins: Pins,
    pub suspects: Watchlist,
    values: Values,
    /// When its database was last asked for them.
    suspects_asked: Cell<Option<Instant>>,
    local: Rc<Local>,
    pools: Weak<Pools>,
    crew: Crew,
    config: RefCell<Rc<PoolConfig>>,
    book: RefCell<Book<Box<Server>, Arc<Farewell>>>,
    greeting: Arc<Greeting>,
    /// A connection has come under the present terms: the server lets us in.
    proved: Cell<bool>,
    next_host: Cell<usize>,
    /// `prefer_unix_socket` has found none, and it was said.
    without_socket: Cell<bool>,
    servers: RefCell<Slab<Rc<ServerInfo>>>,
    openings: RefCell<Vec<Rc<Opening>>>,
    clients: Cell<usize>,
    /// Since when there has been nothing here.
    empty_since: Cell<Option<Instant>>,
    /// If the database exists only by `*`.
    _registered: Option<Registered>,
    /// Wakes the maintenance task, and when that wakes by itself.
    maintenance: Cell<Option<reactor::Wake>>,
    armed: Cell<Option<Instant>>,
    /// Who waits for a place to open a connection in is to look for it.
    place_made: Notify,
    /// Other workers are being asked to make room.
    evicting: Cell<bool>,
    /// The pools of the other hosts, if there are any.
    family: RefCell<Weak<Family>>,
    /// What the server is good for; unknown where nothing is routed.
    role: Cell<Role>,
    /// Connections are opened so that they cannot write: the server is a
    /// replica, or was one when it last answered.
    read_only: Cell<bool>,
    /// An operator has stopped it.
    paused: Cell<bool>,
    paused_changed: Notify,
    /// Another process takes the place of this one.
    leaving: Cell<bool>,
    /// Clients of another process wait for a connection.
    wanted: Cell<Option<Side>>,
    /// The task that asks its server for its role is connected.
    watched: Cell<bool>,
    /// Why nothing is opened any more.
    closing: RefCell<Option<Arc<Farewell>>>,
}

impl Pool {
    /// A pool without connections. Must be called inside a reactor: it starts its
    /// maintenance task.
    pub fn start(
        config: PoolConfig,
        credential: Credential,
        (part, greeting, registered): (Part, Arc<Greeting>, Option<Registered>),
        local: Rc<Local>,
        (pools, crew): (Weak<Pools>, Crew),
    ) -> Rc<Pool> {
        let book = Book::new(limits(&config), part);
        greeting.begin_with(credential);
        let pool = Rc::new(Pool {
            counters: Counters::default(),
            pins: Pins::new(greeting.pinned.clone(), config.max_pinned_connections),
            suspects: Watchlist::new(greeting.suspects.clone()),
            values: Values::default(),
            suspects_asked: Cell::new(None),
            local,
            pools,
            crew,
            place_made: Notify::new(),
            evicting: Cell::new(false),
            config: RefCell::new(Rc::new(config)),
            book: RefCell::new(book),
            greeting,
            proved: Cell::new(false),
            next_host: Cell::new(0),
            without_socket: Cell::new(false),
            servers: RefCell::new(Slab::new()),
            openings: RefCell::default(),
            clients: Cell::new(0),
            empty_since: Cell::new(None),
            _registered: registered,
            maintenance: Cell::new(None),
            armed: Cell::new(None),
            family: RefCell::new(Weak::new()),
            role: Cell::new(Role::Unknown),
            read_only: Cell::new(false),
            paused: Cell::new(false),
            paused_changed: Notify::new(),
            leaving: Cell::new(false),
            wanted: Cell::new(None),
            watched: Cell::new(false),
            closing: RefCell::new(None),
        });
        reactor::spawn(Maintenance {
            pool: Rc::downgrade(&pool),
            sleep: None,
        });
        pool
    }

    pub fn config(&self) -> Rc<PoolConfig> {
        self.config.borrow().clone()
    }

    pub fn local(&self) -> &Rc<Local> {
        &self.local
    }

    /// Works with what the flow machines share. The tables are borrowed meanwhile.
    #[inline]
    pub fn with_shared<T>(&self, work: impl FnOnce(&mut Shared<'_>) -> T) -> T {
        let local = &self.local;
        work(&mut Shared {
            statements: &mut local.statements.borrow_mut(),
            params: &mut local.params.borrow_mut(),
            counters: &self.counters,
            pins: &self.pins,
            suspects: &self.suspects,
            values: &self.values,
            bounds: local.bounds.get(),
        })
    }

    /// What the server reported at the last login.
    pub fn welcome(&self) -> Option<Rc<Params>> {
        let welcome = self.greeting.welcome(&self.config.borrow())?;
        let mut params = self.local.params.borrow_mut();
        Some(params.of_login(&welcome, &Params::default()))
    }

    pub fn book(&self) -> Ref<'_, Book<Box<Server>, Arc<Farewell>>> {
        self.book.borrow()
    }

    pub fn servers(&self) -> Ref<'_, Slab<Rc<ServerInfo>>> {
        self.servers.borrow()
    }

    /// A client has come (+1) or gone (-1): `min_pool_size` is kept while there
    /// are some.
    pub fn count_client(self: &Rc<Self>, change: isize) {
        let kept = self.keeps_minimum();
        self.clients
            .set(self.clients.get().saturating_add_signed(change));
        self.empty_since.set(None);
        if self.keeps_minimum() != kept || self.clients.get() == 0 {
            self.wake();
        }
        self.send_surplus();
    }

    /// How a connection to the server is to be proved, on every worker; newer
    /// proofs replace older ones (SCRAM pass-through).
    pub fn set_credential(&self, credential: Credential) {
        self.greeting.set_credential(credential);
    }

    /// What the configuration says now; what a client has proved to us stays.
    pub fn renew_credential(&self, credential: Credential) {
        let scram_keys = self.greeting.credential().scram_keys;
        self.greeting.set_credential(Credential {
            scram_keys,
            ..credential
        });
    }

    /// The pools of all hosts, where statements are routed.
    pub fn family(&self) -> Option<Rc<Family>> {
        self.family.borrow().upgrade()
    }

    /// The pool of the primary, once it is known which that is. Cancel safe.
    pub async fn ready(self: Rc<Self>) -> Rc<Pool> {
        match self.family() {
            Some(family) => {
                family.ready().await;
                family.primary()
            }
            None => self,
        }
    }

    /// Those to the same host, of the same database.
    pub(in crate::server) fn of_other_users(&self) -> Vec<Rc<Pool>> {
        let config = self.config.borrow();
        let mut others = self.pools.upgrade().map_or_else(Vec::new, |all| all.each());
        others.retain(|other| {
            let other = other.config.borrow();
            let same_host = (&other.database, &other.host) == (&config.database, &config.host);
            same_host && other.user != config.user
        });
        others
    }

    pub(in crate::server) fn join_family(&self, family: &Rc<Family>) {
        *self.family.borrow_mut() = Rc::downgrade(family);
    }

    /// Clients that have a connection or wait for one.
    pub fn outstanding(&self) -> usize {
        let book = self.book.borrow();
        book.held_count() as usize + book.waiting_count()
    }

    /// What its server is good for now. Who waits looks for a server anew;
    /// connections are renewed unless they are fit for the new role.
    pub(in crate::server) fn set_role(&self, role: Role) {
        if self.role.replace(role) == role {
            return;
        }
        let before = self.read_only.get();
        let read_only = match role {
            Role::Primary | Role::Fenced => false,
            Role::Replica | Role::Ejected => true,
            Role::Unknown | Role::Down => before,
        };
        self.read_only.set(read_only);
        self.book.borrow_mut().set_limits(self.limits());
        let renew = read_only != before || role == Role::Fenced;
        for (_, info) in self.servers.borrow().iter() {
            info.silent.set(role == Role::Down);
            if renew {
                info.close_needed.set(true);
            }
        }
        self.greeting.forgive();
        self.reroute();
    }

    /// Has those who wait look for a server anew.
    pub(in crate::server) fn reroute(&self) {
        let reroute = Arc::new(Farewell {
            message: Vec::new(),
            reason: "the server has another role now".to_owned(),
            reroute: true,
        });
        let wakers = self.book.borrow_mut().fail_all(&reroute);
        for waker in wakers {
            waker.wake();
        }
        self.wake();
    }

    /// Another server was promoted in the place of this one: what is open there is
    /// lost, whether or not it will ever answer.
    pub(in crate::server) fn forsake(&self) {
        for (_, info) in self.servers.borrow().iter() {
            info.close_needed.set(true);
            info.forsaken.set(true);
        }
    }

    /// Whether its connections cannot write.
    pub fn is_read_only(&self) -> bool {
        self.read_only.get()
    }

    fn limits(&self) -> Limits {
        let config = self.config.borrow();
        let mut limits = limits(&config);
        if let Some(routing) = config.routing.as_ref().filter(|_| self.read_only.get()) {
            limits.pool_size = routing.replica_pool_size;
        }
        limits
    }

    /// TLS towards servers has changed: connections that were opened before are
    /// closed as they are released.
    pub fn renew_tls(&self) {
        for (_, info) in self.servers.borrow().iter() {
            info.close_needed.set(true);
        }
        self.greeting.forgive();
        self.wake();
    }

    /// A new configuration. Connections that were opened under other terms are
    /// closed as they are released.
    pub fn reconfigure(&self, config: PoolConfig) {
        self.pins.set_most(config.max_pinned_connections);
        let old = self.config.replace(Rc::new(config));
        let new = self.config.borrow().clone();
        self.book.borrow_mut().set_limits(self.limits());
        if !same_server(&old, &new) {
            for (_, info) in self.servers.borrow().iter() {
                info.close_needed.set(true);
            }
            self.proved.set(false);
        }
        self.greeting.forgive();
        self.wake();
    }

    /// No new connections; idle ones go now, others when released; who waits,
    /// or would, is told.
    pub fn close(&self, farewell: &Arc<Farewell>) {
        *self.closing.borrow_mut() = Some(farewell.clone());
        let wakers = self.book.borrow_mut().fail_all(farewell);
        for waker in wakers {
            waker.wake();
        }
        let idle = self.book.borrow_mut().retain_idle(|_| false);
        for server in idle {
            self.hang_up(server, "server shutting down");
        }
        self.spread_room();
        self.wake();
    }

    /// Whether a connection that was opened so would be opened otherwise now.
    fn is_outdated(&self, config: &PoolConfig, connector: &Arc<Connector>) -> bool {
        !same_server(config, &self.config.borrow())
            || !Arc::ptr_eq(connector, &self.local.connector(&config.server_tls))
    }

    /// Why no connection is opened for now.
    fn failure(&self) -> Option<Arc<Failure>> {
        let failure = self.greeting.failure()?;
        let outdated = self.is_outdated(&failure.config, &failure.connector);
        Some(failure).filter(|_| !outdated)
    }

    pub(in crate::server) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Parameters that a login asked for and the server has accepted, as the
    /// server reports them.
    pub fn known_parameters(&self, asked: &Params) -> Option<Rc<Params>> {
        let known = self.greeting.known(&self.config.borrow(), asked)?;
        Some(self.local.params.borrow_mut().intern(known))
    }

    /// Whether the log is to be worded as PgBouncer's.
    pub(in crate::server) fn is_of_ini(&self) -> bool {
        self.config.borrow().source == Source::Ini
    }

    /// Why its connections end when the process does: PgBouncer pauses for that.
    fn closing_reason(&self) -> &'static str {
        match self.is_of_ini() {
            true => "pause mode",
            false => "server shutting down",
        }
    }

    /// Remembers what [`Pool::known_parameters`] returns, as this server told it.
    pub fn learn_parameters(&self, server: &ServerInfo, asked: &Params, reported: &Params) {
        let config = self.config.borrow();
        let (asked, reported) = (asked.clone(), reported.clone());
        self.greeting
            .learn(&config, server.generation, asked, reported);
    }

    /// How log lines name a server connection.
    pub fn log_server(&self, info: &ServerInfo) -> String {
        format!("S-{}", info.id)
    }
}

/// Whether connections that were opened under one configuration fit the other.
fn same_server(old: &PoolConfig, new: &PoolConfig) -> bool {
    old.hosts == new.hosts
        && old.local_sockets == new.local_sockets
        && old.server_tls == new.server_tls
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
        query_wait_timeout: config.longest_wait(config.query_wait_timeout),
        query_wait_notify: config.query_wait_notify,
        server_idle_timeout: config.server_idle_timeout,
        // Zero is not an age but "serve one client only".
        server_lifetime: config.server_lifetime.filter(|age| !age.is_zero()),
        round_robin: config.server_round_robin,
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The maintenance task ends when it finds nothing to maintain.
        self.wake();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config.borrow();
        write!(f, "Pool({}/{})", config.database, config.user)
    }
}
