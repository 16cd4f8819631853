//! LISTEN and NOTIFY in transaction mode: one server connection listens for all
//! clients of a database, and nobody can tell.

mod compared;

use std::cell::Cell;

use crate::support::{
    Cluster, Frontend, Message, Pooler, RawClient, Setup, eventually, patiently, psql, secs,
};

/// A notification: process id, channel and payload.
fn parts(message: &Message) -> (u32, String, String) {
    assert_eq!(message.tag, b'A', "{message:?}");
    let (pid, rest) = message.body.split_at(4);
    let texts = String::from_utf8_lossy(rest);
    let mut texts = texts.split('\0');
    (
        u32::from_be_bytes(pid.try_into().unwrap()),
        texts.next().unwrap().to_owned(),
        texts.next().unwrap().to_owned(),
    )
}

fn pid(client: &RawClient) -> u32 {
    u32::from_be_bytes(client.key[..4].try_into().unwrap())
}

/// A pool of two connections that take turns.
fn restless() -> Pooler {
    Setup::new()
        .pool_size(2)
        .set("server_round_robin", true)
        .start()
}

/// Only the one connection listens.
#[track_caller]
fn nothing_is_left(pooler: &Pooler, ears: usize) {
    let mut clients: Vec<_> = (0..2).map(|_| pooler.login()).collect();
    for client in &mut clients {
        client.query("begin");
        let channels = client.query("select pg_listening_channels()").column();
        assert_eq!(channels, [""; 0]);
    }
    assert_eq!(ear_count(pooler), ears);
}

fn ear_count(pooler: &Pooler) -> usize {
    pids_of_ears(pooler).len()
}

fn pids_of_ears(pooler: &Pooler) -> Vec<String> {
    pooler
        .admin()
        .query(
            "select pid from pg_stat_activity where datname = current_database() \
             and application_name = 'pgweir listener'",
        )
        .column()
}

#[test]
fn idle_clients_are_told_at_once() {
    let pooler = restless();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    client.query("listen news");
    let mut direct = pooler.direct();
    for n in 0..20 {
        let notify = format!("notify news, '{n}'");
        other.query(&notify);
        let (from, channel, payload) = parts(&client.read());
        assert_eq!((&*channel, payload), ("news", n.to_string()));
        assert_ne!(from, pid(&client));
        direct.query(&notify);
        let (from, _, payload) = parts(&client.read());
        assert_eq!(payload, n.to_string());
        assert_eq!(from, pid(&direct));
    }
}

#[test]
fn who_goes_on_at_once_and_listens_no_longer_is_answered() {
    let pooler = restless();
    let mut client = pooler.login();
    // Both answers come in one piece now and then.
    for _ in 0..200 {
        client.query("listen news");
        client.send(&Frontend::new().query("").query("unlisten news"));
        assert_eq!(client.answer().tags(), "IZ");
        assert_eq!(client.answer().tags(), "CZ");
    }
}

#[test]
fn an_unlisten_takes_nothing_back_that_was_sent_before() {
    let pooler = restless();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    for round in 0..50 {
        client.query("listen news");
        other.query(&format!("notify news, '{round}'"));
        let answer = client.query("unlisten *");
        let told: Vec<_> = answer.messages.iter().filter(|m| m.tag == b'A').collect();
        assert_eq!(told.len(), 1, "round {round}");
        assert_eq!(parts(told[0]).2, round.to_string());
    }
}

#[test]
fn who_goes_on_at_once_and_listens_no_longer_is_told_before() {
    let pooler = restless();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    for _ in 0..50 {
        client.query("listen news");
        client.query("begin");
        other.query("notify news");
        client.send(&Frontend::new().query("commit").query("unlisten news"));
        assert_eq!(client.answer().tags(), "CAZ");
        assert_eq!(client.answer().tags(), "CZ");
    }
}

#[test]
fn who_asks_at_once_is_told_what_it_listens_to() {
    let pooler = restless();
    let mut client = pooler.login();
    client.query("listen news");
    let asks = "select pg_listening_channels()";
    // Also one that keeps its server connection.
    for pin in ["", "prepare p as select 1"] {
        client.query(pin);
        for _ in 0..5 {
            client.send(&Frontend::new().query("").query(asks));
            assert_eq!(client.answer().tags(), "IZ");
            assert_eq!(client.answer().column(), ["news"], "{pin}");
        }
    }
}

#[test]
fn many_clients_and_channels_need_one_connection() {
    let pooler = Setup::new().pool_size(2).start();
    let mut clients: Vec<_> = (0..40).map(|_| pooler.login()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.query("listen everybody");
        client.query(&format!("listen c{}", n % 8));
    }
    assert_eq!(ear_count(&pooler), 1);
    let mut sender = pooler.login_as("app2");
    for n in 0..8 {
        sender.query(&format!("notify c{n}, 'to {n}'"));
    }
    sender.query("notify everybody, 'done'");
    for (n, client) in clients.iter_mut().enumerate() {
        let heard = [client.read(), client.read()].map(|m| parts(&m));
        assert_eq!(heard[0].1, format!("c{}", n % 8));
        assert_eq!(heard[0].2, format!("to {}", n % 8));
        assert_eq!(heard[1].2, "done");
    }
    nothing_is_left(&pooler, 1);
    // The last one to leave ends it.
    drop(clients);
    eventually("ears", 0, || ear_count(&pooler));
    let mut client = pooler.login();
    client.query("listen again");
    assert_eq!(client.query("notify again, 'x'").tags(), "CAZ");
}

/// All notify over the same two server connections, and half of them listen.
#[test]
fn nobody_takes_anothers_notification_for_its_own() {
    const ROUNDS: usize = 100;
    let pooler = Setup::new().pool_size(2).start();
    let mut clients: Vec<_> = (0..6).map(|_| pooler.login()).collect();
    for client in clients.iter_mut().step_by(2) {
        client.query("listen all_of_us");
    }
    let numbered = clients.into_iter().enumerate();
    let threads = numbered.map(|(n, mut client)| {
        std::thread::spawn(move || {
            let listens = n % 2 == 0;
            let heard = Cell::new(0);
            let hear = |client: &RawClient, message: &Message| {
                let (from, _, payload) = parts(message);
                let own = payload.starts_with(&format!("{n} "));
                assert_eq!(from == pid(client), own, "{payload}");
                heard.set(heard.get() + 1);
            };
            for round in 0..ROUNDS {
                let answer = client.query(&format!("notify all_of_us, '{n} {round}'"));
                let told = answer.messages.iter().filter(|m| m.tag == b'A');
                told.clone().for_each(|message| hear(&client, message));
                let own = told.filter(|m| parts(m).2 == format!("{n} {round}"));
                assert_eq!(own.count(), usize::from(listens));
            }
            let all = if listens { 6 * ROUNDS } else { 0 };
            while heard.get() < all {
                let message = client.read();
                hear(&client, &message);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    nothing_is_left(&pooler, 1);
}

/// `pg_backend_pid()` is the server's own, and so is what it is compared with.
#[test]
fn who_knows_its_server_process_hears_from_it() {
    let pooler = Setup::new()
        .pool_size(2)
        .set("server_round_robin", true)
        // Who is asked is pinned, and the place of one who has left need not be free yet
        // when the next one asks.
        .set("max_pinned_connections", 2)
        .start();
    let asks = "select pg_backend_pid()";
    for texts in [
        ["listen news", asks, "notify news"],
        [asks, "listen news", "notify news"],
        [
            "begin; select pg_backend_pid()",
            "listen news; notify news",
            "commit",
        ],
    ] {
        let (mut client, mut other) = (pooler.login(), pooler.login());
        let answers = texts.map(|text| client.query(text));
        let mut server = answers.iter().flat_map(|answer| answer.column());
        let told = answers[2].messages.iter().find(|m| m.tag == b'A');
        assert_eq!(parts(told.unwrap()).0.to_string(), server.next().unwrap());
        client.query("unlisten *");
        // The others are who they were.
        other.query("listen news");
        let answer = other.query("notify news");
        assert_eq!(parts(&answer.messages[1]).0, pid(&other));
    }
}

#[test]
fn order_and_payloads_are_exact() {
    let pooler = restless();
    let mut client = pooler.login();
    client.query("listen a");
    client.query("listen b");
    let mut sender = pooler.direct();
    let payloads = [
        String::new(),
        "x".repeat(7999),
        "\u{fc}\u{20ac}\u{1f980}'\\\n".to_owned(),
        "last".to_owned(),
    ];
    for round in 0..30 {
        sender.query("begin");
        for payload in &payloads {
            for channel in ["a", "b"] {
                let payload = format!("{payload}{round}");
                let payload = &payload[..payload.len().min(7999)];
                let notify = Frontend::new()
                    .run("select pg_notify($1, $2)", &[channel, payload])
                    .sync();
                sender.exchange(&notify);
            }
        }
        sender.query("commit");
        for payload in &payloads {
            for channel in ["a", "b"] {
                let expected = format!("{payload}{round}");
                let expected = &expected[..expected.len().min(7999)];
                let (_, heard, payload) = parts(&client.read());
                assert_eq!((&*heard, &*payload), (channel, expected));
            }
        }
    }
}

#[test]
fn a_client_in_another_encoding_gets_its_own_bytes() {
    let pooler = Setup::new().start();
    let mut utf8 = pooler.login();
    let mut latin1 = pooler.login_with(&[("client_encoding", "LATIN1")]);
    utf8.query("listen a");
    latin1.query("listen a");
    pooler.direct().query("select pg_notify('a', chr(252))");
    assert_eq!(utf8.read().body[6..], *"\u{fc}\0".as_bytes());
    assert_eq!(latin1.read().body[6..], *b"\xfc\0");
}

#[test]
fn a_lost_listener_is_no_secret() {
    let pooler = restless();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    client.query("listen a");
    other.query("select 1");
    let [ear] = <[String; 1]>::try_from(pids_of_ears(&pooler)).unwrap();
    pooler
        .admin()
        .query(&format!("select pg_terminate_backend({ear})"));
    let farewell = client.read();
    let error = farewell.failure();
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "57P01"));
    assert!(client.read_or_end().is_none());
    // Who does not listen does not notice.
    assert_eq!(other.value("select 2"), "2");
    let mut client = pooler.login();
    client.query("listen a");
    assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
}

#[test]
fn who_cannot_be_heard_for_is_told() {
    let cluster = Cluster::fresh();
    let pooler = Setup::with(&cluster).start();
    let mut client = pooler.login();
    client.query("begin");
    cluster.refuse("app", true);
    client.send(&Frontend::new().query("listen a"));
    let error = client.read().failure();
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "08006"));
    assert!(error.detail().contains("pg_hba"), "{error:?}");
    cluster.refuse("app", false);
    let mut client = pooler.login();
    client.query("listen a");
    assert_eq!(client.query("notify a").tags(), "CAZ");
}

#[test]
fn who_does_not_read_is_bounded() {
    let pooler = Setup::new().set("notification_buffer", 100_000).start();
    let (mut client, mut reader) = (pooler.login(), pooler.login());
    client.query("listen a");
    reader.query("listen a");
    client.query("begin");
    let mut sender = pooler.direct();
    let payload = "x".repeat(7000);
    for n in 0..20 {
        sender.query(&format!("select pg_notify('a', '{n} {payload}')"));
        assert!(parts(&reader.read()).2.starts_with(&n.to_string()));
    }
    let error = client.read().failure();
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "57P01"));
    assert!(error.detail().contains("notification_buffer"), "{error:?}");
    assert_eq!(reader.query("notify a, 'x'").tags(), "CAZ");
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    let pooler = Setup::new().pool_size(2).start();
    for end in [
        "listen a",
        "begin; listen b",
        "begin; listen c; select pg_sleep(60)",
    ] {
        let mut client = pooler.login();
        client.query("listen d");
        client.send(&Frontend::new().query(end));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    eventually("clients", 0, || {
        let clients = pooler.show("CLIENTS");
        clients.iter().filter(|row| row["user"] == "app").count()
    });
    patiently("clean connections", || {
        let mut clients: Vec<_> = (0..2).map(|_| pooler.login()).collect();
        for client in &mut clients {
            client.query("begin");
        }
        let clean = clients.iter_mut().all(|client| {
            let channels = client.query("select pg_listening_channels()");
            channels.column().is_empty()
        });
        clean.then_some(())
    });
}

#[test]
fn pause_and_reload_lose_nothing() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("listen a");
    let mut console = pooler.console();
    for command in ["pause", "resume", "reload", "reconnect"] {
        let mut sender = pooler.direct();
        console.query(command);
        sender.query(&format!("notify a, '{command}'"));
        assert_eq!(parts(&client.read()).2, command);
    }
    assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
    console.query("suspend");
    pooler.direct().query("notify a, 'suspended'");
    console.query("resume");
    assert_eq!(parts(&client.read()).2, "suspended");
}

/// The client keeps its server connection, and hears from there.
#[test]
fn what_no_text_tells_pins() {
    for listen in [
        "listen U&\"\\0061\"",
        "do $$ begin execute 'listen a'; end $$",
    ] {
        let pooler = Setup::new().start();
        let mut client = pooler.login();
        client.query("listen b");
        client.query(listen);
        assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
        client.query("begin; listen a; rollback");
        assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
        assert_eq!(client.query("notify b, 'x'").tags(), "CAZ");
        pooler.direct().query("notify b, 'other'");
        assert_eq!(parts(&client.read()).2, "other");
        // What both tell is told once.
        client.query("listen a");
        client.query(listen);
        assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
        pooler.direct().query("notify a, 'other'");
        assert_eq!(parts(&client.read()).2, "other");
        assert_eq!(client.query("select 1").tags(), "TDCZ");
        client.query("unlisten *");
        assert_eq!(client.query("notify a, 'x'").tags(), "CZ");
        drop(client);
        eventually("ears", 0, || ear_count(&pooler));
        nothing_is_left(&pooler, 0);
    }
}

/// As PgBouncer: it stays on the server connection.
#[test]
fn an_ini_leaves_it_to_the_server() {
    let pooler = Setup::new().in_ini().pool_size(1).one_worker().start();
    let mut client = pooler.login();
    client.query("listen a");
    let channels = client.query("select pg_listening_channels()").column();
    assert_eq!(channels, ["a"]);
    assert_eq!(ear_count(&pooler), 0);
}

#[test]
fn in_statement_mode_too() {
    let pooler = Setup::new().set("pool_mode", "statement").start();
    let mut client = pooler.login();
    client.query("listen a");
    assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
}

#[test]
fn a_server_that_is_down_is_waited_for() {
    let mut cluster = Cluster::fresh();
    let pooler = Setup::with(&cluster)
        .set("server_login_retry", secs(0.2))
        .start();
    let mut client = pooler.login();
    client.query("select 1");
    cluster.stop(nix::sys::signal::Signal::SIGINT);
    client.send(&Frontend::new().query("listen a"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(cluster.start());
    assert_eq!(client.read().text(), "LISTEN");
    assert_eq!(client.read().tag, b'Z');
    assert_eq!(client.query("notify a, 'x'").tags(), "CAZ");
}

#[test]
fn psql_shows_them() {
    let pooler = restless();
    let lines = [
        "listen a",
        "notify a, 'one'",
        "begin",
        "notify a, 'two'",
        "commit",
        "notify a",
    ];
    let arguments: Vec<_> = lines.iter().flat_map(|line| ["-c", line]).collect();
    let heard = |dsn: &str| {
        let output = psql(dsn).args(&arguments).succeed();
        let lines = output.lines().filter(|line| line.contains("notification"));
        // Up to the process id.
        let text = |line: &str| {
            line.split(" received from")
                .next()
                .unwrap_or(line)
                .to_owned()
        };
        lines.map(text).collect::<Vec<_>>()
    };
    let pooled = heard(&pooler.dsn());
    assert_eq!(pooled.len(), 3, "{pooled:?}");
}

/// A client that keeps its server connection for another reason.
#[test]
fn a_pinned_client_hears_like_others() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("listen a");
    client.query("create temp table t ()");
    for _ in 0..3 {
        let answer = client.query("notify a, 'x'");
        assert_eq!(answer.tags(), "CAZ");
        assert_eq!(parts(&answer.messages[1]).0, pid(&client));
        pooler.direct().query("notify a, 'y'");
        assert_eq!(parts(&client.read()).2, "y");
    }
    client.query("listen b");
    client.query("discard all");
    assert_eq!(client.query("notify a, 'x'").tags(), "CZ");
    nothing_is_left(&pooler, 1);
}
