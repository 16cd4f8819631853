//! A thread with its reactor, clients and server connections.

mod accept;
mod alarms;
mod census;
mod crew;
pub mod derived_keys;
mod ears;
mod gates;
pub mod hashing;
mod local;
mod logins;
pub mod lookups;
mod moving;
mod pools;
mod snapshot;
mod stop;
mod terms;
mod thread;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use subtle::ConstantTimeEq;
use tracing::warn;

use alarms::Alarms;
pub use census::{Admission, Census, Newcomer, Seat};
pub use crew::{Crew, Mailbox};
use ears::Hearers;
pub use gates::Gates;
pub use local::Local;
use logins::Login;
pub use pools::Pools;
pub use terms::{Terms, View};
pub use thread::{Command, Sockets, Start, Told, start};

use crate::admin::snapshot::{ClientState, Snapshot};
use crate::admin::view::ConsoleView;
use crate::client::{self, CancelKey, ClientInfo, Order};
use crate::config::PoolConfig;
use crate::net::{Addresses, Stream};
use crate::pool::{Ledger, PoolName};
use crate::process::Handle;
use crate::reactor;
use crate::server::login::Credential;
use crate::server::{Farewell, Greetings, Pool, Topologies};
use crate::wire::build::Refusal;
use crate::wire::cancel_key;

/// Since when a client must be logged in that is asked to leave.
const SETTLED: Duration = Duration::from_secs(1);

/// Everything that lives on one thread.
#[derive(Debug)]
pub struct Worker {
    crew: Crew,
    local: Rc<Local>,
    pools: Rc<Pools>,
    terms: RefCell<Arc<Terms>>,
    census: Arc<Census>,
    handle: Handle,
    view: View,
    /// Clients by the [`place`] of what they were told for cancel requests.
    clients: RefCell<HashMap<u64, Rc<ClientInfo>>>,
    alarms: Alarms,
    /// Which of them listen to what.
    hearers: Hearers,
    /// Clients that are logging in, by number, for SHOW SOCKETS.
    logins: RefCell<HashMap<u64, Login>>,
    /// Clients of the console, for SHOW CLIENTS.
    consoles: RefCell<HashMap<u64, Rc<ClientInfo>>>,
    /// Nobody but the console is let in any more at the Unix socket, which stays
    /// open for it. Who came by TCP came in time: those sockets are closed.
    turning_away: Cell<bool>,
    /// Nobody but the console is let in any more.
    closed: Cell<bool>,
    /// Nothing is read from clients or servers.
    suspended: Cell<bool>,
    /// Clients that are to leave: also those that are only logging in.
    draining: Cell<bool>,
}

impl Worker {
    fn new(
        crew: Crew,
        shared: (Arc<Ledger>, Arc<Greetings>, Arc<Topologies>),
        local: Local,
        terms: Arc<Terms>,
        census: Arc<Census>,
        handle: Handle,
        view: View,
    ) -> Rc<Worker> {
        local.bounds.set((&terms.config.general).into());
        Rc::new(Worker {
            pools: Pools::new(crew.clone(), shared),
            crew,
            local: Rc::new(local),
            terms: RefCell::new(terms),
            census,
            handle,
            view,
            clients: RefCell::default(),
            alarms: Alarms::default(),
            hearers: Hearers::default(),
            consoles: RefCell::default(),
            logins: RefCell::default(),
            turning_away: Cell::new(false),
            closed: Cell::new(false),
            suspended: Cell::new(false),
            draining: Cell::new(false),
        })
    }

    pub fn census(&self) -> &Arc<Census> {
        &self.census
    }

    pub fn crew(&self) -> &Crew {
        &self.crew
    }

    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The configuration in force.
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.borrow().clone()
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What the console shows beside snapshots.
    pub fn view(&self) -> impl Fn(&Snapshot) -> ConsoleView + 'static {
        let view = self.view.clone();
        move |snapshot| view(snapshot)
    }

    /// The pool for this configuration.
    pub fn pool(&self, config: PoolConfig, credential: Credential) -> Rc<Pool> {
        let fresh = credential.proves_something();
        let again = credential.clone();
        let pool = self.pools.get_or_start(config, credential, &self.local);
        match pool.family() {
            _ if !fresh => {}
            Some(family) => family.set_credential(&again),
            None => pool.set_credential(again),
        }
        pool
    }

    // ---- clients ----

    /// Somebody who has not logged in; `None`: there are too many.
    pub fn newcomer(&self) -> Option<Newcomer> {
        let max = self.terms().config.general.unauthenticated_connections();
        self.census.newcomer(max)
    }

    /// Counts a client against `max_client_conn` and the like.
    pub fn admit(
        &self,
        seat: Seat,
        stream: &Stream,
        database: &str,
        user: &str,
    ) -> Result<Admission, Refusal> {
        let local = stream.is_unix();
        if self.closed.get() || self.turning_away.get() && local {
            return Err(Refusal::fatal("57P01", "pooler is shutting down"));
        }
        let terms = self.terms();
        self.census.admit(seat, &terms.config, database, user)
    }

    /// Refuses new clients of a database that an operator has closed to them.
    pub fn check_enabled(&self, database: &str) -> Result<(), Refusal> {
        if !self.is_disabled(database) {
            return Ok(());
        }
        let refusal = Refusal::fatal("08P01", format!("database \"{database}\" is disabled"));
        Err(refusal.hint("An administrator said DISABLE; ENABLE ends it."))
    }

    /// Whether an operator has closed the database to new clients.
    pub fn is_disabled(&self, database: &str) -> bool {
        self.pools.gates().disabled.contains(database)
    }

    /// Makes a logged-in client known to the console and to cancel requests,
    /// until [`Worker::delist`].
    pub fn enlist(&self, info: Rc<ClientInfo>) {
        if let Some(pool) = info.pool() {
            pool.count_client(1);
        }
        self.ask_to_go(&info);
        let place = place(info.pid, info.key.bytes());
        self.clients.borrow_mut().insert(place, info.clone());
        self.watch(place, &info);
    }

    /// Logs that this pool uses its reserve, for the client that has waited longest.
    fn log_reserve(&self, pool: &PoolName) {
        let clients = self.clients.borrow();
        let waits = |client: &&Rc<ClientInfo>| {
            let own = client.pool().map(|own| own.config().name());
            client.state.get() == ClientState::Waiting && own.as_ref() == Some(pool)
        };
        let longest = clients.values().filter(waits);
        let longest = longest.min_by_key(|client| client.request_time.get());
        let Some(client) = longest else {
            // For somebody who logs in.
            let (db, user) = (&pool.database, &pool.user);
            return warn!(%db, %user, "taking connection from reserve_pool");
        };
        let (db, user) = (client.database(), client.user());
        let addr = client::address(client.peer, client.peer_pid, &self.terms().config);
        warn!(conn = %format!("C-{}", client.id), %db, %user, %addr, "taking connection from reserve_pool");
    }

    /// The client has gone.
    pub fn delist(&self, info: &ClientInfo) {
        let place = place(info.pid, info.key.bytes());
        self.clients.borrow_mut().remove(&place);
        self.leave_ear(info.id);
        if let Some(pool) = info.pool() {
            pool.count_client(-1);
        }
    }

    /// Makes a connection known that has not logged in.
    pub fn enlist_login(
        self: &Rc<Self>,
        id: u64,
        stream: &Stream,
        addresses: Addresses,
    ) -> ListedLogin {
        let login = Login::new(stream, addresses);
        self.logins.borrow_mut().insert(id, login);
        ListedLogin(self.clone(), id)
    }

    /// The same for a client of the console, which no cancel request reaches.
    pub fn enlist_console(self: &Rc<Self>, info: Rc<ClientInfo>) -> ListedConsole {
        let place = place(info.pid, info.key.bytes());
        self.consoles.borrow_mut().insert(place, info);
        self.handle.console_came();
        ListedConsole(self.clone(), place)
    }

    /// A process id and key that no client has, and that say whose they are (see
    /// [`Crew::owner`] and [`cancel_key`]).
    pub fn new_cancel_key(&self, long: bool) -> (u32, CancelKey) {
        let peer = self.terms().config.general.peer_id;
        loop {
            let mut pid = self.crew.own_pid(cancel_key::process_id(rand::random()));
            let mut key = CancelKey::random(long);
            if peer != 0 {
                pid = cancel_key::mark_pid(pid, peer);
                cancel_key::mark_key(key.bytes_mut());
            }
            let place = place(pid, key.bytes());
            let taken = self.clients.borrow().contains_key(&place)
                || self.consoles.borrow().contains_key(&place);
            if !taken {
                return (pid, key);
            }
        }
    }

    /// The client with this cancel key.
    pub fn find_by_key(&self, pid: u32, key: &[u8]) -> Option<Rc<ClientInfo>> {
        let client = self.clients.borrow().get(&place(pid, key))?.clone();
        bool::from(client.key.bytes().ct_eq(key)).then_some(client)
    }

    /// Whether somebody at the console has this cancel key.
    pub fn is_console(&self, pid: u32, key: &[u8]) -> bool {
        let consoles = self.consoles.borrow();
        let console = consoles.get(&place(pid, key));
        console.is_some_and(|console| bool::from(console.key.bytes().ct_eq(key)))
    }

    // ---- orders from the process ----

    /// Starts the pools that do not wait for a client.
    fn start_standing_pools(&self) {
        let terms = self.terms();
        for config in terms.standing_pools() {
            let credential = terms.credential(&config);
            self.pools.get_or_start(config, credential, &self.local);
        }
    }

    fn take_terms(&self, terms: Arc<Terms>) {
        *self.terms.borrow_mut() = terms.clone();
        self.local.bounds.set((&terms.config.general).into());
        let gone = Farewell::refusal(
            &Refusal::fatal("08P01", "database removed")
                .hint("It is no longer in the configuration."),
        );
        let removed = self
            .pools
            .reconfigure(|old| terms.pool_of_user(&old.database, &old.user), &gone);
        let old = self.local.set_tls(&terms.tls);
        for pool in self.pools.each() {
            let wanted = &pool.config().server_tls;
            if !Arc::ptr_eq(old.connector(wanted), terms.tls.connector(wanted)) {
                pool.renew_tls();
            }
        }
        for pool in self.pools.each() {
            let config = pool.config();
            // Else it is what was found at the last login.
            if terms.lists(&config) || terms.config.auth_query(&config.database).is_none() {
                pool.renew_credential(terms.credential(&config));
            }
        }
        self.start_standing_pools();
        for client in self.clients.borrow().values() {
            let pool = client.pool();
            if terms.config.database(client.database()).is_none() {
                client.order(Order::DatabaseRemoved);
            } else if pool.is_some_and(|pool| removed.iter().any(|gone| Rc::ptr_eq(gone, pool))) {
                // Its hosts are others now: what it comes back to is as it should be.
                client.order(Order::Drain);
            }
        }
        self.watch_anew();
        self.end_outdated();
    }

    /// The servers of this database may have other roles than before. Nobody is
    /// left waiting for one that was replaced.
    fn follow_roles(&self, database: &str) {
        self.pools.follow_roles(database);
        for client in self.clients.borrow().values() {
            match client.link.get() {
                Some(server) if server.forsaken.get() => client.order(Order::PrimaryReplaced),
                Some(server) if server.silent.get() => client.wake(),
                _ => {}
            }
        }
        self.end_outdated();
    }

    /// Turns clients away that come from now on.
    fn turn_away(&self) {
        self.turning_away.set(true);
    }

    /// Asks every client to leave when its transaction is over.
    fn drain(&self) {
        self.draining.set(true);
        let clients = self.clients.borrow();
        clients.values().for_each(|client| self.ask_to_go(client));
    }

    /// Disconnects everybody.
    fn disconnect_all(&self) {
        self.closed.set(true);
        for client in self.clients.borrow().values() {
            client.order(Order::Leave);
        }
    }

    /// Fails who waits, closes idle server connections, and opens none.
    fn close_pools(&self) {
        self.closed.set(true);
        self.draining.set(true);
        let sqlstate = self.terms().config.source.sqlstate("57P01");
        let farewell = Farewell::refusal(&Refusal::fatal(sqlstate, "server shutting down"));
        self.pools.close(&farewell);
    }

    fn client_count(&self) -> usize {
        self.clients.borrow().len()
    }

    fn servers_in_use(&self) -> usize {
        self.pools
            .each()
            .iter()
            .map(|pool| pool.servers().len())
            .sum()
    }
}

/// Where to look for a client: its process id and the first four bytes of its
/// key. With a peer's number in it the process id alone is not enough.
fn place(pid: u32, key: &[u8]) -> u64 {
    let key = key.first_chunk().map_or(0, |key| u32::from_be_bytes(*key));
    u64::from(pid) << 32 | u64::from(key)
}

/// Asks a client to leave when its transaction is over. One that has only just
/// come has hardly begun what it came for, and was told that it may.
fn ask_to_leave(client: &Rc<ClientInfo>) {
    let age = client.connect_time().elapsed().unwrap_or(SETTLED);
    let Some(rest) = SETTLED.checked_sub(age).filter(|rest| !rest.is_zero()) else {
        return client.order(Order::Drain);
    };
    let client = Rc::downgrade(client);
    reactor::spawn(async move {
        reactor::sleep(rest).await;
        if let Some(client) = client.upgrade() {
            client.order(Order::Drain);
        }
    });
}

/// A connection that is logging in and in the list.
pub struct ListedLogin(Rc<Worker>, u64);

impl ListedLogin {
    /// It is a cancel request, and goes on as one.
    pub fn cancels(self) -> ListedLogin {
        if let Some(login) = self.0.logins.borrow_mut().get_mut(&self.1) {
            login.cancels = true;
        }
        self
    }
}

impl Drop for ListedLogin {
    fn drop(&mut self) {
        self.0.logins.borrow_mut().remove(&self.1);
    }
}

/// A client of the console that is in the list.
pub struct ListedConsole(Rc<Worker>, u64);

impl Drop for ListedConsole {
    fn drop(&mut self) {
        self.0.consoles.borrow_mut().remove(&self.1);
        self.0.handle.console_left();
    }
}
