use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::admin::snapshot::{
    ClientState, HostRow, MemoryRow, PeerRow, PoolRow, ServerState, SocketRow, Variables,
};
use crate::admin::table::Value;
use crate::admin::view::{ConfigRow, DatabaseRow, ListenerRow, PoolerState, UserRow};
use crate::config::PoolMode;
use crate::net::dns::DnsHost;
use crate::route::State;
use crate::sql::effects::Features;
use crate::stats::{Averages, Totals};

/// Names with PgBouncer's type letters: s text, i int4, q int8, N numeric, b bytea.
fn columns(show: Show) -> String {
    let snapshot = Snapshot::default();
    let view = view();
    let columns = show.table(&snapshot, &view).columns;
    let letters: String = columns
        .iter()
        .map(|(_, kind)| match kind {
            Type::Text => 's',
            Type::Int4 => 'i',
            Type::Int8 => 'q',
            Type::Numeric => 'N',
            Type::Bytea => 'b',
        })
        .collect();
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    format!("{letters} {}", names.join(","))
}

#[test]
fn columns_are_pgbouncers() {
    let sockets = "ssssssisissiiississii \
        type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,\
        request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,\
        prepared_statements,id";
    let clients = sockets.replacen(' ', "si ", 1) + ",pin_reason,channels";
    assert_eq!(columns(Show::Clients), clients);
    assert_eq!(columns(Show::Servers), sockets);
    let more = "ssssssisissiiississiiiiiiiii \
        type,user,database,replication,state,addr,port,local_addr,local_port,connect_time,\
        request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,application_name,\
        prepared_statements,id,recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,\
        send_avail";
    assert_eq!(columns(Show::Sockets), more);
    assert_eq!(columns(Show::ActiveSockets), more);
    assert_eq!(columns(Show::Mem), "siiii name,size,used,free,memtotal");
    assert_eq!(columns(Show::Peers), "isii peer_id,host,port,pool_size");
    assert_eq!(
        columns(Show::PeerPools),
        "iiiii peer_id,cl_active_cancel_req,cl_waiting_cancel_req,sv_active_cancel,sv_login"
    );
    assert_eq!(
        columns(Show::Fds),
        "issssiqisssssbb \
         fd,task,user,database,addr,port,cancel,link,client_encoding,std_strings,datestyle,\
         timezone,password,scram_client_key,scram_server_key"
    );
    assert_eq!(columns(Show::DnsHosts), "sqs hostname,ttl,addrs");
    assert_eq!(columns(Show::DnsZones), "sqi zonename,serial,count");
    assert_eq!(
        columns(Show::Pools),
        "ssiiiiiiiiiiiiiss \
         database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,\
         sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,\
         pool_mode,load_balance_hosts"
    );
    assert_eq!(
        columns(Show::Databases),
        "ssissiiiissiiiiii \
         name,host,port,database,force_user,pool_size,min_pool_size,reserve_pool_size,\
         server_lifetime,pool_mode,load_balance_hosts,max_connections,current_connections,\
         max_client_connections,current_client_connections,paused,disabled"
    );
    assert_eq!(
        columns(Show::Users),
        "ssssiiii \
         name,pool_size,reserve_pool_size,pool_mode,max_user_connections,current_connections,\
         max_user_client_connections,current_client_connections"
    );
    assert_eq!(
        columns(Show::Stats),
        "sNNNNNNNNNNNNNNNNNNNNNNNN \
         database,total_server_assignment_count,total_xact_count,total_query_count,total_received,\
         total_sent,total_xact_time,total_query_time,total_wait_time,total_client_parse_count,\
         total_server_parse_count,total_bind_count,total_client_login_count,\
         avg_server_assignment_count,avg_xact_count,avg_query_count,avg_recv,avg_sent,\
         avg_xact_time,avg_query_time,avg_wait_time,avg_client_parse_count,\
         avg_server_parse_count,avg_bind_count,avg_client_login_count"
    );
    assert_eq!(
        columns(Show::StatsTotals),
        "sNNNNNNNNNNNN \
         database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,\
         xact_time,query_time,wait_time,client_parse_count,server_parse_count,bind_count,\
         client_login_count"
    );
    assert_eq!(
        columns(Show::StatsAverages),
        "sNNNNNNNNNNNN \
         database,server_assignment_count,xact_count,query_count,bytes_received,bytes_sent,\
         xact_time,query_time,wait_time,avg_client_parse_count,avg_server_parse_count,\
         avg_bind_count,avg_client_login_count"
    );
    assert_eq!(columns(Show::Totals), "sN name,value");
    // pgweir's own.
    assert_eq!(
        columns(Show::Hosts),
        "ssissiNNNiNNsNs \
         database,host,port,role,state,weight,reads,refused_reads,lost_reads,outstanding,\
         lag_bytes,lag_us,ejected_until,failures,reason"
    );
    assert_eq!(columns(Show::Lists), "si list,items");
    assert_eq!(columns(Show::Config), "ssss key,value,default,changeable");
    assert_eq!(columns(Show::State), "ss key,value");
    assert_eq!(columns(Show::Version), "s version");
}

#[test]
fn every_row_fills_its_columns() {
    let (snapshot, view) = (snapshot(), view());
    for show in Show::ALL {
        let table = show.table(&snapshot, &view);
        let empty = show == Show::DnsZones;
        assert_eq!(table.rows.is_empty(), empty, "{show:?}");
        for row in &table.rows {
            assert_eq!(row.len(), table.columns.len(), "{show:?}");
            for (value, (name, kind)) in row.iter().zip(table.columns) {
                let number = matches!(value, Value::Number(_));
                let text = matches!(value, Value::Text(_) | Value::Null);
                let right = match kind {
                    Type::Text => text,
                    Type::Bytea => *value == Value::Null,
                    Type::Int4 | Type::Int8 | Type::Numeric => number,
                };
                assert!(right, "{show:?}.{name}: {value:?}");
            }
        }
    }
}

#[test]
fn clients_and_servers() {
    let rows = printed(Show::Clients);
    assert_eq!(
        rows,
        [
            "C|alice|app|none|active|10.0.0.1|5000|10.0.0.9|6432|2026-11-20 21:43:11 UTC|\
             2026-11-20 21:43:12 UTC|0|0|0|0x2|0xb|0||psql|3|2|advisory lock, listen|2",
            "C|bob|app|none|waiting|unix|6432|unix|6432|2026-11-20 21:43:11 UTC|\
             2026-11-20 21:43:12 UTC|7|250000|0|0x3||0||psql|3|3||0",
            "C|(nouser)|(nodb)|none|active_cancel_req|10.0.0.1|5000|10.0.0.9|6432|2026-11-20 21:43:11 UTC|\
             2026-11-20 21:43:12 UTC|0|0|0|0x6||0||psql|3|6||0",
            "C|root|pgbouncer|none|idle|10.0.0.1|5000|10.0.0.9|6432|2026-11-20 21:43:11 UTC|\
             2026-11-20 21:43:12 UTC|0|0|0|0x80000004||0||psql|3|4||0",
        ]
    );
    let rows = printed(Show::Servers);
    assert_eq!(rows.len(), 1);
    assert!(
        rows[0].starts_with("S|alice|app|none|being_canceled|"),
        "{rows:?}"
    );
    assert!(rows[0].ends_with("|1|0xb|0x2|4711||psql|3|11"), "{rows:?}");
}

#[test]
fn sockets_with_what_is_kept_of_them() {
    let rows = printed(Show::Sockets);
    let state = |row: &String| row.split('|').nth(4).unwrap().to_owned();
    let states: Vec<_> = rows.iter().map(state).collect();
    let all = [
        "cl_active",
        "cl_waiting",
        "cl_active",
        "sv_active",
        "cl_login",
    ];
    assert_eq!(states, all);
    assert!(rows[0].ends_with("|2|17|0|0|0|0|17|4000"), "{rows:?}");
    assert!(rows[3].ends_with("|11|0|0|0|0|0|0|0"), "{rows:?}");
    let active: Vec<_> = printed(Show::ActiveSockets).iter().map(state).collect();
    assert_eq!(active, ["cl_active", "cl_waiting", "sv_active", "cl_login"]);
}

#[test]
fn descriptors_of_who_has_them() {
    let settings = "UTF8|on|ISO, MDY|UTC|NULL|NULL|NULL";
    let all = [
        "7|pooler|NULL|NULL|0.0.0.0|6432|0|0|NULL|NULL|NULL|NULL|NULL|NULL|NULL".to_owned(),
        format!("15|client|eve|app|10.0.0.1|5000|0|0|{settings}"),
        format!("12|client|alice|app|10.0.0.1|5000|0|21|{settings}"),
        format!("13|client|bob|app|unix|6432|0|0|{settings}"),
        format!("21|server|alice|app|10.0.0.1|5000|0|12|{settings}"),
    ];
    assert_eq!(printed(Show::Fds), all);
    let view = view();
    let mut snapshot = snapshot();
    // TLS at one end of a link.
    snapshot.servers[0].fd = None;
    let rows = Show::Fds.table(&snapshot, &view).rows;
    let shown: Vec<_> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(
        shown,
        [&Value::Number(7), &Value::Number(15), &Value::Number(13)]
    );
}

#[test]
fn memory_by_kind() {
    assert_eq!(
        printed(Show::Mem),
        [
            "db_cache|100|3|0|300",
            "client_cache|200|0|0|0",
            "spare_cache|150|1|1|300",
            "resident|4096|2147483647|0|2147483647",
        ]
    );
}

#[test]
fn peers_as_configured() {
    assert_eq!(printed(Show::Peers), ["1|host1|6432|20", "2|/tmp|6433|20"]);
    assert_eq!(printed(Show::PeerPools), ["1|1|2|3|4", "2|1|2|3|4"]);
    assert!(printed(Show::Lists).contains(&"peers|2".to_owned()));
}

#[test]
fn pools_with_the_consoles_own() {
    assert_eq!(
        printed(Show::Pools),
        [
            "app|alice|1|2|3|4|5|6|7|8|9|10|11|7|250000|transaction|round-robin",
            "pgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|NULL",
            "web|bob|0|0|0|0|1|0|0|0|0|0|0|0|0|session|NULL",
        ]
    );
}

#[test]
fn databases_with_what_is_connected() {
    assert_eq!(
        printed(Show::Databases),
        [
            "app|db1,db2|5432|appdb|NULL|20|1|2|3600|transaction|disable|50|50|100|2|0|0",
            "pgbouncer|NULL|6432|pgbouncer|pgbouncer|2|0|0|3600|statement|NULL|0|0|0|1|0|0",
        ]
    );
}

#[test]
fn users_with_what_is_connected() {
    assert_eq!(
        printed(Show::Users),
        [
            "alice|       20|        5|session|7|50|8|1",
            "bob|||NULL|0|1|0|1",
            "pgbouncer|||NULL|0|0|0|0",
        ]
    );
}

#[test]
fn hosts_with_what_is_known_of_them() {
    assert_eq!(
        printed(Show::Hosts),
        ["app|db2|5433|replica|ejected|2|30|2|1|4|500|6000|2026-11-20 21:43:11 UTC|9|no answer"]
    );
}

#[test]
fn stats_sum_pools_and_what_is_gone() {
    let rows = printed(Show::Stats);
    assert_eq!(
        rows[0],
        "app|1|2|30|4000|5000|60|700|8|9|10|11|12|\
         0|1|15|2000|2500|30|23|8|4|5|5|6"
    );
    assert!(
        rows[1].starts_with("pgbouncer|0|0|0|0|0|0|0|0|0|0|0|3|0|"),
        "{rows:?}"
    );
    assert!(rows[2].starts_with("web|0|0|100|"), "{rows:?}");
    assert_eq!(
        printed(Show::StatsTotals)[0],
        "app|1|2|30|4000|5000|60|700|8|9|10|11|12"
    );
    assert_eq!(
        printed(Show::StatsAverages)[0],
        "app|0|1|15|2000|2500|30|23|8|4|5|5|6"
    );
    let sums = printed(Show::Totals);
    assert_eq!(sums.len(), 24);
    assert_eq!(sums[2], "total_query_count|130");
    assert_eq!(sums[3], "total_client_bytes|4000");
    assert_eq!(sums[11], "total_client_login_count|15");
    assert_eq!(sums[14], "avg_query_count|65");
    assert_eq!(sums[20], "avg_ps_client_parse_count|4");
}

#[test]
fn names_and_their_addresses() {
    assert_eq!(
        printed(Show::DnsHosts),
        ["db1|7|10.0.0.7:0,[::1]:0", "nowhere|0|"]
    );
}

#[test]
fn lists_state_config_version() {
    assert_eq!(
        printed(Show::Lists).join(" "),
        "databases|2 users|3 peers|2 pools|3 peer_pools|2 free_clients|0 used_clients|9 \
         login_clients|5 free_servers|0 used_servers|1 dns_names|2 dns_zones|0 dns_queries|1 \
         dns_pending|0"
    );
    assert_eq!(
        printed(Show::State),
        ["active|no", "paused|yes", "suspended|no"]
    );
    assert_eq!(
        printed(Show::Config),
        ["pool_mode|transaction|session|yes", "logfile|||no"]
    );
    let version = printed(Show::Version).remove(0);
    assert!(
        version.starts_with("PgBouncer 1.25.2 (pgweir "),
        "{version}"
    );
}

#[test]
fn docs_list_every_column() {
    let docs = include_str!("../../../docs/console.md");
    let (snapshot, view) = (Snapshot::default(), view());
    for show in Show::ALL {
        let columns = show.table(&snapshot, &view).columns;
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let line = format!("| SHOW {} | {} |\n", show.word(), names.join(", "));
        assert!(docs.contains(&line), "docs/console.md must have {line}");
    }
}

fn printed(show: Show) -> Vec<String> {
    let (snapshot, view) = (snapshot(), view());
    let cell = |value: &Value<'_>| match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => text.to_string(),
        Value::Number(number) => number.to_string(),
    };
    let rows = show.table(&snapshot, &view).rows;
    rows.iter()
        .map(|row| row.iter().map(cell).collect::<Vec<_>>().join("|"))
        .collect()
}

fn socket<S>(id: u64, user: &str, database: &str, state: S) -> SocketRow<S> {
    let connected = Duration::from_secs(1_795_210_991);
    SocketRow {
        user: user.to_owned(),
        database: database.to_owned(),
        addr: "10.0.0.1".to_owned(),
        port: 5000,
        local_addr: "10.0.0.9".to_owned(),
        local_port: 6432,
        request_time: SystemTime::UNIX_EPOCH + connected + Duration::from_secs(1),
        application_name: "psql".to_owned(),
        prepared_statements: 3,
        fd: Some(10 + id as i32),
        variables: Arc::new(Variables {
            client_encoding: "UTF8".to_owned(),
            standard_conforming_strings: "on".to_owned(),
            datestyle: "ISO, MDY".to_owned(),
            timezone: "UTC".to_owned(),
        }),
        ..SocketRow::new(id, state, SystemTime::UNIX_EPOCH + connected)
    }
}

fn quiet_pool() -> PoolRow {
    PoolRow {
        sv_active: 1,
        pool_mode: PoolMode::Session,
        totals: Totals {
            query_count: 100,
            ..Totals::default()
        },
        ..PoolRow::idle("web", "bob")
    }
}

fn snapshot() -> Snapshot {
    let waiting = SocketRow {
        addr: "unix".to_owned(),
        port: 6432,
        local_addr: "unix".to_owned(),
        wait: Duration::from_micros(7_250_000),
        ..socket(3, "bob", "app", ClientState::Waiting)
    };
    let active = SocketRow {
        link: Some(11),
        held: 17,
        unsent: 4000,
        pins: Features::ADVISORY_LOCK | Features::LISTEN,
        channels: 2,
        ..socket(2, "alice", "app", ClientState::Active)
    };
    let server = SocketRow {
        link: Some(2),
        close_needed: true,
        remote_pid: 4711,
        encryption: None,
        ..socket(11, "alice", "app", ServerState::BeingCanceled)
    };
    let busy = PoolRow {
        cl_active: 1,
        cl_waiting: 2,
        cl_active_cancel_req: 3,
        cl_waiting_cancel_req: 4,
        sv_active: 5,
        sv_active_cancel: 6,
        sv_being_canceled: 7,
        sv_idle: 8,
        sv_used: 9,
        sv_tested: 10,
        sv_login: 11,
        maxwait: Duration::from_micros(7_250_000),
        pool_mode: PoolMode::Transaction,
        several_hosts: true,
        totals: Totals {
            server_assignment_count: 1,
            xact_count: 2,
            query_count: 29,
            bytes_received: 4000,
            bytes_sent: 5000,
            xact_time: 60,
            query_time: 700,
            wait_time: 8,
            client_parse_count: 9,
            server_parse_count: 10,
            bind_count: 11,
            client_login_count: 12,
            ..Totals::default()
        },
        ..PoolRow::idle("app", "alice")
    };
    let spare = MemoryRow {
        name: "spare_cache",
        size: 1000,
        used: 1,
        free: 1,
        bytes: 300,
    };
    let resident = MemoryRow::uniform("resident", 4096, 1 << 40);
    let peer = |peer_id, host: &str, port| PeerRow {
        peer_id,
        host: host.to_owned(),
        port,
        pool_size: 20,
        cl_active_cancel_req: 1,
        cl_waiting_cancel_req: 2,
        sv_active_cancel: 3,
        sv_login: 4,
    };
    Snapshot {
        peers: vec![peer(1, "host1", 6432), peer(2, "/tmp", 6433)],
        memory: vec![MemoryRow::uniform("client_cache", 200, 0), spare, resident],
        // Not in order, and one that has not logged in yet.
        clients: vec![
            waiting,
            socket(0x8000_0004, "root", "pgbouncer", ClientState::Idle),
            active,
            socket(5, "eve", "app", ClientState::Login),
            socket(6, "(nouser)", "(nodb)", ClientState::CancelRequest),
        ],
        servers: vec![server],
        pools: vec![quiet_pool(), busy],
        hosts: vec![HostRow {
            state: State::Ejected,
            weight: 2,
            reads: 30,
            refused_reads: 2,
            lost_reads: 1,
            outstanding: 4,
            lag: 500,
            delay: Duration::from_millis(6),
            ejected_until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_210_991)),
            failures: 9,
            reason: "no answer".to_owned(),
            ..HostRow::replica("app", "db2", 5433)
        }],
        login_clients: 5,
        past: vec![
            (
                "pgbouncer".to_owned(),
                Totals {
                    client_login_count: 3,
                    ..Totals::default()
                },
            ),
            (
                "app".to_owned(),
                Totals {
                    query_count: 1,
                    ..Totals::default()
                },
            ),
        ],
    }
}

/// One second after the start: averages cover two seconds.
fn view() -> ConsoleView {
    let start = Instant::now();
    ConsoleView {
        now: start + Duration::from_secs(1),
        console: crate::admin::view::console(&crate::config::Settings::default()),
        state: PoolerState::Paused,
        names: vec![
            DnsHost {
                name: "db1".to_owned(),
                ttl: Duration::from_millis(7900),
                addresses: vec![
                    SocketAddr::from(([10, 0, 0, 7], 0)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
                ],
            },
            DnsHost {
                name: "nowhere".to_owned(),
                ttl: Duration::ZERO,
                addresses: Vec::new(),
            },
        ],
        lookups: 1,
        databases: vec![DatabaseRow {
            name: "app".to_owned(),
            host: Some("db1,db2".to_owned()),
            port: 5432,
            database: "appdb".to_owned(),
            force_user: None,
            pool_size: 20,
            min_pool_size: 1,
            reserve_pool_size: 2,
            server_lifetime: Duration::from_secs(3600),
            pool_mode: Some(PoolMode::Transaction),
            load_balance_hosts: Some("disable"),
            max_connections: 50,
            max_client_connections: 100,
            paused: false,
            disabled: false,
        }],
        users: vec![
            UserRow {
                name: "bob".to_owned(),
                ..UserRow::default()
            },
            UserRow {
                name: "alice".to_owned(),
                pool_size: Some(20),
                reserve_pool_size: Some(5),
                pool_mode: Some(PoolMode::Session),
                max_user_connections: 7,
                max_user_client_connections: 8,
            },
        ],
        config: vec![
            ConfigRow {
                key: "pool_mode",
                value: "transaction".to_owned(),
                default: "session".to_owned(),
                changeable: true,
            },
            ConfigRow {
                key: "logfile",
                value: String::new(),
                default: String::new(),
                changeable: false,
            },
        ],
        averages: Arc::new(Averages::new(start)),
        memory: vec![MemoryRow::uniform("db_cache", 100, 3)],
        listeners: vec![ListenerRow {
            fd: 7,
            addr: "0.0.0.0".to_owned(),
            port: 6432,
        }],
    }
}
