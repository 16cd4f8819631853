//! What the pooler's threads do, and what they leave alone.

use std::fs;
use std::time::Duration;

use crate::support::{Failure, Pooler, RawClient, Setup, eventually, secs};

/// A thread's name and a number of it, for each thread of the pooler.
fn threads<T>(pooler: &Pooler, number: impl Fn(&str) -> Option<T>) -> Vec<(String, T)> {
    let tasks = format!("/proc/{}/task", pooler.id());
    let tasks = fs::read_dir(tasks).expect("tasks");
    let numbers = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        Some((name.trim().to_owned(), number(path.to_str()?)?))
    });
    numbers.collect()
}

/// How often threads have gone to sleep by themselves: as often as they woke.
fn wakeups(pooler: &Pooler) -> u64 {
    let count = |task: &str| {
        let status = fs::read_to_string(format!("{task}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let counts = threads(pooler, count);
    counts.into_iter().map(|(_, count)| count).sum()
}

/// CPU time of the threads whose names begin like this, in ticks (proc(5)).
fn cpu(pooler: &Pooler, name: &str) -> u64 {
    let ticks = |task: &str| {
        let stat = fs::read_to_string(format!("{task}/stat")).ok()?;
        // Behind the name, which is in brackets: utime and stime.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    let all = threads(pooler, ticks).into_iter();
    let named = all.filter(|(thread, _)| thread.starts_with(name));
    named.map(|(_, ticks)| ticks).sum()
}

#[test]
fn pools_that_nobody_uses_cost_nothing() {
    let names: Vec<String> = (0..100).map(|number| format!("unused{number}")).collect();
    let setup = Setup::new().pool_size(1).set("stats_period", secs(3600.0));
    let setup = names.iter().fold(setup, |setup, name| setup.alias(name));
    let pooler = setup.start();
    let login = |name: &String| RawClient::login(&pooler.address, "app", name);
    let mut clients: Vec<_> = names.iter().map(login).collect();
    for client in &mut clients {
        client.query("select 1");
    }
    // Some stay, the others leave.
    clients.truncate(20);
    eventually("others have left", 21, || pooler.show("CLIENTS").len());
    assert_eq!(pooler.show("SERVERS").len(), 100);
    std::thread::sleep(Duration::from_millis(300));

    let before = wakeups(&pooler);
    std::thread::sleep(Duration::from_secs(4));
    let idle = wakeups(&pooler) - before;
    assert!(idle < 8, "{idle} wake-ups in 4 seconds");

    // What is counted is what work costs.
    for _ in 0..5 {
        for client in &mut clients {
            client.query("select 1");
        }
    }
    let busy = wakeups(&pooler) - before;
    assert!(busy > 100, "{busy} wake-ups for 100 queries");
}

#[test]
fn passwords_are_hashed_beside_the_workers() {
    // A verifier that takes long and that no password fits.
    let key = "A".repeat(43) + "=";
    let verifier = format!("SCRAM-SHA-256$30000:c2FsdHNhbHRzYWx0c2FsdA==${key}:{key}");
    let setup = Setup::new().set("auth_type", "plain");
    let pooler = setup.user("app2", "password", &*verifier).start();
    let login = |user, password: &str| -> Result<RawClient, Failure> {
        RawClient::try_login(&pooler.address, user, &pooler.database, Some(password))
    };
    // Its own password needs no hashing. One client on each worker.
    let mut clients: Vec<_> = (0..2)
        .map(|_| login("app", "secret of app").expect("login"))
        .collect();
    let before = (cpu(&pooler, "hashing-"), cpu(&pooler, "worker-"));
    let (mut answered, mut meanwhile) = (0, (0, 0));
    std::thread::scope(|scope| {
        let wrong = |number: u32| {
            let failure = login("app2", &format!("wrong {number}")).expect_err("wrong");
            assert_eq!(failure.sqlstate(), pooler.sqlstate("28P01"));
        };
        let logins: Vec<_> = (0..20)
            .map(|number| scope.spawn(move || wrong(number)))
            .collect();
        while !logins.iter().all(|login| login.is_finished()) {
            for client in &mut clients {
                assert_eq!(client.value("select 1"), "1");
                answered += 1;
            }
            meanwhile = (cpu(&pooler, "hashing-"), cpu(&pooler, "worker-"));
        }
    });
    let hashing = meanwhile.0 - before.0;
    let working = meanwhile.1 - before.1;
    // The queries have their cost, too.
    let queries_alone = {
        let before = cpu(&pooler, "worker-");
        for _ in 0..answered / 2 {
            for client in &mut clients {
                client.query("select 1");
            }
        }
        cpu(&pooler, "worker-") - before
    };
    assert!(hashing >= 8, "{hashing} ticks for 20 passwords");
    assert!(
        working < 2 * queries_alone + hashing / 4 + 2,
        "workers {working} ticks, hashing threads {hashing}, queries alone {queries_alone}"
    );
    // If a password held up its worker, there would be a query or two for each.
    assert!(
        answered > 100,
        "{answered} queries while 20 passwords were hashed"
    );
}
