//! Clients go on in the new process.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Line;
use crate::support::{Frontend, RawClient, Setup, eventually, pgbench};

/// Where a client of the last process stands there, by the name of its application.
fn seen(line: &Line, name: &str) -> Option<(String, String)> {
    let rows = line.last().show("CLIENTS");
    let row = rows.iter().find(|row| row["application_name"] == name)?;
    Some((row["id"].clone(), row["connect_time"].clone()))
}

#[track_caller]
pub fn has_moved(line: &Line, name: &str) {
    eventually("it has moved", true, || seen(line, name).is_some());
}

pub fn log_in(line: &Line, name: &str) -> RawClient {
    line.last().login_with(&[("application_name", name)])
}

#[test]
fn a_client_keeps_what_it_has() {
    let mut line = Line::begin(|setup| setup.in_ini().set("max_prepared_statements", 100));
    let mut client = log_in(&line, "mover");
    client.query("set statement_timeout = '77s'");
    client.query("set datestyle = 'SQL, DMY'");
    client.exchange(&Frontend::new().parse("p", "select 'kept ' || $1").sync());
    client.exchange(&Frontend::new().parse("", "select 'unnamed'").sync());
    let before = seen(&line, "mover").expect("it is here");
    for _ in 0..3 {
        line.go_on();
        eventually("it has moved", Some(before.clone()), || {
            seen(&line, "mover")
        });
        let old = line.poolers.len() - 2;
        assert_eq!(line.poolers[old].wait(), 0);

        let named = Frontend::new().bind("", "p", &["it"]).execute("", 0).sync();
        assert_eq!(client.exchange(&named).value(), "kept it");
        assert_eq!(client.value("show datestyle"), "SQL, DMY");
        client.exchange(&Frontend::new().parse("", "select 'again'").sync());
        let unnamed = Frontend::new().bind("", "", &[]).execute("", 0).sync();
        assert_eq!(client.exchange(&unnamed).value(), "again");
        assert_eq!(line.last().show("CLIENTS")[0]["prepared_statements"], "1");
    }
    // A number of its own, and none that it shares with somebody.
    let other = log_in(&line, "other");
    assert_ne!(seen(&line, "other").expect("it is here").0, before.0);
    drop(other);
}

#[test]
fn nothing_fails_under_load_and_nobody_connects_again() {
    // pgbench waits for a Prepare while other clients of its thread hold connections:
    // it needs one for each.
    for (mode, size) in [("simple", 5), ("prepared", 20)] {
        let change = |setup: Setup| setup.pool_size(size).set("max_prepared_statements", 100);
        let mut line = Line::begin(change);
        let script = line.last().config().with_file_name("script.sql");
        let text = "begin;\nselect 1;\n\\sleep 2 ms\nselect 2;\ncommit;\nselect 3;\n";
        std::fs::write(&script, text).expect("write");
        let script = script.display().to_string();
        let arguments = [
            "-n", "-M", mode, "-c", "20", "-j", "2", "-T", "600", "-f", &script,
        ];
        let bench = pgbench(&arguments, &line.last().dsn()).start();
        let begun = || line.last().show("CLIENTS").len();
        eventually("all are here", 21, begun);
        for _ in 0..3 {
            line.go_on();
            let old = line.poolers.len() - 2;
            assert_eq!(line.poolers[old].wait(), 0);
            eventually("all are here", 21, || line.last().show("CLIENTS").len());
        }
        let log = line.last().log();
        let mut logins = log.lines().filter(|line| line.contains("login attempt"));
        let again = logins.find(|login| login.contains("user=app"));
        assert_eq!(again, None, "somebody connected again");
        let output = bench.time_is_over();
        assert!(output.success, "{mode}: {}", output.stderr);
        let failed = "number of failed transactions: 0 (0.000%)";
        assert!(output.stdout.contains(failed), "{}", output.stdout);
    }
}

#[test]
fn a_transaction_ends_where_it_began() {
    let mut line = Line::begin(Setup::in_ini);
    let mut client = log_in(&line, "mover");
    client.query("begin");
    let before = client.value("select pg_backend_pid()");
    line.go_on();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.value("select pg_backend_pid()"), before);
    assert_eq!(seen(&line, "mover"), None);
    client.query("commit");
    has_moved(&line, "mover");
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn what_is_on_a_connection_of_the_old_process_keeps_its_client() {
    let change = |setup: Setup| setup.in_ini().pinning();
    let mut line = Line::begin(|setup| change(setup).pool_size(3));
    let mut pinned = log_in(&line, "pinned");
    pinned.query("create temp table kept as select 'kept' as what");
    let mut listens = log_in(&line, "listens");
    listens.query("listen news");
    let mut plain = log_in(&line, "plain");
    line.go_on();
    has_moved(&line, "plain");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(pinned.value("select what from kept"), "kept");
    plain.query("notify news, 'of today'");
    assert!(listens.read().body.ends_with(b"news\0of today\0"));
    for name in ["pinned", "listens"] {
        assert_eq!(seen(&line, name), None, "{name}");
    }
    // The table gone, nothing keeps it.
    pinned.query("drop table kept");
    has_moved(&line, "pinned");
    assert_eq!(pinned.value("select 1"), "1");
    drop(listens);
    assert_eq!(line.poolers[0].wait(), 0);
}

#[test]
fn a_client_stays_if_the_new_process_dies() {
    let mut line = Line::begin(|setup| setup.in_ini().pool_size(5));
    let mut held = log_in(&line, "in a transaction");
    held.query("begin");
    line.go_on();
    eventually("one is left", 1, || {
        let old = line.poolers[0].log();
        usize::from(old.contains("a new process serves"))
    });
    let new = Pid::from_raw(line.last().id() as i32);
    kill(new, Signal::SIGKILL).expect("kill");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(held.value("select 1"), "1");
    held.query("commit");
    for n in 0..20 {
        assert_eq!(held.value(&format!("select {n}")), n.to_string());
    }
}

#[test]
fn cancel_requests_find_their_client() {
    let mut line = Line::begin(|setup| setup.in_ini().pool_size(5));
    let cancelled = |line: &Line, client: &mut RawClient, cancel: &dyn Fn(&RawClient)| {
        client.send(&Frontend::new().query("select pg_sleep(30)"));
        line.last().expect_sleeping(1);
        cancel(client);
        assert_eq!(client.answer().error().sqlstate(), "57014");
    };
    let mut stays = log_in(&line, "stays");
    let mut moves = log_in(&line, "moves");
    stays.query("begin");
    line.go_on();
    has_moved(&line, "moves");
    cancelled(&line, &mut moves, &RawClient::cancel);
    assert_eq!(moves.value("select 1"), "1");
    cancelled(&line, &mut stays, &RawClient::cancel);
    stays.query("rollback");
    // By way of the second to the first one.
    stays.query("select 1");
    has_moved(&line, "stays");
    stays.query("begin");
    line.go_on();
    line.go_on();
    cancelled(&line, &mut stays, &RawClient::cancel);
}

#[test]
fn an_encrypted_client_finishes_and_leaves() {
    let offer = |setup: Setup| setup.offer_tls("allow");
    // From a TOML file it is asked to, between transactions and after its first second.
    let mut line = Line::begin(offer);
    let mut idle = line.encrypted("idle");
    let mut busy = line.encrypted("busy");
    busy.query("begin");
    let mut plain = log_in(&line, "plain");
    line.go_on();
    has_moved(&line, "plain");
    assert_eq!(busy.value("select 1"), "1");
    let told = idle.read_until(b'E');
    assert_eq!(
        told.last().expect("a message").failure().sqlstate(),
        "57P01"
    );
    assert_eq!(busy.value("select 1"), "1");
    busy.send(&Frontend::new().query("commit"));
    let told = busy.read_until(b'E');
    assert_eq!(
        told.last().expect("a message").failure().sqlstate(),
        "57P01"
    );
    assert_eq!(line.poolers[0].wait(), 0);
    assert_eq!(plain.value("select 1"), "1");

    // From an ini it is waited for.
    let mut line = Line::begin(|setup| offer(setup).in_ini());
    let mut client = line.encrypted("stays");
    line.go_on();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.value("select 1"), "1");
    assert!(line.poolers[0].is_running());
    drop(client);
    assert_eq!(line.poolers[0].wait(), 0);
}
