//! What is known of a pool's server, as all workers know it: what clients are
//! told at login without asking it, and that it cannot be reached.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use lru::LruCache;

use super::{AutoDatabases, Farewell, same_server};
use crate::config::{EjectTime, PoolConfig};
use crate::flow::{LatestSuspects, Params};
use crate::net::tls::Connector;
use crate::pool::PoolName;
use crate::route::Backoff;
use crate::server::login::Credential;

/// How many different sets of startup parameters a pool remembers.
const KNOWN_PARAMETERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// The greetings of all pools of the process. Locked at logins only.
#[derive(Debug, Default)]
pub struct Greetings {
    by_pool: Mutex<HashMap<PoolName, Arc<Greeting>>>,
    /// Which databases there are by `*`.
    pub auto_databases: Arc<AutoDatabases>,
}

impl Greetings {
    /// A pool's, which the workers share.
    pub fn of(&self, pool: &PoolName) -> Arc<Greeting> {
        let mut all = self.by_pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(pool) {
            return known.clone();
        }
        // Those of pools that no worker has any more go.
        all.retain(|_, greeting| Arc::strong_count(greeting) > 1);
        all.entry(pool.clone()).or_default().clone()
    }
}

/// What a pool's server has told, and what it makes of parameters.
#[derive(Debug, Default)]
pub struct Greeting {
    told: Mutex<Vec<Told>>,
    credential: Mutex<Credential>,
    /// How many connections their clients keep ([`Pins`](crate::flow::Pins)).
    pub pinned: Arc<AtomicU32>,
    /// What runs unseen in its database.
    pub suspects: Arc<LatestSuspects>,
    /// Connections whose opening began in an earlier one are obsolete.
    generation: AtomicU64,
    /// Whether there is a `failure`: those who wait need no lock to see that
    /// there is none.
    failed: AtomicBool,
    failure: Mutex<Option<Arc<Failure>>>,
    /// Because of the failure no reads are sent to this replica.
    ejected: AtomicBool,
    /// For how long.
    backoff: Mutex<Backoff>,
    /// Somebody is trying whether it can be reached again.
    on_trial: AtomicBool,
}

/// Opening a connection has failed; no new attempt before `retry_at`.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    /// What it was tried with.
    pub config: PoolConfig,
    pub connector: Arc<Connector>,
    pub retry_at: Instant,
    /// For clients that come in the meantime.
    pub cached: Arc<Farewell>,
    /// The server has answered, and refused.
    pub refused: bool,
}

/// What a server told under one configuration. During a reload some workers
/// have the old one and some the new one.
#[derive(Debug)]
struct Told {
    config: PoolConfig,
    welcome: Option<Params>,
    known: LruCache<Params, Params, RandomState>,
}

impl Greeting {
    /// What the server reported at the last login.
    pub fn welcome(&self, config: &PoolConfig) -> Option<Params> {
        let mut all = self.lock();
        told(&mut all, config)?.welcome.clone()
    }

    /// What a connection of this generation has been told; nothing if a newer one
    /// has begun.
    pub fn set_welcome(&self, config: &PoolConfig, generation: u64, reported: Params) {
        let mut all = self.lock();
        if generation < self.generation() {
            return;
        }
        if told(&mut all, config).is_none() {
            all.truncate(1);
            all.insert(
                0,
                Told {
                    config: config.clone(),
                    welcome: None,
                    known: LruCache::with_hasher(KNOWN_PARAMETERS, RandomState::default()),
                },
            );
        }
        if let Some(told) = told(&mut all, config) {
            told.welcome = Some(reported);
        }
    }

    /// Parameters that a login asked for and the server has accepted, as the
    /// server reports them.
    pub fn known(&self, config: &PoolConfig, asked: &Params) -> Option<Params> {
        let mut all = self.lock();
        told(&mut all, config)?.known.get(asked).cloned()
    }

    /// Remembers what [`Greeting::known`] returns, as a connection of this
    /// generation has told it.
    pub fn learn(&self, config: &PoolConfig, generation: u64, asked: Params, reported: Params) {
        let mut all = self.lock();
        if generation < self.generation() {
            return;
        }
        if let Some(told) = told(&mut all, config) {
            told.known.put(asked, reported);
        }
    }

    /// How to prove who we are.
    pub fn credential(&self) -> Credential {
        self.lock_credential().clone()
    }

    /// With another one a login may succeed that was refused.
    pub fn set_credential(&self, credential: Credential) {
        let before = std::mem::replace(&mut *self.lock_credential(), credential.clone());
        if before != credential {
            self.forgive();
        }
    }

    /// A worker's part of the pool begins: what another has proved is not undone.
    pub fn begin_with(&self, credential: Credential) {
        if credential.proves_something() || !self.lock_credential().proves_something() {
            self.set_credential(credential);
        }
    }

    /// A new generation of connections; what the earlier ones told is forgotten.
    /// An older one than the present changes nothing.
    pub fn renew(&self, generation: u64) {
        let mut told = self.lock();
        if self.generation.fetch_max(generation, Ordering::Relaxed) < generation {
            told.clear();
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The last attempt to open a connection has failed.
    pub fn failure(&self) -> Option<Arc<Failure>> {
        match self.failed.load(Ordering::Relaxed) {
            true => self.lock_failure().clone(),
            false => None,
        }
    }

    pub fn fail(&self, failure: Failure) {
        let mut current = self.lock_failure();
        *current = Some(Arc::new(failure));
        self.failed.store(true, Ordering::Relaxed);
    }

    /// A failure at `now` ejects a replica; until when, and whether it was in.
    pub fn eject(&self, now: Instant, time: EjectTime) -> (Instant, bool) {
        let mut backoff = self.lock_backoff();
        backoff.fail(now, time, rand::random());
        let was_in = !self.ejected.swap(true, Ordering::Relaxed);
        (backoff.until().unwrap_or(now), was_in)
    }

    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// True: the caller is to try, and to call [`Greeting::end_trial`].
    pub fn begin_trial(&self) -> bool {
        !self.on_trial.swap(true, Ordering::Relaxed)
    }

    pub fn end_trial(&self) {
        self.on_trial.store(false, Ordering::Relaxed);
    }

    /// A connection could be opened. False: nothing had failed.
    pub fn succeed(&self, now: Instant) -> bool {
        self.lock_backoff().recover(now);
        self.forgive()
    }

    /// It shall be tried again at once. False: nothing had failed.
    pub fn forgive(&self) -> bool {
        self.ejected.store(false, Ordering::Relaxed);
        if !self.failed.load(Ordering::Relaxed) {
            return false;
        }
        let mut current = self.lock_failure();
        self.failed.store(false, Ordering::Relaxed);
        current.take().is_some()
    }

    fn lock_credential(&self) -> MutexGuard<'_, Credential> {
        self.credential
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<Arc<Failure>>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told<'a>(all: &'a mut [Told], config: &PoolConfig) -> Option<&'a mut Told> {
    all.iter_mut()
        .find(|told| same_server(&told.config, config))
}
