//! Servers that are reached through their Unix socket.

use nix::sys::signal::Signal;

use crate::support::{Address, Cluster, Frontend, Pooler, RawClient, Setup, eventually, patiently};

const OVER_TCP: &str = "select inet_server_addr() is not null";

/// The directory of the server's socket.
fn socket_dir() -> String {
    match Cluster::shared().socket() {
        Address::Unix(dir, _) => dir.display().to_string(),
        Address::Tcp(address) => panic!("{address} is no Unix socket"),
    }
}

fn prefers(dir: &str) -> Setup {
    let setup = Setup::new().one_worker().pool_size(1);
    let setup = setup.set("prefer_unix_socket", true);
    setup.set("unix_socket_dir", dir)
}

/// The `addr` of the only server connection, as the console has it.
fn shown(pooler: &Pooler) -> String {
    let mut rows = pooler.show("SERVERS");
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)["addr"].clone()
}

fn close_server_connections(pooler: &Pooler) {
    pooler.admin().query(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where datname = current_database() and usename = 'app'",
    );
    eventually("they are gone", 0, || pooler.show("SERVERS").len());
}

#[test]
fn a_database_without_host_is_reached_through_unix_socket_dir() {
    let dir = socket_dir();
    let setup = Setup::new().pool_size(1).set("unix_socket_dir", &*dir);
    let pooler = setup.unset_for_database("host").start();
    assert_eq!(pooler.login().value(OVER_TCP), "f");
    assert_eq!(shown(&pooler), "unix");
    // A cancel request takes the same way.
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    // Before the server has begun, a cancel request has nothing to cancel.
    let running = "select count(*) from pg_stat_activity where state = 'active'
        and query = 'select pg_sleep(60)'";
    let mut direct = pooler.direct();
    eventually("it runs", "1".to_owned(), || direct.value(running));
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
}

#[test]
fn a_local_server_is_reached_through_its_socket_if_that_is_preferred() {
    let dir = socket_dir();
    for (host, preferred, over_tcp, addr) in [
        ("127.0.0.1", true, "f", "unix"),
        ("localhost", true, "f", "unix"),
        ("127.0.0.1", false, "t", "127.0.0.1"),
    ] {
        let setup = prefers(&dir).set("prefer_unix_socket", preferred);
        let pooler = setup.for_database("host", host).start();
        assert_eq!(pooler.login().value(OVER_TCP), over_tcp, "{host}");
        assert_eq!(shown(&pooler), addr, "{host}");
        let path = format!("{dir}/.s.PGSQL.{}", Cluster::shared().port);
        assert_eq!(pooler.log().contains(&path), preferred, "{host}");
    }
}

#[test]
fn without_a_socket_it_is_tcp_and_the_log_says_so_once() {
    let dir = tempfile::tempdir().expect("directory");
    let pooler = prefers(&dir.path().display().to_string()).start();
    for _ in 0..2 {
        assert_eq!(pooler.login().value(OVER_TCP), "t");
        assert_eq!(shown(&pooler), "127.0.0.1");
        close_server_connections(&pooler);
    }
    let log = pooler.log();
    assert_eq!(log.matches("in spite of prefer_unix_socket").count(), 1);
}

#[test]
fn where_tls_is_demanded_no_socket_is_preferred() {
    let setup = prefers(&socket_dir()).set("server_tls_sslmode", "require");
    let pooler = setup.start();
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", &*pooler.database)];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    // This server has no TLS; at its socket nobody would have asked for it.
    patiently("refused", || {
        pooler.log().contains("server refused SSL").then_some(())
    });
    assert_eq!(pooler.backends().len(), 0);
}

#[test]
fn a_reload_changes_the_way() {
    let mut pooler = prefers(&socket_dir()).start();
    let mut client = pooler.login();
    for (preferred, over_tcp) in [(false, "t"), (true, "f")] {
        pooler.rewrite(|setup| setup.set("prefer_unix_socket", preferred));
        pooler.signal(Signal::SIGHUP);
        eventually("the other way", over_tcp.to_owned(), || {
            client.value(OVER_TCP)
        });
    }
}
