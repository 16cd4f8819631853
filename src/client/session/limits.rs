//! How long a client may take for what.

use std::time::{Duration, Instant};

use super::{Client, Hold};
use crate::admin::snapshot::ClientState;
use crate::client::farewell::End;
use crate::client::info::ClientInfo;
use crate::config::PoolConfig;
use crate::flow::Release;

/// A setting that limits what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum TimeLimit {
    Query,
    IdleTransaction,
    Transaction,
}

impl TimeLimit {
    pub fn setting(self) -> &'static str {
        match self {
            TimeLimit::Query => "query_timeout",
            TimeLimit::IdleTransaction => "idle_transaction_timeout",
            TimeLimit::Transaction => "transaction_timeout",
        }
    }

    /// PgBouncer's words for client and log.
    pub fn text(self) -> &'static str {
        match self {
            TimeLimit::Query => "query timeout",
            TimeLimit::IdleTransaction => "idle transaction timeout",
            TimeLimit::Transaction => "transaction timeout",
        }
    }

    fn of(self, config: &PoolConfig) -> Option<Duration> {
        match self {
            TimeLimit::Query => config.query_timeout,
            TimeLimit::IdleTransaction => config.idle_transaction_timeout,
            TimeLimit::Transaction => config.transaction_timeout,
        }
    }
}

const ALL: [TimeLimit; 3] = [
    TimeLimit::Query,
    TimeLimit::IdleTransaction,
    TimeLimit::Transaction,
];

impl ClientInfo {
    /// Has the client's task look if one of its time limits may be over. Returns
    /// when to call this again, `None` if it has no limit. What begins after `now`
    /// is not over before that.
    pub fn look_at_limits(&self, now: Instant) -> Option<Instant> {
        let config = self.pool()?.config();
        let all = ALL.into_iter().filter_map(|limit| limit.of(&config));
        let mut next = now.checked_add(all.min()?)?;
        let mut may_be_over = false;
        if self.state.get() == ClientState::Active
            && let Some(server) = self.link.get()
        {
            for limit in ALL {
                let since = match limit {
                    TimeLimit::Query | TimeLimit::IdleTransaction => server.asked_at.get(),
                    TimeLimit::Transaction => server.linked_at.get(),
                };
                let end = limit.of(&config).and_then(|limit| since.checked_add(limit));
                match end {
                    Some(end) if end > now => next = next.min(end),
                    Some(_) => may_be_over = true,
                    None => {}
                }
            }
        }
        if may_be_over {
            self.check_limits();
        }
        Some(next)
    }
}

impl Client {
    /// An error if one of its time limits is over.
    pub(super) fn check_limits(&self) -> Result<(), End> {
        let Hold::Linked(lease) = &self.hold else {
            return Ok(());
        };
        if lease.backend.release() == Release::Ready {
            return Ok(());
        }
        let now = Instant::now();
        let config = self.pool.config();
        let present = match lease.backend.is_busy() {
            true => TimeLimit::Query,
            false => TimeLimit::IdleTransaction,
        };
        let running = [
            (present, lease.info.asked_at.get()),
            (TimeLimit::Transaction, lease.info.linked_at.get()),
        ];
        for (limit, since) in running {
            let allowed = limit.of(&config);
            if let Some(allowed) = allowed.filter(|&allowed| now >= since + allowed) {
                lease.info.close_reason.set(limit.text());
                lease.info.close_needed.set(true);
                return Err(End::TimedOut(limit, allowed));
            }
        }
        Ok(())
    }
}
