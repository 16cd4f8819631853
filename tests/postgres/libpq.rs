//! libpq's connection options mean through pgweir what they mean without it:
//! psql's libpq and the newest one, which comes with psycopg.

use std::sync::OnceLock;

use crate::support::{
    Address, Certificates, Cluster, Pooler, Setup, TLS, eventually, psql, python,
};

/// A server with TLS.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::with_settings(TLS))
}

fn dsn(address: &Address, pooler: &Pooler, options: &str) -> String {
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname={} user=app sslrootcert={} {options}",
        address.port(),
        pooler.database,
        Certificates::shared().path("ca.crt")
    )
}

/// What comes of each of these, directly and through the pooler, with the
/// newest libpq; they must be the same. Returns the answers.
#[track_caller]
fn same_with_and_without(pooler: &Pooler, server: &Cluster, list: &[String]) -> Vec<String> {
    let try_all = |address: &Address| -> Vec<String> {
        let dsns: Vec<_> = list.iter().map(|o| dsn(address, pooler, o)).collect();
        let printed = python("libpq.py", "connect", &dsns.join("\n")).succeed();
        printed
            .lines()
            .take(list.len())
            .map(str::to_owned)
            .collect()
    };
    let (direct, pooled) = (try_all(&server.tcp()), try_all(&pooler.address));
    assert_eq!(direct.len(), list.len());
    for (options, (direct, pooled)) in list.iter().zip(direct.iter().zip(&pooled)) {
        assert_eq!(direct, pooled, "{options}");
    }
    // psql's libpq is older and says less: whether it gets in.
    for options in list.iter() {
        let gets_in = |address| {
            psql(&dsn(address, pooler, options))
                .args(&["-c", "select 1"])
                .run()
        };
        let (direct, pooled) = (gets_in(&server.tcp()), gets_in(&pooler.address));
        assert_eq!(
            direct.success, pooled.success,
            "psql {options}: {}",
            pooled.stderr
        );
    }
    pooled
}

fn each(option: &str, values: &[&str]) -> Vec<String> {
    values
        .iter()
        .map(|value| format!("{option}={value}"))
        .collect()
}

#[test]
fn encryption() {
    let pooler = Setup::with(cluster()).offer_tls("allow").start();
    let modes = [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ];
    let mut list = each("sslmode", &modes);
    list.extend(each("gssencmode", &["disable", "prefer", "require"]));
    let answers = same_with_and_without(&pooler, cluster(), &list);
    assert!(answers[0].starts_with("ssl=False"), "{answers:?}");
    assert!(answers[5].starts_with("ssl=True"), "{answers:?}");
    assert!(answers[8].contains("GSS"), "{answers:?}");
    // Servers know this since 17 only.
    let direct = dsn(
        &pooler.address,
        &pooler,
        "sslmode=require sslnegotiation=direct",
    );
    let printed = python("libpq.py", "connect", &direct).succeed();
    assert!(printed.starts_with("ssl=True"), "{printed}");
}

const ATTRIBUTES: [&str; 6] = [
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    "prefer-standby",
];

#[test]
fn session_attributes() {
    let primary = cluster();
    let pooler = Setup::with(primary).offer_tls("allow").start();
    let list = each("target_session_attrs", &ATTRIBUTES);
    let writable = same_with_and_without(&pooler, primary, &list);
    assert!(
        writable[1].ends_with("standby=off read_only=off"),
        "{writable:?}"
    );
    assert!(
        writable[4].contains("not in hot standby mode"),
        "{writable:?}"
    );

    let database = &pooler.database;
    let read_only = format!("alter database {database:?} set default_transaction_read_only = on");
    primary.admin(database).query(&read_only);
    pooler.console().query("reconnect");
    let refused = same_with_and_without(&pooler, primary, &list);
    assert!(refused[1].contains("session is read-only"), "{refused:?}");

    let replica = primary.replica();
    let behind = Setup::with(primary)
        .offer_tls("allow")
        .for_database("port", i32::from(replica.port));
    let pooler = behind.start();
    // It was copied before there was this database.
    let mut admin = replica.admin("postgres");
    let sql = format!(
        "select count(*) from pg_database where datname = '{}'",
        pooler.database
    );
    eventually("the replica has caught up", "1".to_owned(), || {
        admin.value(&sql)
    });
    let standby = same_with_and_without(&pooler, &replica, &list);
    assert!(
        standby[4].ends_with("standby=on read_only=off"),
        "{standby:?}"
    );
}
