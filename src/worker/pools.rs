//! All pools of a worker, and the bounds that they share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use super::{Command, Crew, Gates, Local};
use crate::config::PoolConfig;
use crate::pool::{Ledger, Passage, PoolName, SharedBound, Title};
use crate::process::{Link, Side};
use crate::server::login::Credential;
use crate::server::{Family, Farewell, Greetings, Mail, Past, Pool, Topologies, watch};
use crate::stats::Totals;

/// By database and user.
type Families = HashMap<(Arc<str>, Arc<str>), Rc<Family>>;

/// The pools by name.
#[derive(Debug)]
pub struct Pools {
    crew: Crew,
    ledger: Arc<Ledger>,
    greetings: Arc<Greetings>,
    topologies: Arc<Topologies>,
    /// Where statements are routed.
    families: RefCell<Families>,
    all: RefCell<HashMap<PoolName, Rc<Pool>>>,
    gates: RefCell<Arc<Gates>>,
    /// What is remembered of pools that are gone, by database.
    past: RefCell<HashMap<Arc<str>, Past>>,
    /// The processes that connections go to and come from.
    links: RefCell<HashMap<Side, Link>>,
    /// What those are told who come when all pools are closed.
    closed: RefCell<Option<Arc<Farewell>>>,
}

impl Pools {
    /// No pools yet. Ledger, greetings and topologies are those of the process.
    pub fn new(
        crew: Crew,
        (ledger, greetings, topologies): (Arc<Ledger>, Arc<Greetings>, Arc<Topologies>),
    ) -> Rc<Pools> {
        Rc::new(Pools {
            crew,
            ledger,
            greetings,
            topologies,
            families: RefCell::default(),
            all: RefCell::default(),
            gates: RefCell::default(),
            past: RefCell::default(),
            links: RefCell::default(),
            closed: RefCell::default(),
        })
    }

    /// The pool of this name, if it is there.
    pub fn find(&self, name: &PoolName) -> Option<Rc<Pool>> {
        self.all.borrow().get(name).cloned()
    }

    /// The pool for this configuration, started if it is new; where there is one
    /// for each host, that of the primary as far as it is known.
    pub fn get_or_start(
        self: &Rc<Self>,
        config: PoolConfig,
        credential: Credential,
        local: &Rc<Local>,
    ) -> Rc<Pool> {
        let Some(routing) = config.routing.clone() else {
            return self.pool(config, credential, local);
        };
        let key = (config.database.clone(), config.user.clone());
        let known = self.families.borrow().get(&key).cloned();
        let family = known.unwrap_or_else(|| {
            let topology = self.topologies.of(&config, &routing);
            let hosts = config.hosts.iter();
            let pool = |host| self.pool(config.of_host(host), credential.clone(), local);
            let pools = hosts.map(pool).collect();
            let family = Family::new(topology, config, routing, pools);
            self.families.borrow_mut().insert(key, family.clone());
            family
        });
        // Whoever asked before may have gone.
        watch::start(&family, &self.crew);
        family.primary()
    }

    /// Servers of this database have other roles than before.
    pub fn follow_roles(&self, database: &str) {
        let families = self.families.borrow();
        for (_, family) in families.iter().filter(|((of, _), _)| &**of == database) {
            family.follow_roles();
        }
    }

    /// Where statements are routed, between which pools.
    pub fn families(&self) -> Vec<Rc<Family>> {
        self.families.borrow().values().cloned().collect()
    }

    fn pool(
        self: &Rc<Self>,
        config: PoolConfig,
        credential: Credential,
        local: &Rc<Local>,
    ) -> Rc<Pool> {
        let key = config.name();
        if let Some(pool) = self.find(&key) {
            return pool;
        }
        let part = self.ledger.part(self.crew.number(), &title(&config));
        let auto = config.auto_database.is_some();
        let registered = auto.then(|| self.greetings.auto_databases.register(&config.database));
        let pool = Pool::start(
            config,
            credential,
            (part, self.greetings.of(&key), registered),
            local.clone(),
            (Rc::downgrade(self), self.crew.clone()),
        );
        pool.set_leaving(self.link(Side::Successor).is_some());
        pool.set_paused(self.gates.borrow().stops(&pool.config().database), false);
        self.all.borrow_mut().insert(key, pool.clone());
        if let Some(farewell) = &*self.closed.borrow() {
            pool.close(farewell);
        }
        pool
    }

    /// Ends a pool that nobody uses.
    pub fn forget(&self, name: &PoolName) {
        let gone = self.all.borrow_mut().remove(name);
        if let Some(pool) = gone {
            self.remember(&pool);
        }
    }

    fn remember(&self, gone: &Pool) {
        let new = gone.past();
        let mut all = self.past.borrow_mut();
        let past = all.entry(gone.config().database.clone()).or_default();
        past.totals += new.totals;
        past.until = new.until;
    }

    /// Totals of pools that are gone, by database. Those of databases that are
    /// forgotten by `now` are dropped.
    pub fn past(&self, now: Instant) -> Vec<(String, Totals)> {
        let mut past = self.past.borrow_mut();
        let here = self.all.borrow();
        past.retain(|name, past| {
            let over = past.until.is_some_and(|until| until <= now);
            !over || here.keys().any(|pool| pool.database == *name)
        });
        let row = |(name, past): (&Arc<str>, &Past)| (name.to_string(), past.totals);
        past.iter().map(row).collect()
    }

    /// Closes all pools, those as well that are still to be started for a login
    /// under way.
    pub fn close(&self, farewell: &Arc<Farewell>) {
        *self.closed.borrow_mut() = Some(farewell.clone());
        for pool in self.each() {
            pool.close(farewell);
        }
    }

    /// What an operator has stopped.
    pub fn gates(&self) -> Arc<Gates> {
        self.gates.borrow().clone()
    }

    pub fn set_gates(&self, gates: Arc<Gates>) {
        *self.gates.borrow_mut() = gates.clone();
        for pool in self.each() {
            let database = &pool.config().database;
            pool.set_paused(gates.stops(database), gates.killed.contains(&**database));
        }
    }

    /// Those of one database, or all.
    pub fn of(&self, database: Option<&str>) -> Vec<Rc<Pool>> {
        let mut pools = self.each();
        pools.retain(|pool| database.is_none_or(|name| *pool.config().database == *name));
        pools
    }

    pub fn each(&self) -> Vec<Rc<Pool>> {
        self.all.borrow().values().cloned().collect()
    }

    /// Takes over new configurations; pools whose database is gone are closed,
    /// and all pools of one whose hosts have changed, if statements are routed
    /// between them.
    pub fn reconfigure(
        &self,
        config: impl Fn(&PoolConfig) -> Option<PoolConfig>,
        farewell: &Arc<Farewell>,
    ) -> Vec<Rc<Pool>> {
        let mut gone = Vec::new();
        self.families.borrow_mut().retain(|_, family| {
            let new = config(&family.config());
            let Some((new, routing)) = new.and_then(|new| Some((new.clone(), new.routing?))) else {
                return false;
            };
            let stays = family.topology().is_of(&new.hosts, &routing.hosts);
            if stays {
                family.reconfigure(new, routing);
            }
            stays
        });
        let config = |old: &PoolConfig| {
            let new = config(old)?;
            let Some(name) = &old.host else {
                return new.routing.is_none().then_some(new);
            };
            let key = (old.database.clone(), old.user.clone());
            let family = self.families.borrow().get(&key).cloned()?;
            let host = family
                .topology()
                .members()
                .iter()
                .find(|m| m.name == *name)?;
            Some(new.of_host(&host.host))
        };
        self.all
            .borrow_mut()
            .retain(|_, pool| match config(&pool.config()) {
                Some(new) => {
                    self.ledger.set_bounds(&title(&new));
                    pool.reconfigure(new);
                    true
                }
                None => {
                    gone.push(pool.clone());
                    false
                }
            });
        for pool in &gone {
            self.remember(pool);
            pool.close(farewell);
        }
        gone
    }

    /// Closes an idle connection of another pool that counts against `bound`
    /// too, the one idle longest. False: there is none.
    pub fn evict_idle(&self, config: &PoolConfig, bound: SharedBound) -> bool {
        self.evict_for(&config.name(), bound)
    }

    fn evict_for(&self, name: &PoolName, bound: SharedBound) -> bool {
        let all = self.all.borrow();
        let shares = |other: &PoolName| match bound {
            SharedBound::Database => other.database == name.database,
            SharedBound::User => other.user == name.user,
        };
        let others = all
            .iter()
            .filter(|(other, _)| *other != name && shares(other));
        let idle =
            others.filter_map(|(_, other)| Some((other.is_idle_evictable()?, other.clone())));
        let mut candidates: Vec<_> = idle.collect();
        drop(all);
        candidates.sort_by_key(|(since, _)| *since);
        candidates.iter().any(|(_, other)| other.evict_one())
    }

    /// A connection was closed, or has become idle: others that share a bound
    /// may open one.
    pub fn room_made(&self) {
        let now = Instant::now();
        for pool in self.each() {
            if pool.lacks_connections() {
                pool.open_wanted(now);
            }
        }
    }

    // ---- another process ----

    pub fn link(&self, side: Side) -> Option<Link> {
        self.links.borrow().get(&side).cloned()
    }

    /// The process on this side has come or, without a link, gone.
    pub fn set_link(&self, side: Side, link: Option<Link>) {
        match link {
            Some(link) => self.links.borrow_mut().insert(side, link),
            None => self.links.borrow_mut().remove(&side),
        };
        let leaving = self.link(Side::Successor).is_some();
        self.each()
            .iter()
            .for_each(|pool| pool.set_leaving(leaving));
    }

    /// A connection has come from another process together with its client.
    pub fn take_over(&self, name: &PoolName) -> Passage {
        self.ledger.take_over(name, self.crew.number())
    }

    /// Clients of the other process starve in these pools, and in no others.
    pub fn give(&self, names: &[PoolName], side: Side) {
        for pool in self.each() {
            match names.contains(&pool.config().name()) {
                true => pool.give_to(side),
                false => pool.keep_from(side),
            }
        }
    }

    /// Pools where clients starve.
    pub fn starving(&self) -> Vec<PoolName> {
        let pools = self.each();
        let starving = pools.iter().filter(|pool| pool.starves());
        starving.map(|pool| pool.config().name()).collect()
    }

    // ---- other workers ----

    /// What another worker says.
    pub fn receive(&self, mail: Mail) {
        match mail {
            Mail::Parcel(name, parcel) => match self.find(&name) {
                Some(pool) => pool.receive(*parcel),
                // It is closed, and counts no more.
                None => {
                    drop(parcel);
                    self.room_made();
                    self.tell_others_of_room();
                }
            },
            Mail::Ask { pool, from, wanted } => match self.find(&pool) {
                Some(found) => found.answer(from, wanted),
                None => self.tell(from, Mail::NoPool(pool)),
            },
            Mail::NoPool(name) => {
                if let Some(pool) = self.find(&name) {
                    pool.ask_others(Instant::now());
                }
            }
            Mail::Room => self.room_made(),
            Mail::Evict { pool, bound, from } => {
                if from == self.crew.number() {
                    if let Some(found) = self.find(&pool) {
                        found.evicted(false);
                    }
                } else if self.evict_for(&pool, bound) {
                    self.tell(from, Mail::Evicted(pool));
                } else {
                    self.tell(self.crew.next(), Mail::Evict { pool, bound, from });
                }
            }
            Mail::Evicted(name) => match self.find(&name) {
                Some(pool) => pool.evicted(true),
                None => self.room_made(),
            },
        }
    }

    fn tell_others_of_room(&self) {
        for worker in self.crew.others() {
            self.tell(worker, Mail::Room);
        }
    }

    fn tell(&self, worker: usize, mail: Mail) {
        // A worker that has ended waits for nothing.
        let _ = self.crew.tell(worker, Command::Servers(mail));
    }
}

fn title(config: &PoolConfig) -> Title {
    Title {
        name: config.name(),
        max_db_connections: config.max_db_connections,
        max_user_connections: config.max_user_connections,
    }
}
