//! What the workers' parts of the pools share: how many connections there are,
//! and who waits where.
//!
//! A connection is counted when it is about to be opened and until it is
//! closed, wherever it is; that takes a lock, which a transaction never needs.
//! What a transaction looks at are two sets of workers per pool: those where
//! somebody waits and those that may have an idle connection. They are written
//! only when a worker enters or leaves them.
//!
//! Who makes something available (closes a connection, lets one be idle) first
//! says so and then looks who waits; who begins to wait first says so and then
//! looks what is available. Between the two stands a fence, so that at least
//! one of them sees the other.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limits::SharedBound;
use super::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError, fence};

/// The sets of workers have so many bits.
pub const MAX_WORKERS: usize = 64;

/// A released connection goes to another worker's longest waiter, past those of
/// its own worker, if that one has waited longer by at least this.
pub const HANDOVER_SLACK: Duration = Duration::from_millis(2);

/// Whether who waits `since` then on one worker comes before the first one of another,
/// who waits since `own`.
pub fn precedes(since: Instant, own: Instant) -> bool {
    since + HANDOVER_SLACK < own
}

/// How much earlier than it did the longest waiter of another worker may seem
/// to have come.
const STALE: Duration = Duration::from_micros(500);

type Name = Arc<str>;

/// The counts of all pools of the process.
#[derive(Debug)]
pub struct Ledger {
    workers: usize,
    /// Times are written relative to this.
    epoch: Instant,
    counting: Arc<Mutex<()>>,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    pools: HashMap<PoolName, Arc<Account>>,
    databases: HashMap<Name, Arc<Tally>>,
    users: HashMap<Name, Arc<Tally>>,
    sweep_at: usize,
}

/// Which pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolName {
    pub database: Name,
    pub user: Name,
    /// The server, if each server of the database has a pool of its own.
    pub host: Option<Name>,
}

/// A pool, and the bounds that it shares with others: 0 = no bound.
#[derive(Clone, Debug)]
pub struct Title {
    pub name: PoolName,
    pub max_db_connections: u32,
    pub max_user_connections: u32,
}

impl Ledger {
    /// For at most [`MAX_WORKERS`] workers. `now`: any time before the first
    /// waiter comes.
    pub fn new(workers: usize, now: Instant) -> Arc<Ledger> {
        Arc::new(Ledger {
            workers: workers.clamp(1, MAX_WORKERS),
            epoch: now,
            counting: Arc::new(Mutex::new(())),
            pages: Mutex::new(Pages::default()),
        })
    }

    /// A worker's part of a pool. The bounds that it shares are set as well.
    pub fn part(&self, worker: usize, title: &Title) -> Part {
        let _bounds = self.bounds(title);
        let mut pages = self.pages();
        if pages.pools.len() >= pages.sweep_at {
            pages.pools.retain(|_, account| {
                Arc::strong_count(account) > 1 || account.elsewhere.load(Ordering::Relaxed) > 0
            });
            let used = |_: &Name, tally: &mut Arc<Tally>| Arc::strong_count(tally) > 1;
            pages.databases.retain(used);
            pages.users.retain(used);
            pages.sweep_at = 64.max(2 * pages.pools.len());
        }
        Part {
            account: self.account(&mut pages, &title.name),
            worker,
            published: Cell::new(None),
        }
    }

    fn account(&self, pages: &mut Pages, name: &PoolName) -> Arc<Account> {
        if let Some(known) = pages.pools.get(name) {
            return known.clone();
        }
        let account = Arc::new(Account {
            epoch: self.epoch,
            counting: self.counting.clone(),
            used: AtomicU32::new(0),
            opening: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            database: tally(&mut pages.databases, &name.database),
            user: tally(&mut pages.users, &name.user),
            hungry: AtomicU64::new(0),
            may_be_idle: AtomicU64::new(0),
            slots: (0..self.workers).map(|_| Slot::new()).collect(),
        });
        pages.pools.insert(name.clone(), account.clone());
        account
    }

    // ---- another process ----

    /// Counts so many connections of a pool that another process has: against every
    /// bound, as our own. True: they are fewer than before.
    pub fn set_elsewhere(&self, name: &PoolName, count: u32) -> bool {
        let account = self.account(&mut self.pages(), name);
        account.set_elsewhere(count)
    }

    /// The other process has ended.
    pub fn nothing_elsewhere(&self) {
        for account in self.pages().pools.values() {
            account.set_elsewhere(0);
        }
    }

    /// One of the other process's is ours now, and on its way to this worker.
    pub fn take_over(&self, name: &PoolName, worker: usize) -> Passage {
        let account = self.account(&mut self.pages(), name);
        let counting = lock(&account.counting);
        match account.elsewhere.load(Ordering::Relaxed) {
            0 => account.count(1),
            some => account.elsewhere.store(some - 1, Ordering::Relaxed),
        }
        drop(counting);
        account.passage(worker)
    }

    /// How many connections each pool has here.
    pub fn own(&self) -> Vec<(PoolName, u32)> {
        let pages = self.pages();
        let own = |(name, account): (&PoolName, &Arc<Account>)| (name.clone(), account.own());
        pages.pools.iter().map(own).collect()
    }

    /// Sets the bounds that this pool shares with others; connections above
    /// them are not closed.
    pub fn set_bounds(&self, title: &Title) {
        self.bounds(title);
    }

    fn bounds(&self, title: &Title) -> (Arc<Tally>, Arc<Tally>) {
        let mut pages = self.pages();
        let database = tally(&mut pages.databases, &title.name.database);
        let user = tally(&mut pages.users, &title.name.user);
        drop(pages);
        let _counting = lock(&self.counting);
        database
            .max
            .store(title.max_db_connections, Ordering::Relaxed);
        user.max
            .store(title.max_user_connections, Ordering::Relaxed);
        (database, user)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tally(map: &mut HashMap<Name, Arc<Tally>>, name: &Name) -> Arc<Tally> {
    let new = || Arc::new(Tally::new());
    map.entry(name.clone()).or_insert_with(new).clone()
}

fn lock(counting: &Mutex<()>) -> MutexGuard<'_, ()> {
    counting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bound that several pools share. Changed under the ledger's lock only.
#[derive(Debug)]
struct Tally {
    max: AtomicU32,
    used: AtomicU32,
    /// Workers with a pool that found it full.
    starved: AtomicU64,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            max: AtomicU32::new(0),
            used: AtomicU32::new(0),
            starved: AtomicU64::new(0),
        }
    }

    fn is_full(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        max > 0 && self.used.load(Ordering::Relaxed) >= max
    }
}

/// One pool, over all workers.
#[derive(Debug)]
struct Account {
    epoch: Instant,
    counting: Arc<Mutex<()>>,
    /// Changed under the lock only, as is `opening`, a part of it.
    used: AtomicU32,
    opening: AtomicU32,
    /// Another part of it: what another process has, of which this one takes the
    /// place, or which takes the place of this one.
    elsewhere: AtomicU32,
    database: Arc<Tally>,
    user: Arc<Tally>,
    /// Workers where somebody waits.
    hungry: AtomicU64,
    /// Workers that had an idle connection and nobody to give it to. They leave
    /// when they are asked for one and have none.
    may_be_idle: AtomicU64,
    slots: Box<[Slot]>,
}

/// What one worker tells the others. On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    /// Since when the longest waiter waits, in microseconds since the epoch,
    /// plus one; 0 = nobody waits.
    oldest: AtomicU64,
    /// Connections that were sent to it and have not arrived: at most one is
    /// sent without having been asked for.
    promised: AtomicU32,
}

impl Slot {
    fn new() -> Slot {
        Slot {
            oldest: AtomicU64::new(0),
            promised: AtomicU32::new(0),
        }
    }
}

impl Account {
    fn count(&self, change: i32) {
        for used in [&self.used, &self.database.used, &self.user.used] {
            add(used, change);
        }
    }

    /// For a connection that is promised to this worker.
    fn passage(self: &Arc<Self>, worker: usize) -> Passage {
        if let Some(slot) = self.slots.get(worker) {
            slot.promised.fetch_add(1, Ordering::SeqCst);
        }
        Passage {
            account: Some(self.clone()),
            to: worker,
        }
    }

    /// Those of this process.
    fn own(&self) -> u32 {
        let _counting = lock(&self.counting);
        let elsewhere = self.elsewhere.load(Ordering::Relaxed);
        self.used.load(Ordering::Relaxed).saturating_sub(elsewhere)
    }

    fn set_elsewhere(&self, now: u32) -> bool {
        let _counting = lock(&self.counting);
        let before = self.elsewhere.load(Ordering::Relaxed);
        self.elsewhere.store(now, Ordering::Relaxed);
        // Nobody has as many as an i32 counts.
        self.count(now.wrapping_sub(before) as i32);
        now < before
    }

    fn free(&self) {
        let counting = lock(&self.counting);
        self.count(-1);
        drop(counting);
        fence(Ordering::SeqCst);
    }
}

/// Under the ledger's lock.
fn add(counter: &AtomicU32, change: i32) {
    let now = counter.load(Ordering::Relaxed);
    debug_assert!(change >= 0 || now > 0, "freed more than was taken");
    counter.store(now.saturating_add_signed(change), Ordering::Relaxed);
}

/// One worker's part of a pool.
#[derive(Debug)]
pub struct Part {
    account: Arc<Account>,
    worker: usize,
    /// What the worker's slot says.
    published: Cell<Option<Instant>>,
}

impl Part {
    // ---- counting ----

    /// Connections of the pool on all workers, those being opened included.
    pub fn total(&self) -> u32 {
        self.account.used.load(Ordering::Relaxed)
    }

    /// Those of them that have been opened.
    pub fn total_open(&self) -> u32 {
        let opening = self.account.opening.load(Ordering::Relaxed);
        self.total().saturating_sub(opening)
    }

    /// Counts one more connection, which is being opened, if the pool has fewer
    /// than `max` and the bounds that it shares allow it. `Ok(false)`: the pool
    /// has `max`.
    pub fn take(&self, max: u32) -> Result<bool, SharedBound> {
        let account = &*self.account;
        let _counting = lock(&account.counting);
        if account.used.load(Ordering::Relaxed) >= max {
            return Ok(false);
        }
        for (tally, bound) in [
            (&account.database, SharedBound::Database),
            (&account.user, SharedBound::User),
        ] {
            if tally.is_full() {
                tally.starved.fetch_or(self.bit(), Ordering::SeqCst);
                return Err(bound);
            }
        }
        account.count(1);
        add(&account.opening, 1);
        Ok(true)
    }

    /// One that was being opened is open.
    pub fn opened(&self) {
        let _counting = lock(&self.account.counting);
        add(&self.account.opening, -1);
    }

    /// One was closed, and another is opened in its place.
    pub fn reopening(&self) {
        let _counting = lock(&self.account.counting);
        add(&self.account.opening, 1);
    }

    /// One could not be opened.
    pub fn open_failed(&self) {
        self.opened();
        self.account.free();
    }

    /// Those of them that this process has.
    pub fn total_here(&self) -> u32 {
        self.account.own()
    }

    /// One goes to another process.
    pub fn hand_over(&self) {
        let _counting = lock(&self.account.counting);
        add(&self.account.elsewhere, 1);
    }

    /// One was closed.
    pub fn free(&self) {
        self.account.free();
    }

    /// The same, but only if the pool has more than `min`. False: it has not,
    /// and the connection must stay.
    pub fn free_above(&self, min: u32) -> bool {
        let counting = lock(&self.account.counting);
        let above = self.account.used.load(Ordering::Relaxed) > min;
        if above {
            self.account.count(-1);
        }
        drop(counting);
        fence(Ordering::SeqCst);
        above
    }

    /// How many count against `max_db_connections` and `max_user_connections`.
    pub fn shared_totals(&self) -> (u32, u32) {
        let used = |tally: &Tally| tally.used.load(Ordering::Relaxed);
        (used(&self.account.database), used(&self.account.user))
    }

    /// The other workers where somebody waits for a connection of this pool.
    pub fn hungry_elsewhere(&self) -> impl Iterator<Item = usize> + use<> {
        members(self.account.hungry.load(Ordering::SeqCst) & !self.bit())
    }

    /// The other workers with a pool to which a shared bound was in the way
    /// since last asked.
    pub fn starved_elsewhere(&self) -> impl Iterator<Item = usize> + use<> {
        let starved = |tally: &Tally| match tally.starved.load(Ordering::SeqCst) & !self.bit() {
            0 => 0,
            some => tally.starved.fetch_and(!some, Ordering::SeqCst) & some,
        };
        members(starved(&self.account.database) | starved(&self.account.user))
    }

    // ---- who waits where ----

    /// Tells the others since when the longest waiter of this worker waits, as far as
    /// they are concerned.
    pub fn publish(&self, oldest: Option<Instant>) {
        let account = &*self.account;
        let (Some(slot), false) = (account.slots.get(self.worker), self.is_alone()) else {
            return;
        };
        let store = |since: Instant| {
            let micros = since.saturating_duration_since(account.epoch).as_micros();
            slot.oldest.store(micros as u64 + 1, Ordering::SeqCst);
        };
        match (self.published.get(), oldest) {
            (None, None) => return,
            (None, Some(since)) => {
                store(since);
                account.hungry.fetch_or(self.bit(), Ordering::SeqCst);
                fence(Ordering::SeqCst);
            }
            (Some(_), None) => {
                account.hungry.fetch_and(!self.bit(), Ordering::SeqCst);
                slot.oldest.store(0, Ordering::SeqCst);
            }
            // Seldom: that an older time stands there does little harm.
            (Some(published), Some(since)) if since < published + STALE => return,
            (Some(_), Some(since)) => store(since),
        }
        self.published.set(oldest);
    }

    /// A connection that is free now goes to another worker if somebody waits there
    /// and it `goes` to whoever waits since then.
    pub fn send_elsewhere(&self, goes: impl FnOnce(Instant) -> bool) -> Option<Passage> {
        let (since, worker, slot) = self.longest_elsewhere()?;
        if !goes(since) {
            return None;
        }
        // Somebody else may have been faster.
        let promise = slot
            .promised
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        promise.ok().map(|_| Passage {
            account: Some(self.account.clone()),
            to: worker,
        })
    }

    /// Whether somebody waits on another worker who [`precedes`] `own`.
    pub fn is_preceded(&self, own: Instant) -> bool {
        let longest = self.longest_elsewhere();
        longest.is_some_and(|(since, ..)| precedes(since, own))
    }

    /// Who waits longest on another worker to which nothing is on its way.
    fn longest_elsewhere(&self) -> Option<(Instant, usize, &Slot)> {
        let account = &*self.account;
        let hungry = account.hungry.load(Ordering::SeqCst) & !self.bit();
        let candidates = members(hungry).filter_map(|worker| {
            let slot = account.slots.get(worker)?;
            let oldest = slot.oldest.load(Ordering::SeqCst).checked_sub(1)?;
            let unserved = slot.promised.load(Ordering::SeqCst) == 0;
            unserved.then_some((oldest, worker, slot))
        });
        let (oldest, worker, slot) = candidates.min_by_key(|&(oldest, ..)| oldest)?;
        let since = account.epoch + Duration::from_micros(oldest);
        Some((since, worker, slot))
    }

    /// For a connection that `worker` has asked for.
    pub fn send_to(&self, worker: usize) -> Passage {
        self.account.passage(worker)
    }

    /// A connection is about to be idle here. True: the others could not know;
    /// look once more whether somebody waits there.
    pub fn offer_idle(&self) -> bool {
        let set = &self.account.may_be_idle;
        if self.is_alone() || set.load(Ordering::SeqCst) & self.bit() != 0 {
            return false;
        }
        set.fetch_or(self.bit(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        true
    }

    /// Somebody has asked, and nothing is idle here.
    pub fn nothing_idle(&self) {
        let set = &self.account.may_be_idle;
        set.fetch_and(!self.bit(), Ordering::SeqCst);
    }

    /// A worker that may have an idle connection, but this one and `except`.
    pub fn idle_elsewhere(&self, except: usize) -> Option<usize> {
        let others = !(self.bit() | bit(except));
        let idle = self.account.may_be_idle.load(Ordering::SeqCst) & others;
        // Not always the same one.
        let above = idle & !(self.bit() - 1);
        members(above).next().or_else(|| members(idle).next())
    }

    /// Whether this is the only worker.
    pub fn is_alone(&self) -> bool {
        self.account.slots.len() == 1
    }

    fn bit(&self) -> u64 {
        bit(self.worker)
    }
}

/// A connection is on its way to another worker, and counts. If it is lost, it
/// counts no more.
#[derive(Debug)]
pub struct Passage {
    account: Option<Arc<Account>>,
    to: usize,
}

impl Passage {
    /// Where it goes.
    pub fn to(&self) -> usize {
        self.to
    }

    /// It is there.
    pub fn arrive(mut self) {
        if let Some(account) = self.account.take() {
            self.keep_promise(&account);
        }
    }

    fn keep_promise(&self, account: &Account) {
        if let Some(slot) = account.slots.get(self.to) {
            slot.promised.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            self.keep_promise(&account);
            account.free();
        }
    }
}

fn bit(worker: usize) -> u64 {
    1u64.checked_shl(worker as u32).unwrap_or(0)
}

fn members(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let worker = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(worker)
    })
}
