use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::{Settings, SslMode};
use crate::net::Stream;
use crate::reactor::{self, Socket};
use crate::worker::hashing::Hashing;

/// Files by name.
type Files = HashMap<&'static str, String>;

/// An authority, a server and a client that it has signed, and an authority
/// that nobody knows.
fn files() -> Files {
    let mut files = Files::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    files.insert("ca", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params.clone(), key);
    let stranger = KeyPair::generate().unwrap();
    files.insert("other ca", params.self_signed(&stranger).unwrap().pem());
    for (name, key_name, host) in [
        ("server", "server key", "db.example"),
        ("client", "client key", "client.example"),
    ] {
        let key = KeyPair::generate().unwrap();
        let names = vec![host.to_owned(), "192.0.2.7".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        files.insert(name, params.signed_by(&key, &issuer).unwrap().pem());
        files.insert(key_name, key.serialize_pem());
    }
    files
}

fn settings(client_mode: SslMode, server_mode: SslMode) -> Settings {
    Settings {
        client_tls_sslmode: client_mode,
        client_tls_cert_file: Some("server".into()),
        client_tls_key_file: Some("server key".into()),
        client_tls_ca_file: Some("ca".into()),
        server_tls_sslmode: server_mode,
        server_tls_ca_file: Some("ca".into()),
        ..Settings::default()
    }
}

fn load(settings: &Settings, files: &Files) -> Result<Tls, String> {
    Tls::load(settings, None, &|path: &Path| {
        let file = files.get(path.to_str().unwrap());
        let bytes = file.map(|text| text.clone().into_bytes());
        bytes.ok_or_else(|| ErrorKind::NotFound.into())
    })
}

fn plain_sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (connected, listener.accept().unwrap().0)
}

fn known(socket: TcpStream) -> Socket {
    socket.set_nonblocking(true).unwrap();
    Socket::new(socket).unwrap()
}

fn sockets() -> (Socket, Socket) {
    let (connected, accepted) = plain_sockets();
    (known(connected), known(accepted))
}

type Ends = (
    Result<TlsStream, HandshakeError>,
    Result<TlsStream, HandshakeError>,
);

/// Our client's end and our server's.
async fn connect(tls: &Tls, host: &str) -> Ends {
    let (client, server) = sockets();
    let hashing = Hashing::start(1, 4).unwrap();
    let acceptor = tls.clients.clone().unwrap();
    tokio::join!(
        tls.servers.connect(client, host, &hashing),
        acceptor.accept(server, &[], false, &hashing)
    )
}

async fn connected() -> (TlsStream, TlsStream) {
    let tls = load(&settings(SslMode::Require, SslMode::Require), &files()).unwrap();
    let (client, server) = connect(&tls, "db.example").await;
    (client.unwrap(), server.unwrap())
}

#[test]
fn bytes_arrive_as_they_were_sent_in_both_directions() {
    reactor::run(async {
        let (client, server) = connected().await;
        let shown = "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519";
        assert_eq!(client.encryption().unwrap().to_string(), shown);
        assert_eq!(server.encryption(), client.encryption());
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        let (mut from, mut to) = (client, server);
        {
            for _ in 0..2 {
                let mut seen = vec![0; bytes.len()];
                let (sent, read) = tokio::join!(from.write_all(&bytes), to.read_exact(&mut seen));
                sent.unwrap();
                read.unwrap();
                assert!(seen == bytes);
                (from, to) = (to, from);
            }
            from.shutdown().await.unwrap();
            assert_eq!(to.read(&mut [0; 8]).await.unwrap(), 0);
            // The other direction is still open.
            to.write_all(b"goodbye").await.unwrap();
            let mut seen = [0; 7];
            from.read_exact(&mut seen).await.unwrap();
            assert_eq!(&seen, b"goodbye");
        }
    });
}

#[test]
fn little_is_read_at_a_time() {
    reactor::run(async {
        let (mut client, mut server) = connected().await;
        client.write_all(b"0123456789").await.unwrap();
        for expected in b'0'..=b'9' {
            assert_eq!(server.read_u8().await.unwrap(), expected);
        }
    });
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    reactor::run(async {
        let (mut client, mut server) = connected().await;
        let bytes = vec![7; 300_000];
        for _ in 0..2 {
            let mut seen = vec![0; bytes.len()];
            let (sent, read) = tokio::join!(client.write_all(&bytes), server.read_exact(&mut seen));
            sent.unwrap();
            read.unwrap();
            (client, server) = (server, client);
        }
        assert_eq!(client.buffered(), 0);
        assert_eq!(server.buffered(), 0);
    });
}

#[test]
fn an_end_without_farewell_is_an_end() {
    reactor::run(async {
        let (mut client, server) = connected().await;
        drop(server);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        let (mut client, mut server) = connected().await;
        server.say_goodbye();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_record_that_was_changed_is_an_error() {
    reactor::run(async {
        let (client, mut server) = connected().await;
        let Detached { socket, .. } = Detached::of(client);
        let mut socket = Socket::new(socket).unwrap();
        let record = [23, 3, 3, 0, 32].into_iter().chain([1; 32]);
        socket
            .write_all(&record.collect::<Vec<u8>>())
            .await
            .unwrap();
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    });
}

/// The bare socket of a stream.
struct Detached {
    socket: TcpStream,
}

impl Detached {
    fn of(stream: TlsStream) -> Detached {
        let socket = stream.detach().unwrap().into_socket();
        Detached { socket }
    }
}

#[test]
fn a_connection_goes_on_in_another_thread() {
    reactor::run(async {
        let (mut client, mut server) = connected().await;
        // A record of which a part has been read, and one that has arrived in part.
        client.write_all(b"0123456789").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'0');
        let detached = Stream::Tls(Box::new(server)).detach().unwrap();
        let thread = std::thread::spawn(move || {
            reactor::run(async {
                let mut server = detached.attach().unwrap();
                let mut rest = [0; 9];
                server.read_exact(&mut rest).await.unwrap();
                server.write_all(&rest).await.unwrap();
            });
        });
        let mut echo = [0; 9];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"123456789");
        thread.join().unwrap();
    });
}

#[test]
fn pieces_of_one_byte_make_the_same_connection() {
    reactor::run(async {
        let tls = load(&settings(SslMode::Require, SslMode::VerifyFull), &files()).unwrap();
        let ((client, there), (back, server)) = (plain_sockets(), plain_sockets());
        let (client, server) = (known(client), known(server));
        // Between them each byte travels alone.
        there.set_nodelay(true).unwrap();
        back.set_nodelay(true).unwrap();
        let other_way = (back.try_clone().unwrap(), there.try_clone().unwrap());
        for (mut from, mut to) in [(there, back), other_way] {
            std::thread::spawn(move || {
                let mut byte = [0];
                while from.read_exact(&mut byte).is_ok() {
                    to.write_all(&byte).unwrap();
                    std::thread::yield_now();
                }
            });
        }
        let hashing = Hashing::start(1, 4).unwrap();
        let acceptor = tls.clients.clone().unwrap();
        let (client, server) = tokio::join!(
            tls.servers.connect(client, "db.example", &hashing),
            acceptor.accept(server, &[], false, &hashing)
        );
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        for text in [b"first".as_slice(), b"second"] {
            let mut seen = vec![0; text.len()];
            client.write_all(text).await.unwrap();
            server.read_exact(&mut seen).await.unwrap();
            server.write_all(&seen).await.unwrap();
            client.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, text);
        }
    });
}

#[test]
fn sessions_are_resumed_until_files_change() {
    reactor::run(async {
        let mut files = files();
        let settings = settings(SslMode::Require, SslMode::Require);
        let tls = load(&settings, &files).unwrap();
        let kind = async |tls: &Tls| {
            let (client, server) = connect(tls, "db.example").await;
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            // The ticket comes with the first data.
            server.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
            client.session().state().handshake_kind().unwrap()
        };
        assert_eq!(kind(&tls).await, HandshakeKind::Full);
        assert_eq!(kind(&tls).await, HandshakeKind::Resumed);
        assert_eq!(kind(&tls).await, HandshakeKind::Resumed);
        let read = |files: &Files| {
            let files = files.clone();
            move |path: &Path| Ok(files[path.to_str().unwrap()].clone().into_bytes())
        };
        let again = Tls::load(&settings, Some(&tls), &read(&files)).unwrap();
        assert_eq!(kind(&again).await, HandshakeKind::Resumed);
        let (other, other_key) = (files["client"].clone(), files["client key"].clone());
        files.insert("server", other);
        files.insert("server key", other_key);
        let renewed = Tls::load(&settings, Some(&tls), &read(&files)).unwrap();
        assert_eq!(kind(&renewed).await, HandshakeKind::Full);
    });
}

#[test]
fn servers_are_verified_as_far_as_asked() {
    reactor::run(async {
        let mut files = files();
        let outcome = async |files: &Files, mode, host: &str| {
            let tls = load(&settings(SslMode::Require, mode), files).unwrap();
            connect(&tls, host)
                .await
                .0
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        for mode in [SslMode::Prefer, SslMode::Require, SslMode::VerifyCa] {
            assert_eq!(outcome(&files, mode, "else.example").await, Ok(()));
        }
        for host in ["db.example", "192.0.2.7"] {
            assert_eq!(outcome(&files, SslMode::VerifyFull, host).await, Ok(()));
        }
        for host in ["else.example", "192.0.2.8", "not a name"] {
            let error = outcome(&files, SslMode::VerifyFull, host)
                .await
                .unwrap_err();
            assert!(error.contains("not valid for") || error.contains("not a host name"));
        }
        let unknown = files["other ca"].clone();
        files.insert("ca", unknown);
        assert_eq!(
            outcome(&files, SslMode::Require, "db.example").await,
            Ok(())
        );
        for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
            let error = outcome(&files, mode, "db.example").await.unwrap_err();
            assert!(error.contains("invalid peer certificate"), "{error}");
        }
    });
}

#[test]
fn a_certificate_signed_by_itself_may_be_named() {
    reactor::run(async {
        let mut files = files();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["db.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut install = |params: &CertificateParams| {
            let pem = params.self_signed(&key).unwrap().pem();
            files.insert("server", pem.clone());
            files.insert("server key", key.serialize_pem());
            files.insert("ca", pem);
            load(&settings(SslMode::Require, SslMode::VerifyFull), &files).unwrap()
        };
        let tls = install(&params);
        assert!(connect(&tls, "db.example").await.0.is_ok());
        assert!(connect(&tls, "else.example").await.0.is_err());
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let tls = install(&params);
        let error = connect(&tls, "db.example").await.0.unwrap_err().to_string();
        assert!(error.contains("expired"), "{error}");
    });
}

#[test]
fn clients_show_a_certificate_where_it_is_asked_for() {
    reactor::run(async {
        let files = files();
        let mut with = settings(SslMode::VerifyCa, SslMode::Require);
        let without = load(&with, &files).unwrap();
        let error = connect(&without, "db.example").await.1.unwrap_err();
        assert!(error.to_string().contains("no certificates"), "{error}");
        with.server_tls_cert_file = Some("client".into());
        with.server_tls_key_file = Some("client key".into());
        let (client, server) = connect(&load(&with, &files).unwrap(), "db.example").await;
        assert!(client.is_ok());
        assert!(server.is_ok());
    });
}

#[test]
fn garbage_ends_the_handshake() {
    reactor::run(async {
        let tls = load(&settings(SslMode::Require, SslMode::Require), &files()).unwrap();
        let acceptor = tls.clients.unwrap();
        let hashing = Hashing::start(1, 4).unwrap();
        for garbage in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            &[22, 3, 1, 255, 255, 0],
            &[22, 3, 1, 0, 4, 9, 0, 0, 0],
        ] {
            let (mut client, server) = sockets();
            client.write_all(garbage).await.unwrap();
            let accepted = acceptor.accept(server, &[], false, &hashing);
            let accepted = reactor::timeout(Duration::from_secs(10), accepted);
            assert!(accepted.await.unwrap().is_err(), "{garbage:?}");
        }
    });
}

#[test]
fn wrong_files_are_named() {
    let files = files();
    let good = settings(SslMode::VerifyFull, SslMode::VerifyFull);
    assert!(load(&good, &files).is_ok());
    let fails = |change: fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        load(&settings, &files).unwrap_err()
    };
    for (change, expected) in [
        (
            (|s| s.client_tls_cert_file = Some("gone".into())) as fn(&mut Settings),
            "client_tls_cert_file = gone: entity not found",
        ),
        (
            |s| s.client_tls_cert_file = Some("server key".into()),
            "client_tls_cert_file = server key: there is no certificate in it",
        ),
        (
            |s| s.client_tls_key_file = Some("server".into()),
            "client_tls_key_file = server: there is no private key in it",
        ),
        (
            |s| s.client_tls_key_file = Some("client key".into()),
            "client_tls_key_file = client key: it is not the key of the certificate in \
             client_tls_cert_file = server",
        ),
        (
            |s| s.server_tls_ca_file = Some("client key".into()),
            "server_tls_ca_file = client key: there is no certificate in it",
        ),
    ] {
        assert_eq!(fails(change), expected);
    }
}
