//! Connections that are opened for one client, for replication, and closed with
//! it. They count against every bound; an idle one makes room for them.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::lend::Place;
use super::open::{OpenError, Opened, reach, reported};
use super::{Farewell, Pool};
use crate::config::Host;
use crate::flow::Params;
use crate::net::Stream;
use crate::pool::HANDOVER_SLACK;
use crate::reactor;
use crate::server::lease::Server;
use crate::server::login::{BackendKey, LoggedIn};
use crate::wire::build::Refusal;
use crate::wire::startup::Replication;

/// How often a place is left to somebody on another worker who has waited longer,
/// for [`HANDOVER_SLACK`] each time: it may be that nothing can be opened there.
const PATIENCE: u32 = 10;

/// A connection that is closed when this is dropped.
pub struct Dedicated {
    server: Option<Box<Server>>,
    room: Room,
    /// What the log says when it is closed.
    reason: String,
}

/// Room for a connection within the pool's bounds.
struct Room(Rc<Pool>);

impl Pool {
    /// Opens a connection for one client, with its startup parameters. Waits until
    /// there is room for it, in the order of all who wait. Cancel safe.
    pub async fn dedicate(
        self: &Rc<Self>,
        replication: Replication,
        startup: &[(String, String)],
    ) -> Result<Dedicated, Arc<Farewell>> {
        let room = self.room().await?;
        let config = self.config();
        let connector = self.local.connector(&config.server_tls);
        let generation = self.greeting.generation();
        let startup: Vec<_> = startup.iter().map(|(k, v)| (&**k, &**v)).collect();
        let opened = reach(self, &config, &connector, &startup).await;
        let opened = opened.map_err(|(place, error)| self.refuse_dedicated(&place, &error))?;
        let outdated = self.is_outdated(&config, &connector);
        let params = reported(&opened.logged_in);
        let terms = (false, generation);
        let server = self.server(opened, params, connector, terms, Some(replication));
        server.info.close_needed.set(outdated);
        Ok(Dedicated {
            server: Some(server),
            room,
            reason: "client has gone".to_owned(),
        })
    }

    /// Takes over a connection that another pooler has opened, for the client that holds
    /// it there. It counts, even if there is no room for it.
    pub fn dedicate_taken(self: &Rc<Self>, stream: Stream, key: BackendKey) -> Option<Dedicated> {
        let config = self.config();
        let passage = self.pools.upgrade()?.take_over(&config.name());
        self.book.borrow_mut().arrive(passage);
        self.book.borrow_mut().dedicate();
        let room = Room(self.clone());
        let port = stream.peer_addr().port();
        let fits = |host: &&Host| matches!(host, Host::Tcp { port: at, .. } if *at == port);
        let mut hosts = config.hosts.iter();
        let host = hosts.clone().find(fits).or_else(|| hosts.next())?.clone();
        let opened = Opened {
            id: self.local.next_id(),
            host,
            stream,
            logged_in: LoggedIn {
                parameters: Vec::new(),
                backend_key: Some(key),
            },
        };
        let connector = self.local.connector(&config.server_tls);
        let terms = (false, self.greeting.generation());
        let server = self.server(opened, Params::default(), connector, terms, None);
        Some(Dedicated {
            server: Some(server),
            room,
            reason: "client has gone".to_owned(),
        })
    }

    fn refuse_dedicated(&self, place: &str, error: &OpenError) -> Arc<Farewell> {
        let config = self.config.borrow();
        let (db, user) = (&config.database, &config.user);
        warn!(%db, %user, addr = place, reason = %error, "cannot open a server connection");
        let text = error.text();
        let mut refusal =
            Refusal::fatal("08P01", "login failed").detail(format!("{place}: {text}"));
        refusal.hint = error.hint();
        Farewell::refusal(&refusal)
    }

    async fn room(self: &Rc<Self>) -> Result<Room, Arc<Farewell>> {
        let now = Instant::now();
        self.may_wait(now, true)?;
        if self.book.borrow().waiting_count() == 0 {
            let due_elsewhere = self.book.borrow().place_is_due_elsewhere(now);
            if !due_elsewhere && self.begin_dedicated(now) {
                return Ok(Room(self.clone()));
            }
            let idle = self.book.borrow_mut().take_idle(|_| true);
            if let Some((server, _)) = idle {
                return Ok(self.take_place_of(server));
            }
        }
        let ticket = self.book.borrow_mut().join_for_place(now);
        let mut place = Place::new(self, ticket);
        self.open_wanted(now);
        self.ask_others(now);
        self.arm(self.book.borrow().next_deadline(now));
        let mut patience = PATIENCE;
        loop {
            let place_made = self.place_made.notified();
            let now = Instant::now();
            let due_elsewhere = patience > 0 && self.book.borrow().place_is_due_elsewhere(now);
            if due_elsewhere {
                self.spread_room();
            } else if self.book.borrow().place_is_next() && self.begin_dedicated(now) {
                let room = Room(self.clone());
                drop(place);
                self.open_wanted(Instant::now());
                return Ok(room);
            }
            let served = poll_fn(|cx| place.poll(cx.waker()));
            tokio::select! {
                served = served => {
                    if let Some(server) = served?.into_server() {
                        return Ok(self.take_place_of(server));
                    }
                }
                () = place_made => patience = PATIENCE,
                () = reactor::sleep(HANDOVER_SLACK), if due_elsewhere => patience -= 1,
            }
        }
    }

    /// Counts one, if there is room; idle connections of other pools go for it.
    fn begin_dedicated(self: &Rc<Self>, now: Instant) -> bool {
        if self.is_closing() || self.is_paused() {
            return false;
        }
        loop {
            let begun = self.book.borrow_mut().begin_dedicated(now);
            match begun {
                Ok(begun) => return begun,
                Err(bound) => {
                    let pools = self.pools.upgrade();
                    if !pools.is_some_and(|pools| pools.evict_idle(&self.config(), bound)) {
                        self.evict_elsewhere(bound);
                        return false;
                    }
                }
            }
        }
    }

    fn take_place_of(self: &Rc<Self>, server: Box<Server>) -> Room {
        self.hang_up(server, "evicted");
        self.book.borrow_mut().dedicate();
        Room(self.clone())
    }
}

impl Dedicated {
    /// Closes it; the log says why.
    pub fn close(mut self, reason: &str) {
        self.reason = reason.to_owned();
    }
}

// The server is there until drop.
#[allow(clippy::expect_used)]
impl Deref for Dedicated {
    type Target = Server;

    fn deref(&self) -> &Server {
        let server = self.server.as_deref();
        server.expect("BUG: a dedicated connection without a server")
    }
}

#[allow(clippy::expect_used)]
impl DerefMut for Dedicated {
    fn deref_mut(&mut self) -> &mut Server {
        let server = self.server.as_deref_mut();
        server.expect("BUG: a dedicated connection without a server")
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.room.0.hang_up(server, &self.reason);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.book.borrow_mut().end_dedicated();
        self.0.after_close();
    }
}
