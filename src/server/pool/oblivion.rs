//! Forgetting pools, and databases that exist only by `*`, which nobody has used
//! for long.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::info;

use super::Pool;
use crate::stats::Totals;

/// Databases that exist only by `*` and have a pool on some worker. Locked when
/// a pool begins or ends.
#[derive(Debug, Default)]
pub struct AutoDatabases(Mutex<HashMap<Arc<str>, usize>>);

/// Keeps such a database registered.
#[derive(Debug)]
pub struct Registered {
    all: Arc<AutoDatabases>,
    name: Arc<str>,
}

impl AutoDatabases {
    /// Somebody has a pool of this database until the value is dropped. The first
    /// one is logged.
    pub fn register(self: &Arc<Self>, name: &Arc<str>) -> Registered {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pools.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            info!(db = %name, "registered new auto-database");
        }
        Registered {
            all: self.clone(),
            name: name.clone(),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut pools = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pools.get_mut(&self.name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                pools.remove(&self.name);
            }
        }
    }
}

/// What is remembered of a database's pools that are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    pub totals: Totals,
    /// `None`: for ever.
    pub until: Option<Instant>,
}

impl Pool {
    /// What is to be remembered of it.
    pub fn past(&self) -> Past {
        let auto = self.config.borrow().auto_database;
        let since = self.empty_since.get().unwrap_or_else(Instant::now);
        let until = auto.and_then(|auto| Some(since + auto.idle_timeout?));
        Past {
            totals: self.counters.totals(),
            until,
        }
    }

    /// Ends a pool that has been empty for long enough; when that will be, if
    /// nobody comes.
    pub(super) fn forget_if_idle(self: &Rc<Self>, now: Instant) -> Option<Instant> {
        let config = self.config();
        let auto = config.auto_database.and_then(|auto| auto.idle_timeout);
        let limit = [config.pool_idle_timeout, auto]
            .into_iter()
            .flatten()
            .min()?;
        let book = self.book.borrow();
        let nothing = self.clients.get() == 0 && book.own() == 0 && book.waiting_count() == 0;
        let kept = config.forced_user && config.min_pool_size > 0 || config.host.is_some();
        drop(book);
        if !nothing || kept || self.is_paused() || self.is_closing() {
            self.empty_since.set(None);
            return None;
        }
        let since = self.empty_since.get().unwrap_or(now);
        self.empty_since.set(Some(since));
        if now < since + limit {
            return Some(since + limit);
        }
        // One is the caller's and one that of all pools; a login may have more.
        if Rc::strong_count(self) > 2 {
            self.empty_since.set(Some(now));
            return Some(now + limit);
        }
        info!(db = %config.database, user = %config.user, "cleaning up idle pool");
        if let Some(pools) = self.pools.upgrade() {
            pools.forget(&config.name());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_registered_while_anybody_has_a_pool() {
        let all = Arc::new(AutoDatabases::default());
        let count = |name: &str| all.0.lock().unwrap().get(name).copied();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let first = all.register(&a);
        let second = all.register(&a);
        let other = all.register(&b);
        assert_eq!((count("a"), count("b")), (Some(2), Some(1)));
        drop(first);
        assert_eq!(count("a"), Some(1));
        drop((second, other));
        assert_eq!((count("a"), count("b")), (None, None));
    }
}
