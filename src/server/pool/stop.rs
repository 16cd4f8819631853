//! A pool that an operator stops, lets go on, or has connect anew.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::{Farewell, Pool};
use crate::config::Host;
use crate::net::PeerAddr;

impl Pool {
    /// Whether it hands nothing out, and closes what comes back.
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Idle connections are closed now, others when they are released; whoever
    /// asks for one waits. Or ends that. `killed`: by KILL, which PgBouncer's log tells
    /// from PAUSE.
    pub fn set_paused(&self, paused: bool, killed: bool) {
        if self.paused.replace(paused) == paused {
            return;
        }
        if paused {
            let reason = match killed && self.is_of_ini() {
                true => "database removed",
                false => "pause mode",
            };
            let idle = self.book.borrow_mut().retain_idle(|_| false);
            for server in idle {
                self.hang_up(server, reason);
            }
            self.offer_room();
            self.spread_room();
        }
        self.paused_changed.notify_waiters();
        self.wake();
    }

    /// Returns when it is paused or no longer so. Cancel safe.
    pub(in crate::server) async fn pause_or_resume(&self) {
        self.paused_changed.notified().await;
    }

    /// A connection to its server that is in no book is there, or is not.
    pub(in crate::server) fn set_watched(&self, watched: bool) {
        self.watched.set(watched);
    }

    /// Whether no worker has a connection to its server, opens one, or sends one.
    pub fn is_empty(&self) -> bool {
        self.book.borrow().part().total_here() == 0 && !self.watched.get()
    }

    /// Who waits is told why, and what clients have is closed as it comes back,
    /// without cleaning it first.
    pub fn kill(&self, farewell: &Arc<Farewell>) {
        for (_, info) in self.servers.borrow().iter() {
            info.close_needed.set(true);
            info.doomed.set(true);
        }
        let wakers = self.book.borrow_mut().fail_all(farewell);
        for waker in wakers {
            waker.wake();
        }
        self.wake();
    }

    /// Connections whose opening began before this `generation` are closed as
    /// they are released, those included that other workers send; and what the
    /// server says at login is asked again.
    pub fn renew(self: &Rc<Self>, generation: u64) {
        self.greeting.renew(generation);
        for (_, info) in self.servers.borrow().iter() {
            if info.generation < generation {
                info.close_needed.set(true);
            }
        }
        self.wake();
    }

    /// A RECONNECT that another worker has heard of already holds here too.
    pub fn catch_up(self: &Rc<Self>) {
        self.renew(self.greeting.generation());
    }

    /// Connections to these addresses of a host are closed as they are released.
    pub fn leave_addresses(&self, host: &str, gone: &[IpAddr]) {
        let mut any = false;
        for (_, info) in self.servers.borrow().iter() {
            if let (Host::Tcp { host: name, .. }, PeerAddr::Tcp(ip, _)) = (&info.host, info.peer)
                && name == host
                && gone.contains(&ip)
            {
                info.close_needed.set(true);
                any = true;
            }
        }
        if any {
            self.wake();
        }
    }

    /// Whether a connection here is to be closed as soon as it is released.
    pub fn has_outdated(&self) -> bool {
        let servers = self.servers.borrow();
        servers.iter().any(|(_, info)| info.close_needed.get())
    }
}
