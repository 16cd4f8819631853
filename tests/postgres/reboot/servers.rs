//! Server connections go on in the new process.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Line;
use super::clients::{has_moved, log_in};
use crate::restart::End;
use crate::support::{Frontend, RawClient, Setup, eventually, pgbench};

const PID: &str = "select pg_backend_pid()";

#[test]
fn an_idle_connection_moves() {
    let change = |setup: Setup| setup.in_ini().set("max_prepared_statements", 10);
    let mut line = Line::begin(|setup| change(setup).pool_size(1));
    let mut client = log_in(&line, "mover");
    let prepared = "select count(*) from pg_prepared_statements where name like 'pgweir%'";
    client.exchange(&Frontend::new().parse("p", "select $1 || 1").sync());
    let named = Frontend::new().bind("", "p", &["a"]).execute("", 0).sync();
    assert_eq!(client.exchange(&named).value(), "a1");
    let backend = client.value(PID);
    let before = line.last().show("SERVERS")[0].clone();
    for _ in 0..2 {
        line.go_on();
        let old = line.poolers.len() - 2;
        assert_eq!(line.poolers[old].wait(), 0);
        assert_eq!(client.value(PID), backend);
        // What the old process has prepared is gone, and prepared again on demand.
        assert_eq!(client.value(prepared), "0");
        assert_eq!(client.exchange(&named).value(), "a1");
        assert_eq!(client.value(prepared), "1");
        let after = &line.last().show("SERVERS")[0];
        for column in [
            "id",
            "connect_time",
            "addr",
            "port",
            "local_port",
            "remote_pid",
        ] {
            assert_eq!(after[column], before[column], "{column}");
        }
        // It knows what clients are told.
        let mut other = line.last().login();
        assert_eq!(other.value(PID), backend);
        assert!(!other.parameters["server_version"].is_empty());
    }
}

#[test]
fn a_session_moves_as_a_whole() {
    let mut line = Line::begin(|setup| setup.in_ini().set("pool_mode", "session"));
    let mut client = log_in(&line, "mover");
    client.query("create temp table kept as select 'kept' as what");
    client.query("prepare p as select what from kept");
    client.query("set work_mem = '7MB'");
    let backend = client.value(PID);
    let mut busy = log_in(&line, "busy");
    busy.query("begin");
    line.go_on();
    has_moved(&line, "mover");
    assert_eq!(client.value(PID), backend);
    assert_eq!(client.value("execute p"), "kept");
    assert_eq!(client.value("show work_mem"), "7MB");
    let servers = line.last().show("SERVERS");
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0]["state"], "active");
    let backend = busy.value(PID);
    busy.query("commit");
    has_moved(&line, "busy");
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(busy.value(PID), backend);
    // It is given back, and cleaned.
    drop(client);
    eventually("it is idle", 1, || {
        let servers = line.last().show("SERVERS");
        servers.iter().filter(|row| row["state"] == "idle").count()
    });
}

#[test]
fn the_bound_holds_while_two_processes_run() {
    let mut line = Line::begin(|setup| setup.pool_size(5));
    let script = line.last().config().with_file_name("script.sql");
    let text = "begin;\nselect 1;\n\\sleep 1 ms\nselect 2;\ncommit;\n";
    std::fs::write(&script, text).expect("write");
    let script = script.display().to_string();
    let arguments = ["-n", "-c", "20", "-j", "2", "-T", "600", "-f", &script];
    let bench = pgbench(&arguments, &line.last().dsn()).start();
    line.last().expect_backends(5);
    let mut admin = line.last().admin();
    let over = AtomicBool::new(false);
    let (most, seen) = thread::scope(|scope| {
        let end = End(&over);
        let watch = scope.spawn(|| {
            let (mut most, mut seen) = (0, BTreeSet::new());
            while !over.load(Ordering::Relaxed) {
                let pids = "select pid from pg_stat_activity where usename = 'app' \
                            and datname = current_database()";
                let pids = admin.query(pids).column();
                most = most.max(pids.len());
                seen.extend(pids);
            }
            (most, seen)
        });
        for _ in 0..3 {
            line.go_on();
            let old = line.poolers.len() - 2;
            assert_eq!(line.poolers[old].wait(), 0);
            thread::sleep(Duration::from_millis(300));
        }
        drop(end);
        watch.join().expect("watch")
    });
    let output = bench.time_is_over();
    assert!(output.success, "{}", output.stderr);
    let failed = "number of failed transactions: 0 (0.000%)";
    assert!(output.stdout.contains(failed), "{}", output.stdout);
    // And they are the same all the time.
    assert_eq!((most, seen.len()), (5, 5));
}

/// The old process cannot be rid of one client, and the new one has others: the only
/// server connection goes to and fro.
#[test]
fn two_processes_share_one_connection() {
    let change = |setup: Setup| setup.in_ini().offer_tls("allow").pool_size(1);
    let mut line = Line::begin(change);
    let mut stays = line.encrypted("stays");
    let mut moves = log_in(&line, "moves");
    let backend = stays.value(PID);
    line.go_on();
    has_moved(&line, "moves");
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(stays.value(PID), backend);
        assert_eq!(moves.value(PID), backend);
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    drop(stays);
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(moves.value("select 1"), "1");
    line.last().expect_backends(1);
}

/// A client of the old process that waits for the one connection there is, one in the new
/// process that has it in a transaction, and the connection's PID.
fn with_one_that_starves() -> (Line, RawClient, RawClient, String) {
    let change = |setup: Setup| setup.in_ini().offer_tls("allow").pool_size(1);
    let mut line = Line::begin(change);
    let mut stays = line.encrypted("stays");
    let mut moves = log_in(&line, "moves");
    line.go_on();
    has_moved(&line, "moves");
    let backend = moves.value(PID);
    moves.query("begin");
    stays.send(&Frontend::new().query("select 1"));
    // The new process is told of it every 50 ms.
    thread::sleep(Duration::from_millis(300));
    (line, stays, moves, backend)
}

/// The old process dies when the new one is about to give it a connection.
#[test]
fn a_connection_that_a_dead_process_wanted_stays() {
    let (mut line, _stays, mut moves, backend) = with_one_that_starves();
    line.poolers[0].signal(Signal::SIGKILL);
    assert_eq!(line.poolers[0].wait(), -9);
    thread::sleep(Duration::from_millis(300));
    moves.query("commit");
    assert_eq!(moves.value(PID), backend);
}

/// The clients of the old process that wait for a connection leave, and it ends, when
/// the new one is about to give it one.
#[test]
fn what_the_old_process_does_not_want_any_more_is_not_lost() {
    let (mut line, stays, mut moves, backend) = with_one_that_starves();
    line.last().signal(Signal::SIGSTOP);
    moves.send(&Frontend::new().query("commit"));
    drop(stays);
    // Long enough to end; but the connection may be on its way.
    thread::sleep(Duration::from_millis(500));
    assert!(line.poolers[0].is_running());
    line.last().signal(Signal::SIGCONT);
    assert_eq!(moves.answer().tags(), "CZ");
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(moves.value(PID), backend);
    line.last().expect_backends(1);
}

/// Clients of the old process have waited for a connection, and do so no longer.
#[test]
fn what_nobody_waits_for_any_more_stays_where_it_is() {
    let change = |setup: Setup| setup.in_ini().offer_tls("allow").pool_size(1);
    // Another one in the old process would send it back.
    let change = |setup: Setup| change(setup).set("workers", 1);
    let mut line = Line::begin(change);
    let _idle = line.encrypted("idle");
    let mut waits = line.encrypted("waits");
    let mut moves = log_in(&line, "moves");
    line.go_on();
    has_moved(&line, "moves");
    moves.query("begin");
    waits.send(&Frontend::new().query("select 1"));
    // The new process is told of it every 50 ms, and then of its end.
    thread::sleep(Duration::from_millis(300));
    drop(waits);
    thread::sleep(Duration::from_millis(300));
    moves.query("commit");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(line.last().show("SERVERS").len(), 1);
}

/// The last client has left, but its query ends later than that.
#[test]
fn what_is_being_cleaned_moves_afterwards() {
    let mut line = Line::begin(|setup| setup.in_ini().pool_size(1));
    let mut client = line.last().login();
    let backend = client.value(PID);
    let does_not_obey = "do $$ begin perform pg_sleep(30); \
                         exception when query_canceled then perform pg_sleep(0.5); end $$";
    client.send(&Frontend::new().query(does_not_obey));
    let mut admin = line.last().admin();
    let runs = format!(
        "select count(*) from pg_stat_activity where pid = {backend} and wait_event = 'PgSleep'"
    );
    eventually("it sleeps", "1".to_owned(), || admin.value(&runs));
    line.go_on();
    drop(client);
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(line.last().login().value(PID), backend);
}

/// One that was opened under other terms is not used.
#[test]
fn a_connection_that_does_not_fit_is_closed() {
    let mut line = Line::begin(|setup| setup.in_ini().pool_size(1));
    let mut client = log_in(&line, "mover");
    let backend = client.value(PID);
    let database = line.last().database.clone();
    let setup = &mut line.poolers[0].setup;
    *setup = setup
        .clone()
        .database(&database, "connect_query", "select 7");
    line.go_on();
    has_moved(&line, "mover");
    assert_ne!(client.value(PID), backend);
    line.last().expect_backends(1);
}
