//! Who gets in, and how pgweir gets in at the server.

use std::collections::BTreeMap;

use crate::support::{Cluster, Failure, Frontend, Pooler, RawClient, Setup, Target, psql, target};

const PASSWORD: &str = "secret of app";

/// The secret of `user` as PostgreSQL has stored it.
fn stored(user: &str) -> String {
    let sql = format!("select rolpassword from pg_authid where rolname = '{user}'");
    Cluster::shared().admin("postgres").value(&sql)
}

/// Secrets for `app` that all mean [`PASSWORD`], by their kind.
fn secrets() -> BTreeMap<&'static str, String> {
    let mut admin = Cluster::shared().admin("postgres");
    let md5 = admin.value(&format!("select 'md5' || md5('{PASSWORD}' || 'app')"));
    // A verifier does not contain the user's name: that of a role which never
    // comes to be is as good.
    admin.query("begin");
    admin.query(&format!("create role of_a_moment password '{PASSWORD}'"));
    let sql = "select rolpassword from pg_authid where rolname = 'of_a_moment'";
    let scram = admin.value(sql);
    admin.query("rollback");
    BTreeMap::from([
        ("plain", PASSWORD.to_owned()),
        ("md5", md5),
        ("scram", scram),
    ])
}

fn pooler(method: &str, secret: &str) -> Pooler {
    let setup = Setup::new().set("auth_type", method);
    setup.user("app", "password", secret).start()
}

fn login(pooler: &Pooler, user: &str, password: &str) -> Result<RawClient, Failure> {
    RawClient::try_login(&pooler.address, user, &pooler.database, Some(password))
}

/// What kind of AuthenticationRequest comes first, and what follows.
fn first_request(pooler: &Pooler, user: &str) -> (RawClient, Vec<u8>) {
    let mut client = RawClient::connect(&pooler.address);
    let parameters = [("user", user), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    let request = client.read();
    assert_eq!(request.tag, b'R', "{request:?}");
    (client, request.body)
}

#[test]
fn every_method_with_every_secret() {
    let secrets = secrets();
    for (method, secret, request) in [
        ("plain", "plain", 3),
        ("plain", "md5", 3),
        ("plain", "scram", 3),
        ("md5", "plain", 5),
        ("md5", "md5", 5),
        ("md5", "scram", 10), // SCRAM is what can be done with a verifier
        ("scram-sha-256", "plain", 10),
        ("scram-sha-256", "scram", 10),
    ] {
        let pooler = pooler(method, &secrets[secret]);
        let (_, body) = first_request(&pooler, "app");
        assert_eq!(body[..4], [0, 0, 0, request], "{method} with {secret}");
        let client = login(&pooler, "app", PASSWORD);
        let mut client = client.unwrap_or_else(|e| panic!("{method} with {secret}: {e:?}"));
        assert_eq!(client.value("select current_user"), "app");
        for wrong in [
            "wrong",
            "secret of ap",
            "secret of app ",
            "Secret of app",
            "x",
        ] {
            let failure = login(&pooler, "app", wrong).expect_err("wrong password");
            assert_eq!(failure.severity(), "FATAL", "{method} with {secret}");
            assert_eq!(
                failure.sqlstate(),
                pooler.sqlstate("28P01"),
                "{method} with {secret}: {failure:?}"
            );
        }
        // A second opinion: libpq.
        let libpq = |password| psql(&pooler.dsn()).env("PGPASSWORD", password);
        assert_eq!(libpq(PASSWORD).args(&["-c", "select 42"]).succeed(), "42");
        assert!(
            libpq("wrong")
                .args(&["-c", "select 42"])
                .fail()
                .contains("authentication failed")
        );
    }
}

#[test]
fn scram_with_an_md5_hash_is_refused() {
    let pooler = pooler("scram-sha-256", &secrets()["md5"]);
    let failure = login(&pooler, "app", PASSWORD).expect_err("no way to check");
    assert_eq!(failure.sqlstate(), pooler.sqlstate("28P01"));
}

#[test]
fn trust_asks_for_nothing_but_a_known_user() {
    let pooler = Setup::new().start();
    assert_eq!(pooler.login().value("select current_user"), "app");
    let unknown = RawClient::try_login(&pooler.address, "nobody", &pooler.database, None);
    let failure = unknown.expect_err("unknown");
    assert_eq!(failure.severity(), "FATAL");
    assert_eq!(failure.sqlstate().len(), 5);
}

#[test]
fn any_lets_everybody_in_as_the_forced_user() {
    let setup = Setup::new()
        .set("auth_type", "any")
        .pool_size(1)
        .for_database("user", "app2");
    let pooler = setup.start();
    for user in ["app", "nobody", "somebody else"] {
        assert_eq!(pooler.login_as(user).value("select current_user"), "app2");
    }
    // They share one pool: three would have a connection each.
    assert_eq!(pooler.backends().len(), 1);
}

#[test]
fn forced_user_keeps_the_clients_own_authentication() {
    let setup = Setup::new()
        .set("auth_type", "scram-sha-256")
        .for_database("user", "app2");
    let pooler = setup.start();
    let mut client = login(&pooler, "app", PASSWORD).expect("login");
    assert_eq!(client.value("select current_user"), "app2");
    login(&pooler, "app", "secret of app2").expect_err("app's password counts");
}

/// The fields of a failure, with the name of the user made the same.
fn without_name(failure: Failure, user: &str) -> BTreeMap<char, String> {
    let rename = |text: String| text.replace(&format!("\"{user}\""), "\"USER\"");
    failure
        .fields
        .into_iter()
        .map(|(key, text)| (key, rename(text)))
        .collect()
}

#[test]
fn unknown_user_looks_like_a_wrong_password() {
    for method in ["plain", "md5", "scram-sha-256"] {
        let pooler = pooler(method, PASSWORD);
        let known = first_request(&pooler, "app").1;
        let unknown = first_request(&pooler, "nobody").1;
        assert_eq!(known[..4], unknown[..4], "{method}");
        assert_eq!(known.len(), unknown.len(), "{method}");
        let known = login(&pooler, "app", "wrong").expect_err("wrong password");
        let unknown = login(&pooler, "nobody", "wrong").expect_err("unknown user");
        assert_eq!(
            without_name(known, "app"),
            without_name(unknown, "nobody"),
            "{method}"
        );
    }
}

#[test]
fn unknown_database_is_told_only_after_login() {
    let pooler = pooler("scram-sha-256", PASSWORD);
    let at = |database: &str, password: &str| {
        RawClient::try_login(&pooler.address, "app", database, Some(password)).err()
    };
    let wrong = at("no_such_database", "wrong").expect("refused");
    assert_eq!(Some(wrong), at(&pooler.database, "wrong"));
    let right = at("no_such_database", PASSWORD).expect("refused");
    assert_eq!(right.sqlstate(), pooler.sqlstate("3D000"), "{right:?}");
    assert!(right.message().contains("no_such_database"), "{right:?}");
}

/// The salt and the iterations of the server-first-message for this user.
fn salt_and_iterations(pooler: &Pooler, user: &str) -> (String, String) {
    let (mut client, _) = first_request(pooler, user);
    let first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO";
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend((first.len() as u32).to_be_bytes());
    body.extend(first);
    client.send(&Frontend::new().password(&body));
    let challenge = client.read();
    assert_eq!(challenge.body[..4], [0, 0, 0, 11]);
    let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    let mut parts = text.split(',').skip(1).map(str::to_owned);
    (
        parts.next().expect("salt"),
        parts.next().expect("iterations"),
    )
}

#[test]
fn unknown_users_have_a_salt_that_stays() {
    let pooler = pooler("scram-sha-256", &secrets()["scram"]);
    let known = salt_and_iterations(&pooler, "app");
    let nobody = salt_and_iterations(&pooler, "nobody");
    assert_eq!(
        nobody,
        salt_and_iterations(&pooler, "nobody"),
        "or they would give themselves away"
    );
    assert_ne!(nobody.0, salt_and_iterations(&pooler, "no one").0);
    assert_eq!(known.0.len(), nobody.0.len());
    assert_eq!(known.1, nobody.1);
}

#[test]
fn every_method_at_the_server() {
    for user in ["plain", "md5", "scram"] {
        let setup = Setup::new().set("auth_type", "trust");
        let pooler = setup
            .user(user, "password", &*format!("secret of {user}"))
            .start();
        assert_eq!(pooler.login_as(user).value("select current_user"), user);
    }
    // The hash is as good as the password where the server asks for md5.
    let setup = Setup::new().user("md5", "password", &*stored("md5"));
    assert_eq!(
        setup.start().login_as("md5").value("select current_user"),
        "md5"
    );
}

#[test]
fn password_of_the_database_definition() {
    let setup = Setup::new().for_database("user", "scram");
    let pooler = setup.for_database("password", "secret of scram").start();
    assert_eq!(pooler.login().value("select current_user"), "scram");
}

#[test]
fn scram_pass_through() {
    // The pooler knows the verifier only, which PostgreSQL has as well.
    let setup = Setup::new().set("auth_type", "scram-sha-256");
    let pooler = setup.user("scram", "password", &*stored("scram")).start();
    let mut clients: Vec<_> = (0..4)
        .map(|_| login(&pooler, "scram", "secret of scram").expect("login"))
        .collect();
    for client in &mut clients {
        assert_eq!(client.value("select current_user"), "scram");
    }
    clients[0].query("begin");
    clients[1].query("begin");
    assert_eq!(pooler.backends().len(), 2);
    login(&pooler, "scram", "wrong").expect_err("wrong password");
}

#[test]
fn verifier_of_another_password_does_not_pass() {
    let setup = Setup::new().set("auth_type", "scram-sha-256");
    let pooler = setup.user("scram", "password", &*stored("scram2")).start();
    // The client proves itself to the pooler, but not to the server.
    let outcome = login(&pooler, "scram", "secret of scram2").and_then(|mut client| {
        client.send(&Frontend::new().query("select 1"));
        let message = client.read();
        if message.tag == b'E' {
            Err(message.failure())
        } else {
            Ok(())
        }
    });
    assert_eq!(
        outcome.expect_err("refused by the server").severity(),
        "FATAL"
    );
}

#[test]
fn wrong_password_at_the_server_is_told() {
    let pooler = Setup::new().user("scram", "password", "not it").start();
    let outcome = RawClient::try_login(&pooler.address, "scram", &pooler.database, None);
    let failure = outcome.and_then(|mut client| {
        client.send(&Frontend::new().query("select 1"));
        Err::<(), _>(client.read().failure())
    });
    let failure = failure.expect_err("refused");
    assert_eq!(failure.sqlstate(), "28P01", "{failure:?}");
}

#[test]
fn auth_file_besides_the_toml() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("userlist.txt");
    let lines = "; a comment\n\"app\" \"with \"\"quotes\"\"\"\n\n\"odd \"\"name\" \"x\" ignored\n";
    std::fs::write(&path, lines).expect("userlist");
    let setup = Setup::new().set("auth_type", "plain").without_user("app");
    let pooler = setup.set("auth_file", &*path.display().to_string()).start();
    let mut client = login(&pooler, "app", "with \"quotes\"").expect("login");
    assert_eq!(client.value("select current_user"), "app");
    login(&pooler, "app", "with quotes").expect_err("wrong password");
    // In a TOML file there are users as well.
    if matches!(target(), Target::Pgweir { ini: false, .. }) {
        login(&pooler, "app2", "secret of app2").expect("login");
    }
}

#[test]
fn many_scram_logins_do_not_hold_up_others() {
    let pooler = pooler("scram-sha-256", PASSWORD);
    let mut client = login(&pooler, "app", PASSWORD).expect("login");
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..5 {
                        login(&pooler, "app", PASSWORD).expect("login");
                    }
                })
            })
            .collect();
        while !logins.iter().all(|login| login.is_finished()) {
            assert_eq!(client.value("select 1"), "1");
        }
    });
}
