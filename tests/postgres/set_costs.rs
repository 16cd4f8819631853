//! How often the server is asked what has become of settings
//! (`pgweir_state_questions_total`): a program that sends the same SET again and
//! again has it asked once.

use crate::stats_port::metrics;
use crate::support::{Frontend, Pooler, RawClient, Setup, free_port};

fn start() -> (Pooler, u16) {
    let port = free_port();
    let setup = Setup::new()
        .one_worker()
        .pool_size(2)
        .set("session_features", "pin")
        .set("stats_listen", &*format!("127.0.0.1:{port}"));
    (setup.start(), port)
}

fn questions(port: u16) -> u64 {
    let metrics = metrics(port);
    let lines = metrics.lines();
    let counts = lines.filter(|line| line.starts_with("pgweir_state_questions_total{"));
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// How many questions come of a program's work, after it was done twice.
fn asked(port: u16, client: &mut RawClient, work: impl Fn(&mut RawClient)) -> u64 {
    for _ in 0..2 {
        work(client);
    }
    // The snapshot is some milliseconds old.
    let settled = || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        questions(port)
    };
    let before = settled();
    for _ in 0..10 {
        work(client);
    }
    settled() - before
}

/// What frameworks do at each checkout.
const CHECKOUT: [&str; 5] = [
    "SET client_min_messages TO 'warning'",
    "set search_path = app, \"Public\"",
    "SET SESSION timezone TO 'Asia/Tokyo'",
    "set statement_timeout = 60000",
    "set app.tenant = '7'",
];

#[test]
fn the_same_set_is_asked_about_once() {
    let (pooler, port) = start();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    let simple = |client: &mut RawClient| {
        CHECKOUT.iter().for_each(|set| {
            assert_eq!(client.query(set).errors(), []);
        });
    };
    let extended = |client: &mut RawClient| {
        for set in CHECKOUT {
            let answer = client.exchange(&Frontend::new().run(set, &[]).sync());
            assert_eq!(answer.errors(), []);
        }
    };
    let transaction = |client: &mut RawClient| {
        client.query("begin");
        simple(client);
        client.query("commit");
    };
    let reset = |client: &mut RawClient| {
        client.query("reset statement_timeout");
        client.query("begin; reset search_path; commit");
        client.query("set client_min_messages to default");
    };
    let no = (0, 0, 0, 0);
    let seen = (
        asked(port, &mut client, simple),
        asked(port, &mut client, extended),
        asked(port, &mut client, transaction),
        asked(port, &mut client, reset),
    );
    assert_eq!(seen, no);
    simple(&mut client);
    // It is known nevertheless, and the client's alone.
    for (name, value) in [
        ("client_min_messages", "warning"),
        ("search_path", "app, \"Public\""),
        ("timezone", "Asia/Tokyo"),
        ("statement_timeout", "1min"),
        ("app.tenant", "7"),
    ] {
        let show = format!("select current_setting('{name}', true)");
        other.query("begin");
        assert_ne!(other.value(&show), value);
        assert_eq!(client.value(&show), value);
        other.query("commit");
        other.query("set work_mem = '3MB'");
        assert_eq!(client.value(&show), value);
    }
}

#[test]
fn what_did_not_happen_is_not_assumed() {
    let (pooler, port) = start();
    let mut client = pooler.login();
    let set = "set statement_timeout = 60000";
    client.query(set);
    client.query("set statement_timeout = 0");
    let value = |client: &mut RawClient| client.value("show statement_timeout");
    for sent in [
        Frontend::new().query(&format!("{set}; select 1/0")),
        Frontend::new().query(&format!("begin; {set}; rollback")),
        Frontend::new().run(set, &[]).run("select 1/0", &[]).sync(),
        // Never run.
        Frontend::new().parse("", set).bind("", "", &[]).sync(),
    ] {
        client.exchange(&sent);
        pooler.login().query("set work_mem = '3MB'");
        assert_eq!(value(&mut client), "0");
    }
    for undo in ["rollback to a; commit", "rollback", "abort"] {
        client.query("begin; savepoint a");
        client.query(set);
        client.query(undo);
        pooler.login().query("set work_mem = '3MB'");
        assert_eq!(value(&mut client), "0", "{undo}");
    }
    let asked_anew = asked(port, &mut client, |client| {
        client.query("begin");
        client.query(set);
        client.query("rollback");
    });
    assert_eq!(asked_anew, 10);
}

/// Its default is not empty, as those of other applications' settings are. There is
/// one connection: the extension may not be loaded in another.
#[test]
fn a_setting_of_an_extension_goes_back_to_its_default() {
    let setup = Setup::new().set("session_features", "pin");
    let pooler = setup.pool_size(1).start();
    let mut client = pooler.login();
    client.query("do 'begin end'");
    for reset in [
        "reset plpgsql.print_strict_params",
        "reset all",
        "discard all",
    ] {
        client.query("set plpgsql.print_strict_params = on");
        client.query(reset);
        pooler.login().query("set plpgsql.print_strict_params = on");
        let value = client.value("select current_setting('plpgsql.print_strict_params', true)");
        assert_eq!(value, "off", "{reset}");
    }
}
