//! What the console shows beside the workers' [`Snapshot`]: the configuration
//! in force and the averages. Whoever starts a console says how to get one.
//!
//! [`Snapshot`]: crate::admin::snapshot::Snapshot

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::snapshot::{ClientState, MemoryRow, Snapshot};
use crate::auth::{Secret, UserList};
use crate::config::{
    Choice, Config, DatabaseConfig, LoadBalance, PeerConfig, PoolMode, Settings, Table, UserConfig,
};
use crate::net::dns::DnsHost;
use crate::stats::Averages;
use crate::worker::Gates;

/// The console's view of one moment.
#[derive(Clone, Debug)]
pub struct ConsoleView {
    /// When the view was taken; averages reach up to here.
    pub now: Instant,
    /// The console itself, with the limits that hold for all others.
    pub console: (DatabaseRow, UserRow),
    pub state: PoolerState,
    /// Configured databases and those that `*` has made (or an operator has
    /// stopped), without the console's
    /// own.
    pub databases: Vec<DatabaseRow>,
    /// Known users, without the console's own.
    pub users: Vec<UserRow>,
    /// What the configuration holds in memory.
    pub memory: Vec<MemoryRow>,
    /// Names of servers that were looked up, in order; how many are being so now.
    pub names: Vec<DnsHost>,
    pub lookups: usize,
    /// Every setting, in the order of SHOW CONFIG.
    pub config: Vec<ConfigRow>,
    pub averages: Arc<Averages>,
    /// What clients connect to; none when nobody can any more.
    pub listeners: Vec<ListenerRow>,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    pub fd: i32,
    /// `unix` for a Unix socket.
    pub addr: String,
    pub port: u16,
}

/// What SHOW STATE says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolerState {
    Active,
    /// Server connections are closed as they are released (also while
    /// SHUTDOWN WAIT_FOR_SERVERS waits).
    Paused,
    Suspended,
}

/// A database of the configuration. `None` where the definition is silent and
/// PgBouncer shows nothing; limits of 0 mean "no limit".
#[derive(Clone, Debug)]
pub struct DatabaseRow {
    pub name: String,
    /// As written, a comma-separated list where there are several; `None` for
    /// the default Unix socket.
    pub host: Option<String>,
    pub port: u16,
    /// The database's name on the server.
    pub database: String,
    pub force_user: Option<String>,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub server_lifetime: Duration,
    pub pool_mode: Option<PoolMode>,
    /// `round-robin` or `disable`; `None` with a single host.
    pub load_balance_hosts: Option<&'static str>,
    pub max_connections: u32,
    pub max_client_connections: u32,
    pub paused: bool,
    pub disabled: bool,
}

/// A user of the configuration or of the user list.
#[derive(Clone, Debug, Default)]
pub struct UserRow {
    pub name: String,
    pub pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub pool_mode: Option<PoolMode>,
    pub max_user_connections: u32,
    pub max_user_client_connections: u32,
}

/// A setting. What is unset is empty; secrets come masked.
#[derive(Clone, Debug)]
pub struct ConfigRow {
    pub key: &'static str,
    pub value: String,
    pub default: String,
    /// Whether a reload applies a change.
    pub changeable: bool,
}

impl ConsoleView {
    /// The view of a configuration, without memory, names and listening sockets. `users` is who may log in; `snapshot` tells
    /// which databases `*` has made.
    pub fn new(
        now: Instant,
        config: &Config,
        users: &UserList,
        snapshot: &Snapshot,
        (state, gates): (PoolerState, &Gates),
        averages: Arc<Averages>,
    ) -> Self {
        ConsoleView {
            now,
            console: console(&config.general),
            state,
            databases: databases(config, snapshot, gates),
            users: user_rows(config, users, snapshot),
            memory: memory(config, users),
            names: Vec::new(),
            lookups: 0,
            config: settings(&config.general),
            averages,
            listeners: Vec::new(),
        }
    }
}

/// It has no server connections. `pool_size` 2 is what PgBouncer says of its own.
pub(super) fn console(general: &Settings) -> (DatabaseRow, UserRow) {
    let name = super::show::CONSOLE.to_owned();
    let user = UserRow {
        name: name.clone(),
        max_user_connections: general.max_user_connections,
        max_user_client_connections: general.max_user_client_connections,
        ..UserRow::default()
    };
    let database = DatabaseRow {
        name: name.clone(),
        host: None,
        port: general.listen_port,
        database: name.clone(),
        force_user: Some(name),
        pool_size: 2,
        min_pool_size: 0,
        reserve_pool_size: 0,
        server_lifetime: general.server_lifetime,
        pool_mode: Some(PoolMode::Statement),
        load_balance_hosts: None,
        max_connections: general.max_db_connections,
        max_client_connections: general.max_db_client_connections,
        paused: false,
        disabled: false,
    };
    (database, user)
}

fn databases(config: &Config, snapshot: &Snapshot, gates: &Gates) -> Vec<DatabaseRow> {
    let listed = config.databases.keys().map(String::as_str);
    let in_use = snapshot.pools.iter().map(|pool| pool.database.as_str());
    // `*` itself is none: its definition shows once somebody uses it.
    let stopped = gates.paused.iter().chain(&gates.disabled);
    // It is still there for some time without pools.
    let past = snapshot.past.iter().map(|(name, _)| name.as_str());
    let auto = past.filter(|name| config.is_auto_database(name));
    let names = listed
        .chain(in_use)
        .chain(auto)
        .chain(stopped.map(String::as_str));
    let names: BTreeSet<&str> = names.filter(|name| *name != "*").collect();
    names
        .into_iter()
        .filter_map(|name| {
            Some(DatabaseRow {
                paused: gates.paused.contains(name),
                disabled: gates.disabled.contains(name),
                ..database_row(name, config.database(name)?, &config.general)
            })
        })
        .collect()
}

fn database_row(name: &str, database: &DatabaseConfig, general: &Settings) -> DatabaseRow {
    let host = database.host_list();
    let several = host.as_ref().is_some_and(|hosts| hosts.contains(','));
    let balance = database
        .load_balance_hosts
        .unwrap_or(LoadBalance::RoundRobin);
    DatabaseRow {
        name: name.to_owned(),
        host,
        port: database.first_port(),
        database: database.dbname.clone().unwrap_or_else(|| name.to_owned()),
        force_user: database.user.clone(),
        pool_size: database.pool_size.unwrap_or(general.default_pool_size),
        min_pool_size: database.min_pool_size.unwrap_or(general.min_pool_size),
        reserve_pool_size: database
            .reserve_pool_size
            .unwrap_or(general.reserve_pool_size),
        server_lifetime: database.server_lifetime.unwrap_or(general.server_lifetime),
        pool_mode: database.pool_mode,
        load_balance_hosts: several.then(|| balance.word()),
        max_connections: database
            .max_db_connections
            .unwrap_or(general.max_db_connections),
        max_client_connections: database
            .max_db_client_connections
            .unwrap_or(general.max_db_client_connections),
        paused: false,
        disabled: false,
    }
}

fn user_rows(config: &Config, users: &UserList, snapshot: &Snapshot) -> Vec<UserRow> {
    let listed = users.iter().map(|(name, _)| name);
    let configured = config.users.keys().map(String::as_str);
    // Those that were looked up: somebody is there, or was, and has left a pool.
    let looked_up = |database: &str| config.auth_query(database).is_some();
    let clients = snapshot.clients.iter().filter(|c| looked_up(&c.database));
    let clients = clients.filter(|c| c.state != ClientState::Login);
    let pools = snapshot.pools.iter().filter(|p| looked_up(&p.database));
    let found = clients.map(|c| c.user.as_str());
    let found = found.chain(pools.map(|pool| pool.user.as_str()));
    let names: BTreeSet<&str> = listed.chain(configured).chain(found).collect();
    names
        .into_iter()
        .map(|name| {
            let user = config.users.get(name);
            UserRow {
                name: name.to_owned(),
                pool_size: user.and_then(|user| user.pool_size),
                reserve_pool_size: user.and_then(|user| user.reserve_pool_size),
                pool_mode: user.and_then(|user| user.pool_mode),
                max_user_connections: user
                    .and_then(|user| user.max_user_connections)
                    .unwrap_or(config.general.max_user_connections),
                max_user_client_connections: config.max_user_client_connections(name),
            }
        })
        .collect()
}

/// Without the texts in them, and what the process takes from the system.
fn memory(config: &Config, users: &UserList) -> Vec<MemoryRow> {
    let listed = users.iter().count();
    let databases = config.databases.len();
    vec![
        MemoryRow::uniform("db_cache", size_of::<DatabaseConfig>(), databases),
        MemoryRow::uniform("user_cache", size_of::<UserConfig>(), config.users.len()),
        MemoryRow::uniform("credentials_cache", size_of::<Secret>(), listed),
        MemoryRow::uniform("peer_cache", size_of::<PeerConfig>(), config.peers.len()),
    ]
}

fn settings(settings: &Settings) -> Vec<ConfigRow> {
    let defaults = Settings::default();
    let mut rows: Vec<_> = Settings::KEYS
        .iter()
        .map(|key| ConfigRow {
            key: key.name,
            value: (key.get)(settings).unwrap_or_default(),
            default: (key.get)(&defaults).unwrap_or_default(),
            changeable: key.reloadable,
        })
        .collect();
    rows.sort_by_key(|row| row.key);
    rows
}

#[cfg(test)]
mod tests;
