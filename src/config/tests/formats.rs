use std::time::Duration;

use super::{ini, load_files, mistakes, toml};
use crate::config::{
    AuthType, FileMode, Host, HostRole, HostTerms, LogFormat, Millis, PoolMode, Settings, Source,
    Table, TcpConfig, Timeout,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_ini_is_read_as_pgbouncer_reads_it() {
    let config = ini("
; a comment
# another
[databases]
forcedb = host=127.0.0.1 port=300 user=baz password='it''s foo' client_encoding=UNICODE datestyle=ISO connect_query='SELECT 1'
'my db' = dbname=other host=db1,db2 pool_size=7 reserve_pool=3
* = host=/run/pg

[users]
bob = pool_mode=transaction max_user_connections=10

[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 0x1000
unix_socket_mode = 0770
pool_mode = Transaction
server_lifetime = 0.5
server_reset_query = DISCARD ALL; -- not a comment
server_check_query =
tcp_user_timeout = 250
log_connections = 0
auth_file = /etc/users
admin_users = alice,bob
ignore_startup_parameters = extra_float_digits, options
");
    let general = &config.general;
    assert_eq!(config.source, Source::Ini);
    assert_eq!(general.listen_addr, ["127.0.0.1", "::1"]);
    assert_eq!(general.listen_port, 4096);
    assert_eq!(general.unix_socket_mode, FileMode(0o770));
    assert_eq!(general.pool_mode, PoolMode::Transaction);
    assert_eq!(general.server_lifetime, SECOND / 2);
    assert_eq!(general.server_reset_query, "DISCARD ALL; -- not a comment");
    assert_eq!(general.server_check_query, "");
    assert_eq!(general.tcp_user_timeout, Millis(SECOND / 4));
    assert!(!general.log_connections);
    assert_eq!(general.admin_users, ["alice", "bob"]);
    assert_eq!(config.log_format(), LogFormat::Pgbouncer);

    let forced = config.pool("forcedb", "anyone").unwrap();
    assert_eq!(&*forced.user, "baz");
    assert!(forced.forced_user);
    assert_eq!(forced.password.unwrap().reveal(), "it's foo");
    assert_eq!(forced.dbname, "forcedb");
    assert_eq!(forced.connect_query.as_deref(), Some("SELECT 1"));
    assert_eq!(forced.server_check_query, None);
    let startup = [("client_encoding", "UNICODE"), ("datestyle", "ISO")];
    assert_eq!(
        forced.startup,
        startup.map(|(k, v)| (k.to_owned(), v.to_owned()))
    );

    let quoted = config.pool("my db", "bob").unwrap();
    let tcp = |host: &str| Host::Tcp {
        host: host.to_owned(),
        port: 5432,
    };
    assert_eq!(quoted.hosts, [tcp("db1"), tcp("db2")]);
    assert_eq!((quoted.pool_size, quoted.reserve_pool_size), (7, 3));
    assert_eq!(quoted.max_user_connections, 10);

    let auto = config.pool("whatever", "eve").unwrap();
    assert_eq!(auto.dbname, "whatever");
    assert!(config.is_auto_database("whatever") && !config.is_auto_database("forcedb"));
    let socket = Host::Unix {
        dir: "/run/pg".to_owned(),
        port: 5432,
    };
    assert_eq!(auto.hosts, [socket]);
}

#[test]
fn toml_is_read_as_people_write_it() {
    let config = toml(
        r#"
[pgweir]
listen_addr = "0.0.0.0"
stats_listen = "127.0.0.1:9127"
pool_mode = "transaction"
server_lifetime = "1h 30m"
server_idle_timeout = 0
query_wait_timeout = 2.5
unix_socket_mode = 0o700
tcp_keepalive = false
tcp_user_timeout = "250ms"
admin_users = ["alice", "bob"]
auth_type = "scram-sha-256"

[databases.app]
route_reads = true
hosts = [{ host = "db1" }, { host = "db2", port = 5433, weight = 2, role = "replica" }]
pool_size = 20

[databases.url]
url = "postgres://u:p%40ss@h1,h2:5433/remote?sslmode=disable&application_name=x"
pool_mode = "session"

[users.app]
password = "secret"
pool_size = 10
"#,
    );
    let general = &config.general;
    assert_eq!(general.server_lifetime, 5400 * SECOND);
    assert_eq!(general.server_idle_timeout, Timeout(None));
    assert_eq!(general.query_wait_timeout, Timeout(Some(SECOND * 5 / 2)));
    assert_eq!(general.unix_socket_mode, FileMode(0o700));
    assert_eq!(general.admin_users, ["alice", "bob"]);
    assert_eq!(general.auth_type, AuthType::ScramSha256);
    assert_eq!(config.log_format(), LogFormat::Text);
    let app = config.pool("app", "app").unwrap();
    assert_eq!(app.pool_size, 10);
    assert_eq!(app.tcp.user_timeout, Some(SECOND / 4));
    assert!(!app.tcp.keepalive);
    let tcp = |host: &str, port| Host::Tcp {
        host: host.to_owned(),
        port,
    };
    assert_eq!(app.hosts, [tcp("db1", 5432), tcp("db2", 5433)]);
    let terms = |weight, role| HostTerms { weight, role };
    assert_eq!(
        app.routing.as_ref().unwrap().hosts,
        [terms(1, HostRole::Auto), terms(2, HostRole::Replica)]
    );
    let url = config.pool("url", "somebody").unwrap();
    assert_eq!(
        (&*url.user, &*url.dbname, url.pool_mode),
        ("u", "remote", PoolMode::Session)
    );
    assert_eq!(url.password.unwrap().reveal(), "p@ss");
    assert_eq!(url.hosts, [tcp("h1", 5432), tcp("h2", 5433)]);
    assert_eq!(
        url.startup,
        [("application_name".to_owned(), "x".to_owned())]
    );
    assert_eq!(config.pool("other", "app"), None);
}

#[test]
fn every_key_reads_what_it_prints() {
    let default = Settings::default();
    for key in Settings::KEYS {
        let Some(text) = (key.get)(&default) else {
            continue;
        };
        let mut read = Settings::default();
        (key.set)(&mut read, crate::config::Raw::Ini(&text)).unwrap();
        assert_eq!(read, default, "{} = {text}", key.name);
        let text = (key.toml)(&default).unwrap();
        let value = toml::de::DeValue::parse(&text).unwrap();
        (key.set)(&mut read, crate::config::Raw::Toml(value.get_ref())).unwrap();
        assert_eq!(read, default, "{} = {text}", key.name);
    }
}

#[test]
fn every_key_of_pgbouncer_parses_and_has_its_default() {
    let text = include_str!("pgbouncer.ini");
    let config = ini(text);
    let default = Settings::default();
    for key in Settings::KEYS {
        let here = (key.get)(&config.general);
        assert_eq!(here, (key.get)(&default), "{}", key.name);
    }
    let count = |text| config.notices.iter().filter(|n| n.contains(text)).count();
    assert_eq!(count("\"b\" is not configured"), 1, "{:?}", config.notices);
    assert_eq!(count("peers have no effect without `peer_id`"), 1);
    assert_eq!(config.notices.len(), 2);

    let own = [
        "auth_query_cache_size",
        "auth_query_cache_ttl",
        "balance_reads",
        "host_check_period",
        "host_check_timeout",
        "io_uring",
        "log_format",
        "log_level",
        "max_pinned_connections",
        "max_unauthenticated_connections",
        "notification_buffer",
        "pin_sequences",
        "prefer_unix_socket",
        "proxy_protocol_networks",
        "read_consistency",
        "reads_without_replica",
        "replica_eject_time",
        "replica_eject_time_max",
        "replica_max_lag",
        "replica_max_lag_bytes",
        "server_max_queries",
        "session_features",
        "shutdown_timeout",
        "stats_listen",
        "workers",
    ];
    let mut unknown: Vec<&str> = Settings::KEYS
        .iter()
        .map(|key| key.name)
        .filter(|name| !text.contains(&format!("\n{name} =")))
        .collect();
    unknown.sort();
    assert_eq!(unknown, own);
}

#[test]
fn a_second_header_sets_back_what_has_a_default() {
    let config = ini("
[pgbouncer]
listen_port = 1
auth_file = /u
verbose = 2
[databases]
[pgbouncer]
pool_mode = statement
");
    assert_eq!(config.general.listen_port, 6432);
    assert_eq!(config.general.verbose, 2);
    assert!(config.general.auth_file.is_some());
    assert_eq!(config.general.pool_mode, PoolMode::Statement);
}

#[test]
fn includes_go_on_in_the_same_section() {
    let files = [
        (
            "p.ini",
            "[databases]\n%include dbs.ini\n[pgbouncer]\nlisten_port = 7\n",
        ),
        ("dbs.ini", "a = host=h\n%include more.ini\n"),
        ("more.ini", "b = host=h\n"),
    ];
    let config = load_files(&files, &[], &[]).unwrap();
    let names: Vec<_> = config.databases.keys().collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.general.listen_port, 7);
}

#[test]
fn includes_end_somewhere() {
    let names: Vec<String> = (0..12).map(|n| format!("{n}.ini")).collect();
    let texts: Vec<String> = (1..13).map(|n| format!("%include {n}.ini")).collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let error = load_files(&files, &[], &[]).unwrap_err().to_string();
    assert_eq!(error, "10.ini:1: %include goes deeper than 10 files");
    let error = mistakes("p.ini", "%include p.ini\n");
    assert_eq!(error, "p.ini:1: p.ini includes itself");
    let error = mistakes("p.ini", "\n%include gone.ini");
    assert_eq!(error, "p.ini:2: gone.ini: entity not found");
}

#[test]
fn the_environment_overrides_the_file() {
    let file = [(
        "p.ini",
        "[pgbouncer]\nlisten_port = 1\nauth_file=u\n[databases]\na=host=h",
    )];
    let env = [
        ("PGWEIR_LISTEN_PORT", "6000"),
        ("PGWEIR_LISTEN_ADDR", "10.0.0.1, 10.0.0.2"),
        ("PGWEIR_SERVER_LIFETIME", "5m"),
        ("PGWEIR_LOG_STATS", "false"),
        ("PGWEIR_LOG_CONNECTIONS", "0"),
        ("PGWEIR_UNIX_SOCKET_MODE", "0700"),
        ("PGWEIR_LOGFILE", "7"),
        ("PGWEIR_PORT", "tcp://10.0.0.1:6432"),
        ("PGWEIR_METRICS_PORT_9127_TCP_ADDR", "10.0.0.1"),
        ("PGWEIR_SERVICE_HOST", "10.0.0.1"),
        ("LISTEN_PORT", "2"),
    ];
    let general = load_files(&file, &[], &env).unwrap().general;
    assert_eq!(general.listen_port, 6000);
    assert_eq!(general.listen_addr, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(general.server_lifetime, 300 * SECOND);
    assert!(!general.log_stats && !general.log_connections);
    assert_eq!(general.unix_socket_mode, FileMode(0o700));
    assert_eq!(general.logfile.unwrap().to_str(), Some("7"));
}

#[test]
fn databases_come_from_the_command_line() {
    let url = ["app=postgres://u:p@h/db".to_owned()];
    let config = load_files(&[], &url, &[]).unwrap();
    assert_eq!(config.source, Source::CommandLine);
    assert_eq!(config.general.auth_type, AuthType::ScramSha256);
    assert_eq!(config.general.listen_addr, ["127.0.0.1"]);
    assert_eq!(&*config.pool("app", "me").unwrap().user, "u");
    let (users, _) = config.userlist(&|_| unreachable!());
    assert!(users.get("u").unwrap().verify_plain("u", b"p"));

    let open = ["app=postgres://u@h/db".to_owned()];
    let config = load_files(&[], &open, &[]).unwrap();
    assert_eq!(config.general.auth_type, AuthType::Any);
    let two = ["a=postgres://u:p@h/a", "b=postgres://u:q@h/b"].map(str::to_owned);
    let error = load_files(&[], &two, &[]).unwrap_err().to_string();
    assert!(error.contains("two different passwords"), "{error}");

    let file = [(
        "p.toml",
        "[pgweir]\n[users.u]\npassword='x'\n[databases.app]\nhost='h'\n",
    )];
    let config = load_files(&file, &url, &[]).unwrap();
    assert_eq!(config.general.auth_type, AuthType::Md5);
    assert_eq!(config.pool("app", "me").unwrap().dbname, "db");
}

#[test]
fn a_time_without_end_can_be_added_to_any_moment() {
    let ini = ini("[databases]\na =\n[pgbouncer]\nquery_wait_timeout = 1e19\n");
    let toml = toml(
        "[pgweir]\nquery_wait_timeout = 9223372036854775807\n[databases.a]\n[users.u]\npassword = \"x\"\n",
    );
    for config in [ini, toml] {
        let wait = config.pool("a", "b").unwrap().query_wait_timeout.unwrap();
        assert!(wait.as_secs() < 1 << 40);
    }
}

#[test]
fn every_tcp_setting_has_its_place() {
    let config = ini("[pgbouncer]
tcp_keepalive = 0
tcp_keepcnt = 5
tcp_keepidle = 77
tcp_keepintvl = 11
tcp_user_timeout = 1500
tcp_socket_buffer = 4096
tcp_defer_accept = 1
");
    let expected = TcpConfig {
        keepalive: false,
        keepcnt: 5,
        keepidle: Some(77 * SECOND),
        keepintvl: Some(11 * SECOND),
        user_timeout: Some(SECOND * 3 / 2),
        socket_buffer: 4096,
    };
    assert_eq!(config.tcp(), expected);
    let system = TcpConfig {
        keepalive: true,
        ..TcpConfig::default()
    };
    assert_eq!(ini("[pgbouncer]\n").tcp(), system);
}
