//! All pools of a worker, and the bounds that they share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Local;
use crate::config::PoolConfig;
use crate::pool::{SharedBound, SharedLimit};
use crate::server::login::Credential;
use crate::server::{Farewell, Pool};

type Name = Arc<str>;

/// The pools by database and user.
#[derive(Debug, Default)]
pub struct Pools {
    all: RefCell<HashMap<(Name, Name), Rc<Pool>>>,
    databases: RefCell<HashMap<Name, Rc<SharedLimit>>>,
    users: RefCell<HashMap<Name, Rc<SharedLimit>>>,
}

impl Pools {
    pub fn get(&self, database: &str, user: &str) -> Option<Rc<Pool>> {
        let key = (Arc::from(database), Arc::from(user));
        self.all.borrow().get(&key).cloned()
    }

    /// The pool for this configuration, started if it is new.
    pub fn get_or_start(
        self: &Rc<Self>,
        config: PoolConfig,
        credential: Credential,
        local: &Rc<Local>,
    ) -> Rc<Pool> {
        if let Some(pool) = self.get(&config.database, &config.user) {
            return pool;
        }
        let bounds = self.bounds(&config);
        let key = (config.database.clone(), config.user.clone());
        let pool = Pool::start(
            config,
            credential,
            bounds,
            local.clone(),
            Rc::downgrade(self),
        );
        self.all.borrow_mut().insert(key, pool.clone());
        pool
    }

    pub fn each(&self) -> Vec<Rc<Pool>> {
        self.all.borrow().values().cloned().collect()
    }

    /// Takes over new configurations; pools whose database is gone are closed.
    pub fn reconfigure(
        &self,
        config: impl Fn(&PoolConfig) -> Option<PoolConfig>,
        farewell: &Rc<Farewell>,
    ) -> Vec<Rc<Pool>> {
        let mut gone = Vec::new();
        self.all
            .borrow_mut()
            .retain(|_, pool| match config(&pool.config()) {
                Some(new) => {
                    self.bounds(&new);
                    pool.reconfigure(new);
                    true
                }
                None => {
                    gone.push(pool.clone());
                    false
                }
            });
        for pool in &gone {
            pool.close(farewell);
        }
        gone
    }

    /// Closes an idle connection that counts against `bound` too, the one idle
    /// longest. False: there is none.
    pub fn evict_idle(&self, pool: &Rc<Pool>, bound: SharedBound) -> bool {
        let config = pool.config();
        let others = self.each().into_iter();
        let mut candidates: Vec<_> = others
            .filter(|other| !Rc::ptr_eq(other, pool) && other.shares_bound(&config, bound))
            .filter_map(|other| Some((other.is_idle_evictable()?, other)))
            .collect();
        candidates.sort_by_key(|(since, _)| *since);
        candidates.iter().any(|(_, other)| other.evict_one())
    }

    /// A connection was closed, or has become idle: others that share a bound
    /// may open one.
    pub fn room_made(&self) {
        let now = Instant::now();
        for pool in self.each() {
            if pool.has_waiters() {
                pool.open_wanted(now);
            }
        }
    }

    fn bounds(&self, config: &PoolConfig) -> (Rc<SharedLimit>, Rc<SharedLimit>) {
        let bound = |map: &RefCell<HashMap<Name, Rc<SharedLimit>>>, name: &Name, max| {
            let mut map = map.borrow_mut();
            let limit = map.entry(name.clone()).or_default();
            limit.set_max(max);
            limit.clone()
        };
        (
            bound(&self.databases, &config.database, config.max_db_connections),
            bound(&self.users, &config.user, config.max_user_connections),
        )
    }
}
