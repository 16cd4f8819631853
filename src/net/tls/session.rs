//! The state of a TLS connection without its socket: ciphertext goes in and
//! comes out. Nothing here waits, so that a handshake's costly steps can run
//! on any thread.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

use super::Encryption;

/// A TLS connection's keys, and where it stands.
pub struct Session {
    side: Side,
    /// The other end has said that nothing more will come.
    pub(super) closed_by_peer: bool,
    /// We have said so, or an error has ended it all.
    closed: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What the connection can do after all that came has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake needs more from the other end.
    Handshake,
    Established,
}

/// What we would like to send.
#[derive(Clone, Copy)]
enum Wish<'a> {
    Nothing,
    Data(&'a [u8]),
    Close,
}

enum Next {
    /// There may be more.
    Again,
    PeerClosed,
    Rest(Stage),
}

impl Session {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Session, Error> {
        UnbufferedServerConnection::new(config).map(|side| Session::new(Side::Server(side)))
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Session, Error> {
        UnbufferedClientConnection::new(config, name).map(|side| Session::new(Side::Client(side)))
    }

    fn new(side: Side) -> Session {
        Session {
            side,
            closed_by_peer: false,
            closed: false,
        }
    }

    /// Whether our end began the connection.
    pub(super) fn is_client(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    pub(super) fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(side) => side,
            Side::Client(side) => side,
        }
    }

    /// Deals with `incoming`: plaintext goes to `plain`, what has to be sent to
    /// the other end is appended to `out`, in case of an error also. Returns how
    /// much of `incoming` is done with; the rest, which may have been changed,
    /// has to come again, in front of what follows.
    pub(super) fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(usize, Stage), Error> {
        let mut done = 0;
        loop {
            let rest = incoming.get_mut(done..).unwrap_or_default();
            let (discard, next) = self.step(rest, Wish::Nothing, plain, out);
            done += discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::PeerClosed) => self.closed_by_peer = true,
                Ok(Next::Rest(stage)) => return Ok((done, stage)),
                Err(error) => {
                    self.closed = true;
                    // The alert that tells the other end why.
                    while self.state().wants_write() {
                        let rest = incoming.get_mut(done..).unwrap_or_default();
                        let (discard, _) = self.step(rest, Wish::Nothing, plain, out);
                        done += discard;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Encrypts `plain` behind what is in `out`. `held`: what is left of
    /// [`Session::receive`].
    pub(super) fn send(
        &mut self,
        plain: &[u8],
        held: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        match self.closed {
            true => Err(Error::General("the connection is closed".into())),
            false => self.say(Wish::Data(plain), held, out),
        }
    }

    /// Appends the message that says that nothing more will come, once.
    pub(super) fn close(&mut self, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Error> {
        match std::mem::replace(&mut self.closed, true) {
            true => Ok(()),
            false => self.say(Wish::Close, held, out),
        }
    }

    /// `held` is needed although there is nothing new in it: rustls remembers
    /// places in it.
    fn say(&mut self, wish: Wish<'_>, held: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Error> {
        loop {
            let (discard, next) = self.step(held, wish, &mut |_| (), out);
            held.drain(..discard);
            match next? {
                Next::Again => {}
                Next::PeerClosed => self.closed_by_peer = true,
                Next::Rest(Stage::Established) => return Ok(()),
                Next::Rest(Stage::Handshake) => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        wish: Wish<'_>,
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> (usize, Result<Next, Error>) {
        match &mut self.side {
            Side::Server(side) => handle(side.process_tls_records(incoming), wish, plain, out),
            Side::Client(side) => handle(side.process_tls_records(incoming), wish, plain, out),
        }
    }

    /// What was agreed on; `None` before that.
    pub(super) fn encryption(&self) -> Option<Encryption> {
        Encryption::of(self.state())
    }
}

/// One state of rustls's; it is the same for both sides.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    wish: Wish<'_>,
    plain: &mut dyn FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, Result<Next, Error>) {
    let mut discard = status.discard;
    let next = status.state.and_then(|state| {
        Ok(match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain(record.payload);
                }
                Next::Again
            }
            ConnectionState::EncodeTlsData(mut data) => {
                append(out, LITTLE, |buffer| match data.encode(buffer) {
                    Ok(n) => Ok(n),
                    Err(EncodeError::InsufficientSize(size)) => Err(Short(size)),
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                })?;
                Next::Again
            }
            // It goes out with the next write.
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Next::Again
            }
            ConnectionState::PeerClosed => Next::PeerClosed,
            ConnectionState::BlockedHandshake => Next::Rest(Stage::Handshake),
            ConnectionState::Closed => Next::Rest(Stage::Established),
            ConnectionState::WriteTraffic(mut traffic) => {
                match wish {
                    Wish::Nothing => {}
                    Wish::Data(data) => append(out, encrypted_len(data), |buffer| {
                        traffic.encrypt(data, buffer).map_err(Unwritten::from)
                    })?,
                    Wish::Close => append(out, LITTLE, |buffer| {
                        traffic.queue_close_notify(buffer).map_err(Unwritten::from)
                    })?,
                }
                Next::Rest(Stage::Established)
            }
            // Early data is never offered; nothing else exists yet.
            _ => return Err(Error::General("unexpected state of the connection".into())),
        })
    });
    (discard, next)
}

enum Unwritten {
    Short(InsufficientSizeError),
    Exhausted,
}
use Unwritten::{Exhausted, Short};

impl From<EncryptError> for Unwritten {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Short(size),
            EncryptError::EncryptExhausted => Exhausted,
        }
    }
}

/// Room for a message that is short, usually.
const LITTLE: usize = 128;

/// How long records with `data` are at most.
fn encrypted_len(data: &[u8]) -> usize {
    let records = data.len().div_ceil(MAX_FRAGMENT);
    data.len() + records * RECORD_OVERHEAD
}

/// RFC 8446, section 5.1.
const MAX_FRAGMENT: usize = 1 << 14;
/// Header, explicit nonce or content type, and tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// Appends what `write` puts into a buffer of `room` bytes, or of the size that
/// it asks for.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Unwritten>,
) -> Result<(), Error> {
    let before = out.len();
    loop {
        out.resize(before + room, 0);
        let buffer = out.get_mut(before..).unwrap_or_default();
        match write(buffer) {
            Ok(n) => {
                out.truncate(before + n);
                return Ok(());
            }
            Err(Short(size)) if size.required_size > room => room = size.required_size,
            Err(_) => {
                out.truncate(before);
                return Err(Error::EncryptError);
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}
