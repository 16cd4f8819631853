//! The pools of one user to each server of a database, and which of them gets
//! a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tracing::warn;

use super::login::Credential;
use super::pool::Pool;
use crate::config::{PoolConfig, ReadConsistency, Reads, Routing, WithoutReplica};
use crate::flow::{Purpose, Session};
use crate::route::balance::{self, Candidate};
use crate::route::{Kept, Member, Needs, Obstacle, Plan, Policy, Role, Topology};
use crate::stats::{Counters, add};
use crate::wire::build::Refusal;

/// What the process knows of the servers of its databases.
#[derive(Debug, Default)]
pub struct Topologies(Mutex<HashMap<Arc<str>, Arc<Topology>>>);

impl Topologies {
    /// A database's, which the workers share.
    pub fn of(&self, config: &PoolConfig, routing: &Routing) -> Arc<Topology> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(&config.database).cloned();
        let known = known.filter(|known| known.is_of(&config.hosts, &routing.hosts));
        known.unwrap_or_else(|| {
            let fresh = Arc::new(Topology::new(&config.hosts, &routing.hosts));
            all.insert(config.database.clone(), fresh.clone());
            fresh
        })
    }
}

/// One worker's pools of one database and user, in the order of the hosts.
#[derive(Debug)]
pub struct Family {
    topology: Arc<Topology>,
    config: RefCell<(Rc<PoolConfig>, Routing)>,
    pools: Vec<Rc<Pool>>,
    /// Where the primary was last.
    home: Cell<usize>,
    /// Counts on with each choice in turn.
    turn: Cell<u64>,
    /// Room for those that a choice is made among.
    able: RefCell<Vec<Candidate>>,
    policy: RefCell<Policy>,
    /// Why the request that is being looked at is not sent to a replica.
    kept: Cell<Option<Kept>>,
    /// Some role has changed.
    news: Notify,
}

/// Where a request goes.
pub struct Way {
    pub pool: Rc<Pool>,
    pub course: Course,
}

/// What goes the same way, and what it counts as when it does.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    extent: Extent,
    reason: Option<Reason>,
    /// Of a request, in bytes.
    length: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    All,
    Reads,
    Request,
}

impl Course {
    /// Whatever the client asks next, as long as it holds the server connection.
    pub const ALL: Course = Course {
        extent: Extent::All,
        reason: None,
        length: 0,
    };

    /// The same, to a server that may write; what has arrived only reads.
    const READS: Course = Course {
        extent: Extent::Reads,
        ..Course::ALL
    };

    /// A request of so many bytes. What follows may belong elsewhere: it is sent on
    /// only when this has been answered.
    const fn request(length: u32) -> Course {
        Course {
            extent: Extent::Request,
            length,
            ..Course::ALL
        }
    }

    fn because(self, reason: Option<Reason>) -> Course {
        Course { reason, ..self }
    }

    pub fn only_reads(self) -> bool {
        self.extent == Extent::Reads
    }

    /// The length of a request, if it is no more than that.
    pub fn request_length(self) -> Option<u32> {
        (self.extent == Extent::Request).then_some(self.length)
    }

    /// A server connection of the pool that was chosen is there. Not before: who waits
    /// for one may be sent elsewhere.
    pub fn count(self, counters: &Counters) {
        if let Some(reason) = self.reason {
            add(reason.counter(counters), 1);
        }
    }
}

/// Why what only reads, or may do so, goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It was found a replica.
    Found,
    /// It was found none.
    Missing(Obstacle),
    /// It is for the primary.
    Kept(Kept),
}

impl Reason {
    fn counter(self, counters: &Counters) -> &Cell<u64> {
        match self {
            Reason::Found => &counters.replica_read_count,
            Reason::Missing(Obstacle::Out) => &counters.primary_read_out_count,
            Reason::Missing(Obstacle::Lag) => &counters.primary_read_lag_count,
            Reason::Missing(Obstacle::Consistency) => &counters.primary_read_consistency_count,
            Reason::Kept(Kept::Policy) => &counters.primary_read_policy_count,
            Reason::Kept(Kept::Hint) => &counters.primary_read_hint_count,
            Reason::Kept(Kept::Unproved) => &counters.primary_read_unproved_count,
        }
    }
}

/// Where a request has been already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// Nowhere.
    #[default]
    No,
    /// A replica cannot do it.
    OnPrimary,
    /// The host in this place was lost over it.
    NotAt(u16),
}

impl Family {
    /// `pools`: one for each member of the topology.
    pub fn new(
        topology: Arc<Topology>,
        config: PoolConfig,
        routing: Routing,
        pools: Vec<Rc<Pool>>,
    ) -> Rc<Family> {
        let catalog = (topology.edition(), topology.catalog());
        let policy = Policy::new(routing.reads, &routing.rules, catalog);
        let family = Rc::new(Family {
            topology,
            config: RefCell::new((Rc::new(config), routing)),
            pools,
            home: Cell::new(0),
            turn: Cell::new(0),
            able: RefCell::default(),
            policy: RefCell::new(policy),
            kept: Cell::new(None),
            news: Notify::new(),
        });
        for pool in &family.pools {
            pool.join_family(&family);
        }
        family.follow_roles();
        family
    }

    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The configuration with all hosts.
    pub fn config(&self) -> Rc<PoolConfig> {
        self.config.borrow().0.clone()
    }

    pub fn routing(&self) -> Routing {
        self.config.borrow().1.clone()
    }

    pub fn pools(&self) -> &[Rc<Pool>] {
        &self.pools
    }

    /// Servers and pools with their places.
    pub fn members(&self) -> impl Iterator<Item = (&Member, &Rc<Pool>)> {
        self.topology.members().iter().zip(&self.pools)
    }

    /// How a user proves itself to every server.
    pub fn set_credential(&self, credential: &Credential) {
        for pool in &self.pools {
            pool.set_credential(credential.clone());
        }
    }

    /// A new configuration with the same hosts.
    pub fn reconfigure(&self, config: PoolConfig, routing: Routing) {
        let mut policy = self.policy.borrow_mut();
        policy.reconfigure(routing.reads, &routing.rules);
        *self.config.borrow_mut() = (Rc::new(config), routing);
    }

    /// Returns when it is known who the primary is, or that there is none.
    /// Cancel safe.
    pub async fn ready(&self) {
        loop {
            let news = self.news.notified();
            if self.topology.is_known() {
                return;
            }
            news.await;
        }
    }

    /// The servers may have other roles than before.
    pub fn follow_roles(&self) {
        for (member, pool) in self.members() {
            pool.set_role(member.role());
            if pool.is_ejected() {
                pool.reroute();
            }
        }
        if let Some(primary) = self.topology.primary() {
            let former = self.home.replace(primary);
            let members = self.topology.members();
            if former != primary
                && let (Some(pool), Some(member)) = (self.pools.get(former), members.get(former))
            {
                pool.reroute();
                if member.role() != Role::Replica {
                    pool.forsake();
                }
            }
        }
        self.news.notify_waiters();
    }

    /// The pool of the primary, or of who was it last.
    pub fn primary(&self) -> Rc<Pool> {
        let place = self.topology.primary();
        let pool = self.pools.get(place.unwrap_or(self.home.get()));
        // There is a host at least.
        pool.unwrap_or(&self.pools[0]).clone()
    }

    /// Which pool gets what the client asks for next. `last_write`: what
    /// [`Topology::covering_sample`] was at its last write.
    pub fn route(
        &self,
        session: &Session,
        input: &[u8],
        last_write: u32,
        again: Again,
    ) -> Result<Way, Refusal> {
        let config = self.config.borrow();
        let routing = &config.1;
        let any = Cell::new(true);
        let begins_read_only = Cell::new(false);
        let judge = |text: &[u8]| {
            // It has been found to be a read, even if it is not any more.
            if again == Again::OnPrimary {
                return Purpose::Read;
            }
            let plan = self.plan(text, session);
            any.set(any.get() && plan.role == Reads::Any);
            begins_read_only.set(begins_read_only.get() || plan.begins_read_only);
            plan.purpose
        };
        let request = session.request(input, &judge);
        let is_over = request.is_some();
        let request = request.filter(|(_, purpose)| *purpose != Purpose::Other);
        let request =
            request.and_then(|(length, purpose)| Some((length.try_into().ok()?, purpose)));
        let Some((length, purpose)) = request else {
            let reason = self.kept.take().map(Reason::Kept);
            // A driver may want to know its parameters and columns first.
            let may_read = !is_over || begins_read_only.get();
            let course = match may_read && self.only_reads(session, input) {
                true => Course::READS,
                false => Course::ALL,
            };
            return Ok(Way {
                pool: self.primary(),
                course: course.because(reason),
            });
        };
        if again == Again::OnPrimary {
            return Ok(Way {
                pool: self.primary(),
                course: Course::request(length),
            });
        }
        let sample = match routing.consistency {
            ReadConsistency::Eventual => 0,
            ReadConsistency::Session => last_write,
            ReadConsistency::Global => self.topology.last_write(),
        };
        let needs = Needs::new(routing, sample);
        let (pool, reason) = match self.reader(routing, &needs, again, any.get()) {
            Ok(pool) => (pool.clone(), Reason::Found),
            Err(obstacle) => {
                let pool = self.primary();
                if routing.without_replica == WithoutReplica::Fail {
                    add(&pool.counters.unserved_read_count, 1);
                    return Err(no_replica(&config.0.database, obstacle));
                }
                (pool, Reason::Missing(obstacle))
            }
        };
        // Only a replica keeps a transaction from becoming READ WRITE.
        let course = match purpose == Purpose::Read || pool.is_read_only() {
            true => Course::request(length),
            false => Course::READS,
        };
        let course = course.because(Some(reason));
        Ok(Way { pool, course })
    }

    /// Whether a part of what a client sends writes nothing, though the server could.
    pub fn only_reads(&self, session: &Session, part: &[u8]) -> bool {
        let judge = |text: &[u8]| {
            let mut policy = self.policy.borrow_mut();
            let plan = policy.plan(text, session.params(), session.role());
            match plan.harmless {
                true => Purpose::Read,
                false => Purpose::Other,
            }
        };
        session.only_reads(part, &judge)
    }

    /// The client has been told of something that may have been a write, up to
    /// the sample that is returned.
    pub fn note_write(&self) -> u32 {
        let sample = self.topology.covering_sample();
        if self.config.borrow().1.consistency == ReadConsistency::Global {
            self.topology.note_write(sample);
        }
        sample
    }

    /// What is to be done about a request that was lost at this pool.
    pub fn not_at(&self, pool: &Rc<Pool>) -> Again {
        let place = self.pools.iter().position(|own| Rc::ptr_eq(own, pool));
        let place = place.and_then(|place| place.try_into().ok());
        place.map_or(Again::OnPrimary, Again::NotAt)
    }

    /// A replica cannot do what `request` asks: its texts are not for replicas any
    /// more.
    pub fn refused(&self, session: &Session, request: &[u8]) {
        session.request(request, &|text| {
            self.policy.borrow_mut().refused(text);
            Purpose::Read
        });
    }

    /// The pool that gets a read, or why no replica may have it. `any`: the primary
    /// is as good as a replica.
    fn reader(
        &self,
        routing: &Routing,
        needs: &Needs,
        again: Again,
        any: bool,
    ) -> Result<&Rc<Pool>, Obstacle> {
        let primary = any.then(|| self.topology.primary());
        let primary = primary.flatten();
        let lost = match again {
            Again::NotAt(place) => Some(usize::from(place)),
            _ => None,
        };
        let mut able = self.able.borrow_mut();
        able.clear();
        let mut nearest = Obstacle::Out;
        for (place, (member, pool)) in self.members().enumerate() {
            let Some(weight) = NonZeroU32::new(member.terms.weight) else {
                continue;
            };
            let obstacle = match primary == Some(place) {
                true => None,
                false => member.obstacle(needs),
            };
            match obstacle {
                Some(obstacle) => nearest = nearest.max(obstacle),
                None if lost == Some(place) || pool.is_ejected() => {}
                None => able.push(Candidate {
                    place,
                    weight,
                    outstanding: pool.outstanding(),
                }),
            }
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let place = balance::choose(routing.balance, &able, turn, rand::random);
        let pool = place.and_then(|place| self.pools.get(place));
        pool.ok_or(nearest)
    }

    /// What a text of this session is there for, and where it may run.
    fn plan(&self, text: &[u8], session: &Session) -> Plan {
        let mut policy = self.policy.borrow_mut();
        policy.follow(self.topology.edition(), || self.topology.catalog());
        let plan = policy.plan(text, session.params(), session.role());
        if plan.kept.is_some() {
            self.kept.set(plan.kept);
        }
        if plan.kept == Some(Kept::Unproved) {
            self.topology.miss();
        }
        if plan.mistaken {
            add(&self.primary().counters.hint_mistake_count, 1);
            if let Some(mistake) = policy.mistake() {
                let config = self.config();
                let (db, user) = (&config.database, &config.user);
                warn!(%db, %user, reason = %mistake, "a hint is not understood and has no effect");
            }
        }
        plan
    }
}

fn no_replica(database: &str, obstacle: Obstacle) -> Refusal {
    let why = match obstacle {
        Obstacle::Out => "No replica is in use",
        Obstacle::Lag => "Each replica in use is further behind than allowed (replica_max_lag)",
        Obstacle::Consistency => {
            "No replica has replayed yet what this read must see (read_consistency)"
        }
    };
    Refusal::error("08006", "no replica may have this read")
        .detail(format!("{why}; see SHOW HOSTS, database \"{database}\"."))
        .hint("With reads_without_replica = primary it would have gone to the primary.")
}
