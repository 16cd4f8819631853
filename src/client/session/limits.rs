//! How long a client may take for what.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Client, Hold};
use crate::admin::snapshot::ClientState;
use crate::client::farewell::End;
use crate::client::info::ClientInfo;
use crate::config::{Config, PoolConfig};
use crate::flow::Release;
use crate::pool::Ticket;

/// A setting that limits what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum TimeLimit {
    Query,
    IdleTransaction,
    Transaction,
    ClientIdle,
}

impl TimeLimit {
    pub fn setting(self) -> &'static str {
        match self {
            TimeLimit::Query => "query_timeout",
            TimeLimit::IdleTransaction => "idle_transaction_timeout",
            TimeLimit::Transaction => "transaction_timeout",
            TimeLimit::ClientIdle => "client_idle_timeout",
        }
    }

    /// PgBouncer's words for client and log.
    pub fn text(self) -> &'static str {
        match self {
            TimeLimit::Query => "query timeout",
            TimeLimit::IdleTransaction => "idle transaction timeout",
            TimeLimit::Transaction => "transaction timeout",
            TimeLimit::ClientIdle => "client_idle_timeout",
        }
    }
}

const ALL: [TimeLimit; 4] = [
    TimeLimit::Query,
    TimeLimit::IdleTransaction,
    TimeLimit::Transaction,
    TimeLimit::ClientIdle,
];

/// What is allowed to one client.
struct Allowed {
    pool: Rc<PoolConfig>,
    client_idle: Option<Duration>,
}

impl Allowed {
    fn to(client: &ClientInfo, config: &Config) -> Option<Allowed> {
        Some(Allowed {
            pool: client.pool()?.config(),
            client_idle: config.client_idle_timeout(client.user()),
        })
    }

    fn time(&self, limit: TimeLimit) -> Option<Duration> {
        match limit {
            TimeLimit::Query => self.pool.query_timeout,
            TimeLimit::IdleTransaction => self.pool.idle_transaction_timeout,
            TimeLimit::Transaction => self.pool.transaction_timeout,
            TimeLimit::ClientIdle => self.client_idle,
        }
    }
}

impl ClientInfo {
    /// Has the client's task look if one of its time limits may be over. Returns
    /// when to call this again, `None` if it has no limit. What begins after `now`
    /// is not over before that.
    pub fn look_at_limits(&self, config: &Config, now: Instant) -> Option<Instant> {
        let allowed = Allowed::to(self, config)?;
        let times = ALL.into_iter().filter_map(|limit| allowed.time(limit));
        let mut next = now.checked_add(times.min()?)?;
        let server = self.link.get();
        let mut may_be_over = false;
        for limit in ALL {
            let since = match (limit, self.state.get(), &server) {
                (TimeLimit::ClientIdle, ClientState::Idle, _) => self.request_time.get(),
                (TimeLimit::Query | TimeLimit::IdleTransaction, _, Some(server)) => {
                    server.asked_at.get()
                }
                (TimeLimit::Transaction, _, Some(server)) => server.linked_at.get(),
                _ => continue,
            };
            let end = allowed.time(limit).and_then(|time| since.checked_add(time));
            match end {
                Some(end) if end > now => next = next.min(end),
                Some(_) => may_be_over = true,
                None => {}
            }
        }
        if may_be_over {
            self.review();
        }
        Some(next)
    }
}

impl Client {
    /// An error if it may not go on as it is: one of its time limits is over, or
    /// its server connection is to be closed at once.
    pub(super) fn review(&self) -> Result<(), End> {
        self.check_limits()?;
        self.leave_outdated()
    }

    /// Joins the queue for as long as the user may wait that has logged in.
    pub(super) fn join(&self, now: Instant) -> Result<Ticket, End> {
        let ticket = self
            .pool
            .join(self.session.params(), now, false)
            .map_err(End::Farewell)?;
        if self.pool.config().forced_user {
            let config = &self.worker.terms().config;
            if let Some(wait) = config.query_wait_timeout(self.info.user()) {
                self.pool.limit_wait(ticket, wait);
            }
        }
        Ok(ticket)
    }

    /// With `server_fast_close` a session ends between two transactions if its
    /// server connection is out of date.
    pub(super) fn leave_outdated(&self) -> Result<(), End> {
        match &self.hold {
            Hold::Linked(lease)
                if lease.info.close_needed.get()
                    && lease.backend.release() == Release::Ready
                    && self.pool.config().server_fast_close =>
            {
                Err(End::Outdated)
            }
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), End> {
        let running = match &self.hold {
            Hold::Waiting(..) => return Ok(()),
            Hold::Nothing => [(TimeLimit::ClientIdle, self.info.request_time.get()); 2],
            Hold::Linked(lease) if lease.backend.release() == Release::Ready => return Ok(()),
            Hold::Linked(lease) => {
                let present = match lease.backend.is_busy() {
                    true => TimeLimit::Query,
                    false => TimeLimit::IdleTransaction,
                };
                [
                    (present, lease.info.asked_at.get()),
                    (TimeLimit::Transaction, lease.info.linked_at.get()),
                ]
            }
        };
        let now = Instant::now();
        let Some(allowed) = Allowed::to(&self.info, &self.worker.terms().config) else {
            return Ok(());
        };
        let over = running.into_iter().find_map(|(limit, since)| {
            let time = allowed.time(limit)?;
            (now.saturating_duration_since(since) >= time).then_some((limit, time))
        });
        let Some((limit, time)) = over else {
            return Ok(());
        };
        Err(End::TimedOut(limit, time))
    }
}
