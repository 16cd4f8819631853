//! The console in the extended protocol, so that every driver can use it.

use crate::support::{Answer, Frontend, Message, Pooler, RawClient, Setup, node, python};

/// Bind of the unnamed statement with these result formats.
fn bind(messages: Frontend, portal: &str, formats: &[u16]) -> Frontend {
    let mut body = [portal.as_bytes(), b"\0\0\0\0\0\0"].concat();
    body.extend((formats.len() as u16).to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    messages.message(b'B', &body)
}

fn ask(console: &mut RawClient, messages: Frontend) -> Answer {
    console.send(&messages.sync());
    console.answer()
}

/// The values of a DataRow as they are.
fn values(row: &Message) -> Vec<Option<Vec<u8>>> {
    let mut rest = &row.body[2..];
    let mut values = Vec::new();
    while let Some((length, more)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        let (value, more) = more.split_at(length.max(0) as usize);
        values.push((length >= 0).then(|| value.to_vec()));
        rest = more;
    }
    values
}

/// A numeric without decimals.
fn numeric(bytes: &[u8]) -> u64 {
    let words: Vec<u64> = bytes
        .chunks(2)
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .collect();
    let [count, weight, sign, scale, digits @ ..] = words.as_slice() else {
        panic!("too short: {bytes:?}");
    };
    assert_eq!((*sign, *scale), (0, 0));
    assert_eq!(*count as usize, digits.len());
    let number = digits.iter().fold(0, |sum, digit| sum * 10_000 + digit);
    number * 10_000_u64.pow((weight + 1).saturating_sub(*count) as u32)
}

#[test]
fn a_command_is_prepared_described_and_run() {
    let pooler = Setup::new().start();
    let mut console = pooler.console();
    let simple = console.query("show state");
    let messages = Frontend::new().parse("a", "show state").describe(b'S', "a");
    let answer = ask(&mut console, messages);
    assert_eq!(answer.tags(), "1tTZ");
    assert_eq!(answer.messages[1].body, [0, 0]);
    assert_eq!(answer.messages[2], simple.messages[0]);
    let again = Frontend::new()
        .bind("", "a", &[])
        .describe(b'P', "")
        .execute("", 0);
    let answer = ask(&mut console, again);
    assert_eq!(answer.tags(), "2TDDDCZ");
    assert_eq!(answer.messages[1..], simple.messages[..]);
    let other = Frontend::new().parse("", "show mem").bind("", "", &[]);
    assert_eq!(ask(&mut console, other.flush()).tags(), "12Z");
    // Sync has ended the portal.
    let late = ask(&mut console, Frontend::new().execute("", 0)).error();
    assert_eq!(
        (late.sqlstate(), late.message()),
        ("34000", "portal \"\" does not exist")
    );
    let closed = Frontend::new().close(b'S', "a").bind("", "a", &[]);
    let answer = ask(&mut console, closed);
    assert_eq!(answer.tags(), "3EZ");
    let error = answer.error();
    let text = "prepared statement \"a\" does not exist";
    assert_eq!((error.sqlstate(), error.message()), ("26000", text));

    let nothing = Frontend::new().run(" ; ", &[]).describe(b'P', "");
    assert_eq!(ask(&mut console, nothing).tags(), "12InZ");
    let set = Frontend::new().run("set client_encoding to 'utf8'", &[]);
    assert_eq!(ask(&mut console, set).tags(), "12NCZ");
    let reload = ask(&mut console, Frontend::new().run("reload", &[]));
    assert_eq!(reload.command_tags(), ["RELOAD"]);
    let fake = ask(&mut console, Frontend::new().run("show timezone", &[]));
    assert_eq!(fake.value(), "GMT");
}

#[test]
fn after_an_error_everything_is_passed_over_up_to_sync() {
    let pooler = Setup::new().set("stats_users", "app").start();
    let mut console = RawClient::login(&pooler.address, "app", "pgbouncer");
    let wrong = Frontend::new()
        .parse("", "show nonsense")
        .bind("", "", &[])
        .execute("", 0)
        .query("show state");
    let answer = ask(&mut console, wrong);
    assert_eq!(answer.tags(), "EZ");
    let error = answer.error();
    let text = "invalid command 'show nonsense', use SHOW HELP;";
    assert_eq!(error.message(), text);
    let seen = (error.severity(), error.sqlstate());
    assert_eq!(seen, ("ERROR", "08P01"));
    for (messages, sqlstate, text) in [
        (
            Frontend::new().run("reload", &[]),
            "08P01",
            "admin access needed",
        ),
        (
            Frontend::new().run("show state", &["1"]),
            "08P01",
            "bind message supplies 1 parameters, but prepared statement \"\" requires 0",
        ),
        (
            bind(Frontend::new().parse("", "show state"), "", &[2]),
            "22023",
            "unsupported format code: 2",
        ),
        (
            bind(Frontend::new().parse("", "show state"), "", &[0, 0, 0]).execute("", 0),
            "08P01",
            "bind message has 3 result formats but query has 2 columns",
        ),
        (
            Frontend::new()
                .parse("a", "show state")
                .parse("a", "show mem"),
            "42P05",
            "prepared statement \"a\" already exists",
        ),
        (
            Frontend::new().message(b'P', b"x"),
            "08P01",
            "broken Parse packet",
        ),
        (
            Frontend::new()
                .parse("", "show mem")
                .message(b'B', b"\0\0\0"),
            "08P01",
            "broken Bind packet",
        ),
        (
            Frontend::new().message(b'D', b"?\0"),
            "08P01",
            "broken Describe packet",
        ),
        (
            Frontend::new().message(b'E', b"\0\0"),
            "08P01",
            "broken Execute packet",
        ),
        (
            Frontend::new().message(b'C', b""),
            "08P01",
            "broken Close packet",
        ),
    ] {
        let error = ask(&mut console, messages).error();
        assert_eq!((error.sqlstate(), error.message()), (sqlstate, text));
        assert_eq!(console.query("show state").rows().len(), 3);
    }
}

#[test]
fn rows_come_as_many_at_a_time_as_asked_for() {
    let pooler = Setup::new().start();
    let mut console = pooler.console();
    let all = console.query("show state").rows();
    let steps = Frontend::new()
        .parse("", "show state")
        .bind("p", "", &[])
        .execute("p", 2)
        .execute("p", 1)
        .execute("p", 1);
    let answer = ask(&mut console, steps);
    assert_eq!(answer.tags(), "12DDsDsCZ");
    assert_eq!(answer.rows(), all);
    let enough = Frontend::new().parse("", "show state").bind("", "", &[]);
    assert_eq!(ask(&mut console, enough.execute("", 4)).tags(), "12DDDCZ");
}

#[test]
fn numbers_are_binary_where_a_driver_wants_them() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    for _ in 0..3 {
        client.query("select repeat('x', 7000)");
    }
    let mut console = pooler.console();
    for (command, oid) in [("show lists", 23), ("show stats_totals", 1700)] {
        let text = console.query(command).rows();
        let messages = bind(Frontend::new().parse("", command), "", &[1]);
        let answer = ask(&mut console, messages.describe(b'P', "").execute("", 0));
        // Name, table, column, type, size, modifier and format of the second.
        let column = &answer.messages[2].body[answer.messages[2].body.len() - 12..];
        assert_eq!(column[..4], u32::to_be_bytes(oid), "{command}");
        assert_eq!(column[10..], [0, 1], "{command}");
        let rows = answer.messages.iter().filter(|message| message.tag == b'D');
        let shown = |(at, value): (usize, Option<Vec<u8>>)| {
            let value = value?;
            Some(match (at, oid) {
                (0, _) => String::from_utf8(value).expect("a name"),
                (_, 23) => i32::from_be_bytes(value.try_into().expect("int4")).to_string(),
                _ => numeric(&value).to_string(),
            })
        };
        let binary: Vec<Vec<_>> = rows
            .map(|row| values(row).into_iter().enumerate().map(shown).collect())
            .collect();
        assert_eq!(binary, text, "{command}");
        let sent = text.iter().flatten().flatten();
        let largest = sent.filter_map(|value| value.parse().ok()).max();
        assert!(oid == 23 || largest > Some(20_000), "{text:?}");
    }
}

fn dsn(pooler: &Pooler) -> String {
    pooler
        .dsn_of("admin")
        .replace(&pooler.database, "pgbouncer")
}

#[test]
fn drivers_can_use_it() {
    for pooler in [Setup::new().start(), Setup::new().in_ini().start()] {
        pooler.login().query("select 1");
        for run in [
            python("psycopg3.py", "console", &dsn(&pooler)),
            python("asyncpg_client.py", "console", &dsn(&pooler)),
            node("node_postgres.js", "console", &dsn(&pooler)),
        ] {
            assert_eq!(run.succeed(), "ok");
        }
    }
}

#[test]
fn tokio_postgres_can_use_it() {
    let pooler = Setup::new().start();
    pooler.login().query("select 1");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::Config::new()
            .host(pooler.address.host())
            .port(pooler.address.port())
            .user("admin")
            .dbname("pgbouncer")
            .connect(tokio_postgres::NoTls)
            .await
            .expect("connect");
        tokio::spawn(connection);
        let pools = client.query("SHOW POOLS", &[]).await.expect("pools");
        let own = pools.iter().find(|row| row.get::<_, &str>("user") == "app");
        let own = own.expect("the pool of app");
        assert_eq!(own.get::<_, i32>("sv_idle"), 1);
        assert_eq!(own.get::<_, Option<&str>>("load_balance_hosts"), None);
        let pause = client.execute("PAUSE", &[]).await.expect("pause");
        assert_eq!(pause, 0);
        let again = client.execute("PAUSE", &[]).await.expect_err("paused");
        let again = again.as_db_error().expect("an answer");
        assert_eq!(again.message(), "already suspended/paused");
        client.execute("RESUME", &[]).await.expect("resume");
    });
}
