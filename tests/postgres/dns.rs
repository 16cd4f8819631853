//! Servers that are named, and what becomes of connections when a name changes.
//! The poolers have an /etc/hosts of their own.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Cluster, Frontend, Pooler, RawClient, Setup, eventually, patiently, secs};

/// A server with two addresses.
pub fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::with_settings("listen_addresses = '127.0.0.1,127.0.0.2'\n"))
}

/// An /etc/hosts.
struct Hosts(TempDir);

impl Hosts {
    fn new(addresses: &[&str]) -> Hosts {
        let hosts = Hosts(tempfile::tempdir().expect("directory"));
        hosts.set(addresses);
        hosts
    }

    /// The addresses of `db.test` from now on.
    fn set(&self, addresses: &[&str]) {
        let line = |address: &&str| format!("{address} db.test\n");
        let lines: String = addresses.iter().map(line).collect();
        fs::write(self.0.path().join("hosts"), lines).expect("hosts");
    }

    fn setup(&self) -> Setup {
        Setup::with(cluster())
            .for_database("host", "db.test")
            .hosts(&self.0.path().join("hosts"))
    }
}

/// The addresses of its server connections.
pub fn addresses(pooler: &Pooler) -> Vec<String> {
    let rows = pooler.show("SERVERS").into_iter();
    let mut addresses: Vec<_> = rows.map(|row| row["addr"].clone()).collect();
    addresses.sort();
    addresses
}

/// A client within a transaction.
pub fn holds(pooler: &Pooler) -> RawClient {
    let mut client = pooler.login();
    client.query("begin");
    client
}

#[test]
fn each_address_of_a_name_comes_first_in_turn() {
    let hosts = Hosts::new(&["127.0.0.1", "127.0.0.2"]);
    let pooler = hosts.setup().pool_size(4).start();
    let _clients: Vec<_> = (0..4).map(|_| holds(&pooler)).collect();
    let expected = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"];
    assert_eq!(addresses(&pooler), expected);
    let shown = pooler.show("DNS_HOSTS");
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0]["hostname"], "db.test");
    assert_eq!(shown[0]["addrs"], "127.0.0.1:0,127.0.0.2:0");
    let lists = pooler.show("LISTS").into_iter();
    let names: Vec<_> = lists.filter(|row| row["list"] == "dns_names").collect();
    assert_eq!(names[0]["items"], "1");
}

#[test]
fn an_address_that_does_not_answer_is_passed_over() {
    let hosts = Hosts::new(&["127.0.0.3", "127.0.0.1"]);
    let setup = hosts.setup().pool_size(3);
    let pooler = setup.set("server_login_retry", secs(3600.0)).start();
    let _clients: Vec<_> = (0..3).map(|_| holds(&pooler)).collect();
    assert_eq!(addresses(&pooler), ["127.0.0.1"; 3]);
}

#[test]
fn a_cancel_request_goes_to_the_address_of_its_connection() {
    let hosts = Hosts::new(&["127.0.0.1"]);
    let pooler = hosts.setup().set("dns_max_ttl", secs(0.0)).start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select pg_sleep(60)"));
    let running = "select count(*) from pg_stat_activity where state = 'active'
        and query = 'select pg_sleep(60)'";
    let mut admin = pooler.admin();
    eventually("it runs", "1".to_owned(), || admin.value(running));
    // Nobody is there.
    hosts.set(&["127.0.0.3"]);
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
}

#[test]
fn connections_to_an_address_that_is_gone_end_as_they_are_released() {
    let hosts = Hosts::new(&["127.0.0.1"]);
    let setup = hosts.setup().set("dns_max_ttl", secs(0.3));
    let pooler = setup.pool_size(3).start();
    let mut busy = holds(&pooler);
    let mut other = holds(&pooler);
    other.query("commit");
    assert_eq!(addresses(&pooler), ["127.0.0.1"; 2]);
    hosts.set(&["127.0.0.2"]);
    std::thread::sleep(Duration::from_millis(400));
    // The next connection that is opened finds out.
    let _again = [holds(&pooler), holds(&pooler)];
    eventually("idle ones have gone", true, || {
        addresses(&pooler).contains(&"127.0.0.2".to_owned())
    });
    assert_eq!(busy.query("commit").status(), 'I');
    patiently("the old ones are closed", || {
        let old = addresses(&pooler);
        let used = old.iter().filter(|address| *address == "127.0.0.1");
        // One client had taken the idle connection before.
        (used.count() <= 1).then_some(())
    });
    let log = pooler.log();
    assert!(log.contains("close_needed"), "{log}");
    assert!(log.contains("gone=127.0.0.1"), "{log}");
}

#[test]
fn addresses_are_used_for_their_time() {
    let hosts = Hosts::new(&["127.0.0.1"]);
    let pooler = hosts.setup().set("dns_max_ttl", secs(3600.0)).start();
    let _first = holds(&pooler);
    hosts.set(&["127.0.0.2"]);
    let _second = holds(&pooler);
    assert_eq!(addresses(&pooler), ["127.0.0.1"; 2]);
}

#[test]
fn a_name_that_is_not_known_is_asked_for_again_after_its_time() {
    let hosts = Hosts::new(&[]);
    let setup = hosts.setup().set("dns_nxdomain_ttl", secs(4.0)).in_ini();
    let pooler = setup.set("server_login_retry", secs(0.1)).start();
    let begun = Instant::now();
    let begins_login = || {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", "app"), ("database", &*pooler.database)];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        client
    };
    // The first waits for it.
    let mut first = begins_login();
    let lookups = || pooler.log().matches("DNS lookup failed host=").count();
    eventually("it was looked up", 1, lookups);
    hosts.set(&["127.0.0.1"]);
    // Who comes at the moment of an attempt waits as well.
    let told = patiently("somebody is told", || {
        let mut late = begins_login();
        let told = !late.is_silent_for(Duration::from_millis(200));
        told.then(|| late.read()).filter(|told| told.tag == b'E')
    });
    assert_eq!(
        told.failure().message(),
        "server login has been failing, cached error: server DNS lookup failed \
         (server_login_retry)"
    );
    assert_eq!(lookups(), 1);
    first.finish_login("app", None).expect("login");
    assert!(begun.elapsed() >= Duration::from_millis(3900));
    assert_eq!(first.value("select 1"), "1");
    let log = pooler.log();
    let closing = "closing because: server DNS lookup failed (age=0s)";
    assert!(log.contains(closing), "{log}");
}
