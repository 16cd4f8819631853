//! What an operator stops and lets go on: PAUSE, RESUME, KILL and the like, over
//! all workers. Texts of errors are PgBouncer's (src/admin.c).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tracing::info;

use super::{ShutdownMode, all, gather};
use crate::config::{CONSOLE, Config};
use crate::worker::{Command, Crew, Gates};

/// A command; without a database it is for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    Pause(Option<String>),
    Resume(Option<String>),
    Suspend,
    Kill(Option<String>),
    /// The client's number in SHOW CLIENTS; `None`: what was typed is none.
    KillClient(Option<u64>),
    Reconnect(Option<String>),
    WaitClose(Option<String>),
    Disable(Option<String>),
    Enable(Option<String>),
}

impl Control {
    /// In capitals: the tag of its reply.
    pub fn word(&self) -> &'static str {
        match self {
            Control::Pause(_) => "PAUSE",
            Control::Resume(_) => "RESUME",
            Control::Suspend => "SUSPEND",
            Control::Kill(_) => "KILL",
            Control::KillClient(_) => "KILL_CLIENT",
            Control::Reconnect(_) => "RECONNECT",
            Control::WaitClose(_) => "WAIT_CLOSE",
            Control::Disable(_) => "DISABLE",
            Control::Enable(_) => "ENABLE",
        }
    }

    fn database(&self) -> Option<&str> {
        match self {
            Control::Pause(name)
            | Control::Resume(name)
            | Control::Kill(name)
            | Control::Reconnect(name)
            | Control::WaitClose(name)
            | Control::Disable(name)
            | Control::Enable(name) => name.as_deref(),
            Control::Suspend | Control::KillClient(_) => None,
        }
    }

    /// What it cannot do to the console, which RESUME is not asked.
    fn verb(&self) -> Option<&'static str> {
        match self {
            Control::Pause(_) => Some("pause"),
            Control::Kill(_) => Some("kill"),
            Control::Reconnect(_) => Some("reconnect"),
            Control::WaitClose(_) => Some("wait in"),
            Control::Disable(_) => Some("disable"),
            Control::Enable(_) => Some("enable"),
            Control::Resume(_) | Control::Suspend | Control::KillClient(_) => None,
        }
    }

    fn needs_database(&self) -> bool {
        matches!(self, Control::Disable(_) | Control::Enable(_))
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.database() {
            Some(database) => write!(f, "{} '{database}'", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    #[error("already suspended/paused")]
    AlreadyPaused,
    #[error("pooler is not paused/suspended")]
    NotPaused,
    #[error("cannot suspend with paused databases")]
    DatabasesPaused,
    #[error("pooler is shutting down")]
    ShuttingDown,
    #[error("database {0} is not paused")]
    DatabaseNotPaused(String),
    #[error("no such database: {0}")]
    NoDatabase(String),
    #[error("a database is required")]
    DatabaseRequired,
    #[error("cannot {0} admin db: {1}")]
    Console(&'static str, String),
    #[error("client not found")]
    NoClient,
    #[error("invalid client pointer supplied")]
    NoNumber,
    /// PgBouncer leaves who waits without an answer.
    #[error("RESUME came before the {0} was complete")]
    Resumed(&'static str),
}

/// Carries commands out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Controls {
    crew: Crew,
    gates: Arc<watch::Sender<Arc<Gates>>>,
}

impl Controls {
    pub fn new(crew: Crew) -> Controls {
        Controls {
            crew,
            gates: Arc::new(watch::Sender::default()),
        }
    }

    /// What is stopped now.
    pub fn gates(&self) -> Arc<Gates> {
        self.gates.borrow().clone()
    }

    /// A new configuration: what it does not have is not stopped either.
    pub fn follow(&self, config: &Config) {
        let gone = |name: &String| config.database(name).is_none();
        let gates = self.gates();
        if gates.paused.iter().chain(&gates.disabled).any(gone) {
            drop(self.change(|gates| gates.retain(|name| config.database(name).is_some())));
        }
    }

    /// Begins what was asked for at the console, and logs that it was: as PgBouncer does,
    /// before it has looked whether there is such a database.
    pub fn obey(
        &self,
        control: Control,
        config: &Config,
        stopping: Option<ShutdownMode>,
    ) -> Result<impl Future<Output = Result<(), ControlError>> + Send + 'static, ControlError> {
        let checked = self.check_state(&control, stopping);
        // RESUME is logged whatever comes of it.
        let logged = checked.is_ok() || matches!(control, Control::Resume(_));
        if logged && !matches!(control, Control::KillClient(_)) {
            info!("{control} command issued");
        }
        checked?;
        self.carry_out(control, config)
    }

    /// Does what can be done at once, or says why not. The future is for the rest;
    /// dropping it ends the waiting, and undoes nothing.
    pub fn begin(
        &self,
        control: Control,
        config: &Config,
        stopping: Option<ShutdownMode>,
    ) -> Result<impl Future<Output = Result<(), ControlError>> + Send + 'static, ControlError> {
        self.check_state(&control, stopping)?;
        self.carry_out(control, config)
    }

    fn carry_out(
        &self,
        control: Control,
        config: &Config,
    ) -> Result<impl Future<Output = Result<(), ControlError>> + Send + 'static, ControlError> {
        self.check_database(&control, config)?;
        let name: Option<Arc<str>> = control.database().map(Arc::from);
        let owned = control.database().unwrap_or_default().to_owned();
        let changed = match &control {
            Control::Pause(None) => self.change(|gates| gates.all_paused = true),
            Control::Resume(None) => self.change(resume),
            Control::Suspend => self.change(|gates| gates.suspended = true),
            Control::Pause(Some(_)) => self.change(|gates| {
                gates.paused.insert(owned);
            }),
            Control::Kill(Some(_)) => self.change(|gates| kill(gates, [owned])),
            Control::Resume(Some(_)) => self.change(|gates| {
                gates.paused.remove(&owned);
                gates.killed.remove(&owned);
            }),
            Control::Disable(_) => self.change(|gates| {
                gates.disabled.insert(owned);
            }),
            Control::Enable(_) => self.change(|gates| {
                gates.disabled.remove(&owned);
            }),
            _ => Vec::new(),
        };
        let controls = self.clone();
        let suspend_timeout = config.general.suspend_timeout;
        Ok(async move {
            all(changed).await;
            match control {
                Control::Pause(_) => return controls.pause(name).await,
                Control::Suspend => return controls.suspend(suspend_timeout).await,
                Control::Kill(Some(name)) => controls.kill([name].into()).await,
                Control::Kill(None) => {
                    let names = controls.databases_in_use().await;
                    all(controls.change(|gates| kill(gates, names.iter().cloned()))).await;
                    controls.kill(names).await;
                }
                Control::KillClient(Some(number)) => {
                    let found = controls.ask(|done| Command::KillClient(number, done));
                    if !gather(found).await.contains(&true) {
                        return Err(ControlError::NoClient);
                    }
                }
                Control::Reconnect(_) => {
                    let generation = controls.crew.new_generation();
                    let renew = |done| Command::Reconnect(name.clone(), generation, done);
                    all(controls.ask(renew)).await;
                }
                Control::WaitClose(_) => {
                    all(controls.ask(|done| Command::WaitClose(name.clone(), done))).await;
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Whoever waits for a PAUSE or SUSPEND of everything has given up: as with
    /// PgBouncer that is a RESUME.
    pub fn cancel_pause(&self) {
        let gates = self.gates();
        if gates.stop_everything() {
            let word = if gates.suspended { "SUSPEND" } else { "PAUSE" };
            info!("{word} was cancelled");
            drop(self.change(resume));
        }
    }

    /// Nobody is at the console any more who could say RESUME: as with PgBouncer a
    /// SUSPEND, unlike a PAUSE, does not outlive them.
    pub fn end_suspend(&self) {
        if self.gates().suspended {
            info!("admin disappeared when suspended, doing RESUME");
            drop(self.change(resume));
        }
    }

    fn check_state(
        &self,
        control: &Control,
        stopping: Option<ShutdownMode>,
    ) -> Result<(), ControlError> {
        let gates = self.gates();
        let pauses = matches!(
            control,
            Control::Pause(_) | Control::Kill(_) | Control::Suspend
        );
        if pauses && (gates.stop_everything() || stopping == Some(ShutdownMode::WaitForServers)) {
            return Err(ControlError::AlreadyPaused);
        }
        match control {
            Control::Resume(None) if stopping.is_some() => Err(ControlError::ShuttingDown),
            Control::Resume(None) if !gates.stop_everything() => Err(ControlError::NotPaused),
            Control::Suspend if !gates.paused.is_empty() => Err(ControlError::DatabasesPaused),
            Control::KillClient(None) => Err(ControlError::NoNumber),
            _ if control.needs_database() && control.database().is_none() => {
                Err(ControlError::DatabaseRequired)
            }
            _ => Ok(()),
        }
    }

    fn check_database(&self, control: &Control, config: &Config) -> Result<(), ControlError> {
        let Some(name) = control.database() else {
            return Ok(());
        };
        let owned = || name.to_owned();
        if CONSOLE.contains(&name) {
            return Err(match control.verb() {
                Some(verb) => ControlError::Console(verb, owned()),
                None => ControlError::DatabaseNotPaused(owned()),
            });
        }
        if config.database(name).is_none() {
            return Err(ControlError::NoDatabase(owned()));
        }
        match control {
            Control::Resume(_) if !self.gates().paused.contains(name) => {
                Err(ControlError::DatabaseNotPaused(owned()))
            }
            _ => Ok(()),
        }
    }

    /// Tells all workers, and gives their answers.
    fn change(&self, change: impl FnOnce(&mut Gates)) -> Vec<oneshot::Receiver<()>> {
        let mut gates = Gates::clone(&self.gates());
        change(&mut gates);
        let gates = Arc::new(gates);
        self.gates.send_replace(gates.clone());
        self.ask(|done| Command::Gates(gates.clone(), done))
    }

    async fn pause(self, database: Option<Arc<str>>) -> Result<(), ControlError> {
        let mut news = self.gates.subscribe();
        let resumed = news.wait_for(|gates| match &database {
            Some(name) => !gates.paused.contains(&**name),
            None => !gates.all_paused,
        });
        let empty = self.ask(|done| Command::WaitEmpty(database.clone(), done));
        tokio::select! {
            biased;
            _ = resumed => Err(ControlError::Resumed("PAUSE")),
            () = all(empty) => Ok(()),
        }
    }

    /// `limit`: clients that have not taken what is theirs by then are thrown out;
    /// zero: never.
    async fn suspend(self, limit: Duration) -> Result<(), ControlError> {
        let mut news = self.gates.subscribe();
        let resumed = news.wait_for(|gates| !gates.suspended);
        let flushed = async {
            let wait = all(self.ask(Command::WaitFlushed));
            if limit.is_zero() {
                return wait.await;
            }
            if tokio::time::timeout(limit, wait).await.is_err() {
                all(self.ask(Command::KillUnflushed)).await;
            }
        };
        tokio::select! {
            biased;
            _ = resumed => Err(ControlError::Resumed("SUSPEND")),
            () = flushed => Ok(()),
        }
    }

    async fn kill(&self, databases: BTreeSet<String>) {
        let mut gone = Vec::new();
        for name in databases {
            let name: Arc<str> = name.into();
            gone.extend(self.ask(|done| Command::Kill(Some(name.clone()), done)));
        }
        all(gone).await;
    }

    /// Those that have pools.
    async fn databases_in_use(&self) -> BTreeSet<String> {
        let parts = gather(self.ask(Command::Snapshot)).await;
        let pools = parts.into_iter().flat_map(|part| part.pools);
        pools.map(|pool| pool.database).collect()
    }

    fn ask<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<oneshot::Receiver<T>> {
        super::ask(&self.crew, command)
    }
}

fn kill(gates: &mut Gates, names: impl IntoIterator<Item = String>) {
    for name in names {
        gates.killed.insert(name.clone());
        gates.paused.insert(name);
    }
}

fn resume(gates: &mut Gates) {
    gates.all_paused = false;
    gates.suspended = false;
}

#[cfg(test)]
mod tests;
