//! Limits of what a client does with a server connection.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Failure, Frontend, RawClient, Setup, eventually, secs};

/// What the client is told in the end, besides what it has asked for.
#[track_caller]
fn end_of(client: &mut RawClient) -> Failure {
    let messages = client.read_to_end();
    let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
    let failure = error.failure();
    assert_eq!((failure.severity(), failure.sqlstate()), ("FATAL", "08P01"));
    failure
}

#[test]
fn query_timeout() {
    let setup = Setup::new().set("query_timeout", secs(0.4));
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    client.query("begin");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(client.query("commit").status(), 'I');
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    let failure = end_of(&mut client);
    assert_eq!(failure.message(), "query timeout");
    assert_eq!(failure.detail(), "query_timeout is 0.4 s.");
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
    client.query("begin");
    client.query("select pg_sleep(0.6)");
    let failure = end_of(&mut client);
    assert_eq!(failure.message(), "idle transaction timeout");
}

#[test]
fn transaction_timeout() {
    let setup = Setup::new().set("transaction_timeout", secs(1.0));
    let pooler = setup.set("pool_mode", "session").start();
    let mut client = pooler.login();
    client.query("select 1");
    std::thread::sleep(Duration::from_millis(1200));
    client.query("begin");
    let begun = Instant::now();
    client.query("select 1");
    assert_eq!(end_of(&mut client).message(), "transaction timeout");
    assert!(begun.elapsed() > Duration::from_millis(700));
}

#[test]
fn a_new_limit_holds_for_who_is_there() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.rewrite(|setup| setup.set("idle_transaction_timeout", secs(0.3)));
    pooler.signal(Signal::SIGHUP);
    assert_eq!(end_of(&mut client).message(), "idle transaction timeout");
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
