//! The servers of one database as the whole process knows them. A survey
//! writes here, every worker reads: a choice costs a few loads and no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{Host, HostTerms, Routing};
use crate::sql::classify::Catalog;

/// What a server is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// It has not been asked yet.
    Unknown,
    /// It takes writes.
    Primary,
    /// It is in recovery, and serves reads.
    Replica,
    /// It is in recovery, but failed a moment ago and gets no reads for now.
    Ejected,
    /// It would take writes and is not the primary, or it is not what it may
    /// be: nothing is sent there.
    Fenced,
    /// It does not answer.
    Down,
}

impl Role {
    /// The word that SHOW HOSTS has for it.
    pub fn word(self) -> &'static str {
        match self {
            Role::Unknown => "unknown",
            Role::Primary => "primary",
            Role::Replica | Role::Ejected => "replica",
            Role::Fenced => "fenced",
            Role::Down => "down",
        }
    }

    fn from_byte(byte: u8) -> Role {
        match byte {
            1 => Role::Primary,
            2 => Role::Replica,
            3 => Role::Ejected,
            4 => Role::Fenced,
            5 => Role::Down,
            _ => Role::Unknown,
        }
    }
}

/// What becomes of a server's reads, from the best state to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has not been asked yet.
    Unknown,
    /// It is used as its role says.
    Up,
    /// It is too far behind for reads.
    Lagging,
    /// It has failed and gets no reads for now.
    Ejected,
    /// See [`Role::Fenced`].
    Fenced,
    /// It does not answer.
    Down,
}

impl State {
    /// The word that SHOW HOSTS has for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Lagging => "lagging",
            State::Ejected => "ejected",
            State::Fenced => "fenced",
            State::Down => "down",
        }
    }
}

/// What a read asks of a replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// It must see everything up to this sample.
    pub sample: u32,
    pub max_lag: Option<Duration>,
    pub max_lag_bytes: Option<u64>,
}

impl Needs {
    /// Within the bounds of the configuration.
    pub fn new(routing: &Routing, sample: u32) -> Needs {
        Needs {
            sample,
            max_lag: routing.max_lag,
            max_lag_bytes: routing.max_lag_bytes,
        }
    }
}

/// Why a read may not go to a server. Of several servers that for which the
/// least is missing tells why none may have it: the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is no replica, or not in use.
    Out,
    /// It is further behind than allowed.
    Lag,
    /// It has not replayed what the reader must see.
    Consistency,
}

/// The servers of a database, in the order of the configuration.
#[derive(Debug)]
pub struct Topology {
    members: Box<[Member]>,
    /// Number of the last sample of the primary's WAL position that was begun.
    sample: AtomicU32,
    /// The first sample that covers every write acknowledged so far.
    last_write: AtomicU32,
    /// Whether somebody asks the servers.
    watched: AtomicBool,
    catalog: Mutex<Arc<Catalog>>,
    /// How often the catalog was replaced.
    edition: AtomicU32,
    /// Something was met that is not in the catalog.
    outdated: AtomicBool,
}

/// One server.
#[derive(Debug)]
pub struct Member {
    pub host: Host,
    /// `db1:5432`
    pub name: Arc<str>,
    pub terms: HostTerms,
    role: AtomicU8,
    /// The newest sample of the primary's position that it has replayed.
    replayed: AtomicU32,
    /// How far it is behind the primary, in bytes of WAL and in microseconds.
    lag: AtomicU64,
    delay: AtomicU64,
    /// Checks and attempts to connect that failed, times that it was ejected, and
    /// that its role changed.
    failures: AtomicU64,
    ejections: AtomicU64,
    changes: AtomicU64,
    notice: Mutex<Notice>,
}

/// Why a server has its role, for the console.
#[derive(Clone, Debug, Default)]
pub struct Notice {
    /// Empty: there is nothing to say.
    pub why: String,
    /// It gets no reads before.
    pub ejected_until: Option<Instant>,
}

impl Topology {
    /// Nothing is known of these servers yet. `terms`: of each of them.
    pub fn new(hosts: &[Host], terms: &[HostTerms]) -> Topology {
        let members = hosts.iter().zip(terms).map(|(host, terms)| Member {
            host: host.clone(),
            name: Arc::from(host.to_string()),
            terms: *terms,
            role: AtomicU8::new(Role::Unknown as u8),
            replayed: AtomicU32::new(0),
            lag: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            notice: Mutex::default(),
        });
        Topology {
            members: members.collect(),
            sample: AtomicU32::new(0),
            last_write: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            catalog: Mutex::new(Arc::new(Catalog::of_postgresql())),
            edition: AtomicU32::new(0),
            outdated: AtomicBool::new(false),
        }
    }

    /// Whether it is of these servers, on these terms.
    pub fn is_of(&self, hosts: &[Host], terms: &[HostTerms]) -> bool {
        let own = self.members.iter().map(|m| (&m.host, &m.terms));
        own.eq(hosts.iter().zip(terms))
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The place of the primary. Not before every server has been asked: one that
    /// takes writes may have been replaced by another.
    pub fn primary(&self) -> Option<usize> {
        let mut members = self.members.iter();
        let primary = members.position(|member| member.role() == Role::Primary);
        primary.filter(|_| self.is_known())
    }

    /// Whether every server has been asked.
    pub fn is_known(&self) -> bool {
        self.members.iter().all(|m| m.role() != Role::Unknown)
    }

    /// The first sample that covers a write which has just been acknowledged:
    /// any that begins from now on.
    pub fn covering_sample(&self) -> u32 {
        self.sample.load(Ordering::SeqCst).saturating_add(1)
    }

    /// Has every reader, also of other clients, wait for this sample.
    pub fn note_write(&self, covered_by: u32) {
        self.last_write.fetch_max(covered_by, Ordering::SeqCst);
    }

    /// The sample that [`Topology::note_write`] was last told of.
    pub fn last_write(&self) -> u32 {
        self.last_write.load(Ordering::SeqCst)
    }

    /// True: the caller is to ask the servers from now on, until
    /// [`Topology::leave`]; nobody else does.
    pub fn watch(&self) -> bool {
        !self.watched.swap(true, Ordering::AcqRel)
    }

    /// Nobody asks the servers any more.
    pub fn leave(&self) {
        self.watched.store(false, Ordering::Release);
    }

    /// What is known of the objects in the database.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes whenever the catalog does.
    pub fn edition(&self) -> u32 {
        self.edition.load(Ordering::Acquire)
    }

    /// A text could not be judged: there may be news in the database.
    pub fn miss(&self) {
        if !self.outdated.load(Ordering::Relaxed) {
            self.outdated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether that was so since last asked.
    pub fn was_missed(&self) -> bool {
        self.outdated.swap(false, Ordering::Relaxed)
    }

    pub fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.edition.fetch_add(1, Ordering::AcqRel);
    }

    /// A sample begins; returns its number.
    pub(super) fn begin_sample(&self) -> u32 {
        self.sample.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }
}

impl Member {
    pub fn role(&self) -> Role {
        Role::from_byte(self.role.load(Ordering::Acquire))
    }

    /// Why a read with these needs may not go there; `None`: it may.
    pub fn obstacle(&self, needs: &Needs) -> Option<Obstacle> {
        if self.role() != Role::Replica {
            Some(Obstacle::Out)
        } else if self.is_lagging(needs) {
            Some(Obstacle::Lag)
        } else if self.replayed.load(Ordering::Acquire) < needs.sample {
            Some(Obstacle::Consistency)
        } else {
            None
        }
    }

    fn is_lagging(&self, needs: &Needs) -> bool {
        needs.max_lag.is_some_and(|max| self.delay() > max)
            || needs.max_lag_bytes.is_some_and(|max| self.lag() > max)
    }

    /// What becomes of reads with these needs.
    pub fn state(&self, needs: &Needs) -> State {
        match self.role() {
            Role::Unknown => State::Unknown,
            Role::Replica if self.is_lagging(needs) => State::Lagging,
            Role::Primary | Role::Replica => State::Up,
            Role::Ejected => State::Ejected,
            Role::Fenced => State::Fenced,
            Role::Down => State::Down,
        }
    }

    /// Bytes of WAL that it has not replayed.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// For how long the primary has been further ahead.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.load(Ordering::Relaxed))
    }

    pub fn notice(&self) -> Notice {
        self.lock_notice().clone()
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub fn role_changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A check has failed, or a connection could not be opened.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// It was a replica that served reads, and gets none for now.
    pub fn note_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// True: it is another one than before.
    pub(super) fn set_role(&self, role: Role, notice: Notice) -> bool {
        *self.lock_notice() = notice;
        let former = Role::from_byte(self.role.swap(role as u8, Ordering::AcqRel));
        if former == Role::Replica && role == Role::Down {
            self.note_ejection();
        }
        let changed = former != role;
        if changed && former != Role::Unknown {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    fn lock_notice(&self) -> MutexGuard<'_, Notice> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_progress(&self, replayed: u32, lag: u64, delay: Duration) {
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(lag, Ordering::Relaxed);
        self.delay.store(delay, Ordering::Relaxed);
        self.replayed.store(replayed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
