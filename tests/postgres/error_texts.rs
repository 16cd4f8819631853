//! What clients are told, to the letter, where the file is a pgbouncer.ini.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::support::{
    Failure, Frontend, Pooler, RawClient, Setup, answering, answering_scram, eventually, secs,
};

/// The SQLSTATE of everything that PgBouncer says itself.
const CODE: &str = "08P01";

/// What somebody is told, and no more, who says this first.
#[track_caller]
fn told(pooler: &Pooler, first: &[u8]) -> String {
    let mut client = RawClient::connect(&pooler.address);
    client.send_bytes(first);
    let messages = client.read_to_end();
    let [error] = &messages[..] else {
        panic!("{messages:?}");
    };
    let failure = error.failure();
    assert_eq!((failure.severity(), failure.sqlstate()), ("FATAL", CODE));
    failure.message().to_owned()
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    Frontend::new().startup((3, 0), parameters).bytes
}

#[test]
fn of_startup_packets() {
    let pooler = Setup::new().in_ini().start();
    let text = told(&pooler, &startup(&[("database", "x")]));
    assert_eq!(text, "no username supplied");
    let text = told(&pooler, b"\0\0\0\x08\0\x02\0\0");
    assert_eq!(text, "old V2 protocol not supported");
    // Length, version, a name without a value.
    let text = told(&pooler, b"\0\0\0\x0d\0\x03\0\0user\0");
    assert_eq!(
        text,
        "invalid startup packet layout: expected terminator as last byte"
    );
    let database = pooler.database.as_str();
    let options = [
        ("user", "app"),
        ("database", database),
        ("options", "-z something"),
    ];
    let text = told(&pooler, &startup(&options));
    let allowed = "only '-c config=val' and '--config=val' are allowed";
    assert_eq!(
        text,
        format!("unsupported options startup parameter: {allowed}")
    );
    let text = told(&pooler, &startup(&[("user", "app"), ("database", "none")]));
    assert_eq!(text, "no such database: none");
}

#[test]
fn of_asking_twice_for_tls() {
    let pooler = Setup::new().in_ini().start();
    let mut client = RawClient::connect(&pooler.address);
    client.send(&Frontend::new().request((1234, 5679)));
    client.read_byte();
    client.send(&Frontend::new().request((1234, 5679)));
    let failure = client.read_to_end()[0].failure();
    assert_eq!(failure.message(), "client re-sent startup pkt");
}

#[test]
fn of_what_comes_in_clear_with_a_request() {
    let pooler = Setup::new().in_ini().start();
    for (code, kind) in [(5679, "SSL"), (5680, "GSSAPI encryption")] {
        let request = Frontend::new().request((1234, code)).bytes;
        let text = told(&pooler, &[&request[..], &startup(&[])].concat());
        assert_eq!(
            text,
            format!("received unencrypted data after {kind} request")
        );
    }
}

#[test]
fn of_shutting_down() {
    let pooler = Setup::new().in_ini().pool_size(1).start();
    let (mut holder, mut waiting) = (pooler.login(), pooler.login());
    holder.query("begin");
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    let unix = pooler.socket.clone();
    pooler.signal(Signal::SIGINT);
    let failure = waiting.read_to_end()[0].failure();
    assert_eq!(
        (failure.sqlstate(), failure.message()),
        (CODE, "server shutting down")
    );
    eventually("nobody is let in", true, || {
        RawClient::try_connect(&pooler.address).is_err()
    });
    let login = RawClient::try_login(&unix, "app", &pooler.database, None);
    let failure = login.expect_err("refused");
    assert_eq!(
        (failure.sqlstate(), failure.message()),
        (CODE, "pooler is shutting down")
    );
}

/// The text for a client whose server begins with this message.
fn of_server(kind: u8, body: &[u8]) -> String {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(server.local_addr().expect("address").port());
    answering(server, &Frontend::new().message(kind, body));
    let setup = Setup::new().in_ini().for_database("port", port);
    let setup = setup.set("server_tls_sslmode", "disable");
    // A verifier that nobody has proved a password for.
    let (salt, key) = ("c2FsdHNhbHRzYWx0c2FsdA==", "A".repeat(43) + "=");
    let verifier = format!("SCRAM-SHA-256$4096:{salt}${key}:{key}");
    let setup = setup.user("app", "password", &*verifier);
    let pooler = setup.set("server_login_retry", secs(3600.0)).start();
    let (user, database) = ("app", pooler.database.as_str());
    told(&pooler, &startup(&[("user", user), ("database", database)]))
}

#[test]
fn of_servers_that_ask_for_what_we_do_not_have() {
    // AuthenticationMD5Password, AuthenticationSASL.
    let text = of_server(b'R', b"\0\0\0\x05salt");
    assert_eq!(text, "server login failed: wrong password type");
    let text = of_server(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    assert_eq!(text, "server login failed: wrong password type");
    let text = of_server(b'R', b"\0\0\0\x0aOTHER\0\0");
    let none = "none of the server's SASL authentication mechanisms are supported";
    assert_eq!(text, format!("server login failed: {none}"));
}

#[test]
fn of_a_server_that_does_not_know_the_password() {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = i32::from(server.local_addr().expect("address").port());
    // 32 bytes of zeros.
    answering_scram(server, "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let setup = Setup::new().in_ini().for_database("port", port);
    let setup = setup.set("server_tls_sslmode", "disable");
    let pooler = setup.user("app", "password", "secret").start();
    let (user, database) = ("app", pooler.database.as_str());
    let text = told(&pooler, &startup(&[("user", user), ("database", database)]));
    assert_eq!(text, "server login failed: invalid server signature");
}

#[track_caller]
fn assert_said(failure: &Failure, severity: &str, sqlstate: &str, text: &str) {
    let said = (failure.severity(), failure.sqlstate(), failure.message());
    assert_eq!(said, (severity, sqlstate, text));
}

#[test]
fn of_a_parameter_that_the_server_does_not_take_again() {
    let setup = Setup::new().in_ini().pool_size(1).one_worker();
    let pooler = setup.start();
    let mut client = pooler.login_with(&[("options", "-c temp_buffers=200")]);
    // It cannot be set where somebody has had a temporary table.
    let mut other = pooler.login();
    other.query("create temp table t (a int); insert into t values (1); drop table t");
    client.send(&Frontend::new().query("select 1"));
    let failure = client.expect_end();
    assert_said(&failure, "FATAL", CODE, "invalid server parameter");
    assert!(failure.detail().contains("temp_buffers"), "{failure:?}");
    // Only its own connection was lost.
    assert_eq!(other.value("select 1"), "1");
}

#[test]
fn of_commands_of_the_console() {
    let mut pooler = Setup::new().in_ini().start();
    let mut console = pooler.console();
    let words = ["pause", "reconnect", "disable", "enable", "kill"].map(|word| (word, word));
    for (command, word) in words.into_iter().chain([("wait_close", "wait in")]) {
        let error = console.try_query(&format!("{command} pgbouncer")).error();
        let text = format!("cannot {word} admin db: pgbouncer");
        assert_said(&error, "ERROR", CODE, &text);
    }
    let long = format!("show {}", "x".repeat(64));
    assert_said(
        &console.try_query(&long).error(),
        "ERROR",
        CODE,
        "bad arguments",
    );
    pooler.rewrite(|setup| setup.set("pool_mode", "none"));
    let error = console.try_query("reload").error();
    let text = "RELOAD failed, see logs for additional details";
    assert_said(&error, "ERROR", "F0000", text);
}
