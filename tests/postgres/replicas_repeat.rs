//! A read that a replica does not answer is repeated elsewhere, once, as long
//! as its client has been told nothing.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::replicas::{PORT, Trio, port, start};
use crate::support::{Frontend, Pooler, RawClient, patiently, secs};

/// Reads that replicas have refused, and lost.
fn repeated(pooler: &Pooler) -> (usize, usize) {
    let hosts = pooler.show("HOSTS");
    let sum = |column: &str| {
        let values = hosts.iter().map(|row| row[column].parse::<usize>());
        values.map(|value| value.expect("a number")).sum()
    };
    (sum("refused_reads"), sum("lost_reads"))
}

#[test]
fn what_a_replica_cannot_do_runs_on_the_primary() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let mut admin = pooler.admin();
    admin.query("create sequence s");
    admin.query("grant all on s to public");
    // They lie about what they do.
    for name in ["one", "two", "three"] {
        admin.query(&format!(
            "create function {name}() returns text stable language sql \
             return port() || ' ' || nextval('s')"
        ));
    }
    trio.catch_up();
    let mut client = pooler.login();
    let primary = port(&trio.primary);
    // Until the catalog has been read again they are not known, and no reads.
    patiently("a replica has refused", || {
        assert!(client.value("select one()").starts_with(&primary));
        (repeated(&pooler) == (1, 0)).then_some(())
    });
    // It is remembered.
    client.query("select one()");
    assert_eq!(repeated(&pooler), (1, 0));
    // The same in the extended protocol; each answer comes once.
    let script = Frontend::new()
        .parse("a", "select two()")
        .describe(b'S', "a")
        .bind("", "a", &[])
        .execute("", 0)
        .sync();
    let answer = client.exchange(&script);
    assert_eq!(answer.tags(), "1tT2DCZ");
    assert!(answer.value().starts_with(&primary));
    assert_eq!(repeated(&pooler), (2, 0));
    // The name is still the client's.
    let script = Frontend::new().bind("", "a", &[]).execute("", 0).sync();
    assert_eq!(client.exchange(&script).tags(), "2DCZ");
    // A pipeline goes on behind it.
    let script = Frontend::new()
        .run("select three()", &[])
        .sync()
        .query(PORT);
    client.send(&script);
    assert_eq!(client.answer().tags(), "12DCZ");
    let place = client.answer().value();
    assert_ne!(place, primary);
    assert_eq!(repeated(&pooler), (3, 0));
    // One that nobody can run fails as it does everywhere.
    admin.query("create function wrong() returns int stable language sql return 1 / (select 0)");
    trio.catch_up();
    let error = client.try_query("select wrong()").error();
    assert_eq!(error.sqlstate(), "22012");
    assert_eq!(repeated(&pooler), (3, 0));
}

#[test]
fn what_a_refused_read_has_written_is_read() {
    let trio = Trio::fresh();
    let setup = trio.setup().set("read_consistency", "session");
    let pooler = start(&trio, setup);
    let mut admin = pooler.admin();
    // PostgreSQL forbids a stable function to write, but not what it calls.
    admin.query(
        "create function write() returns int language plpgsql security definer as
         $$ begin insert into t select coalesce(max(n), 0) + 1 from t; return 0; end $$",
    );
    for n in 0..20 {
        admin.query(&format!(
            "create function lie{n}() returns int stable language sql return write()"
        ));
    }
    trio.catch_up();
    let mut client = pooler.login();
    patiently("a replica has refused", || {
        client.query("select lie0()");
        (repeated(&pooler).0 > 0).then_some(())
    });
    let before: usize = client
        .value("select count(*) from t")
        .parse()
        .expect("a number");
    for replica in &trio.replicas {
        replica.pause_replay();
    }
    for n in 1..20 {
        client.query(&format!("select lie{n}()"));
        let count = client.value("select count(*) from t");
        assert_eq!(count, (before + n).to_string());
    }
    for replica in &trio.replicas {
        replica
            .admin("postgres")
            .query("select pg_wal_replay_resume()");
    }
}

#[test]
fn a_read_that_recovery_has_cancelled_runs_on_the_primary() {
    let trio = Trio::fresh();
    for replica in &trio.replicas {
        let mut admin = replica.admin("postgres");
        admin.query("alter system set max_standby_streaming_delay = 0");
        admin.query("select pg_reload_conf()");
    }
    let pooler = start(&trio, trio.setup());
    let mut admin = pooler.admin();
    admin.query("insert into t select generate_series(1, 100)");
    trio.catch_up();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select port(), count(*), pg_sleep(1) from t"));
    patiently("the read runs on a replica", || {
        let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(1)%'
            and pid <> pg_backend_pid()";
        let mut replicas = trio.replicas.iter();
        let found = replicas.any(|replica| replica.admin("postgres").value(running) == "1");
        found.then_some(())
    });
    admin.query("delete from t");
    admin.query("vacuum t");
    let answer = client.answer();
    assert_eq!(answer.tags(), "TDCZ");
    assert_eq!(answer.value(), port(&trio.primary));
    assert_eq!(repeated(&pooler), (1, 0));
}

/// Begins a read that takes a second, and waits until it runs; returns on which
/// replica.
fn begin_slow_read(trio: &Trio, client: &mut RawClient, sql: &str) -> usize {
    client.send(&Frontend::new().query(sql));
    patiently("the read runs on a replica", || {
        let running = format!(
            "select count(*) from pg_stat_activity where state = 'active' and query = '{}'",
            sql.replace('\'', "''")
        );
        let mut replicas = trio.replicas.iter();
        replicas.position(|replica| replica.admin("postgres").value(&running) == "1")
    })
}

#[test]
fn a_read_outlives_its_replica() {
    const SLOW: &str = "select port(), pg_sleep(1)";
    let mut trio = Trio::fresh();
    let pooler = start(&trio, trio.setup());
    let mut client = pooler.login();
    // The connection is ended, which the server tells.
    let place = begin_slow_read(&trio, &mut client, SLOW);
    trio.replicas[place].admin("postgres").query(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(1)%'
         and pid <> pg_backend_pid()",
    );
    let elsewhere = [port(&trio.primary), port(&trio.replicas[1 - place])];
    let answer = client.answer();
    assert_eq!(answer.tags(), "TDCZ");
    assert!(elsewhere.contains(&answer.value()));
    assert_eq!(repeated(&pooler), (0, 1));
    // The whole server crashes.
    let place = begin_slow_read(&trio, &mut client, SLOW);
    trio.replicas[place].stop(Signal::SIGQUIT);
    let answer = client.answer();
    assert_eq!(answer.tags(), "TDCZ");
    assert_ne!(answer.value(), port(&trio.replicas[place]));
    assert_eq!(repeated(&pooler), (0, 2));
}

#[test]
fn rows_that_were_sent_cannot_be_taken_back() {
    let mut trio = Trio::fresh();
    let pooler = start(&trio, trio.setup());
    let mut client = pooler.login();
    let sql = "select repeat('x', 10000), pg_sleep(0.02) from generate_series(1, 500)";
    let place = begin_slow_read(&trio, &mut client, sql);
    assert_eq!(client.read().tag, b'T');
    assert_eq!(client.read().tag, b'D');
    trio.replicas[place].stop(Signal::SIGQUIT);
    // It may have died within a row.
    let (messages, torn) = client.read_torn();
    match torn.first() {
        Some(tag) => assert_eq!(*tag, b'D'),
        None => {
            let end = messages.last().expect("an error");
            assert_eq!(end.failure().severity(), "FATAL");
        }
    }
    assert_eq!(repeated(&pooler), (0, 0));
}

#[test]
fn a_transaction_is_not_repeated() {
    let trio = Trio::fresh();
    let pooler = start(&trio, trio.setup().set("host_check_period", secs(10.0)));
    let mut client = pooler.login();
    client.query("begin read only");
    let sql = "select port(), pg_sleep(1)";
    let place = begin_slow_read(&trio, &mut client, sql);
    let mut admin = trio.replicas[place].admin("postgres");
    std::thread::sleep(Duration::from_millis(100));
    admin.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(1)%'
         and pid <> pg_backend_pid()",
    );
    let end = std::iter::from_fn(|| client.read_or_end()).last();
    assert_eq!(end.expect("an error").failure().sqlstate(), "57P01");
    assert_eq!(repeated(&pooler), (0, 0));
}
