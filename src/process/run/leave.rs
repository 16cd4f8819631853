//! How the process leaves.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Process, join};
use crate::config;
use crate::process::handover::{self, Successor};
use crate::process::link::{Link, Side};
use crate::process::{ShutdownMode, all, ask};
use crate::worker::{self, Crew, Sockets};

/// How long clients that are disconnected at the end may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long server connections that nobody uses any more may take to go to the new
/// process.
const LAST_SERVERS: Duration = Duration::from_secs(5);

impl Process {
    /// Leaves to a new process what clients connect to, and lets ours finish.
    pub(super) fn make_way(&mut self, successor: Successor) -> oneshot::Receiver<()> {
        info!("a new process serves in this one's place");
        self.sockets = Sockets::Others;
        if let Some(stats) = self.stats.take() {
            stats.abort();
        }
        let link = |successor: Successor| {
            handover::make_way(&successor.stream)?;
            let link = || join(successor.stream, Side::Successor, &self.crew, &self.ledger);
            successor.clients.then(link).transpose()
        };
        match link(successor) {
            Ok(link) => self.link = link,
            Err(error) => warn!(reason = %error, "the new process has gone"),
        }
        self.begin_shutdown(ShutdownMode::WaitForClients)
    }

    /// Closes our copies of the sockets: those that are closed last count.
    pub(super) async fn stop_offering(&mut self) {
        if let Some(task) = self.successor.take() {
            task.abort();
            // An error says that it was in time.
            let _ = task.await;
        }
    }

    /// Stops listening and tells the workers to let their clients finish. The
    /// receiver tells when that is done, or has lasted too long.
    pub(super) fn begin_shutdown(&mut self, mode: ShutdownMode) -> oneshot::Receiver<()> {
        self.shown.stopping.send_replace(Some(mode));
        let config = &self.shown.terms();
        let drains = config.config.source != config::Source::Ini;
        let limit = config.config.general.shutdown_timeout.0.filter(|_| drains);
        info!(?mode, "shutting down");
        let mut answers = Vec::new();
        for worker in self.crew.everyone() {
            let (tx, rx) = oneshot::channel();
            let wait = match mode {
                ShutdownMode::WaitForServers => worker::Command::WaitForServers(tx),
                _ if drains => worker::Command::Drain(tx),
                _ => worker::Command::WaitForClients(tx),
            };
            // A worker that has ended has nothing to wait for.
            let _ = self
                .crew
                .tell(worker, worker::Command::StopListening(self.sockets));
            let _ = self.crew.tell(worker, wait);
            answers.push(rx);
        }
        let crew = self.crew.clone();
        let (done, left) = oneshot::channel();
        let predecessor = self.predecessor.clone();
        let successor = self.link.clone();
        tokio::spawn(async move {
            let left = async {
                // Its clients go by way of this one.
                if let Some(predecessor) = predecessor {
                    predecessor.ended().await;
                }
                all(answers).await;
            };
            let in_time = match limit {
                Some(limit) => tokio::time::timeout(limit, left).await.is_ok(),
                None => {
                    left.await;
                    true
                }
            };
            if !in_time {
                let seconds = limit.unwrap_or_default().as_secs_f64();
                warn!(
                    seconds,
                    "shutdown_timeout is over, clients are disconnected"
                );
            }
            let mut answers = Vec::new();
            for worker in crew.everyone() {
                let (tx, rx) = oneshot::channel();
                // A worker that has ended has nobody to disconnect.
                let _ = crew.tell(worker, worker::Command::Disconnect(tx));
                answers.push(rx);
            }
            // Those who do not read are not waited for.
            let _ = tokio::time::timeout(LAST_WORDS, all(answers)).await;
            if let Some(successor) = successor {
                let parted = part_with_servers(&successor, &crew);
                let _ = tokio::time::timeout(LAST_SERVERS, parted).await;
            }
            let _ = done.send(());
        });
        left
    }

    pub(super) fn end(self) -> anyhow::Result<ExitCode> {
        for worker in self.crew.everyone() {
            // It may have ended already.
            if self.sockets == Sockets::Others {
                let stop = worker::Command::StopListening(self.sockets);
                let _ = self.crew.tell(worker, stop);
            }
            let _ = self.crew.tell(worker, worker::Command::End);
        }
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result.context("a worker failed")?,
                Err(_) => anyhow::bail!("a worker panicked"),
            }
        }
        if let Some(link) = self.link {
            link.flush();
        }
        info!("pgweir has stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns when all server connections have gone to the new process, those included
/// that are still being cleaned or opened, or when that has gone.
async fn part_with_servers(successor: &Link, crew: &Crew) {
    // What it has given us is told to the workers by then.
    successor.take_no_more().await;
    tokio::select! {
        () = all(ask(crew, worker::Command::WaitHandedOver)) => {}
        () = successor.ended() => {}
    }
}
