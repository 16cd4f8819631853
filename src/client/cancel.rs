//! A client's cancel request.

use std::rc::Rc;

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::admin::snapshot::ClientState;
use crate::net::PeerAddr;
use crate::process::Side;
use crate::server;
use crate::stats::add;
use crate::wire::cancel_key;
use crate::worker::{Command, Worker};

/// Hands the request on to the process that gave the key, or has the worker whose
/// client it is about cancel what that is running. Returns when that is done, or
/// there is nothing to be done. `from`: the connection that it came by.
pub(super) async fn request(
    worker: &Rc<Worker>,
    from: (u64, PeerAddr),
    (pid, mut key): (u32, Vec<u8>),
) {
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
        find_and_cancel(worker, None, (pid, &key)).await;
        return;
    }
    let (done, answer) = oneshot::channel();
    // A worker that has ended has no clients, and drops the answer.
    let _ = worker
        .crew()
        .tell(owner, Command::Cancel { pid, key, done });
    let _ = answer.await;
}

async fn hand_on(
    worker: &Worker,
    (id, addr): (u64, PeerAddr),
    number: u32,
    (pid, mut key): (u32, Vec<u8>),
) {
    let terms = worker.terms();
    let conn = format!("C-{id}");
    let close = |reason: &str| info!(%conn, %addr, reason, age = 0, "closing because");
    if !cancel_key::take_hop(&mut key) {
        return close("failed to forward cancel request because its TTL was exhausted");
    }
    let Some(peer) = terms.peers.get(number) else {
        return close("could not find peer to forward request to");
    };
    debug!(%conn, peer = number, "forwarding cancel request");
    let limit = terms.config.general.cancel_wait_timeout.0;
    let tcp = terms.config.tcp();
    let means = (&tcp, &worker.local().dns);
    if let Err(error) = peer.hand_on((pid, &key), means, limit).await {
        warn!(%conn, %addr, peer = number, reason = %error, "failed to forward cancel request");
    }
}

/// The same here or, while one process takes the place of another, there. `from`:
/// the one that asks. False: nobody has this key.
pub async fn find_and_cancel(
    worker: &Rc<Worker>,
    from: Option<Side>,
    (pid, key): (u32, &[u8]),
) -> bool {
    if cancel(worker, pid, key).await {
        return true;
    }
    if let Some(link) = worker.predecessor().filter(|_| from != Some(Side::Predecessor))
        // It may have come from there meanwhile.
        && (link.cancel(pid, key).await || cancel(worker, pid, key).await)
    {
        return true;
    }
    match worker.successor().filter(|_| from != Some(Side::Successor)) {
        Some(link) => link.cancel(pid, key).await,
        None => false,
    }
}

/// Finds the client that the key belongs to and cancels what it is running, or
/// waits to run. False: nobody here has this key.
pub async fn cancel(worker: &Rc<Worker>, pid: u32, key: &[u8]) -> bool {
    if worker.is_console(pid, key) {
        // All that the console ever waits for.
        worker.handle().cancel_pause();
        return true;
    }
    let client = worker.find_by_key(pid, key);
    let Some(client) = client.filter(|client| !client.moving.get()) else {
        debug!("cancel request with an unknown key");
        return false;
    };
    if client.state.get() == ClientState::Waiting {
        client.cancel_wait();
        return true;
    }
    // While the cancel is under way, the server connection is not given to
    // anybody else, so it cannot hit another client's query.
    let Some(connection) = client.link.get() else {
        debug!("cancel request for idle client");
        return true;
    };
    let Some(pool) = client.pool() else {
        return true;
    };
    add(&pool.counters.cancel_count, 1);
    let config = pool.config();
    let hashing = pool.local().derived_keys.hashing();
    let limit = config.cancel_wait_timeout;
    let sent = server::cancel::cancel(&connection, &config.tcp, hashing, limit).await;
    if let Err(error) = sent {
        let conn = format!("S-{}", connection.id);
        warn!(%conn, reason = %error, "failed cancel request");
    }
    true
}
