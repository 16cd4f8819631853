//! A client's cancel request.

use std::rc::Rc;

use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::admin::snapshot::ClientState;
use crate::net::PeerAddr;
use crate::process::Side;
use crate::server;
use crate::stats::add;
use crate::wire::cancel_key;
use crate::worker::{Command, Worker};

/// What became of a request, in PgBouncer's words for the log: whoever sent it is told
/// nothing.
#[derive(Debug)]
pub struct Outcome {
    pub reason: &'static str,
    /// Where something was cancelled.
    pub database: Option<String>,
}

impl Outcome {
    fn of(reason: &'static str) -> Outcome {
        Outcome {
            reason,
            database: None,
        }
    }

    fn failed() -> Outcome {
        Outcome::of("failed cancel request")
    }

    fn sent() -> Outcome {
        Outcome::of("successfully sent cancel request")
    }
}

/// Hands the request on to the process that gave the key, or has the worker whose
/// client it is about cancel what that is running. Returns when that is done, or
/// there is nothing to be done. `from`: the connection that it came by.
pub(super) async fn request(
    worker: &Rc<Worker>,
    from: (u64, PeerAddr),
    (pid, mut key): (u32, Vec<u8>),
) -> Outcome {
    let own = worker.terms().config.general.peer_id;
    if own != 0 {
        let peer = cancel_key::peer(pid);
        if peer != own {
            return hand_on(worker, from, peer, (pid, key)).await;
        }
        cancel_key::mark_key(&mut key);
    }
    let owner = worker.crew().owner(pid);
    if owner == worker.crew().number() {
        let found = find_and_cancel(worker, None, (pid, &key)).await;
        return found.unwrap_or_else(Outcome::failed);
    }
    let (done, answer) = oneshot::channel();
    // A worker that has ended has no clients, and drops the answer.
    let _ = worker
        .crew()
        .tell(owner, Command::Cancel { pid, key, done });
    let found = answer.await.ok().flatten();
    found.unwrap_or_else(Outcome::failed)
}

async fn hand_on(
    worker: &Worker,
    (id, addr): (u64, PeerAddr),
    number: u32,
    (pid, mut key): (u32, Vec<u8>),
) -> Outcome {
    let terms = worker.terms();
    let conn = format!("C-{id}");
    if !cancel_key::take_hop(&mut key) {
        return Outcome::of("failed to forward cancel request because its TTL was exhausted");
    }
    let Some(peer) = terms.peers.get(number) else {
        return Outcome::of("could not find peer to forward request to");
    };
    debug!(%conn, peer = number, "forwarding cancel request");
    let limit = terms.config.general.cancel_wait_timeout.0;
    let tcp = terms.config.tcp();
    let means = (&tcp, &worker.local().dns);
    if let Err(error) = peer.hand_on((pid, &key), means, limit).await {
        warn!(%conn, %addr, peer = number, reason = %error, "failed to forward cancel request");
        return Outcome::failed();
    }
    Outcome::sent()
}

/// The same here or, while one process takes the place of another, there. `from`:
/// the one that asks. `None`: nobody has this key.
pub async fn find_and_cancel(
    worker: &Rc<Worker>,
    from: Option<Side>,
    (pid, key): (u32, &[u8]),
) -> Option<Outcome> {
    let found = cancel(worker, pid, key).await;
    if found.is_some() {
        return found;
    }
    if let Some(link) = worker
        .predecessor()
        .filter(|_| from != Some(Side::Predecessor))
    {
        if link.cancel(pid, key).await {
            return Some(Outcome::sent());
        }
        // It may have come from there meanwhile.
        let found = cancel(worker, pid, key).await;
        if found.is_some() {
            return found;
        }
    }
    match worker.successor().filter(|_| from != Some(Side::Successor)) {
        Some(link) => link.cancel(pid, key).await.then(Outcome::sent),
        None => None,
    }
}

/// Finds the client that the key belongs to and cancels what it is running, or
/// waits to run. `None`: nobody here has this key.
async fn cancel(worker: &Rc<Worker>, pid: u32, key: &[u8]) -> Option<Outcome> {
    if worker.is_console(pid, key) {
        // All that the console ever waits for.
        worker.handle().cancel_pause();
        return Some(Outcome::of("cancel request for console client"));
    }
    let client = worker.find_by_key(pid, key);
    let client = client.filter(|client| !client.moving.get())?;
    let database = || Some(client.database().to_owned());
    if client.state.get() == ClientState::Waiting {
        client.cancel_wait();
        return Some(Outcome {
            database: database(),
            ..Outcome::of("cancelled the wait for a server connection")
        });
    }
    // While the cancel is under way, the server connection is not given to
    // anybody else, so it cannot hit another client's query.
    let Some(connection) = client.link.get() else {
        return Some(Outcome::of("cancel request for idle client"));
    };
    let Some(pool) = client.pool() else {
        return Some(Outcome::failed());
    };
    add(&pool.counters.cancel_count, 1);
    let config = pool.config();
    let hashing = pool.local().derived_keys.hashing();
    let limit = config.cancel_wait_timeout;
    let sent = server::cancel::cancel(&connection, Some(pool), &config.tcp, hashing, limit).await;
    if let Err(error) = sent {
        let conn = format!("S-{}", connection.id);
        warn!(%conn, reason = %error, "failed cancel request");
        return Some(Outcome::failed());
    }
    Some(Outcome {
        database: database(),
        ..Outcome::sent()
    })
}
