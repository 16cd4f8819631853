//! Prepared statements are shared by clients that sent the same text. None of
//! them must be able to tell: what a statement means is what its client's own
//! settings and the present schema make of it.

use crate::support::{Frontend, Pooler, RawClient, Setup, free_port, python};

/// Pools of one connection and of two; with two, consecutive transactions of a
/// client run on different ones.
fn pools() -> impl Iterator<Item = Pooler> {
    [1, 2].into_iter().map(|size| {
        let setup = Setup::new().one_worker().pool_size(size);
        let pooler = setup.set("server_round_robin", true).start();
        let mut clients: Vec<_> = (0..size).map(|_| pooler.login()).collect();
        for sql in ["begin", "commit"] {
            clients
                .iter_mut()
                .for_each(|client| drop(client.query(sql)));
        }
        pooler
    })
}

fn parse(sql: &str) -> Frontend {
    Frontend::new().parse("s", sql).describe(b'S', "s").sync()
}

fn run(parameters: &[&str]) -> Frontend {
    let front = Frontend::new().bind("", "s", parameters);
    front.describe(b'P', "").execute("", 0).sync()
}

/// What a client gets that runs `s` often enough to meet every connection, and to
/// have it planned for good.
#[track_caller]
fn values(client: &mut RawClient, parameters: &[&str]) -> Vec<String> {
    let mut values: Vec<_> = (0..14)
        .map(|_| client.exchange(&run(parameters)).value())
        .collect();
    values.dedup();
    values
}

// ---- settings ----

#[test]
fn constants_are_each_clients_own() {
    let sql = "select extract(epoch from '2020-02-01 00:00'::timestamptz)::text || ' ' \
               || extract(month from '1/2/2020'::date)::text || ' ' \
               || '\\x41'::bytea::text || ' ' || (0.1::float8 + 0.2::float8)::text";
    for pooler in pools() {
        let settings: [&[(&str, &str)]; 5] = [
            &[],
            &[("TimeZone", "Asia/Tokyo")],
            &[("DateStyle", "German, DMY")],
            &[("bytea_output", "escape")],
            &[("options", "-c extra_float_digits=-3")],
        ];
        let mut clients = Vec::new();
        for parameters in settings {
            let mut all = vec![("user", "app"), ("database", pooler.database.as_str())];
            all.extend(parameters);
            let server = pooler.server_address();
            let direct = RawClient::try_login_with(&server, &all, None).unwrap();
            clients.push((direct, pooler.login_with(parameters)));
        }
        for (_, client) in &mut clients {
            client.exchange(&parse(sql));
        }
        let mut seen = Vec::new();
        for (direct, client) in &mut clients {
            direct.exchange(&parse(sql));
            let expected = values(direct, &[]);
            assert_eq!(values(client, &[]), expected);
            seen.extend(expected);
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), settings.len(), "{seen:?}");
    }
}

#[test]
fn names_are_looked_up_by_each_clients_own_path() {
    for pooler in pools() {
        pooler.direct().query(
            "create schema a; create table a.t as select 'of a' as x; \
             create schema b; create table b.t as select 1 as y, 'of b' as x",
        );
        let path = |schema| pooler.login_with(&[("search_path", schema)]);
        let (mut first, mut second, mut lost) = (path("a"), path("b"), path("c"));
        let columns = |client: &mut RawClient| {
            let answer = client.exchange(&parse("select * from t"));
            answer.messages[2].column_names()
        };
        assert_eq!(columns(&mut first), ["x"]);
        assert_eq!(columns(&mut second), ["y", "x"]);
        let error = lost.exchange(&parse("select * from t")).error();
        assert_eq!(error.sqlstate(), "42P01");
        for _ in 0..4 {
            assert_eq!(first.exchange(&run(&[])).rows()[0].len(), 1);
            assert_eq!(second.exchange(&run(&[])).rows()[0].len(), 2);
        }
    }
}

/// PostgreSQL keeps the constants of the Parse until it analyses the statement
/// again, for whatever reason; here the present settings hold at once, on every
/// connection.
#[test]
fn a_statement_follows_the_settings_of_its_client() {
    for pooler in pools() {
        let mut client = pooler.login();
        let sql = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int";
        for (zone, epoch) in [("UTC", "1577836800"), ("Etc/GMT-1", "1577833200")] {
            client.query(&format!("set timezone = '{zone}'"));
            if zone == "UTC" {
                client.exchange(&parse(sql));
            }
            assert_eq!(values(&mut client, &[]), [epoch]);
            // Another one who comes now.
            let mut other = pooler.login_with(&[("TimeZone", zone)]);
            other.exchange(&parse(sql));
            assert_eq!(values(&mut other, &[]), [epoch]);
        }
    }
}

#[test]
fn what_is_prepared_behind_a_set_in_one_pipeline_is_nobody_elses() {
    for pooler in pools() {
        let sql = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int";
        let mut hasty = pooler.login_with(&[("TimeZone", "UTC")]);
        for script in [
            Frontend::new().run("set timezone = 'Etc/GMT-1'", &[]),
            Frontend::new().query("set timezone = 'Etc/GMT-1'"),
            Frontend::new().run("select set_config('timezone', 'Etc/GMT-1', false)", &[]),
        ] {
            let script = script
                .parse("s", sql)
                .bind("", "s", &[])
                .execute("", 0)
                .run(sql, &[])
                .close(b'S', "s")
                .sync();
            hasty.send(&script);
            let simple = script.bytes[0] == b'Q';
            let mut said = hasty.answer();
            if simple {
                said = hasty.answer();
            }
            let column = said.column();
            assert_eq!(column[column.len() - 2..], ["1577833200"; 2]);
            let mut other = pooler.login_with(&[("TimeZone", "UTC")]);
            other.exchange(&parse(sql));
            assert_eq!(values(&mut other, &[]), ["1577836800"]);
            hasty.query("set timezone = 'UTC'");
        }
    }
}

// ---- the schema ----

/// Changes the schema through the pool, or past it.
fn change(pooler: &Pooler, past: bool, sql: &str) {
    match past {
        true => pooler.direct().query(sql),
        false => pooler.login().query(sql),
    };
}

#[test]
fn other_columns_are_no_error() {
    for (pooler, past) in pools()
        .flat_map(|pool| [(pool, false)])
        .chain(pools().map(|p| (p, true)))
    {
        change(&pooler, past, "create table t as select 1 as a");
        let mut clients = [pooler.login(), pooler.login()];
        for client in &mut clients {
            client.exchange(&parse("select * from t"));
            assert_eq!(values(client, &[]), ["1"]);
        }
        change(&pooler, past, "alter table t add b text default 'x'");
        for client in &mut clients {
            for _ in 0..4 {
                let answer = client.exchange(&run(&[]));
                assert_eq!(answer.tags(), "2TDCZ");
                assert_eq!(answer.messages[1].column_names(), ["a", "b"]);
                assert_eq!(answer.rows()[0].len(), 2);
            }
        }
        // Requests that end with Flush.
        change(&pooler, past, "alter table t drop a");
        for client in &mut clients {
            for _ in 0..2 {
                client.send(&Frontend::new().describe(b'S', "s").flush());
                assert_eq!(client.read().tag, b't');
                assert_eq!(client.read().column_names(), ["b"]);
                assert_eq!(client.exchange(&run(&[])).tags(), "2TDCZ");
            }
        }
    }
}

#[test]
fn other_columns_are_no_error_for_a_client_that_keeps_its_connection() {
    let pooler = Setup::new()
        .pool_size(2)
        .set("session_features", "pin")
        .start();
    change(&pooler, true, "create table t as select 1 as a");
    for pin in ["create temp table x ()", "select pg_advisory_lock(1)"] {
        let mut client = pooler.login();
        client.exchange(&parse("select * from t"));
        client.query(pin);
        for (column, tags) in [("b", "2TDCZ"), ("c", "2TDCZ"), ("d", "2TDCZ")] {
            assert_eq!(client.exchange(&run(&[])).tags(), tags);
            change(&pooler, false, &format!("alter table t add {column} text"));
            let answer = client.exchange(&run(&[]));
            assert_eq!(answer.tags(), tags, "{pin}, {column}");
            assert_eq!(answer.messages[1].column_names().last().unwrap(), column);
        }
        change(&pooler, false, "alter table t drop b, drop c, drop d");
    }
}

/// They would take one column for another. The error tells them to ask again.
#[test]
fn who_goes_by_the_columns_it_knows_gets_the_error() {
    let pooler = Setup::new().pool_size(1).start();
    pooler.direct().query("create table t as select 1 as a");
    let mut clients = [pooler.login(), pooler.login()];
    let blind = Frontend::new().bind("", "s", &[]).execute("", 0).sync();
    for client in &mut clients {
        client.exchange(&parse("select * from t"));
        assert_eq!(client.exchange(&blind).value(), "1");
    }
    pooler.direct().query("alter table t add b int");
    for client in &mut clients {
        for _ in 0..2 {
            let error = client.exchange(&blind).error();
            assert_eq!(error.sqlstate(), "0A000");
            assert_eq!(error.message(), "cached plan must not change result type");
        }
        // That somebody else has asked makes no difference.
        let mut other = pooler.login();
        other.exchange(&parse("select * from t"));
        assert_eq!(other.exchange(&blind).tags(), "2DCZ");
        client.exchange(&blind).error();
        client.exchange(&Frontend::new().describe(b'S', "s").sync());
        assert_eq!(client.exchange(&blind).rows()[0].len(), 2);
    }
}

#[test]
fn who_prepares_after_a_change_sees_it() {
    for pooler in pools() {
        for past in [false, true] {
            change(
                &pooler,
                past,
                "drop table if exists t; create table t (a int)",
            );
            let mut before = pooler.login();
            let columns = |client: &mut RawClient| {
                let answer = client.exchange(&parse("select * from t"));
                assert_eq!(answer.tags(), "1tTZ");
                answer.messages[2].column_names()
            };
            for _ in 0..2 {
                assert_eq!(columns(&mut before), ["a"]);
                before.exchange(&Frontend::new().close(b'S', "s").sync());
            }
            change(&pooler, past, "alter table t add b int");
            for _ in 0..4 {
                assert_eq!(columns(&mut pooler.login()), ["a", "b"]);
            }
        }
    }
}

#[test]
fn who_prepares_after_a_change_gets_its_types() {
    for pooler in pools() {
        pooler.direct().query("create table t (a int)");
        let sql = "insert into t values ($1) returning a::text";
        let types = |client: &mut RawClient| {
            let answer = client.exchange(&parse(sql));
            let body = &answer.messages[1].body;
            u32::from_be_bytes(body[2..].try_into().unwrap())
        };
        let mut clients: Vec<_> = (0..4).map(|_| pooler.login()).collect();
        for client in &mut clients {
            assert_eq!(types(client), 23);
        }
        for ddl in [
            "alter table t alter a type text",
            "do $$ begin alter table t alter a type varchar; end $$",
        ] {
            change(&pooler, false, ddl);
            for _ in 0..4 {
                let mut client = pooler.login();
                assert_eq!(
                    types(&mut client),
                    25 + 1018 * u32::from(ddl.starts_with("do"))
                );
                assert_eq!(values(&mut client, &["word"]), ["word"]);
            }
        }
    }
}

/// In one transaction, in one pipeline.
#[test]
fn a_change_is_seen_by_what_follows_it() {
    for pooler in pools() {
        pooler.direct().query("create table t (a int)");
        let mut client = pooler.login();
        client.exchange(&parse("select * from t"));
        client.exchange(&Frontend::new().close(b'S', "s").sync());
        let script = Frontend::new()
            .run("alter table t add b int", &[])
            .parse("s", "select * from t")
            .describe(b'S', "s")
            .bind("", "s", &[])
            .execute("", 0)
            .run("select 1/0", &[])
            .sync();
        let answer = client.exchange(&script);
        assert_eq!(answer.tags(), "12C1tT2C1EZ");
        assert_eq!(answer.messages[5].column_names(), ["a", "b"]);
        // It was undone, and others have not seen it.
        for _ in 0..4 {
            let mut other = pooler.login();
            let answer = other.exchange(&parse("select * from t"));
            assert_eq!(answer.messages[2].column_names(), ["a"]);
            assert_eq!(other.exchange(&run(&[])).tags(), "2TCZ");
        }
    }
}

#[test]
fn in_a_transaction_it_is_an_error_once() {
    for pooler in pools() {
        pooler.direct().query("create table t (a int)");
        let mut client = pooler.login();
        client.exchange(&parse("select * from t"));
        values_of_nothing(&mut client);
        pooler.direct().query("alter table t add b int");
        for _ in 0..2 {
            client.query("begin");
            let answer = client.exchange(&run(&[]));
            if !answer.errors().is_empty() {
                let error = answer.error();
                assert_eq!(error.sqlstate(), "0A000");
                assert_eq!(error.message(), "cached plan must not change result type");
                assert_eq!(answer.status(), 'E');
            }
            client.query("rollback");
        }
        for _ in 0..2 {
            client.query("begin");
            assert_eq!(client.exchange(&run(&[])).tags(), "2TCZ");
            client.query("commit");
        }
    }
}

fn values_of_nothing(client: &mut RawClient) {
    for _ in 0..4 {
        assert_eq!(client.exchange(&run(&[])).tags(), "2TCZ");
    }
}

/// PgBouncer passes the error on, again and again.
#[test]
fn from_an_ini_it_is_an_error_once_for_each_connection() {
    let pooler = Setup::new().in_ini().pool_size(1).start();
    pooler.direct().query("create table t (a int)");
    let mut client = pooler.login();
    client.exchange(&parse("select * from t"));
    values_of_nothing(&mut client);
    pooler.direct().query("alter table t add b int");
    let error = client.exchange(&run(&[])).error();
    assert_eq!(error.sqlstate(), "0A000");
    values_of_nothing(&mut client);
}

#[test]
fn a_repeated_request_is_counted_and_answered_once() {
    let port = free_port();
    let setup = Setup::new()
        .pool_size(1)
        .set("stats_listen", &*format!("127.0.0.1:{port}"));
    let pooler = setup.start();
    pooler.direct().query("create table t (a int)");
    let mut client = pooler.login();
    client.exchange(&parse("insert into t values ($1) returning *"));
    assert_eq!(values(&mut client, &["7"]), ["7"]);
    pooler.direct().query("alter table t add b int");
    // The requests that have already been sent behind it keep their order.
    let script = run(&["8"]);
    client.send(&script);
    client.send(&run(&["9"]));
    for expected in ["8", "9"] {
        let answer = client.answer();
        assert_eq!(answer.tags(), "2TDCZ");
        assert_eq!(answer.rows()[0], [Some(expected.to_owned()), None]);
    }
    let count = "select count(*) from t where a > 7";
    assert_eq!(pooler.direct().value(count), "2");
    let metrics = super::stats_port::metrics(port);
    let line = metrics
        .lines()
        .find(|line| line.starts_with("pgweir_stale_statements_total{"));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{line:?}");
}

/// A function has dropped what belongs to all.
#[test]
fn statements_dropped_behind_the_back_come_again() {
    for pooler in pools() {
        let mut client = pooler.login();
        client.exchange(&parse("select 'here'"));
        for _ in 0..3 {
            assert_eq!(values(&mut client, &[]), ["here"]);
            for _ in 0..2 {
                pooler
                    .login()
                    .query("do $$ begin execute 'deallocate all'; end $$");
            }
        }
    }
}

// ---- notices ----

#[test]
fn notices_of_a_parse_come_with_each_parse_and_no_other_time() {
    let long = "x".repeat(70);
    let sql = format!("select 1 as {long}");
    for pooler in pools() {
        let script = parse(&sql).bind("", "s", &[]).execute("", 0).sync();
        for _ in 0..3 {
            pooler.same_as_postgres(&script, 2);
        }
        let mut client = pooler.login();
        assert_eq!(client.exchange(&parse(&sql)).tags(), "N1tTZ");
        for _ in 0..4 {
            assert_eq!(client.exchange(&run(&[])).tags(), "2TDCZ");
        }
    }
}

// ---- DEALLOCATE ----

#[test]
fn deallocate_all_in_a_pipeline() {
    for pooler in pools() {
        for all in ["deallocate all", "discard all", "select 1; deallocate all"] {
            let script = Frontend::new()
                .parse("s", "select 'first'")
                .sync()
                .query(all)
                .parse("s", "select 'first'")
                .bind("", "s", &[])
                .execute("", 0)
                .sync()
                .bind("", "s", &[])
                .execute("", 0)
                .sync();
            for _ in 0..4 {
                pooler.same_as_postgres(&script, 4);
            }
        }
        let script = Frontend::new()
            .parse("s", "select 'first'")
            .sync()
            .run("deallocate all", &[])
            .bind("", "t", &[])
            .sync()
            .run("deallocate all", &[])
            .parse("s", "select 'first'")
            .parse("t", "select 'second'")
            .close(b'S', "t")
            .bind("", "s", &[])
            .execute("", 0)
            .sync()
            .bind("", "s", &[])
            .execute("", 0)
            .bind("", "t", &[])
            .execute("", 0)
            .sync();
        for _ in 0..4 {
            pooler.same_as_postgres(&script, 4);
        }
        // The server has no more than is known of it.
        for _ in 0..2 {
            assert_eq!(
                pooler.login().exchange(&parse("select 'first'")).tags(),
                "1tTZ"
            );
        }
    }
}

/// As PDO and psycopg do it.
#[test]
fn deallocate_means_the_clients_own_names() {
    let run = |name: &str| Frontend::new().bind("", name, &[]).execute("", 0).sync();
    for pooler in pools() {
        let mut script = Frontend::new()
            .parse("s", "select 's'")
            .parse("Odd name", "select 'odd'")
            .sync();
        for sql in [
            "deallocate s",
            "DEALLOCATE PREPARE \"Odd name\"",
            "deallocate s",
            "/* */ deallocate none",
        ] {
            script = script.query(sql);
        }
        script.bytes.extend(run("s").bytes);
        // In the extended protocol, and in transactions.
        let script = script
            .parse("s", "select 's'")
            .sync()
            .parse("d", "deallocate s")
            .describe(b'S', "d")
            .bind("", "d", &[])
            .describe(b'P', "")
            .execute("", 0)
            .bind("", "s", &[])
            .sync()
            .parse("s", "select 's'")
            .run("select 1/0", &[])
            .sync()
            .query("begin")
            .run("deallocate s", &[])
            .run("select 1/0", &[])
            .sync()
            .query("deallocate d")
            .query("rollback");
        script_ends(&pooler, script, run("s"));
    }
}

#[track_caller]
fn script_ends(pooler: &Pooler, mut script: Frontend, end: Frontend) {
    script.bytes.extend(end.bytes);
    for _ in 0..3 {
        pooler.same_as_postgres(&script, 14);
    }
}

// ---- drivers ----

#[test]
fn drivers_do_not_notice_a_change() {
    for (script, scenario) in [("psycopg3.py", "schema"), ("asyncpg_client.py", "schema")] {
        for pooler in pools() {
            assert_eq!(python(script, scenario, &pooler.dsn()).succeed(), "ok");
        }
    }
}
