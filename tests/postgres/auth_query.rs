//! Users that only the server knows.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{
    Cluster, Failure, Frontend, Pooler, RawClient, Setup, eventually, psql, secs,
};

/// The user that asks; it needs no password at the server.
const ASKER: &str = "app3";

/// Finds users, and remembers whom it was asked for.
const LOOK: &str = "\
create table asked (name text);
create function look(n text) returns table (name text, secret text)
language sql security definer as $$
  insert into asked values (n);
  select rolname::text, rolpassword::text from pg_authid where rolname = n;
$$;
create function look_slowly(n text, seconds float) returns table (name text, secret text)
language sql as $$ select pg_sleep(seconds); select * from look(n) $$;
create function look_when_free(n text) returns table (name text, secret text)
language sql as $$ select pg_advisory_xact_lock(1); select * from look(n) $$";

fn setup(method: &str) -> Setup {
    let setup = Setup::new().set("auth_type", method);
    setup.set("auth_user", ASKER).pool_size(3)
}

/// Starts the pooler in front of a database in which users can be looked up.
fn start(setup: Setup) -> Pooler {
    let pooler = setup.start();
    let mut admin = pooler.admin();
    admin.query(&format!("grant select on pg_authid to {ASKER}"));
    admin.query(LOOK);
    pooler
}

fn with_look(method: &str) -> Setup {
    setup(method).set("auth_query", "select * from look($1)")
}

/// A role that no other test has, with its password in this form.
fn role(form: &str, password: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("sought{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = Cluster::shared().admin("postgres");
    admin.query(&format!("create role {name} login in role looked_up"));
    change(&name, form, password);
    name
}

fn change(role: &str, form: &str, password: &str) {
    let mut admin = Cluster::shared().admin("postgres");
    admin.query(&format!("set password_encryption = '{form}'"));
    admin.query(&format!("alter role {role} password '{password}'"));
}

fn login(pooler: &Pooler, user: &str, password: &str) -> Result<RawClient, Failure> {
    RawClient::try_login(&pooler.address, user, &pooler.database, Some(password))
}

#[track_caller]
fn lets_in(pooler: &Pooler, user: &str, password: &str) -> RawClient {
    let client = login(pooler, user, password);
    let mut client = client.unwrap_or_else(|failure| panic!("{user}: {failure:?}"));
    assert_eq!(client.value("select current_user"), user);
    client
}

#[track_caller]
fn refuses(pooler: &Pooler, user: &str, password: &str) -> Failure {
    login(pooler, user, password).expect_err("refused")
}

#[track_caller]
fn has_logged(pooler: &Pooler, text: &str) {
    eventually(text, true, || pooler.log().contains(text));
}

fn asked(pooler: &Pooler) -> String {
    pooler.admin().value("select count(*) from asked")
}

#[test]
fn every_form_of_secret_with_every_method() {
    let (md5, scram) = (role("md5", "one"), role("scram-sha-256", "two"));
    for (method, users) in [
        ("plain", &[(&md5, "one"), (&scram, "two")][..]),
        ("md5", &[(&md5, "one"), (&scram, "two")]),
        ("scram-sha-256", &[(&scram, "two")]),
    ] {
        for setup in [setup(method), setup(method).in_ini()] {
            let pooler = start(setup);
            for (user, password) in users {
                let mut first = lets_in(&pooler, user, password);
                let mut second = lets_in(&pooler, user, password);
                // Each has a server connection, opened with what was found.
                first.query("begin");
                second.query("begin");
                for wrong in ["One", "on", "one ", "x"] {
                    let failure = refuses(&pooler, user, wrong);
                    assert!(failure.message().ends_with("authentication failed"));
                }
                let dsn = pooler.dsn_of(user);
                let libpq = psql(&dsn).env("PGPASSWORD", password);
                assert_eq!(libpq.args(&["-c", "select 42"]).succeed(), "42");
            }
        }
    }
}

#[test]
fn a_secret_that_is_the_password_itself() {
    let query = "select 'plain', 'secret of plain' where $1 = 'plain'";
    for method in ["plain", "md5", "scram-sha-256"] {
        for setup in [setup(method), setup(method).in_ini()] {
            let pooler = start(setup.set("auth_query", query));
            lets_in(&pooler, "plain", "secret of plain");
            let failure = refuses(&pooler, "plain", "x");
            assert!(failure.message().ends_with("authentication failed"));
        }
    }
}

#[test]
fn who_is_listed_is_not_looked_up() {
    for setup in [with_look("md5"), with_look("md5").in_ini()] {
        let pooler = start(setup);
        lets_in(&pooler, "app", "secret of app");
        refuses(&pooler, "app", "wrong");
        assert_eq!(asked(&pooler), "0");
    }
}

#[test]
fn trust_asks_whether_there_is_such_a_user() {
    // A server that asks for a password would have to be shown one.
    let query = "select $1, null where $1 = 'app2'";
    for setup in [setup("trust"), setup("trust").in_ini()] {
        let pooler = start(setup.set("auth_query", query).without_user("app2"));
        lets_in(&pooler, "app2", "");
        refuses(&pooler, "nobody", "");
    }
}

#[test]
fn an_unknown_user_of_an_ini_is_told_so() {
    for method in ["trust", "plain", "md5", "scram-sha-256"] {
        let pooler = start(setup(method).in_ini());
        let failure = refuses(&pooler, "nobody", "x");
        let seen = (failure.sqlstate(), failure.message());
        assert_eq!(seen, ("08P01", "no such user"), "{method}");
        has_logged(&pooler, "pooler error: no such user");
    }
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    for (method, form) in [
        ("plain", "md5"),
        ("md5", "md5"),
        ("md5", "scram-sha-256"),
        ("scram-sha-256", "scram-sha-256"),
    ] {
        let known = role(form, "right");
        let pooler = start(setup(method).in_toml());
        lets_in(&pooler, &known, "right");
        let wrong = refuses(&pooler, &known, "wrong");
        assert_eq!(
            refuses(&pooler, "nobody", "wrong"),
            wrong,
            "{method} {form}"
        );
        let request = |user: &str| {
            let mut client = RawClient::connect(&pooler.address);
            let parameters = [("user", user), ("database", pooler.database.as_str())];
            client.send(&Frontend::new().startup((3, 0), &parameters));
            client.read().body[..4].to_vec()
        };
        assert_eq!(request("nobody"), request(&known), "{method} {form}");
    }
}

#[test]
fn an_expired_role_fails_like_a_wrong_password() {
    let user = role("scram-sha-256", "right");
    let mut admin = Cluster::shared().admin("postgres");
    for setup in [setup("scram-sha-256"), setup("scram-sha-256").in_ini()] {
        let until = |when: &str| format!("alter role {user} valid until '{when}'");
        admin.query(&until("tomorrow"));
        let pooler = start(setup);
        lets_in(&pooler, &user, "right");
        let wrong = refuses(&pooler, &user, "wrong");
        admin.query(&until("yesterday"));
        pooler.console().query("RECONNECT");
        assert_eq!(refuses(&pooler, &user, "right"), wrong);
        assert_eq!(wrong.message(), "SASL authentication failed");
    }
}

#[test]
fn a_role_without_a_password_and_one_that_may_not_log_in() {
    let mut admin = Cluster::shared().admin("postgres");
    let (bare, barred) = (role("md5", "x"), role("md5", "x"));
    admin.query(&format!("alter role {bare} password null"));
    admin.query(&format!("alter role {barred} nologin"));
    let pooler = start(setup("md5").in_ini());
    let failure = refuses(&pooler, &bare, "x");
    assert_eq!(failure.message(), "SASL authentication failed");
    assert_eq!(refuses(&pooler, &barred, "x").message(), "no such user");
}

#[test]
fn a_changed_password_is_known_at_once() {
    for (method, form) in [("plain", "scram-sha-256"), ("plain", "md5"), ("md5", "md5")] {
        let user = role(form, "old");
        let pooler = start(setup(method).set("auth_query_cache_ttl", secs(60.0)));
        lets_in(&pooler, &user, "old");
        change(&user, form, "new");
        let mut client = lets_in(&pooler, &user, "new");
        refuses(&pooler, &user, "old");
        // Connections are opened with the new one, on every worker.
        let mut others: Vec<_> = (0..3).map(|_| lets_in(&pooler, &user, "new")).collect();
        pooler.console().query("RECONNECT");
        client.query("begin");
        others[0].query("begin");
        others[1].query("begin");
    }
}

#[test]
fn a_changed_scram_password_is_known_at_the_next_try() {
    let user = role("scram-sha-256", "old");
    let method = || setup("scram-sha-256");
    let pooler = start(method().set("auth_query_cache_ttl", secs(60.0)));
    lets_in(&pooler, &user, "old");
    change(&user, "scram-sha-256", "new");
    // The client has been given the salt of the old one.
    refuses(&pooler, &user, "new");
    lets_in(&pooler, &user, "new");
    refuses(&pooler, &user, "old");

    let pooler = start(method().in_ini());
    lets_in(&pooler, &user, "new");
    change(&user, "scram-sha-256", "newer");
    lets_in(&pooler, &user, "newer");
}

#[test]
fn answers_are_kept_for_a_while() {
    let user = role("md5", "x");
    let pooler = start(with_look("md5").set("auth_query_cache_ttl", secs(60.0)));
    for _ in 0..3 {
        lets_in(&pooler, &user, "x");
    }
    assert_eq!(asked(&pooler), "1");
    for (command, count) in [("RECONNECT", "2"), ("RELOAD", "3")] {
        pooler.console().query(command);
        // It tells the workers, and does not wait for them.
        eventually(command, count.to_owned(), || {
            lets_in(&pooler, &user, "x");
            asked(&pooler)
        });
    }
    // With a pgbouncer.ini every login asks.
    let pooler = start(with_look("md5").in_ini());
    for count in ["1", "2"] {
        lets_in(&pooler, &user, "x");
        assert_eq!(asked(&pooler), count);
    }
    // No password that is wrong asks more than once.
    refuses(&pooler, &user, "y");
    assert_eq!(asked(&pooler), "3");
}

#[test]
fn a_slow_answer_is_shared_and_holds_nobody_up() {
    let user = role("md5", "x");
    let query = "select * from look_when_free($1)";
    let setup = setup("md5").set("auth_query", query).pool_size(1);
    let pooler = start(setup.in_ini());
    let mut admin = pooler.admin();
    admin.query("select pg_advisory_lock(1)");
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| drop(lets_in(&pooler, &user, "x"))))
            .collect();
        eventually("clients that log in", Some("6".to_owned()), || {
            let lists = pooler.show("lists");
            let row = lists.iter().find(|row| row["list"] == "login_clients");
            row.map(|row| row["items"].clone())
        });
        let mut other = lets_in(&pooler, "app", "secret of app");
        for _ in 0..100 {
            assert_eq!(other.value("select 1"), "1");
        }
        assert!(logins.iter().all(|login| !login.is_finished()));
        admin.query("select pg_advisory_unlock(1)");
    });
    assert_eq!(asked(&pooler), "1");
}

#[test]
fn whoever_leaves_gives_the_connection_back() {
    let user = role("md5", "x");
    // Slow for one of them, whose server connection is the only one.
    let query = "select * from look_slowly($1, case $1 when 'slow' then 600 else 0 end)";
    let setup = setup("md5").set("auth_query", query).pool_size(1);
    let pooler = start(setup);
    let mut slow = RawClient::connect(&pooler.address);
    let parameters = [("user", "slow"), ("database", pooler.database.as_str())];
    slow.send(&Frontend::new().startup((3, 0), &parameters));
    pooler.expect_backends(1);
    slow.close();
    lets_in(&pooler, &user, "x");
}

#[test]
fn client_login_timeout_bounds_it() {
    let query = "select * from look_slowly($1, 600)";
    let setup = setup("md5").set("auth_query", query).pool_size(1);
    let pooler = start(setup.set("client_login_timeout", secs(0.3)));
    let failure = refuses(&pooler, "nobody", "x");
    assert_eq!(failure.message(), "client_login_timeout");
}

#[test]
fn what_the_query_gives_must_be_a_user_and_a_secret() {
    for (query, reason) in [
        ("select $1", "expected 2 columns from auth_query, not 1"),
        (
            "select $1, 2, 3",
            "expected 2 columns from auth_query, not 3",
        ),
        (
            "values ($1, 'b'), ('c', 'd')",
            "expected 1 row at most from auth_query",
        ),
        (
            "select null, $1",
            "expected a user's name and a secret from auth_query",
        ),
        ("select n, $1 from nowhere", "nowhere"),
        ("select 1, 2", "requires 0"),
        ("begin", "requires 0"),
    ] {
        for ini in [true, false] {
            let setup = setup("md5").set("auth_query", query);
            let pooler = start(setup.in_format(ini));
            let failure = refuses(&pooler, "nobody", "x");
            let seen = (failure.sqlstate(), failure.message());
            assert_eq!(seen, ("08P01", "bouncer config error"), "{query}");
            has_logged(&pooler, reason);
            // The others of its pool are not harmed.
            lets_in(&pooler, ASKER, &format!("secret of {ASKER}"));
        }
    }
}

#[test]
fn where_users_are_looked_up() {
    let user = role("md5", "x");
    let elsewhere = Cluster::shared().create_database();
    let mut admin = Cluster::shared().admin(&elsewhere);
    admin.query(&format!("grant select on pg_authid to {ASKER}"));
    let port = i32::from(Cluster::shared().port);
    let setup = || {
        let setup = Setup::new().set("auth_type", "md5");
        setup
            .database("elsewhere", "dbname", &*elsewhere)
            .database("elsewhere", "host", "127.0.0.1")
            .database("elsewhere", "port", port)
            // Not the user that asks.
            .database("elsewhere", "user", "app2")
    };
    for ini in [true, false] {
        for own in [true, false] {
            let setup = match own {
                true => setup()
                    .set("auth_dbname", "elsewhere")
                    .set("auth_query", "select broken")
                    .for_database("auth_user", ASKER)
                    .for_database(
                        "auth_query",
                        "select rolname, rolpassword from pg_authid where rolname = $1",
                    ),
                false => setup()
                    .set("auth_user", ASKER)
                    .set("auth_dbname", "elsewhere"),
            };
            let pooler = setup.in_format(ini).start();
            lets_in(&pooler, &user, "x");
            // Also after a reload, which keeps the pool.
            pooler.console().query("RELOAD");
            lets_in(&pooler, &user, "x");
        }
    }
    let database = setup().set("auth_dbname", "nowhere");
    let database = database.for_database("auth_dbname", "elsewhere");
    let pooler = database.set("auth_user", ASKER).in_ini().start();
    lets_in(&pooler, &user, "x");
}

#[test]
fn a_database_in_which_nobody_can_be_looked_up() {
    let refused = |pooler: &Pooler, text: &str| {
        let failure = refuses(pooler, "nobody", "x");
        assert_eq!((failure.sqlstate(), failure.message()), ("08P01", text));
    };
    let pooler = start(setup("md5").in_ini().set("auth_dbname", "nowhere"));
    refused(&pooler, "bouncer config error");
    has_logged(
        &pooler,
        "authentication database \"nowhere\" is not configured",
    );

    let setup_of = setup("md5")
        .in_ini()
        .for_database("auth_dbname", "pgbouncer");
    let pooler = start(setup_of);
    refused(&pooler, "bouncer config error");
    has_logged(
        &pooler,
        "cannot use the reserved \"pgbouncer\" database as an auth_dbname",
    );

    for setup in [setup("md5"), setup("md5").in_ini()] {
        let name = "elsewhere";
        let setup = setup.alias(name).set("auth_dbname", name);
        let pooler = start(setup);
        pooler.console().query("DISABLE elsewhere");
        refused(&pooler, "authentication database \"elsewhere\" is disabled");
    }
}

#[test]
fn the_console_lets_in_who_was_looked_up() {
    let user = role("scram-sha-256", "x");
    for ini in [true, false] {
        let setup = || {
            let setup = setup("md5").set("admin_users", &*user);
            setup.in_format(ini)
        };
        let aside = setup().alias("elsewhere");
        let pooler = start(aside.set("auth_dbname", "elsewhere"));
        let console =
            |password| RawClient::try_login(&pooler.address, &user, "pgbouncer", Some(password));
        let mut client = console("x").expect("login");
        assert_eq!(client.query("RELOAD").command_tags(), ["RELOAD"]);
        console("y").expect_err("wrong password");

        // It has no database of its own to ask in.
        let pooler = start(setup());
        let failure = RawClient::try_login(&pooler.address, &user, "pgbouncer", Some("x"));
        let failure = failure.expect_err("nowhere to ask");
        let text = match ini {
            true => "bouncer config error",
            false => "password authentication failed",
        };
        assert_eq!(failure.message(), text);
    }
}

#[test]
fn settings_and_limits_of_a_user_that_was_looked_up() {
    let user = role("md5", "x");
    for ini in [true, false] {
        let setup = setup("md5").user(&user, "pool_mode", "session").user(
            &user,
            "max_user_client_connections",
            1,
        );
        let pooler = start(setup.in_format(ini));
        let _client = lets_in(&pooler, &user, "x");
        let failure = refuses(&pooler, &user, "x");
        let text = "client connections exceeded (max_user_client_connections)";
        assert_eq!(failure.message(), text);
        let mut console = pooler.console();
        let rows = console.query("SHOW USERS").rows();
        let row = rows.iter().find(|row| row[0].as_deref() == Some(&user));
        let row = row.expect("it is listed");
        assert_eq!(row[3].as_deref(), Some("session"));
        assert_eq!(row[7].as_deref(), Some("1"));
    }
    // Also one that the configuration does not know at all.
    let pooler = start(setup("md5"));
    let other = role("md5", "x");
    let _client = lets_in(&pooler, &other, "x");
    let mut console = pooler.console();
    let names = console.query("SHOW USERS").column();
    assert!(names.contains(&other), "{names:?}");
}

#[test]
fn a_reload_keeps_what_was_found() {
    for (form, method) in [("md5", "md5"), ("scram-sha-256", "scram-sha-256")] {
        let user = role(form, "x");
        let pooler = start(setup(method).in_ini());
        let mut clients = [lets_in(&pooler, &user, "x"), lets_in(&pooler, &user, "x")];
        let mut console = pooler.console();
        console.query("RELOAD");
        console.query("RECONNECT");
        for client in &mut clients {
            client.query("begin");
            assert_eq!(client.value("select current_user"), user);
        }
    }
}
