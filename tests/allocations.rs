//! In steady state a transaction costs no allocation: neither in the simple nor
//! in the extended protocol, nor with a prepared statement, nor when clients
//! wait for each other's server connection, nor when it is found out that it
//! goes to a replica, and to which.
//!
//! pgweir runs inside this process, whose allocator counts; the client's side
//! of the measured part allocates nothing itself.

// Helpers outside of test functions fail tests by panicking, too.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use pgweir::cli::files;
use pgweir::process::{self, logging};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Cluster, Frontend};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// More than the pool has connections, so that some always wait.
const CLIENTS: usize = 3;
const POOL_SIZE: usize = 2;
const WARM_UP: usize = 300;
const ROUNDS: usize = 1000;

#[test]
fn transactions_allocate_nothing() {
    let cluster = Cluster::fresh();
    let database = cluster.create_database();
    let replicas = [cluster.replica(), cluster.replica()];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgweir.toml");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let hosts = [&cluster, &replicas[0], &replicas[1]];
    let hosts = hosts.map(|host| format!("{{ host = \"127.0.0.1\", port = {} }}", host.port));
    let config = format!(
        "[pgweir]\nlisten_addr = \"127.0.0.1\"\nlisten_port = {port}\nunix_socket_dir = \"\"\n\
         auth_type = \"trust\"\npool_mode = \"transaction\"\ndefault_pool_size = {POOL_SIZE}\n\
         log_level = \"error\"\nworkers = 1\n\
         host_check_period = \"1h\"\n\
         [databases.{database}]\nhost = \"127.0.0.1\"\nport = {}\n\
         [databases.routed]\ndbname = \"{database}\"\nroute_reads = true\nhosts = [{}]\n\
         [users.app]\n",
        cluster.port,
        hosts.join(", ")
    );
    std::fs::write(&file, config).unwrap();
    std::thread::spawn(move || {
        let config = files::load(Some(&file), &[]).unwrap();
        let log = logging::init(&logging::Options::new(&config)).unwrap();
        let source = process::Source::new(Some(file), Vec::new());
        process::run(config, source, log, process::Origin::default())
    });
    let mut plain: Vec<_> = (0..CLIENTS).map(|_| log_in(port, &database)).collect();
    let mut routed: Vec<_> = (0..CLIENTS).map(|_| log_in(port, "routed")).collect();

    let simple = Frontend::new().query("select 1");
    let extended = Frontend::new().run("select $1", &["x"]).sync();
    let parse = Frontend::new().parse("named", "select $1::text").sync();
    let prepared = Frontend::new()
        .bind("", "named", &["y"])
        .describe(b'P', "")
        .execute("", 0)
        .sync();
    for client in plain.iter_mut().chain(&mut routed) {
        client.write_all(&parse.bytes).unwrap();
        until_ready(client);
    }
    let protocols = [
        ("simple", simple),
        ("extended", extended),
        ("prepared", prepared),
    ];
    for (kind, clients) in [("plain", &mut plain), ("routed", &mut routed)] {
        for (name, request) in &protocols {
            rounds(clients, &request.bytes, WARM_UP);
            // Of three times that with the fewest: what is done once after the
            // start, such as reading the catalog, may fall into one of them.
            let measure = |_| {
                let region = Region::new(ALLOCATOR);
                rounds(clients, &request.bytes, ROUNDS);
                region.change().allocations
            };
            let allocations = (0..3).map(measure).min().unwrap();
            let transactions = ROUNDS * CLIENTS;
            println!("{kind}, {name}: {allocations} allocations in {transactions} transactions");
            // A timer may be set anew in the meantime; one allocation per
            // transaction, or per hundred, would be seen.
            assert!(
                allocations < transactions / 500,
                "{kind}, {name}: {allocations}"
            );
        }
    }
    // They did go to replicas.
    for replica in &replicas {
        let served = "select count(*) from pg_stat_activity where datname = current_database() \
            and usename = 'app' and query like 'select%'";
        assert_ne!(replica.admin(&database).value(served), "0");
    }
}

/// Each client sends the request; then each reads the whole answer.
fn rounds(clients: &mut [TcpStream], request: &[u8], count: usize) {
    for _ in 0..count {
        for client in &mut *clients {
            client.write_all(request).unwrap();
        }
        for client in &mut *clients {
            until_ready(client);
        }
    }
}

/// Reads up to ReadyForQuery.
fn until_ready(client: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while !buffer[..filled].ends_with(b"Z\0\0\0\x05I") {
        let n = client.read(&mut buffer[filled..]).unwrap();
        assert!(
            n > 0,
            "closed: {:?}",
            String::from_utf8_lossy(&buffer[..filled])
        );
        filled += n;
    }
}

fn log_in(port: u16, database: &str) -> TcpStream {
    let mut client = support::patiently("pgweir answers", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    client.set_nodelay(true).unwrap();
    let startup = Frontend::new().startup((3, 0), &[("user", "app"), ("database", database)]);
    client.write_all(&startup.bytes).unwrap();
    until_ready(&mut client);
    client
}
