use tokio::sync::{mpsc, oneshot};

use crate::admin::snapshot::Snapshot;

/// How to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// At once.
    Immediate,
    /// Stop accepting, let transactions end, drop waiting clients, leave when
    /// no server connection is in use (SIGINT).
    WaitForServers,
    /// Stop accepting, leave when the last client has gone or the drain bound
    /// is over (SIGTERM).
    WaitForClients,
}

/// What the console, the stats port and signals ask of the process.
#[derive(Debug)]
pub enum Command {
    Snapshot(oneshot::Sender<Snapshot>),
    /// Read the configuration again. The error is one line per mistake.
    Reload(oneshot::Sender<Result<(), String>>),
    Shutdown(ShutdownMode),
}

/// A cheap handle to the running process, for any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
}

impl Handle {
    /// A handle and the receiving end that `process` serves.
    pub fn new() -> (Handle, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        (Handle { commands }, receiver)
    }

    /// The state of all workers; `None` when the process is already stopping.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (tx, rx) = oneshot::channel();
        self.commands.send(Command::Snapshot(tx)).ok()?;
        rx.await.ok()
    }

    /// Reads the configuration again; applied whole or not at all.
    pub async fn reload(&self) -> Result<(), String> {
        let (tx, rx) = oneshot::channel();
        let gone = || "pgweir is stopping".to_owned();
        self.commands
            .send(Command::Reload(tx))
            .map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// Starts leaving; returns at once.
    pub fn shutdown(&self, mode: ShutdownMode) {
        // A closed channel means that the process is leaving already.
        let _ = self.commands.send(Command::Shutdown(mode));
    }
}
