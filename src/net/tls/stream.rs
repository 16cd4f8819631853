//! A TLS connection as a stream of plaintext.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Encryption;
use super::certificate;
use super::session::Session;
use crate::reactor::Socket;

/// What one write encrypts at most, and one read brings.
const BURST: usize = 64 * 1024;
/// The longest incomplete record that may be carried from one read to the next,
/// or message of the protocol in several records.
const CARRY: usize = 64 * 1024;
/// The least that is read, however little the reader wants.
const LEAST_READ: usize = 20 * 1024;

thread_local! {
    /// Ciphertext is read into the thread's one buffer and decrypted there.
    static INCOMING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Ciphertext is collected here; a stream keeps it only as long as its peer
    /// is slow.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TLS connection over TCP whose handshake is complete.
///
/// A write counts as done when the socket has taken all of it: after Pending the
/// same bytes must be written again, as with `write_all`.
///
/// The end without a farewell (close_notify) is an end like any other, as libpq
/// and PostgreSQL see it: their own protocol says when something is missing.
#[derive(Debug)]
pub struct TlsStream {
    socket: Socket,
    state: State,
}

/// A TLS connection that no reactor knows.
#[derive(Debug)]
pub struct DetachedTls {
    socket: std::net::TcpStream,
    state: State,
}

/// All of it but the socket.
#[derive(Debug)]
struct State {
    session: Session,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Plaintext that the reader had no room for, as far as it was not `taken`.
    plain: Vec<u8>,
    taken: usize,
    /// Ciphertext that the socket has not taken, and how much plaintext is in
    /// it.
    outgoing: Vec<u8>,
    sent: usize,
    accepted: usize,
    /// Nothing more will come.
    ended: bool,
}

impl TlsStream {
    /// `incoming`: ciphertext that has been read too far, `plain`: what there
    /// was in it; `outgoing`: is sent with the first data.
    pub(super) fn new(
        socket: Socket,
        session: Session,
        incoming: Vec<u8>,
        plain: Vec<u8>,
        outgoing: Vec<u8>,
    ) -> TlsStream {
        let ended = session.closed_by_peer;
        let state = State {
            session,
            incoming: fitting(incoming),
            plain,
            taken: 0,
            outgoing,
            sent: 0,
            accepted: 0,
            ended,
        };
        TlsStream { socket, state }
    }

    pub(super) fn session(&self) -> &Session {
        &self.state.session
    }

    /// Takes the connection out of its reactor.
    pub fn detach(self) -> io::Result<DetachedTls> {
        let TlsStream { socket, state } = self;
        let socket = socket.into_file()?.into();
        Ok(DetachedTls { socket, state })
    }

    /// The socket, for its addresses; its bytes are ciphertext.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The subject's common name in the certificate that the other end has shown.
    pub fn peer_common_name(&self) -> Option<String> {
        let shown = self.session().state().peer_certificates()?;
        certificate::common_name(shown.first()?)
    }

    /// The data of `tls-server-end-point`, if the other end is a server.
    pub fn peer_end_point(&self) -> Option<Vec<u8>> {
        let shown = self.session().state().peer_certificates()?;
        certificate::end_point_hash(shown.first()?)
    }

    /// What was agreed on.
    pub fn encryption(&self) -> Option<Encryption> {
        self.state.session.encryption()
    }

    /// Whether plaintext is there to be read.
    pub fn has_plaintext(&self) -> bool {
        !self.state.plain.is_empty()
    }

    /// Tells the other end that nothing more will come, as far as the socket
    /// takes it without waiting.
    pub fn say_goodbye(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // It may be gone already.
        let _ = self.poll_goodbye(&mut cx);
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut self.state;
        let closing = state
            .session
            .close(&mut state.incoming, &mut state.outgoing);
        closing.map_err(broken)?;
        self.poll_send(cx)
    }

    /// Sends what has been encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut self.state;
        while let Some(left) = state.outgoing.get(state.sent..).filter(|l| !l.is_empty()) {
            match ready!(self.socket.poll_write(cx, left))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => state.sent += n,
            }
        }
        let mut done = std::mem::take(&mut state.outgoing);
        state.sent = 0;
        if done.capacity() > 0 {
            done.clear();
            done.shrink_to(2 * BURST);
            SPARE.set(done);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
impl TlsStream {
    /// Bytes of memory that buffers take.
    pub(super) fn buffered(&self) -> usize {
        let state = &self.state;
        state.incoming.capacity() + state.plain.capacity() + state.outgoing.capacity()
    }
}

impl DetachedTls {
    #[cfg(test)]
    pub(super) fn into_socket(self) -> std::net::TcpStream {
        self.socket
    }

    /// Hands the connection to the reactor of this thread.
    pub fn attach(self) -> io::Result<TlsStream> {
        let DetachedTls { socket, state } = self;
        let socket = Socket::new(socket)?;
        Ok(TlsStream { socket, state })
    }
}

impl State {
    /// Decrypts what has come. Plaintext for which there is no room in `buf` is
    /// kept.
    fn receive(&mut self, bytes: &mut [u8], buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let State {
            session,
            plain,
            outgoing,
            ..
        } = self;
        let mut give = |bytes: &[u8]| {
            let fits = match plain.is_empty() {
                true => bytes.len().min(buf.remaining()),
                false => 0,
            };
            let (now, later) = bytes.split_at(fits);
            buf.put_slice(now);
            plain.extend_from_slice(later);
        };
        let result = session.receive(bytes, &mut give, outgoing);
        self.ended |= self.session.closed_by_peer;
        let (done, _) = result.map_err(broken)?;
        self.incoming = fitting(bytes.get(done..).unwrap_or_default().to_vec());
        Ok(())
    }

    /// Gives plaintext that was kept.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let left = self.plain.get(self.taken..).unwrap_or_default();
        let now = left.get(..buf.remaining()).unwrap_or(left);
        buf.put_slice(now);
        self.taken += now.len();
        if self.taken == self.plain.len() {
            self.plain = Vec::new();
            self.taken = 0;
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.state.plain.is_empty() {
                this.state.give(buf);
                return Poll::Ready(Ok(()));
            }
            if this.state.ended || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            let owed = this.state.outgoing.len();
            let read = INCOMING.with_borrow_mut(|buffer| this.poll_receive(cx, buffer, buf));
            let read = ready!(read);
            if this.state.outgoing.len() > owed {
                // An answer that the protocol asks for, or the reason why it ends
                // here. If it has to wait, it goes with the next write.
                let _ = this.poll_send(cx)?;
            }
            read?;
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl TlsStream {
    /// Reads from the socket once.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let carried = self.state.incoming.len();
        if carried > CARRY {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "TLS message is too long",
            )));
        }
        buffer.resize(CARRY + BURST, 0);
        // Plaintext is shorter than ciphertext: what is read fits `buf`, unless
        // that is tiny.
        let want = buf.remaining().saturating_sub(carried);
        let end = carried + want.clamp(LEAST_READ, BURST);
        let (front, free) = buffer.split_at_mut(carried);
        let free = free.get_mut(..end - carried).unwrap_or_default();
        let n = ready!(self.socket.poll_read(cx, free))?;
        if n == 0 {
            self.state.ended = true;
            return Poll::Ready(Ok(()));
        }
        front.copy_from_slice(&self.state.incoming);
        let bytes = buffer.get_mut(..carried + n).unwrap_or_default();
        Poll::Ready(self.state.receive(bytes, buf))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let state = &mut this.state;
        if state.accepted == 0 {
            let burst = bytes.get(..BURST).unwrap_or(bytes);
            if state.outgoing.is_empty() {
                state.outgoing = SPARE.take();
            }
            let State {
                session,
                incoming,
                outgoing,
                ..
            } = state;
            session.send(burst, incoming, outgoing).map_err(broken)?;
            state.accepted = burst.len();
        }
        ready!(this.poll_send(cx))?;
        let accepted = std::mem::take(&mut this.state.accepted);
        Poll::Ready(Ok(accepted.min(bytes.len())))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_goodbye(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// Without memory for nothing.
fn fitting(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.is_empty() {
        true => Vec::new(),
        false => bytes,
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
