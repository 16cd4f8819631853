use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::config::Inputs;

const TOML: &str = "
[pgweir]
pool_mode = 'transaction'
[databases.app]
hosts = [{ host = 'db1' }, { host = 'db2', port = 7 }]
route_reads = true
[[databases.app.rules]]
table = 'audit'
role = 'primary'
[users.reporter]
reads = 'any'
password = 'x'
";

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn config(file: &str, text: &str) -> Config {
    Config::load(&Inputs {
        file: Some(Path::new(file)),
        databases: &[],
        env: &BTreeMap::new(),
        read: &|_| Ok(text.to_owned()),
    })
    .unwrap()
}

fn told(config: &Config, words: &[&str]) -> Result<String, String> {
    let args = Command::parse_from([&["route", "FILE"], words].concat()).args;
    report(config, &args).map_err(|error| error.to_string())
}

/// What is said behind `label`, of each statement that has it.
#[track_caller]
fn lines(words: &[&str], label: &str) -> Vec<String> {
    let text = told(&config("p.toml", TOML), words).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(label));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn all_that_decides_is_told() {
    let told = told(
        &config("p.toml", TOML),
        &["select *\n from  t", "select nextval('s')"],
    );
    assert_eq!(
        told.unwrap(),
        "\
database  app: db1:5432, db2:7
policy    reads=replica read_consistency=session reads_without_replica=primary
assumed   relations, types and operators of any name are ordinary ones: no server was asked

statement select * from t
verdict   read: a query in which nothing writes
reads     replica, says the configuration
place     a replica that has what its client wrote before; without one, the primary

statement select nextval('s')
verdict   unknown: function nextval may write
place     primary
"
    );
}

#[test]
fn who_says_where_reads_run() {
    for (words, expected) in [
        (
            &["table audit"][..],
            "primary, says the rule table=audit role=primary",
        ),
        (&["table audit", "--role", "any"], "any, says pgweir.role"),
        (
            &["/* pgweir: role=replica */ table audit", "--role=any"],
            "replica, says its hint",
        ),
        (
            &["table t", "--user", "reporter"],
            "any, says the configuration",
        ),
        (
            &["table t", "--user", "nobody"],
            "replica, says the configuration",
        ),
    ] {
        assert_eq!(lines(words, "reads"), [expected], "{words:?}");
    }
    let words = ["/* pgweir: rol=any */ select 1"];
    let hint = "has no effect: hint \"rol\" is not known; there is: role";
    assert_eq!(lines(&words, "hint"), [hint]);
    assert_eq!(lines(&words, "reads"), ["replica, says the configuration"]);
}

#[test]
fn places_follow_the_policy() {
    let place = |policy: &str, sql: &str| {
        let text = TOML.replace("[databases.app]", &format!("{policy}\n[databases.app]"));
        let told = told(&config("p.toml", &text), &[sql]).unwrap();
        let place = told.lines().find_map(|line| line.strip_prefix("place"));
        place.unwrap().trim().to_owned()
    };
    for (policy, sql, expected) in [
        (
            "read_consistency = 'eventual'",
            "select 1",
            "a replica; without one, the primary",
        ),
        (
            "read_consistency = 'global'\nreads_without_replica = 'fail'",
            "select 1",
            "a replica that has every write acknowledged before; without one, it fails",
        ),
        (
            "read_consistency = 'eventual'",
            "/* pgweir: role=any */ select 1",
            "any: the primary, or a replica",
        ),
        ("", "/* pgweir: role=primary */ select 1", "primary"),
        (
            "",
            "begin read only, isolation level serializable",
            "primary",
        ),
        (
            "read_consistency = 'eventual'",
            "begin read only",
            "a replica; without one, the primary; with the whole transaction",
        ),
    ] {
        assert_eq!(place(policy, sql), expected, "{policy} {sql}");
    }
}

#[test]
fn a_transaction_stays_where_it_began() {
    let words = [
        "begin",
        "select 1",
        "commit and chain",
        "select 1",
        "rollback",
        "table audit",
    ];
    let inside = "where its transaction is";
    let expected = ["primary", inside, inside, inside, inside, "primary"];
    assert_eq!(lines(&words, "place"), expected);
}

#[test]
fn the_session_may_change_its_role() {
    let words = [
        "--role=primary",
        "select 1",
        "set pgweir.role = 'any'",
        "select 2",
        "set pgweir.role = 'nonsense'",
        "select 3",
        "set pgweir.role to default",
        "select 4",
        "reset pgweir.role",
        "select 5",
    ];
    let (role, any) = ("primary, says pgweir.role", "any, says pgweir.role");
    let expected = [role, any, any, "replica, says the configuration", role];
    assert_eq!(lines(&words, "reads"), expected);
    assert_eq!(lines(&words, "place")[1], "none: pgweir answers it itself");
}

#[test]
fn statements_keep_the_comments_in_front_of_them() {
    let text = "-- a\n/* pgweir: role=any */ select ';' ;; select 2 /* b */;\nselect 3\n-- end\n";
    let expected = [
        "-- a\n/* pgweir: role=any */ select ';'",
        "select 2",
        "/* b */;\nselect 3",
    ];
    assert_eq!(statements(text).collect::<Vec<_>>(), expected);
    assert_eq!(statements(" ; -- nothing\n").count(), 0);
}

#[test]
fn what_is_not_routed_is_an_error_that_says_what_to_set() {
    let refused = |file: &str, text: &str, words: &[&str]| {
        told(&config(file, text), &[&["select 1"], words].concat()).unwrap_err()
    };
    let off = "[pgweir]\nauth_type = 'trust'\n[databases.app]\nhosts = [{ host = 'h' }]\n[users.u]\npassword = 'x'\n";
    assert_eq!(
        refused("p.toml", off, &[]),
        "nothing of database \"app\" is routed (route_reads is off, pool_mode is session); \
         set route_reads = true in [databases.app]; \
         set pool_mode to transaction: in session mode a client keeps one server connection"
    );
    let ini = "[databases]\na = host=h,i\nb = host=h\n[pgbouncer]\npool_mode = transaction\n";
    let said = refused("p.ini", ini, &["--database", "a"]);
    assert!(
        said.ends_with("; set route_reads=1 in the line of a in [databases]"),
        "{said}"
    );
    let session = "[databases]\na = host=h,i route_reads=1 pool_mode=session\n[pgbouncer]\n";
    let said = refused("p.ini", session, &[]);
    assert!(
        said.contains("(route_reads is on, pool_mode is session); set pool_mode"),
        "{said}"
    );
    assert!(refused("p.ini", ini, &[]).contains("--database; there are: a, b"));
    assert!(refused("p.ini", ini, &["--database=c"]).contains("\"c\"; there are: a, b"));
}
