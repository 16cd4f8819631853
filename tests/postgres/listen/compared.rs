//! What clients hear, held against what they would hear from PostgreSQL.

use super::{nothing_is_left, parts, pid, restless};
use crate::support::{Frontend, Message, Pooler, RawClient};

/// What comes back, as one can compare it: of notifications whether they are the
/// client's own.
fn shown(client: &RawClient, message: &Message) -> String {
    if message.tag != b'A' {
        return message.line();
    }
    let (from, channel, payload) = parts(message);
    let whose = if from == pid(client) { "own" } else { "other" };
    format!("A {whose} {channel}={payload}")
}

/// One of two clients says something: both hear what comes of it.
#[derive(Clone)]
enum Line {
    First(Frontend),
    Second(Frontend),
}

fn first(sql: &str) -> Line {
    Line::First(Frontend::new().query(sql))
}

fn second(sql: &str) -> Line {
    Line::Second(Frontend::new().query(sql))
}

fn first_extended(sql: &str) -> Line {
    Line::First(Frontend::new().run(sql, &[]).sync())
}

/// What two clients hear, one line after the other. Notifications of others may
/// come at any time between transactions: they stand at the end of an answer.
fn played(mut clients: [RawClient; 2], lines: &[Line]) -> Vec<String> {
    let mut transcript = Vec::new();
    for line in lines {
        let (number, messages) = match line {
            Line::First(messages) => (0, messages),
            Line::Second(messages) => (1, messages),
        };
        let client = &mut clients[number];
        client.send(messages);
        let mut others = Vec::new();
        loop {
            let message = client.read();
            let line = format!("{number} {}", shown(client, &message));
            match line.contains(" A other ") {
                true => others.push(line),
                false => transcript.push(line),
            }
            if message.tag == b'Z' {
                break;
            }
        }
        transcript.append(&mut others);
    }
    transcript
}

#[track_caller]
fn same_as_direct(pooler: &Pooler, lines: &[Line]) {
    let direct = played([pooler.direct(), pooler.direct()], lines);
    let pooled = played([pooler.login(), pooler.login()], lines);
    assert_eq!(pooled, direct);
}

#[test]
fn what_is_heard_and_when_is_the_servers() {
    let pooler = restless();
    let long = format!("listen {}", "x".repeat(70));
    let long_notify = format!("notify {}, 'long'", "x".repeat(63));
    let payload = "\u{1f980}".repeat(1999);
    let big = format!("select pg_notify('a', '{payload}')");
    let scripts: Vec<Vec<Line>> = vec![
        vec![first("listen a"), first("notify a, 'x'"), first("notify a")],
        vec![
            first("listen a"),
            second("notify a, 'x'"),
            first("select 1"),
        ],
        vec![
            first("notify a, 'before'"),
            first("listen a"),
            first("select 1"),
        ],
        vec![
            second("notify a, 'before'"),
            first("listen a"),
            first("select 1"),
        ],
        vec![
            first("listen a;"),
            first("notify b, 'x'"),
            first("unlisten a"),
            first("notify a"),
        ],
        vec![
            first("LISTEN \"A b\""),
            first("notify \"A b\", ''"),
            first("notify \"a b\""),
        ],
        vec![
            first("Listen FOO"),
            first("notify foo, '1'"),
            first("notify Foo, '2'"),
        ],
        vec![first(&long), first(&long_notify)],
        vec![first("listen a"), first(&big)],
        vec![first_extended("listen a"), first_extended("notify a, 'x'")],
        vec![
            first_extended("listen a"),
            first_extended("select pg_notify('a', 'x')"),
            first_extended("unlisten *"),
            first_extended("notify a, 'x'"),
        ],
        // In one transaction, and in order.
        vec![
            first("listen a"),
            first("begin"),
            first("notify a, '1'"),
            first("notify b, '2'"),
            first("notify a, '3'"),
            first("notify a, '1'"),
            second("notify a, 'other'"),
            first("commit"),
            first("select 1"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("notify a, 'x'"),
            first("commit"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            second("notify a, 'early'"),
            first("commit"),
            first("select 1"),
            second("notify a, 'late'"),
            first("select 1"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("rollback"),
            first("notify a, 'x'"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("select 1/0"),
            first("commit"),
            first("notify a, 'x'"),
        ],
        vec![
            first("listen a"),
            first("begin"),
            first("unlisten a"),
            first("notify a, '1'"),
            first("rollback"),
            first("notify a, '2'"),
        ],
        vec![
            first("listen a"),
            first("begin"),
            first("unlisten *"),
            first("notify a, '1'"),
            first("commit"),
            first("notify a, '2'"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("savepoint s"),
            first("listen b"),
            first("rollback to s"),
            first("listen c"),
            first("release s"),
            first("commit"),
            first("notify a"),
            first("notify b"),
            first("notify c"),
        ],
        vec![
            first("begin"),
            first("savepoint s"),
            first("listen a"),
            first("savepoint s"),
            first("listen b"),
            first("rollback to savepoint s"),
            first("release s"),
            first("rollback work to s"),
            first("commit"),
            first("notify a"),
            first("notify b"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("savepoint s"),
            first("selekt"),
            first("rollback to s"),
            first("commit"),
            first("notify a, 'x'"),
        ],
        // Several statements.
        vec![
            first("listen a; listen b"),
            first("notify a"),
            first("notify b, 'x'; notify a"),
        ],
        vec![first("listen a; select 1/0"), first("notify a")],
        vec![
            first("begin; listen a; commit; listen b; select 1/0"),
            first("notify a; notify b"),
        ],
        vec![first("select 1; listen a; notify a, 'x'; unlisten b")],
        vec![
            first("listen a; unlisten *; listen b"),
            first("notify a"),
            first("notify b"),
        ],
        vec![
            first("listen a"),
            first(
                "select pg_advisory_unlock_all(); close all; unlisten *; \
            reset all;",
            ),
            first("notify a"),
        ],
        vec![first("listen a"), first("discard all"), first("notify a")],
        vec![
            first("listen a"),
            first("deallocate all"),
            first("notify a"),
        ],
        // What the server refuses.
        vec![
            first("listen 'a'"),
            first("listen select"),
            first("listen \"\""),
            first("notify a"),
        ],
        vec![
            first("begin"),
            first("listen a"),
            first("prepare transaction 'x'"),
            first("notify a"),
        ],
        vec![
            first("listen a"),
            first("select 1/0"),
            first("notify a, 'x'; select 1/0"),
        ],
        // Prepared.
        vec![
            Line::First(
                Frontend::new()
                    .parse("l", "listen a")
                    .parse("n", "notify a, 'x'")
                    .bind("", "l", &[])
                    .execute("", 0)
                    .sync(),
            ),
            Line::First(Frontend::new().bind("p", "n", &[]).execute("p", 0).sync()),
            Line::First(
                Frontend::new()
                    .parse("u", "unlisten a")
                    .bind("", "u", &[])
                    .execute("", 0)
                    .sync(),
            ),
            Line::First(Frontend::new().bind("", "n", &[]).execute("", 0).sync()),
        ],
        vec![
            Line::First(
                Frontend::new()
                    .run("listen a", &[])
                    .run("select 1/0", &[])
                    .sync(),
            ),
            first("notify a"),
        ],
        vec![
            Line::First(
                Frontend::new()
                    .run("begin", &[])
                    .run("listen a", &[])
                    .run("commit", &[])
                    .run("select 1/0", &[])
                    .sync(),
            ),
            first("notify a"),
        ],
        // What it listens to.
        vec![
            first("listen b"),
            first("listen a"),
            first("select * from pg_listening_channels() c order by c"),
            first_extended("select * from pg_listening_channels() c order by c"),
            first("unlisten a"),
            first("select pg_listening_channels()"),
            first("notify b, 'x'"),
        ],
    ];
    for script in scripts {
        same_as_direct(&pooler, &script);
    }
    nothing_is_left(&pooler, 1);
}
