//! Prepared statements by their names, of both kinds freely mixed, in transaction
//! mode: held against what PostgreSQL says.

use crate::support::{Frontend, Message, Pooler, RawClient, Setup, eventually};

/// Two connections that others have prepared statements on, some by the same names.
fn shared() -> Pooler {
    let setup = Setup::new().one_worker().pool_size(2);
    let pooler = setup.pinning().set("server_round_robin", true).start();
    let mut others = [pooler.login(), pooler.login()];
    for other in &mut others {
        other.query("begin");
    }
    for other in &mut others {
        for (name, sql) in [("foo", "select 'theirs'"), ("bar", "select 'bar'")] {
            other.exchange(&Frontend::new().parse(name, sql).sync());
        }
    }
    for other in &mut others {
        other.query("commit");
    }
    pooler.direct().query("create table t as select 1 as a");
    pooler
}

fn played(client: &mut RawClient, script: &[Frontend]) -> Vec<String> {
    let mut transcript = Vec::new();
    for messages in script {
        let answer = client.exchange(messages);
        transcript.extend(answer.messages.iter().map(Message::line));
    }
    transcript
}

#[track_caller]
fn same_as_direct(pooler: &Pooler, script: &[Frontend]) {
    let direct = played(&mut pooler.direct(), script);
    let pooled = played(&mut pooler.login(), script);
    assert_eq!(pooled, direct);
    nothing_is_left(pooler);
}

/// No server connection keeps a statement that is not one of pgweir's.
#[track_caller]
fn nothing_is_left(pooler: &Pooler) {
    eventually("servers at rest", 0, || {
        let servers = pooler.show("servers");
        servers.iter().filter(|s| s["state"] != "idle").count()
    });
    let mut clients = [pooler.login(), pooler.login()];
    for client in &mut clients {
        client.query("begin");
    }
    for client in &mut clients {
        let listed = client.query("select name from pg_prepared_statements");
        assert_eq!(listed.rows().len(), 0);
    }
}

fn q(sql: &str) -> Frontend {
    Frontend::new().query(sql)
}

/// Parse, and its Sync.
fn p(name: &str, sql: &str) -> Frontend {
    Frontend::new().parse(name, sql).sync()
}

fn run(name: &str) -> Frontend {
    let bound = Frontend::new().bind("", name, &[]);
    bound.describe(b'P', "").execute("", 0).sync()
}

fn close(name: &str) -> Frontend {
    Frontend::new().close(b'S', name).sync()
}

const VIEW: &str = "select name, statement, parameter_types, from_sql \
    from pg_prepared_statements order by name";

fn view() -> Frontend {
    q(VIEW)
}

#[test]
fn both_kinds_are_one_namespace() {
    let pooler = shared();
    let typed = Frontend::new().parse_typed("Odd \"Name\"", "select $1, $2", &[23, 25]);
    let scripts: Vec<Vec<Frontend>> = vec![
        vec![view()],
        vec![p("foo", "select 1"), view(), close("foo"), view()],
        vec![
            p("foo", "select 1"),
            q("execute foo"),
            run("foo"),
            q("execute bar"),
            view(),
        ],
        vec![
            typed.sync(),
            view(),
            q("execute \"Odd \"\"Name\"\"\"(1, 'x')"),
            view(),
        ],
        vec![
            q("prepare foo as select 2"),
            run("foo"),
            q("execute foo"),
            view(),
        ],
        vec![
            q("prepare foo as select 2"),
            Frontend::new().describe(b'S', "foo").sync(),
            close("foo"),
            view(),
            run("foo"),
            p("foo", "select 3"),
            run("foo"),
            q("execute foo"),
        ],
        vec![
            p("foo", "select 1"),
            q("prepare foo as select 2"),
            q("execute foo"),
            q("prepare bar as select 3"),
            p("bar", "select 4"),
            run("bar"),
            view(),
        ],
        vec![
            p("foo", "select 1"),
            q("execute foo"),
            q("deallocate foo"),
            run("foo"),
            q("execute foo"),
            p("foo", "select 2"),
            run("foo"),
            view(),
        ],
        vec![
            p("foo", "select 1"),
            q("prepare bar as select 2"),
            q("deallocate foo; select 1"),
            run("foo"),
            run("bar"),
            view(),
            p("foo", "select 5"),
            run("foo"),
        ],
        vec![
            p("foo", "select 1"),
            q("prepare bar as select 2"),
            q("do 'begin deallocate foo; end'"),
            run("foo"),
            p("foo", "select 5"),
            run("foo"),
            view(),
        ],
        vec![
            p("foo", "select 1"),
            q("prepare bar as select 2"),
            q("deallocate all"),
            view(),
            run("foo"),
            run("bar"),
        ],
        vec![
            p("foo", "select 1"),
            q("prepare bar as select 2"),
            q("discard all"),
            view(),
            run("foo"),
            q("execute bar"),
        ],
        vec![
            p("foo", "select 1"),
            p("d", "deallocate foo"),
            q("execute foo"),
            run("d"),
            run("foo"),
            view(),
        ],
        vec![
            q("do $$ begin execute 'prepare by_do as select 7'; end $$"),
            run("by_do"),
            q("execute by_do"),
            p("foo", "select 1"),
            view(),
            close("by_do"),
            view(),
        ],
        vec![
            p("foo", "select 1"),
            q(
                "do 'declare n int; begin select count(*) into n from pg_prepared_statements; \
                raise exception ''%'', n; end'",
            ),
        ],
        vec![
            p("x", VIEW),
            run("x"),
            run("x"),
            p("foo", "execute x"),
            run("foo"),
        ],
    ];
    for script in &scripts {
        same_as_direct(&pooler, script);
    }
}

#[test]
fn in_transactions() {
    let pooler = shared();
    let scripts: Vec<Vec<Frontend>> = vec![
        vec![
            p("foo", "select 1"),
            q("begin"),
            q("execute foo"),
            run("foo"),
            q("savepoint pgweir"),
            view(),
            q("rollback to pgweir"),
            q("commit"),
        ],
        vec![
            p("foo", "select 1"),
            q("begin isolation level serializable"),
            q("declare c cursor for select 1"),
            view(),
            q("fetch c"),
            q("set transaction read only"),
            q("commit"),
            run("foo"),
        ],
        vec![
            p("foo", "select 1"),
            q("begin"),
            q("select 1/0"),
            q("execute foo"),
            view(),
            q("rollback"),
            q("execute foo"),
        ],
        vec![
            p("foo", "select 1"),
            q("begin; prepare p as select 2; select 1/0"),
            run("p"),
            q("rollback"),
            run("p"),
            q("execute foo"),
        ],
    ];
    for script in &scripts {
        same_as_direct(&pooler, script);
    }
}

#[test]
fn behind_the_end_of_a_transaction_that_has_failed() {
    let pooler = shared();
    let list = "select name from pg_prepared_statements order by 1";
    let parse = Frontend::new().parse("mine", "select 1").sync();
    for end in [
        Frontend::new().query("rollback").query(list),
        Frontend::new()
            .run("rollback", &[])
            .sync()
            .run(list, &[])
            .sync(),
        Frontend::new().run("rollback", &[]).run(list, &[]).sync(),
    ] {
        let play = |client: &mut RawClient| {
            client.exchange(&parse);
            client.query("begin");
            client.try_query("select 1/0");
            client.send(&end);
            let mut seen = Vec::new();
            while !seen.iter().any(|line: &String| line.starts_with("D ")) {
                seen.extend(client.answer().messages.iter().map(Message::line));
            }
            seen
        };
        assert_eq!(play(&mut pooler.login()), play(&mut pooler.direct()));
    }
}

#[test]
fn in_the_middle_of_a_request() {
    let pooler = shared();
    let mixed = Frontend::new()
        .run("select 1", &[])
        .run("execute foo", &[])
        .run(VIEW, &[])
        .parse("bar", "select 'bar'")
        .run("execute bar", &[])
        .sync();
    let failing = Frontend::new()
        .run("select 1/0", &[])
        .run("execute foo", &[])
        .sync();
    let script = [
        p("foo", "select 1"),
        failing,
        run("foo"),
        view(),
        mixed,
        run("bar"),
        view(),
    ];
    same_as_direct(&pooler, &script);
}

#[test]
fn what_cannot_be_parsed_any_more_is_no_harm() {
    let pooler = shared();
    let mut client = pooler.login();
    let used = |client: &mut RawClient| client.exchange(&run("foo"));
    client.exchange(&p("foo", "select * from gone"));
    pooler.direct().query("create table gone (a int)");
    client.exchange(&p("foo", "select * from gone"));
    client.exchange(&p("bar", "select 'bar'"));
    assert_eq!(used(&mut client).rows().len(), 0);
    pooler.direct().query("drop table gone");
    assert_eq!(client.value("execute bar"), "bar");
    client.query("begin");
    assert_eq!(client.value("execute bar"), "bar");
    assert_eq!(client.value("execute bar"), "bar");
    client.query("commit");
    assert_eq!(used(&mut client).error().sqlstate(), "42P01");
    pooler.direct().query("create table gone (a int)");
    assert_eq!(used(&mut client).rows().len(), 0);
    drop(client);
    nothing_is_left(&pooler);
}

/// Who knows old columns is not given others.
#[test]
fn changed_columns_are_an_error_as_directly() {
    let pooler = shared();
    let bound = Frontend::new().bind("", "foo", &[]).execute("", 0).sync();
    let script = |client: &mut RawClient, alter: &str| {
        client.exchange(
            &Frontend::new()
                .parse("foo", "select * from t")
                .describe(b'S', "foo")
                .sync(),
        );
        pooler.direct().query(alter);
        client.query(VIEW);
        let error = client.exchange(&bound).error();
        assert_eq!(error.sqlstate(), "0A000");
    };
    script(&mut pooler.direct(), "alter table t add b int");
    script(&mut pooler.login(), "alter table t add c int");
}

/// PostgreSQL refuses it; then it is parsed again, under the same name, and the client
/// does not notice.
#[test]
fn who_asks_for_the_columns_gets_the_present_ones() {
    let pooler = shared();
    let mut client = pooler.login();
    client.query("prepare bar as select 2");
    client.exchange(&p("foo", "select * from t"));
    assert_eq!(client.exchange(&run("foo")).rows()[0].len(), 1);
    pooler.direct().query("alter table t add b int");
    assert_eq!(client.exchange(&run("foo")).rows()[0].len(), 2);
    assert_eq!(client.value("execute foo"), "1");
    assert_eq!(client.query(VIEW).rows().len(), 2);
}

#[test]
fn a_statement_by_its_name_pins_nobody() {
    let pooler = shared();
    let mut client = pooler.login();
    client.exchange(&p("foo", "select 'mine'"));
    for _ in 0..4 {
        assert_eq!(client.value("execute foo"), "mine");
        let clients = pooler.show("clients");
        assert!(clients.iter().all(|client| client["pin_reason"].is_empty()));
    }
    client.query("prepare bar as select 2");
    client.query("deallocate bar");
    assert_eq!(client.value("execute foo"), "mine");
    // Others have theirs, on both connections.
    let mut other = pooler.login();
    other.exchange(&p("foo", "select 'theirs'"));
    assert_eq!(other.exchange(&run("foo")).value(), "theirs");
    assert_eq!(client.exchange(&run("foo")).value(), "mine");
    assert_eq!(other.exchange(&run("foo")).value(), "theirs");
}

/// What a statement does to the session it does when it is run.
#[test]
fn effects_of_what_is_executed_are_followed() {
    let pooler = shared();
    let mut client = pooler.login();
    let sql = "select set_config('work_mem', $1, false)";
    client.query(&format!("prepare s(text) as {sql}"));
    client.query("execute s('3MB')");
    client.query("deallocate s");
    client.exchange(&p("s", sql));
    assert_eq!(client.value("show work_mem"), "3MB");
    let mut others = [pooler.login(), pooler.login()];
    for _ in 0..2 {
        for other in &mut others {
            assert_eq!(other.value("show work_mem"), "4MB");
        }
    }
    client.query("execute s('5MB')");
    for other in &mut others {
        assert_eq!(other.value("show work_mem"), "4MB");
    }
    assert_eq!(client.value("show work_mem"), "5MB");
}

#[test]
fn what_names_statements_is_described_in_the_request_that_parses_it() {
    let pooler = shared();
    let explain = "explain (costs off) execute mine";
    let run = Frontend::new().bind("", "plan", &[]).execute("", 0).sync();
    same_as_direct(
        &pooler,
        &[
            Frontend::new().parse("mine", "select 1").sync(),
            Frontend::new()
                .parse("plan", explain)
                .describe(b'S', "plan")
                .sync(),
            run,
        ],
    );
}
