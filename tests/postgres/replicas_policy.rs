//! Where a read may run: `pgweir.role`, hints and rules.

use std::collections::BTreeSet;

use super::replicas::{PORT, Trio, places, port, run, start};
use super::stats_port::metrics;
use crate::support::{
    Frontend, Message, RawClient, Setup, Value, eventually, free_port, patiently, pgweir, psql,
    python,
};

/// The primary's port, the replicas', and all of them.
fn ports(trio: &Trio) -> [BTreeSet<String>; 3] {
    let primary = [port(&trio.primary)].into();
    let replicas: BTreeSet<_> = trio.replicas.each_ref().map(port).into();
    let all = &primary | &replicas;
    [primary, replicas, all]
}

#[test]
fn a_session_says_where_its_reads_run() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let [primary, replicas, all] = ports(trio);
    let mut client = pooler.login();
    let mut other = pooler.login();
    for (role, expected) in [
        ("primary", &primary),
        ("any", &all),
        ("replica", &replicas),
        ("PRIMARY", &primary),
        ("default", &replicas),
    ] {
        client.query(&format!("set pgweir.role = '{role}'"));
        assert_eq!(places(&mut client, PORT), *expected, "{role}");
        assert_eq!(client.value("show pgweir.role"), role.to_lowercase());
        // The same in the extended protocol.
        run_command(&mut client, "reset pgweir.role");
        run_command(&mut client, &format!("set pgweir.role to {role}"));
        assert_eq!(run(&mut client, "show pgweir.role"), role.to_lowercase());
        let places: BTreeSet<_> = (0..20).map(|_| run(&mut client, PORT)).collect();
        assert_eq!(places, *expected, "{role}");
        // It is nobody else's.
        assert_eq!(other.value("show pgweir.role"), "default");
    }
    // Never more than what is proved.
    client.query("set pgweir.role = replica");
    let write = "insert into t values (1) returning port()";
    assert_eq!(client.value(write), port(&trio.primary));
    // A hint goes before it.
    let hinted = "/* pgweir: role=primary */ select port()";
    assert_eq!(places(&mut client, hinted), primary);
    // What is open stays where it is.
    client.query("set pgweir.role = primary");
    client.query("begin read only");
    client.query("set pgweir.role = replica");
    assert_eq!(client.value(PORT), port(&trio.primary));
    client.query("commit");
    assert_eq!(places(&mut client, PORT), replicas);
    client.query("set pgweir.role = primary");
    client.query("select pg_advisory_unlock_all(); reset all");
    assert_eq!(places(&mut client, PORT), replicas);
    // No server has heard of it.
    let there = "select coalesce(current_setting('pgweir.role', true), 'unknown')";
    assert_eq!(places(&mut client, there), ["unknown".to_owned()].into());
}

fn run_command(client: &mut RawClient, sql: &str) {
    let answer = client.exchange(&Frontend::new().run(sql, &[]).sync());
    assert_eq!(answer.tags(), "12CZ", "{sql}");
}

#[test]
fn the_startup_packet_says_it_too() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let [primary, replicas, _] = ports(trio);
    for parameters in [
        ("pgweir.role", "primary"),
        ("options", "-c pgweir.role=primary"),
        ("options", "-c work_mem=1MB --PGWEIR.role=Primary"),
    ] {
        let mut client = pooler.login_with(&[parameters]);
        assert_eq!(places(&mut client, PORT), primary, "{parameters:?}");
        client.query("set pgweir.role = replica");
        assert_eq!(places(&mut client, PORT), replicas);
        client.query("reset pgweir.role");
        assert_eq!(client.value("show pgweir.role"), "primary");
    }
    let login = [
        ("user", "app"),
        ("database", &pooler.database),
        ("pgweir.role", "master"),
    ];
    let refused = RawClient::try_login_with(&pooler.address, &login, None).unwrap_err();
    assert_eq!((refused.severity(), refused.sqlstate()), ("FATAL", "22023"));
    let options = "-c pgweir.role=primary";
    let shown = psql(&pooler.dsn()).env("PGOPTIONS", options);
    let shown = shown.args(&["-c", "show pgweir.role"]).succeed();
    assert_eq!(shown, "primary");
}

/// What a client sees of a message, the setting's name and values taken out.
fn seen(message: &Message, words: &[(&str, &str)]) -> String {
    let mut text = match message.tag {
        b'T' => message.body.escape_ascii().to_string(),
        b'D' => format!("{:?}", message.columns()),
        b'E' => {
            let error = message.failure();
            let hint = error.fields.get(&'H').map(|hint| hint.split(':').next());
            let (severity, sqlstate) = (error.severity(), error.sqlstate());
            format!("{severity} {sqlstate} {} {hint:?}", error.message())
        }
        _ => message.body.escape_ascii().to_string(),
    };
    for (word, general) in words {
        text = text.replace(word, general);
    }
    format!("{} {text}", message.tag as char)
}

const PGWEIR: [(&str, &str); 3] = [
    ("pgweir.role", "NAME"),
    ("replica", "OTHER"),
    ("default", "USUAL"),
];
const POSTGRESQL: [(&str, &str); 3] = [
    ("bytea_output", "NAME"),
    ("escape", "OTHER"),
    ("hex", "USUAL"),
];

/// Bind without parameters, with results in binary.
fn bind_binary(messages: Frontend, portal: &str, statement: &str) -> Frontend {
    let names = format!("{portal}\0{statement}\0");
    let body = [names.as_bytes(), &[0, 0, 0, 0, 0, 1, 0, 1]].concat();
    messages.message(b'B', &body)
}

/// What an application can do with a setting of a few words.
fn conversations(name: &str, other: &str, usual: &str) -> Vec<Frontend> {
    let new = Frontend::new;
    let set = |value: &str| format!("set {name} = '{value}'");
    let (show, reset) = (format!("show {name}"), format!("reset {name}"));
    let wrong = format!("set session {name} to master");
    let mut all: Vec<Frontend> = [
        &show,
        &set(other),
        &show,
        &set(usual),
        &show,
        &wrong,
        &set(other),
        &reset,
        &show,
        &format!("set {name} to 1"),
        &format!("set {name} to a, b"),
        &format!("set {name} to default"),
        "begin",
        &show,
        &wrong,
        &show,
        &set(other),
        "rollback",
    ]
    .iter()
    .map(|sql| new().query(sql))
    .collect();
    let describe = |messages: Frontend, sql: &str| {
        let messages = messages.parse("", sql).bind("", "", &[]);
        messages.describe(b'P', "").execute("", 0)
    };
    let read = |messages: Frontend| messages.run("select 1", &[]);
    all.extend([
        describe(new(), &set(other)).sync(),
        describe(new(), &show).sync(),
        new().parse("s", &show).describe(b'S', "s").sync(),
        bind_binary(new(), "p", "s")
            .describe(b'P', "p")
            .execute("p", 1)
            .sync(),
        bind_binary(new(), "p", "s")
            .execute("p", 2)
            .close(b'P', "p")
            .sync(),
        read(describe(read(new()), &show)).sync(),
        new().bind("", "s", &[]).execute("", 0).sync(),
        describe(new(), &wrong).execute("", 0).sync(),
        read(describe(read(new()), &wrong)).sync(),
        new().query("begin"),
        describe(new(), &show).sync(),
        describe(read(new()), &wrong).sync(),
        new().bind("", "s", &[]).execute("", 0).sync(),
        describe(new(), &show).sync(),
        new().query(&show),
        new().query("rollback"),
        new().parse("s", &show).sync(),
        new().close(b'S', "s").sync(),
        new().bind("", "s", &[]).sync(),
        describe(new(), &reset).sync(),
    ]);
    all
}

#[test]
fn what_is_answered_is_what_postgresql_says_of_such_a_setting() {
    let pooler = Setup::new().in_toml().start();
    let (mut ours, mut theirs) = (pooler.login(), pooler.direct());
    let alike = conversations("pgweir.role", "replica", "default");
    for (n, (own, alike)) in alike
        .iter()
        .zip(&conversations("bytea_output", "escape", "hex"))
        .enumerate()
    {
        let told = |client: &mut RawClient, script, words: &[_]| -> Vec<String> {
            let answer = client.exchange(script);
            answer.messages.iter().map(|m| seen(m, words)).collect()
        };
        let own = told(&mut ours, own, &PGWEIR);
        assert_eq!(own, told(&mut theirs, alike, &POSTGRESQL), "step {n}");
    }
}

#[test]
fn where_nothing_is_routed_it_is_answered_and_does_nothing() {
    let pooler = Setup::new().pool_size(1).start();
    let mut client = pooler.login();
    let mut other = pooler.login();
    client.query("set pgweir.role = primary");
    assert_eq!(other.value("show pgweir.role"), "default");
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(client.value("show pgweir.role"), "primary");
    // In session mode the server keeps it.
    let pooler = Setup::new().set("pool_mode", "session").start();
    let mut client = pooler.login();
    client.query("set pgweir.role = whatever");
    assert_eq!(
        client.value("select current_setting('pgweir.role')"),
        "whatever"
    );
}

#[test]
fn drivers_set_and_show_it() {
    let pooler = Setup::new().pool_size(2).start();
    for script in ["psycopg3.py", "asyncpg_client.py"] {
        assert_eq!(python(script, "role", &pooler.dsn()).succeed(), "ok");
    }
}

#[test]
fn rules_say_it_for_statements_that_nobody_can_change() {
    let trio = Trio::shared();
    let rules = "[
        { table = 't', role = 'primary' },
        { user = 'app2', text = 'select port() /* x */, 5 *', role = 'any' },
        { text = 'SELECT port(), $1', role = 'primary' },
        { text = 'insert*', role = 'replica' },
    ]";
    let setup = trio.setup();
    let mut pooler = start(
        trio,
        setup.for_database("rules", Value::Toml(rules.replace('\n', " "))),
    );
    let [primary, replicas, all] = ports(trio);
    let mut client = pooler.login();
    for (sql, expected) in [
        (PORT, &replicas),
        (
            "select port() from (values (1)) x left join t on true",
            &primary,
        ),
        ("select port(), 'a'", &primary),
        ("Select port (),1 -- what?", &primary),
        ("select port(), 1, 2", &primary),
        ("select port(), now()", &replicas),
    ] {
        assert_eq!(places(&mut client, sql), *expected, "{sql}");
        let places: BTreeSet<_> = (0..20).map(|_| run(&mut client, sql)).collect();
        assert_eq!(places, *expected, "{sql}");
    }
    let mut other = pooler.login_as("app2");
    assert_eq!(places(&mut other, "select port(), 1, 2 from now()"), all);
    assert_eq!(
        places(&mut other, "select port() from t right join now() on true"),
        primary
    );
    // No rule makes a read of a write.
    let write = "insert into t values (1) returning port()";
    assert_eq!(client.value(write), port(&trio.primary));
    // The session goes before the rules.
    client.query("set pgweir.role = replica");
    assert_eq!(places(&mut client, "select port(), 1"), replicas);
    // RELOAD brings others.
    client.query("reset pgweir.role");
    let rules = "[{ text = 'select port(), $1', role = 'any' }]";
    pooler.rewrite(|setup| setup.for_database("rules", Value::Toml(rules.to_owned())));
    pooler.console().query("reload");
    patiently("the new rules hold", || {
        (places(&mut client, "select port(), 1") == all).then_some(())
    });
    let joined = "select port() from (values (1)) x left join t on true";
    assert_eq!(places(&mut client, joined), replicas);
    let printed = pgweir(&["check", &pooler.config().display().to_string()]).succeed();
    let rule = format!(
        "rule      {}: text=select port(), $1 role=any",
        pooler.database
    );
    assert!(printed.contains(&rule), "{printed}");
}

#[test]
fn a_hint_that_is_not_understood_is_told() {
    let trio = Trio::shared();
    let stats = free_port();
    let listen = format!("127.0.0.1:{stats}");
    let pooler = start(trio, trio.setup().set("stats_listen", &*listen));
    let [_, replicas, _] = ports(trio);
    let mut client = pooler.login();
    let wrong = "/* pgweir: role=master */ select port()";
    assert_eq!(places(&mut client, wrong), replicas);
    eventually("all are counted", 20, || {
        let metrics = metrics(stats);
        let counted = metrics
            .lines()
            .filter(|line| line.starts_with("pgweir_hint_mistakes_total"));
        let counted = counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<i32>().ok());
        counted.sum()
    });
    let log = pooler.log();
    let told = log.lines().filter(|line| line.contains("master")).count();
    // The client's worker says it once.
    assert!(told == 1, "{log}");
}

#[test]
fn a_pipeline_begins_a_transaction_that_only_reads() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let [primary, replicas, _] = ports(trio);
    let mut client = pooler.login();
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        // As JDBC sends it.
        let begin = Frontend::new()
            .run("begin read only", &[])
            .run(PORT, &[])
            .sync();
        let answer = client.exchange(&begin);
        assert_eq!(answer.status(), 'T');
        let place = answer.value();
        assert_eq!(run(&mut client, "select port(), pg_sleep(0)"), place);
        seen.insert(place);
        client.query("commit");
    }
    assert_eq!(seen, replicas);
    let begin = Frontend::new().run("begin", &[]).run(PORT, &[]).sync();
    assert_eq!(
        [client.exchange(&begin).value()],
        *primary.into_iter().collect::<Vec<_>>()
    );
}

#[test]
fn a_session_that_is_serializable_reads_on_the_primary() {
    let trio = Trio::shared();
    let pooler = start(trio, trio.setup());
    let [primary, replicas, _] = ports(trio);
    let options = ("options", "-c default_transaction_isolation=serializable");
    let mut client = pooler.login_with(&[options]);
    assert_eq!(places(&mut client, PORT), primary);
    client.query("begin read only");
    assert_eq!(client.value(PORT), port(&trio.primary));
    client.query("commit");
    // Others are not held back by it.
    assert_eq!(places(&mut pooler.login(), PORT), replicas);
}
