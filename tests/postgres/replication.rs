//! Clients that copy the server's data have a server connection of their own.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::replicas::Trio;
use crate::support::{
    Address, Cluster, Frontend, Pooler, Program, RawClient, Running, Setup, eventually, patiently,
    postgresql, psql, secs,
};

/// Where `app` may replicate, and `app2` may not.
fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        let cluster = Cluster::with_settings("wal_level = logical\n");
        cluster.let_replicate();
        cluster
    })
}

/// Programs ask for the database `replication` where they need none.
fn setup() -> Setup {
    let cluster = cluster();
    Setup::with(cluster)
        .database("replication", "host", "127.0.0.1")
        .database("replication", "port", i32::from(cluster.port))
}

fn program(name: &str, pooler: &Pooler) -> Program {
    let port = pooler.address.port().to_string();
    postgresql(name)
        .args(&["-h", "127.0.0.1", "-p", &port, "-U", "app", "--no-password"])
        .env("PGSSLMODE", "prefer")
}

/// A client for logical replication, which may run SQL as well.
fn logical(pooler: &Pooler) -> RawClient {
    pooler.login_with(&[("replication", "database")])
}

fn refused(address: &Address, database: &str, user: &str, value: &str) -> crate::support::Failure {
    let parameters = [
        ("user", user),
        ("database", database),
        ("replication", value),
    ];
    RawClient::try_login_with(address, &parameters, None).expect_err("no login")
}

/// Server connections as the console has them: user, replication and state.
fn servers(pooler: &Pooler) -> Vec<(String, String, String)> {
    let cells = |row: std::collections::BTreeMap<String, String>| {
        let cell = |name: &str| row[name].clone();
        (cell("user"), cell("replication"), cell("state"))
    };
    pooler.show("SERVERS").into_iter().map(cells).collect()
}

fn server(user: &str, replication: &str, state: &str) -> (String, String, String) {
    (user.to_owned(), replication.to_owned(), state.to_owned())
}

/// A client that waits until it has a connection for replication.
fn replicates(pooler: &Pooler) -> JoinHandle<RawClient> {
    let (address, database) = (pooler.address.clone(), pooler.database.clone());
    std::thread::spawn(move || {
        let parameters = [
            ("user", "app"),
            ("database", &*database),
            ("replication", "database"),
        ];
        RawClient::try_login_with(&address, &parameters, None).expect("login")
    })
}

/// A program that streams WAL into this directory.
fn follows_wal(pooler: &Pooler, dir: &Path) -> Running {
    let receiver = program("pg_receivewal", pooler)
        .args(&["-D", path(dir), "--no-sync", "--no-loop"])
        .start();
    let streaming = vec![server("app", "physical", "active")];
    eventually("it streams", streaming, || servers(pooler));
    receiver
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_base_backup_with_its_wal_is_complete_and_costs_no_memory() {
    let pooler = setup().start();
    pooler.admin().query(
        "create table large as select n, repeat(md5(n::text), 20) from generate_series(1, 60000) n",
    );
    let dir = tempfile::tempdir().expect("directory");
    let copy = dir.path().join("copy");
    pooler.login().query("select 1");
    pooler.peak_memory();
    let before = pooler.memory();
    program("pg_basebackup", &pooler)
        .args(&["-D", path(&copy), "-X", "stream", "-c", "fast", "--no-sync"])
        .succeed();
    let grown = pooler.peak_memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    postgresql("pg_verifybackup").args(&[path(&copy)]).succeed();
    // Nothing is kept of it.
    eventually(
        "they are closed",
        vec![server("app", "none", "idle")],
        || servers(&pooler),
    );
}

#[test]
fn wal_is_received_as_long_as_it_comes() {
    let pooler = setup().set("pool_mode", "statement").start();
    let dir = tempfile::tempdir().expect("directory");
    let receiver = follows_wal(&pooler, dir.path());
    let mut clients = pooler.show("CLIENTS").into_iter();
    let client = clients
        .find(|row| row["replication"] == "physical")
        .expect("the client");
    assert_eq!(client["database"], "replication");
    assert_eq!(client["state"], "active");
    assert_ne!(client["link"], "");
    assert!(pooler.log().contains("replication=yes"), "{}", pooler.log());
    let mut admin = pooler.admin();
    let file = admin.value("select pg_walfile_name(pg_current_wal_insert_lsn())");
    admin.query("create table t (n int); select pg_switch_wal()");
    patiently("a whole segment", || {
        let there = fs::metadata(dir.path().join(&file)).ok()?;
        (there.len() == 16 << 20).then_some(())
    });
    receiver.signal(Signal::SIGINT);
    assert!(receiver.finish().success);
    eventually("the connection is closed", Vec::new(), || servers(&pooler));
}

#[test]
fn changes_are_decoded_and_the_slot_survives() {
    let pooler = setup().pool_size(1).start();
    let recv = |more: &[&str]| {
        program("pg_recvlogical", &pooler)
            .args(&["-d", &pooler.database, "--slot", &pooler.database])
            .args(more)
    };
    recv(&["--create-slot", "-P", "test_decoding"]).succeed();
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("changes");
    let follow = || recv(&["--start", "--no-loop", "-f", path(&file)]).start();
    let changes = |wanted: &str| {
        patiently("changes", || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.contains(wanted).then_some(())
        });
    };
    let receiver = follow();
    let mut admin = pooler.admin();
    // The server's process may outlive its connection a little.
    let is_free =
        "select not active from pg_replication_slots where slot_name = current_database()";
    let free = || {
        let mut admin = pooler.admin();
        eventually("the slot is free", "t".to_owned(), || admin.value(is_free));
    };
    admin.query("create table t (n int); grant all on t to public; insert into t values (4711)");
    changes("INSERT: n[integer]:4711");
    assert_eq!(servers(&pooler), [server("app", "logical", "active")]);
    assert!(pooler.log().contains("replication=database"));
    receiver.signal(Signal::SIGINT);
    assert!(receiver.finish().success);
    free();
    // The one place in the pool is free again.
    assert_eq!(pooler.login().value("select n from t"), "4711");
    admin.query("insert into t values (4712)");
    let receiver = follow();
    changes("INSERT: n[integer]:4712");
    receiver.signal(Signal::SIGINT);
    assert!(receiver.finish().success);
    free();
    recv(&["--drop-slot"]).succeed();
}

#[test]
fn startup_parameters_and_options_go_to_the_server() {
    let setup = setup().for_database("application_name", "of the database");
    let pooler = setup.for_database("datestyle", "German").start();
    let mut client = pooler.login_with(&[
        ("replication", "database"),
        ("application_name", "mine"),
        ("options", "-c work_mem=321kB --search-path=elsewhere"),
    ]);
    assert_eq!(client.value("show work_mem"), "321kB");
    assert_eq!(client.value("show search_path"), "elsewhere");
    assert_eq!(client.value("show application_name"), "mine");
    assert_eq!(client.value("show datestyle"), "German, DMY");
    assert_eq!(client.parameters["DateStyle"], "German, DMY");
    let clients = pooler.show("CLIENTS");
    let names: Vec<_> = clients
        .iter()
        .map(|row| &*row["application_name"])
        .collect();
    assert!(names.contains(&"mine"), "{names:?}");
}

#[test]
fn both_directions_of_a_stream_go_through() {
    let pooler = setup().pool_size(1).start();
    let mut client = logical(&pooler);
    assert_eq!(client.query("IDENTIFY_SYSTEM").rows().len(), 1);
    let slot = format!("both_{}", pooler.database);
    client.query(&format!(
        "CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL test_decoding NOEXPORT_SNAPSHOT"
    ));
    client.send(&Frontend::new().query(&format!("START_REPLICATION SLOT {slot} LOGICAL 0/0")));
    assert_eq!(client.read().tag, b'W');
    // A keepalive is asked for with an answer: that of the server comes at once.
    let mut status = b"d\0\0\0\x26r".to_vec();
    status.extend([0; 32]);
    status.push(1);
    client.send_bytes(&status);
    patiently("a keepalive", || {
        let message = client.read();
        (message.tag == b'd' && message.body[0] == b'k').then_some(())
    });
    client.send_bytes(b"c\0\0\0\x04");
    let rest = client.answer();
    assert!(rest.tags().ends_with("CCZ"), "{}", rest.tags());
    assert_eq!(client.value("select 5"), "5");
}

#[test]
fn a_cancel_request_reaches_it() {
    let pooler = setup().start();
    let mut client = logical(&pooler);
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    let running = "select count(*) from pg_stat_activity where state = 'active'
        and query = 'select pg_sleep(60)'";
    let mut admin = pooler.admin();
    eventually("it runs", "1".to_owned(), || admin.value(running));
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn who_may_not_replicate_is_told() {
    let pooler = setup().start();
    let (address, database) = (&pooler.address, pooler.database.as_str());
    let failure = refused(address, database, "app2", "database");
    assert_eq!(
        (failure.message(), failure.sqlstate()),
        ("login failed", "08P01")
    );
    let detail = &failure.fields[&'D'];
    let server = Address::local(cluster().port);
    let direct = refused(&server, database, "app2", "database");
    assert!(detail.contains(direct.message()), "{detail}");
    // That says nothing of ordinary connections.
    assert_eq!(pooler.login_as("app2").value("select 1"), "1");
    let failure = refused(address, database, "app", "perhaps");
    assert_eq!(
        failure.message(),
        "invalid value for parameter \"replication\": \"perhaps\""
    );
    assert_eq!(failure.sqlstate(), pooler.sqlstate("22023"));
    let mut plain = pooler.login_with(&[("replication", "off")]);
    assert_eq!(
        plain.try_query("IDENTIFY_SYSTEM").error().sqlstate(),
        "42601"
    );
}

#[test]
fn an_idle_connection_makes_room() {
    let pooler = setup().pool_size(1).start();
    pooler.login().query("select 1");
    assert_eq!(servers(&pooler), [server("app", "none", "idle")]);
    let mut client = logical(&pooler);
    assert_eq!(servers(&pooler), [server("app", "logical", "active")]);
    assert!(pooler.log().contains("evicted"), "{}", pooler.log());
    assert_eq!(client.value("select 1"), "1");
    // Of another pool, where the bound is the database's.
    let pooler = setup().for_database("max_db_connections", 1).start();
    pooler.login_as("app2").query("select 1");
    let _client = logical(&pooler);
    assert_eq!(servers(&pooler), [server("app", "logical", "active")]);
}

#[test]
fn it_waits_its_turn_for_a_full_pool() {
    let pooler = setup().one_worker().pool_size(1).start();
    let mut holder = pooler.login();
    holder.query("begin");
    let first = replicates(&pooler);
    pooler.expect_waiting(1);
    let mut behind = pooler.login_with(&[]);
    behind.send(&Frontend::new().query("select 7"));
    pooler.expect_waiting(2);
    holder.query("commit");
    let mut first = first.join().expect("the first");
    assert_eq!(servers(&pooler), [server("app", "logical", "active")]);
    assert_eq!(first.value("select 1"), "1");
    assert!(behind.is_silent_for(Duration::from_millis(200)));
    // One more of its kind waits behind.
    let second = replicates(&pooler);
    pooler.expect_waiting(2);
    first.close();
    assert_eq!(behind.answer().value(), "7");
    let mut second = second.join().expect("the second");
    assert_eq!(second.value("select 1"), "1");
    assert_eq!(servers(&pooler), [server("app", "logical", "active")]);
}

/// Room that is made on one worker goes to who has waited longer on another.
#[test]
fn it_waits_its_turn_among_all_workers() {
    let pooler = setup().set("workers", 2).pool_size(1).start();
    let worker = |client: &RawClient| client.key[3] % 2;
    for round in 0..10 {
        let mut clients: Vec<_> = (0..2).map(|_| pooler.login()).collect();
        let mut first = logical(&pooler);
        clients.retain(|client| worker(client) != worker(&first));
        let mut longer = clients.pop().expect("one of two is elsewhere");
        longer.send(&Frontend::new().query("select 7"));
        pooler.expect_waiting(1);
        std::thread::sleep(Duration::from_millis(20));
        // On both, since those who come are dealt evenly.
        let later = [replicates(&pooler), replicates(&pooler)];
        pooler.expect_waiting(3);
        first.close();
        assert_eq!(longer.answer().value(), "7", "round {round}");
        // One after the other, whichever is first.
        let end = |login: JoinHandle<RawClient>| move || drop(login.join().expect("a later one"));
        for ended in later.map(|login| std::thread::spawn(end(login))) {
            ended.join().expect("thread");
        }
    }
}

#[test]
fn waiting_has_its_limit() {
    let pooler = setup()
        .pool_size(1)
        .set("query_wait_timeout", secs(3.0))
        .start();
    let mut holder = pooler.login();
    holder.query("begin");
    assert_eq!(
        refused(&pooler.address, &pooler.database, "app", "database").message(),
        "query_wait_timeout"
    );
    holder.query("commit");
    logical(&pooler).query("select 1");
}

#[test]
fn a_new_configuration_ends_it() {
    let mut pooler = setup().start();
    let mut client = logical(&pooler);
    pooler.rewrite(|setup| setup.set("server_lifetime", secs(1234.0)));
    pooler.console().query("RELOAD");
    assert_eq!(client.value("select 1"), "1");
    pooler.rewrite(|setup| setup.for_database("timezone", "UTC"));
    pooler.console().query("RELOAD");
    let last = client.read_to_end();
    assert_eq!(
        last[0].failure().message(),
        "database configuration changed"
    );
    assert!(pooler.log().contains("database configuration changed"));
    let mut client = logical(&pooler);
    pooler.console().query("RECONNECT");
    let last = client.read_to_end();
    assert_eq!(
        last[0].failure().message(),
        "database configuration changed"
    );
    eventually("nothing is left", 0, || servers(&pooler).len());
}

#[test]
fn both_ends_end_together() {
    let pooler = setup().start();
    let mut client = logical(&pooler);
    let pid = client.value("select pid from pg_backend_pid() as pid");
    let mut admin = pooler.admin();
    admin.query(&format!("select pg_terminate_backend({pid})"));
    let last = client.read_to_end();
    assert_eq!(last.len(), 1, "{last:?}");
    assert_eq!(last[0].failure().sqlstate(), "57P01");
    drop(logical(&pooler));
    eventually("the server's is closed", 0, || servers(&pooler).len());
    let mut client = logical(&pooler);
    let id = pooler.show("CLIENTS").into_iter();
    let id = id
        .filter(|row| row["replication"] == "logical")
        .map(|row| row["id"].clone());
    let id: Vec<_> = id.collect();
    pooler.console().query(&format!("KILL_CLIENT {}", id[0]));
    let last = client.read_to_end();
    assert_eq!(last[0].failure().message(), "admin forced disconnect");
}

/// What is asked for is answered; who follows the WAL goes at once.
#[test]
fn draining_waits_for_what_ends() {
    let pooler = setup().in_toml().start();
    let dir = tempfile::tempdir().expect("directory");
    let receiver = follows_wal(&pooler, dir.path());
    let mut client = logical(&pooler);
    client.send(&Frontend::new().query("select pg_sleep(2), 'done'"));
    let running = "select count(*) from pg_stat_activity where state = 'active'
        and query like 'select pg_sleep(2)%'";
    let mut admin = pooler.admin();
    eventually("it runs", "1".to_owned(), || admin.value(running));
    pooler.signal(Signal::SIGTERM);
    assert!(!receiver.finish().success);
    assert_eq!(client.answer().rows()[0][1].as_deref(), Some("done"));
    let last = client.read_to_end();
    assert_eq!(last[0].failure().sqlstate(), "57P01");
}

#[test]
fn the_primary_is_copied_where_reads_are_routed() {
    let trio = Trio::shared();
    trio.primary.let_replicate();
    let pooler = trio.setup().start();
    for _ in 0..3 {
        let mut client = logical(&pooler);
        assert_eq!(client.value("select pg_is_in_recovery()"), "f");
    }
}

#[test]
fn over_tls_as_well() {
    let dir = tempfile::tempdir().expect("directory");
    let pooler = setup().offer_tls("require").start();
    let receiver = program("pg_receivewal", &pooler)
        .args(&["-D", path(dir.path()), "--no-sync", "--no-loop"])
        .env("PGSSLMODE", "require")
        .start();
    eventually(
        "it streams",
        vec![server("app", "physical", "active")],
        || {
            let console = format!(
                "{} sslmode=require dbname=pgbouncer user=admin",
                pooler.dsn()
            );
            let rows = psql(&console).args(&["-c", "SHOW SERVERS"]).succeed();
            let cells = |row: &str| {
                let cells: Vec<_> = row.split('|').map(str::to_owned).collect();
                (cells[1].clone(), cells[3].clone(), cells[4].clone())
            };
            rows.lines().map(cells).collect::<Vec<_>>()
        },
    );
    receiver.signal(Signal::SIGINT);
    assert!(receiver.finish().success);
}
