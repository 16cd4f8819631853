//! A client's cancel request.

use std::rc::Rc;

use tracing::{debug, warn};

use crate::admin::snapshot::ClientState;
use crate::server::cancel;
use crate::stats::add;
use crate::worker::Worker;

/// Finds the client that the key belongs to and cancels what it is running, or
/// waits to run. A wrong key changes nothing, and nobody is told.
pub(super) async fn request(worker: &Rc<Worker>, pid: u32, key: &[u8]) {
    let Some(client) = worker.find_by_key(pid, key) else {
        debug!("cancel request with an unknown key");
        return;
    };
    if client.state.get() == ClientState::Waiting {
        client.cancel_wait();
        return;
    }
    // While the cancel is under way, the server connection is not given to
    // anybody else, so it cannot hit another client's query.
    let Some(server) = client.link.borrow().clone() else {
        debug!("cancel request for idle client");
        return;
    };
    let Some(pool) = worker.find_pool(&client) else {
        return;
    };
    add(&pool.counters.cancel_count, 1);
    let config = pool.config();
    if let Err(error) = cancel::cancel(&server, &config.tcp, config.cancel_wait_timeout).await {
        let conn = format!("S-{}", server.id);
        warn!(%conn, reason = %error, "failed cancel request");
    }
}
