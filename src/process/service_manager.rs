//! What a service manager is told if there is one: sd_notify(3) of systemd.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use super::{ShutdownMode, ask, gather};
use crate::worker::{Command, Crew};

/// Clients are served.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving clients")]);
}

/// The configuration is being read again; [`reloaded`] must follow.
pub fn reloading() {
    // An error means that there is no clock.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// It was read, or refused for these mistakes.
pub fn reloaded(result: &Result<(), String>) {
    match result {
        Ok(()) => ready(),
        Err(mistakes) => {
            let first = mistakes.lines().next().unwrap_or_default();
            let status = format!("serving clients; the last reload was refused: {first}");
            tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }
}

/// The process is leaving.
pub fn stopping(mode: ShutdownMode) {
    let status = match mode {
        ShutdownMode::Immediate => "shutting down",
        ShutdownMode::WaitForServers => "shutting down: waiting for transactions",
        ShutdownMode::WaitForClients => "shutting down: waiting for clients",
    };
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Reports that all workers answer, as often as the service manager asks for it;
/// what hangs is not reported. Ends at once if it does not ask.
pub async fn keep_watchdog(crew: Crew) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // sd_watchdog_enabled(3) recommends half of it.
    let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        let alive = gather(ask(&crew, Command::Alive)).await;
        if alive.len() == crew.size() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(reason = %error, "cannot notify the service manager");
    }
}
