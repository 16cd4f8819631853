//! Which replicas get reads: not those that fail, lag, or are not what they may
//! be; but those that are only slow or busy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::replicas::{PORT, Trio, port, start};
use crate::support::{
    Cluster, Frontend, Pooler, RawClient, Setup, eventually, free_port, patiently, secs,
};

/// What SHOW HOSTS says of a server.
fn host(pooler: &Pooler, cluster: &Cluster) -> BTreeMap<String, String> {
    let mut hosts = pooler.show("HOSTS").into_iter();
    let row = hosts.find(|row| row["port"] == port(cluster));
    row.expect("a row")
}

fn state(pooler: &Pooler, cluster: &Cluster) -> String {
    host(pooler, cluster)["state"].clone()
}

fn becomes(pooler: &Pooler, cluster: &Cluster, expected: &str) {
    eventually("its state", expected.to_owned(), || state(pooler, cluster));
}

/// On which servers reads run, of twenty.
fn places(client: &mut RawClient) -> BTreeSet<String> {
    (0..20).map(|_| client.value(PORT)).collect()
}

fn only(cluster: &Cluster) -> BTreeSet<String> {
    [port(cluster)].into()
}

/// A sample of `/metrics`, found by its name and what its labels contain.
fn metric(stats: u16, name: &str, labels: &[&str]) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", stats)).expect("connect");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics");
    let is_it = |line: &&str| line.starts_with(name) && labels.iter().all(|l| line.contains(l));
    let line = text.lines().find(is_it);
    let line = line.unwrap_or_else(|| panic!("{name} {labels:?} in {text}"));
    let (_, value) = line.rsplit_once(' ').expect("a value");
    value.parse().expect("a number")
}

/// Why statements went to the primary, as `/metrics` has it.
fn kept(stats: u16, reason: &str) -> u64 {
    let labels = ["user=\"app\"", &format!("reason=\"{reason}\"")];
    metric(stats, "pgweir_primary_reads_total", &labels)
}

fn with_metrics(setup: Setup) -> (Setup, u16) {
    let stats = free_port();
    let listen = format!("127.0.0.1:{stats}");
    (setup.set("stats_listen", &*listen), stats)
}

#[test]
fn a_replica_that_hangs_gets_no_reads_until_it_answers() {
    let trio = Trio::fresh();
    let setup = trio.setup().set("host_check_timeout", secs(2.0));
    let (setup, stats) = with_metrics(setup);
    let pooler = start(&trio, setup);
    let [hangs, other] = &trio.replicas;
    hangs.signal_all(Signal::SIGSTOP);
    becomes(&pooler, hangs, "down");
    let row = host(&pooler, hangs);
    assert!(row["reason"].contains("host_check_timeout"), "{row:?}");
    assert_ne!(row["ejected_until"], "");
    assert_eq!(places(&mut pooler.login()), only(other));
    hangs.signal_all(Signal::SIGCONT);
    becomes(&pooler, hangs, "up");
    let row = host(&pooler, hangs);
    assert_eq!((&*row["ejected_until"], &*row["reason"]), ("", ""));
    patiently("reads on it", || {
        places(&mut pooler.login())
            .contains(&port(hangs))
            .then_some(())
    });
    let labels = [&*format!("127.0.0.1:{}", hangs.port)];
    assert_eq!(metric(stats, "pgweir_host_ejections_total", &labels), 1);
    assert!(metric(stats, "pgweir_host_failures_total", &labels) > 0);
    assert!(metric(stats, "pgweir_host_role_changes_total", &labels) > 1);
    assert_eq!(kept(stats, "no_replica"), 0);
}

#[test]
fn a_replica_that_comes_and_goes_stays_out_longer() {
    let trio = Trio::fresh();
    let setup = trio
        .setup()
        .set("host_check_timeout", secs(0.2))
        .set("replica_eject_time", secs(0.3));
    let pooler = start(&trio, setup);
    let hangs = &trio.replicas[0];
    let mut out = Vec::new();
    for _ in 0..4 {
        let since = Instant::now();
        hangs.signal_all(Signal::SIGSTOP);
        becomes(&pooler, hangs, "down");
        assert_ne!(host(&pooler, hangs)["ejected_until"], "");
        hangs.signal_all(Signal::SIGCONT);
        becomes(&pooler, hangs, "up");
        out.push(since.elapsed());
    }
    // At least eight times 0.3 s, less a quarter by chance.
    assert!(out[3] > Duration::from_millis(1800), "{out:?}");
}

#[test]
fn a_replica_that_lets_a_user_in_no_more_gets_none_of_his_reads() {
    let trio = Trio::fresh();
    let (setup, stats) = with_metrics(trio.setup());
    let pooler = start(&trio, setup);
    let [refuses, other] = &trio.replicas;
    refuses.refuse("app2", true);
    let mut client = pooler.login_as("app2");
    // Nobody is told.
    assert_eq!(
        (0..50).map(|_| client.value(PORT)).collect::<BTreeSet<_>>(),
        only(other)
    );
    eventually("it is ejected", "ejected".to_owned(), || {
        state(&pooler, refuses)
    });
    let row = host(&pooler, refuses);
    assert!(row["reason"].contains("user app2: "), "{row:?}");
    // Others are let in, the checks as well.
    let both = trio.replicas.each_ref().map(port).into();
    assert_eq!(places(&mut pooler.login()), both);
    refuses.refuse("app2", false);
    patiently("his reads on it", || {
        (places(&mut client) == both).then_some(())
    });
    assert_eq!(state(&pooler, refuses), "up");
    let labels = [&*format!("127.0.0.1:{}", refuses.port)];
    assert_eq!(metric(stats, "pgweir_host_ejections_total", &labels), 1);
}

#[test]
fn one_users_refusal_is_nothing_to_the_others() {
    let trio = Trio::fresh();
    // The checks are made as the first user who comes, as long as he may.
    let pooler = start(&trio, trio.setup().one_worker());
    let mut client = pooler.login_as("app2");
    client.query("insert into t values (1)");
    for cluster in [&trio.primary, &trio.replicas[0]] {
        cluster.refuse("app", true);
        let checks = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where usename = 'app'";
        assert_ne!(cluster.admin("postgres").value(checks), "0");
    }
    // The checks go on as the second one.
    let checks = "select count(*) from pg_stat_activity
        where application_name = 'pgweir host check' and usename = 'app2'";
    for cluster in [&trio.primary, &trio.replicas[0]] {
        let mut admin = cluster.admin("postgres");
        eventually("it is asked", "1".to_owned(), || admin.value(checks));
        becomes(&pooler, cluster, "up");
    }
    client.query("insert into t values (2)");
    let both = trio.replicas.each_ref().map(port).into();
    patiently("reads on both", || {
        (places(&mut client) == both).then_some(())
    });
}

#[test]
fn a_replica_that_lags_gets_no_reads() {
    let trio = Trio::fresh();
    let [lags, other] = &trio.replicas;
    for (bound, value) in [
        ("replica_max_lag_bytes", 100_000.into()),
        ("replica_max_lag", secs(0.5)),
    ] {
        let (setup, stats) = with_metrics(trio.setup().set(bound, value));
        let pooler = start(&trio, setup);
        let mut client = pooler.login();
        lags.pause_replay();
        let rows = "insert into t select n from generate_series(1, 5000) n";
        client.query(rows);
        becomes(&pooler, lags, "lagging");
        let row = host(&pooler, lags);
        assert_eq!(row["role"], "replica");
        assert!(
            row["lag_bytes"].parse::<u64>().unwrap() > 100_000,
            "{row:?}"
        );
        // For a moment the other lagged too.
        patiently("reads on the other", || {
            (places(&mut client) == only(other)).then_some(())
        });
        // With both, the primary is what is left.
        other.pause_replay();
        client.query("truncate t");
        client.query(rows);
        becomes(&pooler, other, "lagging");
        assert_eq!(places(&mut client), only(&trio.primary), "{bound}");
        patiently("they are counted", || {
            (kept(stats, "lag") >= 20).then_some(())
        });
        for replica in &trio.replicas {
            replica
                .admin("postgres")
                .query("select pg_wal_replay_resume()");
            becomes(&pooler, replica, "up");
        }
        patiently("reads on replicas", || {
            (places(&mut client) == trio.replicas.each_ref().map(port).into()).then_some(())
        });
    }
}

/// A read that takes two seconds, and what it returns.
const SLOW: &str = "select slow()";

fn slow(pooler: &Pooler) {
    pooler.admin().query(
        "create function slow() returns text stable language sql
         as 'select port() from pg_sleep(2)'",
    );
}

/// Six clients that may read slowly on replicas with a connection each.
fn six_for_two(trio: &Trio, host_check_timeout: f64) -> (Pooler, Vec<RawClient>) {
    let setup = trio
        .setup()
        .for_database("replica_pool_size", 1)
        .set("host_check_timeout", secs(host_check_timeout));
    let pooler = start(trio, setup);
    slow(&pooler);
    trio.catch_up();
    let mut clients: Vec<_> = (0..6).map(|_| pooler.login()).collect();
    patiently("the function is known", || {
        let first = clients[0].value(SLOW);
        (first != port(&trio.primary)).then_some(())
    });
    (pooler, clients)
}

#[test]
fn slow_queries_and_full_pools_eject_nobody() {
    let trio = Trio::shared();
    // Three for each of the two connections: the last are served after four
    // seconds.
    let (pooler, mut clients) = six_for_two(trio, 1.5);
    let before = Instant::now();
    for client in &mut clients {
        client.send(&Frontend::new().query(SLOW));
    }
    for client in &mut clients {
        let place = client.answer().value();
        assert_ne!(place, port(&trio.primary));
        for replica in &trio.replicas {
            let row = host(&pooler, replica);
            assert_eq!((&*row["state"], &*row["failures"]), ("up", "0"), "{row:?}");
        }
    }
    assert!(before.elapsed() > Duration::from_secs(4));
}

#[test]
fn a_read_is_counted_where_it_is_served() {
    let trio = Trio::fresh();
    let (pooler, mut clients) = six_for_two(&trio, 0.3);
    let counts = |column: &str| {
        trio.replicas.each_ref().map(|replica| {
            let count = &host(&pooler, replica)[column];
            count.parse::<u64>().expect("a number")
        })
    };
    let [hangs_before, other_before] = counts("reads");
    for client in &mut clients {
        client.send(&Frontend::new().query(SLOW));
    }
    // Two wait at each of them. Those at the first have to go to the other, and so has
    // the one that it does not answer.
    let [hangs, _] = &trio.replicas;
    eventually("reads on it", hangs_before + 1, || counts("reads")[0]);
    hangs.signal_all(Signal::SIGSTOP);
    becomes(&pooler, hangs, "down");
    hangs.signal_all(Signal::SIGCONT);
    for client in &mut clients {
        assert_ne!(client.answer().value(), port(&trio.primary));
    }
    assert_eq!(counts("lost_reads"), [1, 0]);
    let [hangs, other] = counts("reads");
    assert_eq!((hangs - hangs_before, other - other_before), (1, 6));
}

#[test]
fn without_replicas_reads_go_to_the_primary_or_fail_and_are_counted() {
    for decision in ["primary", "fail"] {
        let mut trio = Trio::fresh();
        let setup = trio.setup().set("reads_without_replica", decision);
        let (setup, stats) = with_metrics(setup);
        let pooler = start(&trio, setup);
        for replica in &mut trio.replicas {
            replica.stop(Signal::SIGQUIT);
        }
        for replica in &trio.replicas {
            becomes(&pooler, replica, "down");
        }
        let mut client = pooler.login();
        for _ in 0..7 {
            let answer = client.try_query(PORT);
            match decision {
                "primary" => assert_eq!(answer.value(), port(&trio.primary)),
                _ => assert_eq!(answer.error().sqlstate(), "08006"),
            }
        }
        client.query("insert into t values (1)");
        // The answer to a scrape is kept for a second.
        sleep(Duration::from_secs(1));
        let unserved = metric(stats, "pgweir_unserved_reads_total", &["user=\"app\""]);
        let counts = (kept(stats, "no_replica"), unserved);
        assert_eq!(
            counts,
            if decision == "primary" {
                (7, 0)
            } else {
                (0, 7)
            }
        );
    }
}

#[test]
fn why_the_primary_reads_is_counted() {
    let trio = Trio::fresh();
    let setup = trio
        .setup()
        .set("read_consistency", "session")
        .user("app2", "reads", "primary");
    let (setup, stats) = with_metrics(setup);
    let pooler = start(&trio, setup);
    let mut client = pooler.login();
    let counts = || ["consistency", "hint", "not_proved", "policy"].map(|r| kept(stats, r));
    let before = counts();
    for replica in &trio.replicas {
        replica.pause_replay();
    }
    client.query("insert into t values (1)");
    for (sql, times) in [
        (PORT, 1),
        ("/* pgweir: role=primary */ select port()", 2),
        ("select port(), pg_no_such_function()", 3),
    ] {
        for _ in 0..times {
            client.try_query(sql);
        }
    }
    assert_eq!(pooler.login_as("app2").value(PORT), port(&trio.primary));
    sleep(Duration::from_secs(1));
    let after = counts();
    let more: Vec<_> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(more, [1, 2, 3, 0]);
    let labels = ["user=\"app2\"", "reason=\"policy\""];
    assert_eq!(metric(stats, "pgweir_primary_reads_total", &labels), 1);
}

/// The servers, each with what it may be.
fn with_roles(trio: &Trio, roles: [&str; 3]) -> Setup {
    let [one, two] = &trio.replicas;
    let hosts = [&trio.primary, one, two].into_iter().zip(roles);
    let hosts: Vec<_> = hosts
        .map(|(cluster, role)| format!("127.0.0.1:{}:{role}", cluster.port))
        .collect();
    trio.setup().for_database("host", &*hosts.join(","))
}

#[test]
fn nobody_is_what_it_may_not_be() {
    let trio = Trio::fresh();
    let pooler = start(&trio, with_roles(&trio, ["primary", "replica", "auto"]));
    let [promoted, other] = &trio.replicas;
    let mut client = pooler.login();
    promoted.admin("postgres").query("select pg_promote()");
    becomes(&pooler, promoted, "fenced");
    let row = host(&pooler, promoted);
    assert_eq!(row["reason"], "takes writes, against its `role`");
    assert!(pooler.log().contains("takes writes, against its `role`"));
    // It is no primary, and no replica any more.
    let write = "insert into t values (1) returning port()";
    assert_eq!(client.value(write), port(&trio.primary));
    assert_eq!(places(&mut client), only(other));

    // A replica that is there to become the primary, and serves no reads.
    drop(pooler);
    let pooler = with_roles(&trio, ["auto", "replica", "primary"]).start();
    let mut client = pooler.login();
    becomes(&pooler, other, "fenced");
    let row = host(&pooler, other);
    assert_eq!(row["reason"], "in recovery, against its `role`");
    for _ in 0..5 {
        client.value("select 1");
    }
    assert_eq!(host(&pooler, &trio.primary)["reads"], "5");
    assert_eq!(host(&pooler, other)["reads"], "0");
}
