//! Servers restart, die and are replaced while clients listen: nobody goes on in the
//! belief that it hears everything.

use nix::sys::signal::Signal;

use super::replicas::Trio;
use crate::stats_port::metrics;
use crate::support::{
    Cluster, Message, Pooler, RawClient, Setup, eventually, free_port, patiently, secs,
};

/// It is ended as by a server that goes down, before anything else is sent to it.
#[track_caller]
fn is_told(client: &mut RawClient) {
    let error = client.read().failure();
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "57P01"));
    assert!(client.read_or_end().is_none());
}

/// What it is told, but for what the server says of itself.
fn next(client: &mut RawClient) -> Message {
    let mut messages = std::iter::repeat_with(|| client.read());
    messages.find(|m| !b"NS".contains(&m.tag)).unwrap()
}

/// Whoever comes now hears what is sent at the server.
fn is_heard_again(pooler: &Pooler, server: &Cluster) {
    let login = || RawClient::try_login(&pooler.address, "app", &pooler.database, None).ok();
    let mut client = patiently("a login", login);
    client.query("listen news");
    let database = client.value("select current_database()");
    server.admin(&database).query("notify news, 'after'");
    let told = next(&mut client);
    assert!(told.body.ends_with(b"news\0after\0"), "{told:?}");
}

#[test]
fn a_restart_is_told() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let mut cluster = Cluster::fresh();
        let setup = Setup::with(&cluster).set("server_login_retry", secs(0.2));
        let pooler = setup.start();
        let (mut idle, mut busy) = (pooler.login(), pooler.login());
        idle.query("listen news");
        busy.query("listen news");
        busy.query("begin");
        cluster.stop(signal);
        is_told(&mut idle);
        assert_eq!(next(&mut busy).tag, b'E');
        assert!(cluster.start());
        is_heard_again(&pooler, &cluster);
    }
}

#[test]
fn a_promotion_is_told() {
    let mut trio = Trio::fresh();
    let setup = trio.setup().set("server_connect_timeout", secs(1.0));
    let pooler = setup.set("server_login_retry", secs(0.2)).start();
    let mut client = pooler.login();
    client.query("listen news");
    trio.catch_up();
    trio.primary.signal_all(Signal::SIGKILL);
    trio.primary.stop(Signal::SIGKILL);
    is_told(&mut client);
    let heir = &trio.replicas[0];
    assert_eq!(heir.admin("postgres").value("select pg_promote()"), "t");
    is_heard_again(&pooler, heir);
}

/// The old server goes on as if nothing had happened.
#[test]
fn a_database_that_moves_is_told() {
    let cluster = Cluster::fresh();
    let heir = cluster.replica();
    let host = |cluster: &Cluster| format!("127.0.0.1:{}", cluster.port);
    let setup = Setup::with(&cluster)
        .in_toml()
        .for_database("host", &*host(&cluster));
    let mut pooler = setup.start();
    let mut client = pooler.login();
    client.query("listen news");
    let position = cluster
        .admin("postgres")
        .value("select pg_current_wal_insert_lsn()");
    let mut admin = heir.admin("postgres");
    let replayed = format!("select pg_last_wal_replay_lsn() >= '{position}'");
    eventually("the replica has caught up", "t".to_owned(), || {
        admin.value(&replayed)
    });
    assert_eq!(admin.value("select pg_promote()"), "t");
    pooler.rewrite(|setup| setup.for_database("host", &*host(&heir)));
    pooler.console().query("reload");
    is_told(&mut client);
    is_heard_again(&pooler, &heir);
}

#[test]
fn listeners_are_shown() {
    let stats = free_port();
    let setup = Setup::new().set("stats_listen", &*format!("127.0.0.1:{stats}"));
    let pooler = setup.start();
    let (mut client, mut other) = (pooler.login(), pooler.login());
    client.query("listen a; listen b");
    other.query("select 1");
    let channels = || {
        let clients = pooler.show("CLIENTS").into_iter();
        let mut all: Vec<_> = clients
            .filter(|row| row["user"] == "app")
            .map(|row| row["channels"].clone())
            .collect();
        all.sort();
        all
    };
    assert_eq!(channels(), ["0", "2"]);
    let listening = || {
        let servers = pooler.show("SERVERS").into_iter();
        servers
            .filter(|row| row["state"] == "listening")
            .collect::<Vec<_>>()
    };
    let [ear] = <[_; 1]>::try_from(listening()).expect("one");
    assert_eq!(
        (&*ear["user"], &*ear["application_name"]),
        ("app", "pgweir listener")
    );
    let pid = "select pid from pg_stat_activity where application_name = 'pgweir listener' \
               and datname = current_database()";
    assert_eq!(ear["remote_pid"], pooler.admin().value(pid));
    let used = pooler
        .show("LISTS")
        .into_iter()
        .find(|row| row["list"] == "used_servers");
    assert_eq!(
        used.expect("a row")["items"],
        pooler.show("SERVERS").len().to_string()
    );
    let text = metrics(stats);
    assert!(
        text.contains("\npgweir_listening_clients{")
            && text.contains("\npgweir_listening_servers{")
    );
    // Its server is asked to end it.
    pooler.admin().query(&format!(
        "select pg_terminate_backend({})",
        ear["remote_pid"]
    ));
    is_told(&mut client);
    eventually("listening", 0, || listening().len());
    assert_eq!(other.value("select 1"), "1");
}
