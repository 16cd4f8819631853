//! Phases of the process: start, run, drain, stop.

mod control;
mod handle;
mod handover;
pub mod identity;
mod io_uring;
mod link;
mod load;
pub mod logging;
mod memory;
mod names;
mod open_files;
mod pgbouncer;
mod pidfile;
mod run;
mod service_manager;
mod signals;
mod sockets;

pub use control::{Control, ControlError};
pub use handle::{Command, Handle, ShutdownMode};
pub use handover::Successor;
pub use link::{Link, Side};
pub use load::{Overrides, Source};
pub use pgbouncer::{Client as PgBouncersClient, Linked, Taken};
pub use pidfile::Pidfile;
pub use run::{Origin, run};
use tokio::sync::oneshot;

use crate::worker::{self, Crew};

/// Asks every worker.
fn ask<T>(
    crew: &Crew,
    command: impl Fn(oneshot::Sender<T>) -> worker::Command,
) -> Vec<oneshot::Receiver<T>> {
    let ask = |worker| {
        let (answer, receiver) = oneshot::channel();
        // A worker that has ended has nothing to say.
        let _ = crew.tell(worker, command(answer));
        receiver
    };
    crew.everyone().map(ask).collect()
}

/// The answers; a worker that has ended gives none.
async fn gather<T>(answers: Vec<oneshot::Receiver<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for answer in answers {
        all.extend(answer.await);
    }
    all
}

/// Waits for all answers.
async fn all(answers: Vec<oneshot::Receiver<()>>) {
    gather(answers).await;
}
