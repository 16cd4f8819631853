//! Accepts connections and deals them out.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Command, Worker};
use crate::client;
use crate::net::listener::Listener;
use crate::net::{Stream, apply_tcp_options};

/// Pause after a connection could not be accepted, usually because no file
/// descriptor is left: they come back as clients leave.
const PAUSE: Duration = Duration::from_millis(100);
/// So long without an error, and it works again. With many who want in, each
/// descriptor that comes back is taken at once, and the next attempt fails.
const CALM: Duration = Duration::from_secs(1);

/// Accepts until dropped. Errors are logged once, until it works again.
pub async fn accept(listener: Listener, worker: Rc<Worker>) {
    let mut failed = None::<Instant>;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                if failed.is_some_and(|at| at.elapsed() >= CALM) {
                    info!("accepting connections again");
                    failed = None;
                }
                let tcp = worker.terms().config.tcp();
                if let Stream::Tcp(socket) = &stream
                    && apply_tcp_options(socket, &tcp).is_err()
                {
                    // It is gone already.
                    continue;
                }
                deal(stream, &worker);
            }
            Err(error) => {
                if failed.replace(Instant::now()).is_none() {
                    warn!(reason = %error, "cannot accept connections");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Gives a connection to the worker that has the fewest.
fn deal(stream: Stream, worker: &Rc<Worker>) {
    let seat = worker.census().seat();
    let to = seat.worker();
    if to == worker.crew().number() {
        tokio::task::spawn_local(client::serve(stream, worker.clone(), seat));
        return;
    }
    // An error means that the connection is broken, or that the worker has
    // ended: it is closed.
    if let Ok(stream) = stream.detach() {
        let _ = worker.crew().tell(to, Command::Connection(stream, seat));
    }
}
