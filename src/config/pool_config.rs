//! What holds for one pool after user, database and global settings have been
//! laid over each other (in this order of precedence).

use core::net::IpAddr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Source;
use super::choice::{
    BalanceReads, HostRole, ReadConsistency, Reads, SessionFeatures, SslMode, WithoutReplica,
};
use super::rules::RuleEntry;
use crate::auth::Masked;
use crate::pool::PoolName;

/// When a server connection goes back to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// How connections to a server are encrypted, and what is shown to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerTls {
    pub sslmode: SslMode,
    pub ca_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
}

/// Unix sockets that are preferred to TCP for servers on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSockets {
    pub dir: String,
    /// The port whose socket there is pgweir's own.
    pub own_port: u16,
}

impl LocalSockets {
    /// The socket of a server that is on this machine by its name or address.
    pub fn of(&self, host: &Host) -> Option<Host> {
        match host {
            Host::Tcp { host, port } if is_loopback(host) && *port != self.own_port => {
                Some(Host::Unix {
                    dir: self.dir.clone(),
                    port: *port,
                })
            }
            _ => None,
        }
    }

    /// Whether a socket that a process of `user` listens on is the server's, as
    /// far as users tell: in a directory such as /tmp anybody can have one.
    pub fn trusts(user: u32, own_user: u32, owner_of_dir: Option<u32>) -> bool {
        user == 0 || user == own_user || Some(user) == owner_of_dir
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A database that exists only by `*`, and when it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoDatabase {
    pub idle_timeout: Option<Duration>,
}

/// How users are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthQuery<'a> {
    /// Who asks.
    pub user: &'a str,
    pub query: &'a str,
    /// Where; `None`: in the database that the client wants.
    pub database: Option<&'a str>,
}

/// Everything a pool (database, user) needs to know. A limit of 0 means "no
/// limit", a timeout of `None` means "off".
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// What the configuration was read from.
    pub source: Source,
    /// The database's name on pgweir's side.
    pub database: Arc<str>,
    /// The user whose pool this is (the forced user where there is one).
    pub user: Arc<str>,
    /// The only one of `hosts`, if each has a pool of its own (`route_reads`).
    pub host: Option<Arc<str>>,
    /// How statements are spread over the hosts. `None`: they are not.
    pub routing: Option<Routing>,
    pub hosts: Vec<Host>,
    pub server_tls: ServerTls,
    /// `prefer_unix_socket`, where it has a meaning.
    pub local_sockets: Option<LocalSockets>,
    /// `load_balance_hosts=round-robin` (true) or `disable` (stay with a host
    /// until it fails).
    pub load_balance_hosts: bool,
    /// The database's name on the server.
    pub dbname: String,
    /// A password from the database's definition; overrides what the user list
    /// says.
    pub password: Option<Masked>,
    pub pool_mode: PoolMode,
    pub session_features: SessionFeatures,
    pub max_pinned_connections: u32,
    pub pin_sequences: bool,
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
    /// When an empty pool is forgotten.
    pub pool_idle_timeout: Option<Duration>,
    /// Of a database that exists only by `*`: when it is forgotten if all its
    /// pools are empty.
    pub auto_database: Option<AutoDatabase>,
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
    /// Sessions do not keep a connection that is out of date.
    pub server_fast_close: bool,
    pub connect_query: Option<String>,
    pub query_wait_timeout: Option<Duration>,
    /// When a client that waits is told so.
    pub query_wait_notify: Option<Duration>,
    pub query_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
    /// Bounds cleaning up after a client that vanished, and cancel requests.
    pub cancel_wait_timeout: Option<Duration>,
    /// Named statements that a server connection keeps; 0 = not followed.
    pub max_prepared_statements: usize,
    /// Startup parameters that the database definition fixes for the server
    /// (`client_encoding`, `datestyle`, `timezone`, `application_name`).
    pub startup: Vec<(String, String)>,
    /// TCP options for connections to the server.
    pub tcp: TcpConfig,
    /// Whether the log has a line when a connection begins and ends.
    pub log_connections: bool,
    pub log_disconnections: bool,
}

impl PoolConfig {
    /// What tells its pool from others.
    pub fn name(&self) -> PoolName {
        PoolName {
            database: self.database.clone(),
            user: self.user.clone(),
            host: self.host.clone(),
        }
    }

    /// What connections to the server are opened with, to be compared with that of
    /// another process. A password is not told.
    pub fn server_terms(&self) -> String {
        let place = (&self.hosts, &self.local_sockets, &self.server_tls);
        let session = (&self.dbname, &self.user, &self.startup, &self.connect_query);
        format!("{:?}", (place, session))
    }

    /// How long a client waits for a connection with this `query_wait_timeout`: a
    /// query that waits does not run, but takes its time.
    pub fn longest_wait(&self, wait: Option<Duration>) -> Option<Duration> {
        [self.query_timeout, wait].into_iter().flatten().min()
    }

    /// The same for one of the hosts alone.
    pub fn of_host(&self, host: &Host) -> PoolConfig {
        PoolConfig {
            host: Some(Arc::from(host.to_string())),
            hosts: vec![host.clone()],
            ..self.clone()
        }
    }
}

/// What statements that only read may expect.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub reads: Reads,
    /// Those for this user; the first that fits goes before `reads`.
    pub rules: Vec<RuleEntry>,
    pub consistency: ReadConsistency,
    pub balance: BalanceReads,
    pub without_replica: WithoutReplica,
    /// A replica that is further behind gets none. `None`: no bound.
    pub max_lag: Option<Duration>,
    /// The same in bytes of WAL.
    pub max_lag_bytes: Option<u64>,
    pub eject_time: EjectTime,
    /// Size of a replica's pool.
    pub replica_pool_size: u32,
    /// In the order of the hosts.
    pub hosts: Vec<HostTerms>,
    pub check_period: Duration,
    pub check_timeout: Duration,
}

/// What is demanded of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostTerms {
    /// Its share of the reads.
    pub weight: u32,
    /// What it may be.
    pub role: HostRole,
}

/// For how long a replica that fails gets no reads: at first, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectTime {
    pub first: Duration,
    pub longest: Duration,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Host {
        let host = host.to_owned();
        Host::Tcp { host, port }
    }

    #[test]
    fn only_servers_on_this_machine_have_a_local_socket() {
        let sockets = LocalSockets {
            dir: "/run".to_owned(),
            own_port: 6432,
        };
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "::1"] {
            let socket = sockets.of(&tcp(host, 5433)).unwrap();
            assert_eq!(socket.to_string(), "/run/.s.PGSQL.5433");
        }
        for host in ["db1", "10.0.0.1", "localhost.example.com", "::2", ""] {
            assert_eq!(sockets.of(&tcp(host, 5433)), None, "{host}");
        }
        assert_eq!(sockets.of(&tcp("localhost", 6432)), None, "pgweir's own");
    }

    #[test]
    fn a_socket_of_just_anybody_is_not_trusted() {
        let trusts = |user| LocalSockets::trusts(user, 1000, Some(70));
        assert!(trusts(0) && trusts(1000) && trusts(70));
        assert!(!trusts(1001));
        assert!(!LocalSockets::trusts(70, 1000, None));
    }
}
