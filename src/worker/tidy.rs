//! Pools that nobody needs any more.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::info;

use super::Worker;
use crate::server::Pool;

/// How often it is looked; only if there is a `pool_idle_timeout`.
const LOOK: Duration = Duration::from_millis(300);

impl Worker {
    /// Forgets pools that have been without clients and server connections for
    /// `pool_idle_timeout`, for as long as the worker lives.
    pub(super) async fn forget_idle_pools(self: Rc<Self>) {
        loop {
            let Some(limit) = self.terms().config.general.pool_idle_timeout.0 else {
                self.new_terms.notified().await;
                continue;
            };
            tokio::time::sleep(LOOK.min(limit)).await;
            let now = Instant::now();
            for pool in self.pools.forget(|pool| pool.is_unused(now, limit)) {
                let config = pool.config();
                let (db, user) = (&config.database, &config.user);
                info!(%db, %user, "cleaning up idle pool");
                self.keep_totals(&pool);
            }
        }
    }

    /// What a pool that goes has counted stays, in the sum of its database.
    pub(super) fn keep_totals(&self, pool: &Pool) {
        let (config, totals) = (pool.config(), pool.counters.totals());
        let mut past = self.past.borrow_mut();
        match past.iter_mut().find(|(name, _)| **name == *config.database) {
            Some((_, sum)) => *sum += totals,
            None => past.push((config.database.to_string(), totals)),
        }
    }
}
