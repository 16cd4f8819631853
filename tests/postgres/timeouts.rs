//! How long a client may take, and what it is told while it waits.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Frontend, RawClient, Setup, eventually, secs};

#[test]
fn query_timeout() {
    let setup = Setup::new().set("query_timeout", secs(2.0));
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    client.query("begin");
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(client.query("commit").status(), 'I');
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    let failure = client.expect_end();
    assert_eq!(failure.message(), "query timeout");
    assert_eq!(failure.detail(), "query_timeout is 2 s.");
    // The server ends the query too.
    eventually("server connections", 0, || pooler.backends().len());
    let closed = format!(": {}/app@", pooler.database);
    for side in [" LOG C-", " LOG S-"] {
        let log = pooler.log();
        let mut lines = log.lines().filter(|line| line.contains(side));
        let line = lines.find(|line| line.contains(" closing because: query timeout (age="));
        assert!(line.is_some_and(|line| line.contains(&closed)), "{log}");
    }
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn idle_transaction_timeout_of_user() {
    let setup = Setup::new().set("idle_transaction_timeout", secs(3600.0));
    let pooler = setup
        .user("app", "idle_transaction_timeout", secs(0.4))
        .start();
    let mut client = pooler.login();
    client.query("select 1");
    std::thread::sleep(Duration::from_millis(600));
    // In one write, so that the transaction is not idle in between.
    client.send(&Frontend::new().query("begin").query("select pg_sleep(0.6)"));
    assert_eq!(client.answer().status(), 'T');
    assert_eq!(client.answer().tags(), "TDCZ");
    let failure = client.expect_end();
    assert_eq!(failure.message(), "idle transaction timeout");
}

#[test]
fn transaction_timeout() {
    let setup = Setup::new().set("transaction_timeout", secs(1.0));
    let pooler = setup.set("pool_mode", "session").start();
    let mut client = pooler.login();
    client.query("select 1");
    std::thread::sleep(Duration::from_millis(1200));
    let begun = Instant::now();
    client.send(&Frontend::new().query("begin").query("select 1"));
    assert_eq!(client.answer().status(), 'T');
    assert_eq!(client.answer().tags(), "TDCZ");
    assert_eq!(client.expect_end().message(), "transaction timeout");
    assert!(begun.elapsed() > Duration::from_millis(700));
}

#[test]
fn a_new_limit_holds_for_who_is_there() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.rewrite(|setup| setup.set("idle_transaction_timeout", secs(0.3)));
    pooler.signal(Signal::SIGHUP);
    assert_eq!(client.expect_end().message(), "idle transaction timeout");
    pooler.rewrite(|setup| setup.unset("idle_transaction_timeout"));
    pooler.signal(Signal::SIGHUP);
    eventually("the reloads", 2, || {
        pooler.log().matches("configuration reloaded").count()
    });
    let mut client = pooler.login();
    client.query("begin");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(client.query("commit").status(), 'I');
}

#[test]
fn client_idle_timeout() {
    let setup = Setup::new().set("client_idle_timeout", secs(2.0));
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    // It is not idle while it has a server connection.
    client.query("begin");
    std::thread::sleep(Duration::from_millis(2300));
    let idle = Instant::now();
    client.query("commit");
    let failure = client.expect_end();
    assert_eq!(failure.message(), "client_idle_timeout");
    assert_eq!(failure.detail(), "client_idle_timeout is 2 s.");
    assert!(idle.elapsed() > Duration::from_millis(1800));
    // The server connection that it had is not lost.
    assert_eq!(pooler.backends().len(), 1);
    let closed = format!(": {}/app@", pooler.database);
    let log = pooler.log();
    let mut lines = log.lines().filter(|line| line.contains(" LOG C-"));
    let line = lines.find(|line| line.contains(" closing because: client_idle_timeout (age="));
    assert!(line.is_some_and(|line| line.contains(&closed)), "{log}");
}

#[test]
fn client_idle_timeout_is_of_who_logs_in() {
    let setup = Setup::new().for_database("user", "app");
    let setup = setup.set("client_idle_timeout", secs(3600.0));
    let pooler = setup.user("app2", "client_idle_timeout", secs(2.0)).start();
    let mut patient = pooler.login();
    let mut client = pooler.login_as("app2");
    assert_eq!(client.value("select current_user"), "app");
    assert_eq!(client.expect_end().message(), "client_idle_timeout");
    assert!(patient.is_silent_for(Duration::from_millis(300)));
}

#[test]
fn what_needs_no_server_is_no_idleness() {
    let setup = Setup::new().set("client_idle_timeout", secs(2.0));
    let pooler = setup.start();
    let mut client = pooler.login();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3000) {
        std::thread::sleep(Duration::from_millis(100));
        client.exchange(&Frontend::new().sync());
    }
    assert_eq!(client.expect_end().message(), "client_idle_timeout");
}

/// PgBouncer's words.
const QUEUED: &str = "No server connection available in postgres backend, client being queued";

#[test]
fn query_wait_notify() {
    let setup = Setup::new().pool_size(1);
    let pooler = setup.set("query_wait_notify", secs(0.3)).start();
    let mut holder = pooler.login();
    holder.query("begin");
    let mut waiting = pooler.login();
    for _ in 0..2 {
        waiting.send(&Frontend::new().query("begin"));
        let notice = waiting.read();
        assert_eq!(notice.tag, b'N');
        let notice = notice.failure();
        let fields = (notice.severity(), notice.sqlstate(), notice.message());
        assert_eq!(fields, ("NOTICE", "00000", QUEUED));
        // Once for each wait.
        assert!(waiting.is_silent_for(Duration::from_millis(500)));
        holder.query("commit");
        assert_eq!(waiting.answer().tags(), "CZ");
        waiting.query("commit");
        holder.query("begin");
    }
}

#[test]
fn login_notify_message() {
    let text = "You are now connected to pgbouncer";
    let setup = Setup::new().set("login_notify_message", text);
    let pooler = setup.in_ini().start();
    for (user, database) in [("app", &*pooler.database), ("admin", "pgbouncer")] {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", user), ("database", database)];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        let messages = client.answer().messages;
        let [.., key, notice, ready] = &messages[..] else {
            panic!("{messages:?}");
        };
        assert_eq!([key.tag, notice.tag, ready.tag], *b"KNZ");
        let notice = notice.failure();
        let fields = (notice.severity(), notice.sqlstate(), notice.message());
        assert_eq!(fields, ("NOTICE", "00000", text));
    }
}

#[test]
fn query_timeout_while_queued() {
    let setup = Setup::new().pool_size(1).set("query_timeout", secs(2.0));
    let pooler = setup.start();
    let mut holder = pooler.login();
    holder.query("begin");
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    assert_eq!(waiting.expect_end().message(), "query_timeout");
    assert_eq!(holder.query("commit").status(), 'I');
}

#[test]
fn query_wait_notify_while_paused() {
    let pooler = Setup::new().set("query_wait_notify", secs(0.3)).start();
    let mut client = pooler.login();
    pooler.console().query("pause");
    client.send(&Frontend::new().query("select 1"));
    assert_eq!(client.read().failure().message(), QUEUED);
    pooler.console().query("resume");
    assert_eq!(client.answer().value(), "1");
}
