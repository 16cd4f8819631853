//! Whether a server can carry what the pools may open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::load::Config;
use super::pool_config::{Host, PoolConfig};

/// What a server has to give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    pub max_connections: u32,
    /// superuser_reserved_connections and reserved_connections.
    pub reserved: u32,
    /// Connections of others than this pooler and its like.
    pub others: u32,
    /// Poolers with this configuration, this one included.
    pub instances: u32,
    /// The part of the rest that poolers may take, 0.0 to 1.0.
    pub share: f64,
}

/// What the pools of a configuration may open on one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    pub host: Host,
    /// Each database and its most connections; `None`: without a bound.
    pub databases: Vec<(String, Option<u64>)>,
}

/// The pools do not fit; displays the sum.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{host}: pools may open {demand}, but {usable} connections are usable: \
     ({max_connections} max_connections - {reserved} reserved - {others} others) \
     * {share} share / {instances} instances"
)]
pub struct TooMuch {
    host: Host,
    demand: String,
    usable: u64,
    max_connections: u32,
    reserved: u32,
    others: u32,
    share: f64,
    instances: u32,
}

impl Config {
    /// What the pools may open on each server, all pools of a database on each of
    /// its hosts. `logins`: the users that may log in besides those that have a
    /// section here.
    pub fn demand(&self, logins: &BTreeSet<String>) -> Vec<Demand> {
        let mut hosts: BTreeMap<String, Demand> = BTreeMap::new();
        for (name, most) in self.most_by_database(logins) {
            let Some(database) = self.databases.get(&name) else {
                continue;
            };
            for host in database.hosts(&self.general.unix_socket_dir) {
                let demand = hosts.entry(host.to_string()).or_insert(Demand {
                    host,
                    databases: Vec::new(),
                });
                demand.databases.push((name.clone(), most));
            }
        }
        hosts.into_values().collect()
    }

    /// Each database and the server connections that it may open, over all its
    /// pools and hosts; `None`: without a bound.
    pub(super) fn most_by_database(&self, logins: &BTreeSet<String>) -> Vec<(String, Option<u64>)> {
        let mut users: BTreeSet<&str> = logins.iter().map(String::as_str).collect();
        let with_password = self.users.iter().filter(|(_, u)| u.password.is_some());
        users.extend(with_password.map(|(name, _)| name.as_str()));
        let names = self.databases.keys();
        names
            .map(|name| (name.clone(), self.most(name, &users)))
            .collect()
    }

    /// Server connections that a database may open. `*` stands for any number of
    /// databases and has no bound.
    fn most(&self, database: &str, users: &BTreeSet<&str>) -> Option<u64> {
        if database == "*" {
            return None;
        }
        let definition = self.database(database)?;
        let pools: Vec<PoolConfig> = match definition.user.is_some() {
            true => self.pool(database, "").into_iter().collect(),
            false => users
                .iter()
                .filter_map(|user| self.pool(database, user))
                .collect(),
        };
        let bound = definition
            .max_db_connections
            .unwrap_or(self.general.max_db_connections);
        let sum = match pools.is_empty() {
            true => None,
            false => pools.iter().map(pool_most).sum::<Option<u64>>(),
        };
        match (bound, sum) {
            (0, sum) => sum,
            (bound, None) => Some(bound.into()),
            (bound, Some(sum)) => Some(sum.min(bound.into())),
        }
    }
}

impl Demand {
    /// The sum; `None`: without a bound.
    pub fn total(&self) -> Option<u64> {
        self.databases.iter().map(|(_, most)| *most).sum()
    }

    /// Whether the server can carry it.
    ///
    /// # Errors
    /// The sum, if not.
    pub fn fits(&self, capacity: &Capacity) -> Result<(), TooMuch> {
        let usable = capacity.usable();
        if self.total().is_some_and(|total| total <= usable) {
            return Ok(());
        }
        Err(TooMuch {
            host: self.host.clone(),
            demand: self.to_string(),
            usable,
            max_connections: capacity.max_connections,
            reserved: capacity.reserved,
            others: capacity.others,
            share: capacity.share,
            instances: capacity.instances,
        })
    }
}

/// `up to 60 connections (app 40, reports 20)`.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .databases
            .iter()
            .map(|(name, most)| match most {
                Some(most) => format!("{name} {most}"),
                None => format!("{name} without a bound"),
            })
            .collect();
        match self.total() {
            Some(total) => write!(f, "up to {total} connections ({})", parts.join(", ")),
            None => write!(f, "any number of connections ({})", parts.join(", ")),
        }
    }
}

impl Capacity {
    /// Connections that this instance may open.
    pub fn usable(&self) -> u64 {
        let taken = self.reserved.saturating_add(self.others);
        let free = self.max_connections.saturating_sub(taken);
        let part = f64::from(free) * self.share.clamp(0.0, 1.0);
        (part / f64::from(self.instances.max(1))) as u64
    }
}

/// Connections that a pool may open, reserve included; `None`: no bound.
fn pool_most(pool: &PoolConfig) -> Option<u64> {
    let reserve = match pool.reserve_pool_timeout {
        Some(_) => pool.reserve_pool_size,
        None => 0,
    };
    let size = (pool.pool_size != 0).then(|| u64::from(pool.pool_size) + u64::from(reserve));
    match (pool.max_user_connections, size) {
        (0, size) => size,
        (bound, None) => Some(bound.into()),
        (bound, Some(size)) => Some(size.min(bound.into())),
    }
}
