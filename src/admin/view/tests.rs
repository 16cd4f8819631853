use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::admin::show::Show;
use crate::admin::snapshot::PoolRow;
use crate::admin::table::Value;
use crate::config::Inputs;

const FILE: &str = r#"
[pgweir]
listen_port = 7000
pool_mode = "transaction"
admin_users = "root"
max_user_connections = 30
log_stats = false

[databases.app]
hosts = [{ host = "db1" }, { host = "db2" }]
dbname = "appdb"
user = "forced"
password = "never shown"
pool_size = 7
max_db_connections = 50
load_balance_hosts = "disable"

[databases.mixed]
hosts = [{ host = "db1" }, { host = "db2", port = 5433 }]

[databases."*"]
host = "/run/pg"
pool_mode = "session"

[users.alice]
password = "secret"
pool_size = 3
max_user_client_connections = 9
"#;

fn rows(show: Show, snapshot: &Snapshot) -> Vec<String> {
    rows_with(show, snapshot, &Gates::default())
}

fn rows_with(show: Show, snapshot: &Snapshot, gates: &Gates) -> Vec<String> {
    let config = Config::load(&Inputs {
        file: Some(Path::new("a.toml")),
        databases: &[],
        env: &BTreeMap::new(),
        read: &|_| Ok(FILE.to_owned()),
    });
    let (users, mistakes) = UserList::parse("\"bob\" \"secret\"\n\"alice\" \"secret\"\n");
    assert!(mistakes.is_empty());
    let now = Instant::now();
    let averages = Arc::new(Averages::new(now));
    let state = (PoolerState::Active, gates);
    let view = ConsoleView::new(now, &config.unwrap(), &users, snapshot, state, averages);
    let table = show.table(snapshot, &view);
    let cell = |value: &Value<'_>| match value {
        Value::Null => "NULL".to_owned(),
        Value::Text(text) => text.to_string(),
        Value::Number(number) => number.to_string(),
    };
    let row = |row: &Vec<Value<'_>>| row.iter().map(cell).collect::<Vec<_>>().join("|");
    table.rows.iter().map(row).collect()
}

#[test]
fn databases_as_configured() {
    assert_eq!(
        rows(Show::Databases, &Snapshot::default()),
        [
            "app|db1,db2|5432|appdb|forced|7|0|0|3600|NULL|disable|50|0|0|0|0|0",
            "mixed|db1,db2|5432|mixed|NULL|20|0|0|3600|NULL|round-robin|0|0|0|0|0|0",
            "pgbouncer|NULL|7000|pgbouncer|pgbouncer|2|0|0|3600|statement|NULL|0|0|0|0|0|0",
        ]
    );
}

#[test]
fn databases_that_the_star_has_made() {
    let pool = PoolRow {
        sv_active: 4,
        ..PoolRow::idle("made", "alice")
    };
    let snapshot = Snapshot {
        pools: vec![pool],
        ..Snapshot::default()
    };
    let rows = rows(Show::Databases, &snapshot);
    assert_eq!(rows.len(), 4);
    assert_eq!(
        rows[1],
        "made|/run/pg|5432|made|NULL|20|0|0|3600|session|NULL|0|4|0|0|0|0"
    );
}

#[test]
fn databases_that_are_stopped() {
    let name = |name: &str| [name.to_owned()].into();
    let gates = Gates {
        all_paused: false,
        suspended: false,
        paused: name("app"),
        disabled: name("made"),
        ..Gates::default()
    };
    let rows = rows_with(Show::Databases, &Snapshot::default(), &gates);
    let flags: Vec<_> = rows
        .iter()
        .map(|row| (row.split('|').next().unwrap(), &row[row.len() - 3..]))
        .collect();
    let expected = [
        ("app", "1|0"),
        ("made", "0|1"),
        ("mixed", "0|0"),
        ("pgbouncer", "0|0"),
    ];
    assert_eq!(flags, expected);
}

#[test]
fn users_of_the_list_and_of_the_configuration() {
    assert_eq!(
        rows(Show::Users, &Snapshot::default()),
        [
            "alice|        3||NULL|30|0|9|0",
            "bob|||NULL|30|0|0|0",
            "pgbouncer|||NULL|30|0|0|0",
        ]
    );
}

#[test]
fn settings_in_order_with_their_defaults() {
    let rows = rows(Show::Config, &Snapshot::default());
    assert_eq!(rows.len(), Settings::KEYS.len());
    let keys = rows.iter().map(|row| row.split('|').next());
    assert!(keys.is_sorted());
    for row in [
        "admin_users|root||yes",
        "listen_port|7000|6432|no",
        "log_stats|0|1|yes",
        "logfile|||yes",
        "pool_mode|transaction|session|yes",
        "stats_period|60|60|yes",
    ] {
        assert!(rows.iter().any(|r| r == row), "{row} is not in {rows:#?}");
    }
}
