use std::time::Duration;

use super::{ini, toml};
use crate::config::{LogLevel, PoolMode, Settings, SslMode};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn user_goes_before_database_before_global() {
    let config = ini("
[pgbouncer]
pool_mode = session
default_pool_size = 1
reserve_pool_size = 2
max_db_connections = 3
max_user_connections = 4
max_db_client_connections = 5
max_user_client_connections = 6
query_wait_timeout = 7
server_lifetime = 8
min_pool_size = 1
auth_file = u

[databases]
plain = host=h
set = host=h pool_mode=transaction pool_size=10 reserve_pool_size=20 max_db_connections=30 max_db_client_connections=50 query_wait_timeout=70 server_lifetime=80 min_pool_size=9
forced = host=h user=bob
zero = host=h server_lifetime=0 query_wait_timeout=-1 pool_size=0

[users]
bob = pool_mode=statement pool_size=100 reserve_pool_size=200 max_user_connections=400 max_user_client_connections=600 query_wait_timeout=700
");
    let plain = config.pool("plain", "eve").unwrap();
    assert_eq!(plain.pool_mode, PoolMode::Session);
    assert_eq!((plain.pool_size, plain.reserve_pool_size), (1, 2));
    assert_eq!(
        (plain.max_db_connections, plain.max_user_connections),
        (3, 4)
    );
    assert_eq!(plain.query_wait_timeout, Some(7 * SECOND));
    assert_eq!(plain.server_lifetime, Some(8 * SECOND));
    assert_eq!(plain.min_pool_size, 1);
    assert_eq!(config.max_db_client_connections("plain"), 5);
    assert_eq!(config.max_user_client_connections("eve"), 6);

    let set = config.pool("set", "eve").unwrap();
    assert_eq!(set.pool_mode, PoolMode::Transaction);
    assert_eq!((set.pool_size, set.reserve_pool_size), (10, 20));
    assert_eq!((set.max_db_connections, set.max_user_connections), (30, 4));
    assert_eq!(set.query_wait_timeout, Some(70 * SECOND));
    assert_eq!(set.server_lifetime, Some(80 * SECOND));
    assert_eq!(set.min_pool_size, 9);
    assert_eq!(config.max_db_client_connections("set"), 50);

    let bob = config.pool("set", "bob").unwrap();
    assert_eq!(bob.pool_mode, PoolMode::Statement);
    assert_eq!((bob.pool_size, bob.reserve_pool_size), (100, 200));
    assert_eq!(
        (bob.max_db_connections, bob.max_user_connections),
        (30, 400)
    );
    assert_eq!(bob.query_wait_timeout, Some(700 * SECOND));
    assert_eq!(config.max_user_client_connections("bob"), 600);

    // The pool belongs to the forced user, whoever has logged in.
    let forced = config.pool("forced", "eve").unwrap();
    assert_eq!((&*forced.user, forced.pool_size), ("bob", 100));
    assert_eq!(config.pool_user("forced", "eve"), Some("bob"));
    assert_eq!(config.pool_user("plain", "eve"), Some("eve"));

    // What 0 and -1 mean in PgBouncer.
    let zero = config.pool("zero", "eve").unwrap();
    assert_eq!(zero.server_lifetime, Some(8 * SECOND));
    assert_eq!(zero.query_wait_timeout, None);
    assert_eq!(zero.pool_size, 0);
}

#[test]
fn servers_have_a_list_for_the_console() {
    let config = super::load_files(
        &[(
            "p.ini",
            "[databases]\na = host=h,i port=7\nb =\n[pgbouncer]\nauth_type=trust\n",
        )],
        &["c=postgres://u@x:8,y:9/d".to_owned()],
        &[],
    )
    .unwrap();
    let shown = |name: &str| {
        let database = config.database(name).unwrap();
        (database.host_list(), database.first_port())
    };
    assert_eq!(shown("a"), (Some("h,i".to_owned()), 7));
    assert_eq!(shown("b"), (None, 5432));
    assert_eq!(shown("c"), (Some("x,y".to_owned()), 8));
}

#[test]
fn the_console_is_no_database() {
    let config = ini("[databases]\n* = host=h\n[pgbouncer]\n");
    assert!(config.database("anything").is_some());
    assert!(config.database("pgbouncer").is_none());
    assert!(config.pool("pgweir", "eve").is_none());
}

#[test]
fn verbose_adds_to_the_log_level() {
    let level = |log_level, verbose| {
        let settings = Settings {
            log_level,
            verbose,
            ..Settings::default()
        };
        settings.effective_log_level()
    };
    assert_eq!(level(LogLevel::Warn, 0), LogLevel::Warn);
    assert_eq!(level(LogLevel::Warn, 1), LogLevel::Debug);
    assert_eq!(level(LogLevel::Trace, 1), LogLevel::Trace);
    assert_eq!(level(LogLevel::Info, 3), LogLevel::Trace);
}

#[test]
fn tls_towards_servers_is_the_databases_own_or_the_usual() {
    let config = toml(
        "[pgweir]\nserver_tls_sslmode = 'require'\nserver_tls_ca_file = 'ca'\n\
         prefer_unix_socket = true\n\
         [users.u]\npassword = 'p'\n\
         [databases.usual]\nhost = 'h'\n\
         [databases.own]\nhost = 'h'\nserver_tls_sslmode = 'verify-full'\n\
         server_tls_ca_file = 'own'\n\
         [databases.plain]\nhost = 'localhost'\nserver_tls_sslmode = 'disable'\n\
         [databases.more]\nurl = 'postgres://h/db?sslmode=verify-ca'\n\
         [databases.less]\nurl = 'postgres://h/db?sslmode=disable'\n",
    );
    let tls = |name: &str| {
        let pool = config.pool(name, "u").unwrap();
        let ca = pool.server_tls.ca_file.unwrap();
        let sockets = pool.local_sockets.is_some();
        (pool.server_tls.sslmode, ca.display().to_string(), sockets)
    };
    let ca = || "ca".to_owned();
    assert_eq!(tls("usual"), (SslMode::Require, ca(), false));
    assert_eq!(tls("own"), (SslMode::VerifyFull, "own".to_owned(), false));
    assert_eq!(tls("plain"), (SslMode::Disable, ca(), true));
    assert_eq!(tls("more"), (SslMode::VerifyCa, ca(), false));
    assert_eq!(tls("less"), (SslMode::Require, ca(), false));
    assert_eq!(config.all_server_tls().len(), 4);
    let wrong = "databases.a.host = 'h'\ndatabases.a.server_tls_sslmode = 'verify-ca'\n\
                 users.a.password = 'p'\n";
    let told = super::mistakes("p.toml", wrong);
    assert_eq!(
        told,
        "p.toml:2: server_tls_sslmode=verify-ca needs server_tls_ca_file"
    );
}

#[test]
fn who_looks_users_up_and_where() {
    let config = ini("\
[databases]
plain = host=h
own = host=h auth_user=b auth_query=q auth_dbname=plain
forced = host=h user=f password=secret
[pgbouncer]
auth_user = a
auth_dbname = forced
");
    let asking = |database: &str| {
        let asking = config.auth_query(database).unwrap();
        (asking.user, asking.query, asking.database)
    };
    let query = &*config.general.auth_query;
    assert_eq!(asking("plain"), ("a", query, Some("forced")));
    assert_eq!(asking("own"), ("b", "q", Some("plain")));
    assert_eq!(asking("pgbouncer"), ("a", query, Some("forced")));
    assert!(config.is_auth_user("a") && config.is_auth_user("b"));
    assert!(!config.is_auth_user("f"));
    // Not as the user that the database forces on its clients.
    let pool = config.pool_as("forced", "a").unwrap();
    assert_eq!(
        (&*pool.user, pool.forced_user, pool.password),
        ("a", false, None)
    );
    assert!(config.pool("forced", "a").unwrap().password.is_some());
    assert_eq!(config.auth_query_cache_ttl(), Duration::ZERO);

    let none = ini("[databases]\nd = host=h\n[pgbouncer]\nauth_file = u\n");
    assert_eq!(none.auth_query("d"), None);
    let toml = super::toml("databases.d.host = 'h'\n[pgweir]\nauth_user = 'a'\n");
    assert_eq!(toml.auth_query_cache_ttl(), 2 * SECOND);
}
