//! What holds for one pool after user, database and global settings have been
//! laid over each other (in this order of precedence).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Masked;

/// When a server connection goes back to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    Transaction,
    /// When the statement ends; transaction blocks are refused.
    Statement,
}

impl PoolMode {
    /// PgBouncer's word for the mode.
    pub fn as_str(self) -> &'static str {
        match self {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        }
    }
}

/// Where a PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an IP address.
    Tcp { host: String, port: u16 },
    /// A directory (`/var/run/postgresql`) or an abstract name (`@pg`); the
    /// socket is `<dir>/.s.PGSQL.<port>`.
    Unix { dir: String, port: u16 },
}

/// `db1:5432`, `[::1]:5432`, `/tmp/.s.PGSQL.5432`.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Host::Tcp { host, port } => write!(f, "{host}:{port}"),
            Host::Unix { dir, port } => write!(f, "{dir}/.s.PGSQL.{port}"),
        }
    }
}

/// Everything a pool (database, user) needs to know. A limit of 0 means "no
/// limit", a timeout of `None` means "off".
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// The database's name on pgweir's side.
    pub database: Arc<str>,
    /// The user whose pool this is (the forced user where there is one).
    pub user: Arc<str>,
    pub hosts: Vec<Host>,
    /// `load_balance_hosts=round-robin` (true) or `disable` (stay with a host
    /// until it fails).
    pub load_balance_hosts: bool,
    /// The database's name on the server.
    pub dbname: String,
    /// A password from the database's definition; overrides what the user list
    /// says.
    pub password: Option<Masked>,
    pub pool_mode: PoolMode,
    pub pool_size: u32,
    pub min_pool_size: u32,
    /// Whether the database forces its user: with one, `min_pool_size` is kept
    /// even while no client is connected.
    pub forced_user: bool,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Option<Duration>,
    pub max_db_connections: u32,
    pub max_user_connections: u32,
    pub server_round_robin: bool,
    /// `None`: no bound. Zero: each server connection serves one client only.
    pub server_lifetime: Option<Duration>,
    pub server_idle_timeout: Option<Duration>,
    /// Retire a server connection after so many queries; 0 = never.
    pub server_max_queries: u64,
    pub server_connect_timeout: Option<Duration>,
    pub server_login_retry: Duration,
    /// `None`: do not check. `Some("")`: an empty query.
    pub server_check_query: Option<String>,
    pub server_check_delay: Duration,
    /// Empty: do not reset.
    pub server_reset_query: String,
    pub server_reset_query_always: bool,
    pub connect_query: Option<String>,
    pub query_wait_timeout: Option<Duration>,
    /// Bounds cleaning up after a client that vanished, and cancel requests.
    pub cancel_wait_timeout: Option<Duration>,
    /// Named statements that a server connection keeps; 0 = not followed.
    pub max_prepared_statements: usize,
    /// Startup parameters that the database definition fixes for the server
    /// (`client_encoding`, `datestyle`, `timezone`, `application_name`).
    pub startup: Vec<(String, String)>,
    /// TCP options for connections to the server.
    pub tcp: TcpConfig,
}

/// Socket options, as in PgBouncer's `tcp_*` settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpConfig {
    pub keepalive: bool,
    /// Probes before the connection is dropped; 0 = the system's default.
    pub keepcnt: u32,
    pub keepidle: Option<Duration>,
    pub keepintvl: Option<Duration>,
    pub user_timeout: Option<Duration>,
    /// SO_SNDBUF and SO_RCVBUF in bytes; 0 = the system's default.
    pub socket_buffer: u32,
}
