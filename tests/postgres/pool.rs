//! How many server connections there are, who gets which, and when they end.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Cluster, Failure, Frontend, Pooler, RawClient, Setup, eventually, secs};

/// A client that has asked for a transaction; it waits if none is to be had.
fn asks(pooler: &Pooler, user: &str) -> RawClient {
    let mut client = pooler.login_as(user);
    client.send(&Frontend::new().query("begin"));
    client
}

/// A client within a transaction.
fn holds(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.query("begin");
    client
}

const PID: &str = "select pid from pg_backend_pid() as pid";

#[test]
fn pool_size_is_exact() {
    let pooler = Setup::new().pool_size(3).start();
    let mut clients: Vec<_> = (0..10).map(|_| asks(&pooler, "app")).collect();
    pooler.expect_waiting(7);
    assert_eq!(pooler.backends().len(), 3);
    for client in &mut clients {
        assert_eq!(client.answer().status(), 'T');
        assert_eq!(pooler.backends().len(), 3);
        client.query("commit");
    }
    assert_eq!(pooler.backends().len(), 3);
}

#[test]
fn one_pool_for_each_database_and_user() {
    let pooler = Setup::new().pool_size(1).alias("again").start();
    let mut clients = Vec::new();
    for database in [pooler.database.as_str(), "again"] {
        for user in ["app", "app2"] {
            let mut client = RawClient::login(&pooler.address, user, database);
            assert_eq!(client.query("begin; select current_user").value(), user);
            clients.push(client);
        }
    }
    assert_eq!(pooler.backends().len(), 4);
}

#[test]
fn pool_size_of_database_and_user() {
    let setup = Setup::new().pool_size(5).for_database("pool_size", 2);
    let pooler = setup.user("app2", "pool_size", 1).start();
    let _database: Vec<_> = (0..4).map(|_| asks(&pooler, "app")).collect();
    let _user: Vec<_> = (0..4).map(|_| asks(&pooler, "app2")).collect();
    pooler.expect_waiting(5);
    assert_eq!(pooler.backends().len(), 3);
}

#[test]
fn pool_size_zero_is_no_limit() {
    let pooler = Setup::new().pool_size(0).start();
    let _clients: Vec<_> = (0..30).map(|_| holds(&pooler)).collect();
    assert_eq!(pooler.backends().len(), 30);
}

#[test]
fn min_pool_size_is_kept() {
    let pooler = Setup::new().pool_size(5).set("min_pool_size", 3).start();
    assert_eq!(pooler.backends().len(), 0);
    let _client = pooler.login();
    pooler.expect_backends(3);
    // One that ends is replaced.
    let pid = &pooler.backends()[0];
    pooler
        .admin()
        .query(&format!("select pg_terminate_backend({pid})"));
    eventually("a replacement", (3, false), || {
        let backends = pooler.backends();
        (backends.len(), backends.contains(pid))
    });
}

#[test]
fn min_pool_size_with_a_forced_user_needs_no_client() {
    let setup = Setup::new()
        .for_database("user", "app2")
        .for_database("min_pool_size", 2);
    let pooler = setup.start();
    pooler.expect_backends(2);
}

#[test]
fn reserve_is_opened_after_waiting() {
    let setup = Setup::new().pool_size(1).set("reserve_pool_size", 1);
    let pooler = setup.set("reserve_pool_timeout", secs(0.3)).start();
    let _holder = holds(&pooler);
    let mut second = asks(&pooler, "app");
    assert_eq!(second.answer().status(), 'T');
    assert_eq!(pooler.backends().len(), 2);
    // There is no more than the reserve.
    let mut third = asks(&pooler, "app");
    pooler.expect_waiting(1);
    assert!(third.is_silent_for(Duration::from_millis(600)));
    assert_eq!(pooler.backends().len(), 2);
    second.query("commit");
    assert_eq!(third.answer().status(), 'T');
}

#[test]
fn reserve_pool_timeout_zero_turns_the_reserve_off() {
    let setup = Setup::new().pool_size(1).set("reserve_pool_size", 1);
    let pooler = setup.set("reserve_pool_timeout", secs(0.0)).start();
    let _holder = holds(&pooler);
    let mut second = asks(&pooler, "app");
    assert!(second.is_silent_for(Duration::from_millis(300)));
    assert_eq!(pooler.backends().len(), 1);
}

#[test]
fn max_db_connections_spans_users() {
    let pooler = Setup::new()
        .pool_size(2)
        .for_database("max_db_connections", 3)
        .start();
    let mut clients: Vec<_> = ["app", "app", "app2", "app2"]
        .map(|user| asks(&pooler, user))
        .into();
    pooler.expect_waiting(1);
    assert_eq!(pooler.backends().len(), 3);
    // A free connection of another user makes room.
    for client in &mut clients[..3] {
        assert_eq!(client.answer().status(), 'T');
    }
    clients[0].query("commit");
    assert_eq!(clients[3].answer().status(), 'T');
    assert!(pooler.backends().len() <= 3);
}

#[test]
fn max_user_connections_spans_databases() {
    let setup = Setup::new().pool_size(5).alias("again");
    let pooler = setup.user("app", "max_user_connections", 2).start();
    let mut clients: Vec<_> = [pooler.database.as_str(), "again", "again"]
        .map(|database| RawClient::login(&pooler.address, "app", database))
        .into();
    for client in &mut clients[..2] {
        assert_eq!(client.query("begin").status(), 'T');
    }
    clients[2].send(&Frontend::new().query("begin"));
    pooler.expect_waiting(1);
    assert_eq!(pooler.backends().len(), 2);
    clients[0].query("commit");
    assert_eq!(clients[2].answer().status(), 'T');
    assert!(pooler.backends().len() <= 2);
}

#[track_caller]
fn is_refused(pooler: &Pooler, user: &str, database: &str, setting: &str) {
    let refused = RawClient::try_login(&pooler.address, user, database, None);
    let failure = refused
        .err()
        .unwrap_or_else(|| panic!("{user} got in in spite of {setting}"));
    assert_eq!(failure.severity(), "FATAL");
    assert_eq!(failure.sqlstate(), "08P01");
    let text = match setting {
        "max_client_conn" => "no more connections allowed (max_client_conn)".to_owned(),
        _ => format!("client connections exceeded ({setting})"),
    };
    assert_eq!(failure.message(), text);
}

#[test]
fn max_client_conn() {
    let pooler = Setup::new().set("max_client_conn", 3).start();
    let mut clients: Vec<_> = (0..3).map(|_| pooler.login()).collect();
    is_refused(&pooler, "app", &pooler.database, "max_client_conn");
    // The console is still open, and a place is free when somebody leaves.
    assert_eq!(
        pooler
            .show("CLIENTS")
            .iter()
            .filter(|c| c["user"] == "app")
            .count(),
        3
    );
    clients.pop();
    eventually("a free place", true, || {
        RawClient::try_login(&pooler.address, "app", &pooler.database, None).is_ok()
    });
    clients[0].query("select 1");
}

#[test]
fn max_db_client_connections() {
    let setup = Setup::new()
        .alias("other")
        .for_database("max_db_client_connections", 2);
    let pooler = setup.start();
    let _clients = [pooler.login(), pooler.login_as("app2")];
    is_refused(
        &pooler,
        "app",
        &pooler.database,
        "max_db_client_connections",
    );
    RawClient::login(&pooler.address, "app", "other");
}

#[test]
fn max_user_client_connections() {
    let setup = Setup::new()
        .alias("other")
        .user("app", "max_user_client_connections", 2);
    let pooler = setup.start();
    let _clients = [
        pooler.login(),
        RawClient::login(&pooler.address, "app", "other"),
    ];
    is_refused(&pooler, "app", "other", "max_user_client_connections");
    pooler.login_as("app2");
}

#[test]
fn who_waits_longest_is_served_first() {
    let pooler = Setup::new().one_worker().pool_size(1).start();
    pooler.direct().query("create sequence turn");
    let mut holder = holds(&pooler);
    let mut waiting = Vec::new();
    for number in 1..=8 {
        let mut client = pooler.login();
        let sql = Frontend::new().query("select nextval('turn')");
        let script = if number % 2 == 0 {
            sql
        } else {
            Frontend::new().run("select nextval('turn')", &[]).sync()
        };
        client.send(&script);
        waiting.push(client);
        pooler.expect_waiting(number);
    }
    holder.query("commit");
    for (number, client) in waiting.iter_mut().enumerate() {
        assert_eq!(client.answer().value(), (number + 1).to_string());
    }
}

#[test]
fn who_left_the_queue_is_not_served() {
    let pooler = Setup::new().pool_size(1).start();
    let mut holder = holds(&pooler);
    let gone = asks(&pooler, "app");
    pooler.expect_waiting(1);
    let mut next = asks(&pooler, "app");
    pooler.expect_waiting(2);
    drop(gone);
    pooler.expect_waiting(1);
    holder.query("commit");
    assert_eq!(next.answer().status(), 'T');
    assert_eq!(pooler.backends().len(), 1);
}

/// Opens both connections of a pool of two; returns their pids, the one
/// released last at the end.
fn two_idle(pooler: &Pooler) -> [String; 2] {
    let (mut first, mut second) = (holds(pooler), holds(pooler));
    let pids = [first.value(PID), second.value(PID)];
    first.query("commit");
    second.query("commit");
    pids
}

#[test]
fn connection_used_last_is_used_next() {
    let pooler = Setup::new().one_worker().pool_size(2).start();
    let [_, last] = two_idle(&pooler);
    let mut client = pooler.login();
    for _ in 0..5 {
        assert_eq!(client.value(PID), last);
    }
}

#[test]
fn server_round_robin_takes_turns() {
    let pooler = Setup::new()
        .one_worker()
        .pool_size(2)
        .set("server_round_robin", true)
        .start();
    let [first, last] = two_idle(&pooler);
    let mut client = pooler.login();
    for _ in 0..3 {
        assert_eq!(client.value(PID), first);
        assert_eq!(client.value(PID), last);
    }
}

#[test]
fn several_connections_are_opened_at_once() {
    let lock = "select pg_advisory_lock_shared(1); select pg_advisory_unlock_shared(1)";
    let pooler = Setup::new()
        .pool_size(5)
        .for_database("connect_query", lock)
        .start();
    let mut admin = pooler.admin();
    // Opens the first, so that logging in needs no further connection.
    pooler.login();
    // From now on no connect_query ends: the others are all under way.
    admin.query("select pg_advisory_lock(1)");
    let mut clients: Vec<_> = (0..5).map(|_| asks(&pooler, "app")).collect();
    pooler.expect_backends(5);
    admin.query("select pg_advisory_unlock(1)");
    for client in &mut clients {
        assert_eq!(client.answer().status(), 'T');
    }
}

#[test]
fn connect_query_runs_once_for_each_connection() {
    let setup = Setup::new().for_database("connect_query", "insert into connects values (1)");
    let pooler = setup.start();
    pooler.direct().query("create table connects (a int)");
    let _both = [holds(&pooler), holds(&pooler)];
    assert_eq!(pooler.admin().value("select count(*) from connects"), "2");
}

#[test]
fn failing_connect_query_is_logged_and_ignored() {
    let pooler = Setup::new()
        .for_database("connect_query", "selekt 1")
        .start();
    assert_eq!(pooler.login().value("select 1"), "1");
    assert!(pooler.log().contains("connect_query") || pooler.log().contains("selekt"));
}

#[test]
fn server_lifetime_ends_idle_connections() {
    let pooler = Setup::new().set("server_lifetime", secs(0.5)).start();
    let mut client = pooler.login();
    let old = client.value(PID);
    pooler.expect_backends(0);
    assert_ne!(client.value(PID), old);
}

#[test]
fn server_lifetime_zero_is_one_use() {
    let pooler = Setup::new().set("server_lifetime", secs(0.0)).start();
    let mut client = pooler.login();
    let mut pids: Vec<_> = (0..5).map(|_| client.value(PID)).collect();
    pids.dedup();
    assert_eq!(pids.len(), 5);
}

#[test]
fn a_check_is_no_use_of_a_connection() {
    let setup = Setup::new().pool_size(5).one_worker();
    let setup = setup.set("server_idle_timeout", secs(2.0));
    let pooler = setup.set("server_check_delay", secs(0.0)).start();
    let mut holders: Vec<_> = (0..5).map(|_| holds(&pooler)).collect();
    assert_eq!(pooler.backends().len(), 5);
    for client in &mut holders {
        client.query("commit");
    }
    // Each of these is preceded by checks of what is idle; in two seconds
    // there are two, and so there are connections that nobody has.
    let mut client = pooler.login();
    eventually("unused connections are closed", true, || {
        std::thread::sleep(Duration::from_millis(900));
        client.query("select 1");
        pooler.backends().len() <= 3
    });
}

#[test]
fn server_idle_timeout() {
    let pooler = Setup::new().set("server_idle_timeout", secs(0.5)).start();
    let mut holder = holds(&pooler);
    pooler.login().query("select 1");
    pooler.expect_backends(1);
    // The one in use is not idle.
    assert_eq!(holder.query("select 1").status(), 'T');
    holder.query("commit");
    pooler.expect_backends(0);
}

#[test]
fn server_idle_timeout_respects_min_pool_size() {
    let setup = Setup::new().pool_size(3).set("min_pool_size", 1);
    let pooler = setup.set("server_idle_timeout", secs(0.3)).start();
    let mut clients: Vec<_> = (0..3).map(|_| holds(&pooler)).collect();
    assert_eq!(pooler.backends().len(), 3);
    for client in &mut clients {
        client.query("commit");
    }
    pooler.expect_backends(1);
}

#[test]
fn server_max_queries_retires_a_connection() {
    let pooler = Setup::new().set("server_max_queries", 3).start();
    let mut client = pooler.login();
    let pids: Vec<_> = (0..9).map(|_| client.value(PID)).collect();
    for chunk in pids.chunks(3) {
        assert!(chunk.iter().all(|pid| pid == &chunk[0]), "{pids:?}");
    }
    assert_ne!(pids[0], pids[3]);
    assert_ne!(pids[3], pids[6]);
    // Not in the middle of a transaction.
    client.query("begin");
    let pid = client.value(PID);
    for _ in 0..10 {
        assert_eq!(client.value(PID), pid);
    }
    client.query("commit");
    assert_ne!(client.value(PID), pid);
}

#[test]
fn server_check_query_after_the_delay() {
    for (delay, checked) in [(secs(0.0), true), (secs(3600.0), false)] {
        let setup = Setup::new().set("server_check_query", "insert into checks values (1)");
        let pooler = setup.set("server_check_delay", delay).start();
        pooler.direct().query("create table checks (a int)");
        let mut client = pooler.login();
        for _ in 0..3 {
            assert_eq!(client.value("select 1"), "1");
        }
        let count = pooler.admin().value("select count(*) from checks");
        assert_eq!(count != "0", checked, "{count} checks");
    }
}

#[test]
fn connection_that_ends_while_idle_is_replaced() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    let old = client.value(PID);
    let end = format!("select pg_terminate_backend({old})");
    pooler.admin().query(&end);
    pooler.expect_backends(0);
    eventually("the pooler has noticed", 0, || pooler.show("SERVERS").len());
    assert_ne!(client.value(PID), old);
}

#[test]
fn connection_that_ends_while_in_use_ends_its_client_only() {
    let pooler = Setup::new().start();
    let (mut hit, mut other) = (holds(&pooler), holds(&pooler));
    let pid = hit.value(PID);
    pooler
        .admin()
        .query(&format!("select pg_terminate_backend({pid})"));
    let messages = hit.read_to_end();
    let error = messages
        .iter()
        .find(|m| m.tag == b'E')
        .expect("an error")
        .failure();
    assert_eq!(error.severity(), "FATAL");
    assert_eq!(other.query("select 1").status(), 'T');
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn query_wait_timeout() {
    let pooler = Setup::new()
        .pool_size(1)
        .set("query_wait_timeout", secs(3.0))
        .start();
    let mut holder = holds(&pooler);
    let mut waiting = asks(&pooler, "app");
    let messages = waiting.read_to_end();
    let failure = messages.first().expect("an error").failure();
    assert_eq!(failure.severity(), "FATAL");
    assert_eq!(failure.message(), "query_wait_timeout");
    assert_eq!(failure.sqlstate(), "08P01");
    assert_eq!(holder.query("select 1").status(), 'T');
    holder.query("commit");
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn query_wait_timeout_of_user_before_database() {
    let setup = Setup::new()
        .pool_size(1)
        .set("query_wait_timeout", secs(3600.0));
    let setup = setup.for_database("query_wait_timeout", secs(3.0));
    let pooler = setup
        .user("app2", "query_wait_timeout", secs(3600.0))
        .start();
    let (_holder, mut holder2) = (holds(&pooler), pooler.login_as("app2"));
    holder2.query("begin");
    let mut patient = asks(&pooler, "app2");
    let mut impatient = asks(&pooler, "app");
    assert_eq!(impatient.read_to_end().first().map(|m| m.tag), Some(b'E'));
    holder2.query("commit");
    assert_eq!(patient.answer().status(), 'T');
}

/// A server that accepts connections and says nothing.
fn mute_server() -> (TcpListener, i32) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    (listener, i32::from(port))
}

#[test]
fn server_connect_timeout() {
    let (server, port) = mute_server();
    let setup = Setup::new().for_database("port", port);
    let setup = setup
        .set("server_connect_timeout", secs(0.3))
        .set("server_login_retry", secs(0.1));
    let pooler = setup.set("query_wait_timeout", secs(5.0)).start();
    let _client = std::thread::scope(|scope| {
        let login = scope.spawn(|| {
            let mut client = RawClient::connect(&pooler.address);
            let parameters = [("user", "app"), ("database", pooler.database.as_str())];
            client.send(
                &Frontend::new()
                    .startup((3, 0), &parameters)
                    .query("select 1"),
            );
            client.read_to_end()
        });
        // The first attempt is given up and another one made.
        let (mut first, _) = server.accept().expect("accept");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut first, &mut bytes).expect("closed by the pooler");
        server.accept().expect("accept");
        login.join().expect("login")
    });
}

#[test]
fn refused_login_is_told_and_retried_later() {
    let setup = Setup::new().for_database("dbname", "not_there_yet");
    let pooler = setup.set("server_login_retry", secs(1.0)).start();
    let first = pooler_says(&pooler).expect_err("no such database");
    // PostgreSQL's own words and code.
    assert_eq!(first.sqlstate(), "3D000", "{first:?}");
    assert!(
        first
            .message()
            .contains("database \"not_there_yet\" does not exist"),
        "{first:?}"
    );
    let mut admin = Cluster::shared().admin("postgres");
    admin.query("create database not_there_yet");
    eventually("the pooler tries again", true, || {
        pooler_says(&pooler).is_ok()
    });
    drop(pooler);
    admin.query("drop database not_there_yet with (force)");
}

/// Logs in and runs a query; what goes wrong in either.
fn pooler_says(pooler: &Pooler) -> Result<String, crate::support::Failure> {
    let mut client = RawClient::try_login(&pooler.address, "app", &pooler.database, None)?;
    client.send(&Frontend::new().query("select 1"));
    match client.read() {
        message if message.tag == b'E' => Err(message.failure()),
        _ => Ok(client.answer().value()),
    }
}

/// Nobody listens on the first two.
#[test]
fn hosts_that_cannot_be_reached_are_passed_over() {
    let setup = Setup::new().pool_size(3);
    let setup = setup.for_database("host", "127.0.0.2,127.0.0.3,127.0.0.1");
    let pooler = setup.set("server_login_retry", secs(3600.0)).start();
    let _clients: Vec<_> = (0..3).map(|_| holds(&pooler)).collect();
    assert_eq!(pooler.backends().len(), 3);
}

#[test]
fn server_login_retry_spares_the_server() {
    for setup in [Setup::new(), Setup::new().in_ini()] {
        let setup = setup.for_database("dbname", "never_there");
        let pooler = setup.set("server_login_retry", secs(3600.0)).start();
        let first = pooler_says(&pooler).expect_err("no such database");
        let again = pooler_says(&pooler).expect_err("still in the pause");
        assert!(again.detail().contains("The last attempt went to"));
        if pooler.is_ini() {
            expect_pgbouncers_words(&again);
            continue;
        }
        assert_eq!(again.sqlstate(), "3D000");
        assert_eq!(again.message(), first.message());
        assert!(again.detail().contains("server_login_retry (3600 s)"));
    }
}

#[track_caller]
fn expect_pgbouncers_words(failure: &Failure) {
    let cached = "server login has been failing, cached error: database \"never_there\" does \
         not exist (server_login_retry)";
    assert_eq!((failure.sqlstate(), failure.message()), ("08P01", cached));
}

#[test]
fn clients_wait_while_the_server_restarts() {
    let mut cluster = Cluster::fresh();
    let setup = Setup::with(&cluster).set("server_login_retry", secs(0.2));
    let pooler = setup.set("server_check_delay", secs(0.0)).start();
    let mut client = pooler.login();
    client.query("select 1");
    cluster.stop(nix::sys::signal::Signal::SIGINT);
    eventually("the pooler has noticed", 0, || pooler.show("SERVERS").len());
    client.send(&Frontend::new().query("select 'patient'"));
    pooler.expect_waiting(1);
    assert!(cluster.start());
    assert_eq!(client.answer().value(), "patient");
}

#[test]
fn client_login_timeout() {
    let pooler = Setup::new().set("client_login_timeout", secs(3.0)).start();
    let mut logged_in = pooler.login();
    let mut silent = RawClient::connect(&pooler.address);
    let messages = silent.read_to_end();
    let failure = messages.first().expect("an error").failure();
    assert_eq!(failure.message(), "client_login_timeout");
    assert_eq!(logged_in.value("select 1"), "1");
}
