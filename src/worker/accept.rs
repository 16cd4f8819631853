//! Accepts connections and deals them out.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Command, Sockets, Worker};
use crate::client;
use crate::net::listener::Listener;
use crate::net::{Stream, apply_tcp_options};
use crate::reactor;

/// Pause after a connection could not be accepted, usually because no file
/// descriptor is left: they come back as clients leave.
const PAUSE: Duration = Duration::from_millis(100);
/// So long without an error, and it works again. With many who want in, each
/// descriptor that comes back is taken at once, and the next attempt fails.
const CALM: Duration = Duration::from_secs(1);

/// A socket that is being listened on.
pub struct Listening {
    stop: oneshot::Sender<Sockets>,
    /// Dropped when the socket is closed.
    open: oneshot::Receiver<()>,
}

impl Listening {
    pub fn start(listener: Listener, worker: Rc<Worker>) -> Listening {
        let (stop, stopped) = oneshot::channel();
        let (ends, open) = oneshot::channel();
        reactor::spawn(async move {
            let _ends = ends;
            accept(listener, worker, stopped).await;
        });
        Listening { stop, open }
    }

    /// Returns when the socket is closed.
    pub async fn stop(self, sockets: Sockets) {
        // An error of either means that it is closed already.
        let _ = self.stop.send(sockets);
        let _ = self.open.await;
    }
}

/// Accepts until told to stop. Errors are logged once, until it works again.
async fn accept(listener: Listener, worker: Rc<Worker>, mut stopped: oneshot::Receiver<Sockets>) {
    let mut failed = None::<Instant>;
    let sockets = loop {
        let accepted = tokio::select! {
            biased;
            sockets = &mut stopped => break sockets,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                if failed.is_some_and(|at| at.elapsed() >= CALM) {
                    info!("accepting connections again");
                    failed = None;
                }
                begin(stream, &worker);
            }
            Err(error) => {
                if failed.replace(Instant::now()).is_none() {
                    warn!(reason = %error, "cannot accept connections");
                }
                reactor::sleep(PAUSE).await;
            }
        }
    };
    if sockets == Ok(Sockets::Others) {
        return listener.leave();
    }
    if let Err(error) = listener.close(|stream| begin(stream, &worker)) {
        warn!(reason = %error, "connections that were not accepted yet are lost");
    }
}

fn begin(stream: Stream, worker: &Rc<Worker>) {
    let tcp = worker.terms().config.tcp();
    if let Stream::Tcp(socket) = &stream
        && apply_tcp_options(socket, &tcp).is_err()
    {
        // It is gone already.
        return;
    }
    deal(stream, worker);
}

/// Gives a connection to the worker that has the fewest.
fn deal(stream: Stream, worker: &Rc<Worker>) {
    let seat = worker.census().seat();
    let to = seat.worker();
    if to == worker.crew().number() {
        reactor::spawn(client::serve(stream, worker.clone(), seat));
        return;
    }
    // An error means that the connection is broken, or that the worker has
    // ended: it is closed.
    if let Ok(stream) = stream.detach() {
        let _ = worker.crew().tell(to, Command::Connection(stream, seat));
    }
}
