//! Logins that are bound to their TLS connection (SCRAM-SHA-256-PLUS).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::support::{
    Certificates, Cluster, Frontend, Pooler, RawClient, Setup, TLS, eventually, psql, tls,
};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
const PASSWORD: &str = "secret of scram";

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::with_settings(TLS))
}

fn pooler(secret: &str) -> Pooler {
    Setup::with(cluster())
        .offer_tls("prefer")
        .set("server_tls_sslmode", "require")
        .set("auth_type", "scram-sha-256")
        .user("scram", "password", secret)
        .start()
}

fn connect(pooler: &Pooler, port: u16, more: &str) -> Result<String, String> {
    let dsn = format!(
        "host=127.0.0.1 port={port} user=scram dbname={} gssencmode=disable {more}",
        pooler.database
    );
    let output = psql(&dsn)
        .env("PGPASSWORD", PASSWORD)
        .args(&["-c", "select current_user"])
        .run();
    match output.success {
        true => Ok(output.stdout.trim().to_owned()),
        false => Err(output.stderr),
    }
}

/// Somebody between a client and what listens on `port`, who ends TLS with a
/// certificate of his own, and looks at everything.
fn man_in_the_middle(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let own = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who does not trust him hangs up: no matter.
            let _ = pass_on(client, port);
        }
    });
    own
}

fn pass_on(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    client.read_exact(&mut [0; 8])?;
    client.write_all(b"S")?;
    let client = tls::accept(client)?;
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(&SSL_REQUEST)?;
    server.read_exact(&mut [0])?;
    let server = tls::encrypt(server)?;
    copy(client.try_clone()?, server.try_clone()?);
    copy(server, client);
    Ok(())
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

#[test]
fn libpq_is_bound_whatever_the_secret_is() {
    let stored = "select rolpassword from pg_authid where rolname = 'scram'";
    let verifier = cluster().admin("postgres").value(stored);
    for secret in [PASSWORD, &verifier] {
        let pooler = pooler(secret);
        let port = pooler.address.port();
        for binding in ["require", "prefer", "disable"] {
            let more = format!("sslmode=require channel_binding={binding}");
            assert_eq!(connect(&pooler, port, &more).as_deref(), Ok("scram"));
        }
        let without = connect(&pooler, port, "sslmode=disable channel_binding=require");
        let refused = without.unwrap_err();
        assert!(refused.contains("channel binding"), "{refused}");
        let plain = connect(&pooler, port, "sslmode=disable");
        assert_eq!(plain.as_deref(), Ok("scram"));
    }
}

#[test]
fn a_client_is_not_let_in_by_way_of_somebody_else() {
    let pooler = pooler(PASSWORD);
    let port = man_in_the_middle(pooler.address.port());
    for binding in ["require", "prefer"] {
        let more = format!("sslmode=require channel_binding={binding}");
        let refused = connect(&pooler, port, &more).unwrap_err();
        assert!(
            refused.contains("SCRAM channel binding check failed"),
            "{refused}"
        );
    }
    // Who wants no binding does not see it.
    let unbound = connect(&pooler, port, "sslmode=require channel_binding=disable");
    assert_eq!(unbound.as_deref(), Ok("scram"));
}

#[test]
fn nor_is_pgweir_at_a_server() {
    let port = man_in_the_middle(cluster().port);
    let pooler = Setup::with(cluster())
        .set("server_tls_sslmode", "require")
        .for_database("port", i32::from(port))
        .user("scram", "password", PASSWORD)
        .start();
    // Nothing is bound where no password is asked for.
    assert_eq!(pooler.login().value("select current_user"), "app");
    let login = RawClient::try_login(&pooler.address, "scram", &pooler.database, None);
    let refused = login.map(drop).unwrap_err();
    assert_eq!(refused.message(), "SCRAM channel binding check failed");
}

#[test]
fn the_certificate_is_that_which_was_shown() {
    let file = |name: &str| Certificates::shared().path(name);
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let install = |name: &str| {
        for ending in ["crt", "key"] {
            let from = file(&format!("{name}.{ending}"));
            fs::copy(from, path(ending)).expect("copy");
        }
    };
    install("server");
    let pooler = Setup::with(cluster())
        .offer_tls("require")
        .set("client_tls_cert_file", &*path("crt"))
        .set("client_tls_key_file", &*path("key"))
        .set("auth_type", "scram-sha-256")
        .user("scram", "password", PASSWORD)
        .start();
    // It has been shown the certificate, and waits.
    let mut early = RawClient::try_connect_tls(&pooler.address).expect("TLS");
    install("chain");
    pooler.signal(Signal::SIGHUP);
    eventually("reloads", 1, || {
        pooler.log().matches("configuration reloaded").count()
    });
    let bound = "sslmode=require channel_binding=require";
    let login = connect(&pooler, pooler.address.port(), bound);
    assert_eq!(login.as_deref(), Ok("scram"));
    let shown = CertificateDer::from_pem_file(file("server.crt")).expect("certificate");
    early.bound_to = Some(Sha256::digest(&shown).to_vec());
    let parameters = [("user", "scram"), ("database", &*pooler.database)];
    early.send(&Frontend::new().startup((3, 0), &parameters));
    early.finish_login("scram", Some(PASSWORD)).expect("login");
}
