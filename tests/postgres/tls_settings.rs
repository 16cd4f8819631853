//! What TLS may be agreed on, and changes of it while the pooler runs.

use std::fs;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};

use crate::support::{
    Certificates, Cluster, Frontend, Pooler, RawClient, Setup, TLS, eventually, pgweir, psql,
};

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::with_settings(TLS))
}

fn file(name: &str) -> String {
    Certificates::shared().path(name)
}

/// Whether psql is let in with these of libpq's settings.
fn connect(pooler: &Pooler, more: &str) -> Result<String, String> {
    let dsn = format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=app dbname={} gssencmode=disable \
         sslmode=require {more}",
        pooler.address.port(),
        pooler.database
    );
    let output = psql(&dsn).args(&["-c", "select 1"]).run();
    match output.success {
        true => Ok(output.stdout.trim().to_owned()),
        false => Err(output.stderr),
    }
}

fn reloaded(pooler: &Pooler, count: usize) {
    pooler.signal(Signal::SIGHUP);
    eventually("reloads", count, || {
        pooler.log().matches("configuration reloaded").count()
    });
}

#[test]
fn clients_get_what_is_allowed() {
    let newest = "ssl_min_protocol_version=TLSv1.3";
    let older = "ssl_max_protocol_version=TLSv1.2";
    for (settings, client, agreed) in [
        (
            vec![],
            newest,
            Some("TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519"),
        ),
        (
            vec![],
            older,
            Some("TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=X25519"),
        ),
        (vec![("protocols", "tlsv1.2")], newest, None),
        (vec![("protocols", "tlsv1.3")], older, None),
        (
            vec![("protocols", "tlsv1.2"), ("ecdhcurve", "P-384")],
            older,
            Some("TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=secp384r1"),
        ),
        (
            vec![("ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305")],
            older,
            Some("TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305/ECDH=X25519"),
        ),
        // The certificate is none of RSA.
        (
            vec![("ciphers", "ECDHE-RSA-AES128-GCM-SHA256")],
            older,
            None,
        ),
    ] {
        let setup = Setup::with(cluster()).offer_tls("require");
        let setup = settings.iter().fold(setup, |setup, (key, value)| {
            setup.set(&format!("client_tls_{key}"), *value)
        });
        let pooler = setup.start();
        let seen = connect(&pooler, client);
        match agreed {
            Some(agreed) => {
                assert_eq!(seen.as_deref(), Ok("1"), "{settings:?} {client}");
                let log = pooler.log();
                assert!(log.contains(agreed), "{settings:?} {client}: {log}");
            }
            None => assert!(seen.is_err(), "{settings:?} {client}"),
        }
    }
    let only = "TLS_CHACHA20_POLY1305_SHA256";
    let setup = Setup::with(cluster()).offer_tls("require");
    let pooler = setup.set("client_tls13_ciphers", only).start();
    assert_eq!(connect(&pooler, newest).as_deref(), Ok("1"));
    assert!(pooler.log().contains(&format!("TLSv1.3/{only}")));
}

#[test]
fn servers_are_asked_for_what_is_allowed() {
    let sql = "select version || ' ' || cipher from pg_stat_ssl where pid = pg_backend_pid()";
    for (settings, agreed) in [
        (vec![], "TLSv1.3 TLS_AES_256_GCM_SHA384"),
        (
            vec![("server_tls13_ciphers", "TLS_AES_128_GCM_SHA256")],
            "TLSv1.3 TLS_AES_128_GCM_SHA256",
        ),
        (
            vec![
                ("server_tls_protocols", "tlsv1.2"),
                ("server_tls_ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"),
            ],
            "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
    ] {
        let setup = Setup::with(cluster()).set("server_tls_sslmode", "require");
        let setup = settings
            .iter()
            .fold(setup, |setup, (key, value)| setup.set(key, *value));
        assert_eq!(setup.start().login().value(sql), agreed, "{settings:?}");
    }
}

#[test]
fn server_connections_are_renewed_if_their_ciphers_change() {
    let sql =
        "select pg_backend_pid() || ' ' || version from pg_stat_ssl where pid = pg_backend_pid()";
    let setup = Setup::with(cluster()).set("server_tls_sslmode", "require");
    let mut pooler = setup.start();
    let mut client = pooler.login();
    let first = client.value(sql);
    assert!(first.ends_with("TLSv1.3"), "{first}");
    pooler.rewrite(|setup| setup.set("server_tls_ciphers", "fast").set("verbose", 1));
    reloaded(&pooler, 1);
    pooler.rewrite(|setup| setup.set("server_tls_protocols", "tlsv1.2"));
    reloaded(&pooler, 2);
    let renewed = client.value(sql);
    assert!(renewed.ends_with("TLSv1.2"), "{renewed}");
    // What only clients see is nothing to them.
    pooler.rewrite(|setup| setup.set("client_tls_protocols", "tlsv1.2"));
    reloaded(&pooler, 3);
    assert_eq!(client.value(sql), renewed);
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgbouncer.ini");
    for (setting, named) in [
        (
            "client_tls_protocols = tlsv1.0,tlsv1.2",
            "`tlsv1.0` is not supported",
        ),
        (
            "server_tls_ciphers = HIGH:!aNULL",
            "`HIGH` is not supported",
        ),
        (
            "client_tls_ecdhcurve = secp521r1",
            "`secp521r1` is not supported",
        ),
    ] {
        let text = format!(
            "[databases]\na = host=h\n[pgbouncer]\nauth_file = /dev/null\n\
             client_tls_dheparams = legacy\n{setting}\n"
        );
        fs::write(&config, text).expect("config");
        let output = pgweir(&["check", config.to_str().expect("path")]).run();
        assert!(!output.success, "{setting}");
        let told = format!("{}{}", output.stdout, output.stderr);
        assert!(
            told.contains("pgbouncer.ini:6: ") && told.contains(named),
            "{told}"
        );
        assert!(!told.contains("dheparams"), "{told}");
    }
}

/// A certificate that signs itself, for the server's key.
fn another_certificate() -> String {
    let key = fs::read_to_string(file("server.key")).expect("key");
    let key = KeyPair::from_pem(&key).expect("key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
    params.self_signed(&key).expect("certificate").pem()
}

#[test]
fn a_certificate_is_replaced_from_the_console() {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("other.crt"), another_certificate()).expect("certificate");
    let pooler = Setup::with(cluster()).offer_tls("prefer").start();
    let trusting = |authority: &str| {
        let more = format!("sslmode=verify-full sslrootcert={authority}");
        connect(&pooler, &more)
    };
    let mut before = RawClient::try_connect_tls(&pooler.address).expect("TLS");
    let mut there = pooler.login();
    assert_eq!(trusting(&file("ca.crt")).as_deref(), Ok("1"));
    assert!(trusting(&path("other.crt")).is_err());
    let mut console = pooler.console();
    // One that the key does not fit.
    let wrong = format!("SET client_tls_cert_file = '{}'", file("chain.crt"));
    assert_eq!(console.try_query(&wrong).errors().len(), 1);
    assert_eq!(trusting(&file("ca.crt")).as_deref(), Ok("1"));
    console.query(&format!(
        "SET client_tls_cert_file = '{}'",
        path("other.crt")
    ));
    eventually("the other certificate", true, || {
        trusting(&path("other.crt")).is_ok()
    });
    assert!(trusting(&file("ca.crt")).is_err());
    // Nobody was dropped, not even in the middle of a login.
    assert_eq!(there.value("select 1"), "1");
    let parameters = [("user", "app"), ("database", &*pooler.database)];
    before.send(&Frontend::new().startup((3, 0), &parameters));
    before.finish_login("app", None).expect("login");
}

#[test]
fn ciphers_are_replaced_from_the_console() {
    let pooler = Setup::with(cluster()).offer_tls("prefer").start();
    for (key, cipher, version) in [
        ("client_tls13_ciphers", "TLS_CHACHA20_POLY1305_SHA256", "3"),
        ("client_tls_ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305", "2"),
    ] {
        let newest = format!("ssl_max_protocol_version=TLSv1.{version}");
        let agreed = format!("TLSv1.{version}/{cipher}");
        connect(&pooler, &newest).expect("let in");
        assert!(!pooler.log().contains(&agreed));
        pooler.console().query(&format!("SET {key} = '{cipher}'"));
        eventually("the other cipher", true, || {
            connect(&pooler, &newest).expect("let in");
            pooler.log().contains(&agreed)
        });
    }
}

#[test]
fn what_cannot_be_put_in_force_is_in_the_log() {
    let setup = Setup::with(cluster()).in_ini().offer_tls("prefer");
    let mut pooler = setup.start();
    let mut console = pooler.console();
    let wrong = file("chain.crt");
    let unfit = format!(
        " ERROR TLS setup failed: client_tls_key_file = {}: it is not the key of the \
         certificate in client_tls_cert_file = {wrong}\n",
        file("server.key")
    );
    let count = |pooler: &Pooler, line: &str| pooler.log().matches(line).count();
    let error = console.try_query(&format!("SET client_tls_cert_file = '{wrong}'"));
    assert_eq!(error.error().message(), "SET failed");
    assert_eq!(count(&pooler, &unfit), 1);

    let error = console.try_query("SET client_tls13_ciphers = 'unknown'");
    assert_eq!(error.error().message(), "SET failed");
    let words = "failed to set the TLSv1.3 cipher suites: `unknown` is not supported";
    let line = format!(" ERROR TLS setup failed: SET: `client_tls13_ciphers`: {words}");
    assert_eq!(count(&pooler, &line), 1, "{}", pooler.log());

    pooler.rewrite(|setup| setup.set("client_tls_cert_file", &*wrong));
    assert_eq!(console.try_query("RELOAD").error().sqlstate(), "F0000");
    assert_eq!(count(&pooler, &unfit), 2);
    let output = pgweir(&[pooler.config().to_str().expect("path")]).run();
    assert!(!output.success);
    assert!(output.stderr.contains(&unfit), "{output:?}");

    pooler.rewrite(|setup| setup.set("client_tls13_ciphers", "unknown"));
    assert_eq!(console.try_query("RELOAD").error().sqlstate(), "F0000");
    assert!(pooler.log().matches(words).count() > 1, "{}", pooler.log());
}

#[test]
fn databases_have_tls_of_their_own() {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let setup = Setup::with(cluster()).set("server_tls_sslmode", "disable");
    let setup = setup
        .alias("encrypted")
        .database("encrypted", "server_tls_sslmode", "verify-full")
        .database("encrypted", "server_tls_ca_file", &*file("ca.crt"))
        .alias("distrusted")
        .database("distrusted", "server_tls_sslmode", "verify-ca")
        .database("distrusted", "server_tls_ca_file", &*file("other-ca.crt"));
    let mut pooler = setup.start();
    let login = |database: &str| RawClient::login(&pooler.address, "app", database);
    let pid = "select pid from pg_backend_pid() as pid";
    let mut plain = login(&pooler.database);
    let mut encrypted = login("encrypted");
    assert_eq!(plain.value(sql), "f");
    assert_eq!(encrypted.value(sql), "t");
    let mut waits = RawClient::connect(&pooler.address);
    let parameters = [("user", "app"), ("database", "distrusted")];
    waits.send(&Frontend::new().startup((3, 0), &parameters));
    eventually("the refusal", true, || {
        pooler.log().contains("invalid peer certificate")
    });
    // A reload renews the connections of the database that it is about.
    let before = (plain.value(pid), encrypted.value(pid));
    pooler.rewrite(|setup| setup.database("encrypted", "server_tls_sslmode", "require"));
    reloaded(&pooler, 1);
    assert_eq!(plain.value(pid), before.0);
    assert_ne!(encrypted.value(pid), before.1);
    assert_eq!(encrypted.value(sql), "t");
    pooler.rewrite(|setup| setup.database("encrypted", "server_tls_sslmode", "disable"));
    reloaded(&pooler, 2);
    assert_eq!(encrypted.value(sql), "f");
}
