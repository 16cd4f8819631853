//! What a worker does while one process takes the place of another.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::{Admission, Worker, ask_to_leave};
use crate::client::{ClientInfo, Order};
use crate::pool::Passage;
use crate::process::{Link, Side};
use crate::server::Pool;
use crate::server::pool::hang_up;
use crate::server::written::{WrittenPool, WrittenServer};

impl Worker {
    /// The process that this one replaces, if it is still there.
    pub fn predecessor(&self) -> Option<Link> {
        self.pools.link(Side::Predecessor)
    }

    /// The process that takes the place of this one.
    pub fn successor(&self) -> Option<Link> {
        self.pools.link(Side::Successor)
    }

    pub(super) fn link(&self, side: Side, link: Link) {
        self.pools.set_link(side, Some(link));
        if side == Side::Successor {
            let clients = self.clients.borrow();
            clients
                .values()
                .for_each(|client| client.order(Order::Move));
        }
    }

    pub(super) fn unlink(&self, side: Side) {
        self.pools.set_link(side, None);
        if side == Side::Successor {
            self.clients.borrow().values().for_each(|c| self.keep(c));
        }
        self.pools.room_made();
    }

    /// A server connection has come from another process.
    pub(super) fn take_over(&self, written: WrittenServer, socket: OwnedFd, passage: Passage) {
        match self.pool_of(&written.pool) {
            Some(pool) => pool.take_over(written, socket, passage),
            None => {
                hang_up(socket);
                // It counts no more.
                drop(passage);
                self.pools.room_made();
            }
        }
    }

    /// Whether no server connection is left.
    pub(super) fn has_handed_over(&self) -> bool {
        let pools = self.pools.each();
        pools.iter().all(|pool| pool.book().own() == 0)
    }

    /// If clients are to go, asks this one to: to the process that takes our place or,
    /// once its transaction is over, away.
    pub(super) fn ask_to_go(&self, client: &Rc<ClientInfo>) {
        let server = client.link.get();
        let replicates = server.is_some_and(|server| server.replication.is_some());
        if self.successor().is_some() && !replicates {
            client.order(Order::Move);
        } else if self.draining.get() {
            ask_to_leave(client);
        }
    }

    /// This client cannot move as it is.
    pub fn keep(&self, client: &Rc<ClientInfo>) {
        if self.draining.get() {
            client.order(Order::Stay);
            ask_to_leave(client);
        }
    }

    /// Counts a client that another process has let in.
    pub fn readmit(&self, database: &str, user: &str) -> Admission {
        let seat = self.census.seat_at(self.crew.number());
        self.census.readmit(seat, database, user)
    }

    /// The pool that another process has described; `None`: there is none in the
    /// configuration.
    pub fn pool_of(&self, written: &WrittenPool) -> Option<Rc<Pool>> {
        let name = written.name.read();
        let terms = self.terms();
        let config = terms.pool_of_user(&name.database, &name.user)?;
        let proof = written.credential.read();
        let mut credential = terms.credential(&config);
        credential.scram_keys = proof.scram_keys.clone();
        if !terms.lists(&config) {
            credential = proof;
        }
        self.pool(config, credential);
        self.pools.find(&name)
    }
}
