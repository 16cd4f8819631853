//! Pools that nobody uses, and databases that only `*` has made.

use crate::support::{Cluster, Pooler, RawClient, Setup, eventually, secs};

const CLEANED: &str = "cleaning up idle pool";

fn setup() -> Setup {
    Setup::new().set("server_idle_timeout", secs(0.2))
}

/// Whoever asks for another database gets that of the server.
fn with_fallback() -> Setup {
    let port = i32::from(Cluster::shared().port);
    setup()
        .database("*", "host", "127.0.0.1")
        .database("*", "port", port)
}

fn login(pooler: &Pooler, database: &str) -> RawClient {
    let mut client = RawClient::login(&pooler.address, "app", database);
    assert_eq!(client.value("select current_database()"), database);
    client
}

/// The names in the first column.
fn shows(pooler: &Pooler, what: &str, name: &str) -> bool {
    let rows = pooler.console().query(&format!("SHOW {what}")).column();
    rows.iter().any(|row| row == name)
}

fn logged(pooler: &Pooler, text: &str) -> usize {
    pooler.log().matches(text).count()
}

#[test]
fn a_database_of_the_fallback_comes_and_goes() {
    for setup in [with_fallback(), with_fallback().in_ini()] {
        let ini = setup.clone().set("autodb_idle_timeout", secs(1.0));
        let pooler = ini.start();
        let name = Cluster::shared().create_database();
        assert!(!shows(&pooler, "DATABASES", &name));
        // On both workers; it is registered once.
        let mut clients: Vec<_> = (0..4).map(|_| login(&pooler, &name)).collect();
        for client in &mut clients[..2] {
            client.query("begin");
        }
        let row = pooler.show("DATABASES").into_iter();
        let row = row.filter(|row| row["name"] == name).collect::<Vec<_>>();
        let [row] = row.as_slice() else {
            panic!("{row:?}")
        };
        assert_eq!(
            (&*row["database"], &*row["current_connections"]),
            (&*name, "2")
        );
        assert!(shows(&pooler, "STATS", &name));
        assert_eq!(logged(&pooler, "registered new auto-database"), 1);
        if pooler.is_ini() {
            let line = format!(" LOG registered new auto-database: db={name}\n");
            assert_eq!(logged(&pooler, &line), 1);
        }
        for client in &mut clients[..2] {
            client.query("commit");
        }

        // Somebody who is there keeps it, without a server connection.
        clients.truncate(1);
        eventually("server connections", 0, || {
            let mut admin = Cluster::shared().admin(&name);
            let sql = "select count(*) from pg_stat_activity \
                where datname = current_database() and usename = 'app'";
            admin.value(sql).parse::<usize>().unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(shows(&pooler, "DATABASES", &name));
        assert_eq!(clients[0].value("select 1"), "1");

        drop(clients);
        eventually("the database", false, || shows(&pooler, "DATABASES", &name));
        assert!(!shows(&pooler, "STATS", &name));
        assert!(!shows(&pooler, "POOLS", &name));
        login(&pooler, &name);
        assert_eq!(logged(&pooler, "registered new auto-database"), 2);
        // What the configuration lists stays.
        assert!(shows(&pooler, "DATABASES", &pooler.database));
    }
}

#[test]
fn an_empty_pool_is_cleaned_up_and_its_numbers_stay() {
    for setup in [setup(), setup().in_ini()] {
        let pooler = setup
            .set("pool_idle_timeout", secs(0.5))
            .one_worker()
            .start();
        let name = pooler.database.clone();
        for round in 1..3 {
            let mut client = login(&pooler, &name);
            assert!(shows(&pooler, "POOLS", &name));
            drop(client.query("select 1"));
            client.close();
            eventually("the pool", false, || shows(&pooler, "POOLS", &name));
            assert_eq!(logged(&pooler, CLEANED), round);
            let row = pooler.show("STATS_TOTALS").into_iter();
            let row = row
                .filter(|row| row["database"] == name)
                .collect::<Vec<_>>();
            assert_eq!(row[0]["query_count"], (2 * round).to_string());
        }
    }
}

#[test]
fn a_pool_that_is_used_or_wanted_stays() {
    let setup = setup().set("pool_idle_timeout", secs(0.3));
    let kept = setup
        .for_database("user", "app")
        .for_database("min_pool_size", 1);
    let pooler = kept.start();
    pooler.expect_backends(1);
    std::thread::sleep(std::time::Duration::from_millis(1000));
    assert!(shows(&pooler, "POOLS", &pooler.database));
    assert_eq!(logged(&pooler, CLEANED), 0);
}
