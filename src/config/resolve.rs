//! What holds for one pool or client: user, database and global settings laid
//! over each other, in this order of precedence.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::CONSOLE;
use super::choice::{HostRole, LoadBalance, Reads, SessionFeatures, SslMode};
use super::load::{Config, Source};
use super::objects::DatabaseConfig;
use super::pool_config::{
    AuthQuery, AutoDatabase, EjectTime, Host, HostTerms, LocalSockets, PoolConfig, PoolMode,
    Routing, ServerTls, TcpConfig,
};
use super::rules::RuleEntry;
use super::settings::Settings;
use super::value::Timeout;

/// The database for names that are not listed.
const FALLBACK: &str = "*";

const DEFAULT_PORT: u16 = 5432;

impl Config {
    /// The definition for a database name, that of `*` for names that are not
    /// listed. `None`: no such database (the console's names are none).
    pub fn database(&self, name: &str) -> Option<&DatabaseConfig> {
        if CONSOLE.contains(&name) {
            return None;
        }
        let listed = self.databases.get(name);
        listed.or_else(|| self.databases.get(FALLBACK))
    }

    /// Whether a database exists only by `*`.
    pub fn is_auto_database(&self, name: &str) -> bool {
        self.database(name).is_some() && (name == FALLBACK || !self.databases.contains_key(name))
    }

    /// The user whose pool serves this client: the database's forced user or
    /// the client's own. `None`: no such database.
    pub fn pool_user<'a>(&'a self, database: &str, login: &'a str) -> Option<&'a str> {
        Some(self.database(database)?.user.as_deref().unwrap_or(login))
    }

    /// Client connections of a database; 0: no limit.
    pub fn max_db_client_connections(&self, database: &str) -> u32 {
        self.database(database)
            .and_then(|database| database.max_db_client_connections)
            .unwrap_or(self.general.max_db_client_connections)
    }

    /// Client connections of a user, by the name it has logged in with; 0: no
    /// limit.
    pub fn max_user_client_connections(&self, login: &str) -> u32 {
        self.users
            .get(login)
            .and_then(|user| user.max_user_client_connections)
            .unwrap_or(self.general.max_user_client_connections)
    }

    /// How long a user may be idle outside of transactions, by the name it has
    /// logged in with.
    pub fn client_idle_timeout(&self, login: &str) -> Option<Duration> {
        let user = self.users.get(login);
        limit(
            user.and_then(|user| user.client_idle_timeout),
            self.general.client_idle_timeout,
        )
    }

    /// The `query_wait_timeout` of a user alone, by the name it has logged in with;
    /// `Some(None)`: it is off.
    pub fn query_wait_timeout(&self, login: &str) -> Option<Option<Duration>> {
        let Timeout(wait) = self.users.get(login)?.query_wait_timeout?;
        Some(wait)
    }

    /// Everything about the pool of `database` for clients that have logged in
    /// as `login`. `None`: no such database.
    pub fn pool(&self, database: &str, login: &str) -> Option<PoolConfig> {
        self.pool_as(database, self.pool_user(database, login)?)
    }

    /// The same for `pool_user`, even if the database forces another user on its
    /// clients.
    pub fn pool_as(&self, database: &str, pool_user: &str) -> Option<PoolConfig> {
        let general = &self.general;
        let db = self.database(database)?;
        let forced_user = db.user.as_deref() == Some(pool_user);
        let user = self.users.get(pool_user).cloned().unwrap_or_default();
        let pool_mode = user.pool_mode.or(db.pool_mode).unwrap_or(general.pool_mode);
        let pool_size = user
            .pool_size
            .or(db.pool_size)
            .unwrap_or(general.default_pool_size);
        let hosts = db.hosts(&general.unix_socket_dir);
        // It is the user who has logged in whose own limit holds.
        let waits = user.query_wait_timeout.filter(|_| !forced_user);
        let waits = waits.or(db.query_wait_timeout);
        Some(PoolConfig {
            source: self.source,
            database: Arc::from(database),
            user: Arc::from(pool_user),
            host: None,
            routing: (db.route_reads && pool_mode != PoolMode::Session).then(|| Routing {
                reads: user.reads.or(db.reads).unwrap_or(Reads::Replica),
                rules: db.rules(pool_user),
                consistency: db.read_consistency.unwrap_or(general.read_consistency),
                balance: general.balance_reads,
                without_replica: general.reads_without_replica,
                max_lag: general.replica_max_lag.0,
                max_lag_bytes: Some(general.replica_max_lag_bytes).filter(|&bytes| bytes > 0),
                eject_time: EjectTime {
                    first: general.replica_eject_time,
                    longest: general.replica_eject_time_max,
                },
                replica_pool_size: db.replica_pool_size.unwrap_or(pool_size),
                hosts: db.host_terms(hosts.len()),
                check_period: general.host_check_period,
                check_timeout: general.host_check_timeout,
            }),
            hosts,
            local_sockets: self.local_sockets(db),
            server_tls: db.server_tls(general),
            load_balance_hosts: db.load_balance_hosts != Some(LoadBalance::Disable),
            dbname: db.dbname.clone().unwrap_or_else(|| database.to_owned()),
            password: db.password.clone().filter(|_| forced_user),
            pool_mode,
            session_features: user
                .session_features
                .or(db.session_features)
                .or(general.session_features)
                .unwrap_or(match self.source {
                    Source::Ini => SessionFeatures::Ignore,
                    Source::Toml | Source::CommandLine => SessionFeatures::Pin,
                }),
            pin_sequences: db.pin_sequences.unwrap_or(general.pin_sequences),
            max_pinned_connections: match db
                .max_pinned_connections
                .unwrap_or(general.max_pinned_connections)
            {
                0 if pool_size == 0 => u32::MAX,
                0 => (pool_size - 1).max(1),
                most => most,
            },
            pool_size,
            min_pool_size: db.min_pool_size.unwrap_or(general.min_pool_size),
            forced_user,
            reserve_pool_size: user
                .reserve_pool_size
                .or(db.reserve_pool_size)
                .unwrap_or(general.reserve_pool_size),
            reserve_pool_timeout: general.reserve_pool_timeout.0,
            max_db_connections: db.max_db_connections.unwrap_or(general.max_db_connections),
            max_user_connections: user
                .max_user_connections
                .unwrap_or(general.max_user_connections),
            server_round_robin: general.server_round_robin,
            server_lifetime: Some(db.server_lifetime.unwrap_or(general.server_lifetime)),
            server_idle_timeout: general.server_idle_timeout.0,
            pool_idle_timeout: general.pool_idle_timeout.0,
            auto_database: self.is_auto_database(database).then_some(AutoDatabase {
                idle_timeout: general.autodb_idle_timeout.0,
            }),
            server_max_queries: general.server_max_queries,
            server_connect_timeout: general.server_connect_timeout.0,
            server_login_retry: general.server_login_retry,
            server_check_query: check_query(&general.server_check_query),
            server_check_delay: general.server_check_delay,
            server_reset_query: general.server_reset_query.clone(),
            server_reset_query_always: general.server_reset_query_always,
            server_fast_close: general.server_fast_close,
            connect_query: db.connect_query.clone(),
            query_wait_timeout: waits.map_or(general.query_wait_timeout.0, |Timeout(wait)| wait),
            query_wait_notify: general.query_wait_notify.0,
            query_timeout: limit(user.query_timeout, general.query_timeout),
            idle_transaction_timeout: limit(
                user.idle_transaction_timeout,
                general.idle_transaction_timeout,
            ),
            transaction_timeout: limit(user.transaction_timeout, general.transaction_timeout),
            cancel_wait_timeout: general.cancel_wait_timeout.0,
            max_prepared_statements: general.max_prepared_statements as usize,
            startup: db.startup(),
            tcp: self.tcp(),
            log_connections: general.log_connections,
            log_disconnections: general.log_disconnections,
        })
    }

    /// How clients of `database` are looked up who have no secret here; `None`:
    /// they are not. The console has a database's name, too.
    pub fn auth_query(&self, database: &str) -> Option<AuthQuery<'_>> {
        let general = &self.general;
        let db = self.database(database);
        let own = |value: fn(&DatabaseConfig) -> &Option<String>| value(db?).as_deref();
        Some(AuthQuery {
            user: own(|db| &db.auth_user).or(general.auth_user.as_deref())?,
            query: own(|db| &db.auth_query).unwrap_or(&general.auth_query),
            database: own(|db| &db.auth_dbname).or(general.auth_dbname.as_deref()),
        })
    }

    /// Whether somebody is looked up by this user.
    pub fn is_auth_user(&self, user: &str) -> bool {
        let of_databases = self.databases.values().map(|db| &db.auth_user);
        let mut all = of_databases.chain([&self.general.auth_user]);
        all.any(|auth_user| auth_user.as_deref() == Some(user))
    }

    /// How long an answer of `auth_query` is used, with the default for this kind
    /// of file.
    pub fn auth_query_cache_ttl(&self) -> Duration {
        match (self.general.auth_query_cache_ttl, self.source) {
            (Some(Timeout(ttl)), _) => ttl.unwrap_or_default(),
            (None, Source::Ini) => Duration::ZERO,
            (None, Source::Toml | Source::CommandLine) => Duration::from_secs(2),
        }
    }

    /// Unix sockets are never encrypted: not where TLS is demanded.
    fn local_sockets(&self, db: &DatabaseConfig) -> Option<LocalSockets> {
        let general = &self.general;
        let wanted = general.prefer_unix_socket && !general.unix_socket_dir.is_empty();
        let demands_tls = db.server_tls(general).sslmode >= SslMode::Require;
        (wanted && !demands_tls).then(|| LocalSockets {
            dir: general.unix_socket_dir.clone(),
            own_port: general.listen_port,
        })
    }

    /// Where this peer is, and how many connections to it there may be (0: any
    /// number). `None`: no such peer.
    pub fn peer(&self, id: u32) -> Option<(Host, u32)> {
        let peer = self.peers.get(&id)?;
        let pool_size = peer.pool_size.unwrap_or(self.general.default_pool_size);
        Some((host(peer.host.as_deref()?, peer.port), pool_size))
    }

    /// TLS towards servers, in all the ways that the databases want it.
    pub fn all_server_tls(&self) -> BTreeSet<ServerTls> {
        let databases = self.databases.values();
        databases.map(|db| db.server_tls(&self.general)).collect()
    }

    /// TCP options, for connections to servers and to clients alike.
    pub fn tcp(&self) -> TcpConfig {
        let general = &self.general;
        let user_timeout = general.tcp_user_timeout.0;
        TcpConfig {
            keepalive: general.tcp_keepalive,
            keepcnt: general.tcp_keepcnt,
            keepidle: general.tcp_keepidle.0,
            keepintvl: general.tcp_keepintvl.0,
            user_timeout: (!user_timeout.is_zero()).then_some(user_timeout),
            socket_buffer: general.tcp_socket_buffer,
        }
    }
}

impl ServerTls {
    /// What holds for databases that say nothing else.
    pub fn usual(general: &Settings) -> ServerTls {
        ServerTls {
            sslmode: general.server_tls_sslmode,
            ca_file: general.server_tls_ca_file.clone(),
            key_file: general.server_tls_key_file.clone(),
            cert_file: general.server_tls_cert_file.clone(),
        }
    }
}

impl DatabaseConfig {
    /// TLS towards its servers.
    pub fn server_tls(&self, general: &Settings) -> ServerTls {
        let usual = ServerTls::usual(general);
        let file = |own: &Option<PathBuf>, usual| own.clone().or(usual);
        ServerTls {
            sslmode: self.server_tls_sslmode.unwrap_or(usual.sslmode),
            ca_file: file(&self.server_tls_ca_file, usual.ca_file),
            key_file: file(&self.server_tls_key_file, usual.key_file),
            cert_file: file(&self.server_tls_cert_file, usual.cert_file),
        }
    }

    /// The servers; without any, the Unix socket in `socket_dir`.
    pub fn hosts(&self, socket_dir: &str) -> Vec<Host> {
        if let Some(entries) = &self.hosts {
            let hosts = entries.iter().map(|entry| host(&entry.host, entry.port));
            return hosts.collect();
        }
        let port = self.port.unwrap_or(DEFAULT_PORT);
        match &self.host {
            Some(names) => names.iter().map(|name| host(name, port)).collect(),
            None => vec![host(socket_dir, port)],
        }
    }

    /// The rules for a user.
    fn rules(&self, user: &str) -> Vec<RuleEntry> {
        let all = self.rules.iter().flatten();
        all.filter(|rule| rule.user.as_deref().is_none_or(|of| of == user))
            .cloned()
            .collect()
    }

    /// What is demanded of each of `count` servers.
    fn host_terms(&self, count: usize) -> Vec<HostTerms> {
        let terms = |weight, role| HostTerms { weight, role };
        match &self.hosts {
            Some(entries) => entries.iter().map(|e| terms(e.weight, e.role)).collect(),
            None => vec![terms(1, HostRole::Auto); count],
        }
    }

    /// The servers' names as SHOW DATABASES has them, with commas between; `None`
    /// for the default Unix socket.
    pub fn host_list(&self) -> Option<String> {
        if let Some(entries) = &self.hosts {
            let names: Vec<&str> = entries.iter().map(|entry| &*entry.host).collect();
            return Some(names.join(","));
        }
        Some(self.host.as_ref()?.join(","))
    }

    /// The port of the first server.
    pub fn first_port(&self) -> u16 {
        let first = self.hosts.as_ref().and_then(|entries| entries.first());
        first.map_or(self.port.unwrap_or(DEFAULT_PORT), |entry| entry.port)
    }

    fn startup(&self) -> Vec<(String, String)> {
        [
            ("client_encoding", &self.client_encoding),
            ("datestyle", &self.datestyle),
            ("timezone", &self.timezone),
            ("application_name", &self.application_name),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
        .collect()
    }
}

/// As in PgBouncer, 0 for a user means that nothing is set for it.
fn limit(user: Option<Timeout>, general: Timeout) -> Option<Duration> {
    user.and_then(|Timeout(limit)| limit).or(general.0)
}

fn host(name: &str, port: u16) -> Host {
    let name = name.to_owned();
    match name.starts_with(['/', '@']) {
        true => Host::Unix { dir: name, port },
        false => Host::Tcp { host: name, port },
    }
}

fn check_query(setting: &str) -> Option<String> {
    match setting {
        "" => None,
        "<empty>" => Some(String::new()),
        query => Some(query.to_owned()),
    }
}
