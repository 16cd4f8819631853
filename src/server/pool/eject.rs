//! A replica's pool that cannot open connections gets no reads for a while,
//! whatever the checks of the host say: the login of its user may be refused.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::open::OpenError;
use super::{Failure, Pool};
use crate::reactor;
use crate::route::Role;
use crate::server::dial;
use crate::worker::Command;

impl Pool {
    /// Whether it gets no reads for now.
    pub fn is_ejected(&self) -> bool {
        self.role.get() == Role::Replica && self.greeting.is_ejected()
    }

    /// Why, and until when at least.
    pub fn ejection(&self) -> Option<(String, Instant)> {
        let failure = self.failure().filter(|_| self.is_ejected())?;
        let user = &self.config.borrow().user;
        Some((format!("user {user}: {}", failure.text), failure.retry_at))
    }

    /// No connection could be opened. `None`: that is no reason to eject it.
    /// Otherwise until when it is out; who waits looks for another server.
    pub(super) fn eject(self: &Rc<Self>, now: Instant, error: &OpenError) -> Option<Instant> {
        let config = self.config();
        let time = config.routing.as_ref()?.eject_time;
        if self.role.get() != Role::Replica
            || error.is_ours()
            || error.is_full() && self.has_usable()
        {
            return None;
        }
        let (until, was_in) = self.greeting.eject(now, time);
        if let Some(family) = self.family()
            && let Some((member, _)) = family.members().find(|(_, pool)| Rc::ptr_eq(pool, self))
        {
            member.note_failure();
            if was_in {
                member.note_ejection();
                let (db, user, addr) = (&config.database, &config.user, &member.name);
                warn!(%db, %user, %addr, "no reads go to this host (replica_eject_time)");
            }
        }
        for worker in self.crew.everyone() {
            let _ = self
                .crew
                .tell(worker, Command::Roles(config.database.clone()));
        }
        Some(until)
    }

    /// Once its time is over: a connection to nobody's use decides whether it is
    /// in again.
    pub(super) fn try_out(self: &Rc<Self>, now: Instant, failure: &Arc<Failure>) {
        if self.is_ejected()
            && !self.is_paused()
            && failure.retry_at <= now
            && self.greeting.begin_trial()
        {
            reactor::spawn(trial(self.clone()));
        }
    }
}

async fn trial(pool: Rc<Pool>) {
    let config = pool.config();
    let limit = config.routing.as_ref().map(|routing| routing.check_timeout);
    let opened = reactor::timeout(limit.unwrap_or_default(), pool.open_aside());
    match opened.await.unwrap_or(Err(OpenError::Trial)) {
        Ok(_) => {
            pool.greeting.succeed(Instant::now());
            let (db, user) = (&config.database, &config.user);
            let addr = config.host.as_deref().unwrap_or_default();
            info!(%db, %user, addr, "reads go to this host again");
        }
        Err(error) => {
            if let Some(host) = config.hosts.first() {
                pool.remember_failure(&dial::place(host), &error);
            }
        }
    }
    pool.greeting.end_trial();
    pool.wake();
}
