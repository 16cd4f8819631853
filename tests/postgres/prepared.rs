//! Prepared statements of the protocol, in transaction mode: they are the
//! client's, whichever server connection its transactions run on.

use std::collections::BTreeSet;

use crate::support::{Frontend, Pooler, RawClient, Setup};

/// A pool of two connections, both open, that take turns: consecutive
/// transactions of a client never run on the same one.
fn restless(setup: Setup) -> Pooler {
    let setup = setup.one_worker().pool_size(2);
    let pooler = setup.set("server_round_robin", true).start();
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.query("begin");
    second.query("begin");
    first.query("commit");
    second.query("commit");
    pooler
}

/// A view of what a server connection keeps. (Whose text names the one that it is
/// made of is given the client's own instead.)
fn create_kept(pooler: &Pooler) {
    let sql = "create view kept as select * from pg_prepared_statements";
    pooler.direct().query(sql);
}

fn bind_and_execute(name: &str, parameters: &[&str]) -> Frontend {
    Frontend::new()
        .bind("", name, parameters)
        .execute("", 0)
        .sync()
}

#[track_caller]
fn is_missing(client: &mut RawClient, name: &str) {
    let error = client.exchange(&bind_and_execute(name, &[])).error();
    assert_eq!(error.sqlstate(), "26000");
    assert_eq!(error.severity(), "ERROR");
    let expected = format!("prepared statement \"{name}\" does not exist");
    assert_eq!(error.message(), expected);
}

#[test]
fn named_over_several_transactions() {
    let pooler = restless(Setup::new());
    let mut client = pooler.login();
    let parse = Frontend::new()
        .parse("s", "select $1::text, pid from pg_backend_pid() as pid")
        .sync();
    assert_eq!(client.exchange(&parse).tags(), "1Z");
    let mut pids = BTreeSet::new();
    for round in 0..20 {
        let answer = client.exchange(&bind_and_execute("s", &[&round.to_string()]));
        assert_eq!(answer.tags(), "2DCZ");
        let row = answer.rows().remove(0);
        assert_eq!(row[0], Some(round.to_string()));
        pids.insert(row[1].clone());
    }
    assert!(pids.len() > 1 || pooler.backends().len() == 1, "{pids:?}");
}

#[test]
fn unnamed_over_several_transactions() {
    let pooler = restless(Setup::new());
    let mut client = pooler.login();
    client.exchange(&Frontend::new().parse("", "select $1::int + 1").sync());
    for round in 0..6 {
        let mut other = pooler.login();
        other.exchange(&Frontend::new().run("select 'of the other'", &[]).sync());
        let answer = client.exchange(&bind_and_execute("", &[&round.to_string()]));
        assert_eq!(answer.value(), (round + 1).to_string());
    }
    // Describe finds it, too, and a simple query ends it.
    let describe = Frontend::new().describe(b'S', "").sync();
    assert_eq!(client.exchange(&describe).tags(), "tTZ");
    client.query("select 1");
    assert_eq!(client.exchange(&describe).error().sqlstate(), "26000");
}

#[test]
fn unnamed_that_failed_to_parse_is_gone() {
    let pooler = Setup::new().start();
    let script = Frontend::new()
        .parse("", "select 1")
        .sync()
        .parse("", "selekt")
        .sync()
        .bind("", "", &[])
        .execute("", 0)
        .sync();
    pooler.same_as_postgres(&script, 3);
}

#[test]
fn describe_and_close_on_another_connection() {
    let pooler = restless(Setup::new().in_toml());
    let mut client = pooler.login();
    client.exchange(
        &Frontend::new()
            .parse("s", "select $1::int as a, 'x'::text as b")
            .sync(),
    );
    for _ in 0..4 {
        let answer = client.exchange(&Frontend::new().describe(b'S', "s").sync());
        assert_eq!(answer.tags(), "tTZ");
        assert_eq!(answer.messages[0].body, [0, 1, 0, 0, 0, 23]);
        assert_eq!(answer.messages[1].column_names(), ["a", "b"]);
    }
    let close = Frontend::new().close(b'S', "s").sync();
    assert_eq!(client.exchange(&close).tags(), "3Z");
    for _ in 0..4 {
        is_missing(&mut client, "s");
    }
    // Closing what is not there is no error; the name is free again.
    assert_eq!(client.exchange(&close).tags(), "3Z");
    client.exchange(&Frontend::new().parse("s", "select 'second'").sync());
    for _ in 0..4 {
        assert_eq!(
            client.exchange(&bind_and_execute("s", &[])).value(),
            "second"
        );
    }
}

#[test]
fn misuse_is_answered_as_by_postgres() {
    let pooler = restless(Setup::new().in_toml());
    let script = Frontend::new()
        // A missing name in Bind and Describe.
        .bind("", "none", &[])
        .execute("", 0)
        .sync()
        .describe(b'S', "none")
        .sync()
        .close(b'S', "none")
        .sync()
        // The same name twice.
        .parse("s", "select 1")
        .sync()
        .parse("s", "select 2")
        .bind("", "s", &[])
        .sync()
        .bind("", "s", &[])
        .execute("", 0)
        .sync()
        // A wrong number of parameters, then a right one.
        .bind("", "s", &["1"])
        .sync()
        .bind("", "s", &[])
        .execute("", 0)
        .sync()
        // Twice within one pipeline.
        .parse("p", "select 3")
        .parse("p", "select 4")
        .bind("", "p", &[])
        .execute("", 0)
        .sync()
        .bind("", "p", &[])
        .execute("", 0)
        .sync();
    let answer = pooler.same_as_postgres(&script, 9);
    let states: Vec<_> = answer
        .iter()
        .filter(|message| message.tag == b'E')
        .map(|message| message.failure().sqlstate().to_owned())
        .collect();
    assert_eq!(states, ["26000", "26000", "42P05", "08P01", "42P05"]);
}

#[test]
fn errors_in_pipelines() {
    let pooler = restless(Setup::new().in_toml());
    let script = Frontend::new()
        // What is skipped after an error has not been prepared.
        .run("select 1/0", &[])
        .parse("skipped", "select 1")
        .close(b'S', "kept")
        .sync()
        .bind("", "skipped", &[])
        .execute("", 0)
        .sync()
        // What came before the error has.
        .parse("kept", "select 'kept'")
        .run("select 1/0", &[])
        .sync()
        .bind("", "kept", &[])
        .execute("", 0)
        .sync()
        // A Close that was skipped has not closed.
        .run("select 1/0", &[])
        .close(b'S', "kept")
        .sync()
        .bind("", "kept", &[])
        .execute("", 0)
        .sync()
        // A text that does not parse leaves the name free.
        .parse("bad", "selekt")
        .sync()
        .parse("bad", "select 'good'")
        .bind("", "bad", &[])
        .execute("", 0)
        .sync()
        // Within a failed transaction nothing can be prepared, and a prepared
        // statement survives a rollback.
        .run("begin", &[])
        .parse("inside", "select 'inside'")
        .run("select 1/0", &[])
        .sync()
        .parse("late", "select 1")
        .sync()
        .run("rollback", &[])
        .sync()
        .bind("", "late", &[])
        .sync()
        .bind("", "inside", &[])
        .execute("", 0)
        .sync();
    pooler.same_as_postgres(&script, 13);
}

#[test]
fn pipelines_of_several_transactions_with_the_same_statement() {
    let pooler = restless(Setup::new());
    let mut script = Frontend::new().parse("s", "select $1::int").sync();
    for i in 0..200 {
        script = script
            .bind("", "s", &[&i.to_string()])
            .execute("", 0)
            .sync();
        if i % 50 == 49 {
            script = script.close(b'S', "s").parse("s", "select $1::int").sync();
        }
    }
    let answer = pooler.same_as_postgres(&script, 205);
    assert_eq!(answer.iter().filter(|m| m.tag == b'D').count(), 200);
}

#[test]
fn max_prepared_statements_bounds_the_server() {
    let pooler = restless(Setup::new().set("max_prepared_statements", 1));
    create_kept(&pooler);
    let mut clients: Vec<_> = (0..5).map(|_| pooler.login()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for statement in ["a", "b", "c"] {
            let sql = format!("select '{number}{statement}' || $1::text");
            client.exchange(&Frontend::new().parse(statement, &sql).sync());
        }
    }
    for round in 0..4 {
        for (number, client) in clients.iter_mut().enumerate() {
            for statement in ["a", "b", "c"] {
                let answer = client.exchange(&bind_and_execute(statement, &[&round.to_string()]));
                assert_eq!(answer.value(), format!("{number}{statement}{round}"));
            }
        }
    }
    // The statements of one pipeline are more than the server keeps.
    let script = Frontend::new()
        .bind("", "a", &["x"])
        .execute("", 0)
        .bind("", "b", &["x"])
        .execute("", 0)
        .bind("", "c", &["x"])
        .execute("", 0)
        .bind("", "a", &["y"])
        .execute("", 0)
        .sync();
    let answer = clients[0].exchange(&script);
    assert_eq!(answer.column(), ["0ax", "0bx", "0cx", "0ay"]);
    for _ in 0..2 {
        let count = clients[0].value("select count(*) from kept");
        assert!(["0", "1"].contains(&count.as_str()), "{count} statements");
    }
}

#[test]
fn portal_survives_the_eviction_of_its_statement() {
    let pooler = Setup::new()
        .pool_size(1)
        .set("max_prepared_statements", 1)
        .start();
    let script = Frontend::new()
        .parse("a", "select generate_series(1, 4)")
        .parse("b", "select 'b'")
        .run("begin", &[])
        .bind("portal", "a", &[])
        .execute("portal", 2)
        .bind("", "b", &[])
        .execute("", 0)
        .execute("portal", 0)
        .run("commit", &[])
        .sync();
    pooler.same_as_postgres(&script, 1);
}

#[test]
fn without_max_prepared_statements_they_are_the_connections() {
    let setup = Setup::new().pool_size(1).set("max_prepared_statements", 0);
    let pooler = setup.start();
    let mut client = pooler.login();
    let script = Frontend::new()
        .parse("s", "select 5")
        .bind("", "s", &[])
        .execute("", 0)
        .sync();
    assert_eq!(client.exchange(&script).value(), "5");
    let names = client
        .query("select name from pg_prepared_statements")
        .column();
    assert_eq!(names, ["s"]);
}

#[test]
fn one_text_is_prepared_once_for_all_clients() {
    let pooler = Setup::new().pool_size(1).start();
    create_kept(&pooler);
    let sql = "select $1::int * 2";
    for i in 0..10 {
        let mut client = pooler.login();
        let script = Frontend::new().parse(&format!("name{i}"), sql).sync();
        client.exchange(&script);
        let answer = client.exchange(&bind_and_execute(&format!("name{i}"), &["21"]));
        assert_eq!(answer.value(), "42");
    }
    let mut client = pooler.login();
    assert_eq!(client.value("select count(*) from kept"), "1");
}

#[test]
fn one_text_with_other_parameter_types_is_another_statement() {
    let pooler = restless(Setup::new());
    let (mut numbers, mut texts) = (pooler.login(), pooler.login());
    let sql = "select pg_typeof($1)";
    numbers.exchange(&Frontend::new().parse_typed("s", sql, &[23]).sync());
    texts.exchange(&Frontend::new().parse_typed("s", sql, &[25]).sync());
    for _ in 0..4 {
        assert_eq!(
            numbers.exchange(&bind_and_execute("s", &["1"])).value(),
            "integer"
        );
        assert_eq!(
            texts.exchange(&bind_and_execute("s", &["1"])).value(),
            "text"
        );
    }
}

#[test]
fn names_of_one_client_mean_nothing_to_another() {
    let pooler = restless(Setup::new().in_toml());
    let (mut first, mut second) = (pooler.login(), pooler.login());
    first.exchange(&Frontend::new().parse("s", "select 'first'").sync());
    is_missing(&mut second, "s");
    second.exchange(&Frontend::new().parse("s", "select 'second'").sync());
    for _ in 0..4 {
        assert_eq!(first.exchange(&bind_and_execute("s", &[])).value(), "first");
        assert_eq!(
            second.exchange(&bind_and_execute("s", &[])).value(),
            "second"
        );
    }
    drop(first);
    assert_eq!(
        second.exchange(&bind_and_execute("s", &[])).value(),
        "second"
    );
}

#[test]
fn long_texts_and_names() {
    let pooler = restless(Setup::new());
    let mut client = pooler.login();
    // PostgreSQL takes no Describe of more than 10 kB.
    let name = "n".repeat(9_900);
    let sql = format!("select 'end' /* {} */", "x".repeat(1 << 20));
    let script = Frontend::new()
        .parse(&name, &sql)
        .describe(b'S', &name)
        .sync();
    assert_eq!(client.exchange(&script).tags(), "1tTZ");
    for _ in 0..4 {
        assert_eq!(
            client.exchange(&bind_and_execute(&name, &[])).value(),
            "end"
        );
    }
    // Names with every sort of byte.
    for name in ["\"quoted\"", "with blank", "ünïcödé", "'; drop table x; --"] {
        client.exchange(&Frontend::new().parse(name, "select 'odd'").sync());
        for _ in 0..2 {
            assert_eq!(client.exchange(&bind_and_execute(name, &[])).value(), "odd");
        }
    }
}

#[test]
fn deallocate_all_and_discard_all() {
    for sql in [
        "deallocate all",
        "DISCARD ALL",
        "discard plans; deallocate all",
    ] {
        let pooler = restless(Setup::new().in_toml());
        let mut client = pooler.login();
        let mut bystander = pooler.login();
        let parse = Frontend::new().parse("s", "select 'first'").sync();
        client.exchange(&parse);
        bystander.exchange(&parse);
        for client in [&mut client, &mut bystander] {
            for _ in 0..2 {
                assert_eq!(
                    client.exchange(&bind_and_execute("s", &[])).value(),
                    "first"
                );
            }
        }
        if sql.contains(';') {
            client.query("discard plans");
            client.query("deallocate all");
        } else {
            client.query(sql);
        }
        is_missing(&mut client, "s");
        client.exchange(&Frontend::new().parse("s", "select 'second'").sync());
        for _ in 0..3 {
            assert_eq!(
                client.exchange(&bind_and_execute("s", &[])).value(),
                "second"
            );
            let answer = bystander.exchange(&bind_and_execute("s", &[]));
            assert_eq!(answer.value(), "first", "the bystander's own");
        }
    }
}

#[test]
fn deallocate_all_in_the_extended_protocol() {
    let pooler = restless(Setup::new().in_toml());
    let mut client = pooler.login();
    client.exchange(&Frontend::new().parse("s", "select 'first'").sync());
    let script = Frontend::new().run("deallocate all", &[]).sync();
    assert_eq!(client.exchange(&script).command_tags(), ["DEALLOCATE ALL"]);
    is_missing(&mut client, "s");
}

#[test]
fn statement_of_a_text_that_fails_later() {
    let pooler = restless(Setup::new());
    pooler.direct().query("create table t (a int)");
    let mut client = pooler.login();
    client.exchange(&Frontend::new().parse("s", "select a from t").sync());
    pooler.direct().query("drop table t");
    // On the connection that has it and on the one that must still parse it,
    // the error belongs to this client's request, and to it alone.
    for _ in 0..4 {
        let answer = client.exchange(&bind_and_execute("s", &[]));
        assert_eq!(answer.tags(), "EZ");
        assert_eq!(answer.error().sqlstate(), "42P01");
        assert_eq!(pooler.login().value("select 1"), "1");
    }
    pooler.direct().query("create table t (a int)");
    for _ in 0..4 {
        assert_eq!(client.exchange(&bind_and_execute("s", &[])).tags(), "2CZ");
    }
}

#[test]
fn in_a_transaction_together_with_simple_queries() {
    let pooler = restless(Setup::new());
    let script = Frontend::new()
        .parse("s", "select $1::int")
        .sync()
        .query("begin")
        .bind("", "s", &["1"])
        .execute("", 0)
        .sync()
        .query("savepoint a; select 1/0")
        .bind("", "s", &["2"])
        .execute("", 0)
        .sync()
        .query("rollback to a")
        .bind("", "s", &["3"])
        .describe(b'P', "")
        .execute("", 0)
        .sync()
        .query("commit");
    pooler.same_as_postgres(&script, 8);
}

#[test]
fn servers_are_not_asked_more_often_than_needed() {
    let pooler = Setup::new().pool_size(1).start();
    let mut client = pooler.login();
    client.exchange(&Frontend::new().parse("s", "select 1").sync());
    for _ in 0..50 {
        client.exchange(&bind_and_execute("s", &[]));
    }
    let total = |name: &str| {
        let row = pooler
            .show("STATS")
            .into_iter()
            .find(|row| row["database"] == pooler.database);
        row.expect("the database's row")[name]
            .parse::<u64>()
            .expect("number")
    };
    assert_eq!(total("total_client_parse_count"), 1);
    assert_eq!(total("total_server_parse_count"), 1);
    assert_eq!(total("total_bind_count"), 50);
}

#[test]
fn the_same_text_may_be_two_statements() {
    let pooler = Setup::new().one_worker().pool_size(1).start();
    let (mut standard, mut old) = (pooler.login(), pooler.login());
    old.query("set standard_conforming_strings = off");
    let parse = Frontend::new().parse("s", "select 'a\\\\b'").sync();
    for client in [&mut standard, &mut old] {
        client.exchange(&parse);
    }
    for _ in 0..2 {
        let run = bind_and_execute("s", &[]);
        assert_eq!(standard.exchange(&run).value(), "a\\\\b");
        assert_eq!(old.exchange(&run).value(), "a\\b");
    }
}

/// PgBouncer's way, for those who come from it: whoever misuses a name is
/// disconnected. pgweir.toml leaves that to the server (`is_missing`).
#[test]
fn misused_names_end_the_session_in_an_ini() {
    let pooler = restless(Setup::new().in_ini());
    let ended = |script: Frontend, expected: &str| {
        let mut client = pooler.login();
        client.exchange(&Frontend::new().parse("s", "select 1").sync());
        client.send(&script);
        let said = client.read_to_end();
        let failure = said.last().expect("an error").failure();
        let seen = (failure.severity(), failure.sqlstate(), failure.message());
        assert_eq!(seen, ("FATAL", "08P01", expected));
    };
    let missing = "prepared statement did not exist";
    ended(bind_and_execute("other", &[]), missing);
    ended(Frontend::new().describe(b'S', "other").sync(), missing);
    let again = Frontend::new().parse("s", "select 2").sync();
    ended(again, "prepared statement name is already in use");
    for (tag, name) in [
        (b'P', "Parse"),
        (b'B', "Bind"),
        (b'D', "Describe"),
        (b'C', "Close"),
    ] {
        let broken = Frontend::new().message(tag, b"x").sync();
        ended(broken, &format!("broken {name} packet"));
    }
    // To close what is not there is no misuse, and what a failed request skips
    // is not looked at.
    let mut client = pooler.login();
    let close = Frontend::new().close(b'S', "other").sync();
    assert_eq!(client.exchange(&close).tags(), "3Z");
    let failed = Frontend::new().parse("f", "selekt").sync();
    assert_eq!(client.exchange(&failed).error().sqlstate(), "42601");
    client.send(&Frontend::new().parse("f", "selekt").flush());
    assert_eq!(client.read().tag, b'E');
    assert_eq!(client.exchange(&bind_and_execute("f", &[])).tags(), "Z");
    assert_eq!(client.value("select 42"), "42");
    pooler.expect_backends(2);
}

#[test]
fn broken_frames_are_named_as_pgbouncer_does_in_an_ini() {
    let pooler = Setup::new().in_ini().start();
    for (bytes, expected) in [
        (&b"~\0\0\0\x04"[..], "unknown pkt"),
        (b"Q\0\0\0\x03", "bad packet header: '5100000003'"),
        (
            b"Q\xff\xff\xff\xffabcdef",
            "bad packet header: '51ffffffff616263'",
        ),
    ] {
        let mut client = pooler.login();
        client.send_bytes(bytes);
        let said = client.read_to_end();
        let failure = said.last().expect("an error").failure();
        assert_eq!((failure.sqlstate(), failure.message()), ("08P01", expected));
    }
}
