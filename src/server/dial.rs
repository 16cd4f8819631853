//! Opens sockets to servers, encrypted where `server_tls_sslmode` says so.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use socket2::SockAddr;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::info;

use crate::config::{Host, LocalSockets, TcpConfig};
use crate::net::dns::{Dns, LookupError};
use crate::net::tls::{Connector, HandshakeError};
use crate::net::{PeerAddr, Stream, apply_tcp_options, peer};
use crate::reactor::Socket;
use crate::worker::hashing::Hashing;

/// Length and code (src/include/libpq/pqcomm.h).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Why there is no connection to a server.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("connect failed: {0}")]
    Connect(#[from] io::Error),
    #[error("server DNS lookup failed")]
    Lookup(#[source] LookupError),
    #[error("server refused SSL")]
    NoTls,
    #[error("bad sslreq answer")]
    BadAnswer,
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
}

impl DialError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            DialError::Lookup(_) => Some(
                "The log has the reason. Tried again after dns_nxdomain_ttl and \
                 server_login_retry.",
            ),
            DialError::NoTls => Some("server_tls_sslmode asks for more than the server offers."),
            DialError::Handshake(HandshakeError::Tls(_)) => Some(
                "See server_tls_sslmode and server_tls_ca_file; a certificate needs a \
                 subjectAltName for verify-full.",
            ),
            _ => None,
        }
    }
}

/// Connects to the first address of `host` that answers, each time beginning with
/// the next, and encrypts the connection as `connector` says; Unix sockets never
/// are. Has no time limit. Cancel safe.
pub async fn connect(
    host: &Host,
    tcp: &TcpConfig,
    connector: &Connector,
    (dns, hashing): (&Arc<Dns>, &Hashing),
) -> Result<Stream, DialError> {
    match (connect_plain(host, tcp, dns).await?, host) {
        (Stream::Tcp(socket), Host::Tcp { host, .. }) if connector.asks() => {
            match encrypt(socket, host, connector, hashing).await? {
                Ok(stream) => Ok(stream),
                Err(_) if connector.requires() => Err(DialError::NoTls),
                Err(plain) => {
                    if connector.is_first_without_tls(host) {
                        let addr = plain.peer_addr();
                        info!(%host, %addr, "server has no TLS: connections to it are not \
                            encrypted (server_tls_sslmode)");
                    }
                    Ok(plain)
                }
            }
        }
        (stream, _) => Ok(stream),
    }
}

/// Connects to the preferred Unix socket of a server on this machine.
pub async fn connect_local(socket: &Host) -> io::Result<Stream> {
    let stream = connect_to(socket, &[], &TcpConfig::default()).await?;
    let (Stream::Unix(unix), Host::Unix { dir, .. }) = (&stream, socket) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    // Who listens, not whose file it is: that could be another one by now.
    let user = peer::user(unix)?;
    let own = nix::unistd::geteuid().as_raw();
    let owner = std::fs::metadata(dir).ok().map(|dir| dir.uid());
    match LocalSockets::trusts(user, own, owner) {
        true => Ok(stream),
        false => Err(io::Error::other(format!(
            "user {user} has that socket, who is neither root nor our own user nor the \
             owner of the directory"
        ))),
    }
}

/// Connects as [`connect`] did before, to the very same address, for a connection
/// that has been `encrypted` or not.
pub async fn connect_again(
    (host, peer): (&Host, PeerAddr),
    tcp: &TcpConfig,
    encrypted: Option<&Connector>,
    hashing: &Hashing,
) -> Result<Stream, DialError> {
    let addresses = match peer {
        PeerAddr::Tcp(address, _) => vec![SocketAddr::new(address, 0)],
        PeerAddr::Unix => Vec::new(),
    };
    match (connect_to(host, &addresses, tcp).await?, host, encrypted) {
        (Stream::Tcp(socket), Host::Tcp { host, .. }, Some(connector)) => {
            let encrypted = encrypt(socket, host, connector, hashing).await?;
            encrypted.map_err(|_| DialError::NoTls)
        }
        (stream, ..) => Ok(stream),
    }
}

/// Asks the server for TLS; gives the plain connection back if it has none.
async fn encrypt(
    mut socket: Socket,
    host: &str,
    connector: &Connector,
    hashing: &Hashing,
) -> Result<Result<Stream, Stream>, DialError> {
    socket.write_all(&SSL_REQUEST).await?;
    // Not a byte beyond the answer is taken for plain text: whoever inserts
    // something there inserts it into the handshake (CVE-2021-23222).
    match socket.read_u8().await? {
        b'S' => {
            let stream = connector.connect(socket, host, hashing).await?;
            Ok(Ok(Stream::Tls(Box::new(stream))))
        }
        b'N' => Ok(Err(Stream::Tcp(socket))),
        _ => Err(DialError::BadAnswer),
    }
}

/// The same without encryption.
pub async fn connect_plain(
    host: &Host,
    tcp: &TcpConfig,
    dns: &Arc<Dns>,
) -> Result<Stream, DialError> {
    let addresses = match host {
        Host::Tcp { host, .. } => dns.resolve(host).await.map_err(DialError::Lookup)?,
        Host::Unix { .. } => Vec::new(),
    };
    Ok(connect_to(host, &addresses, tcp).await?)
}

/// To the first of these addresses that answers.
async fn connect_to(host: &Host, addresses: &[SocketAddr], tcp: &TcpConfig) -> io::Result<Stream> {
    match host {
        Host::Tcp { port, .. } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
            for address in addresses {
                let mut address = *address;
                address.set_port(*port);
                match Socket::connect(&address.into()).await {
                    Ok(stream) => {
                        apply_tcp_options(&stream, tcp)?;
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Host::Unix { dir, port } => {
            let path = format!("{dir}/.s.PGSQL.{port}");
            let address = match path.strip_prefix('@') {
                None => SockAddr::unix(path)?,
                // An abstract one, unix(7).
                Some(name) => SockAddr::unix(format!("\0{name}"))?,
            };
            Ok(Stream::Unix(Socket::connect(&address).await?))
        }
    }
}

/// The host as people write it.
pub fn place(host: &Host) -> String {
    match host {
        Host::Tcp { host, port } => format!("{host}:{port}"),
        Host::Unix { dir, port } => format!("{dir}/.s.PGSQL.{port}"),
    }
}
