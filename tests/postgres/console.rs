//! The database `pgbouncer`: what operators and their tools read and type.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use crate::support::{Cluster, Frontend, RawClient, Relay, Setup, eventually, patiently, psql};

const SOCKETS: &str = "type,user,database,replication,state,addr,port,local_addr,local_port,\
    connect_time,request_time,wait,wait_us,close_needed,ptr,link,remote_pid,tls,\
    application_name,prepared_statements,id";

const DETAILS: &str = "recv_pos,pkt_pos,pkt_remain,send_pos,send_remain,pkt_avail,send_avail";

const POOLS: &str = "database,user,cl_active,cl_waiting,cl_active_cancel_req,\
    cl_waiting_cancel_req,sv_active,sv_active_cancel,sv_being_canceled,sv_idle,sv_used,\
    sv_tested,sv_login,maxwait,maxwait_us,pool_mode,load_balance_hosts";

const DATABASES: &str = "name,host,port,database,force_user,pool_size,min_pool_size,\
    reserve_pool_size,server_lifetime,pool_mode,load_balance_hosts,max_connections,\
    current_connections,max_client_connections,current_client_connections,paused,disabled";

const USERS: &str = "name,pool_size,reserve_pool_size,pool_mode,max_user_connections,\
    current_connections,max_user_client_connections,current_client_connections";

const STATS: &str = "database,total_server_assignment_count,total_xact_count,\
    total_query_count,total_received,total_sent,total_xact_time,total_query_time,\
    total_wait_time,total_client_parse_count,total_server_parse_count,total_bind_count,\
    total_client_login_count,avg_server_assignment_count,avg_xact_count,avg_query_count,\
    avg_recv,avg_sent,avg_xact_time,avg_query_time,avg_wait_time,avg_client_parse_count,\
    avg_server_parse_count,avg_bind_count,avg_client_login_count";

fn row<'a>(
    rows: &'a [BTreeMap<String, String>],
    column: &str,
    value: &str,
) -> &'a BTreeMap<String, String> {
    let row = rows.iter().find(|row| row[column] == value);
    row.unwrap_or_else(|| panic!("no row with {column}={value} in {rows:?}"))
}

#[test]
fn columns_are_pgbouncers() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("select 1");
    let mut console = pooler.console();
    for (command, columns) in [
        ("SHOW CLIENTS", &*format!("{SOCKETS},pin_reason,channels")),
        ("SHOW SERVERS", SOCKETS),
        ("SHOW POOLS", POOLS),
        ("SHOW DATABASES", DATABASES),
        ("SHOW USERS", USERS),
        ("SHOW STATS", STATS),
        ("SHOW CONFIG", "key,value,default,changeable"),
        ("SHOW LISTS", "list,items"),
        ("SHOW STATE", "key,value"),
        ("SHOW MEM", "name,size,used,free,memtotal"),
        ("SHOW SOCKETS", &*format!("{SOCKETS},{DETAILS}")),
        ("SHOW ACTIVE_SOCKETS", &*format!("{SOCKETS},{DETAILS}")),
        ("SHOW TOTALS", "name,value"),
        ("SHOW VERSION", "version"),
    ] {
        let answer = console.query(command);
        assert_eq!(
            answer.messages[0].column_names().join(","),
            columns,
            "{command}"
        );
        assert_eq!(answer.command_tags(), ["SHOW"], "{command}");
        assert!(!answer.rows().is_empty(), "{command}");
    }
}

#[test]
fn commands_in_any_spelling() {
    let pooler = Setup::new().start();
    let mut console = pooler.console();
    for command in [
        "show version",
        "SHOW VERSION;",
        "  Show\tVersion ; ",
        "show \"version\"",
    ] {
        assert_eq!(console.query(command).rows().len(), 1, "{command}");
    }
    let help = console.query("SHOW HELP");
    assert_eq!(help.tags(), "NCZ");
    assert!(help.messages[0].failure().fields[&'D'].contains("SHOW"));
    for wrong in [
        "show nonsense",
        "selekt",
        "show",
        "reload now please",
        "drop table x",
    ] {
        let error = console.try_query(wrong).error();
        assert_eq!(error.severity(), "ERROR", "{wrong}");
        assert_eq!(error.sqlstate().len(), 5, "{wrong}");
    }
    assert_eq!(console.query("show state").rows().len(), 3);
}

#[test]
fn is_reached_under_both_names_and_by_psql() {
    let pooler = Setup::new().start();
    for database in ["pgbouncer", "pgweir"] {
        let mut console = RawClient::login(&pooler.address, "admin", database);
        assert_eq!(console.query("show version").rows().len(), 1);
    }
    let dsn = pooler
        .dsn_of("admin")
        .replace(&pooler.database, "pgbouncer");
    let pools = psql(&dsn).args(&["-c", "show databases"]).succeed();
    assert!(pools.contains(&pooler.database), "{pools}");
}

#[test]
fn is_for_admins_and_partly_for_stats_users() {
    let pooler = Setup::new().set("stats_users", "app2").start();
    let refused = RawClient::try_login(&pooler.address, "app", "pgbouncer", None);
    assert_eq!(refused.expect_err("not an admin").severity(), "FATAL");
    let mut stats = RawClient::login(&pooler.address, "app2", "pgbouncer");
    assert!(!stats.query("show pools").messages.is_empty());
    for command in ["reload", "shutdown"] {
        let error = stats.try_query(command).error();
        assert!(error.message().contains("admin access needed"), "{error:?}");
    }
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn shows_what_is_there() {
    let pooler = Setup::new().pool_size(2).start();
    let mut active = pooler.login_with(&[("application_name", "the active one")]);
    active.query("begin");
    let mut second = pooler.login();
    second.query("begin");
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    let _idle = pooler.login();
    pooler.expect_waiting(1);

    let pools = pooler.show("POOLS");
    let pool = row(&pools, "database", &pooler.database);
    for (column, value) in [
        ("user", "app"),
        ("cl_active", "3"), // PgBouncer counts the idle ones as active
        ("cl_waiting", "1"),
        ("sv_active", "2"),
        ("sv_idle", "0"),
        ("pool_mode", "transaction"),
    ] {
        assert_eq!(pool[column], value, "{column}");
    }

    let clients = pooler.show("CLIENTS");
    let active_row = row(&clients, "application_name", "the active one");
    assert_eq!(active_row["type"], "C");
    assert_eq!(active_row["state"], "active");
    assert_eq!(active_row["addr"], "127.0.0.1");
    let states = |state: &str| {
        clients
            .iter()
            .filter(|c| c["user"] == "app" && c["state"] == state)
            .count()
    };
    assert_eq!(
        (states("active"), states("waiting"), states("idle")),
        (2, 1, 1)
    );

    let servers = pooler.show("SERVERS");
    assert_eq!(servers.len(), 2);
    let mut pids: Vec<_> = servers.iter().map(|s| s["remote_pid"].clone()).collect();
    let mut backends = pooler.backends();
    pids.sort();
    backends.sort();
    assert_eq!(pids, backends);
    assert!(
        servers.iter().any(|s| s["link"] == active_row["ptr"]),
        "{servers:?}"
    );

    let databases = pooler.show("DATABASES");
    let database = row(&databases, "name", &pooler.database);
    assert_eq!(database["current_connections"], "2");
    assert_eq!(database["current_client_connections"], "4");
    assert_eq!(database["pool_size"], "2");
    let users = pooler.show("USERS");
    assert_eq!(row(&users, "name", "app")["current_connections"], "2");
    let config = pooler.show("CONFIG");
    let size = row(&config, "key", "default_pool_size");
    assert_eq!(
        (&*size["value"], &*size["default"], &*size["changeable"]),
        ("2", "20", "yes")
    );
    assert_eq!(row(&config, "key", "listen_port")["changeable"], "no");
    assert_eq!(row(&pooler.show("STATE"), "key", "active")["value"], "yes");
}

#[test]
fn sockets_are_shown_from_their_first_byte() {
    let pooler = Setup::new().pool_size(1).start();
    let mut busy = pooler.login_with(&[("application_name", "busy")]);
    busy.query("begin");
    let mut waiting = pooler.login_as("app");
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    let _knocks = RawClient::connect(&pooler.address);
    eventually("a connection that logs in", true, || {
        let rows = pooler.show("SOCKETS");
        rows.iter().any(|row| row["state"] == "cl_login")
    });
    let rows = pooler.show("SOCKETS");
    let login = row(&rows, "state", "cl_login");
    assert_eq!(
        (&*login["user"], &*login["database"]),
        ("(nouser)", "(nodb)")
    );
    // The query that waits is kept: five bytes of header, and the text.
    let held = row(&rows, "state", "cl_waiting");
    assert_eq!(held["pkt_avail"], "14");
    let server = row(&rows, "state", "sv_active");
    assert_eq!(server["user"], "app");
    // A client's settings are with the server that it has, and stay with it.
    assert_eq!(server["application_name"], "busy");
    let idle = pooler.login();
    let active = pooler.show("ACTIVE_SOCKETS");
    let mut states: Vec<_> = active.iter().map(|row| row["state"].as_str()).collect();
    states.sort_unstable();
    // The console that asks, and who is in a transaction.
    let expected = [
        "cl_active",
        "cl_active",
        "cl_login",
        "cl_waiting",
        "sv_active",
    ];
    assert_eq!(states, expected);
    // All have a number of their own, of one counter.
    let all = pooler.show("SOCKETS");
    let mut ids: Vec<u32> = all.iter().map(|row| row["id"].parse().unwrap()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!((ids.len(), count), (6, 6), "{all:?}");
    drop(idle);
    busy.query("commit");
    waiting.answer();
    let left = pooler.show("SERVERS");
    assert_eq!(left[0]["application_name"], "");
}

#[test]
fn connections_that_are_being_opened_are_shown() {
    // It never answers.
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = server.local_addr().expect("address").port();
    let setup = Setup::new().for_database("port", i32::from(port));
    let pooler = setup.set("server_tls_sslmode", "disable").start();
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    let opening = patiently("a connection", || {
        let mut rows = pooler.show("SERVERS");
        rows.retain(|row| row["local_port"] != "0");
        rows.pop()
    });
    for (column, value) in [
        ("state", "new"),
        ("user", "app"),
        ("database", &pooler.database),
        ("addr", "127.0.0.1"),
        ("port", &port.to_string()),
        ("link", ""),
    ] {
        assert_eq!(opening[column], value, "{column}");
    }
    let sockets = pooler.show("SOCKETS");
    assert_eq!(row(&sockets, "type", "S")["state"], "sv_login");
    client.close();
    drop(server);
    eventually("it is over", 0, || pooler.show("SERVERS").len());
}

#[test]
fn what_the_server_has_not_taken_is_shown() {
    let pooler = Setup::new().pool_size(1).start();
    let mut client = pooler.login();
    // More than the kernel keeps for a server that does not read.
    let long = format!("select length('{}')", "x".repeat(30_000_000));
    let script = Frontend::new().query("select pg_sleep(600)").query(&long);
    let sender = client.send_in_background(script);
    eventually("some is left", true, || {
        let sockets = pooler.show("SOCKETS");
        let held = |row: &BTreeMap<_, _>| row["state"] == "sv_active" && row["send_avail"] != "0";
        sockets.iter().any(held)
    });
    // PostgreSQL ignores it as long as it has not begun to read the query.
    eventually("an answer", false, || {
        client.cancel();
        client.is_silent_for(std::time::Duration::from_millis(200))
    });
    assert_eq!(client.answer().error().sqlstate(), "57014");
    assert_eq!(client.answer().value(), "30000000");
    sender.join().expect("sender");
    eventually("an idle server connection", true, || {
        let sockets = pooler.show("SOCKETS");
        let idle = |row: &&BTreeMap<String, String>| row["state"] == "sv_idle";
        sockets
            .iter()
            .find(idle)
            .is_some_and(|row| row["send_avail"] == "0")
    });
}

#[test]
fn what_is_to_come_of_a_message_is_shown() {
    let pooler = Setup::new().pool_size(1).start();
    let remains = |state: &str| -> usize {
        let sockets = pooler.show("SOCKETS");
        row(&sockets, "state", state)["pkt_remain"].parse().unwrap()
    };
    let mut client = pooler.login();
    let text = format!("select length('{}')", "x".repeat(3_000_000));
    let message = Frontend::new().query(&text).bytes;
    let (front, rest) = message.split_at(message.len() - 1000);
    client.send_bytes(front);
    eventually("most has come", 1000, || remains("cl_active"));
    client.send_bytes(&rest[..400]);
    eventually("more has come", 600, || remains("cl_active"));
    client.send_bytes(&rest[400..]);
    assert_eq!(client.answer().value(), "3000000");
    eventually("all has come", 0, || remains("cl_active"));
    // More than the kernel keeps for a client that does not read.
    client.send(&Frontend::new().query("select repeat('x', 30000000)"));
    eventually("much is to come", true, || {
        (1..30_000_000).contains(&remains("sv_active"))
    });
    assert_eq!(client.answer().value().len(), 30_000_000);
    eventually("nothing is", 0, || remains("sv_idle"));
}

#[test]
fn peers_are_shown() {
    let setup = Setup::new().set("peer_id", 1);
    let setup = setup.peer(1, "host", "127.0.0.1").peer(7, "host", "/tmp");
    let pooler = setup.peer(7, "port", 6433).peer(7, "pool_size", 3).start();
    let mut console = pooler.console();
    let text = |command: &str, console: &mut RawClient| {
        let rows = console.query(command).rows();
        let row =
            |row: Vec<Option<String>>| row.into_iter().flatten().collect::<Vec<_>>().join("|");
        rows.into_iter().map(row).collect::<Vec<_>>()
    };
    let peers = text("SHOW PEERS", &mut console);
    assert_eq!(peers, ["1|127.0.0.1|6432|2", "7|/tmp|6433|3"]);
    let pools = text("SHOW PEER_POOLS", &mut console);
    assert_eq!(pools, ["1|0|0|0|0", "7|0|0|0|0"]);
    let lists = pooler.show("LISTS");
    assert_eq!(row(&lists, "list", "peers")["items"], "2");
}

#[test]
fn memory_is_counted_by_kind() {
    let pooler = Setup::new().start();
    let mem = |kind: &str| {
        let rows = pooler.show("MEM");
        let number = |column: &str| row(&rows, "name", kind)[column].parse::<u64>().unwrap();
        let (size, used, total) = (number("size"), number("used"), number("memtotal"));
        (size, used, total)
    };
    assert_eq!(mem("client_cache").1, 0);
    let statements = mem("prepared_statement_cache").1;
    let mut clients: Vec<_> = (0..3).map(|_| pooler.login()).collect();
    clients[0].send(&Frontend::new().parse("a", "select 1").sync());
    clients[0].answer();
    clients[1].query("select 1");
    let (size, used, total) = mem("client_cache");
    assert_eq!((used, total), (3, 3 * size));
    assert!((200..1000).contains(&size), "{size}");
    assert!((1..=2).contains(&mem("server_cache").1));
    // Each worker that met the text has its part of it.
    assert!(mem("prepared_statement_cache").1 > statements);
    assert_eq!(mem("db_cache").1, 1);
    // What the system says of it.
    let resident = mem("resident").2;
    let seen = pooler.memory();
    assert!(resident.abs_diff(seen) < seen / 4, "{resident} of {seen}");
}

#[test]
fn stats_count() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    for _ in 0..5 {
        client.query("select 1");
    }
    client.query("begin");
    client.query("select 2");
    client.query("commit");
    drop(client);
    let stats = pooler.show("STATS");
    let stats = row(&stats, "database", &pooler.database);
    assert_eq!(stats["total_query_count"], "8");
    assert_eq!(stats["total_xact_count"], "6");
    assert_eq!(stats["total_server_assignment_count"], "6");
    assert_eq!(stats["total_client_login_count"], "1");
    assert_ne!(stats["total_received"], "0");
    assert_ne!(stats["total_sent"], "0");
}

#[test]
fn reload_applies_what_has_changed() {
    let mut pooler = Setup::new().pool_size(1).start();
    let mut bystander = pooler.login();
    bystander.query("begin");
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    pooler.rewrite(|setup| {
        setup
            .pool_size(2)
            .alias("new_one")
            .user("newcomer", "password", "x")
    });
    assert_eq!(pooler.console().query("RELOAD").command_tags(), ["RELOAD"]);
    assert_eq!(waiting.answer().value(), "1", "the pool has grown");
    assert_eq!(
        bystander.query("select 1").status(),
        'T',
        "nobody else noticed"
    );
    assert_eq!(
        RawClient::login(&pooler.address, "app", "new_one").value("select 1"),
        "1"
    );
    let config = pooler.show("CONFIG");
    assert_eq!(row(&config, "key", "default_pool_size")["value"], "2");
}

#[test]
fn reload_takes_databases_away() {
    let mut pooler = Setup::new().alias("short_lived").start();
    let mut client = RawClient::login(&pooler.address, "app", "short_lived");
    assert_eq!(client.value("select 1"), "1");
    pooler.rewrite(|setup| setup.without_database("short_lived"));
    pooler.console().query("RELOAD");
    eventually("no such database any more", true, || {
        RawClient::try_login(&pooler.address, "app", "short_lived", None).is_err()
    });
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn reload_of_a_broken_file_changes_nothing() {
    let mut pooler = Setup::new().pool_size(1).start();
    pooler.rewrite(|setup| setup.pool_size(2).set("no_such_setting", 1));
    let error = pooler.console().try_query("RELOAD").error();
    assert_eq!(error.severity(), "ERROR");
    assert!(pooler.log().contains("no_such_setting"), "{}", pooler.log());
    let config = pooler.show("CONFIG");
    assert_eq!(row(&config, "key", "default_pool_size")["value"], "1");
    assert_eq!(pooler.login().value("select 1"), "1");
    // Repaired, it is read.
    pooler.rewrite(|setup| setup.unset("no_such_setting"));
    pooler.console().query("RELOAD");
    let config = pooler.show("CONFIG");
    assert_eq!(row(&config, "key", "default_pool_size")["value"], "2");
}

#[test]
fn shutdown_ends_at_once() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    let mut console = pooler.console();
    console.send(&Frontend::new().query("SHUTDOWN"));
    assert_eq!(pooler.wait(), 0);
    client.read_to_end();
    pooler.expect_backends(0);
}

#[test]
fn shutdown_wait_for_clients() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.console().query("SHUTDOWN WAIT_FOR_CLIENTS");
    // At once; only the console is still to be had, at the Unix socket.
    assert!(RawClient::try_connect(&pooler.address).is_err());
    let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
    refused(&mut console, "RESUME", "pooler is shutting down");
    assert_eq!(client.query("select 1").status(), 'T');
    assert!(pooler.is_running());
    drop(client);
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn shutdown_wait_for_servers() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    let _idle = pooler.login();
    pooler.console().query("SHUTDOWN WAIT_FOR_SERVERS");
    assert!(RawClient::try_connect(&pooler.address).is_err());
    assert!(pooler.is_running());
    client.query("commit");
    assert_eq!(pooler.wait(), 0);
}

/// What the console answers instead of doing it.
#[track_caller]
fn refused(console: &mut RawClient, command: &str, text: &str) {
    let error = console.try_query(command).error();
    let seen = (error.severity(), error.sqlstate(), error.message());
    assert_eq!(seen, ("ERROR", "08P01", text), "{command}");
}

#[test]
fn shutdown_may_change_its_mind() {
    let mut pooler = Setup::new().in_ini().start();
    let mut client = pooler.login();
    client.query("begin");
    let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
    for command in [
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "SHUTDOWN WAIT_FOR_SERVERS",
    ] {
        assert_eq!(console.query(command).command_tags(), ["SHUTDOWN"]);
    }
    assert!(pooler.is_running());
    // The client is not waited for any more, only its transaction.
    client.query("commit");
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn a_cancel_request_is_shown_while_it_is_under_way() {
    let mut relay = Relay::to(Cluster::shared().port);
    let setup = Setup::new().pool_size(1);
    let setup = setup.for_database("port", i32::from(relay.port));
    let pooler = setup.start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    eventually("a query", true, || {
        let sql = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' \
                   and datname = current_database()";
        pooler.admin().value(sql) == "1"
    });
    relay.cut();
    std::thread::scope(|scope| {
        scope.spawn(|| client.cancel());
        eventually("a cancel request", true, || {
            let rows = pooler.show("CLIENTS");
            rows.iter().any(|row| row["state"] == "active_cancel_req")
        });
        let pools = pooler.show("POOLS");
        let own = row(&pools, "user", "app");
        let counts = (&*own["cl_active_cancel_req"], &*own["sv_active_cancel"]);
        assert_eq!(counts, ("1", "1"));
        relay.mend();
    });
    assert_eq!(client.answer().error().sqlstate(), "57014");
    let rows = pooler.show("CLIENTS");
    assert!(rows.iter().all(|row| row["state"] == "idle"), "{rows:?}");
}

/// Each number is that of the socket whose address stands beside it.
#[test]
fn descriptors_are_those_of_the_process() {
    let pooler = Setup::new().pool_size(1).set("stats_users", "app2").start();
    let mut client = pooler.login();
    client.query("set timezone = 'Asia/Tokyo'");
    client.query("begin");
    let rows = pooler.show("FDS");
    let tasks: Vec<_> = rows.iter().map(|row| row["task"].as_str()).collect();
    assert_eq!(tasks, ["pooler", "pooler", "client", "server"]);
    let (listener, theirs, ours) = (&rows[1], &rows[2], &rows[3]);
    assert_eq!(
        (&theirs["link"], &ours["link"]),
        (&ours["fd"], &theirs["fd"])
    );
    assert_eq!(
        (&theirs["timezone"], &ours["timezone"]),
        (&"Asia/Tokyo".to_owned(), &"Asia/Tokyo".to_owned())
    );
    let addresses = fs::read_to_string("/proc/net/tcp").unwrap();
    for (row, end) in [(listener, 1), (theirs, 2), (ours, 2)] {
        let place = format!("/proc/{}/fd/{}", pooler.id(), row["fd"]);
        let inode = fs::read_link(place).unwrap().display().to_string();
        let inode = inode
            .strip_prefix("socket:[")
            .unwrap()
            .trim_end_matches(']');
        let fields = addresses
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let socket = fields
            .clone()
            .find(|fields| fields.get(9) == Some(&inode))
            .unwrap();
        let port: u16 = row["port"].parse().unwrap();
        assert!(
            socket[end].ends_with(&format!(":{port:04X}")),
            "{row:?}: {socket:?}"
        );
    }
    let mut stats = RawClient::login(&pooler.address, "app2", "pgbouncer");
    let error = stats.try_query("show fds").error();
    assert!(error.message().contains("admin access needed"), "{error:?}");
}
