//! Who gets in by the rules of `auth_hba_file`, by what the system or a
//! certificate says of it, and as the pooler's own user.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::support::{
    Address, Certificates, Cluster, Failure, Frontend, Pooler, RawClient, Setup, eventually,
    pgweir, psql, server_user,
};

/// The files that rules stand in.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(rules: &str) -> Files {
        let dir = tempfile::tempdir().expect("directory");
        let files = Files { dir };
        files.write("hba", rules);
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect(name);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn in_force(&self, setup: Setup) -> Setup {
        let path = |name| self.path(name).display().to_string();
        let setup = match self.path("ident").exists() {
            true => setup.set("auth_ident_file", &*path("ident")),
            false => setup,
        };
        setup
            .set("auth_type", "hba")
            .set("auth_hba_file", &*path("hba"))
    }

    /// With users for each of the server's ways to ask.
    fn start(&self) -> Pooler {
        let setup = ["md5", "plain", "scram"]
            .into_iter()
            .fold(Setup::new(), |setup, user| {
                setup.user(user, "password", &*format!("secret of {user}"))
            });
        self.in_force(setup).start()
    }
}

/// What the machine calls us.
fn system_user() -> String {
    let user = User::from_uid(geteuid()).expect("a user").expect("a user");
    user.name
}

/// What a client is asked for, by its number; or why it is turned away.
fn asked(pooler: &Pooler, address: &Address, user: &str, database: &str) -> Result<u8, Failure> {
    let mut client = match (crate::support::tls::everywhere(), address) {
        (true, Address::Tcp(_)) => RawClient::try_connect_tls(address).expect("TLS"),
        _ => RawClient::connect(address),
    };
    let parameters = [("user", user), ("database", database)];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    let message = client.read();
    match message.tag {
        b'R' => Ok(message.body[3]),
        b'E' => Err(message.failure()),
        other => panic!("{other}: {}", pooler.log()),
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    result.expect_err("turned away").message().to_owned()
}

#[test]
fn the_first_rule_that_fits_decides() {
    let files = Files::new(
        "local all        app                 trust\n\
         local pgbouncer  admin               trust\n\
         host  all        app   127.0.0.1/32  reject\n\
         host  all        app2  10.0.0.0/8    trust\n\
         host  all        app3  127.0.0.0/8   trust\n\
         host  all        md5   all           md5\n\
         host  all        plain 0.0.0.0/0     password\n\
         host  other      scram all           trust\n\
         host  all        scram all           scram-sha-256\n",
    );
    let pooler = files.start();
    let ask = |address, user| asked(&pooler, address, user, &pooler.database);
    let (tcp, socket) = (&pooler.address, &pooler.socket);
    assert_eq!(ask(socket, "app").unwrap(), 0);
    assert_eq!(ask(tcp, "app3").unwrap(), 0);
    assert_eq!(ask(tcp, "md5").unwrap(), 5);
    assert_eq!(ask(tcp, "plain").unwrap(), 3);
    assert_eq!(ask(tcp, "scram").unwrap(), 10);
    let rejected = ask(tcp, "app").expect_err("rejected");
    assert_eq!(rejected.severity(), "FATAL");
    assert_eq!(rejected.message(), "login rejected");
    for (address, user) in [(tcp, "app2"), (tcp, "nobody"), (socket, "app2")] {
        let none = "no authentication method is found";
        assert_eq!(message(ask(address, user)), none, "{user}");
    }
    let known = pooler.log();
    assert!(known.contains("auth_hba_file, line 3"), "{known}");
    // The console is a database like others.
    assert_eq!(asked(&pooler, socket, "admin", "pgbouncer").unwrap(), 0);
    assert_eq!(
        message(asked(&pooler, tcp, "admin", "pgbouncer")),
        "no authentication method is found"
    );
    // All the way, as libpq does it.
    for user in ["md5", "plain", "scram"] {
        let run = |password: &str| {
            psql(&pooler.dsn_of(user))
                .env("PGPASSWORD", password)
                .args(&["-c", "select current_user"])
        };
        assert_eq!(run(&format!("secret of {user}")).succeed(), user);
        let refused = run("wrong").fail();
        assert!(refused.contains("authentication failed"), "{refused}");
    }
}

#[test]
fn md5_rules_ask_by_scram_for_a_verifier() {
    let files = Files::new("host all all all md5\n");
    let stored = "select rolpassword from pg_authid where rolname = 'scram'";
    let verifier = Cluster::shared().admin("postgres").value(stored);
    let setup = files.in_force(Setup::new());
    let pooler = setup.user("scram", "password", &*verifier).start();
    let ask = |user| asked(&pooler, &pooler.address, user, &pooler.database);
    assert_eq!(ask("scram").unwrap(), 10);
    assert_eq!(ask("app").unwrap(), 5);
    let run = |password: &str| {
        psql(&pooler.dsn_of("scram"))
            .env("PGPASSWORD", password)
            .args(&["-c", "select 42"])
    };
    assert_eq!(run("secret of scram").succeed(), "42");
    assert!(run("wrong").fail().contains("SASL authentication failed"));
}

#[test]
fn a_code_for_everything_in_an_ini_and_postgresqls_otherwise() {
    let files = Files::new("host all admin all trust\n");
    for (setup, sqlstate) in [(Setup::new(), None), (Setup::new().in_ini(), Some("08P01"))] {
        let pooler = files.in_force(setup).start();
        let refused = asked(&pooler, &pooler.address, "app", &pooler.database);
        let refused = refused.expect_err("no rule");
        assert_eq!(refused.message(), "no authentication method is found");
        if let Some(sqlstate) = sqlstate {
            assert_eq!(refused.sqlstate(), sqlstate);
        }
    }
}

#[test]
fn peers_are_who_the_system_says() {
    let files = Files::new(
        "local all admin trust\n\
         local all app,unknown peer map=staff\n\
         local all all peer\n",
    );
    let own = system_user();
    files.write("ident", &format!("staff {own} app\nstaff {own} unknown\n"));
    let setup = Setup::new().user(&own, "password", "");
    // The server knows no such user as the machine does.
    let setup = setup.for_database("user", "app");
    let pooler = files.in_force(setup).start();
    let login = |user: &str| RawClient::try_login(&pooler.socket, user, &pooler.database, None);
    assert_eq!(login("app").unwrap().value("select current_user"), "app");
    assert_eq!(login(&own).unwrap().value("select current_user"), "app");
    for user in ["app2", "nobody", "unknown"] {
        assert_eq!(message(login(user)), "unix socket login rejected", "{user}");
    }
    let log = pooler.log();
    assert!(log.contains("system user"), "{log}");
    if server_user().is_some() {
        let dsn = format!(
            "host={} port={} user=app dbname={}",
            pooler.socket.host(),
            pooler.socket.port(),
            pooler.database
        );
        let other = psql(&dsn).args(&["-c", "select 1"]).by_another_user();
        assert!(other.fail().contains("unix socket login rejected"));
    }
}

#[test]
fn a_mistake_is_fatal_at_the_start() {
    let files = Files::new("local all all trust\nhost all all nowhere trust\nfoo\n");
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\na = host=h\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 1\n\
         unix_socket_dir =\nauth_file = /dev/null\nauth_type = hba\nauth_hba_file = {}\n",
        files.path("hba").display()
    );
    fs::write(&config, text).expect("config");
    for command in ["run", "check"] {
        let output = pgweir(&[command, config.to_str().expect("path")]).run();
        assert!(!output.success, "{command}");
        let told = format!("{}{}", output.stdout, output.stderr);
        let path = files.path("hba").display().to_string();
        for place in ["2: `nowhere` is no IP address", "3: expected local, host"] {
            assert!(
                told.contains(&format!("{path}:{place}")),
                "{command}: {told}"
            );
        }
    }
}

#[test]
fn a_reload_takes_new_rules_and_no_bad_ones() {
    let files = Files::new("host all admin,app all trust\n");
    let pooler = files.start();
    let get_in = |user: &str| RawClient::try_login(&pooler.address, user, &pooler.database, None);
    let mut there = get_in("app").unwrap();
    let none = "no authentication method is found";
    assert_eq!(message(get_in("app2")), none);

    files.write(
        "hba",
        "host all admin,app2 all trust\nhost all all all truts\n",
    );
    let mut console = pooler.console();
    let refused = console.try_query("RELOAD").error();
    assert_eq!(refused.sqlstate(), "F0000");
    let mistake = format!("{}:2: unknown method `truts`", files.path("hba").display());
    assert!(pooler.log().contains(&mistake), "{}", pooler.log());
    get_in("app").expect("the old rules");
    assert_eq!(message(get_in("app2")), none);

    files.write("hba", "host all admin,app2 all trust\n");
    pooler.signal(Signal::SIGHUP);
    eventually("new rules", true, || get_in("app2").is_ok());
    assert_eq!(message(get_in("app")), none);
    // Who was in stays.
    assert_eq!(there.value("select 1"), "1");
    // A name of a file, or a map, that does not exist changes nothing either.
    for set in ["auth_hba_file = '/nowhere'", "auth_ident_file = '/nowhere'"] {
        assert_eq!(console.try_query(&format!("SET {set}")).errors().len(), 1);
        get_in("app2").expect("the rules as they were");
    }
    files.write("more", "host all all all trust\n");
    let path = files.path("more").display().to_string();
    console.query(&format!("SET auth_hba_file = '{path}'"));
    eventually("other rules", true, || get_in("app").is_ok());
}

/// psql with TLS, as this user and with that certificate.
fn by_tls(pooler: &Pooler, user: &str, certificate: Option<&str>) -> Result<String, String> {
    let file = |name: &str| Certificates::shared().path(name);
    let own = match certificate {
        Some(name) => format!(
            "sslcert={} sslkey={}",
            file(&format!("{name}.crt")),
            file(&format!("{name}.key"))
        ),
        None => "sslcert=/nowhere".to_owned(),
    };
    let dsn = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname={} gssencmode=disable \
         sslmode=verify-full sslrootcert={} {own}",
        pooler.address.port(),
        pooler.database,
        file("ca.crt"),
    );
    let output = psql(&dsn).args(&["-c", "select current_user"]).run();
    match output.success {
        true => Ok(output.stdout.trim().to_owned()),
        false => Err(output.stderr),
    }
}

fn with_certificates(setup: Setup, mode: &str) -> Setup {
    let setup = setup.offer_tls(mode);
    setup.set(
        "client_tls_ca_file",
        &*Certificates::shared().path("ca.crt"),
    )
}

#[test]
fn a_certificate_names_its_user() {
    let setup = with_certificates(Setup::new(), "verify-full").set("auth_type", "cert");
    let pooler = setup.start();
    assert_eq!(by_tls(&pooler, "app", Some("client")).unwrap(), "app");
    for user in ["app2", "nobody"] {
        let refused = by_tls(&pooler, user, Some("client")).unwrap_err();
        assert!(
            refused.contains("certificate authentication failed"),
            "{refused}"
        );
    }
    let refused = by_tls(&pooler, "app", None).unwrap_err();
    assert!(refused.contains("certificate required"), "{refused}");
    // The Unix socket has none.
    let refused = RawClient::try_login(&pooler.socket, "app", &pooler.database, None);
    assert_eq!(message(refused), "certificate authentication failed");
}

#[test]
fn certificates_and_tls_in_rules() {
    let files = Files::new(
        "hostssl   all app2  all cert map=staff\n\
         hostssl   all app   all cert\n\
         hostssl   all app3  all reject\n\
         hostnossl all app3  all trust\n\
         host      all admin all trust\n",
    );
    files.write("ident", "staff app app2\n");
    let pooler = files
        .in_force(with_certificates(Setup::new(), "verify-ca"))
        .start();
    assert_eq!(by_tls(&pooler, "app", Some("client")).unwrap(), "app");
    assert_eq!(by_tls(&pooler, "app2", Some("client")).unwrap(), "app2");
    let refused = by_tls(&pooler, "app3", Some("client")).unwrap_err();
    assert!(refused.contains("login rejected"), "{refused}");

    // Where no certificate is verified, none proves anything.
    let pooler = files
        .in_force(with_certificates(Setup::new(), "prefer"))
        .start();
    let refused = by_tls(&pooler, "app", Some("client")).unwrap_err();
    assert!(
        refused.contains("certificate authentication failed"),
        "{refused}"
    );
    let refused = by_tls(&pooler, "app3", None).unwrap_err();
    assert!(refused.contains("login rejected"), "{refused}");
    let mut plain = RawClient::connect(&pooler.address);
    let parameters = [("user", "app3"), ("database", &*pooler.database)];
    plain.send(&Frontend::new().startup((3, 0), &parameters));
    plain.finish_login("app3", None).expect("hostnossl");
    assert_eq!(plain.value("select current_user"), "app3");
}

#[test]
fn the_own_user_is_the_consoles_admin_over_the_socket() {
    let rejects = Files::new("local all all reject\nhost all admin all trust\n");
    for method in ["md5", "scram-sha-256", "plain", "hba"] {
        let setup = match method {
            "hba" => rejects.in_force(Setup::new()),
            method => Setup::new().set("auth_type", method),
        };
        let pooler = setup.start();
        for database in ["pgbouncer", "pgweir"] {
            let console = RawClient::try_login(&pooler.socket, "pgbouncer", database, None);
            let mut console = console.unwrap_or_else(|e| panic!("{method}: {e:?}"));
            assert!(!console.query("SHOW POOLS").messages.is_empty());
            // Not only to look.
            console.query("SET query_wait_timeout = 77");
        }
        // Not under another name, not by TCP, not for another database.
        for (address, user, database) in [
            (&pooler.socket, "pgweir", "pgbouncer"),
            (&pooler.address, "pgbouncer", "pgbouncer"),
            (&pooler.socket, "pgbouncer", &*pooler.database),
        ] {
            let asked = asked(&pooler, address, user, database);
            assert!(!matches!(asked, Ok(0)), "{method} {user} {database}");
        }
        if server_user().is_some() {
            let dsn = format!(
                "host={} port={} user=pgbouncer dbname=pgbouncer",
                pooler.socket.host(),
                pooler.socket.port()
            );
            psql(&dsn)
                .env("PGPASSWORD", "x")
                .args(&["-c", "show pools"])
                .by_another_user()
                .fail();
        }
    }
}
