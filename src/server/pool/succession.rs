//! Idle connections that go to another process and come from it, while one takes the
//! place of the other. Each counts what the other has, against every bound.
//!
//! | what happens | what becomes of it |
//! |---|---|
//! | this process is replaced, and has more connections than clients | the idle ones among them go to the new one |
//! | clients of the other one starve | one connection goes there, as soon as it is idle |

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, warn};

use super::Pool;
use super::handover::Parcel;
use super::take_back::Pace;
use crate::config::PoolConfig;
use crate::flow::{PackedBackend, Release, WrittenParams};
use crate::net::Detached;
use crate::pool::Passage;
use crate::process::{Link, Side};
use crate::server::cleanup;
use crate::server::lease::{Lease, Server};
use crate::server::written::{WrittenCredential, WrittenPool, WrittenServer, ago, moment};
use crate::wire::build;

impl Pool {
    /// For another process.
    pub fn write(&self) -> WrittenPool {
        WrittenPool {
            name: (&self.config.borrow().name()).into(),
            credential: WrittenCredential::of(&self.greeting.credential()),
            welcome: self.welcome().map(|params| WrittenParams::of(&params)),
        }
    }

    /// Another process takes the place of this one, or does so no longer.
    pub fn set_leaving(self: &Rc<Self>, leaving: bool) {
        self.leaving.set(leaving);
        self.send_surplus();
    }

    /// Clients of another process starve.
    pub fn give_to(self: &Rc<Self>, side: Side) {
        let idle = self.book.borrow_mut().take_idle(|_| true);
        match idle {
            Some((server, _)) => self.send_over(server, side),
            None => self.wanted.set(Some(side)),
        }
    }

    /// They do so no longer.
    pub fn keep_from(&self, side: Side) {
        if self.wanted.get() == Some(side) {
            self.wanted.set(None);
        }
    }

    /// Whether clients starve here.
    pub fn starves(&self) -> bool {
        self.book.borrow().starves()
    }

    /// Sends idle connections to the process that takes the place of this one. As many
    /// as there are clients are kept: they may want them.
    pub(super) fn send_surplus(self: &Rc<Self>) {
        while self.leaving.get() && self.book.borrow().own() as usize > self.clients_of_all() {
            let idle = self.book.borrow_mut().take_idle(|_| true);
            let Some((server, _)) = idle else {
                return;
            };
            self.send_over(server, Side::Successor);
        }
    }

    /// Clients that may use it: where statements are routed, those of all its pools.
    fn clients_of_all(&self) -> usize {
        match self.family() {
            Some(family) => family.pools().iter().map(|pool| pool.clients.get()).sum(),
            None => self.clients.get(),
        }
    }

    /// Sends a held connection to another process, if that still takes one. One that
    /// cannot move is closed, for the good of one that is opened there.
    pub(super) fn send_over(self: &Rc<Self>, server: Box<Server>, side: Side) {
        let Some(link) = self.link(side) else {
            return self.reuse(server, Instant::now());
        };
        match self.write_server(&server) {
            Some((written, socket)) => {
                let depart = || {
                    debug!(conn = %self.log_server(&server.info), "goes to another process");
                    self.forget_server(&server);
                    server.stream.leave();
                    self.book.borrow_mut().departed();
                };
                if !link.give(written, socket, depart) {
                    self.reuse(server, Instant::now());
                }
            }
            None => {
                self.hang_up(server, "another process needs one");
                self.book.borrow_mut().closed();
            }
        }
    }

    fn link(&self, side: Side) -> Option<Link> {
        self.pools.upgrade()?.link(side)
    }

    /// A session's connection, which another process takes over together with its
    /// client. `None`: it cannot move, or not now.
    pub fn write_linked(&self, lease: &Lease) -> Option<(WrittenServer, OwnedFd)> {
        let written = self.write_server(lease)?;
        // Between transactions only a session's is its client's.
        lease.is_for_session().then_some(written)
    }

    /// It has moved.
    pub fn let_go(&self, lease: Lease) {
        if let Some(server) = lease.into_server() {
            self.forget_server(&server);
            server.stream.leave();
            self.book.borrow_mut().closed();
        }
    }

    fn forget_server(&self, server: &Server) {
        let mut servers = self.servers.borrow_mut();
        servers.retain(|_, info| !Rc::ptr_eq(info, &server.info));
    }

    fn write_server(&self, server: &Server) -> Option<(WrittenServer, OwnedFd)> {
        let info = &server.info;
        let at_rest = server.backend.release() == Release::Ready
            && !server.backend.is_marked()
            && server.input.is_empty()
            && server.output.is_empty()
            && info.cancels.get() == 0;
        if !at_rest || info.close_needed.get() {
            return None;
        }
        let socket = server.stream.file()?.try_clone_to_owned().ok()?;
        let connected = info.connect_time.duration_since(SystemTime::UNIX_EPOCH);
        let written = WrittenServer {
            pool: self.write(),
            terms: self.config.borrow().server_terms(),
            id: info.id,
            host: info.host.clone(),
            key: info.key.as_ref().map(Into::into),
            read_only: info.read_only,
            born: ago(info.born),
            connected: connected.map_or(0, |age| age.as_micros() as u64),
            requested: ago(info.request_time.get()),
            idle: info.idle_since.get().map(ago),
            checked: ago(info.checked.get()),
            backend: server.backend.pack().write(),
        };
        Some((written, socket))
    }

    /// A connection has come from another process, which has prepared statements on it
    /// under its own names.
    pub fn take_over(self: &Rc<Self>, written: WrittenServer, socket: OwnedFd, passage: Passage) {
        let prepared = written.backend.prepared;
        let Some(server) = self.admit_server(written, socket, passage) else {
            return;
        };
        match prepared {
            true => self.housekeeping(server, Pace::Quick, |pool, server| {
                Box::pin(async move { cleanup::run(server, &pool, "DEALLOCATE ALL").await })
            }),
            false => self.reuse(server, Instant::now()),
        }
        self.ask_others(Instant::now());
    }

    /// The same for one that belongs to a client that has come with it, and has prepared
    /// statements there itself.
    pub fn take_over_linked(
        self: &Rc<Self>,
        written: WrittenServer,
        socket: OwnedFd,
    ) -> Option<Lease> {
        let pools = self.pools.upgrade()?;
        let passage = pools.take_over(&self.config.borrow().name());
        let server = self.admit_server(written, socket, passage)?;
        Some(Lease::new(server, self.clone(), Instant::now()))
    }

    fn admit_server(
        self: &Rc<Self>,
        written: WrittenServer,
        socket: OwnedFd,
        passage: Passage,
    ) -> Option<Box<Server>> {
        let stream = match Detached::from_file(socket) {
            Ok(stream) => stream,
            Err(error) => {
                warn!(reason = %error, "cannot take a connection over");
                return None;
            }
        };
        let config = self.config();
        let outdated = written.terms != config.server_terms();
        let backend = {
            let schema = self.local.statements.borrow().schema(&config.dbname);
            PackedBackend::read(&written.backend, schema, config.max_prepared_statements)
        };
        let parcel = Parcel {
            stream,
            backend,
            passage,
            id: written.id,
            host: written.host,
            key: written.key.map(|key| key.read()),
            encryption: None,
            read_only: written.read_only,
            generation: self.greeting.generation(),
            connector: self.local.connector(&config.server_tls),
            born: moment(written.born),
            connect_time: SystemTime::UNIX_EPOCH + Duration::from_micros(written.connected),
            request_time: moment(written.requested),
            idle_since: written.idle.map(moment),
            checked: moment(written.checked),
            config: PoolConfig::clone(&config),
        };
        if let Some(welcome) = written.pool.welcome.filter(|_| !outdated)
            && self.welcome().is_none()
        {
            self.greeting
                .set_welcome(&config, self.greeting.generation(), welcome.read());
        }
        let server = self.unpack(parcel)?;
        if outdated {
            server.info.close_needed.set(true);
        }
        Some(server)
    }
}

/// Says goodbye on a connection that nobody takes.
pub fn hang_up(socket: OwnedFd) {
    // The kernel takes five bytes, or the connection is dead anyway.
    let _ = TcpStream::from(socket).write(build::TERMINATE);
}
