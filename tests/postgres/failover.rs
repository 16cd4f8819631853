//! Servers die, hang and are cut off while clients write and read: nobody fails
//! who had no transaction open there, no acknowledged write is lost, and no
//! answer is wrong.

mod load;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use self::load::{Account, settle, under_load};
use super::replicas::{Trio, known, port, ready, start};
use crate::support::{Cluster, Pooler, Relay, Setup, eventually, patiently, secs};

/// Server connections to each host, and so how many transactions can be open.
const POOL: usize = 3;
/// How many reads may fail with the replica that they run on: each is repeated.
const READS_LOST_WITH_A_REPLICA: usize = 0;
const CHECK_PERIOD: Duration = Duration::from_millis(100);
/// Within the check period and a second, on a machine with nothing else to do.
const TO_RECOVER: Duration = Duration::from_secs(5);

/// A table for the load, known to be read.
fn begin(trio: &Trio, setup: Setup) -> Pooler {
    let setup = setup
        .pool_size(POOL as i32)
        .set("read_consistency", "session")
        .set("host_check_period", secs(CHECK_PERIOD.as_secs_f64()))
        .set("host_check_timeout", secs(0.5))
        .set("server_connect_timeout", secs(1.0));
    let pooler = start(trio, setup);
    let mut admin = pooler.admin();
    admin.query("create table log (id int, n int)");
    admin.query("create index on log (id, n)");
    admin.query("grant all on log to public");
    known(trio, &pooler, "log");
    pooler
}

/// A write is acknowledged when both replicas have it.
fn replicate_synchronously(primary: &Cluster) {
    let mut admin = primary.admin("postgres");
    admin.query("alter system set synchronous_standby_names = '2 (walreceiver)'");
    admin.query("alter system set synchronous_commit = on");
    admin.query("select pg_reload_conf()");
    let count = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    eventually("two that are waited for", "2".to_owned(), || {
        admin.value(count)
    });
}

/// The other way round, or nobody could drop the test's database.
fn replicate_asynchronously(primary: &Cluster) {
    let mut admin = primary.admin("postgres");
    admin.query("alter system reset synchronous_standby_names");
    admin.query("select pg_reload_conf()");
}

fn crash(cluster: &mut Cluster) {
    cluster.signal_all(Signal::SIGKILL);
    cluster.stop(Signal::SIGKILL);
}

/// What SHOW HOSTS says of the server at this port.
fn role(pooler: &Pooler, port: u16) -> String {
    let hosts = pooler.show("HOSTS");
    let row = hosts.iter().find(|row| row["port"] == port.to_string());
    row.expect("a row")["role"].clone()
}

#[track_caller]
fn becomes(pooler: &Pooler, port: u16, expected: &str) {
    eventually("role", expected.to_owned(), || role(pooler, port));
}

/// The place of the replica that lacks least, first, and of the other.
fn furthest(trio: &Trio) -> (usize, usize) {
    let received = |place: usize| -> u64 {
        let lsn = "select pg_last_wal_receive_lsn() - '0/0'";
        let lsn = trio.replicas[place].admin("postgres").value(lsn);
        lsn.parse().expect("a number")
    };
    match received(0) >= received(1) {
        true => (0, 1),
        false => (1, 0),
    }
}

/// Promotes a replica; returns when that began and ended.
fn promote(cluster: &Cluster) -> (Instant, Instant) {
    let begin = Instant::now();
    assert_eq!(cluster.admin("postgres").value("select pg_promote()"), "t");
    (begin, Instant::now())
}

/// Writes came through soon after the promotion.
fn recovered(what: &str, accounts: &[Account], (begin, end): (Instant, Instant)) {
    let writes = accounts.iter().flat_map(|account| &account.acknowledged);
    let after = writes.map(|(_, at)| *at).filter(|at| *at > begin).min();
    let took = after.expect("a write").saturating_duration_since(end);
    eprintln!("{what}: the first write {took:?} after the promotion");
    assert!(took < TO_RECOVER, "{took:?}");
}

#[test]
fn a_replica_is_killed() {
    let mut trio = Trio::fresh();
    let pooler = begin(&trio, trio.setup());
    let accounts = under_load("a replica is killed", &pooler, |load| {
        crash(&mut trio.replicas[1]);
        becomes(&pooler, trio.replicas[1].port, "down");
        load.everybody_goes_on();
        assert!(trio.replicas[1].start());
        ready(&trio, &pooler);
    });
    let lost = (0, READS_LOST_WITH_A_REPLICA);
    settle(&trio.primary, &pooler, &accounts, lost);
}

#[test]
fn the_primary_is_killed_and_a_replica_promoted() {
    const WHAT: &str = "the primary is killed";
    let mut trio = Trio::fresh();
    let pooler = begin(&trio, trio.setup());
    replicate_synchronously(&trio.primary);
    let (mut heir, mut other, mut promotion) = (0, 1, None);
    let accounts = under_load(WHAT, &pooler, |load| {
        crash(&mut trio.primary);
        becomes(&pooler, trio.primary.port, "down");
        // Nobody fails for want of a primary.
        std::thread::sleep(Duration::from_millis(500));
        (heir, other) = furthest(&trio);
        promotion = Some(promote(&trio.replicas[heir]));
        load.everybody_goes_on();
        // The other replica serves again when it follows.
        becomes(&pooler, trio.replicas[other].port, "fenced");
        let left = &trio.replicas[other];
        left.stand_by(&trio.replicas[heir]);
        left.admin("postgres").query("select pg_reload_conf()");
        let place = port(&trio.replicas[other]);
        let mut reader = pooler.login();
        patiently("reads on the replica that is left", || {
            (reader.value("select port()") == place).then_some(())
        });
        // The former primary comes back, and would take writes.
        patiently("the former primary starts", || {
            trio.primary.start().then_some(())
        });
        becomes(&pooler, trio.primary.port, "fenced");
        let count = || {
            let mut admin = trio.primary.admin(&pooler.database);
            admin.value("select count(*) from log")
        };
        let before = count();
        load.everybody_goes_on();
        assert_eq!(count(), before);
    });
    recovered(WHAT, &accounts, promotion.expect("a promotion"));
    settle(&trio.replicas[heir], &pooler, &accounts, (POOL, 0));
    replicate_asynchronously(&trio.primary);
}

/// Stopped in order, made a replica of its heir, and started again.
#[test]
fn the_primary_and_a_replica_change_places() {
    const WHAT: &str = "the primary and a replica change places";
    let mut trio = Trio::fresh();
    let pooler = begin(&trio, trio.setup());
    let mut promotion = None;
    let accounts = under_load(WHAT, &pooler, |load| {
        // It does not end before the replicas have everything.
        trio.primary.stop(Signal::SIGINT);
        promotion = Some(promote(&trio.replicas[0]));
        load.everybody_goes_on();
        trio.primary.stand_by(&trio.replicas[0]);
        assert!(trio.primary.start());
        becomes(&pooler, trio.primary.port, "replica");
        let place = port(&trio.primary);
        let mut reader = pooler.login();
        patiently("reads on the former primary", || {
            (reader.value("select port()") == place).then_some(())
        });
    });
    recovered(WHAT, &accounts, promotion.expect("a promotion"));
    settle(&trio.replicas[0], &pooler, &accounts, (POOL, 0));
}

/// A replica answers nothing for some time, and then everything.
fn stalls(what: &str, pooler: &Pooler, trio: &Trio, port: u16, mut stall: impl FnMut(bool)) {
    let accounts = under_load(what, pooler, |load| {
        stall(true);
        becomes(pooler, port, "down");
        // What had been asked there was asked again elsewhere.
        assert_eq!(load.stuck(), 0);
        stall(false);
        becomes(pooler, port, "replica");
        load.everybody_goes_on();
        ready(trio, pooler);
    });
    settle(&trio.primary, pooler, &accounts, (0, 0));
}

#[test]
fn a_replica_hangs() {
    let trio = Trio::fresh();
    let pooler = begin(&trio, trio.setup());
    let replica = &trio.replicas[1];
    stalls("a replica hangs", &pooler, &trio, replica.port, |on| {
        replica.signal_all(match on {
            true => Signal::SIGSTOP,
            false => Signal::SIGCONT,
        });
    });
}

/// The servers, with this relay in place of one of them.
fn behind(trio: &Trio, relay: &Relay, hidden: &Cluster) -> Setup {
    let [one, two] = &trio.replicas;
    let ports = [&trio.primary, one, two].map(|cluster| match cluster.port == hidden.port {
        true => relay.port,
        false => cluster.port,
    });
    let hosts = ports.map(|port| format!("127.0.0.1:{port}"));
    trio.setup().for_database("host", &*hosts.join(","))
}

#[test]
fn a_replica_is_cut_off() {
    let trio = Trio::fresh();
    let mut relay = Relay::to(trio.replicas[1].port);
    let pooler = begin(&trio, behind(&trio, &relay, &trio.replicas[1]));
    let port = relay.port;
    stalls(
        "a replica is cut off",
        &pooler,
        &trio,
        port,
        |on| match on {
            true => relay.cut(),
            false => relay.mend(),
        },
    );
}

#[test]
fn the_primary_is_cut_off_and_a_replica_promoted() {
    const WHAT: &str = "the primary is cut off";
    let trio = Trio::fresh();
    let mut relay = Relay::to(trio.primary.port);
    let pooler = begin(&trio, behind(&trio, &relay, &trio.primary));
    replicate_synchronously(&trio.primary);
    let (mut heir, mut promotion) = (0, None);
    let accounts = under_load(WHAT, &pooler, |load| {
        relay.cut();
        becomes(&pooler, relay.port, "down");
        (heir, _) = furthest(&trio);
        promotion = Some(promote(&trio.replicas[heir]));
        load.everybody_goes_on();
        // What was under way reaches the former primary after all.
        relay.mend();
        becomes(&pooler, relay.port, "fenced");
        load.everybody_goes_on();
    });
    recovered(WHAT, &accounts, promotion.expect("a promotion"));
    settle(&trio.replicas[heir], &pooler, &accounts, (POOL, 0));
    replicate_asynchronously(&trio.primary);
}

#[test]
fn of_two_primaries_only_the_one_promoted_last_is_written_to() {
    let trio = Trio::fresh();
    let first = start(&trio, trio.setup());
    promote(&trio.replicas[1]);
    let promoted = port(&trio.replicas[1]);
    // Whoever starts now finds both, and knows nothing of what was before.
    let mut poolers = Vec::new();
    for n in 0..5 {
        let pooler = first.setup.clone().start();
        let insert = format!("insert into t values ({n}) returning port()");
        assert_eq!(pooler.login().value(&insert), promoted);
        poolers.push(pooler);
    }
}
