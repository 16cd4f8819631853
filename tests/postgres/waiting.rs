//! Who waits for a server connection is served as soon as there may be one,
//! and told when there will be none.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Cluster, Failure, Frontend, Pooler, RawClient, Setup, answering, eventually, patiently, secs,
};

const PID: &str = "select pid from pg_backend_pid() as pid";

/// A client that has asked for a transaction; it waits if none is to be had.
fn asks(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.send(&Frontend::new().query("begin"));
    client
}

/// A client within a transaction.
fn holds(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.query("begin");
    client
}

#[test]
fn a_reserve_in_use_does_not_stop_the_clock() {
    let setup = Setup::new().pool_size(1).set("reserve_pool_size", 1);
    let setup = setup.set("reserve_pool_timeout", secs(0.1));
    let pooler = setup.set("query_wait_timeout", secs(3.0)).start();
    let _both = [holds(&pooler), holds(&pooler)];
    let failure = asks(&pooler).read_to_end()[0].failure();
    assert!(failure.message().contains("query_wait_timeout"));
}

#[test]
fn each_who_waits_gets_the_reserve_in_time() {
    let setup = Setup::new().pool_size(1).set("reserve_pool_size", 2);
    let pooler = setup.set("reserve_pool_timeout", secs(0.4)).start();
    let _holder = holds(&pooler);
    let mut first = asks(&pooler);
    std::thread::sleep(Duration::from_millis(200));
    let mut second = asks(&pooler);
    assert_eq!(first.answer().status(), 'T');
    assert_eq!(second.answer().status(), 'T');
}

#[test]
fn all_are_served_when_the_server_is_back() {
    let setup = Setup::new().pool_size(4);
    let setup = setup.set("server_connect_timeout", secs(0.5));
    let mut pooler = setup.set("server_login_retry", secs(0.2)).start();
    let mut clients: Vec<_> = (0..4).map(|_| pooler.login()).collect();
    // A server that accepts connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(mute.local_addr().expect("address").port());
    let real = pooler.server_address();
    pooler.rewrite(|setup| setup.for_database("port", port));
    pooler.signal(Signal::SIGHUP);
    eventually("idle connections closed", 0, || pooler.backends().len());
    for client in &mut clients {
        client.send(&Frontend::new().query("begin"));
    }
    pooler.expect_waiting(4);
    pooler.rewrite(|setup| setup.for_database("port", i32::from(real.port())));
    pooler.signal(Signal::SIGHUP);
    // Each keeps its connection, so all four must be opened.
    for client in &mut clients {
        assert_eq!(client.answer().status(), 'T');
    }
    assert_eq!(pooler.backends().len(), 4);
}

#[test]
fn who_asks_after_int_is_told() {
    let pooler = Setup::new().start();
    let mut busy = holds(&pooler);
    let mut idle = pooler.login();
    pooler.signal(Signal::SIGINT);
    eventually("connections refused", true, || {
        RawClient::try_connect(&pooler.address).is_err()
    });
    idle.send(&Frontend::new().query("select 1"));
    let failure = idle.read_to_end()[0].failure();
    assert_eq!(failure.severity(), "FATAL");
    assert_eq!(failure.message(), "server shutting down");
    assert_eq!(busy.query("select 1").status(), 'T');
}

#[test]
fn a_full_server_makes_clients_wait() {
    let pooler = Setup::new().one_worker().pool_size(3).start();
    let mut holder = holds(&pooler);
    let limit = format!("alter database \"{}\" connection limit 1", pooler.database);
    Cluster::shared().admin("postgres").query(&limit);
    // The server says no more than one; the one that there is comes back.
    let mut others = [asks(&pooler), asks(&pooler)];
    eventually("a refused connection", true, || {
        pooler.log().contains("too many connections")
    });
    pooler.expect_waiting(2);
    holder.query("commit");
    for client in &mut others {
        assert_eq!(client.answer().status(), 'T');
        client.query("commit");
    }
}

#[test]
fn a_smaller_pool_shrinks_while_clients_wait() {
    let mut pooler = Setup::new().one_worker().pool_size(3).start();
    let mut clients: Vec<_> = (0..3).map(|_| holds(&pooler)).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| asks(&pooler)).collect();
    pooler.rewrite(|setup| setup.pool_size(1));
    pooler.signal(Signal::SIGHUP);
    eventually("the reload", true, || {
        pooler.log().contains("configuration reloaded")
    });
    for client in &mut clients {
        client.query("commit");
    }
    assert_eq!(waiting[0].answer().status(), 'T');
    pooler.expect_waiting(2);
    pooler.expect_backends(1);
}

#[test]
fn a_check_opens_no_second_connection() {
    let setup = Setup::new().pool_size(3);
    let pooler = setup.set("server_check_delay", secs(0.0)).start();
    let mut client = pooler.login();
    let pid = client.value(PID);
    for _ in 0..20 {
        assert_eq!(client.value(PID), pid);
    }
    assert_eq!(pooler.backends(), [pid]);
}

#[test]
fn who_leaves_while_logging_in_gives_up_its_place() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(mute.local_addr().expect("address").port());
    let setup = Setup::new().for_database("port", port);
    let pooler = setup.set("max_client_conn", 3).start();
    let parameters = [("user", "app"), ("database", pooler.database.as_str())];
    for round in 1..=10 {
        let mut client = RawClient::connect(&pooler.address);
        client.send(&Frontend::new().startup((3, 0), &parameters));
        // Not "no more connections allowed".
        assert!(client.is_silent_for(Duration::from_millis(100)));
        drop(client);
        eventually("it has left", round, || {
            pooler.log().matches("client unexpected eof").count()
        });
    }
}

/// What somebody is told who cannot log in.
#[track_caller]
fn refused(pooler: &Pooler) -> Failure {
    let login = RawClient::try_login(&pooler.address, "app", &pooler.database, None);
    login.expect_err("it was let in")
}

/// The pooler's server, which answers each startup packet with an error of this
/// SQLSTATE. Returns how many it has answered.
fn refusing(server: TcpListener, sqlstate: &str) -> Arc<AtomicU32> {
    let body = format!("SFATAL\0C{sqlstate}\0Mnot now\0\0");
    answering(server, &Frontend::new().message(b'E', body.as_bytes()))
}

/// Somebody listens there who is no PostgreSQL.
fn in_front_of_nobody() -> (Setup, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(listener.local_addr().expect("address").port());
    let setup = Setup::new().in_ini().for_database("port", port);
    (setup.set("server_tls_sslmode", "disable"), listener)
}

#[test]
fn a_refused_login_ends_all_waiting_at_once_after_one_attempt() {
    let (setup, server) = in_front_of_nobody();
    let setup = setup.set("server_login_retry", secs(3600.0));
    let pooler = setup.one_worker().start();
    // Nobody is answered until all are there.
    let mut waiting: Vec<_> = (0..5).map(|_| begins_login(&pooler)).collect();
    eventually("all have asked", 5, || {
        pooler.log().matches("login attempt").count()
    });
    for client in &mut waiting {
        assert!(client.is_silent_for(Duration::from_millis(50)));
    }
    let attempts = refusing(server, "28P01");
    for client in &mut waiting {
        let failure = client.read_to_end()[0].failure();
        // The server's own words and code.
        assert_eq!(
            (failure.sqlstate(), failure.message()),
            ("28P01", "not now")
        );
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
    // Who comes later is told what is known.
    let failure = refused(&pooler);
    let cached = "server login has been failing, cached error: not now (server_login_retry)";
    assert_eq!((failure.sqlstate(), failure.message()), ("08P01", cached));
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

/// A client that has sent its startup packet.
fn begins_login(pooler: &Pooler) -> RawClient {
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    client
}

#[test]
fn a_server_that_starts_or_stops_is_waited_for() {
    // admin_shutdown, crash_shutdown, cannot_connect_now
    for code in ["57P01", "57P02", "57P03"] {
        let (setup, server) = in_front_of_nobody();
        let setup = setup.set("server_login_retry", secs(0.1));
        let pooler = setup.start();
        let mut client = begins_login(&pooler);
        let attempts = refusing(server, code);
        eventually("several attempts", true, || {
            attempts.load(Ordering::Relaxed) >= 3
        });
        assert!(client.is_silent_for(Duration::from_millis(50)), "{code}");
    }
}

#[test]
fn refused_connects_do_not_end_waiting() {
    let (setup, server) = in_front_of_nobody();
    drop(server);
    let setup = setup.set("server_login_retry", secs(1.0));
    let mut pooler = setup.start();
    let mut early = begins_login(&pooler);
    eventually("an attempt", true, || {
        pooler.log().contains("connect failed")
    });
    assert!(early.is_silent_for(Duration::from_millis(300)));
    // Who comes meanwhile is told; not so at the moment of an attempt.
    let failure = patiently("somebody is told", || {
        let mut late = begins_login(&pooler);
        let told = !late.is_silent_for(Duration::from_millis(200));
        told.then(|| late.read().failure())
    });
    let begin = "server login has been failing, cached error: connect failed";
    assert!(failure.message().starts_with(begin), "{failure:?}");
    assert!(
        failure.message().ends_with(" (server_login_retry)"),
        "{failure:?}"
    );
    let real = i32::from(pooler.server_address().port());
    pooler.rewrite(|setup| setup.for_database("port", real));
    pooler.signal(Signal::SIGHUP);
    early.answer();
    early.query("select 1");
}

#[test]
fn with_a_forced_user_the_login_users_limit_holds() {
    let setup = Setup::new().pool_size(1).for_database("user", "app2");
    let setup = setup.user("app", "query_wait_timeout", secs(3.0));
    let pooler = setup.user("app2", "query_wait_timeout", secs(0.1)).start();
    let mut holder = holds(&pooler);
    let mut usual = pooler.login_as("app3");
    usual.send(&Frontend::new().query("select 7"));
    let begun = Instant::now();
    let failure = asks(&pooler).read_to_end()[0].failure();
    assert_eq!(failure.message(), "query_wait_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(2900));
    assert!(usual.is_silent_for(Duration::from_millis(100)));
    holder.query("commit");
    assert_eq!(usual.answer().value(), "7");
}

#[test]
fn who_waits_may_give_up_by_the_limit_of_its_queries() {
    let setup = Setup::new()
        .pool_size(1)
        .set("query_wait_timeout", secs(3.0));
    let pooler = setup.set("query_timeout", secs(3600.0)).start();
    let _holder = holds(&pooler);
    let failure = asks(&pooler).read_to_end()[0].failure();
    assert_eq!(failure.message(), "query_wait_timeout");
}
