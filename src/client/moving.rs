//! Clients that go on in another process, which takes the place of this one.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::debug;

use super::info::{CancelKey, ClientInfo, History, Order, Party};
use super::session::Client;
use super::task::Task;
use crate::flow::{Bytes, Session, WrittenSession};
use crate::net::{Detached, PeerAddr};
use crate::process::Link;
use crate::reactor;
use crate::server::written::{WrittenPool, WrittenServer};
use crate::wire::cancel_key;
use crate::worker::Worker;

/// A client between two requests, but for its socket.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenClient {
    id: u64,
    pid: u32,
    key: Bytes,
    database: String,
    user: String,
    pool: WrittenPool,
    /// The connection that is its own for the session.
    server: Option<Box<WrittenServer>>,
    peer: PeerAddr,
    local: PeerAddr,
    /// Microseconds since the Unix epoch, and since its last request.
    connected: u64,
    idle: u64,
    /// It has written something, where statements are routed.
    wrote: bool,
    session: WrittenSession,
}

impl WrittenClient {
    /// The process id that it was told.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

/// A client that another process wants to be rid of.
pub struct Arrival {
    pub number: u64,
    pub client: Box<WrittenClient>,
    pub files: Vec<OwnedFd>,
    /// Where it comes from.
    pub link: Link,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arrival({})", self.client.id)
    }
}

impl Client {
    /// If the client is to go to another process, and is at rest, asks whether that
    /// takes it. Nothing is to be done for it until the answer is there.
    pub(super) fn begin_move(&mut self) -> Option<oneshot::Receiver<bool>> {
        if self.info.ordered() != Order::Move || !self.is_at_rest() {
            return None;
        }
        let Some(link) = self.worker.successor() else {
            self.stay();
            return None;
        };
        let Some((client, files)) = self.write() else {
            self.worker.keep(&self.info);
            return None;
        };
        self.info.moving.set(true);
        Some(link.offer(client, files))
    }

    /// The other process has it, with the server connection that is its own.
    pub(super) fn let_go(mut self) {
        if let Some(lease) = self.take_lease() {
            self.pool.let_go(lease);
        }
        self.stream.leave();
    }

    /// The other process does not take it.
    pub(super) fn stay(&mut self) {
        self.info.moving.set(false);
        self.info.order(Order::Stay);
        self.worker.keep(&self.info);
    }

    /// `None`: what it has cannot be written.
    fn write(&self) -> Option<(WrittenClient, Vec<OwnedFd>)> {
        let info = &*self.info;
        let mut files = vec![self.stream.file()?.try_clone_to_owned().ok()?];
        let session = self.session.write()?;
        let mut server = None;
        if let Some(lease) = self.lease() {
            let (written, socket) = self.pool.write_linked(lease)?;
            server = Some(Box::new(written));
            files.push(socket);
        }
        let client = WrittenClient {
            id: info.id,
            pid: info.pid,
            key: info.key.bytes().into(),
            database: info.database().to_owned(),
            user: info.user().to_owned(),
            pool: self.pool.write(),
            server,
            peer: info.peer,
            local: info.local,
            connected: info.connected(),
            idle: info.request_time.get().elapsed().as_micros() as u64,
            wrote: info.last_write.get() != 0,
            session,
        };
        Some((client, files))
    }
}

/// Takes a client over that another process has offered, or refuses it. It is ours
/// from the moment that the other one will hear of that: nothing is read before.
pub async fn arrive(worker: Rc<Worker>, arrival: Arrival) {
    let Arrival {
        number,
        client,
        files,
        link,
    } = arrival;
    let id = client.id;
    match settle(&worker, *client, files) {
        None => {
            debug!(conn = format!("C-{id}"), "not taken over");
            link.answer(number, false).await;
        }
        Some(client) => {
            if !link.answer(number, true).await {
                // It has stayed where it was.
                return client.let_go();
            }
            debug!(conn = format!("C-{id}"), "taken over");
            reactor::spawn(Task::Serving(client));
        }
    }
}

/// `None`: it cannot go on here.
fn settle(worker: &Rc<Worker>, written: WrittenClient, mut files: Vec<OwnedFd>) -> Option<Client> {
    let terms = worker.terms();
    let own = terms.config.general.peer_id;
    if own != 0 && cancel_key::peer(written.pid) != own {
        // Its cancel requests would go elsewhere.
        return None;
    }
    let key = CancelKey::from_bytes(&written.key.0)?;
    let server = match written.server {
        Some(server) => Some((server, files.pop()?)),
        None => None,
    };
    let socket = files.pop()?;
    let stream = Detached::from_file(socket)
        .and_then(Detached::attach)
        .ok()?;
    let pool = worker.pool_of(&written.pool)?;
    let local = worker.local();
    let session = {
        let (mut statements, mut params) =
            (local.statements.borrow_mut(), local.params.borrow_mut());
        let edition = statements.schema(&pool.config().dbname).edition();
        Session::read(&written.session, edition, &mut statements, &mut params)?
    };
    let admission = worker.readmit(&written.database, &written.user);
    let info = ClientInfo::new(
        written.id,
        (written.pid, key),
        Party::Client(admission, pool.clone()),
        &stream,
        session.params().clone(),
    );
    let info = Rc::new(info.with_history(History {
        peer: written.peer,
        local: written.local,
        connected: written.connected,
        idle: written.idle,
    }));
    if written.wrote
        && let Some(family) = pool.family()
    {
        // The samples of the other process mean nothing here: the next one covers it.
        info.last_write.set(family.topology().covering_sample());
    }
    let prepared = session.prepared_statements();
    info.prepared_statements
        .set(prepared.min(u16::MAX.into()) as u16);
    worker.enlist(info.clone());
    let mut client = Client::new(stream, session, info, (pool.clone(), worker.clone()));
    if let Some((server, socket)) = server {
        client.relink(pool.take_over_linked(*server, socket)?);
    }
    Some(client)
}
