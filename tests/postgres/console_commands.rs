//! What an operator does at the console: databases and clients are stopped, let
//! go on, thrown out, connected anew; over all workers.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::replicas::{self, Trio};
use crate::support::{Frontend, Pooler, RawClient, Setup, eventually};

const PID: &str = "select pid from pg_backend_pid() as pid";
/// Long enough for an answer that must not come.
const WHILE: Duration = Duration::from_millis(200);

fn setup() -> Setup {
    Setup::new().set("workers", 3).pool_size(3)
}

fn begin(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.query("begin");
    client
}

/// Sends a command without waiting for its answer.
fn order(pooler: &Pooler, command: &str) -> RawClient {
    let mut console = pooler.console();
    console.send(&Frontend::new().query(command));
    console
}

#[track_caller]
fn done(console: &mut RawClient, command: &str) {
    let tag = command.split(' ').next().unwrap().to_uppercase();
    assert_eq!(console.query(command).command_tags(), [tag], "{command}");
}

#[track_caller]
fn refused(console: &mut RawClient, command: &str, text: &str) {
    let error = console.try_query(command).error();
    let seen = (error.severity(), error.sqlstate(), error.message());
    assert_eq!(seen, ("ERROR", "08P01", text), "{command}");
}

fn database_row(pooler: &Pooler) -> BTreeMap<String, String> {
    let rows = pooler.show("DATABASES");
    let own = rows.into_iter().find(|row| row["name"] == pooler.database);
    own.expect("the database is listed")
}

/// The message that a client is thrown out with.
#[track_caller]
fn last_words(client: &mut RawClient) -> String {
    let messages = client.read_to_end();
    let last = messages.last().expect("a last word");
    let failure = last.failure();
    assert_eq!((failure.severity(), failure.sqlstate()), ("FATAL", "08P01"));
    failure.message().to_owned()
}

#[test]
fn pause_waits_for_transactions_and_resume_serves_who_waits() {
    let pooler = setup().start();
    let mut idle: Vec<_> = (0..3).map(|_| pooler.login()).collect();
    for client in &mut idle {
        client.query("select 1");
    }
    let mut busy = begin(&pooler);
    let mut pause = order(&pooler, "PAUSE");
    pooler.expect_backends(1);
    assert!(pause.is_silent_for(WHILE), "a transaction is open");
    // It goes on to its end, and its connection with it.
    assert_eq!(busy.value("select 1"), "1");
    busy.query("commit");
    assert_eq!(pause.answer().command_tags(), ["PAUSE"]);
    pooler.expect_backends(0);

    // Those who are in wait, and those who come too, on every worker.
    for client in &mut idle {
        client.send(&Frontend::new().query("select 'served'"));
    }
    let mut late: Vec<_> = (0..3).map(|_| pooler.login()).collect();
    for client in &mut late {
        client.send(&Frontend::new().query("select 'served'"));
    }
    pooler.expect_waiting(6);
    let state: Vec<_> = pooler
        .show("STATE")
        .iter()
        .map(|row| row["value"].clone())
        .collect();
    assert_eq!(state, ["no", "yes", "no"]);
    // PgBouncer's column is about PAUSE of this database.
    assert_eq!(database_row(&pooler)["paused"], "0");
    assert!(idle[0].is_silent_for(WHILE));
    pooler.expect_backends(0);

    let mut console = pooler.console();
    refused(&mut console, "PAUSE", "already suspended/paused");
    done(&mut console, "RESUME");
    for client in idle.iter_mut().chain(&mut late) {
        assert_eq!(client.answer().value(), "served");
    }
    refused(&mut console, "RESUME", "pooler is not paused/suspended");
    assert_eq!(pooler.show("STATE")[0]["value"], "yes");
}

#[test]
fn pause_of_one_database_leaves_the_others_alone() {
    let pooler = setup().alias("other").start();
    let mut client = pooler.login();
    client.query("select 1");
    let name = pooler.database.clone();
    let mut console = pooler.console();
    done(&mut console, &format!("PAUSE {name}"));
    assert_eq!(database_row(&pooler)["paused"], "1");
    pooler.expect_backends(0);
    client.send(&Frontend::new().query("select 'served'"));
    let mut other = RawClient::login(&pooler.address, "app", "other");
    assert_eq!(other.value("select 1"), "1");
    assert!(client.is_silent_for(WHILE));
    // It survives a RELOAD, and a repetition changes nothing.
    done(&mut console, "RELOAD");
    done(&mut console, &format!("PAUSE {name}"));
    assert!(client.is_silent_for(WHILE));
    refused(&mut console, "RESUME", "pooler is not paused/suspended");
    refused(&mut console, "RESUME other", "database other is not paused");
    done(&mut console, &format!("RESUME {name}"));
    assert_eq!(client.answer().value(), "served");
    assert_eq!(database_row(&pooler)["paused"], "0");
}

#[test]
fn pause_waits_for_sessions_in_session_mode() {
    let pooler = setup().set("pool_mode", "session").start();
    let mut client = pooler.login();
    client.query("select 1");
    let mut pause = order(&pooler, "PAUSE");
    assert!(pause.is_silent_for(WHILE));
    assert_eq!(client.value("select 2"), "2");
    drop(client);
    assert_eq!(pause.answer().command_tags(), ["PAUSE"]);
    pooler.expect_backends(0);
}

#[test]
fn a_pause_that_is_cancelled_or_resumed_is_over() {
    let pooler = setup().start();
    let mut busy = begin(&pooler);
    let text = "RESUME came before the PAUSE was complete";
    let mut pause = order(&pooler, "PAUSE");
    assert!(pause.is_silent_for(WHILE));
    RawClient::cancel_key(&pooler.address, &pause.key);
    assert_eq!(pause.answer().error().message(), text);
    assert_eq!(pooler.login().value("select 1"), "1");

    let mut pause = order(&pooler, "PAUSE");
    assert!(pause.is_silent_for(WHILE));
    done(&mut pooler.console(), "RESUME");
    assert_eq!(pause.answer().error().message(), text);
    busy.query("commit");
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn signals_pause_and_resume() {
    let pooler = setup().start();
    let mut client = pooler.login();
    client.query("select 1");
    pooler.signal(Signal::SIGUSR1);
    pooler.expect_backends(0);
    client.send(&Frontend::new().query("select 'served'"));
    assert!(client.is_silent_for(WHILE));
    pooler.signal(Signal::SIGUSR2);
    assert_eq!(client.answer().value(), "served");
}

#[test]
fn a_paused_pooler_can_be_shut_down() {
    let mut pooler = setup().start();
    let mut client = pooler.login();
    client.query("select 1");
    let mut console = pooler.console();
    done(&mut console, "PAUSE");
    client.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    console.query("SHUTDOWN WAIT_FOR_SERVERS");
    let failure = client.read_to_end().last().expect("a last word").failure();
    assert_eq!(failure.message(), "server shutting down");
    assert_eq!(pooler.wait(), 0);
}

#[test]
fn while_shutting_down_nothing_is_resumed() {
    let pooler = setup().start();
    let mut busy = begin(&pooler);
    let mut console = RawClient::login(&pooler.socket, "admin", "pgbouncer");
    console.query("SHUTDOWN WAIT_FOR_SERVERS");
    refused(&mut console, "RESUME", "pooler is shutting down");
    refused(&mut console, "PAUSE", "already suspended/paused");
    refused(&mut console, "KILL", "already suspended/paused");
    busy.query("commit");
}

#[test]
fn kill_throws_everybody_out_and_pauses() {
    let pooler = setup().alias("other").start();
    let mut other = RawClient::login(&pooler.address, "app", "other");
    assert_eq!(other.value("select 1"), "1");
    let mut clients: Vec<_> = (0..3).map(|_| begin(&pooler)).collect();
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 1"));
    pooler.expect_waiting(1);
    let mut running = clients.pop().unwrap();
    running.send(&Frontend::new().query("select pg_sleep(60)"));

    let name = pooler.database.clone();
    let mut console = pooler.console();
    done(&mut console, &format!("KILL {name}"));
    for client in clients.iter_mut().chain([&mut waiting, &mut running]) {
        assert_eq!(last_words(client), "database removed");
    }
    let servers = pooler.show("SERVERS");
    assert!(servers.iter().all(|row| row["database"] == "other"));
    assert_eq!(other.value("select 1"), "1");

    assert_eq!(database_row(&pooler)["paused"], "1");
    let mut next = pooler.login();
    next.send(&Frontend::new().query("select 'served'"));
    assert!(next.is_silent_for(WHILE));
    done(&mut console, &format!("RESUME {name}"));
    assert_eq!(next.answer().value(), "served");
}

#[test]
fn kill_of_everything_is_resumed_one_by_one() {
    let pooler = setup().alias("other").start();
    let mut client = begin(&pooler);
    let mut console = pooler.console();
    done(&mut console, "KILL");
    assert_eq!(last_words(&mut client), "database removed");
    // It had no pool.
    let mut other = RawClient::login(&pooler.address, "app", "other");
    assert_eq!(other.value("select 1"), "1");
    refused(&mut console, "RESUME", "pooler is not paused/suspended");
    done(&mut console, &format!("RESUME {}", pooler.database));
    assert_eq!(pooler.login().value("select 1"), "1");
}

#[test]
fn kill_client_throws_out_one() {
    let pooler = setup().start();
    let mut victims: Vec<_> = (0..3)
        .map(|n| pooler.login_with(&[("application_name", &format!("victim {n}"))]))
        .collect();
    victims[1].query("begin");
    let mut console = pooler.console();
    for (n, victim) in victims.iter_mut().enumerate() {
        let clients = pooler.show("CLIENTS");
        let row = clients
            .iter()
            .find(|row| row["application_name"] == format!("victim {n}"))
            .expect("it is listed");
        done(&mut console, &format!("KILL_CLIENT {}", row["id"]));
        assert_eq!(last_words(victim), "admin forced disconnect");
        eventually("it is gone", false, || {
            pooler
                .show("CLIENTS")
                .iter()
                .any(|other| other["id"] == row["id"])
        });
        refused(
            &mut console,
            &format!("KILL_CLIENT {}", row["id"]),
            "client not found",
        );
    }
    refused(
        &mut console,
        "KILL_CLIENT",
        "invalid client pointer supplied",
    );
    refused(
        &mut console,
        "KILL_CLIENT me",
        "invalid client pointer supplied",
    );
    assert_eq!(pooler.login().value("select 1"), "1");

    let mut second = pooler.console();
    let consoles = pooler.show("CLIENTS");
    let ids = consoles.iter().filter(|row| row["database"] == "pgbouncer");
    let newest = ids
        .map(|row| row["id"].parse::<u64>().unwrap())
        .rev()
        .nth(1);
    done(&mut console, &format!("KILL_CLIENT {}", newest.unwrap()));
    assert_eq!(last_words(&mut second), "admin forced disconnect");
}

#[test]
fn reconnect_renews_connections_and_wait_close_waits_for_the_old_ones() {
    let pooler = setup().start();
    let mut busy = begin(&pooler);
    let old = busy.value(PID);
    let mut others: Vec<_> = (0..2).map(|_| begin(&pooler)).collect();
    for other in &mut others {
        other.query("commit");
    }
    let before = pooler.backends();
    let mut console = pooler.console();
    done(&mut console, "RECONNECT");
    // Idle ones go at once, this one when it is released.
    eventually("the idle ones are gone", vec![old.clone()], || {
        pooler.backends()
    });
    let servers = pooler.show("SERVERS");
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0]["close_needed"], "1");
    let mut wait = order(&pooler, "WAIT_CLOSE");
    assert!(wait.is_silent_for(WHILE));
    for other in &mut others {
        assert!(!before.contains(&other.value(PID)));
    }
    assert!(
        wait.is_silent_for(WHILE),
        "new ones are not waited for, the old one is"
    );
    assert_eq!(busy.value(PID), old);
    busy.query("commit");
    assert_eq!(wait.answer().command_tags(), ["WAIT_CLOSE"]);
    assert_ne!(busy.value(PID), old);
    done(&mut console, "WAIT_CLOSE");
}

#[test]
fn reconnect_of_one_database() {
    let pooler = setup().alias("other").start();
    let mut client = pooler.login();
    let mut other = RawClient::login(&pooler.address, "app", "other");
    let (own, others) = (client.value(PID), other.value(PID));
    let mut console = pooler.console();
    done(&mut console, &format!("RECONNECT {}", pooler.database));
    done(&mut console, &format!("WAIT_CLOSE {}", pooler.database));
    assert_ne!(client.value(PID), own);
    assert_eq!(other.value(PID), others);
}

/// Connections that are on their way between workers are renewed as well.
#[test]
fn reconnect_misses_none_while_they_move() {
    let pooler = Setup::new().set("workers", 4).pool_size(1).start();
    let mut console = pooler.console();
    let mut clients: Vec<_> = (0..4).map(|_| pooler.login()).collect();
    for _ in 0..30 {
        for client in &mut clients {
            client.send(&Frontend::new().query(PID).query("select 1"));
        }
        done(&mut console, "RECONNECT");
        done(&mut console, "WAIT_CLOSE");
        let servers = pooler.show("SERVERS");
        assert!(
            servers.iter().all(|row| row["close_needed"] == "0"),
            "{servers:?}"
        );
        for client in &mut clients {
            client.answer();
            client.answer();
        }
    }
}

#[test]
fn disable_lets_nobody_in_and_enable_does() {
    let pooler = setup().start();
    let mut before = pooler.login();
    let name = pooler.database.clone();
    let mut console = pooler.console();
    done(&mut console, &format!("DISABLE {name}"));
    assert_eq!(database_row(&pooler)["disabled"], "1");
    for _ in 0..3 {
        let refused = RawClient::try_login(&pooler.address, "app", &name, None);
        let failure = refused.expect_err("nobody is let in");
        let seen = (failure.severity(), failure.sqlstate(), failure.message());
        let text = format!("database \"{name}\" is disabled");
        assert_eq!(seen, ("FATAL", "08P01", &*text));
    }
    // Who is in stays, and a RELOAD changes nothing.
    assert_eq!(before.value("select 1"), "1");
    done(&mut console, "RELOAD");
    assert!(RawClient::try_login(&pooler.address, "app", &name, None).is_err());
    done(&mut console, &format!("ENABLE {name}"));
    assert_eq!(pooler.login().value("select 1"), "1");
    assert_eq!(database_row(&pooler)["disabled"], "0");
}

#[test]
fn mistakes_have_pgbouncers_words() {
    let pooler = setup().set("stats_users", "app2").start();
    let mut console = pooler.console();
    for command in [
        "PAUSE",
        "RESUME",
        "KILL",
        "RECONNECT",
        "WAIT_CLOSE",
        "DISABLE",
        "ENABLE",
    ] {
        refused(
            &mut console,
            &format!("{command} nowhere"),
            "no such database: nowhere",
        );
    }
    for (command, verb) in [
        ("PAUSE", "pause"),
        ("KILL", "kill"),
        ("RECONNECT", "reconnect"),
        ("WAIT_CLOSE", "wait in"),
        ("DISABLE", "disable"),
        ("ENABLE", "enable"),
    ] {
        let text = format!("cannot {verb} admin db: pgbouncer");
        refused(&mut console, &format!("{command} pgbouncer"), &text);
    }
    refused(&mut console, "DISABLE", "a database is required");
    refused(&mut console, "ENABLE", "a database is required");
    let mut stats = RawClient::login(&pooler.address, "app2", "pgbouncer");
    for command in [
        "PAUSE",
        "RESUME",
        "KILL",
        "KILL_CLIENT",
        "RECONNECT",
        "WAIT_CLOSE",
        "DISABLE",
        "ENABLE",
    ] {
        refused(&mut stats, command, "admin access needed");
    }
}

#[test]
fn routed_databases_are_paused_as_a_whole() {
    let trio = Trio::shared();
    let pooler = replicas::start(trio, trio.setup().set("workers", 3));
    let mut client = pooler.login();
    let mut console = pooler.console();
    done(&mut console, &format!("PAUSE {}", pooler.database));
    let backends = |cluster: &crate::support::Cluster| {
        let mut admin = cluster.admin("postgres");
        admin.value(&format!(
            "select count(*) from pg_stat_activity where datname = '{}' and usename = 'app'",
            pooler.database
        ))
    };
    // Those that ask for roles are gone, too.
    for cluster in [&trio.primary, &trio.replicas[0], &trio.replicas[1]] {
        eventually("no connection is left", "0".to_owned(), || {
            backends(cluster)
        });
    }
    client.send(&Frontend::new().query(replicas::PORT));
    assert!(client.is_silent_for(WHILE));
    for cluster in [&trio.primary, &trio.replicas[0], &trio.replicas[1]] {
        assert_eq!(backends(cluster), "0");
    }
    done(&mut console, &format!("RESUME {}", pooler.database));
    client.answer();
    replicas::ready(trio, &pooler);
    done(&mut console, "RECONNECT");
    done(&mut console, "WAIT_CLOSE");
    replicas::ready(trio, &pooler);
}

#[test]
fn set_holds_until_reload() {
    let pooler = setup().start();
    let mut console = pooler.console();
    let value = |key: &str| {
        let rows = pooler.show("CONFIG");
        let row = rows.iter().find(|row| row["key"] == key);
        row.expect("a setting")["value"].clone()
    };
    let tag = console.query("SET default_pool_size = 1").command_tags();
    assert_eq!(tag, ["SET default_pool_size=1"]);
    assert_eq!(value("default_pool_size"), "1");
    let mut holder = begin(&pooler);
    let mut waiting = pooler.login();
    waiting.send(&Frontend::new().query("select 'served'"));
    assert!(waiting.is_silent_for(WHILE), "the pool has one connection");
    let tag = console
        .query("set query_wait_timeout to '7'")
        .command_tags();
    assert_eq!(tag, ["SET query_wait_timeout=7"]);
    assert_eq!(value("query_wait_timeout"), "7");
    done(&mut console, "RELOAD");
    assert_eq!(waiting.answer().value(), "served");
    assert_eq!(value("default_pool_size"), "3");
    holder.query("commit");

    // What needs a restart stays, without an error, as with PgBouncer.
    let port = value("listen_port");
    let tag = console.query("SET listen_port = 1").command_tags();
    assert_eq!(tag, ["SET listen_port=1"]);
    assert_eq!(value("listen_port"), port);
    for wrong in [
        "SET default_pool_size = many",
        "SET nothing = 1",
        "SET pool_mode = x",
    ] {
        refused(&mut console, wrong, "SET failed");
    }
    assert_eq!(value("default_pool_size"), "3");
}
