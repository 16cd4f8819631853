//! The table of global settings: `[pgweir]` in TOML, `[pgbouncer]` in an ini.

use std::path::PathBuf;
use std::time::Duration;

use super::choice::{
    AuthType, BalanceReads, IoUring, LogFormat, LogLevel, ReadConsistency, SessionFeatures,
    SslMode, SyslogFacility, WithoutReplica,
};
use super::key::table;
use super::ldap::LdapOptions;
use super::networks::Networks;
use super::pool_config::PoolMode;
use super::tls::{Spelled, Tls12Ciphers, Tls13Ciphers, TlsCurve, TlsVersions};
use super::value::{FileMode, Millis, Timeout};
use crate::pool::MAX_WORKERS;

const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL \
     ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

table! {
    /// Global settings; the fields are named as the keys.
    pub struct Settings {
        "Where it listens": {
            listen_addr: Vec<String> = Vec::new(), restart, built,
                "Addresses to listen on, names or IP addresses; `*` means all, and nothing means the Unix socket only.";
            listen_port: u16 = 6432, restart, built,
                "Port to listen on; also part of the Unix socket's name.";
            listen_backlog: u32 = 128, restart, built,
                "Connections that the kernel holds until they are accepted.";
            unix_socket_dir: String = "/tmp".to_owned(), restart, built,
                "Directory of the Unix socket, of this process and of servers without a host; `@name` is an abstract socket, empty turns it off.";
            prefer_unix_socket: bool = false, reload, built,
                "Reach a server whose host is `localhost`, `127.0.0.1` or `::1` through the Unix socket of its port in `unix_socket_dir`, and over TCP only if there is none. The `local` lines of its pg_hba.conf hold then. The socket must belong to root, to pgweir's own user or to the directory's owner, and `server_tls_sslmode` must not demand TLS.";
            unix_socket_mode: FileMode = FileMode(0o777), restart, built,
                "Permissions of the Unix socket.";
            unix_socket_group: Option<String> = None, restart, built,
                "Group of the Unix socket.";
            so_reuseport: bool = false, restart, built,
                "Let several processes of one user listen on the same addresses and port (`SO_REUSEPORT`): the kernel deals connections out among them. Each needs a `unix_socket_dir` (and `pidfile`, `stats_listen`) of its own, and a `peer_id`, so that cancel requests find their process.";
            peer_id: u32 = 0, restart, built,
                "Number of this process among its peers, which hand on each other's cancel requests: 1 to 16383, and 0 if there are none.";
            proxy_protocol_networks: Networks = Networks::default(), reload, built,
                "Addresses and networks of load balancers that speak the PROXY protocol, version 1 or 2. A TCP connection from there must begin with its header, and the address in that is the client's, for rules, logs and the console; what has none is refused. From elsewhere no header is accepted.";
            tcp_defer_accept: bool = true, reload, obsolete,
                "Accept a connection only when its first bytes have arrived; here a silent connection costs next to nothing.";
            tcp_socket_buffer: u32 = 0, reload, built,
                "Send and receive buffers of sockets in bytes; 0 leaves it to the system.";
            tcp_keepalive: bool = true, reload, built,
                "Send keepalive probes on idle TCP connections.";
            tcp_keepcnt: u32 = 0, reload, built,
                "Unanswered probes until a connection is dropped; 0 leaves it to the system.";
            tcp_keepidle: Timeout = Timeout(None), reload, built,
                "Silence before the first probe; 0 leaves it to the system.";
            tcp_keepintvl: Timeout = Timeout(None), reload, built,
                "Time between probes; 0 leaves it to the system.";
            tcp_user_timeout: Millis = Millis(Duration::ZERO), reload, built,
                "How long sent data may stay unacknowledged; 0 leaves it to the system.";
        }
        "The process": {
            pidfile: Option<PathBuf> = None, restart, built,
                "File that holds the process id while it runs.";
            user: Option<String> = None, restart, built,
                "Unix user to become when the TCP sockets are open; for a process that root starts. Files that are read at RELOAD must be readable for it.";
            workers: u32 = 0, restart, built,
                "Threads that serve clients, 64 at most; 0 is one per core.";
            io_uring: IoUring = IoUring::Auto, restart, built,
                "Whether what a worker has to send when those who were ready have run is one system call (Linux 5.6 and later, `io_uring(7)`), which takes less CPU the more clients there are: `auto` if the kernel allows it, `on` or pgweir does not start, `off` never: each message is a system call. The line `process up` of the log says which; from an ini only that it is not allowed is said.";
            shutdown_timeout: Timeout = Timeout::seconds(60), reload, built,
                "How long draining may take after SIGTERM or SHUTDOWN WAIT_FOR_CLIENTS; 0 waits for the last client.";
            conffile: Option<PathBuf> = None, reload, built,
                "File that the next RELOAD reads; the one that was read last unless set.";
            job_name: String = "pgbouncer".to_owned(), restart, obsolete,
                "Name of the Windows service.";
            service_name: String = "pgbouncer".to_owned(), restart, obsolete,
                "Name of the Windows service.";
            suspend_timeout: Duration = seconds(10), reload, built,
                "How long SUSPEND waits for clients to take what is to be written; then they are disconnected. 0 means that it waits for ever.";
        }
        "Pools": {
            pool_mode: PoolMode = PoolMode::Session, reload, built,
                "When a server connection goes back to its pool: when the client leaves (`session`), after each transaction or after each statement.";
            session_features: Option<SessionFeatures> = None, reload, built,
                "What becomes of statements that leave something in their session (temporary tables, advisory locks, ...), other than in session mode: the client keeps its server connection as long as it is there (`pin`), they are refused (`error`), or the next client finds it (`ignore`). With `pin` and `error` each client has its own settings, whatever SET them. Unset means `pin`, in an ini `ignore`. Holds for clients that log in from now on.";
            max_pinned_connections: u32 = 0, reload, built,
                "How many server connections of a pool clients may keep for what they have left there; statements of further ones are refused. 0 means all but one.";
            pin_sequences: bool = false, reload, built,
                "Clients keep their server connection from the first statement that may advance a sequence (`INSERT`, `COPY`, `nextval`, ...), so that `currval` and `lastval` know of it. Otherwise these two know of what comes after their first use, and of what their own transaction has done. Needs `session_features` = `pin`; holds for clients that log in from now on.";
            max_client_conn: u32 = 100, reload, built,
                "Client connections in all; further ones are refused. Each takes a file descriptor: a limit of open files that is too low is an error at start, in an ini a warning.";
            max_unauthenticated_connections: u32 = 0, reload, built,
                "Client connections that have not logged in yet; further ones are refused at once. 0 means as many as `max_client_conn`, and 1000 at least.";
            default_pool_size: u32 = 20, reload, built,
                "Server connections of a pool, one pool for each database and user; 0 means no limit.";
            min_pool_size: u32 = 0, reload, built,
                "Server connections that a pool keeps open, while it has a client or a forced user.";
            reserve_pool_size: u32 = 0, reload, built,
                "Further server connections for a pool whose clients have waited for `reserve_pool_timeout`.";
            reserve_pool_timeout: Timeout = Timeout::seconds(5), reload, built,
                "How long a client waits before the reserve is used; 0 turns the reserve off.";
            max_db_connections: u32 = 0, reload, built,
                "Server connections of a database over all its users; clients wait for one. 0 means no limit.";
            max_db_client_connections: u32 = 0, reload, built,
                "Client connections of a database; further ones are refused. 0 means no limit.";
            max_user_connections: u32 = 0, reload, built,
                "Server connections of a user over all databases; clients wait for one. 0 means no limit.";
            max_user_client_connections: u32 = 0, reload, built,
                "Client connections of a user; further ones are refused. 0 means no limit.";
            server_round_robin: bool = false, reload, built,
                "Use the server connection that has been idle longest, not the one used last.";
            autodb_idle_timeout: Timeout = Timeout::seconds(3600), reload, built,
                "How long a database that `*` has made has neither clients nor server connections until it is forgotten, and its statistics with it; 0 means never. Not with `route_reads`.";
            pool_idle_timeout: Timeout = Timeout(None), reload, built,
                "How long a pool has neither clients nor server connections until it is forgotten; 0 means never. Not with `route_reads`.";
        }
        "Replicas": {
            read_consistency: ReadConsistency = ReadConsistency::Session, reload, built,
                "Which writes a read on a replica is certain to see: those that its own client made before (`session`), all that were acknowledged through this process (`global`), or none in particular (`eventual`).";
            balance_reads: BalanceReads = BalanceReads::LeastOutstanding, reload, built,
                "Which replica gets a read: the one where the fewest are under way or wait (`least-outstanding`), one after the other (`round-robin`), or the better of two that chance picks (`random`).";
            reads_without_replica: WithoutReplica = WithoutReplica::Primary, reload, built,
                "What becomes of reads while no replica may have them: they go to the `primary`, or `fail`.";
            host_check_period: Duration = seconds(1), reload, built,
                "How often each host of a database with `route_reads` is asked for its role and its position in the WAL; 10 ms at least.";
            host_check_timeout: Duration = seconds(2), reload, built,
                "A host that takes longer to answer such a question gets no more statements.";
            replica_max_lag: Timeout = Timeout(None), reload, built,
                "A replica that is further behind the primary gets no reads; 0 means that it may be any time behind. Known as of the last check.";
            replica_max_lag_bytes: u64 = 0, reload, built,
                "A replica that has more bytes of WAL to replay gets no reads; 0 means that they may be any number.";
            replica_eject_time: Duration = seconds(1), reload, built,
                "How long a replica gets no reads after a check has failed, or no connection could be opened for a user (then no reads of this user); it is let in by the first check, or trial connection, that succeeds after this time. Twice as long each time that it fails again, unless it was in for `replica_eject_time_max` in between; up to a quarter less by chance.";
            replica_eject_time_max: Duration = seconds(60), reload, built,
                "The longest that `replica_eject_time` becomes.";
        }
        "Protocol and session state": {
            track_extra_parameters: Vec<String> = vec!["IntervalStyle".to_owned()], restart, built,
                "Further parameters that follow a client to each server connection; every parameter that the server reports does so anyway.";
            ignore_startup_parameters: Vec<String> = Vec::new(), reload, built,
                "Startup parameters that are dropped instead of being sent to the server. Of `options` an ini still takes what PgBouncer follows: `client_encoding`, `DateStyle`, `TimeZone`, `standard_conforming_strings`, `application_name` and `track_extra_parameters`.";
            max_prepared_statements: u32 = 200, reload, built,
                "Named prepared statements that a server connection keeps for clients; 0 turns their tracking off.";
            server_reset_query: String = "DISCARD ALL".to_owned(), reload, built,
                "Sent to a server connection that a client leaves, in session mode; empty sends nothing.";
            server_reset_query_always: bool = false, reload, built,
                "Send `server_reset_query` in transaction and statement mode too.";
            server_check_query: String = "<empty>".to_owned(), reload, built,
                "Sent before an idle server connection is used again; `<empty>` is an empty query, and no text at all turns the check off.";
            server_check_delay: Duration = seconds(30), reload, built,
                "How long a server connection may be idle before it is checked.";
            application_name_add_host: bool = false, reload, built,
                "Add the client's address to its application_name at login: `NAME - HOST:PORT`. What it sets later stays as it is.";
            disable_pqexec: bool = false, restart, built,
                "Refuse the simple query protocol: its text may hold several statements, which is what SQL injection uses.";
            server_fast_close: bool = false, reload, built,
                "In session mode, end sessions whose server connection is out of date (RECONNECT, or RELOAD with other servers) as soon as no transaction is open, instead of waiting for the client to leave.";
            query_wait_notify: Timeout = Timeout::seconds(5), reload, built,
                "When a client that waits for a server connection gets a notice that it does.";
            login_notify_message: Option<String> = None, reload, built,
                "Notice for each client that logs in.";
            max_packet_size: u32 = 2_147_483_647, reload, built,
                "Longest message of a client, or of a server (a row), in bytes; a longer one ends the connection. PostgreSQL's own limit is 1 GB.";
            notification_buffer: u32 = 8_388_608, reload, built,
                "Bytes of notifications that wait for a client which listens in transaction or statement mode and does not take them, or has a transaction open; with more it is disconnected.";
            pkt_buf: u32 = 4096, restart, obsolete,
                "Size of PgBouncer's buffers.";
            sbuf_loopcnt: u32 = 5, reload, obsolete,
                "How often PgBouncer reads from one socket before it turns to the next.";
        }
        "Authentication": {
            auth_type: AuthType = AuthType::Md5, reload, built,
                "How clients prove who they are: `trust`, `plain`, `md5` (SCRAM for users with a SCRAM verifier), `scram-sha-256`, `cert` (the common name of the certificate), `hba` (by the rules of `auth_hba_file`), or `any` (nobody is asked; needs databases with a forced user). `ldap` and `pam` take a password in clear text to a directory server or to this machine's PAM; see [Rules for clients](hba.md).";
            auth_file: Option<PathBuf> = None, reload, built,
                "File with a line `\"user\" \"secret\"` for each user; the secret is a password, an md5 hash or a SCRAM verifier.";
            auth_hba_file: Option<PathBuf> = None, reload, built,
                "Rules for `auth_type=hba`, in the format of pg_hba.conf; see [Rules for clients](hba.md).";
            auth_ident_file: Option<PathBuf> = None, reload, built,
                "Maps of user names for the rules' `map=`, in the format of pg_ident.conf.";
            auth_user: Option<String> = None, reload, built,
                "User that asks the server, with `auth_query`, for users who have no secret here; its own is in `auth_file`. Unset: nobody else can log in.";
            auth_query: String = AUTH_QUERY.to_owned(), reload, built,
                "Query for a user: `$1` is the name that the client gives, the answer one row with the user's name on the server and its secret. No row: there is no such user; NULL: nobody can log in as this user.";
            auth_dbname: Option<String> = None, reload, built,
                "Database in which `auth_query` runs; unset means the one that the client asks for.";
            auth_query_cache_size: u32 = 1000, reload, built,
                "So many answers of `auth_query` are kept; 0 keeps none.";
            auth_query_cache_ttl: Option<Timeout> = None, reload, built,
                "How long an answer is used; 0 means that every login asks anew, unset means 2 s, and 0 in an ini. After a change an old password works for that long, and a new one is asked for again (with SCRAM the client has to try again). RELOAD and RECONNECT forget all answers.";
            auth_ldap_options: Option<LdapOptions> = None, reload, built,
                "Options for auth_type=ldap, as pg_hba.conf has them: `ldapserver=... ldapbasedn=\"dc=example, dc=net\"`, or `ldapurl=...`.";
            scram_iterations: u32 = 4096, reload, built,
                "Iterations for SCRAM verifiers that are made from plain passwords.";
            admin_users: Vec<String> = Vec::new(), reload, built,
                "Users that may run every command on the console.";
            stats_users: Vec<String> = Vec::new(), reload, built,
                "Users that may run SHOW commands on the console.";
        }
        "Time limits": {
            server_lifetime: Duration = seconds(3600), reload, built,
                "An unused server connection that is older is closed; 0 means that each serves one client only. Those of a pool that were opened together are closed one by one, `server_lifetime / pool_size` apart.";
            server_idle_timeout: Timeout = Timeout::seconds(600), reload, built,
                "A server connection that has been idle for longer is closed.";
            server_max_queries: u64 = 0, reload, built,
                "A server connection is closed after so many queries, when it is free; 0 means never.";
            server_connect_timeout: Timeout = Timeout::seconds(15), reload, built,
                "Limit for connecting and logging in to a server.";
            server_login_retry: Duration = seconds(15), reload, built,
                "Pause after a failed login to a server; meanwhile new clients get the error at once.";
            client_login_timeout: Timeout = Timeout::seconds(60), reload, built,
                "Limit for a client's login.";
            query_wait_timeout: Timeout = Timeout::seconds(120), reload, built,
                "How long a client waits for a server connection before it is disconnected.";
            cancel_wait_timeout: Timeout = Timeout::seconds(10), reload, built,
                "Limit for a cancel request, and for cleaning up after a client that vanished.";
            query_timeout: Timeout = Timeout(None), reload, built,
                "Longest time that a query may run on a server, or wait for one; then client and server connection are closed.";
            client_idle_timeout: Timeout = Timeout(None), reload, built,
                "Longest time that a client may be idle without a server connection, that is outside of transactions, and in session mode before its first query; then it is disconnected.";
            idle_transaction_timeout: Timeout = Timeout(None), reload, built,
                "Longest time that a client may be idle in a transaction; then client and server connection are closed.";
            transaction_timeout: Timeout = Timeout(None), reload, built,
                "Longest time that a transaction may take; then client and server connection are closed.";
        }
        "Logs and statistics": {
            logfile: Option<PathBuf> = None, reload, built,
                "File that the log is appended to, besides standard error; opened again on RELOAD.";
            log_format: Option<LogFormat> = None, restart, built,
                "Form of a log line: `text`, `json` or `pgbouncer`; unset means `pgbouncer` for an ini and `text` otherwise.";
            log_level: LogLevel = LogLevel::Info, reload, built,
                "Least important events that are logged.";
            verbose: u32 = 0, reload, built,
                "More detail in the log, 0 to 3; 1 or more means at least log_level=debug, 2 or more trace.";
            log_connections: bool = true, reload, built,
                "Log each login.";
            log_disconnections: bool = true, reload, built,
                "Log each disconnect with its reason.";
            log_pooler_errors: bool = true, reload, built,
                "Log each error that is sent to a client by the pooler itself.";
            log_stats: bool = true, reload, built,
                "Log a line of statistics each `stats_period`.";
            stats_period: Duration = seconds(60), reload, built,
                "Time between lines of statistics, and the span of averages.";
            stats_listen: Option<String> = None, restart, built,
                "Address and port for `/metrics` and `/healthz`, such as `127.0.0.1:9127`; unset turns it off.";
            syslog: bool = false, reload, built,
                "Log to syslog as well (`/dev/log`).";
            syslog_ident: String = "pgbouncer".to_owned(), reload, built,
                "Name of the program in syslog.";
            syslog_facility: SyslogFacility = SyslogFacility::Daemon, reload, built,
                "Facility in syslog: `auth`, `authpriv`, `daemon`, `user`, `local0` to `local7` and the like.";
        }
        "TLS": {
            client_tls_sslmode: SslMode = SslMode::Disable, reload, built,
                "TLS towards clients over TCP: `allow` and `prefer` offer it, `require` refuses clients without it, `verify-ca` and `verify-full` also those without a certificate of `client_tls_ca_file`.";
            client_tls_key_file: Option<PathBuf> = None, reload, built,
                "Private key for clients' connections, as PEM without a passphrase; needed for TLS, and read again on RELOAD.";
            client_tls_cert_file: Option<PathBuf> = None, reload, built,
                "Certificate for clients' connections, as PEM, followed by the rest of its chain.";
            client_tls_ca_file: Option<PathBuf> = None, reload, built,
                "Authorities that may sign clients' certificates, as PEM.";
            server_tls_sslmode: SslMode = SslMode::Prefer, reload, built,
                "TLS towards servers over TCP: `allow` and `prefer` ask for it and go on without if the server has none, `require` does not; `verify-ca` checks the server's certificate against `server_tls_ca_file`, `verify-full` also its subjectAltName against the host.";
            server_tls_ca_file: Option<PathBuf> = None, reload, built,
                "Authorities that may sign servers' certificates, as PEM.";
            server_tls_key_file: Option<PathBuf> = None, reload, built,
                "Private key that is shown to servers which ask for a certificate.";
            server_tls_cert_file: Option<PathBuf> = None, reload, built,
                "Certificate that is shown to servers, followed by the rest of its chain.";
            client_tls_protocols: Spelled<TlsVersions> = Spelled::secure(), reload, built,
                "TLS versions for clients: `tlsv1.2`, `tlsv1.3`, or both (`secure`, `all`); there are no older ones.";
            client_tls_ciphers: Spelled<Tls12Ciphers> = Spelled::usual(), reload, built,
                "Cipher suites of TLS 1.2 for clients, by OpenSSL's names with colons between, or `default`, `secure`, `normal`, `all` (all that there are: ECDHE with AES-GCM or ChaCha20) or `fast` (AES-128 first).";
            client_tls13_ciphers: Option<Spelled<Tls13Ciphers>> = None, reload, built,
                "Cipher suites of TLS 1.3 for clients; unset means all.";
            client_tls_ecdhcurve: Spelled<TlsCurve> = Spelled::auto(), reload, built,
                "Group for the key exchange with clients: `X25519`, `prime256v1` (`P-256`), `secp384r1` (`P-384`), `X25519MLKEM768`, or any of them (`auto`).";
            client_tls_dheparams: String = "auto".to_owned(), reload, obsolete,
                "Parameters of DHE key exchange, which there is none of.";
            server_tls_protocols: Spelled<TlsVersions> = Spelled::secure(), reload, built,
                "TLS versions for servers, as `client_tls_protocols`.";
            server_tls_ciphers: Spelled<Tls12Ciphers> = Spelled::usual(), reload, built,
                "Cipher suites of TLS 1.2 for servers, as `client_tls_ciphers`.";
            server_tls13_ciphers: Option<Spelled<Tls13Ciphers>> = None, reload, built,
                "Cipher suites of TLS 1.3 for servers; unset means all.";
        }
        "Names of hosts": {
            dns_max_ttl: Duration = seconds(15), reload, built,
                "How long the addresses of a server's name are used before it is looked up again, for the next connection that is opened. Connections to an address that it does not have any more are closed as they are released.";
            dns_nxdomain_ttl: Duration = seconds(15), reload, built,
                "How long a name that could not be resolved is not looked up again.";
            dns_zone_check_period: Timeout = Timeout(None), reload, not_built,
                "How often a zone's serial number is looked at.";
            resolv_conf: Option<PathBuf> = None, restart, not_built,
                "File to use instead of /etc/resolv.conf.";
        }
    }
}

impl Settings {
    /// `workers` on a machine with so many cores.
    pub fn worker_count(&self, cores: usize) -> usize {
        match self.workers as usize {
            0 => cores.min(MAX_WORKERS),
            workers => workers,
        }
    }

    /// `max_unauthenticated_connections`. All clients may come at the same moment,
    /// and somebody who never logs in must not be able to keep out a few.
    pub fn unauthenticated_connections(&self) -> u32 {
        match self.max_unauthenticated_connections {
            0 => self.max_client_conn.max(1000),
            max => max,
        }
    }

    /// `log_level`, or more where `verbose` asks for more.
    pub fn effective_log_level(&self) -> LogLevel {
        let verbose = match self.verbose {
            0 => LogLevel::Error,
            1 => LogLevel::Debug,
            _ => LogLevel::Trace,
        };
        self.log_level.max(verbose)
    }
}
