//! The handshake: its messages are read and written here, but dealt with on
//! the hashing threads, since a signature and a key exchange take longer than
//! hundreds of queries.

use std::io;

use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::session::{Session, Stage};
use super::{Acceptor, Connector, TlsStream};
use crate::reactor::Socket;
use crate::worker::hashing::{Hashing, HashingError};

/// What one read asks for.
const READ: usize = 4096;
/// Most bytes of a handshake that are held: more than the certificates of any
/// real chain take.
const MAX_HELD: usize = 128 * 1024;
/// RFC 8446, section 5.2: a record's header, and the longest record.
const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = (1 << 14) + 2048;

/// Why there is no TLS connection.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection broke, or was closed in the middle of it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end has been told.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The name of a server's host cannot be one.
    #[error("`{0}` is not a host name")]
    Name(String),
    #[error("application protocol is not postgresql")]
    Protocol,
    #[error(transparent)]
    Failed(#[from] HashingError),
}

impl Acceptor {
    /// Speaks with a client that is about to send its ClientHello, of which
    /// `received` has been read already. A client that begins with TLS at once
    /// (`direct`) must name the protocol (PostgreSQL's manual, "SSL Session
    /// Encryption").
    ///
    /// Has no time limit. Not cancel safe: dropping the future closes the
    /// connection.
    pub async fn accept(
        &self,
        socket: Socket,
        received: &[u8],
        direct: bool,
        hashing: &Hashing,
    ) -> Result<TlsStream, HandshakeError> {
        let session = Session::server(self.config())?;
        let stream = handshake(socket, session, received.to_vec(), hashing).await?;
        match direct && stream.session().state().alpn_protocol().is_none() {
            true => Err(HandshakeError::Protocol),
            false => Ok(stream),
        }
    }
}

impl Connector {
    /// Speaks with the server, which has said that it wants to. `host` is the
    /// name or address that the configuration has.
    ///
    /// Has no time limit. Not cancel safe: dropping the future closes the
    /// connection.
    pub async fn connect(
        &self,
        socket: Socket,
        host: &str,
        hashing: &Hashing,
    ) -> Result<TlsStream, HandshakeError> {
        let name = match ServerName::try_from(host.to_owned()) {
            Ok(name) => name,
            // It goes into the ClientHello only.
            Err(_) if !self.verifies_name() => {
                let address = SockRef::from(&socket).peer_addr()?.as_socket();
                let unknown = || HandshakeError::Name(host.to_owned());
                ServerName::IpAddress(address.ok_or_else(unknown)?.ip().into())
            }
            Err(_) => return Err(HandshakeError::Name(host.to_owned())),
        };
        let session = Session::client(self.config(), name)?;
        handshake(socket, session, Vec::new(), hashing).await
    }
}

async fn handshake(
    mut socket: Socket,
    mut session: Session,
    mut received: Vec<u8>,
    hashing: &Hashing,
) -> Result<TlsStream, HandshakeError> {
    if !session.is_client() {
        read_record(&mut socket, &mut received).await?;
    }
    loop {
        let work = move || {
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let mut keep = |bytes: &[u8]| plain.extend_from_slice(bytes);
            let result = session.receive(&mut received, &mut keep, &mut out);
            if let Ok((done, _)) = result {
                received.drain(..done);
            }
            (session, received, plain, out, result)
        };
        let result;
        let (plain, out);
        (session, received, plain, out, result) = hashing.run(work).await?;
        match result {
            Ok((_, Stage::Handshake)) => {
                socket.write_all(&out).await?;
                if session.closed_by_peer {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                read_record(&mut socket, &mut received).await?;
            }
            Ok((_, Stage::Established)) => {
                // Only a ticket may wait for the first data: who has not seen the
                // other end's Finished waits for it.
                let is_ticket = !session.is_client()
                    && session.state().protocol_version() == Some(ProtocolVersion::TLSv1_3);
                let later = match is_ticket {
                    true => out,
                    false => {
                        socket.write_all(&out).await?;
                        Vec::new()
                    }
                };
                return Ok(TlsStream::new(socket, session, received, plain, later));
            }
            Err(error) => {
                // It is of no use to one who does not read.
                let _ = socket.try_write(&out);
                return Err(error.into());
            }
        }
    }
}

/// Reads more; the whole first record, if nothing is held yet, so that whoever
/// sends byte by byte does not keep a thread busy.
async fn read_record(socket: &mut Socket, received: &mut Vec<u8>) -> io::Result<()> {
    let fresh = received.len() <= RECORD_HEADER;
    loop {
        received.reserve(READ);
        if socket.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if received.len() > MAX_HELD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS handshake is too long",
            ));
        }
        if !fresh || has_record(received) {
            return Ok(());
        }
    }
}

/// Whether there is a whole record, or something that will never be one.
fn has_record(received: &[u8]) -> bool {
    let Some(&[kind, major, _, high, low]) = received.first_chunk::<RECORD_HEADER>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Content types: RFC 8446, appendix B.1.
    let plausible = (20..=24).contains(&kind) && major == 3 && length <= MAX_RECORD;
    !plausible || received.len() >= RECORD_HEADER + length
}
