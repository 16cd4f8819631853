//! Lines that parsers look for in the log of a pooler with a pgbouncer.ini.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Failure, Frontend, Pooler, RawClient, Setup, eventually, secs};

/// Numbers, decimal and hexadecimal, all look the same.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        masked.push_str(before);
        masked.push('#');
        rest = match number.strip_prefix("0x") {
            Some(hex) => hex.trim_start_matches(|c: char| c.is_ascii_hexdigit()),
            None => number.trim_start_matches(|c: char| c.is_ascii_digit()),
        };
    }
    masked + rest
}

/// Waits for this line, but for the numbers in it.
#[track_caller]
fn expect_line(pooler: &Pooler, start: &str, text: &str) {
    let start = start.replace("db/", &format!("{}/", pooler.database));
    let line = format!("2026-11-20 21:43:11.042 UTC [1] {start}@127.0.0.1:1 {text}");
    let line = masked(&line);
    eventually(&line, true, || {
        pooler.log().lines().any(|logged| masked(logged) == line)
    });
}

const CLIENT: &str = "LOG C-0x1: db/app";
const CLIENT_WARNING: &str = "WARNING C-0x1: db/app";
const SERVER: &str = "LOG S-0x1: db/app";

fn setup() -> Setup {
    Setup::new().in_ini()
}

/// What somebody is told who cannot log in.
#[track_caller]
fn refused(pooler: &Pooler) -> Failure {
    let login = RawClient::try_login(&pooler.address, "app", &pooler.database, None);
    login.expect_err("it was let in")
}

#[test]
fn a_session() {
    let pooler = setup().start();
    pooler.login().query("select 1");
    let attempt = format!(
        "login attempt: db={} user=app tls=no replication=no",
        pooler.database
    );
    expect_line(&pooler, CLIENT, &attempt);
    let opened = "new connection to server (from 127.0.0.1:1)";
    expect_line(&pooler, SERVER, opened);
    let mut client = pooler.login();
    client.send(&Frontend::new().terminate());
    client.read_to_end();
    expect_line(
        &pooler,
        CLIENT,
        "closing because: client close request (age=0s)",
    );
    drop(pooler.login());
    expect_line(
        &pooler,
        CLIENT,
        "closing because: client unexpected eof (age=0s)",
    );
}

#[test]
fn a_session_at_the_console() {
    let pooler = setup().start();
    let mut console = pooler.console();
    console.query("show version");
    console.send(&Frontend::new().terminate());
    console.read_to_end();
    let admin = "LOG C-0x1: pgbouncer/admin";
    let attempt = "login attempt: db=pgbouncer user=admin tls=no replication=no";
    expect_line(&pooler, admin, attempt);
    expect_line(
        &pooler,
        admin,
        "closing because: client close request (age=0s)",
    );
}

#[test]
fn the_prefix_is_the_pointer_of_the_console() {
    let pooler = setup().start();
    let mut client = pooler.login();
    client.query("begin");
    for (what, side) in [("CLIENTS", 'C'), ("SERVERS", 'S')] {
        let rows = pooler.show(what);
        let row = rows.iter().find(|row| row["user"] == "app").expect("a row");
        let prefix = format!(" LOG {side}-{}: {}/app@", row["ptr"], pooler.database);
        let log = pooler.log();
        assert!(log.contains(&prefix), "{prefix} in {log}");
    }
}

#[test]
fn nothing_that_is_not_wanted() {
    let off = ["log_connections", "log_disconnections", "log_pooler_errors"];
    let setup = off
        .into_iter()
        .fold(setup(), |setup, key| setup.set(key, false));
    let pooler = setup.set("max_client_conn", 1).start();
    let client = pooler.login();
    refused(&pooler);
    drop(client);
    eventually("no client", false, || {
        pooler
            .show("CLIENTS")
            .iter()
            .any(|row| row["user"] == "app")
    });
    pooler.console().query("reconnect");
    pooler.expect_backends(0);
    let log = pooler.log();
    for text in [
        "login attempt",
        "new connection",
        "closing because",
        "pooler error",
    ] {
        assert!(!log.contains(text), "{log}");
    }
}

#[test]
fn an_error_of_ours() {
    let pooler = setup().set("max_client_conn", 1).start();
    let _client = pooler.login();
    let text = "no more connections allowed (max_client_conn)";
    assert_eq!(refused(&pooler).message(), text);
    expect_line(
        &pooler,
        CLIENT,
        &format!("closing because: {text} (age=0s)"),
    );
    expect_line(&pooler, CLIENT_WARNING, &format!("pooler error: {text}"));
}

#[test]
fn an_error_within_a_session() {
    let setup = setup().pool_size(1).set("query_wait_timeout", secs(3.0));
    let pooler = setup.start();
    let (mut holder, mut waiting) = (pooler.login(), pooler.login());
    holder.query("begin");
    waiting.send(&Frontend::new().query("select 1"));
    waiting.read_to_end();
    expect_line(
        &pooler,
        CLIENT,
        "closing because: query_wait_timeout (age=0s)",
    );
    expect_line(&pooler, CLIENT_WARNING, "pooler error: query_wait_timeout");
}

#[test]
fn somebody_who_says_nothing() {
    let pooler = setup().set("client_login_timeout", secs(0.2)).start();
    RawClient::connect(&pooler.address).read_to_end();
    let nobody = "C-0x1: (nodb)/(nouser)";
    expect_line(
        &pooler,
        &format!("LOG {nobody}"),
        "closing because: client_login_timeout (age=0s)",
    );
    expect_line(
        &pooler,
        &format!("WARNING {nobody}"),
        "pooler error: client_login_timeout",
    );
}

#[test]
fn a_login_that_the_server_refuses() {
    let pooler = setup().for_database("dbname", "not_there").start();
    let text = "database \"not_there\" does not exist";
    assert_eq!(refused(&pooler).message(), text);
    let log = pooler.log();
    assert!(
        log.contains(&format!(" WARNING server login failed: FATAL {text}\n")),
        "{log}"
    );
    let refused = format!("closing because: {text} (age=0s)");
    expect_line(&pooler, SERVER, &refused);
    expect_line(
        &pooler,
        CLIENT,
        &format!("closing because: {text} (age=0s)"),
    );
    expect_line(&pooler, CLIENT_WARNING, &format!("pooler error: {text}"));
}

/// These lines of one client, one behind the other.
#[track_caller]
fn expect_lines(pooler: &Pooler, lines: &[(&str, String)]) {
    let line = |(start, text): &(&str, String)| {
        let start = start.replace("db/", &format!("{}/", pooler.database));
        format!(" {start}@127.0.0.1:1 {text}\n")
    };
    let all: String = lines.iter().map(line).collect();
    let all = masked(&all);
    eventually(&all, true, || {
        let log = pooler.log();
        let client = |line: &str| line.split_once("] ").map(|(_, line)| format!(" {line}\n"));
        let lines: String = log.lines().filter_map(client).collect();
        masked(&lines).contains(&all)
    });
}

#[test]
fn a_wrong_password() {
    let setup = setup().set("auth_type", "scram-sha-256");
    let pooler = setup.start();
    let wrong = |user: &str| {
        let login = RawClient::try_login(&pooler.address, user, &pooler.database, Some("wrong"));
        login.expect_err("it was let in");
    };
    wrong("app");
    let text = "SASL authentication failed";
    expect_lines(
        &pooler,
        &[
            (
                "ERROR C-0x1: db/app",
                "password authentication failed".to_owned(),
            ),
            (CLIENT, format!("closing because: {text} (age=0s)")),
            (CLIENT_WARNING, format!("pooler error: {text}")),
        ],
    );
    wrong("nobody");
    expect_lines(
        &pooler,
        &[
            ("LOG C-0x1: db/nobody", "no such user: nobody".to_owned()),
            (
                "ERROR C-0x1: db/nobody",
                "password authentication failed".to_owned(),
            ),
            (
                "LOG C-0x1: db/nobody",
                format!("closing because: {text} (age=0s)"),
            ),
        ],
    );
}

#[test]
fn a_database_that_is_not_there() {
    let pooler = setup().start();
    let login = RawClient::try_login(&pooler.address, "app", "none", None);
    login.expect_err("it was let in");
    expect_lines(
        &pooler,
        &[
            (
                "LOG C-0x1: none/app",
                "login attempt: db=none user=app tls=no replication=no".to_owned(),
            ),
            (
                "LOG C-0x1: none/app",
                "login failed: db=none user=app".to_owned(),
            ),
            (
                "LOG C-0x1: none/app",
                "closing because: no such database: none (age=0s)".to_owned(),
            ),
            (
                "WARNING C-0x1: none/app",
                "pooler error: no such database: none".to_owned(),
            ),
        ],
    );
}

#[test]
fn cancel_requests() {
    let pooler = setup().start();
    let mut client = pooler.login();
    let closing = |text: &str| format!("closing because: {text} (age=0s)");
    RawClient::cancel_key(&pooler.address, &[0, 0, 0, 1, 2, 3, 4, 5]);
    let nobody = "LOG C-0x1: (nodb)/(nouser)";
    expect_line(&pooler, nobody, &closing("failed cancel request"));
    client.cancel();
    expect_line(&pooler, nobody, &closing("cancel request for idle client"));
    pooler.console().cancel();
    let text = "cancel request for console client";
    expect_line(&pooler, nobody, &closing(text));
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    assert!(client.is_silent_for(Duration::from_millis(100)));
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
    let sent = closing("successfully sent cancel request");
    expect_line(&pooler, "LOG C-0x1: db/(nouser)", &sent);
    // The connection that brings it has lines, too.
    expect_line(&pooler, SERVER, &sent);
    let opened = "new connection to server (from 127.0.0.1:1)";
    assert_eq!(
        pooler.log().matches(" new connection to server ").count(),
        2
    );
    expect_line(&pooler, SERVER, opened);
}

#[test]
fn mistakes_of_a_client() {
    let pooler = setup().start();
    for (message, text) in [
        (
            Frontend::new().message(b'?', b""),
            "unknown pkt from client: 63/0x3f",
        ),
        (
            Frontend::new().bind("", "s'x", &[]).sync(),
            "prepared statement 's'x' not found",
        ),
        (
            Frontend::new()
                .parse("s", "select 1")
                .sync()
                .parse("s", "select 2")
                .sync(),
            "prepared statement 's' was already prepared",
        ),
    ] {
        let mut client = pooler.login();
        client.send(&message);
        client.read_to_end();
        expect_line(&pooler, "ERROR C-0x1: db/app", text);
    }
}

/// Two server connections, the second of them within its client's transaction.
fn with_one_of_two_in_use() -> (Pooler, [RawClient; 2]) {
    let pooler = setup().pool_size(2).start();
    let mut clients = [pooler.login(), pooler.login()];
    clients
        .iter_mut()
        .for_each(|client| drop(client.query("begin")));
    clients[0].query("commit");
    (pooler, clients)
}

/// Of a database that is killed: within a transaction, and idle.
#[test]
fn server_connections_of_a_killed_database() {
    let (pooler, _clients) = with_one_of_two_in_use();
    pooler.console().query("kill");
    let used = "closing because: client disconnect while server was not ready (age=0s)";
    expect_line(&pooler, SERVER, used);
    expect_line(
        &pooler,
        SERVER,
        "closing because: database removed (age=0s)",
    );
}

/// What differs in the settings of two clients, with `-v`.
#[test]
fn settings_that_are_set() {
    let pooler = setup().pool_size(1).set("verbose", 1).start();
    let with = |parameters: &[(&str, &str)]| {
        let mut all = vec![("user", "app"), ("database", &*pooler.database)];
        all.extend(parameters);
        let mut client = RawClient::connect(&pooler.address);
        client.send(&Frontend::new().startup((3, 0), &all));
        client.finish_login("app", None).expect("login");
        client
    };
    let debug = SERVER.replace("LOG", "DEBUG");
    let mut one = with(&[("application_name", "it's one")]);
    one.query("set app.secret = 'hidden'");
    expect_line(
        &pooler,
        &debug,
        "varcache_apply: SET application_name='it''s one';",
    );
    let mut two = with(&[("DateStyle", "German"), ("application_name", "two")]);
    let canonical = "varcache_set_canonical: setting DateStyle to its canonical version \
                     German -> German, DMY";
    expect_line(&pooler, &CLIENT.replace("LOG", "DEBUG"), canonical);
    for _ in 0..2 {
        two.query("select 1");
        one.query("select 1");
    }
    let back = "varcache_apply: SET application_name='it''s one';SET DateStyle='ISO, MDY';";
    expect_line(&pooler, &debug, back);
    assert!(!pooler.log().contains("hidden"));
}

/// A refused command has a line of its own besides `pooler error`.
#[test]
fn mistakes_at_the_console() {
    let pooler = setup().start();
    let mut console = pooler.console();
    for (command, line) in [
        ("PAUSE none", "LOG PAUSE 'none' command issued"),
        ("PAUSE none", "ERROR no such database: none"),
        ("SET none = 1", "ERROR unknown parameter: pgbouncer/none"),
        ("SET none = 1", "ERROR SET failed"),
        ("RESUME", "LOG RESUME command issued"),
        ("RESUME", "ERROR pooler is not paused/suspended"),
        (
            "nonsense",
            "ERROR invalid command 'nonsense', use SHOW HELP;",
        ),
    ] {
        console.try_query(command).error();
        let log = pooler.log();
        assert!(log.contains(&format!("] {line}\n")), "{line} in {log}");
    }
    console.send(&Frontend {
        bytes: b"Q\0\0\0\x03".to_vec(),
    });
    console.read_to_end();
    let text = "bad packet header: '5100000003'";
    expect_lines(
        &pooler,
        &[
            (
                "LOG C-0x1: pgbouncer/admin",
                format!("closing because: {text} (age=0s)"),
            ),
            (
                "WARNING C-0x1: pgbouncer/admin",
                format!("pooler error: {text}"),
            ),
        ],
    );
}

/// Clients that log in while there is no server wait, and are told if they do so
/// for too long.
#[test]
fn a_server_that_is_not_there() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(nobody.local_addr().expect("address").port());
    drop(nobody);
    let setup = setup().for_database("port", port);
    let setup = setup.set("client_login_timeout", secs(0.5));
    let pooler = setup.set("server_login_retry", secs(0.1)).start();
    assert_eq!(
        refused(&pooler).message(),
        "client_login_timeout (server down)"
    );
    expect_line(&pooler, SERVER, "closing because: connect failed (age=0s)");
}

#[test]
fn a_server_that_says_nothing() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(mute.local_addr().expect("address").port());
    let setup = setup().for_database("port", port);
    let setup = setup.set("client_login_timeout", secs(0.5));
    let pooler = setup.set("server_connect_timeout", secs(0.2)).start();
    refused(&pooler);
    expect_line(&pooler, SERVER, "closing because: connect timeout (age=0s)");
}

#[test]
fn a_server_that_hangs_up() {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(server.local_addr().expect("address").port());
    let setup = setup().for_database("port", port);
    let setup = setup.set("server_tls_sslmode", "disable");
    let pooler = setup.set("client_login_timeout", secs(0.5)).start();
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.read(&mut [0; 8]);
            let _ = stream.flush();
        }
    });
    refused(&pooler);
    let opened = "new connection to server (from 127.0.0.1:1)";
    expect_line(&pooler, SERVER, opened);
    expect_line(
        &pooler,
        SERVER,
        "closing because: server conn crashed? (age=0s)",
    );
}

#[test]
fn a_server_connection_that_ends() {
    let pooler = setup().pool_size(1).start();
    let crashed = "closing because: server conn crashed? (age=0s)";
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' \
               and datname = current_database()";
    // Idle, and within a transaction.
    pooler.login().query("select 1");
    pooler.admin().query(end);
    expect_line(&pooler, SERVER, crashed);
    let mut client = pooler.login();
    client.query("begin");
    pooler.admin().query(end);
    client.read_to_end();
    expect_line(&pooler, CLIENT, crashed);
}

#[test]
fn server_connections_that_are_too_old_idle_or_many() {
    for (key, value, text) in [
        ("server_lifetime", secs(0.3), "server lifetime over"),
        ("server_idle_timeout", secs(0.3), "server idle timeout"),
    ] {
        let pooler = setup().set(key, value).start();
        pooler.login().query("select 1");
        expect_line(
            &pooler,
            SERVER,
            &format!("closing because: {text} (age=0s)"),
        );
    }
    let mut pooler = setup().start();
    let mut clients = [pooler.login(), pooler.login()];
    clients
        .iter_mut()
        .for_each(|client| drop(client.query("begin")));
    clients
        .iter_mut()
        .for_each(|client| drop(client.query("commit")));
    pooler.rewrite(|setup| setup.pool_size(1));
    pooler.console().query("reload");
    let many = "closing because: too many servers in the pool (age=0s)";
    expect_line(&pooler, SERVER, many);
}

#[test]
fn server_connections_that_are_out_of_date() {
    let (pooler, mut clients) = with_one_of_two_in_use();
    pooler.console().query("reconnect");
    let idle = "closing because: database configuration changed (age=0s)";
    expect_line(&pooler, SERVER, idle);
    clients[1].query("commit");
    expect_line(&pooler, SERVER, "closing because: close_needed (age=0s)");
}

#[test]
fn room_for_another_user() {
    let pooler = setup().for_database("max_db_connections", 1).start();
    pooler.login().query("select 1");
    assert_eq!(pooler.login_as("app2").value("select current_user"), "app2");
    expect_line(&pooler, SERVER, "closing because: evicted (age=0s)");
    assert_eq!(pooler.backends().len(), 1);
}

#[test]
fn room_in_another_database() {
    let setup = setup()
        .alias("other")
        .user("app", "max_user_connections", 1);
    let pooler = setup.start();
    pooler.login().query("select 1");
    RawClient::login(&pooler.address, "app", "other").query("select 1");
    expect_line(&pooler, SERVER, "closing because: evicted (age=0s)");
    assert_eq!(pooler.backends().len(), 1);
}

#[test]
fn the_reserve() {
    let setup = setup().pool_size(1).set("reserve_pool_size", 1);
    let pooler = setup.set("reserve_pool_timeout", secs(0.2)).start();
    let (mut holder, mut other) = (pooler.login(), pooler.login());
    holder.query("begin");
    let text = "taking connection from reserve_pool";
    assert!(!pooler.log().contains(text));
    other.query("begin");
    expect_line(&pooler, CLIENT_WARNING, text);
    assert_eq!(pooler.log().matches(text).count(), 1);
}

#[test]
fn an_end_for_all() {
    let pooler = setup().pool_size(1).start();
    let mut waiting = pooler.login();
    let mut holder = pooler.login();
    holder.query("begin");
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    pooler.signal(nix::sys::signal::Signal::SIGINT);
    waiting.read_to_end();
    let text = "closing because: server shutting down (age=0s)";
    expect_line(&pooler, CLIENT, text);
    std::thread::sleep(Duration::from_millis(10));
    holder.query("commit");
    // It has been paused for that.
    expect_line(&pooler, SERVER, "closing because: pause mode (age=0s)");
}

#[test]
fn a_pool_that_nobody_needs() {
    let setup = setup().set("pool_idle_timeout", secs(0.5));
    let setup = setup.set("server_idle_timeout", secs(0.2));
    let pooler = setup.one_worker().start();
    let mut client = pooler.login();
    client.query("select 1");
    pooler.login_as("app2").query("select 1");
    let users = || {
        let rows = pooler.show("POOLS");
        let own = rows.iter().filter(|row| row["database"] == pooler.database);
        own.map(|row| row["user"].clone()).collect::<Vec<_>>()
    };
    // The other one has a client.
    eventually("one pool", vec!["app".to_owned()], users);
    assert!(pooler.log().contains(" LOG cleaning up idle pool "));
    // What it has counted is not lost.
    let stats = pooler.show("STATS_TOTALS");
    let own = stats.iter().find(|row| row["database"] == pooler.database);
    assert_eq!(own.expect("a row")["query_count"], "2");
    assert_eq!(pooler.login_as("app2").value("select 2"), "2");
}
