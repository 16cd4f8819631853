//! What PgBouncer has learnt since 1.18: prepared statements, limits of clients,
//! lists of hosts, times of transactions.

use super::record::{Player, Step};
use super::script::{Script, base};
use crate::support::{Frontend, Pooler, Setup, secs};

/// Each for PgBouncers from this version on, 1.x.
pub const ALL: [(u32, Script); 11] = [
    (
        24,
        Script {
            name: "prepared statements",
            setup: || base().pool_size(1).set("max_prepared_statements", 2),
            play: prepared,
        },
    ),
    (
        24,
        Script {
            name: "no prepared statements",
            setup: || base().pool_size(1).set("max_prepared_statements", 0),
            play: unprepared,
        },
    ),
    (
        24,
        Script {
            name: "limits of clients",
            setup: few_clients,
            play: crowd,
        },
    ),
    (
        24,
        Script {
            name: "hosts",
            setup: hosts,
            play: look_at_hosts,
        },
    ),
    (
        24,
        Script {
            name: "auth_query",
            setup: || {
                let setup = base().set("auth_type", "md5").set("auth_user", "app3");
                setup.set("auth_query", QUERY).without_user("app2")
            },
            play: look_up,
        },
    ),
    (
        24,
        Script {
            name: "startup",
            setup: || {
                base()
                    .set("ignore_startup_parameters", "extra_float_digits, options")
                    .set("application_name_add_host", true)
            },
            play: startup,
        },
    ),
    (
        24,
        Script {
            name: "waiting for clients",
            setup: base,
            play: |pooler| wait_for(pooler, "SHUTDOWN WAIT_FOR_CLIENTS"),
        },
    ),
    (
        24,
        Script {
            name: "waiting for servers",
            setup: base,
            play: |pooler| wait_for(pooler, "SHUTDOWN WAIT_FOR_SERVERS"),
        },
    ),
    (
        25,
        Script {
            name: "transaction_timeout",
            setup: || base().set("transaction_timeout", secs(1.0)),
            play: long_transaction,
        },
    ),
    (
        25,
        Script {
            name: "query_wait_notify",
            setup: || {
                let setup = base().pool_size(1).set("query_wait_notify", 1);
                setup.set("query_wait_timeout", secs(60.0))
            },
            play: told_to_wait,
        },
    ),
    (
        26,
        Script {
            name: "since 1.26",
            setup: || {
                let setup = base().pool_size(1).set("login_notify_message", "hello");
                let setup = setup.set("query_wait_timeout", secs(5.0));
                let setup = setup.user("app", "query_wait_timeout", 1);
                setup.set("pool_idle_timeout", secs(3600.0))
            },
            play: newest,
        },
    ),
];

/// One user that the server knows by this query only, and some that break it.
const QUERY: &str = "select case when $1 = 'null' then null else $1 end, case $1 \
    when 'app2' then 'secret' when 'hashed' then 'md5' || md5('secrethashed') \
    when 'fails' then (1 / length(substr($1, 9)))::text end where $1 <> 'missing'";

fn few_clients() -> Setup {
    base()
        .alias("other")
        .database("other", "max_db_client_connections", 1)
        .database("other", "pool_size", 3)
        .database("other", "min_pool_size", 1)
        .database("other", "reserve_pool_size", 2)
        .database("other", "server_lifetime", 60)
        .database("other", "pool_mode", "session")
        .database("other", "max_db_connections", 4)
        .user("app", "max_user_client_connections", 2)
        .user("app", "max_user_connections", 3)
        .user("app", "pool_size", 4)
        .user("app", "reserve_pool_size", 1)
        .user("app2", "pool_mode", "session")
        .user("app2", "query_timeout", 1)
        .user("app3", "client_idle_timeout", 1)
        .set("max_user_client_connections", 3)
        .set("max_db_client_connections", 4)
        .set("max_user_connections", 8)
        .set("max_db_connections", 9)
        .peer(2, "host", "127.0.0.1")
        .peer(3, "host", "127.0.0.2")
        .peer(3, "port", 7000)
        .peer(3, "pool_size", 5)
        .set("peer_id", 1)
}

fn hosts() -> Setup {
    let setup = base().for_database("host", "127.0.0.1,127.0.0.1");
    let setup = setup.for_database("load_balance_hosts", "disable");
    setup
        .alias("other")
        .database("other", "load_balance_hosts", "round-robin")
}

/// Statements of clients who share a server connection.
fn prepared(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    let new = Frontend::new;
    let run = |name: &str| Frontend::new().bind("", name, &[]).execute("", 0).sync();
    p.login("admin", "admin", "pgbouncer", &[]);
    p.login("a", "app", &own, &[]);
    p.login("b", "app", &own, &[]);
    p.send("a", "s is 1", &new().parse("s", "select 1").sync(), 1);
    p.send(
        "b",
        "s is 2",
        &new().parse("s", "select 2 as two").sync(),
        1,
    );
    p.send("a", "run s", &run("s"), 1);
    p.send("b", "run s", &run("s"), 1);
    p.send("a", "describe s", &new().describe(b'S', "s").sync(), 1);
    p.send("b", "describe s", &new().describe(b'S', "s").sync(), 1);
    p.send("a", "t is 1, too", &new().parse("t", "select 1").sync(), 1);
    p.send("a", "run t", &run("t"), 1);
    p.send("a", "u is wrong", &new().parse("u", "selekt").sync(), 1);
    p.send(
        "a",
        "all at once",
        &new()
            .parse("v", "select $1::int")
            .describe(b'S', "v")
            .bind("p", "v", &["5"])
            .describe(b'P', "p")
            .execute("p", 0)
            .close(b'P', "p")
            .close(b'S', "v")
            .sync(),
        1,
    );
    p.ask("admin", "SHOW STATS_TOTALS");
    p.send(
        "a",
        "two requests",
        &new()
            .parse("w", "select 3")
            .sync()
            .bind("", "w", &[])
            .execute("", 0)
            .sync(),
        2,
    );
    p.send(
        "a",
        "an error on the way",
        &new()
            .parse("x", "select 4")
            .parse("", "select 1/0")
            .bind("", "", &[])
            .execute("", 0)
            .bind("", "x", &[])
            .execute("", 0)
            .sync(),
        1,
    );
    p.ask("a", "begin");
    p.send("a", "run w in a transaction", &run("w"), 1);
    p.ask("a", "commit");
    for sql in ["prepare q as select 5", "execute q", "deallocate q"] {
        p.ask("a", sql);
    }
    p.send("b", "run s again", &run("s"), 1);
    p.ask("admin", "SHOW CLIENTS");
    p.ask("admin", "SHOW SERVERS");
    p.ask("admin", "select STATS_TOTALS;");
    p.send("a", "close t", &new().close(b'S', "t").sync(), 1);
    p.send("a", "close none", &new().close(b'S', "none").sync(), 1);
    p.ask("a", "deallocate all");
    p.send("a", "run s behind DEALLOCATE ALL", &run("s"), 1);
    p.login("a", "app", &own, &[]);
    p.send("a", "s is 6", &new().parse("s", "select 6").sync(), 1);
    p.ask("a", "discard all");
    p.send("a", "s is 7", &new().parse("s", "select 7").sync(), 1);
    p.send("a", "run s", &run("s"), 1);
    p.send("a", "s once more", &new().parse("s", "select 8").sync(), 1);
    p.login("a", "app", &own, &[]);
    p.send("a", "run what is not there", &run("nosuch"), 1);
    p.login("a", "app", &own, &[]);
    p.send(
        "a",
        "describe what is not there",
        &new().describe(b'S', "nosuch").sync(),
        1,
    );
    for (tag, body) in [
        (b'P', &b"name"[..]),
        (b'P', b"name\0select"),
        (b'P', b"name\0select 1\0\0\x05"),
        (b'B', b"portal"),
        (b'B', b"portal\0name"),
        (b'D', b""),
        (b'D', b"S"),
        (b'D', b"Sname"),
        (b'D', b"Xname\0"),
        (b'C', b"S"),
        (b'C', b"Sname"),
    ] {
        p.login("a", "app", &own, &[]);
        let what = format!("broken {} {}", tag as char, body.escape_ascii());
        p.send("a", &what, &new().message(tag, body).sync(), 1);
        p.leave("a");
    }
    p.steps
}

fn unprepared(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("a", "app", &own, &[]);
    let parse = Frontend::new().parse("s", "select 1");
    p.send("a", "s", &parse.sync(), 1);
    let run = Frontend::new().bind("", "s", &[]).execute("", 0);
    p.send("a", "run s", &run.sync(), 1);
    p.steps
}

/// How many clients a user and a database may have, and what is shown of it.
fn crowd(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("admin", "admin", "pgbouncer", &[]);
    for table in ["PEERS", "PEER_POOLS", "STATE", "USERS", "DATABASES"] {
        p.ask("admin", &format!("SHOW {table}"));
        p.ask("admin", &format!("select {table}"));
    }
    p.login("a", "app", &own, &[]);
    p.login("b", "app", "other", &[]);
    p.login("c", "app", &own, &[]);
    p.login("d", "app2", "other", &[]);
    for name in ["d", "e", "f", "g"] {
        p.login(name, "app2", &own, &[]);
    }
    p.ask("a", "select 1");
    p.ask("d", "select 1");
    for table in ["USERS", "DATABASES", "POOLS", "CLIENTS", "SERVERS"] {
        p.ask("admin", &format!("SHOW {table}"));
    }
    p.begin("d", "select pg_sleep(60)");
    p.end("d");
    p.leave("e");
    p.login("idle", "app3", &own, &[]);
    p.end("idle");
    for command in [
        "KILL_CLIENT",
        "KILL_CLIENT x",
        "KILL_CLIENT 12345",
        "kill_client 0",
        "KILL_CLIENT 18446744073709551615",
        "KILL_CLIENT 18446744073709551616",
        "KILL_CLIENT 99999999999999999999999999",
        "KILL_CLIENT \"-1\"",
        "KILL_CLIENT \" +12345\"",
        "KILL_CLIENT \"-\"",
    ] {
        p.ask("admin", command);
    }
    p.ask("admin", "KILL_CLIENT \"1\"");
    p.steps
}

fn look_at_hosts(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("admin", "admin", "pgbouncer", &[]);
    for (name, database) in [("a", &*own), ("b", &*own), ("c", "other"), ("d", "other")] {
        p.login(name, "app", database, &[]);
        p.ask(name, "begin");
    }
    for table in ["DATABASES", "POOLS", "SERVERS"] {
        p.ask("admin", &format!("SHOW {table}"));
    }
    p.steps
}

fn look_up(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    for (user, password) in [
        ("app2", "secret"),
        ("app2", "wrong"),
        ("hashed", "secret"),
        ("missing", "secret"),
        ("null", "secret"),
        ("fails", "secret"),
        ("other", "secret"),
        ("other", ""),
    ] {
        p.prove(user, password);
    }
    p.steps
}

fn startup(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    for more in [
        ("application_name", "x"),
        ("extra_float_digits", "3"),
        ("options", "-c extra_float_digits=2"),
        ("options", "-c datestyle=German"),
        ("options", "--datestyle=German"),
        ("options", "-c IntervalStyle=iso_8601"),
        ("options", "-c"),
        ("options", "-c="),
        ("options", "-c =1"),
        ("options", "-x"),
        ("options", ""),
        ("IntervalStyle", "iso_8601"),
        ("replication", "false"),
        ("_pq_.nosuch", "1"),
    ] {
        p.login("a", "app", &own, &[more]);
        p.ask("a", "show datestyle");
        p.leave("a");
    }
    p.login("a", "app", &own, &[("replication", "nonsense")]);
    p.leave("a");
    let who = [("user", "app"), ("database", &*own)];
    for minor in [1, 2, 9999] {
        let packet = Frontend::new().startup((3, minor), &who);
        p.knock(&format!("protocol 3.{minor}"), packet);
    }
    let long = "x".repeat(70);
    for (what, parameters) in [
        ("a long user", vec![("user", &*long), ("database", &*own)]),
        (
            "a long database",
            vec![("user", "app"), ("database", &*long)],
        ),
        (
            "the user twice",
            vec![("user", "app"), ("user", "app2"), ("database", &*own)],
        ),
        (
            "no value",
            vec![
                ("user", "app"),
                ("database", &*own),
                ("application_name", ""),
            ],
        ),
    ] {
        p.knock(what, Frontend::new().startup((3, 0), &parameters));
    }
    let plain = Frontend::new().startup((3, 0), &who);
    let rest = &plain.bytes[4..plain.bytes.len() - 1];
    let mut bytes = (plain.bytes.len() as u32 - 1).to_be_bytes().to_vec();
    bytes.extend(rest);
    p.knock("no end", Frontend { bytes });
    for (what, code) in [("SSLRequest", 5679), ("GSSENCRequest", 5680)] {
        let request = Frontend::new().request((1234, code));
        p.knock(&format!("{what} with more"), request.startup((3, 0), &who));
    }
    let twice = Frontend {
        bytes: [plain.bytes.clone(), plain.bytes].concat(),
    };
    p.knock("twice", twice);
    p.steps
}

/// How it ends when there is still somebody.
fn wait_for(pooler: &Pooler, command: &str) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    p.login("admin", "admin", "pgbouncer", &[]);
    p.login("a", "app", &own, &[]);
    p.login("b", "app", &own, &[]);
    p.ask("a", "begin");
    p.ask("admin", command);
    p.ask("admin", command);
    p.ask("admin", "SHOW STATE");
    p.ask("admin", "RESUME");
    p.ask("admin", "PAUSE");
    p.ask("a", "select 1");
    p.ask("a", "commit");
    p.ask("b", "select 2");
    p.steps
}

fn long_transaction(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    let own = pooler.database.clone();
    for sql in ["begin", "select pg_sleep(60)"] {
        p.login("a", "app", &own, &[]);
        p.begin("a", sql);
        p.end("a");
        p.end("a");
    }
    p.login("a", "app", &own, &[]);
    p.ask("a", "select 1");
    p.steps
}

fn told_to_wait(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    p.b_waits_for_a();
    p.end("b");
    p.ask("a", "commit");
    p.end("b");
    p.steps
}

fn newest(pooler: &Pooler) -> Vec<Step> {
    let mut p = Player::new(pooler);
    p.login("admin", "admin", "pgbouncer", &[]);
    p.b_waits_for_a();
    p.end("b");
    for command in [
        "SET extra_float_digits = 3",
        "SHOW extra_float_digits",
        "SHOW STATE",
        "SUSPEND",
        "RESUME",
        "KILL",
    ] {
        p.ask("admin", command);
    }
    p.ask("a", "select 1");
    p.steps
}
