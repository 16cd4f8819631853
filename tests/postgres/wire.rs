//! The protocol, message by message: what comes back through a pool must be,
//! byte for byte, what PostgreSQL sends to a client of its own.

use nix::sys::signal::Signal;

use crate::support::{
    Address, Cluster, Failure, Frontend, Message, Pooler, RawClient, Setup, tags,
};

fn errors(messages: &[Message]) -> Vec<Failure> {
    let errors = messages.iter().filter(|m| m.tag == b'E');
    errors.map(Message::failure).collect()
}

#[test]
fn simple_query() {
    let pooler = Setup::new().start();
    for (sql, expected) in [
        ("select 1, null, 'x'", "TDCZ"),
        ("", "IZ"),
        (";", "IZ"),
        ("-- nothing", "IZ"),
        (
            "select 1; select 2; begin; select 3; commit",
            "TDCTDCCTDCCZ",
        ),
        ("select from generate_series(1, 3)", "TDDDCZ"),
        ("select 1; select 1/0; select 2", "TDCEZ"),
        ("selekt 1", "EZ"),
        ("select * from missing_table where a = 'ä'", "EZ"),
        (
            "do $$ begin raise notice 'n1'; raise warning 'w1'; end $$",
            "NNCZ",
        ),
        ("begin; select 1/0", "CEZ"),
    ] {
        let answer = pooler.same_as_postgres(&Frontend::new().query(sql), 1);
        assert_eq!(tags(&answer), expected, "{sql}");
    }
}

#[test]
fn extended_query() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .parse("", "select $1::int + 1 as more, $2::text")
        .describe(b'S', "")
        .bind("", "", &["41", "ä"])
        .describe(b'P', "")
        .execute("", 0)
        .sync();
    let answer = pooler.same_as_postgres(&script, 1);
    assert_eq!(tags(&answer), "1tT2TDCZ");
    assert_eq!(
        answer[5].columns(),
        [Some("42".to_owned()), Some("ä".to_owned())]
    );

    let no_result = Frontend::new()
        .parse("", "do 'begin end'")
        .describe(b'S', "")
        .run("", &[])
        .sync();
    assert_eq!(tags(&pooler.same_as_postgres(&no_result, 1)), "1tn12IZ");
}

#[test]
fn rows_in_portions() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .run("begin", &[])
        .parse("numbers", "select generate_series(1, 5)")
        .bind("portal", "numbers", &[])
        .execute("portal", 2)
        .execute("portal", 2)
        .sync()
        .execute("portal", 2)
        .close(b'P', "portal")
        .close(b'S', "numbers")
        .run("commit", &[])
        .sync();
    let answer = pooler.same_as_postgres(&script, 2);
    assert_eq!(tags(&answer), "12C12DDsDDsZDC3312CZ");
}

#[test]
fn flush_brings_answers_without_sync() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.send(&Frontend::new().parse("", "select $1::int").flush());
    assert_eq!(client.read().tag, b'1');
    client.send(&Frontend::new().describe(b'S', "").flush());
    assert_eq!(tags(&[client.read(), client.read()]), "tT");
    client.send(&Frontend::new().bind("", "", &["7"]).execute("", 0).flush());
    assert_eq!(tags(&client.read_until(b'C')), "2DC");
    client.send(&Frontend::new().sync());
    assert_eq!(client.answer().tags(), "Z");
}

#[test]
fn flush_alone_and_sync_alone() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.send(&Frontend::new().flush());
    assert_eq!(client.exchange(&Frontend::new().sync()).tags(), "Z");
    assert_eq!(client.value("select 1"), "1");
    let three = Frontend::new().sync().sync().sync();
    assert_eq!(tags(&pooler.same_as_postgres(&three, 3)), "ZZZ");
}

#[test]
fn pipeline_of_many_transactions() {
    let pooler = Setup::new().start();
    let count = 5_000;
    let mut script = Frontend::new();
    for i in 0..count {
        let number = i.to_string();
        script = script.run("select $1::int", &[&number]).sync();
    }
    let mut client = pooler.login();
    let sender = client.send_in_background(script);
    for i in 0..count {
        let answer = client.answer();
        assert_eq!(answer.tags(), "12DCZ");
        assert_eq!(answer.value(), i.to_string());
    }
    sender.join().expect("sender");
}

#[test]
fn pipeline_of_simple_queries() {
    let pooler = Setup::new().start();
    let mut script = Frontend::new();
    for i in 0..200 {
        let sql = match i % 4 {
            0 => "select 1/0".to_owned(),
            1 => format!("begin; select {i}"),
            2 => "selekt".to_owned(),
            _ => "rollback".to_owned(),
        };
        script = script.query(&sql);
    }
    let answer = pooler.same_as_postgres(&script, 200);
    assert_eq!(errors(&answer).len(), 100);
}

#[test]
fn pipeline_in_one_transaction() {
    let pooler = Setup::new().start();
    let mut script = Frontend::new();
    for i in 0..3_000 {
        script = script.run("select $1::int", &[&i.to_string()]);
    }
    let mut client = pooler.login();
    let sender = client.send_in_background(script.sync());
    let answer = client.answer();
    sender.join().expect("sender");
    let expected: Vec<String> = (0..3_000).map(|i| i.to_string()).collect();
    assert_eq!(answer.column(), expected);
}

#[test]
fn error_in_a_pipeline_skips_up_to_sync() {
    let pooler = Setup::new().in_toml().start();
    let script = Frontend::new()
        .run("select 1", &[])
        .run("select 1/$1::int", &["0"])
        .run("select 'skipped'", &[])
        .describe(b'S', "none")
        .close(b'S', "none")
        .flush()
        .sync()
        .run("select 'after'", &[])
        .sync()
        .parse("", "selekt")
        .bind("", "", &[])
        .execute("", 0)
        .sync()
        .query("select 'last'");
    let answer = pooler.same_as_postgres(&script, 4);
    assert_eq!(tags(&answer), "12DC1EZ12DCZEZTDCZ");
    let states: Vec<String> = errors(&answer)
        .iter()
        .map(|e| e.sqlstate().to_owned())
        .collect();
    assert_eq!(states, ["22012", "42601"]);
}

#[test]
fn error_in_a_pipelined_transaction() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .run("begin", &[])
        .run("select 1/0", &[])
        .sync()
        .run("select 1", &[])
        .sync()
        .run("rollback", &[])
        .sync()
        .run("select 2", &[])
        .sync();
    let answer = pooler.same_as_postgres(&script, 4);
    assert_eq!(tags(&answer), "12C1EZEZ12CZ12DCZ");
}

#[test]
fn simple_and_extended_mixed_without_sync() {
    let pooler = Setup::new().start();
    // A simple query between Execute and Sync ends the implicit transaction.
    let script = Frontend::new()
        .run("select 1", &[])
        .query("select 2")
        .run("select 3", &[])
        .sync();
    let answer = pooler.same_as_postgres(&script, 2);
    assert_eq!(tags(&answer), "12DCTDCZ12DCZ");
}

#[test]
fn function_call() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .function_call(177, &["40", "2"]) // int4pl
        .function_call(154, &["1", "0"]) // int4div
        .function_call(4_000_000_000, &[]);
    let answer = pooler.same_as_postgres(&script, 3);
    assert_eq!(tags(&answer), "VZEZEZ");
    assert_eq!(answer[0].body, b"\0\0\0\x0242");
}

const COPY_IN: &str = "copy t from stdin";

fn with_table() -> Pooler {
    let pooler = Setup::new().start();
    pooler.direct().query("create table t (a int, b text)");
    pooler
}

#[test]
fn copy_in() {
    let pooler = with_table();
    let mut client = pooler.login();
    client.send(&Frontend::new().query(COPY_IN));
    assert_eq!(client.read().tag, b'G');
    client.send(
        &Frontend::new()
            .copy_data(b"1\to")
            .copy_data(b"ne\n2\ttwo\n"),
    );
    // Flush and Sync within COPY are ignored by PostgreSQL.
    client.send(&Frontend::new().flush().sync().copy_data(b"3\tthree\n"));
    let answer = client.exchange(&Frontend::new().copy_done());
    assert_eq!(answer.tags(), "CZ");
    assert_eq!(answer.command_tags(), ["COPY 3"]);
    assert_eq!(
        client.query("select b from t order by a").column(),
        ["one", "two", "three"]
    );
}

#[test]
fn copy_in_refused_by_client_and_server() {
    let pooler = with_table();
    let mut client = pooler.login();
    client.send(&Frontend::new().query(COPY_IN));
    assert_eq!(client.read().tag, b'G');
    let answer = client.exchange(&Frontend::new().copy_data(b"1\tx\n").copy_fail("enough"));
    assert_eq!(answer.error().sqlstate(), "57014");
    assert!(answer.error().message().contains("enough"));

    // The error comes in the middle of the data; what follows is swallowed.
    let mut script = Frontend::new().query(COPY_IN).copy_data(b"no number\tx\n");
    for _ in 0..1_000 {
        script = script.copy_data(&[b'x'; 1_000]);
    }
    client.send(&script.copy_done().query("select 'after'"));
    assert_eq!(client.read().tag, b'G');
    assert_eq!(client.answer().error().sqlstate(), "22P02");
    assert_eq!(client.answer().value(), "after");
    assert_eq!(client.value("select count(*) from t"), "0");
}

#[test]
fn late_copy_done_after_an_error() {
    let pooler = with_table();
    let mut client = pooler.login();
    client.send(&Frontend::new().query(COPY_IN).copy_data(b"bad\tx\n"));
    assert_eq!(client.read().tag, b'G');
    assert_eq!(client.answer().error().sqlstate(), "22P02");
    // The transaction is over; the client only learns it now.
    client.send(
        &Frontend::new()
            .copy_data(b"2\tx\n")
            .copy_done()
            .copy_fail("x"),
    );
    assert_eq!(client.value("select 'after'"), "after");
    // Neither of the pool's connections is stuck or counts for another client.
    let mut others = [pooler.login(), pooler.login()];
    for other in &mut others {
        other.query("begin");
    }
    for other in &mut others {
        assert_eq!(other.query("select 1; commit").tags(), "TDCCZ");
    }
}

#[test]
fn copy_out() {
    let pooler = with_table();
    pooler
        .direct()
        .query("insert into t select g, 'row ' || g from generate_series(1, 500) g");
    let copy = Frontend::new().query("copy (select * from t order by a) to stdout");
    let answer = pooler.same_as_postgres(&copy, 1);
    assert_eq!(tags(&answer), format!("H{}cCZ", "d".repeat(500)));

    let fails =
        Frontend::new().query("copy (select 1/(3-g) from generate_series(1, 5) g) to stdout");
    let answer = pooler.same_as_postgres(&fails, 1);
    assert_eq!(tags(&answer), "HddEZ");
}

#[test]
fn copy_in_extended_protocol() {
    let pooler = with_table();
    let mut client = pooler.login();
    client.send(&Frontend::new().run(COPY_IN, &[]).flush());
    assert_eq!(tags(&client.read_until(b'G')), "12G");
    client.send(&Frontend::new().copy_data(b"1\tone\n").copy_done().sync());
    assert_eq!(client.answer().tags(), "CZ");
    // An error in the data: everything up to Sync is skipped.
    client.send(&Frontend::new().run(COPY_IN, &[]).flush());
    assert_eq!(tags(&client.read_until(b'G')), "12G");
    let rest = Frontend::new()
        .copy_data(b"bad\n")
        .copy_done()
        .run("select 1", &[])
        .sync();
    assert_eq!(client.exchange(&rest).tags(), "EZ");
    assert_eq!(client.value("select count(*) from t"), "1");
}

#[test]
fn copy_out_extended_protocol() {
    let pooler = with_table();
    let copy = "copy (select generate_series(1, 3)) to stdout";
    let script = Frontend::new()
        .parse("", copy)
        .describe(b'S', "")
        .bind("", "", &[])
        .execute("", 0)
        .run("select 'next'", &[])
        .sync();
    let answer = pooler.same_as_postgres(&script, 1);
    assert_eq!(tags(&answer), "1tn2HdddcC12DCZ");
}

#[test]
fn copy_inside_pipelines() {
    let pooler = with_table();
    let mut client = pooler.login();
    for round in 1..=3 {
        let script = Frontend::new()
            .run("select 'before'", &[])
            .run(COPY_IN, &[])
            .copy_data(b"1\tx\n")
            .copy_data(b"2\ty\n")
            .copy_done()
            .run("select count(*) from t", &[])
            .sync()
            .query("select 'between'")
            .run("copy t to stdout", &[])
            .sync()
            .run("select 'after'", &[])
            .sync();
        client.send(&script);
        let copied = client.answer();
        assert_eq!(copied.tags(), "12DC12GC12DCZ");
        assert_eq!(
            copied.column(),
            ["before".to_owned(), (2 * round).to_string()]
        );
        assert_eq!(client.answer().value(), "between");
        assert_eq!(
            client.answer().tags(),
            format!("12H{}cCZ", "d".repeat(2 * round))
        );
        assert_eq!(client.answer().value(), "after");
    }
    // One that fails, with its data already under way.
    let script = Frontend::new()
        .run(COPY_IN, &[])
        .copy_data(b"bad\n")
        .copy_data(b"3\tz\n")
        .copy_done()
        .run("select 'skipped'", &[])
        .sync()
        .run("select 'after'", &[])
        .sync();
    client.send(&script);
    assert_eq!(client.answer().tags(), "12GEZ");
    assert_eq!(client.answer().value(), "after");
}

#[test]
fn several_copies_in_one_simple_query() {
    let pooler = with_table();
    let mut client = pooler.login();
    let sql = "copy t from stdin; copy t to stdout; copy t from stdin; select count(*) from t";
    let script = Frontend::new()
        .query(sql)
        .copy_data(b"1\tx\n")
        .copy_done()
        .copy_data(b"2\ty\n")
        .copy_done();
    assert_eq!(client.exchange(&script).tags(), "GCHdcCGCTDCZ");
    assert_eq!(client.value("select 'after'"), "after");
}

#[test]
fn copy_data_outside_of_copy_is_ignored() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.send(&Frontend::new().copy_data(b"x").copy_done().copy_fail("y"));
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn parameter_status_follows_set() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .query("set application_name = 'other'; set datestyle = 'German'")
        .query("begin; set timezone = 'Asia/Tokyo'")
        .query("rollback");
    let answer = pooler.same_as_postgres(&script, 3);
    assert_eq!(tags(&answer), "CCSSZCCSZCSZ");
}

#[test]
fn notification_within_a_transaction() {
    let pooler = Setup::new().set("pool_mode", "session").start();
    let mut client = pooler.login();
    client.query("listen here");
    let answer = client.query("notify here, 'hello'");
    let notification = answer.messages.iter().find(|m| m.tag == b'A').expect("A");
    assert!(notification.body[4..].starts_with(b"here\0hello\0"));
    // One that comes while the client says nothing.
    pooler.direct().query("notify here, 'again'");
    assert_eq!(client.read().tag, b'A');
}

#[test]
fn ssl_and_gss_requests_are_answered_no() {
    let pooler = Setup::new().start();
    for requests in [
        vec![(1234, 5679)],
        vec![(1234, 5680)],
        vec![(1234, 5679), (1234, 5680)],
        vec![(1234, 5680), (1234, 5679)],
    ] {
        let mut client = RawClient::connect(&pooler.address);
        for request in requests {
            client.send(&Frontend::new().request(request));
            assert_eq!(client.read_byte(), b'N');
        }
        let parameters = [("user", "app"), ("database", pooler.database.as_str())];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        client.finish_login("app", None).expect("login");
        assert_eq!(client.value("select 1"), "1");
    }
}

/// Logs in with this protocol version and returns everything up to
/// ReadyForQuery.
fn login_with_version(
    pooler: &Pooler,
    version: (u16, u16),
    extra: &[(&str, &str)],
) -> Vec<Message> {
    let mut parameters = vec![("user", "app"), ("database", pooler.database.as_str())];
    parameters.extend(extra);
    let mut client = RawClient::connect(&pooler.address);
    client.send(&Frontend::new().startup(version, &parameters));
    let messages = client.read_until(b'Z');
    assert_eq!(client.value("select 42"), "42");
    messages
}

#[test]
fn negotiate_protocol_version() {
    let pooler = Setup::new().start();
    let plain = login_with_version(&pooler, (3, 0), &[]);
    assert!(!tags(&plain).contains('v'));

    let newer = login_with_version(&pooler, (3, 9999), &[]);
    assert_eq!(tags(&newer)[..2].matches('v').count(), 1, "{newer:?}");
    let negotiation = newer.iter().find(|m| m.tag == b'v').expect("v");
    // 3.2 or 3.0 (PostgreSQL before 18 gives the minor version only).
    let version = u32::from_be_bytes(negotiation.body[..4].try_into().expect("four bytes"));
    assert!([0, 2, 0x30000, 0x30002].contains(&version), "{version:#x}");
    assert_eq!(negotiation.body[4..], [0, 0, 0, 0]);

    let option = login_with_version(&pooler, (3, 0), &[("_pq_.unknown", "1")]);
    let negotiation = option.iter().find(|m| m.tag == b'v').expect("v");
    assert_eq!(negotiation.body[4..], *b"\0\0\0\x01_pq_.unknown\0");
}

#[test]
fn protocol_3_2_brings_a_longer_key_or_is_declined() {
    let pooler = Setup::new().start();
    let messages = login_with_version(&pooler, (3, 2), &[]);
    let key = messages.iter().find(|m| m.tag == b'K').expect("K");
    match messages.iter().find(|m| m.tag == b'v') {
        None => assert!((12..=260).contains(&key.body.len()), "{key:?}"),
        Some(_) => assert_eq!(key.body.len(), 8),
    }
    let old = login_with_version(&pooler, (3, 0), &[]);
    let key = old.iter().find(|m| m.tag == b'K').expect("K");
    assert_eq!(key.body.len(), 8);
}

#[test]
fn old_protocol_is_refused() {
    let pooler = Setup::new().start();
    for version in [(2, 0), (1, 0), (4, 0)] {
        let mut client = RawClient::connect(&pooler.address);
        client.send(&Frontend::new().startup(version, &[("user", "app")]));
        let messages = client.read_to_end();
        assert_eq!(tags(&messages), "E", "{version:?}");
        assert_eq!(messages[0].failure().severity(), "FATAL");
    }
}

#[test]
fn tcp_and_unix_sockets_on_both_sides() {
    let mut setup = Setup::new().alias("over_unix");
    let socket = crate::support::Cluster::shared().socket();
    setup = setup.database("over_unix", "host", &*socket.host());
    let pooler = setup.start();
    for address in [&pooler.address, &pooler.socket] {
        for (database, peer) in [
            (pooler.database.as_str(), "127.0.0.1"),
            ("over_unix", "unix"),
        ] {
            let mut client = RawClient::login(address, "app", database);
            let sql = "select coalesce(host(inet_client_addr()), 'unix')";
            assert_eq!(client.value(sql), peer, "{address:?} {database}");
            assert_eq!(client.value("select current_database()"), pooler.database);
        }
    }
    assert!(matches!(pooler.socket, Address::Unix(..)));
}

#[test]
fn terminate_ends_the_connection() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("select 1");
    client.send(&Frontend::new().terminate());
    assert_eq!(client.read_to_end(), []);
}

#[test]
fn terminate_behind_requests_lets_them_finish() {
    let pooler = with_table();
    for script in [
        Frontend::new().query("insert into t select 1 from pg_sleep(0.1)"),
        Frontend::new().run("insert into t values (2)", &[]).sync(),
    ] {
        let mut client = pooler.login();
        client.send(&script.terminate());
        let answers = tags(&client.read_to_end());
        assert!(["CZ", "12CZ"].contains(&answers.as_str()), "{answers}");
    }
    let count = "select count(*) from t";
    assert_eq!(pooler.admin().value(count), "2");
}

#[test]
fn requests_right_behind_the_startup_packet() {
    let pooler = Setup::new().start();
    for round in 0..2 {
        let parameters = [("user", "app"), ("database", pooler.database.as_str())];
        let mut client = RawClient::connect(&pooler.address);
        let script = Frontend::new().startup((3, 0), &parameters);
        client.send(&script.query("select 'early'"));
        client.finish_login("app", None).expect("login");
        assert_eq!(client.answer().value(), "early", "round {round}");
    }
}

#[test]
fn a_server_that_dies_within_a_row() {
    let mut cluster = Cluster::fresh();
    let pooler = Setup::with(&cluster).start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select repeat('x', 50000000)"));
    assert_eq!(client.read().tag, b'T');
    cluster.stop(Signal::SIGQUIT);
    // Nothing that pgweir would have to say is put into the row.
    let (messages, torn) = client.read_torn();
    assert!(messages.is_empty());
    let (head, value) = torn.split_at(11);
    assert_eq!(head[0], b'D');
    assert!(!value.is_empty() && value.iter().all(|byte| *byte == b'x'));
}
