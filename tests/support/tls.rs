//! Certificates for the tests, and clients that speak TLS.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pgweir::config::{Settings, SslMode};
use pgweir::net::tls::{Acceptor, Connector, Tls};
use pgweir::reactor::{self, Socket};
use pgweir::worker::hashing::Hashing;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::sync::mpsc;

use super::cluster::{server_user, temp_dir};

/// Whether everything is to be tested over TLS.
pub fn everywhere() -> bool {
    std::env::var_os("PGWEIR_TEST_TLS").is_some()
}

/// Files that live as long as the test process: `ca.crt`, which has signed
/// `server.crt` (for `localhost` and 127.0.0.1) and `client.crt` (for `app`),
/// each with its `.key`; `chain.crt`, for the server by way of another authority,
/// with `chain.key`; and `other-ca.crt`, which has signed nothing.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    pub fn shared() -> &'static Certificates {
        static SHARED: OnceLock<Certificates> = OnceLock::new();
        SHARED.get_or_init(Certificates::make)
    }

    fn make() -> Certificates {
        let dir = temp_dir("certificates").keep();
        let write = |name: &str, pem: &str| write_private(&dir.join(name), pem);
        let authority = |name: &str| {
            let key = KeyPair::generate().expect("key");
            (authority_params(name), key)
        };
        let (params, key) = authority("pgweir test");
        write("ca.crt", &params.self_signed(&key).expect("ca").pem());
        let issuer = Issuer::new(params, key);
        let (params, key) = authority("pgweir test other");
        write("other-ca.crt", &params.self_signed(&key).expect("ca").pem());

        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        for (name, hosts) in [("server", hosts.clone()), ("client", vec![])] {
            let key = KeyPair::generate().expect("key");
            let params = leaf_params(hosts);
            let certificate = params.signed_by(&key, &issuer).expect("certificate");
            write(&format!("{name}.crt"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        let (params, key) = authority("pgweir test between");
        let between = params.signed_by(&key, &issuer).expect("authority");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("key");
        let certificate = leaf_params(hosts).signed_by(&key, &issuer).expect("leaf");
        write("chain.crt", &(certificate.pem() + &between.pem()));
        write("chain.key", &key.serialize_pem());
        Certificates { dir }
    }

    /// The path of one of the files.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn leaf_params(hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("params");
    params.distinguished_name.push(DnType::CommonName, "app");
    params
}

/// PostgreSQL and libpq refuse keys that others may read.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("certificate");
    let mode = match path.extension().is_some_and(|ending| ending == "key") {
        true => 0o600,
        false => 0o644,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A copy of a file that PostgreSQL may use.
pub fn copy_for_server(from: &str, to: &Path) {
    let text = fs::read_to_string(from).expect("certificate");
    fs::write(to, text).expect("certificate");
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).expect("chmod");
    if let Some((uid, gid)) = server_user() {
        chown(to, Some(uid), Some(gid)).expect("chown");
    }
}

/// Lets somebody go over to TLS who has asked for it, as the server of
/// `chain.crt`. What comes back is a plain socket.
pub fn accept(socket: TcpStream) -> std::io::Result<UnixStream> {
    with_tls(socket, true)
}

/// Goes over to TLS on a connection whose other end has agreed. What comes back
/// is a plain socket; a thread encrypts what passes.
pub fn encrypt(socket: TcpStream) -> std::io::Result<UnixStream> {
    with_tls(socket, false)
}

fn with_tls(socket: TcpStream, accept: bool) -> std::io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    let (done, handshake) = std::sync::mpsc::channel();
    let pump = pump();
    let work: Work = Box::new(move || {
        reactor::spawn(async move {
            let outcome = async {
                let (socket, mut plain) = (Socket::new(socket)?, Socket::new(theirs)?);
                let hashing = &pump.hashing;
                let stream = match accept {
                    true => pump.acceptor.accept(socket, &[], false, hashing).await,
                    false => pump.connector.connect(socket, "localhost", hashing).await,
                };
                let stream = stream.map_err(std::io::Error::other);
                let _ = done.send(stream.as_ref().map(|_| ()).map_err(|e| e.to_string()));
                tokio::io::copy_bidirectional(&mut stream?, &mut plain).await
            };
            // Who uses it sees the end of the connection.
            let _ = outcome.await;
        });
    });
    assert!(
        pump.reactor.send(work).is_ok(),
        "the thread goes on for ever"
    );
    match handshake.recv() {
        Ok(result) => result.map(|()| ours).map_err(std::io::Error::other),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// What is to be done on the pump's thread.
type Work = Box<dyn FnOnce() + Send>;

struct Pump {
    reactor: mpsc::UnboundedSender<Work>,
    connector: Arc<Connector>,
    acceptor: Arc<Acceptor>,
    hashing: Hashing,
}

fn pump() -> &'static Pump {
    static PUMP: OnceLock<Pump> = OnceLock::new();
    PUMP.get_or_init(|| {
        let (reactor, mut work) = mpsc::unbounded_channel::<Work>();
        std::thread::spawn(move || {
            let runtime = reactor::Runtime::new().expect("reactor");
            let pump = async move {
                while let Some(work) = work.recv().await {
                    work();
                }
            };
            runtime.run(pump).expect("events");
        });
        let settings = Settings {
            server_tls_sslmode: SslMode::VerifyFull,
            server_tls_ca_file: Some(Certificates::shared().path("ca.crt").into()),
            client_tls_sslmode: SslMode::Require,
            client_tls_cert_file: Some(Certificates::shared().path("chain.crt").into()),
            client_tls_key_file: Some(Certificates::shared().path("chain.key").into()),
            ..Settings::default()
        };
        let tls = Tls::load(&settings, None, &|path| fs::read(path)).expect("tls");
        Pump {
            reactor,
            connector: tls.servers,
            acceptor: tls.clients.expect("TLS for clients"),
            hashing: Hashing::start(1, 64).expect("threads"),
        }
    })
}
