//! What clients may not do, and what is added to what they say.

use nix::sys::signal::Signal;

use crate::support::{Frontend, Pooler, Setup, eventually};

const PID: &str = "select pid from pg_backend_pid() as pid";

#[track_caller]
fn has_logged(pooler: &Pooler, side: &str, text: &str) {
    let prefix = format!(": {}/app@", pooler.database);
    eventually(text, true, || {
        let log = pooler.log();
        let mut lines = log.lines();
        lines.any(|line| line.contains(side) && line.contains(&prefix) && line.contains(text))
    });
}

#[test]
fn max_packet_size_of_a_query() {
    let setup = Setup::new().set("max_packet_size", 2048);
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    // Type, length, text, NUL.
    let query = |size: usize| Frontend::new().query(&format!("select {:01$}", 1, size - 13));
    assert_eq!(query(2048).bytes.len(), 2048);
    assert_eq!(client.exchange(&query(2048)).value().len(), 1);
    client.send(&query(2049));
    let failure = client.expect_end();
    assert_eq!(failure.message(), "bad packet header: '510000080073656c'");
    let detail = "The message has 2049 bytes, and max_packet_size is 2048.";
    assert_eq!(failure.detail(), detail);
    has_logged(
        &pooler,
        " LOG C-",
        "closing because: bad packet header: '5100",
    );
}

#[test]
fn max_packet_size_of_a_row() {
    let setup = Setup::new().set("max_packet_size", 2048);
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    // Type, length, number of columns, length of the first.
    let sql = |size: usize| format!("select repeat('x', {})", size - 11);
    assert_eq!(client.value(&sql(2048)).len(), 2048 - 11);
    client.send(&Frontend::new().query(&sql(2049)));
    assert_eq!(client.expect_end().message(), "bad pkt header");
    for side in [" LOG S-", " LOG C-"] {
        has_logged(&pooler, side, "closing because: bad pkt header (age=");
    }
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn max_packet_size_follows_a_reload() {
    let mut pooler = Setup::new().in_toml().start();
    let mut client = pooler.login();
    let long = format!("select length('{}')", "x".repeat(4096));
    assert_eq!(client.value(&long), "4096");
    pooler.rewrite(|setup| setup.set("max_packet_size", 2048));
    pooler.signal(Signal::SIGHUP);
    eventually("the reload", true, || {
        pooler.log().contains("configuration reloaded")
    });
    client.send(&Frontend::new().query(&long));
    // PostgreSQL's words, where the file is not PgBouncer's.
    assert_eq!(client.expect_end().message(), "invalid message length");
}

#[test]
fn what_is_no_message() {
    let pooler = Setup::new().in_ini().start();
    for (message, text) in [
        (&b"Q\0\0\0\x03"[..], "bad packet header: '5100000003'"),
        (b"Z\0\0\0\x04", "unknown pkt"),
    ] {
        let mut client = pooler.login();
        client.send_bytes(message);
        assert_eq!(client.expect_end().message(), text);
    }
}

#[test]
fn disable_pqexec() {
    let setup = Setup::new().set("disable_pqexec", true);
    let pooler = setup.in_ini().start();
    let mut client = pooler.login();
    let run = Frontend::new().run("select 1", &[]).sync();
    assert_eq!(client.exchange(&run).value(), "1");
    client.send(&Frontend::new().query("select 1"));
    assert_eq!(client.expect_end().message(), "PQexec disallowed");
    has_logged(
        &pooler,
        " LOG C-",
        "closing because: PQexec disallowed (age=",
    );
    assert_eq!(pooler.login().exchange(&run).value(), "1");
}

#[test]
fn application_name_add_host() {
    let setup = Setup::new().set("application_name_add_host", true);
    let pooler = setup.in_ini().start();
    let show = "show application_name";
    // Of the only client, as the console has it.
    let shown = |column: &str| {
        let clients = pooler.show("CLIENTS");
        let client = clients.iter().find(|client| client["user"] == "app");
        client.expect("a client")[column].clone()
    };
    for (asked, name) in [(Some("psql"), "psql"), (None, "app")] {
        let parameters: Vec<_> = asked
            .map(|name| ("application_name", name))
            .into_iter()
            .collect();
        let mut client = pooler.login_with(&parameters);
        let expected = format!("{name} - {}:{}", shown("addr"), shown("port"));
        assert_eq!(client.value(show), expected);
        assert_eq!(shown("application_name"), expected);
        // Only at login.
        client.query("set application_name = 'other'");
        assert_eq!(client.value(show), "other");
        drop(client);
        eventually("no client", false, || {
            pooler
                .show("CLIENTS")
                .iter()
                .any(|client| client["user"] == "app")
        });
    }
    // As long as PostgreSQL has it.
    let name = "x".repeat(60);
    let mut client = pooler.login_with(&[("application_name", &*name)]);
    assert_eq!(client.value(show), format!("{name} - "));
}

#[test]
fn server_fast_close() {
    let setup = Setup::new().set("pool_mode", "session").pool_size(3);
    let setup = setup.set("server_fast_close", true);
    let pooler = setup.in_ini().start();
    let (mut idle, mut busy) = (pooler.login(), pooler.login());
    idle.query("select 1");
    busy.query("begin");
    pooler.console().query("reconnect");
    assert_eq!(
        idle.expect_end().message(),
        "database configuration changed"
    );
    // Not within a transaction.
    assert_eq!(busy.query("select 1").status(), 'T');
    busy.send(&Frontend::new().query("commit"));
    assert_eq!(busy.read_until(b'Z').len(), 2);
    assert_eq!(
        busy.expect_end().message(),
        "database configuration changed"
    );
    for side in [" LOG S-", " LOG C-"] {
        has_logged(
            &pooler,
            side,
            "closing because: database configuration changed",
        );
    }
}

#[test]
fn without_server_fast_close_a_session_goes_on() {
    let setup = Setup::new().set("pool_mode", "session");
    let pooler = setup.start();
    let mut client = pooler.login();
    let pid = client.value(PID);
    pooler.console().query("reconnect");
    assert_eq!(client.value(PID), pid);
}
