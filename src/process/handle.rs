use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::control::{Control, ControlError};
use super::handover::Successor;
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
    /// Change a setting until the next reload. The error is one line per mistake.
    Set {
        key: String,
        value: String,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Stop something or let it go on; answers when that is complete.
    Control(Control, oneshot::Sender<Result<(), ControlError>>),
    /// A new process serves in our place, and is at the other end of this.
    Succeeded(Successor),
    /// Who waits for a PAUSE does so no longer.
    CancelPause,
    /// The last client of the console has left.
    ConsoleIsEmpty,
}

/// A cheap handle to the running process, for any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    /// Clients of the console, of all workers.
    consoles: Arc<AtomicUsize>,
}

impl Handle {
    /// A handle and the receiving end that `process` serves.
    pub fn new() -> (Handle, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let consoles = Arc::default();
        (Handle { commands, consoles }, receiver)
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

    /// Changes a setting until the next reload, or nothing at all.
    pub async fn set(&self, key: String, value: String) -> Result<(), String> {
        let (reply, rx) = oneshot::channel();
        let gone = || "pgweir is stopping".to_owned();
        let sent = self.commands.send(Command::Set { key, value, reply });
        sent.map_err(|_| gone())?;
        rx.await.map_err(|_| gone())?
    }

    /// Stops something or lets it go on; returns when that is complete.
    pub async fn control(&self, control: Control) -> Result<(), ControlError> {
        let (tx, rx) = oneshot::channel();
        let gone = |_| ControlError::ShuttingDown;
        let sent = self.commands.send(Command::Control(control, tx));
        sent.map_err(|_| ControlError::ShuttingDown)?;
        rx.await.map_err(gone)?
    }

    pub fn console_came(&self) {
        self.consoles.fetch_add(1, Ordering::Relaxed);
    }

    /// The last one to leave ends a SUSPEND.
    pub fn console_left(&self) {
        if self.consoles.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A closed channel means that the process is leaving already.
            let _ = self.commands.send(Command::ConsoleIsEmpty);
        }
    }

    /// Ends a PAUSE of everything.
    pub fn cancel_pause(&self) {
        // A closed channel means that the process is leaving already.
        let _ = self.commands.send(Command::CancelPause);
    }

    /// A new process serves in our place: starts leaving; returns at once.
    pub fn succeeded(&self, successor: Successor) {
        // A closed channel means that the process is leaving already.
        let _ = self.commands.send(Command::Succeeded(successor));
    }

    /// Starts leaving; returns at once.
    pub fn shutdown(&self, mode: ShutdownMode) {
        // A closed channel means that the process is leaving already.
        let _ = self.commands.send(Command::Shutdown(mode));
    }
}
