//! The script: a few hundred commands and actions of clients.

use super::record::{Player, Step};
use crate::support::{Frontend, Pooler, Setup, psql, secs};

/// A configuration, and what is done with it.
pub struct Script {
    pub name: &'static str,
    /// In front of a new database.
    pub setup: fn() -> Setup,
    pub play: fn(&Pooler) -> Vec<Step>,
}

pub fn base() -> Setup {
    Setup::new()
        .set("stats_users", "app2")
        .set("query_wait_timeout", secs(5.0))
}

fn passwords(kind: &str) -> Setup {
    let users = ["app", "app2", "app3", "admin"];
    let setup = base().set("auth_type", kind);
    users
        .into_iter()
        .fold(setup, |setup, user| setup.user(user, "password", "secret"))
}

fn time_limit(name: &str) -> Setup {
    let setup = base().pool_size(1).set(name, secs(2.0));
    setup.set("query_wait_timeout", secs(0.5))
}

fn one_server() -> Setup {
    base().alias("other").pool_size(1)
}

pub const ALL: [Script; 12] = [
    Script {
        name: "console",
        setup: || base().alias("other"),
        play: console,
    },
    Script {
        name: "control",
        setup: one_server,
        play: control,
    },
    Script {
        name: "clients",
        setup: one_server,
        play: clients,
    },
    Script {
        name: "session",
        setup: || base().set("pool_mode", "session"),
        play: sessions,
    },
    Script {
        name: "statement",
        setup: || base().set("pool_mode", "statement"),
        play: statements,
    },
    Script {
        name: "limit",
        setup: || base().set("max_client_conn", 2),
        play: limits,
    },
    Script {
        name: "time limits",
        setup: || time_limit("query_timeout").set("client_login_timeout", secs(1.0)),
        play: slow,
    },
    Script {
        name: "idle limits",
        setup: || time_limit("client_idle_timeout").set("idle_transaction_timeout", secs(1.0)),
        play: idle,
    },
    Script {
        name: "md5",
        setup: || passwords("md5"),
        play: logins,
    },
    Script {
        name: "scram",
        setup: || passwords("scram-sha-256"),
        play: logins,
    },
    Script {
        name: "plain",
        setup: || passwords("plain"),
        play: logins,
    },
    Script {
        name: "shutdown",
        setup: base,
        play: shutdown,
    },
];

/// What each command says with each kind of argument.
fn console(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    p.login("admin", "admin", "pgbouncer", &[]);
    p.login(
        "stats",
        "app2",
        "pgbouncer",
        &[("application_name", "watcher")],
    );
    p.login("nobody", "app3", "pgbouncer", &[]);
    let asked = [
        ("application_name", "x"),
        ("CLIENT_ENCODING", "LATIN1"),
        ("datestyle", "German"),
        ("search_path", "a"),
    ];
    p.login("asks", "admin", "pgbouncer", &asked[..3]);
    p.leave("asks");
    p.login("asks", "admin", "pgbouncer", &asked);
    p.leave("asks");
    let shows = [
        "ACTIVE_SOCKETS",
        "CLIENTS",
        "CONFIG",
        "DATABASES",
        "DNS_HOSTS",
        "DNS_ZONES",
        "HELP",
        "LISTS",
        "MEM",
        "POOLS",
        "SERVERS",
        "SOCKETS",
        "STATS",
        "STATS_AVERAGES",
        "STATS_TOTALS",
        "TOTALS",
        "USERS",
        "VERSION",
        "client_encoding",
        "default_transaction_isolation",
        "standard_conforming_strings",
        "DateStyle",
        "TimeZone",
    ];
    let others = [
        "FDS",
        "NONSENSE",
        "",
        "DATABASES now",
        "1",
        "pools pools pools",
        "*",
    ];
    for what in shows {
        for command in [format!("SHOW {what}"), format!("select {what};")] {
            p.ask("admin", &command);
        }
        p.ask("stats", &format!("  show\t\"{}\" ; ", what.to_lowercase()));
    }
    for what in others {
        for (client, word) in [("admin", "show"), ("stats", "SHOW"), ("admin", "SELECT")] {
            if (client, what) != ("admin", "FDS") {
                p.ask(client, &format!("{word} {what}"));
            }
        }
    }
    let commands = [
        "PAUSE",
        "RESUME",
        "RECONNECT",
        "WAIT_CLOSE",
        "DISABLE",
        "ENABLE",
        "KILL",
    ];
    let arguments = [
        "nosuch",
        "pgbouncer",
        "\"no such\"",
        "other other",
        "other;;",
        "'other'",
        "2other",
    ];
    for command in commands {
        for argument in arguments {
            p.ask("admin", &format!("{command} {argument}"));
        }
        p.ask("stats", command);
        p.ask("stats", &format!("{command} other"));
    }
    for command in [
        "RELOAD",
        "RESUME",
        "RECONNECT",
        "WAIT_CLOSE",
        "DISABLE",
        "ENABLE",
    ] {
        p.ask("admin", command);
    }
    for command in [
        "RELOAD now",
        "SHUTDOWN now",
        "SUSPEND other",
        "reload;",
        " ReLoAd ",
        "reload; reload",
        "PAUSE \"other\"",
        "RESUME \"other\"",
        "DISABLE other",
        "disable OTHER",
        "enable other",
    ] {
        p.ask("admin", command);
        p.ask("stats", command);
    }
    let long = |n: usize| "x".repeat(n);
    let wrong = [
        String::new(),
        ";".to_owned(),
        " ".to_owned(),
        "\u{e9}".to_owned(),
        long(15),
        long(16),
        format!("show {}", long(63)),
        format!("show {}", long(64)),
        format!("show \"{}\"", long(62)),
        long(3000),
        "drop table x".to_owned(),
        "select 1".to_owned(),
        "begin".to_owned(),
        "show version -- comment".to_owned(),
        "show 'version'".to_owned(),
        "\"show\" version".to_owned(),
        "show \"ver\"\"sion\"".to_owned(),
        "show \"version".to_owned(),
        "show\nversion\n;\n".to_owned(),
    ];
    for text in &wrong {
        p.ask("admin", text);
    }
    for set in [
        "client_encoding = utf8",
        "CLIENT_ENCODING to 'utf8'",
        "timezone='x y'",
        "datestyle = iso;",
        "standard_conforming_strings=on",
        "default_transaction_isolation to \"read\"",
        "nosuch = 1",
        "max_client_conn = 50",
        "max_client_conn = many",
        "max_client_conn='60'",
        "pool_mode = nosuch",
        "pool_mode to session",
        "listen_port = 1",
        "server_reset_query = 'it''s'",
        "verbose = 0",
        "log_connections = 2",
        "max_client_conn",
        "max_client_conn =",
        "= 1",
        "\"max_client_conn\" = 70",
        "\"\" = 1",
        "max_client_conn = 1 2",
        "stats_period = 60 ;",
        "server_lifetime = 1.5",
    ] {
        p.ask("admin", &format!("SET {set}"));
        p.ask("stats", &format!("set {set}"));
    }
    let value = format!("SET server_reset_query = '{}'", long(253));
    p.ask("admin", &value);
    let value = format!("SET server_reset_query = '{}'", long(254));
    p.ask("admin", &value);
    p.ask("admin", &format!("SET {} = 1", long(64)));
    p.ask("admin", "RELOAD");
    p.ask("admin", "SHOW CONFIG");
    for (what, messages) in [
        ("Parse", Frontend::new().parse("", "show version")),
        ("Execute", Frontend::new().execute("", 0)),
        ("Sync", Frontend::new().sync()),
        ("FunctionCall", Frontend::new().function_call(1, &[])),
        ("CopyData", Frontend::new().copy_data(b"x")),
        (
            "a query without end",
            Frontend::new().message(b'Q', b"show version"),
        ),
        (
            "a length of 3",
            Frontend {
                bytes: b"Q\0\0\0\x03".to_vec(),
            },
        ),
        ("Terminate", Frontend::new().terminate()),
    ] {
        p.login("other", "admin", "pgbouncer", &[]);
        p.send("other", what, &messages, 1);
        p.leave("other");
    }
    let dsn = pooler
        .dsn_of("admin")
        .replace(&pooler.database, "pgbouncer");
    for command in [
        "show dns_hosts",
        "show version",
        "show nonsense",
        "reload",
        "set client_encoding = 1",
    ] {
        let output = psql(&dsn).args(&["-c", command]).run();
        let lines = [output.success.to_string(), output.stdout, output.stderr];
        p.note(format!("psql: {command}"), lines.into());
    }
    p.steps
}

/// Commands that stop something, with clients that notice.
fn control(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("admin", "admin", "pgbouncer", &[]);
    p.login("admin2", "admin", "pgbouncer", &[]);
    p.login("a", "app", &own, &[("application_name", "first")]);
    p.login("b", "app", &own, &[]);
    p.ask("a", "select 1");
    p.ask("a", "begin");
    p.begin("admin2", "PAUSE");
    for command in [
        "PAUSE",
        "PAUSE other",
        "KILL other",
        "SHOW POOLS",
        "SHOW DATABASES",
        "SHOW SERVERS",
    ] {
        p.ask("admin", command);
    }
    p.ask("a", "select 2");
    p.ask("a", "commit");
    p.end("admin2");
    p.ask("admin", "SHOW SERVERS");
    p.begin("b", "select 3");
    p.ask("admin", "SHOW CLIENTS");
    p.ask("admin", "RESUME");
    p.end("b");
    p.ask("admin", "RESUME");
    p.ask("admin", "SHOW POOLS");
    p.ask("admin", "SHOW SERVERS");
    // Cancelled, it is over.
    p.ask("a", "begin");
    p.begin("admin2", "PAUSE");
    p.cancel("admin2");
    p.ask("a", "commit");
    p.ask("b", "select 4");
    p.leave("admin2");
    // Of one database.
    for command in [
        format!("PAUSE {own}"),
        "SHOW DATABASES".to_owned(),
        format!("PAUSE {own}"),
    ] {
        p.ask("admin", &command);
    }
    p.begin("b", "select 5");
    p.ask("admin", "RELOAD");
    p.ask("admin", &format!("RESUME {own}"));
    p.end("b");
    p.ask("admin", &format!("RESUME {own}"));
    p.ask("admin", "RESUME");
    // Of those who come.
    p.ask("admin", &format!("DISABLE {own}"));
    p.ask("admin", "SHOW DATABASES");
    p.ask("b", "select 6");
    p.login("c", "app", &own, &[]);
    p.ask("admin", &format!("ENABLE {own}"));
    p.login("c", "app", &own, &[]);
    p.ask("c", "select 7");
    // Renewed.
    p.ask("a", "begin");
    p.ask("admin", &format!("RECONNECT {own}"));
    p.ask("admin", "SHOW SERVERS");
    p.ask("a", "commit");
    p.ask("admin", &format!("WAIT_CLOSE {own}"));
    p.ask("admin", "RECONNECT");
    p.ask("b", "select 8");
    p.ask("admin", "SHOW STATS_TOTALS");
    p.ask("admin", "SHOW TOTALS");
    // Thrown out.
    p.ask("a", "begin");
    p.ask("admin", &format!("KILL {own}"));
    p.ask("a", "select 9");
    p.ask("b", "select 10");
    p.ask("admin", "SHOW DATABASES");
    p.ask("admin", &format!("RESUME {own}"));
    p.login("a", "app", &own, &[]);
    p.ask("a", "select 11");
    p.ask("admin", "SHOW LISTS");
    // With a server connection that nobody has.
    p.ask("admin", &format!("RECONNECT {own}"));
    p.ask("admin", &format!("WAIT_CLOSE {own}"));
    p.ask("a", "select 12");
    p.ask("admin", &format!("KILL {own}"));
    p.ask("a", "select 13");
    p.steps
}

/// What a client of a database meets.
fn clients(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    let startup = |parameters: &[(&str, &str)]| Frontend::new().startup((3, 0), parameters);
    p.login("a", "app", &own, &[]);
    p.login("x", "nosuch", &own, &[]);
    p.login("x", "app", "nosuch", &[]);
    p.login("x", "app", &own, &[("nosuch", "1")]);
    p.login("x", "app", &own, &[("extra_float_digits", "3")]);
    p.login("x", "app", &own, &[("options", "-c search_path=x")]);
    p.login(
        "x",
        "app",
        &own,
        &[("DateStyle", "German"), ("timezone", "UTC")],
    );
    p.ask("x", "show datestyle");
    p.leave("x");
    p.knock("nobody", startup(&[]));
    p.knock("no name", startup(&[("user", ""), ("database", &own)]));
    p.knock("no database", startup(&[("user", "app")]));
    p.knock(
        "protocol 2",
        Frontend::new().startup((2, 0), &[("user", "app")]),
    );
    p.knock(
        "protocol 4",
        Frontend::new().startup((4, 0), &[("user", "app")]),
    );
    p.knock(
        "a packet of 3 bytes",
        Frontend {
            bytes: vec![0, 0, 0, 3],
        },
    );
    p.knock(
        "a packet too long",
        Frontend {
            bytes: vec![0, 1, 0, 0, 0, 3, 0, 0],
        },
    );
    p.knock(
        "cancel for nobody",
        Frontend::new().cancel(b"\0\0\0\x01abcd"),
    );
    for code in [(1234, 5679), (1234, 5680)] {
        let mut client = crate::support::RawClient::connect(&pooler.address);
        client.send(&Frontend::new().request(code));
        let answer = client.read_byte() as char;
        p.note(format!("request {code:?}"), vec![answer.to_string()]);
    }
    for sql in [
        "select 1",
        "select 1; select 2",
        "",
        ";",
        "select 1/0",
        "selekt",
        "select $1",
        "create table t (a int)",
        "insert into t values (1), (2)",
        "select * from t",
        "update t set a = a + 1",
        "begin",
        "insert into t values (3)",
        "savepoint s",
        "select 1/0",
        "select 1",
        "rollback to s",
        "commit",
        "do $$ begin raise notice 'heard'; end $$",
        "set client_encoding = 'latin1'",
        "show client_encoding",
        "set application_name = 'x'",
        "show application_name",
        "copy t to stdout",
        "copy (select 1) to stdout",
        "explain select 1",
        "values (1), (null)",
        "begin",
        "select 1/0",
        "rollback",
        "drop table t",
        "select 1 as \"a b\", null, 1.5, now() is null",
    ] {
        p.ask("a", sql);
    }
    let run = |sql: &str| Frontend::new().run(sql, &[]).sync();
    p.send("a", "extended", &run("select 1"), 1);
    p.send("a", "an error", &run("select 1/0"), 1);
    p.send(
        "a",
        "a parameter",
        &Frontend::new().run("select $1::int", &["5"]).sync(),
        1,
    );
    p.send(
        "a",
        "described",
        &Frontend::new()
            .parse("", "select 1")
            .describe(b'S', "")
            .sync(),
        1,
    );
    p.send(
        "a",
        "two",
        &Frontend::new()
            .run("select 1", &[])
            .sync()
            .run("select 2", &[])
            .sync(),
        2,
    );
    p.send("a", "Sync", &Frontend::new().sync(), 1);
    p.send(
        "a",
        "in two parts",
        &Frontend::new().query("begin").query("commit"),
        2,
    );
    p.login("b", "app", &own, &[]);
    p.ask("a", "begin");
    p.begin("b", "select 1");
    p.cancel("b");
    p.end("b");
    p.ask("a", "commit");
    p.begin("a", "select pg_sleep(60)");
    p.cancel("a");
    p.end("a");
    for (what, messages) in [
        ("an unknown message", Frontend::new().message(b'?', b"")),
        (
            "a length of 3",
            Frontend {
                bytes: b"Q\0\0\0\x03".to_vec(),
            },
        ),
        ("a password", Frontend::new().password(b"x\0")),
        ("Terminate", Frontend::new().terminate()),
        (
            "end of the server",
            Frontend::new().query("select pg_terminate_backend(pg_backend_pid())"),
        ),
    ] {
        p.login("c", "app", &own, &[]);
        p.send("c", what, &messages, 1);
        p.leave("c");
    }
    p.steps
}

/// Session pooling: what a session keeps.
fn sessions(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("a", "app", &own, &[]);
    for sql in [
        "create temp table t (a int)",
        "set work_mem = '1234kB'",
        "show work_mem",
        "prepare s as select 1",
        "execute s",
        "listen x",
        "notify x, 'y'",
        "select 1",
        "declare c cursor with hold for select 1",
        "fetch c",
        "discard all",
        "show work_mem",
    ] {
        p.ask("a", sql);
    }
    p.send(
        "a",
        "a named statement",
        &Frontend::new().parse("s", "select 1").sync(),
        1,
    );
    p.send(
        "a",
        "bound",
        &Frontend::new().bind("", "s", &[]).execute("", 0).sync(),
        1,
    );
    p.login("admin", "admin", "pgbouncer", &[]);
    p.ask("admin", "SHOW POOLS");
    p.ask("admin", "SHOW CLIENTS");
    p.ask("admin", "SHOW SERVERS");
    p.steps
}

/// Statement pooling: what it refuses.
fn statements(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    for sql in ["select 1", "select 1; select 2", "begin", "begin; commit"] {
        p.login("a", "app", &own, &[]);
        p.ask("a", sql);
        p.leave("a");
    }
    p.steps
}

/// More clients than may be.
fn limits(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("a", "app", &own, &[]);
    p.login("b", "app", &own, &[]);
    p.login("c", "app", &own, &[]);
    p.login("admin", "admin", "pgbouncer", &[]);
    p.ask("admin", "show version");
    p.steps
}

/// Who takes too long.
fn slow(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    let some = vec![0, 0, 0, 32, 0, 3];
    p.knock("half a packet", Frontend { bytes: some });
    p.b_waits_for_a();
    p.end("b");
    p.ask("a", "commit");
    p.begin("a", "select pg_sleep(60)");
    p.end("a");
    p.login("a", "app", &own, &[]);
    p.ask("a", "select 2");
    p.steps
}

/// Who does nothing for too long.
fn idle(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    for before in ["begin", "select 1"] {
        p.login("a", "app", &own, &[]);
        p.ask("a", before);
        p.end("a");
        p.leave("a");
    }
    p.steps
}

/// Right and wrong passwords.
fn logins(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    for (user, password) in [
        ("app", "secret"),
        ("app", "wrong"),
        ("app", ""),
        ("nosuch", "secret"),
        ("app2", "secret"),
    ] {
        p.prove(user, password);
    }
    p.steps
}

/// How it ends.
fn shutdown(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    p.login("admin", "admin", "pgbouncer", &[]);
    p.login("stats", "app2", "pgbouncer", &[]);
    p.login("a", "app", &pooler.database, &[]);
    p.ask("a", "select 1");
    p.ask("stats", "SHUTDOWN");
    p.ask("admin", "SHUTDOWN");
    p.ask("stats", "SHOW VERSION");
    p.steps
}
