//! The servers of one database as the whole process knows them. A survey
//! writes here, every worker reads: a choice costs a few loads and no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Host;
use crate::sql::classify::Catalog;

/// What a server is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// It has not been asked yet.
    Unknown,
    /// It takes writes.
    Primary,
    /// It is in recovery.
    Replica,
    /// It would take writes, but is not the primary: nothing is sent there.
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
            Role::Replica => "replica",
            Role::Fenced => "fenced",
            Role::Down => "down",
        }
    }

    fn from_byte(byte: u8) -> Role {
        match byte {
            1 => Role::Primary,
            2 => Role::Replica,
            3 => Role::Fenced,
            4 => Role::Down,
            _ => Role::Unknown,
        }
    }
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
    pub weight: u32,
    role: AtomicU8,
    /// The newest sample of the primary's position that it has replayed.
    replayed: AtomicU32,
    /// How far it is behind the primary, in bytes of WAL and in microseconds.
    lag: AtomicU64,
    delay: AtomicU64,
    /// Why it has its role, for the console.
    why: Mutex<String>,
}

impl Topology {
    /// Nothing is known of these servers yet.
    pub fn new(hosts: &[Host], weights: &[u32]) -> Topology {
        let weights = weights.iter().copied().chain(std::iter::repeat(1));
        let members = hosts.iter().zip(weights).map(|(host, weight)| Member {
            host: host.clone(),
            name: Arc::from(host.to_string()),
            weight,
            role: AtomicU8::new(Role::Unknown as u8),
            replayed: AtomicU32::new(0),
            lag: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            why: Mutex::default(),
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

    /// Whether it is of these servers, with these weights.
    pub fn is_of(&self, hosts: &[Host], weights: &[u32]) -> bool {
        let own = self
            .members
            .iter()
            .map(|member| (&member.host, member.weight));
        own.eq(hosts.iter().zip(weights.iter().copied()))
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

    /// Whether a read may go there that must see everything up to `sample`.
    pub fn may_read(&self, sample: u32, max_lag: Option<Duration>) -> bool {
        self.role() == Role::Replica
            && self.weight > 0
            && self.replayed.load(Ordering::Acquire) >= sample
            && max_lag.is_none_or(|max| self.delay() <= max)
    }

    /// Bytes of WAL that it has not replayed.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// For how long the primary has been further ahead.
    pub fn delay(&self) -> Duration {
        Duration::from_micros(self.delay.load(Ordering::Relaxed))
    }

    /// Why it has its role; empty if there is nothing to say.
    pub fn why(&self) -> String {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// True: it is another one than before.
    pub(super) fn set_role(&self, role: Role, why: &str) -> bool {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
        self.role.swap(role as u8, Ordering::AcqRel) != role as u8
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
