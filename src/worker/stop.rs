//! What an operator stops: connections of one database, or of all; one client.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Command, Gates, Worker};
use crate::client::Order;
use crate::server::Farewell;
use crate::wire::build::Refusal;

impl Worker {
    pub(super) fn set_gates(&self, gates: Arc<Gates>) {
        let suspended = gates.suspended;
        self.pools.set_gates(gates);
        if self.suspended.replace(suspended) != suspended {
            for client in self.clients.borrow().values() {
                client.flushed.set(false);
                client.wake();
            }
        }
    }

    /// Whether nothing may be read from clients and servers.
    pub fn is_suspended(&self) -> bool {
        self.suspended.get()
    }

    /// Whether nothing is left to be written to any client, or to any server for one.
    pub(super) fn is_flushed(&self) -> bool {
        let clients = self.clients.borrow();
        clients.values().all(|client| client.flushed.get())
    }

    pub(super) fn kill_unflushed(&self) {
        for client in self.clients.borrow().values() {
            if !client.flushed.get() {
                client.order(Order::NotFlushed);
            }
        }
    }

    pub(super) fn is_without_servers(&self, database: Option<&str>) -> bool {
        self.pools.of(database).iter().all(|pool| pool.is_empty())
    }

    pub(super) fn reconnect(&self, database: Option<&str>, generation: u64) {
        for pool in self.pools.of(database) {
            pool.renew(generation);
        }
        self.terms().lookups.forget_all();
        self.end_outdated();
    }

    /// All workers close their server connections as they are released, and open
    /// new ones.
    pub fn renew_all_servers(&self) {
        let generation = self.crew.new_generation();
        for worker in self.crew.everyone() {
            // Nobody waits for the answer, and who has ended has none.
            let (done, _) = oneshot::channel();
            let _ = self
                .crew
                .tell(worker, Command::Reconnect(None, generation, done));
        }
    }

    /// Connections to addresses that a name of a host does not have any more end
    /// as they are released.
    pub(super) fn leave_addresses(&self, host: &str, gone: &[IpAddr]) {
        for pool in self.pools.each() {
            pool.leave_addresses(host, gone);
        }
        self.end_outdated();
    }

    /// Connections that are out of date end: those for replication, which nobody
    /// gives back some day, and with `server_fast_close` all sessions.
    pub(super) fn end_outdated(&self) {
        let all = self.terms().config.general.server_fast_close;
        for client in self.clients.borrow().values() {
            let server = client.link.get();
            if all || server.is_some_and(|server| server.replication.is_some()) {
                client.review();
            }
        }
    }

    pub(super) fn has_outdated_servers(&self, database: Option<&str>) -> bool {
        let pools = self.pools.of(database);
        pools.iter().any(|pool| pool.has_outdated())
    }

    pub(super) fn kill(&self, database: Option<&str>) {
        let farewell = Farewell::refusal(
            &Refusal::fatal("08P01", "database removed")
                .hint("An administrator said KILL; nobody is served until RESUME."),
        );
        for pool in self.pools.of(database) {
            pool.kill(&farewell);
        }
        for client in self.clients.borrow().values() {
            if database.is_none_or(|name| client.database() == name) {
                client.order(Order::DatabaseKilled);
            }
        }
    }

    pub(super) fn is_without_clients(&self, database: Option<&str>) -> bool {
        let clients = self.clients.borrow();
        let mut databases = clients.values().map(|client| client.database());
        databases.all(|other| database.is_some_and(|name| other != name))
    }

    /// `number`: as SHOW CLIENTS has it. Those at the console have one as well.
    pub(super) fn kill_client(&self, number: u64) -> bool {
        let (clients, consoles) = (self.clients.borrow(), self.consoles.borrow());
        let mut all = clients.values().chain(consoles.values());
        let found = all.find(|client| client.shown_id() == number);
        if let Some(client) = found {
            client.order(Order::Dismissed);
        }
        found.is_some()
    }
}
