use std::collections::BTreeSet;

use super::{ini, load_files, toml};
use crate::config::{Capacity, Change, SessionFeatures, Source};

#[test]
fn a_reload_tells_what_it_changes() {
    let old = ini("
[pgbouncer]
listen_port = 1
auth_file = u
[databases]
same = host=h
gone = host=h
moved = host=h password=a user=u
[users]
bob = pool_size=1
");
    let new = ini("
[pgbouncer]
listen_port = 2
default_pool_size = 5
auth_file = u
[databases]
same = host=h
moved = host=i password=b user=u
added = host=h
");
    let (config, changes) = old.reload(new);
    let change = |key, old: &str, new: &str| Change {
        key,
        old: Some(old.to_owned()),
        new: Some(new.to_owned()),
    };
    assert_eq!(changes.settings, [change("default_pool_size", "20", "5")]);
    assert_eq!(changes.after_restart, [change("listen_port", "1", "2")]);
    assert_eq!(config.general.listen_port, 1);
    assert_eq!(config.general.default_pool_size, 5);
    assert_eq!(changes.databases.added, ["added"]);
    assert_eq!(changes.databases.removed, ["gone"]);
    assert_eq!(
        changes.databases.changed,
        [("moved".to_owned(), vec!["host", "password"])]
    );
    assert_eq!(changes.users.removed, ["bob"]);

    let (_, nothing) = config.reload(config.clone());
    assert!(nothing.is_empty());
}

#[test]
fn an_ini_becomes_toml_that_means_the_same() {
    let config = ini("
[pgbouncer]
listen_addr = 127.0.0.1, ::1
unix_socket_mode = 0700
auth_file = /u
auth_type = scram-sha-256
server_lifetime = 0.5
tcp_user_timeout = 250
track_extra_parameters =
server_reset_query =
server_check_query =
dns_zone_check_period = 3
admin_users = alice
[databases]
forced = host=h,i port=6 user=u password='a \"b''c\\' timezone=UTC connect_query='select ''x'''
'my db' = dbname=other pool_mode=transaction query_wait_timeout=-1 server_lifetime=0
* = host=h reserve_pool=3 load_balance_hosts=disable
[users]
b.ob = pool_size=1 pool_mode=statement
");
    let text = config.to_toml();
    assert!(
        text.starts_with("# p.ini:12: `dns_zone_check_period` is not built yet"),
        "{text}"
    );
    let mut again = toml(&text);
    assert_eq!(again.source, Source::Toml);
    assert_eq!(again.log_format(), config.log_format());
    again.general.log_format = None;
    again.general.session_features = None;
    let mut general = config.general.clone();
    general.dns_zone_check_period = Default::default();
    assert_eq!(again.general, general);
    assert_eq!(again.databases, config.databases);
    assert_eq!(again.users, config.users);
    again.general.session_features = Some(SessionFeatures::Ignore);
    again.source = Source::Ini;
    for (database, user) in [("forced", "x"), ("my db", "b.ob"), ("other", "y")] {
        assert_eq!(again.pool(database, user), config.pool(database, user));
    }
}

#[test]
fn toml_becomes_the_same_toml() {
    let file = [(
        "p.toml",
        "[pgweir]\nstats_listen = 'h:1'\nadmin_users = ['a,b', 'c']\n\
         [databases.\"a\\nb\"]\nurl = 'postgres://u:p@h,[::1]:7/d'\n\
         [databases.r]\nroute_reads = true\npool_mode = 'transaction'\n\
         hosts = [{ host = 'h' }, { host = 'i', weight = 2, role = 'replica' }]\n[users.x]\npassword = 'y'\n",
    )];
    let mut config = load_files(&file, &[], &[]).unwrap();
    config.general.admin_users.pop();
    let again = toml(&config.to_toml());
    assert_eq!(again.general, config.general);
    assert_eq!(again.databases, config.databases);
    assert_eq!(again.users, config.users);
}

#[test]
fn the_demand_of_pools_is_the_sum_a_server_must_carry() {
    let config = ini("
[pgbouncer]
auth_file = u
default_pool_size = 10
[databases]
forced = host=h user=u pool_size=5 reserve_pool_size=2
shared = host=h,i
bounded = host=i max_db_connections=15
[users]
bob = max_user_connections=4
");
    let logins = BTreeSet::from(["alice".to_owned(), "bob".to_owned()]);
    let demand = config.demand(&logins);
    let text: Vec<String> = demand
        .iter()
        .map(|demand| format!("{}: {demand}", demand.host))
        .collect();
    assert_eq!(
        text,
        [
            "h:5432: up to 21 connections (forced 7, shared 14)",
            "i:5432: up to 28 connections (bounded 14, shared 14)",
        ]
    );
    let mut capacity = Capacity {
        max_connections: 40,
        reserved: 3,
        others: 2,
        instances: 1,
        share: 0.8,
    };
    assert_eq!(capacity.usable(), 28);
    assert_eq!(demand[1].fits(&capacity), Ok(()));
    capacity.instances = 2;
    assert_eq!(
        demand[1].fits(&capacity).unwrap_err().to_string(),
        "i:5432: pools may open up to 28 connections (bounded 14, shared 14), but 14 connections are \
         usable: (40 max_connections - 3 reserved - 2 others) * 0.8 share / 2 instances"
    );
    // Nobody is known who may log in: only max_db_connections is a bound.
    let unknown = config.demand(&BTreeSet::new());
    assert_eq!(unknown[0].total(), None);
    assert_eq!(unknown[1].databases[0].1, Some(15));
    capacity.max_connections = u32::MAX;
    assert!(unknown[0].fits(&capacity).is_err());
}
