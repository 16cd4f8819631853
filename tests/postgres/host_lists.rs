//! Databases with several hosts, without routing.

use std::collections::BTreeMap;

use crate::dns::{addresses, cluster, holds};
use crate::support::{Pooler, Setup, secs};

/// As a pgbouncer.ini has them; nobody listens on 127.0.0.3.
fn start(hosts: &str, balance: Option<&str>) -> Pooler {
    let setup = Setup::with(cluster()).in_ini().one_worker().pool_size(4);
    let setup = setup.for_database("host", hosts);
    let setup = setup.set("server_login_retry", secs(3600.0));
    match balance {
        Some(word) => setup.for_database("load_balance_hosts", word).start(),
        None => setup.start(),
    }
}

/// The row of the test's own database.
fn row(pooler: &Pooler, what: &str, column: &str) -> BTreeMap<String, String> {
    let rows = pooler.show(what).into_iter();
    let mut own = rows.filter(|row| row[column] == pooler.database);
    own.next().expect("a row")
}

#[test]
fn round_robin_unless_told_otherwise() {
    for balance in [None, Some("round-robin")] {
        let pooler = start("127.0.0.1,127.0.0.2", balance);
        let _clients: Vec<_> = (0..4).map(|_| holds(&pooler)).collect();
        let expected = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"];
        assert_eq!(addresses(&pooler), expected);
        let databases = row(&pooler, "DATABASES", "name");
        assert_eq!(databases["host"], "127.0.0.1,127.0.0.2");
        assert_eq!(databases["load_balance_hosts"], "round-robin");
        let pools = row(&pooler, "POOLS", "database");
        assert_eq!(pools["load_balance_hosts"], "round-robin");
    }
}

#[test]
fn disable_stays_with_a_host_until_it_fails() {
    let pooler = start("127.0.0.2,127.0.0.1", Some("disable"));
    let _clients: Vec<_> = (0..4).map(|_| holds(&pooler)).collect();
    assert_eq!(addresses(&pooler), ["127.0.0.2"; 4]);
    assert_eq!(
        row(&pooler, "POOLS", "database")["load_balance_hosts"],
        "disable"
    );

    let pooler = start("127.0.0.3,127.0.0.2,127.0.0.1", Some("disable"));
    let _clients: Vec<_> = (0..4).map(|_| holds(&pooler)).collect();
    assert_eq!(addresses(&pooler), ["127.0.0.2"; 4]);
    // It was asked once, and found out.
    assert_eq!(pooler.log().matches("trying the next host").count(), 1);
}

/// PgBouncer would wait for `server_login_retry` in between.
#[test]
fn the_next_host_is_tried_at_once() {
    let pooler = start("127.0.0.3,127.0.0.1", None);
    let _clients: Vec<_> = (0..4).map(|_| holds(&pooler)).collect();
    assert_eq!(addresses(&pooler), ["127.0.0.1"; 4]);
    // Each second connection begins with the one that does not answer.
    assert_eq!(pooler.log().matches("trying the next host").count(), 2);
}
