//! TLS towards clients and towards servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::support::{
    Address, Certificates, Cluster, Frontend, PATIENCE, Pooler, RawClient, Setup, TLS, eventually,
    patiently, pgbench, psql, python, secs,
};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

/// A server with TLS; nobody disturbs it.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // The second address is not in its certificate.
        Cluster::with_settings(&format!("{TLS}listen_addresses = '127.0.0.1, 127.0.0.2'\n"))
    })
}

fn file(name: &str) -> String {
    Certificates::shared().path(name)
}

/// TLS towards the server in this mode, with this authority.
fn towards_server(setup: Setup, mode: &str, authority: &str) -> Setup {
    setup
        .set("server_tls_sslmode", mode)
        .set("server_tls_ca_file", &*file(authority))
}

/// TLS on both sides.
fn both_sides() -> Pooler {
    towards_server(Setup::with(cluster()), "verify-full", "ca.crt")
        .offer_tls("require")
        .start()
}

/// libpq's words for a connection to the pooler.
fn dsn(pooler: &Pooler, sslmode: &str) -> String {
    format!(
        "host=localhost hostaddr=127.0.0.1 port={} user=app dbname={} gssencmode=disable \
         sslmode={sslmode} sslrootcert={}",
        pooler.address.port(),
        pooler.database,
        file("ca.crt")
    )
}

/// Whether psql is let in, and if, whether by TLS.
fn psql_gets(dsn: &str) -> Result<bool, String> {
    let output = psql(dsn)
        .args(&["-c", "select 1", "-c", "\\conninfo"])
        .run();
    match output.success {
        true => Ok(output.stdout.contains("SSL connection (protocol: TLSv1.3")),
        false => Err(output.stderr),
    }
}

fn login_tls(pooler: &Pooler) -> RawClient {
    let mut client = RawClient::try_connect_tls(&pooler.address).expect("TLS");
    let parameters = [("user", "app"), ("database", pooler.database.as_str())];
    client.send(&Frontend::new().startup((3, 0), &parameters));
    client.finish_login("app", None).expect("login");
    client
}

/// Whether the server connection of the pool is encrypted, as the server sees it.
fn server_sees_tls(client: &mut RawClient) -> bool {
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    client.value(sql) == "t"
}

#[test]
fn clients_in_every_mode() {
    for (mode, plain, tls) in [
        ("disable", Ok(false), Err("does not support SSL")),
        ("allow", Ok(false), Ok(true)),
        ("prefer", Ok(false), Ok(true)),
        ("require", Err("SSL required"), Ok(true)),
        (
            "verify-ca",
            Err("SSL required"),
            Err("certificate required"),
        ),
        (
            "verify-full",
            Err("SSL required"),
            Err("certificate required"),
        ),
    ] {
        let setup = Setup::with(cluster()).offer_tls(mode);
        let pooler = setup.set("client_tls_ca_file", &*file("ca.crt")).start();
        let check = |sslmode: &str, expected: Result<bool, &str>| {
            let seen = psql_gets(&dsn(&pooler, sslmode));
            let what = format!("{mode}, client {sslmode}: {seen:?}");
            match expected {
                Ok(tls) => assert_eq!(seen, Ok(tls), "{what}"),
                Err(text) => assert!(seen.is_err_and(|e| e.contains(text)), "{what}"),
            }
        };
        check("disable", plain);
        for sslmode in ["require", "verify-ca", "verify-full"] {
            check(sslmode, tls);
        }
        // The Unix socket is exempt.
        let socket = format!(
            "host={} port={} user=app dbname={} sslmode=prefer",
            pooler.socket.host(),
            pooler.socket.port(),
            pooler.database
        );
        assert_eq!(psql_gets(&socket), Ok(false), "{mode}");
        if mode.starts_with("verify") {
            let own = format!(
                "sslcert={} sslkey={}",
                file("client.crt"),
                file("client.key")
            );
            let with = format!("{} {own}", dsn(&pooler, "verify-full"));
            assert_eq!(psql_gets(&with), Ok(true), "{mode}");
        }
    }
}

#[test]
fn servers_in_every_mode() {
    let check = |mode: &str, authority: &str, host: &str, expected: Result<bool, &str>| {
        let setup = towards_server(Setup::with(cluster()), mode, authority);
        let pooler = setup.for_database("host", host).start();
        let login = RawClient::try_login(&pooler.address, "app", &pooler.database, None);
        let what = format!("{mode} {authority} {host}");
        match (login, expected) {
            (Ok(mut client), Ok(tls)) => {
                assert_eq!(server_sees_tls(&mut client), tls, "{what}");
                let shown = pooler.show("SERVERS").remove(0).remove("tls").expect("tls");
                assert_eq!(shown.starts_with("TLSv1.3/TLS_AES_256_GCM_SHA384"), tls);
            }
            (Err(error), Err(text)) => {
                assert!(error.message().contains(text), "{what}: {error:?}");
            }
            (login, _) => panic!("{what}: {:?}", login.map(|_| ())),
        }
    };
    check("disable", "ca.crt", "127.0.0.1", Ok(false));
    for mode in ["allow", "prefer", "require"] {
        check(mode, "other-ca.crt", "127.0.0.1", Ok(true));
    }
    for mode in ["verify-ca", "verify-full"] {
        check(mode, "ca.crt", "127.0.0.1", Ok(true));
        check(mode, "ca.crt", "localhost", Ok(true));
    }
    check("verify-ca", "ca.crt", "127.0.0.2", Ok(true));
    // Those who log in meanwhile get the error that was met before.
    let bad = |mode: &str, authority: &str, host: &str, text: &str| {
        let setup = towards_server(Setup::with(cluster()), mode, authority);
        let setup = setup.set("server_login_retry", secs(30.0));
        let pooler = setup.for_database("host", host).start();
        let mut first = RawClient::connect(&pooler.address);
        let parameters = [("user", "app"), ("database", pooler.database.as_str())];
        first.send(&Frontend::new().startup((3, 0), &parameters));
        patiently("the failure", || {
            pooler
                .log()
                .contains("cannot open a server connection")
                .then_some(())
        });
        let late = RawClient::try_login(&pooler.address, "app", &pooler.database, None);
        let error = late.map(|_| ()).unwrap_err();
        assert!(error.message().contains(text), "{mode}: {error:?}");
    };
    for mode in ["verify-ca", "verify-full"] {
        bad(
            mode,
            "other-ca.crt",
            "127.0.0.1",
            "invalid peer certificate",
        );
    }
    bad("verify-full", "ca.crt", "127.0.0.2", "not valid for name");
}

#[test]
fn a_server_without_tls() {
    let plain = Cluster::with_settings("");
    let pooler = Setup::with(&plain)
        .set("server_tls_sslmode", "prefer")
        .start();
    for _ in 0..2 {
        assert!(!server_sees_tls(&mut pooler.login()));
        pooler.signal(Signal::SIGHUP);
    }
    assert_eq!(pooler.show("SERVERS")[0]["tls"], "");
    assert_eq!(pooler.log().matches("server has no TLS").count(), 1);
    let setup = Setup::with(&plain).set("server_tls_sslmode", "require");
    let pooler = setup.set("server_login_retry", secs(30.0)).start();
    let _waits = {
        let mut client = RawClient::connect(&pooler.address);
        let parameters = [("user", "app"), ("database", pooler.database.as_str())];
        client.send(&Frontend::new().startup((3, 0), &parameters));
        client
    };
    patiently("the refusal", || {
        pooler.log().contains("server refused SSL").then_some(())
    });
    let late = RawClient::try_login(&pooler.address, "app", &pooler.database, None);
    let error = late.map(|_| ()).unwrap_err();
    assert!(error.message().contains("server refused SSL"), "{error:?}");
}

#[test]
fn a_server_that_asks_for_a_certificate() {
    let cluster = Cluster::with_settings(TLS);
    let admin = || cluster.admin("postgres");
    let hba = admin().value("show hba_file");
    let rules = std::fs::read_to_string(&hba).expect("hba");
    std::fs::write(&hba, rules.replace("host all app", "hostssl all app")).expect("hba");
    let rules = std::fs::read_to_string(&hba).expect("hba");
    let rules = rules.replace(
        "127.0.0.1/32 trust",
        "127.0.0.1/32 trust clientcert=verify-ca",
    );
    std::fs::write(&hba, rules).expect("hba");
    admin().query("select pg_reload_conf()");
    let setup = towards_server(Setup::with(&cluster), "verify-full", "ca.crt");
    let with = setup
        .clone()
        .set("server_tls_cert_file", &*file("client.crt"))
        .set("server_tls_key_file", &*file("client.key"))
        .start();
    assert!(server_sees_tls(&mut with.login()));
    let without = setup.start();
    let refused = RawClient::try_login(&without.address, "app", &without.database, None);
    let error = refused.map(|_| ()).unwrap_err();
    assert!(error.message().contains("client certificate"), "{error:?}");
}

#[test]
fn a_chain_of_certificates() {
    let setup = Setup::with(cluster())
        .offer_tls("require")
        .set("client_tls_cert_file", &*file("chain.crt"))
        .set("client_tls_key_file", &*file("chain.key"));
    let pooler = setup.start();
    assert_eq!(psql_gets(&dsn(&pooler, "verify-full")), Ok(true));
}

#[test]
fn what_was_agreed_on_is_shown() {
    let pooler = both_sides();
    let _client = login_tls(&pooler);
    let shown = "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519";
    let mut console = RawClient::try_connect_tls(&pooler.address).expect("TLS");
    console.send(&Frontend::new().startup((3, 0), &[("user", "admin"), ("database", "pgweir")]));
    console.finish_login("admin", None).expect("console");
    for what in ["CLIENTS", "SERVERS"] {
        let answer = console.query(&format!("show {what}"));
        let names = answer.messages[0].column_names();
        let tls = names.iter().position(|name| name == "tls").expect("tls");
        let rows = answer.rows();
        assert!(!rows.is_empty());
        for row in rows {
            let seen = row[tls].clone().unwrap_or_default();
            assert!(seen.starts_with("TLSv1.3/TLS_AES_256_GCM_SHA384"), "{seen}");
        }
    }
    assert!(pooler.log().contains(shown), "{}", pooler.log());
}

#[test]
fn much_data_in_both_directions() {
    let pooler = both_sides();
    let script = "create table t (id int, text text);\n\
         insert into t select n, repeat(md5(n::text), 20) from generate_series(1, 50000) n;\n";
    psql(&dsn(&pooler, "require"))
        .args(&["-c", script])
        .succeed();
    let out = psql(&dsn(&pooler, "require"))
        .args(&["-c", "copy (select * from t order by id) to stdout"])
        .run();
    assert!(out.success);
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("rows");
    std::fs::write(&path, &out.stdout).expect("rows");
    let copy = format!("\\copy t2 from '{}'", path.display());
    psql(&dsn(&pooler, "require"))
        .args(&["-c", "create table t2 (like t)", "-c", &copy])
        .succeed();
    let mut client = login_tls(&pooler);
    let same = "select count(*) from t join t2 using (id, text)";
    assert_eq!(client.value(same), "50000");
    let size = 100_000_000;
    client.send(&Frontend::new().query(&format!("select repeat('x', {size})")));
    assert_eq!(client.read().tag, b'T');
    assert_eq!(client.read_header(), (b'D', size + 6));
    client.skip_bytes(size + 6);
    assert_eq!(client.answer().tags(), "CZ");
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_slow_reader_gets_everything() {
    let pooler = both_sides();
    let mut slow = login_tls(&pooler);
    let sql = "select repeat('x', 1000) from generate_series(1, 50000)";
    slow.send(&Frontend::new().query(sql));
    std::thread::sleep(Duration::from_millis(500));
    // Others are not held up.
    assert_eq!(login_tls(&pooler).value("select 1"), "1");
    let answer = slow.answer();
    assert_eq!(answer.rows().len(), 50_000);
}

#[test]
fn scram_on_both_sides() {
    let setup = towards_server(Setup::with(cluster()), "require", "ca.crt");
    let pooler = setup
        .offer_tls("require")
        .set("auth_type", "scram-sha-256")
        .user("scram", "password", "secret of scram")
        .start();
    let dsn = dsn(&pooler, "require").replace("user=app", "user=scram");
    let run = |password: &str| {
        psql(&dsn)
            .env("PGPASSWORD", password)
            .args(&[
                "-c",
                "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
            ])
            .run()
    };
    assert_eq!(run("secret of scram").stdout.trim(), "t");
    assert!(run("wrong").stderr.contains("SASL authentication failed"));
}

#[test]
fn cancel_requests() {
    // This server takes nothing in clear from a network.
    let pooler = both_sides();
    let sleeping = || {
        let sql = "select count(*) from pg_stat_activity \
                   where datname = current_database() and wait_event = 'PgSleep'";
        eventually("sleeping queries", "1".to_owned(), || {
            pooler.admin().value(sql)
        });
    };
    let mut client = login_tls(&pooler);
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    sleeping();
    // By TLS, and in clear as older libpq does.
    let mut request = RawClient::try_connect_tls(&pooler.address).expect("TLS");
    let mut packet = vec![0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e];
    packet.extend_from_slice(&client.key);
    request.send_bytes(&packet);
    assert_eq!(client.answer().error().sqlstate(), "57014");
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    sleeping();
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
    assert_eq!(client.value("select 1"), "1");
}

/// pgweir's own cancel request must be encrypted if the connection is: a server
/// in between counts what is not.
#[test]
fn cancel_requests_to_the_server_are_encrypted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    let server = cluster().tcp();
    let (seen, first_packets) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Address::Tcp(server) = &server else {
                return;
            };
            let server = TcpStream::connect(server).expect("server");
            let mut start = [0; 8];
            let n = client.peek(&mut start).expect("peek");
            seen.send(start[..n].to_vec()).expect("seen");
            for (mut from, mut to) in [
                (
                    client.try_clone().expect("clone"),
                    server.try_clone().expect("clone"),
                ),
                (server, client),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    let setup = towards_server(Setup::with(cluster()), "verify-full", "ca.crt");
    let pooler = setup.for_database("port", i32::from(port)).start();
    let mut client = pooler.login();
    client.send(&Frontend::new().query("select pg_sleep(600)"));
    std::thread::sleep(Duration::from_millis(300));
    client.cancel();
    assert_eq!(client.answer().error().sqlstate(), "57014");
    let packets: Vec<_> = first_packets.try_iter().collect();
    assert_eq!(packets, [SSL_REQUEST, SSL_REQUEST]);
}

#[test]
fn a_client_that_stalls_in_the_handshake() {
    let setup = Setup::with(cluster()).offer_tls("require");
    let pooler = setup.set("client_login_timeout", secs(1.0)).start();
    let begin = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(("127.0.0.1", pooler.address.port())).expect("socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.write_all(&SSL_REQUEST).expect("request");
        let mut answer = [0];
        socket.read_exact(&mut answer).expect("answer");
        assert_eq!(&answer, b"S");
        socket.write_all(bytes).expect("bytes");
        socket
    };
    let started = Instant::now();
    for bytes in [
        &[][..],
        &[22],
        &[22, 3, 1, 2, 0],
        &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc],
    ] {
        let mut socket = begin(bytes);
        // It is closed; there is nothing that could be said.
        assert_eq!(socket.read(&mut [0; 64]).unwrap_or(0), 0, "{bytes:?}");
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
    assert!(pooler.log().contains("client_login_timeout"));
}

#[test]
fn garbage_hurts_nobody_else() {
    let pooler = both_sides();
    let mut client = login_tls(&pooler);
    for n in 0..50u8 {
        let mut socket = TcpStream::connect(("127.0.0.1", pooler.address.port())).expect("socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.write_all(&SSL_REQUEST).expect("request");
        let mut answer = [0];
        socket.read_exact(&mut answer).expect("answer");
        let garbage: Vec<u8> = match n % 3 {
            0 => vec![n; 300],
            1 => [&[22, 3, 1, 0, 200][..], &[n; 200]].concat(),
            _ => b"\0\0\0\x08\0\x03\0\0user\0app\0\0".to_vec(),
        };
        socket.write_all(&garbage).expect("garbage");
        let mut rest = Vec::new();
        // An alert and the end, or a reset because of what was not read.
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < 10, "{rest:?}");
        assert_eq!(client.value("select 1"), "1");
    }
    assert!(pooler.log().contains("TLS handshake error"));
}

#[test]
fn what_comes_in_clear_with_the_request_is_refused() {
    let pooler = both_sides();
    let mut socket = TcpStream::connect(("127.0.0.1", pooler.address.port())).expect("socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let startup = Frontend::new().startup((3, 0), &[("user", "app")]);
    let injected = [&SSL_REQUEST[..], &startup.bytes].concat();
    socket.write_all(&injected).expect("request");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("answer");
    assert_eq!(answer[0], b'E');
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.contains("received unencrypted data after SSL request"),
        "{text}"
    );
}

/// A client of rustls's own, which shows what our streams hide.
fn rustls_client(
    port: u16,
    config: &Arc<ClientConfig>,
    direct: bool,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    if !direct {
        socket.write_all(&SSL_REQUEST).expect("request");
        let mut answer = [0];
        socket.read_exact(&mut answer).expect("answer");
        assert_eq!(&answer, b"S");
    }
    let name = ServerName::try_from("localhost").expect("name");
    let tls = ClientConnection::new(config.clone(), name).expect("client");
    StreamOwned::new(tls, socket)
}

fn rustls_config(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(file("ca.crt")).expect("ca");
    roots.add(authority).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Sends the bytes and reads up to the end of the connection, which may be an
/// error.
fn talk(
    client: &mut StreamOwned<ClientConnection, TcpStream>,
    bytes: &[u8],
) -> (Vec<u8>, std::io::Result<usize>) {
    let mut answer = Vec::new();
    let end = client
        .write_all(bytes)
        .and_then(|()| client.read_to_end(&mut answer));
    (answer, end)
}

#[test]
fn sessions_are_resumed() {
    let pooler = both_sides();
    let startup =
        Frontend::new().startup((3, 0), &[("user", "app"), ("database", &pooler.database)]);
    let session = [&startup.bytes[..], &Frontend::new().terminate().bytes].concat();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = Arc::new(rustls_config(&[version]));
        for expected in [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ] {
            let mut client = rustls_client(pooler.address.port(), &config, false);
            let (answer, _) = talk(&mut client, &session);
            assert!(answer.ends_with(b"Z\0\0\0\x05I"), "{version:?}");
            assert_eq!(client.conn.handshake_kind(), Some(expected), "{version:?}");
        }
    }
}

#[test]
fn the_end_is_announced() {
    let pooler = both_sides();
    let config = Arc::new(rustls_config(&[&rustls::version::TLS13]));
    let mut client = rustls_client(pooler.address.port(), &config, false);
    let nobody = Frontend::new().startup((3, 0), &[("user", "nobody"), ("database", "none")]);
    let (answer, end) = talk(&mut client, &nobody.bytes);
    // Without close_notify this would be an error.
    end.expect("close_notify");
    assert!(answer.starts_with(b"E"), "{answer:?}");
}

#[test]
fn tls_without_being_asked() {
    let pooler = both_sides();
    let nobody = Frontend::new().startup((3, 0), &[("user", "nobody"), ("database", "none")]);
    let mut config = rustls_config(&[&rustls::version::TLS13]);
    let without = Arc::new(config.clone());
    let mut client = rustls_client(pooler.address.port(), &without, true);
    let (answer, _) = talk(&mut client, &nobody.bytes);
    assert!(answer.is_empty(), "{answer:?}");
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut client = rustls_client(pooler.address.port(), &Arc::new(config), true);
    let (answer, _) = talk(&mut client, &nobody.bytes);
    assert!(answer.starts_with(b"E"), "{answer:?}");
}

#[test]
fn certificates_are_replaced_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("directory");
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let install = |from: &str, to: &std::path::Path| {
        std::fs::copy(file(from), to).expect("copy");
    };
    install("server.crt", &certificate);
    install("server.key", &key);
    let setup = Setup::with(cluster())
        .offer_tls("require")
        .set("client_tls_cert_file", certificate.to_str().expect("path"))
        .set("client_tls_key_file", key.to_str().expect("path"));
    let pooler = setup.start();
    let mut client = login_tls(&pooler);
    let reload = |count: usize, text: &str| {
        pooler.signal(Signal::SIGHUP);
        eventually(text, count, || pooler.log().matches(text).count());
    };
    // A certificate without its key.
    install("chain.crt", &certificate);
    reload(1, "reload refused, nothing was changed");
    let reason = "it is not the key of the certificate";
    assert!(pooler.log().contains(reason), "{}", pooler.log());
    assert_eq!(psql_gets(&dsn(&pooler, "verify-full")), Ok(true));
    install("chain.key", &key);
    reload(1, "configuration reloaded");
    assert_eq!(psql_gets(&dsn(&pooler, "verify-full")), Ok(true));
    install("client.crt", &certificate);
    install("client.key", &key);
    reload(2, "configuration reloaded");
    let refused = psql_gets(&dsn(&pooler, "verify-full")).unwrap_err();
    assert!(refused.contains("localhost"), "{refused}");
    assert_eq!(psql_gets(&dsn(&pooler, "verify-ca")), Ok(true));
    // Who was there is not touched.
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn server_connections_are_renewed_if_their_tls_changes() {
    let mut pooler = towards_server(Setup::with(cluster()), "prefer", "ca.crt").start();
    let mut client = pooler.login();
    let pid = |client: &mut RawClient| client.value("select pid from pg_backend_pid() as pid");
    let first = pid(&mut client);
    pooler.signal(Signal::SIGHUP);
    eventually("reloads", 1, || {
        pooler.log().matches("configuration reloaded").count()
    });
    assert_eq!(pid(&mut client), first);
    pooler.rewrite(|setup| setup.set("server_tls_sslmode", "disable"));
    pooler.signal(Signal::SIGHUP);
    eventually("reloads", 2, || {
        pooler.log().matches("configuration reloaded").count()
    });
    assert!(!server_sees_tls(&mut client));
    assert_ne!(pid(&mut client), first);
}

#[test]
fn wrong_files_are_told_at_the_start() {
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("pgweir.toml");
    let text = format!(
        "[pgweir]\nlisten_addr = '127.0.0.1'\nlisten_port = 1\nauth_type = 'any'\n\
         client_tls_sslmode = 'require'\nclient_tls_cert_file = '{}'\n\
         client_tls_key_file = '{}'\n[databases.a]\nhosts = [{{ host = 'h' }}]\nuser = 'u'\n",
        file("server.crt"),
        file("client.key")
    );
    std::fs::write(&config, text).expect("config");
    for command in ["run", "check"] {
        let output = crate::support::pgweir(&[command, config.to_str().expect("path")]).run();
        assert!(!output.success, "{command}");
        let told = format!("{}{}", output.stdout, output.stderr);
        assert!(
            told.contains("it is not the key of the certificate"),
            "{command}: {told}"
        );
    }
}

#[test]
fn drivers_and_pgbench() {
    let pooler = towards_server(Setup::with(cluster()), "verify-full", "ca.crt")
        .set("server_round_robin", true)
        .offer_tls("require")
        .start();
    let dsn = pooler.dsn().replace("sslmode=prefer", "sslmode=require");
    for scenario in ["prepared", "copy", "cancel"] {
        assert_eq!(python("psycopg3.py", scenario, &dsn).succeed(), "ok");
    }
    // These scripts ask for `prefer`; the pooler lets nobody else in.
    let by_tls = pooler.dsn();
    for scenario in ["pipeline", "pool"] {
        assert_eq!(
            python("asyncpg_client.py", scenario, &by_tls).succeed(),
            "ok"
        );
    }
    pgbench(&["-i", "-q", "-s", "1"], &dsn).succeed();
    pgbench(&["-M", "prepared", "-c", "8", "-j", "8", "-t", "50"], &dsn).succeed();
    pgbench(&["-C", "-S", "-c", "4", "-t", "20"], &dsn).succeed();
}

#[test]
fn memory_of_idle_clients() {
    let pooler = both_sides();
    let ready = || {
        let mut client = login_tls(&pooler);
        // Each has moved some data, in several records.
        client.query("select repeat('x', 100000)");
        client
    };
    let mut clients: Vec<_> = (0..100).map(|_| ready()).collect();
    let before = pooler.memory();
    clients.extend((0..400).map(|_| ready()));
    let each = pooler.memory().saturating_sub(before) / 400;
    println!("{each} bytes for an idle client");
    assert!(each <= 16 * 1024, "{each} bytes");
    assert_eq!(clients[0].value("select 1"), "1");
}
