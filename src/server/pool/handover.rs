//! Connections that move between workers, and what workers ask of each other.
//!
//! | what happens | who tells whom |
//! |---|---|
//! | a connection is released, and somebody waits elsewhere | it is sent there |
//! | somebody begins to wait, and another worker may have an idle one | asks it; who has not enough passes the question on |
//! | a connection is closed | workers that wait for room are told |
//! | a bound that pools share is in the way | an idle connection of another pool is closed, wherever one is |

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;
use tracing::{debug, warn};

use super::Pool;
use crate::admin::snapshot::ServerState;
use crate::config::{Host, PoolConfig};
use crate::flow::PackedBackend;
use crate::net::tls::{Connector, Encryption};
use crate::net::{Detached, Outgoing};
use crate::pool::{Passage, PoolName, SharedBound};
use crate::server::lease::{Attempt, Server, ServerInfo};
use crate::server::login::BackendKey;
use crate::sql::effects::Features;
use crate::stats::add;
use crate::worker::Command;

/// What one worker says to another about server connections.
#[derive(Debug)]
pub enum Mail {
    /// A connection for this pool.
    Parcel(PoolName, Box<Parcel>),
    /// `from` has clients that wait, and would take as many idle ones.
    Ask {
        pool: PoolName,
        from: usize,
        wanted: usize,
    },
    /// Whom it asked has no such pool any more.
    NoPool(PoolName),
    /// Something was closed, or is idle now: who found a bound in the way may
    /// try again.
    Room,
    /// This pool of `from` found a shared bound in the way: another pool's idle
    /// connection is to be closed. Goes from worker to worker until one has one,
    /// or it is back.
    Evict {
        pool: PoolName,
        bound: SharedBound,
        from: usize,
    },
    /// One was closed for it.
    Evicted(PoolName),
}

/// An idle connection between two workers.
#[derive(Debug)]
pub struct Parcel {
    pub(super) stream: Detached,
    pub(super) backend: PackedBackend,
    /// Under which terms it was opened.
    pub(super) config: PoolConfig,
    pub(super) passage: Passage,
    pub(super) id: u64,
    pub(super) host: Host,
    pub(super) key: Option<BackendKey>,
    pub(super) encryption: Option<Encryption>,
    pub(super) read_only: bool,
    pub(super) generation: u64,
    pub(super) connector: Arc<Connector>,
    pub(super) born: Instant,
    pub(super) connect_time: SystemTime,
    pub(super) request_time: Instant,
    pub(super) idle_since: Option<Instant>,
    pub(super) checked: Instant,
}

impl Pool {
    fn name(&self) -> PoolName {
        self.config.borrow().name()
    }

    fn tell(&self, worker: usize, mail: Mail) {
        // A worker that has ended waits for nothing; what is sent to it is
        // dropped and does not count any more.
        let _ = self.crew.tell(worker, Command::Servers(mail));
    }

    /// Has the worker log for which client it takes more than `pool_size`.
    pub(super) fn tell_of_reserve(&self) {
        let taken = Command::ReserveTaken(self.name());
        let _ = self.crew.tell(self.crew.number(), taken);
    }

    /// Sends a connection, which the book has let go, to another worker.
    pub(super) fn send_away(&self, server: Box<Server>, passage: Passage) {
        let Server {
            stream,
            backend,
            info,
            ..
        } = *server;
        self.servers
            .borrow_mut()
            .retain(|_, other| !Rc::ptr_eq(other, &info));
        let conn = self.log_server(&info);
        let stream = match stream.detach() {
            Ok(stream) => stream,
            // Dropping the passage makes room for another connection.
            Err(error) => return warn!(%conn, reason = %error, "cannot move a connection"),
        };
        debug!(%conn, to = passage.to(), "moves to another worker");
        let to = passage.to();
        let parcel = Parcel {
            stream,
            backend: backend.pack(),
            config: PoolConfig::clone(&self.config.borrow()),
            passage,
            id: info.id,
            host: info.host.clone(),
            key: info.key.clone(),
            encryption: info.encryption,
            read_only: info.read_only,
            generation: info.generation,
            connector: info.connector.clone(),
            born: info.born,
            connect_time: info.connect_time,
            request_time: info.request_time.get(),
            idle_since: info.idle_since.get(),
            checked: info.checked.get(),
        };
        add(&self.counters.server_handover_count, 1);
        self.tell(to, Mail::Parcel(self.name(), Box::new(parcel)));
    }

    /// A connection has come from another worker.
    pub fn receive(self: &Rc<Self>, parcel: Parcel) {
        if let Some(server) = self.unpack(parcel) {
            let now = Instant::now();
            self.reuse(server, now);
            self.ask_others(now);
        }
    }

    /// Holds a connection that has come. `None`: it could not be taken.
    pub(super) fn unpack(self: &Rc<Self>, parcel: Parcel) -> Option<Box<Server>> {
        let Parcel {
            stream,
            backend,
            config,
            passage,
            id,
            host,
            key,
            encryption,
            read_only,
            generation,
            connector,
            born,
            connect_time,
            request_time,
            idle_since,
            checked,
        } = parcel;
        let stream = match stream.attach() {
            Ok(stream) => stream,
            Err(error) => {
                warn!(conn = %format!("S-{id}"), reason = %error, "cannot take a connection over");
                drop(passage);
                self.after_close();
                return None;
            }
        };
        let backend = {
            let mut params = self.local.params.borrow_mut();
            let mut statements = self.local.statements.borrow_mut();
            backend.unpack(&mut statements, &mut params)
        };
        let outdated = self.is_outdated(&config, &connector)
            || read_only != self.read_only.get()
            || generation < self.greeting.generation();
        let info = Rc::new(ServerInfo {
            id,
            host,
            peer: stream.peer_addr(),
            local: stream.local_addr(),
            descriptor: stream.descriptor(),
            key,
            encryption,
            connector,
            born,
            connect_time,
            request_time: Cell::new(request_time),
            linked_at: Cell::new(request_time),
            asked_at: Cell::new(request_time),
            idle_since: Cell::new(idle_since),
            checked: Cell::new(checked),
            state: Cell::new(ServerState::Idle),
            close_needed: Cell::new(outdated),
            close_reason: Cell::new(None),
            doomed: Cell::new(false),
            forsaken: Cell::new(false),
            silent: Cell::new(false),
            link: Cell::new(None),
            replication: None,
            read_only,
            generation,
            pins: Cell::new(Features::empty()),
            prepared_statements: Cell::new(backend.prepared_statements()),
            cancels: Cell::new(0),
            cancels_over: Notify::new(),
            held: Cell::new(0),
            unsent: Cell::new(0),
            rest: Cell::new(0),
            client_rest: Cell::new(0),
        });
        if !outdated {
            self.proved.set(true);
        }
        self.servers.borrow_mut().insert(info.clone());
        self.book.borrow_mut().arrive(passage);
        Some(Box::new(Server {
            stream,
            backend,
            info,
            input: Vec::new(),
            output: Outgoing::default(),
            one_by_one: false,
            may_write: true,
            attempt: Attempt::default(),
        }))
    }

    /// If clients wait here, asks a worker that may have an idle connection.
    pub fn ask_others(&self, now: Instant) {
        let worker = self.book.borrow_mut().ask(now);
        if let Some(worker) = worker {
            let ask = Mail::Ask {
                pool: self.name(),
                from: self.crew.number(),
                wanted: self.book.borrow().waiting_count(),
            };
            self.tell(worker, ask);
        }
        // It may be too early to ask again.
        self.arm(self.book.borrow().ask_deadline());
    }

    /// Sends idle connections to the worker that asks for them.
    pub fn answer(&self, from: usize, wanted: usize) {
        let (given, next) = self.book.borrow_mut().answer(from, wanted);
        let wanted = wanted.saturating_sub(given.len());
        for (server, passage) in given {
            self.send_away(server, passage);
        }
        if let Some(next) = next {
            let pool = self.name();
            self.tell(next, Mail::Ask { pool, from, wanted });
        }
    }

    /// Tells the workers that found a bound in the way to try again.
    pub(super) fn spread_room(&self) {
        let book = self.book.borrow();
        let hungry = book.part().hungry_elsewhere();
        for worker in hungry.chain(book.part().starved_elsewhere()) {
            self.tell(worker, Mail::Room);
        }
        if book.is_below_minimum() {
            self.alert_others();
        }
    }

    /// Has all other workers try again.
    pub(super) fn alert_others(&self) {
        for worker in self.crew.others() {
            self.tell(worker, Mail::Room);
        }
    }

    /// Asks the other workers to close an idle connection of another pool. One
    /// such question is under way at a time.
    pub(super) fn evict_elsewhere(&self, bound: SharedBound) {
        let next = self.crew.next();
        if next == self.crew.number() || self.evicting.replace(true) {
            return;
        }
        let (pool, from) = (self.name(), self.crew.number());
        self.tell(next, Mail::Evict { pool, bound, from });
    }

    /// The question is back; `evicted`: there is room now.
    pub fn evicted(self: &Rc<Self>, evicted: bool) {
        self.evicting.set(false);
        if evicted {
            self.open_wanted(Instant::now());
        }
    }
}
