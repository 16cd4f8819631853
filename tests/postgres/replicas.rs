//! Reads go to replicas (`route_reads`), everything else to the primary.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use nix::sys::signal::Signal;

use crate::support::{Cluster, Frontend, Pooler, RawClient, Setup, eventually, patiently, secs};

/// Where it runs: the server's port. What tells servers apart is no read that
/// any of them may do; but a function is what its owner says that it is.
pub const PORT: &str = "select port()";
const FUNCTION: &str = "create function port() returns text stable language sql
    return current_setting('port')";

/// A primary and two replicas.
pub struct Trio {
    pub primary: Cluster,
    pub replicas: [Cluster; 2],
}

impl Trio {
    pub fn fresh() -> Trio {
        let primary = Cluster::fresh();
        let replicas = [primary.replica(), primary.replica()];
        Trio { primary, replicas }
    }

    pub fn shared() -> &'static Trio {
        static SHARED: OnceLock<Trio> = OnceLock::new();
        SHARED.get_or_init(Trio::fresh)
    }

    /// Waits until the replicas have what the primary has.
    pub fn catch_up(&self) {
        let now = "select pg_current_wal_insert_lsn()";
        let there = self.primary.admin("postgres").value(now);
        let replayed = format!("select pg_last_wal_replay_lsn() >= '{there}'");
        for replica in &self.replicas {
            let mut admin = replica.admin("postgres");
            eventually("the replica has caught up", "t".to_owned(), || {
                admin.value(&replayed)
            });
        }
    }

    pub fn setup(&self) -> Setup {
        let hosts = [&self.primary, &self.replicas[0], &self.replicas[1]];
        let hosts = hosts.map(|cluster| format!("127.0.0.1:{}", cluster.port));
        // In an ini all hosts of a database have the same port.
        Setup::with(&self.primary)
            .in_toml()
            .for_database("host", &*hosts.join(","))
            .for_database("route_reads", true)
            .set("host_check_period", secs(0.1))
            .set("read_consistency", "eventual")
    }
}

/// A pooler that knows of the database, its tables and all servers.
pub fn start(trio: &Trio, setup: Setup) -> Pooler {
    let pooler = setup.start();
    let mut admin = pooler.admin();
    admin.query("create table t (n int primary key)");
    admin.query("grant all on t to public");
    admin.query(FUNCTION);
    trio.catch_up();
    ready(trio, &pooler);
    pooler
}

/// Waits until reads reach both replicas.
pub fn ready(trio: &Trio, pooler: &Pooler) {
    let mut client = pooler.login();
    for replica in &trio.replicas {
        let port = replica.port.to_string();
        patiently("reads on the replica", || {
            (client.value(PORT) == port).then_some(())
        });
    }
}

/// Waits until reads of this table reach the replicas: what pgweir does not
/// know yet, it takes for no read.
pub fn known(trio: &Trio, pooler: &Pooler, table: &str) {
    trio.catch_up();
    let mut client = pooler.login();
    let read = format!("select port(), count(*) from {table}");
    patiently("reads of the table on a replica", || {
        (client.value(&read) != port(&trio.primary)).then_some(())
    });
}

pub fn port(cluster: &Cluster) -> String {
    cluster.port.to_string()
}

/// On which servers this statement runs, of twenty times.
pub fn places(client: &mut RawClient, sql: &str) -> BTreeSet<String> {
    (0..20).map(|_| client.value(sql)).collect()
}

#[test]
fn reads_are_spread_over_the_replicas_and_writes_go_to_the_primary() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let mut client = pooler.login();
    assert_eq!(
        places(&mut client, PORT),
        trio.replicas.each_ref().map(port).into()
    );
    // A function that the catalog calls volatile may write.
    for sql in [
        "select port(), pg_notify('x', '')",
        "select port() for update",
    ] {
        assert_eq!(places(&mut client, sql), [port(&trio.primary)].into());
    }
    for n in 0..10 {
        client.query(&format!("insert into t values ({n})"));
    }
    assert_eq!(pooler.direct().value("select count(*) from t"), "10");
    // A transaction that may write stays where it can.
    client.query("begin");
    assert_eq!(client.value(PORT), port(&trio.primary));
    client.query("insert into t values (10)");
    assert_eq!(client.value(PORT), port(&trio.primary));
    client.query("commit");
}

/// A value by the extended protocol.
pub fn run(client: &mut RawClient, sql: &str) -> String {
    client
        .exchange(&Frontend::new().run(sql, &[]).sync())
        .value()
}

#[test]
fn prepared_statements_go_where_their_text_may_run() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let (primary, replicas) = (port(&trio.primary), trio.replicas.each_ref().map(port));
    let mut client = pooler.login();
    let parse = Frontend::new()
        .parse("read", PORT)
        .parse("write", "insert into t values ($1) returning port()")
        .sync();
    assert_eq!(client.exchange(&parse).tags(), "11Z");
    let mut places = BTreeSet::new();
    for n in 0..20 {
        let read = Frontend::new().bind("", "read", &[]).execute("", 0).sync();
        places.insert(client.exchange(&read).value());
        let write = Frontend::new().bind("", "write", &[&n.to_string()]);
        assert_eq!(
            client.exchange(&write.execute("", 0).sync()).value(),
            primary
        );
        places.insert(run(&mut client, PORT));
    }
    assert_eq!(places, replicas.into());
    // One of each before the first Sync: one transaction, so one server.
    let both = Frontend::new()
        .run(PORT, &[])
        .run("insert into t values (99)", &[])
        .sync();
    assert_eq!(client.exchange(&both).value(), primary);
    assert_eq!(pooler.direct().value("select count(*) from t"), "21");
}

#[test]
fn a_pipeline_keeps_its_order_over_several_servers() {
    let trio = Trio::shared();
    let setup = trio.setup().set("read_consistency", "session");
    let pooler = start(trio, setup);
    let mut client = pooler.login();
    let mut script = Frontend::new();
    for n in 0..50 {
        script = script
            .run(&format!("insert into t values ({n})"), &[])
            .sync()
            .query("select count(*) from t")
            .run("select count(*) from t", &[])
            .sync();
    }
    client.send(&script);
    for n in 1..=50 {
        assert_eq!(client.answer().tags(), "12CZ");
        for _ in 0..2 {
            assert_eq!(client.answer().value(), n.to_string());
        }
    }
}

#[test]
fn a_transaction_that_only_reads_goes_to_a_replica_as_a_whole() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let replicas: BTreeSet<_> = trio.replicas.each_ref().map(port).into();
    let mut client = pooler.login();
    for begin in [
        "begin read only",
        "start transaction isolation level repeatable read, read only",
    ] {
        client.query(begin);
        let place = client.value(PORT);
        assert!(replicas.contains(&place), "{begin}");
        for _ in 0..5 {
            // Not proved to be a read, but it cannot write here.
            assert_eq!(client.value("select port(), pg_sleep(0)"), place);
            assert_eq!(run(&mut client, PORT), place);
        }
        let refused = client.try_query("insert into t values (1)");
        assert_eq!(refused.error().sqlstate(), "25006");
        client.query("rollback");
    }
    // What follows it in one burst does not.
    let script = Frontend::new()
        .query("begin read only")
        .query(PORT)
        .query("commit")
        .query("insert into t values (1) returning port()");
    client.send(&script);
    client.answer();
    assert!(replicas.contains(&client.answer().value()));
    client.answer();
    assert_eq!(client.answer().value(), port(&trio.primary));
    // Serializable ones no replica takes.
    client.query("begin isolation level serializable, read only");
    assert_eq!(client.value(PORT), port(&trio.primary));
    client.query("rollback");
}

#[test]
fn connections_to_replicas_cannot_write() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    pooler.admin().query(
        "create function read_only() returns text stable language sql
         return port() || current_setting('default_transaction_read_only')",
    );
    trio.catch_up();
    let mut client = pooler.login();
    let expected = trio.replicas.each_ref().map(|replica| port(replica) + "on");
    patiently("both replicas", || {
        (places(&mut client, "select read_only()") == expected.clone().into()).then_some(())
    });
    // But the client is told nothing of that.
    assert_eq!(client.value("show default_transaction_read_only"), "off");
    assert_eq!(client.value("show in_hot_standby"), "off");
}

#[test]
fn hints_and_policies() {
    let trio = Trio::shared();
    let pooler = start(
        trio,
        trio.setup()
            .user("app2", "reads", "primary")
            .user("app3", "reads", "any"),
    );
    let (primary, replicas) = (port(&trio.primary), trio.replicas.each_ref().map(port));
    let mut client = pooler.login();
    let hinted = "/* pgweir: role=primary */ select port()";
    assert_eq!(places(&mut client, hinted), [primary.clone()].into());
    let mut stays = pooler.login_as("app2");
    assert_eq!(places(&mut stays, PORT), [primary.clone()].into());
    let hinted = "/* pgweir: role=replica */ select port()";
    assert_eq!(places(&mut stays, hinted), replicas.clone().into());
    let mut anywhere = pooler.login_as("app3");
    let all: BTreeSet<_> = replicas.into_iter().chain([primary]).collect();
    assert_eq!(places(&mut anywhere, PORT), all);
}

/// How many reads replicas have served, and the primary.
fn reads(pooler: &Pooler) -> (usize, usize) {
    let hosts = pooler.show("HOSTS");
    let of = |primary: bool| {
        let hosts = hosts
            .iter()
            .filter(|row| (row["role"] == "primary") == primary);
        hosts
            .map(|row| row["reads"].parse::<usize>().expect("a number"))
            .sum()
    };
    (of(false), of(true))
}

/// What SHOW HOSTS says of a server.
fn role(pooler: &Pooler, cluster: &Cluster) -> String {
    let hosts = pooler.show("HOSTS");
    let row = hosts.iter().find(|row| row["port"] == port(cluster));
    row.expect("a row")["role"].clone()
}

#[test]
fn a_promotion_is_followed_and_the_former_primary_fenced() {
    let mut trio = Trio::fresh();
    let pooler = start(&trio, trio.setup());
    let mut idle = pooler.login();
    assert_eq!(
        idle.value("insert into t values (1) returning port()"),
        port(&trio.primary)
    );
    trio.catch_up();
    trio.primary.stop(Signal::SIGQUIT);
    let mut waiting = pooler.login();
    let promoted = port(&trio.replicas[0]);
    eventually("the death is known", "down".to_owned(), || {
        role(&pooler, &trio.primary)
    });
    waiting.send(&Frontend::new().query("insert into t values (2) returning port()"));
    trio.replicas[0]
        .admin("postgres")
        .query("select pg_promote()");
    // Who waited goes where it can be served.
    assert_eq!(waiting.answer().value(), promoted);
    // Who has been connected all the time notices nothing.
    assert_eq!(
        idle.value("insert into t values (3) returning port()"),
        promoted
    );
    // The former primary comes back, and would take writes.
    assert!(trio.primary.start());
    let fenced = "fenced".to_owned();
    eventually("the former primary is fenced", fenced, || {
        role(&pooler, &trio.primary)
    });
    assert_eq!(
        idle.value("insert into t values (5) returning port()"),
        promoted
    );
    assert_eq!(
        trio.primary
            .admin(&pooler.database)
            .value("select count(*) from t"),
        "1"
    );
}

#[test]
fn reads_survive_the_death_of_replicas() {
    let mut trio = Trio::fresh();
    let pooler = start(&trio, trio.setup());
    let mut client = pooler.login();
    trio.replicas[1].stop(Signal::SIGQUIT);
    patiently("the other replica serves all", || {
        let only = [port(&trio.replicas[0])].into();
        (places(&mut pooler.login(), PORT) == only).then_some(())
    });
    trio.replicas[0].stop(Signal::SIGQUIT);
    patiently("the primary serves all", || {
        let only = [port(&trio.primary)].into();
        (places(&mut pooler.login(), PORT) == only).then_some(())
    });
    assert_eq!(client.value("select 1"), "1");
    assert!(reads(&pooler).1 > 0);
    assert!(trio.replicas[0].start());
    patiently("the replica serves again", || {
        let only = [port(&trio.replicas[0])].into();
        (places(&mut pooler.login(), PORT) == only).then_some(())
    });
}

#[test]
fn without_a_replica_reads_may_have_to_fail() {
    let mut trio = Trio::fresh();
    let setup = trio.setup().set("reads_without_replica", "fail");
    let pooler = start(&trio, setup);
    for replica in &mut trio.replicas {
        replica.stop(Signal::SIGQUIT);
    }
    let mut client = pooler.login();
    client.query("insert into t values (1)");
    for replica in &trio.replicas {
        eventually("it is down", "down".to_owned(), || role(&pooler, replica));
    }
    assert!(
        client
            .try_query(PORT)
            .error()
            .message()
            .contains("no replica")
    );
    let extended = Frontend::new().run(PORT, &[]).sync();
    assert_eq!(client.exchange(&extended).tags(), "EZ");
    client.query("insert into t values (2)");
}

#[test]
fn who_waits_for_a_replica_is_counted_once() {
    let trio = Trio::fresh();
    let setup = trio.setup().for_database("replica_pool_size", 1);
    let pooler = start(&trio, setup);
    let mut clients: Vec<_> = (0..10).map(|_| pooler.login()).collect();
    for client in &mut clients {
        client.send(&Frontend::new().query("select pg_sleep(0.3)"));
    }
    patiently("all others wait", || {
        let pools = pooler.show("POOLS");
        let own = pools
            .iter()
            .find(|row| row["database"] == pooler.database)?;
        let sum = |column: &str| own[column].parse::<usize>().expect("a number");
        assert!(sum("cl_active") + sum("cl_waiting") <= 11, "{own:?}");
        (sum("cl_waiting") == 8).then_some(())
    });
    for client in &mut clients {
        client.answer();
    }
}

#[test]
fn what_only_reads_on_the_primary_is_no_write() {
    let trio = Trio::fresh();
    let setup = trio.setup().set("read_consistency", "session");
    let pooler = start(&trio, setup);
    for replica in &trio.replicas {
        replica.pause_replay();
    }
    // Of somebody else; the replicas will not replay it.
    pooler.login().query("insert into t values (1)");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let primary = port(&trio.primary);
    let mut reader = pooler.login();
    // A driver that wants to know the columns first.
    let client = &mut reader;
    client.send(&Frontend::new().parse("s", PORT).describe(b'S', "s").flush());
    assert_eq!(client.read_until(b'T').last().map(|m| m.tag), Some(b'T'));
    let answer = client.exchange(&Frontend::new().bind("", "s", &[]).execute("", 0).sync());
    assert_eq!(answer.value(), primary);
    assert_ne!(reader.value(PORT), primary);
    // A transaction that no replica takes.
    reader.query("begin isolation level serializable, read only");
    assert_eq!(reader.value(PORT), primary);
    reader.query("commit");
    assert_ne!(reader.value(PORT), primary);

    // What may write is a write, wherever it stands.
    for writes in [
        &[
            "begin isolation level serializable, read only",
            "do 'begin end'",
            "commit",
        ][..],
        &[
            "begin isolation level serializable, read only",
            "set transaction read write",
            "delete from t",
            "commit",
        ],
    ] {
        let mut writer = pooler.login();
        for sql in writes {
            assert_eq!(writer.query(sql).errors(), []);
        }
        assert_eq!(writer.value(PORT), primary, "{writes:?}");
    }
    let mut writer = pooler.login();
    writer.send(&Frontend::new().parse("s", PORT).flush());
    writer.read_until(b'1');
    let delete = Frontend::new().run("delete from t", &[]).sync();
    assert_eq!(writer.exchange(&delete).errors(), []);
    assert_eq!(writer.value(PORT), primary);
}
