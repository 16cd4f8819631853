//! What the console shows beside the workers' [`Snapshot`]: the configuration
//! in force and the averages. Whoever starts a console says how to get one.
//!
//! [`Snapshot`]: crate::admin::snapshot::Snapshot

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::PoolMode;
use crate::stats::Averages;

/// The console's view of one moment.
#[derive(Clone, Debug)]
pub struct ConsoleView {
    /// When the view was taken; averages reach up to here.
    pub now: Instant,
    /// The port that SHOW DATABASES gives for the console itself.
    pub listen_port: u16,
    pub state: PoolerState,
    /// Configured databases, without the console's own.
    pub databases: Vec<DatabaseRow>,
    /// Known users, without the console's own.
    pub users: Vec<UserRow>,
    /// Every setting, in the order of SHOW CONFIG.
    pub config: Vec<ConfigRow>,
    pub averages: Arc<Averages>,
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

/// A setting; secrets must come masked.
#[derive(Clone, Debug)]
pub struct ConfigRow {
    pub key: String,
    /// `None` while it has neither a value nor a default.
    pub value: Option<String>,
    pub default: Option<String>,
    /// Whether a reload applies a change.
    pub changeable: bool,
}
