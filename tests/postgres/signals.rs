//! What signals do.

use nix::sys::signal::Signal;

use crate::support::{Frontend, Pooler, RawClient, Setup, eventually};

#[track_caller]
fn refuses_connections(pooler: &Pooler) {
    eventually("connections refused", true, || {
        RawClient::try_connect(&pooler.address).is_err()
    });
}

#[test]
fn term_drains() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.signal(Signal::SIGTERM);
    refuses_connections(&pooler);
    // The transaction goes on to its end.
    assert_eq!(client.query("create table kept (a int)").status(), 'T');
    assert!(pooler.is_running());
    client.query("commit");
    drop(client);
    assert_eq!(pooler.wait(), 0);
    assert_eq!(pooler.admin().value("select to_regclass('kept')"), "kept");
    pooler.expect_backends(0);
}

#[test]
fn term_without_clients_ends() {
    let mut pooler = Setup::new().start();
    pooler.login().query("select 1");
    pooler.signal(Signal::SIGTERM);
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn a_waiting_client_can_be_cancelled_while_draining() {
    let pooler = Setup::new().pool_size(1).start();
    let mut holder = pooler.login();
    holder.query("begin");
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    pooler.signal(Signal::SIGTERM);
    refuses_connections(&pooler);
    RawClient::cancel_key(&pooler.socket, &waiting.key);
    assert_eq!(waiting.answer().error().sqlstate(), "57014");
    assert_eq!(holder.query("select 1").status(), 'T');
}

#[test]
fn second_term_ends_at_once() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.signal(Signal::SIGTERM);
    refuses_connections(&pooler);
    assert!(pooler.is_running());
    pooler.signal(Signal::SIGTERM);
    assert_eq!(pooler.wait(), 0);
    client.read_to_end();
}

#[test]
fn draining_is_bounded() {
    let setup = Setup::new().set("shutdown_timeout", crate::support::secs(0.5));
    let mut pooler = setup.in_toml().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.signal(Signal::SIGTERM);
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn int_waits_for_transactions_not_for_clients() {
    let mut pooler = Setup::new().pool_size(1).start();
    let mut busy = pooler.login();
    busy.query("begin");
    let _idle = pooler.login();
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    pooler.signal(Signal::SIGINT);
    let messages = waiting.read_to_end();
    assert_eq!(messages.first().map(|m| m.tag), Some(b'E'), "{messages:?}");
    assert_eq!(busy.query("select 1").status(), 'T');
    assert!(pooler.is_running());
    busy.query("commit");
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn who_is_logging_in_when_int_comes_gets_no_pool_any_more() {
    let setup = Setup::new().one_worker().set("auth_type", "plain");
    let mut pooler = setup.start();
    let login = |client: &mut RawClient, user: &str| {
        let password = format!("secret of {user}");
        client.finish_login(user, Some(&password))
    };
    let begin = |user: &str| {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", user), ("database", &*pooler.database)];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        client
    };
    let mut busy = begin("app");
    login(&mut busy, "app").expect("login");
    busy.query("begin");
    // It is asked for its password.
    let mut late = begin("app2");
    eventually("it has begun", 2, || {
        pooler.log().matches("login attempt").count()
    });
    pooler.signal(Signal::SIGINT);
    refuses_connections(&pooler);
    let failure = login(&mut late, "app2").expect_err("too late");
    assert!(failure.message().contains("shutting down"), "{failure:?}");
    busy.query("commit");
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn second_int_ends_at_once() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.signal(Signal::SIGINT);
    refuses_connections(&pooler);
    assert!(pooler.is_running());
    pooler.signal(Signal::SIGINT);
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn quit_ends_at_once() {
    let mut pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    pooler.signal(Signal::SIGQUIT);
    assert_eq!(pooler.wait(), 0);
    client.read_to_end();
    pooler.expect_backends(0);
}

#[test]
fn hup_reloads() {
    let mut pooler = Setup::new().pool_size(1).start();
    let mut holder = pooler.login();
    holder.query("begin");
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    pooler.rewrite(|setup| setup.pool_size(2));
    pooler.signal(Signal::SIGHUP);
    assert_eq!(waiting.answer().value(), "1");
    assert_eq!(holder.query("select 1").status(), 'T');
}

#[test]
fn hup_with_a_broken_file_changes_nothing() {
    let mut pooler = Setup::new().start();
    pooler.rewrite(|setup| setup.set("no_such_setting", 1));
    pooler.signal(Signal::SIGHUP);
    eventually("the mistake is logged", true, || {
        pooler.log().contains("no_such_setting")
    });
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn console_stays_open_at_the_unix_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut pooler = Setup::new().start();
        let mut busy = pooler.login();
        busy.query("begin");
        pooler.signal(signal);
        refuses_connections(&pooler);
        let refused = RawClient::try_login(&pooler.socket, "app", &pooler.database, None);
        let failure = refused.expect_err("no new clients");
        assert_eq!(failure.message(), "pooler is shutting down");
        let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
        eventually("the refused have left", 2, || {
            console.query("show clients").column().len()
        });
        busy.query("commit");
        drop(busy);
        assert_eq!(pooler.wait(), 0);
        assert!(RawClient::try_connect(&pooler.socket).is_err());
    }
}

#[test]
fn unix_socket_is_removed_at_the_end() {
    let mut pooler = Setup::new().start();
    let mut client = RawClient::login(&pooler.socket, "app", &pooler.database);
    assert_eq!(client.value("select 1"), "1");
    drop(client);
    pooler.signal(Signal::SIGTERM);
    assert_eq!(pooler.wait(), 0);
    assert!(RawClient::try_connect(&pooler.socket).is_err());
}

#[test]
fn signals_are_logged_in_pgbouncers_words() {
    let mut pooler = Setup::new().in_ini().start();
    let mut client = pooler.login();
    client.query("begin");
    for (signal, text) in [
        (Signal::SIGUSR2, "got SIGUSR2, but not paused/suspended"),
        (Signal::SIGUSR1, "got SIGUSR1, pausing all activity"),
        (Signal::SIGUSR1, "got SIGUSR1, but already paused/suspended"),
        (Signal::SIGUSR2, "got SIGUSR2, continuing from PAUSE"),
        (Signal::SIGHUP, "got SIGHUP, re-reading config"),
        (
            Signal::SIGTERM,
            "got SIGTERM, shutting down, waiting for all clients disconnect",
        ),
        (Signal::SIGUSR2, "got SIGUSR2 while shutting down, ignoring"),
        (
            Signal::SIGTERM,
            "got SIGTERM while shutting down, fast exit",
        ),
    ] {
        pooler.signal(signal);
        let line = format!(" LOG {text}\n");
        eventually(text, true, || pooler.log().contains(&line));
    }
    assert_eq!(pooler.wait(), 0);
}
