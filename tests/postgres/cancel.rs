//! A cancel request reaches the query of the client that owns the key, and
//! never another's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Address, Frontend, Pooler, RawClient, Setup, eventually};

/// Waits until so many server connections of the test run pg_sleep.
#[track_caller]
fn expect_sleeping(pooler: &Pooler, count: usize) {
    let sql = "select count(*) from pg_stat_activity \
               where datname = current_database() and wait_event = 'PgSleep'";
    eventually("sleeping queries", count.to_string(), || {
        pooler.admin().value(sql)
    });
}

#[test]
fn reaches_its_own_query() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    let script = Frontend::new().run("select pg_sleep(600)", &[]).sync();
    for request in [Frontend::new().query("select pg_sleep(600)"), script] {
        client.send(&request);
        expect_sleeping(&pooler, 1);
        client.cancel();
        let error = client.answer().error();
        assert_eq!(error.sqlstate(), "57014");
        assert_eq!(error.severity(), "ERROR");
        assert_eq!(client.value("select 1"), "1");
    }
    assert_eq!(pooler.backends().len(), 1, "the server connection lives on");
}

#[test]
fn within_a_transaction() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.query("begin");
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    expect_sleeping(&pooler, 1);
    client.cancel();
    let answer = client.answer();
    assert_eq!(answer.error().sqlstate(), "57014");
    assert_eq!(answer.status(), 'E');
    client.query("rollback");
}

#[test]
fn over_another_socket_than_the_query() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    expect_sleeping(&pooler, 1);
    RawClient::cancel_key(&pooler.socket, &client.key);
    assert_eq!(client.answer().error().sqlstate(), "57014");
}

#[test]
fn with_the_longer_key_of_protocol_3_2() {
    let pooler = Setup::new().start();
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 2), &parameters));
    client.finish_login("app", None).expect("login");
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    expect_sleeping(&pooler, 1);
    // A part of the key is not the key.
    RawClient::cancel_key(&pooler.address, &client.key[..client.key.len() - 1]);
    assert!(client.is_silent_for(Duration::from_millis(100)));
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
}

#[test]
fn of_an_idle_client_hits_nobody() {
    let pooler = Setup::new().pool_size(1).start();
    let mut idle = pooler.login();
    let backend = idle.value("select pid from pg_backend_pid() as pid");
    let mut busy = pooler.login();
    busy.send(&Frontend::new().query("select pg_backend_pid() from pg_sleep(3)"));
    expect_sleeping(&pooler, 1);
    for _ in 0..20 {
        idle.cancel();
    }
    assert_eq!(
        busy.answer().value(),
        backend,
        "undisturbed on the same connection"
    );
    assert_eq!(idle.value("select 1"), "1");
}

#[test]
fn of_a_waiting_client_ends_its_waiting() {
    let pooler = Setup::new().pool_size(1).start();
    let mut holder = pooler.login();
    holder.query("begin");
    let mut waiting = pooler.login();
    let extended = Frontend::new().run("select 1", &[]).sync();
    let pipeline = extended.clone().query("select 'behind'");
    for (script, answers) in [
        (Frontend::new().query("select 1"), 1),
        (extended, 1),
        (pipeline, 2),
    ] {
        waiting.send(&script);
        pooler.expect_waiting(1);
        waiting.cancel();
        let answer = waiting.answer();
        assert_eq!(answer.tags(), "EZ");
        assert_eq!(answer.error().sqlstate(), "57014");
        // The holder's transaction has not noticed, and its connection is next.
        assert_eq!(holder.query("select 1").status(), 'T');
        holder.query("commit");
        if answers == 2 {
            assert_eq!(waiting.answer().value(), "behind");
        }
        assert_eq!(waiting.value("select 2"), "2");
        holder.query("begin");
    }
}

#[test]
fn of_a_waiting_client_many_times() {
    let pooler = Setup::new().pool_size(1).start();
    let mut holder = pooler.login();
    let mut waiting = pooler.login();
    for round in 0..200 {
        holder.query("begin");
        let tag = round.to_string();
        waiting.send(&Frontend::new().run("select $1", &[&tag]).sync());
        for _ in 0..round % 3 {
            waiting.cancel();
        }
        holder.query("commit");
        let answer = waiting.answer();
        match answer.errors().first() {
            None => assert_eq!(answer.value(), tag),
            Some(error) => assert_eq!(error.sqlstate(), "57014"),
        }
        assert_eq!(waiting.value("select 2"), "2");
    }
}

#[test]
fn with_a_wrong_key_does_nothing() {
    let pooler = Setup::new().start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select 'whole' from pg_sleep(3)"));
    expect_sleeping(&pooler, 1);
    let right = client.key.clone();
    for at in 0..right.len() {
        let mut wrong = right.clone();
        wrong[at] ^= 1;
        RawClient::cancel_key(&pooler.address, &wrong);
    }
    for wrong in [[0; 8].as_slice(), &[0xff; 8], &[1; 12], &[7; 200]] {
        RawClient::cancel_key(&pooler.address, wrong);
    }
    assert_eq!(client.answer().value(), "whole");
}

#[test]
fn keys_are_the_poolers_own_and_differ() {
    let pooler = Setup::new().start();
    let clients: Vec<_> = (0..50).map(|_| pooler.login()).collect();
    let mut keys: Vec<_> = clients.iter().map(|client| client.key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
}

/// Clients that share three server connections run short queries while half
/// of them are cancelled all the time; the other half must never be.
#[test]
fn never_reaches_another_client_under_load() {
    let pooler = Setup::new().pool_size(3).start();
    let stop = AtomicBool::new(false);
    let cancelled = AtomicUsize::new(0);
    let clients: Vec<_> = (0..12).map(|_| pooler.login()).collect();
    let targets: Vec<Vec<u8>> = clients.iter().step_by(2).map(|c| c.key.clone()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| {
                let cancelled = &cancelled;
                scope.spawn(move || work(client, number, number % 2 == 0, cancelled))
            })
            .collect();
        for seed in 0..2 {
            let (targets, stop, address) = (&targets, &stop, &pooler.address);
            scope.spawn(move || cancel_at_random(address, targets, seed, stop));
        }
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "see the panics above");
    });
    // Otherwise nothing has been shown.
    let cancelled = cancelled.load(Ordering::Relaxed);
    assert!(cancelled >= 10, "only {cancelled} queries were cancelled");
}

fn work(mut client: RawClient, number: usize, targeted: bool, cancelled: &AtomicUsize) {
    let mut random = StdRng::seed_from_u64(number as u64);
    for step in 0..150 {
        let tag = format!("{number}/{step}");
        let sleep = f64::from(random.random_range(0..12_u32)) / 1000.0;
        let sql = format!("select '{tag}' from pg_sleep({sleep})");
        let answer = if random.random_bool(0.5) {
            client.try_query(&sql)
        } else {
            client.exchange(&Frontend::new().run(&sql, &[]).sync())
        };
        match answer.errors().first() {
            None => assert_eq!(answer.value(), tag),
            Some(error) => {
                assert_eq!(error.sqlstate(), "57014", "{error:?}");
                assert!(targeted, "client {number} was cancelled by another's key");
                cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn cancel_at_random(address: &Address, targets: &[Vec<u8>], seed: u64, stop: &AtomicBool) {
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let key = &targets[random.random_range(0..targets.len())];
        RawClient::cancel_key(address, key);
    }
}
